//! How many deliveries run at once, and whose turn is next: live before playback before hold before backfill.

use campanile_proto::edge::v1::FetchClass;
use std::collections::BTreeMap;

/// Deliveries at once: two tiles of four cameras; more only share the same uplink.
const MAX_RUNNING: usize = 8;
/// Of these, a place is kept for somebody who watches now.
const MAX_RUNNING_BULK: usize = 6;
/// Asked for and not begun; more are refused.
const MAX_WAITING: usize = 64;

/// Places for deliveries of any payload `T`.
#[derive(Debug)]
pub struct Slots<T> {
    running: usize,
    /// By class, highest last; first come, first served within one.
    waiting: BTreeMap<(i32, std::cmp::Reverse<u64>), T>,
    asked: u64,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { running: 0, waiting: BTreeMap::new(), asked: 0 }
    }
}

impl<T> Slots<T> {
    /// Queues a delivery; gives it back when too many wait.
    pub fn ask(&mut self, class: FetchClass, what: T) -> Result<(), T> {
        if self.waiting.len() >= MAX_WAITING {
            return Err(what);
        }
        self.asked += 1;
        self.waiting.insert((class as i32, std::cmp::Reverse(self.asked)), what);
        Ok(())
    }

    /// The next delivery to begin, if a place is free for it.
    pub fn begin(&mut self) -> Option<T> {
        let (&(class, _), _) = self.waiting.last_key_value()?;
        let places = if class >= FetchClass::Playback as i32 { MAX_RUNNING } else { MAX_RUNNING_BULK };
        if self.running >= places {
            return None;
        }
        self.running += 1;
        self.waiting.pop_last().map(|(_, what)| what)
    }

    pub fn ended(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    /// Forgets those that wait and match.
    pub fn cancel(&mut self, matches: impl Fn(&T) -> bool) {
        self.waiting.retain(|_, what| !matches(what));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_watches_now_goes_first_and_bulk_leaves_a_place() {
        let mut slots = Slots::default();
        for n in 0..10 {
            slots.ask(FetchClass::Backfill, format!("backfill {n}")).unwrap();
        }
        let begun: Vec<_> = std::iter::from_fn(|| slots.begin()).collect();
        assert_eq!((begun.len(), begun[0].as_str()), (MAX_RUNNING_BULK, "backfill 0"));
        slots.ask(FetchClass::Playback, "playback".into()).unwrap();
        slots.ask(FetchClass::Live, "live".into()).unwrap();
        assert_eq!((slots.begin(), slots.begin()), (Some("live".into()), Some("playback".into())));
        assert_eq!(slots.begin(), None);
        slots.cancel(|what| what == "backfill 6");
        (0..4).for_each(|_| slots.ended());
        assert_eq!(slots.begin(), Some("backfill 7".into()));
    }

    #[test]
    fn refuses_an_endless_queue() {
        let mut slots = Slots::default();
        let refused = (0..100).filter(|n| slots.ask(FetchClass::Hold, *n).is_err()).count();
        assert_eq!(refused, 100 - MAX_WAITING);
    }
}
