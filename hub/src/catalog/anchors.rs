//! Present UTC: a box's monotonic reading through the best anchor of its boot.

use campanile_proto::ids::{BootId, EdgeId};
use campanile_proto::time::WallTime;
use campanile_proto::types::v1::{Anchor, Instant};
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// Anchors kept of one boot; a year of one every ten minutes would not fit, the best ones do.
const MAX_PER_BOOT: usize = 1024;
/// Boots kept of one box: one that restarts each half hour for a week.
const MAX_BOOTS: usize = 336;

type Boots = HashMap<BootId, Vec<Anchor>>;

/// Every anchor reported within the term, by box and boot: no box speaks for another's clock.
#[derive(Default)]
pub struct Anchors(RwLock<HashMap<EdgeId, Boots>>);

impl Anchors {
    pub fn add(&self, edge: EdgeId, anchor: &Anchor) {
        let Ok(boot) = BootId::try_from(&anchor.boot_id) else { return };
        let mut edges = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let boots = edges.entry(edge).or_default();
        let anchors = boots.entry(boot).or_default();
        if anchors.contains(anchor) {
            return;
        }
        anchors.push(anchor.clone());
        if anchors.len() > MAX_PER_BOOT {
            let worst = anchors.iter().enumerate().max_by_key(|(_, a)| a.uncertainty_us).map(|(at, _)| at);
            worst.map(|at| anchors.swap_remove(at));
        }
        if boots.len() > MAX_BOOTS {
            let newest = |anchors: &Vec<Anchor>| anchors.iter().map(|anchor| anchor.utc_us).max();
            let oldest = boots.iter().min_by_key(|(_, anchors)| newest(anchors)).map(|(boot, _)| *boot);
            oldest.map(|boot| boots.remove(&boot));
        }
    }

    /// Forgets what is older, and boots nothing is left of.
    pub fn forget_before(&self, before: WallTime) {
        let mut edges = self.0.write().unwrap_or_else(PoisonError::into_inner);
        edges.retain(|_, boots| {
            boots.retain(|_, anchors| {
                anchors.retain(|anchor| anchor.utc_us >= before.0);
                !anchors.is_empty()
            });
            !boots.is_empty()
        });
    }

    /// UTC of `instant` of `edge` and its uncertainty: through the anchor that is surest, the nearest of equals;
    /// as believed then when no anchor is surer.
    pub fn present(&self, edge: EdgeId, instant: &Instant) -> (WallTime, u64) {
        let believed = (WallTime(instant.utc_us), instant.uncertainty_us);
        let Ok(boot) = BootId::try_from(&instant.boot_id) else { return believed };
        let edges = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let best = edges
            .get(&edge)
            .and_then(|boots| boots.get(&boot))
            .into_iter()
            .flatten()
            .min_by_key(|a| (a.uncertainty_us, a.mono_us.abs_diff(instant.mono_us)));
        match best {
            Some(anchor) if anchor.uncertainty_us < instant.uncertainty_us => {
                let since = instant.mono_us.saturating_sub(anchor.mono_us);
                (WallTime(anchor.utc_us.saturating_add(since)), anchor.uncertainty_us)
            }
            _ => believed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGE: EdgeId = EdgeId::from_u128(1);

    fn anchor(boot: BootId, utc_us: i64) -> Anchor {
        Anchor { boot_id: boot.into(), mono_us: 9_000_000, utc_us, uncertainty_us: 50, source: 3 }
    }

    fn unsure(boot: BootId) -> Instant {
        Instant { boot_id: boot.into(), mono_us: 5_000_000, utc_us: 7, uncertainty_us: u64::MAX }
    }

    #[test]
    fn a_better_anchor_moves_what_was_believed() {
        let (anchors, boot) = (Anchors::default(), BootId::random());
        let instant = unsure(boot);
        assert_eq!(anchors.present(EDGE, &instant), (WallTime(7), u64::MAX));
        anchors.add(EDGE, &anchor(boot, 1_000_000_000));
        assert_eq!(anchors.present(EDGE, &instant), (WallTime(996_000_000), 50));
        let surer = Instant { uncertainty_us: 10, ..instant };
        assert_eq!(anchors.present(EDGE, &surer), (WallTime(7), 10));
    }

    #[test]
    fn no_box_moves_the_time_of_another() {
        let (anchors, boot) = (Anchors::default(), BootId::random());
        anchors.add(EdgeId::from_u128(2), &anchor(boot, 1_000_000_000));
        assert_eq!(anchors.present(EDGE, &unsure(boot)), (WallTime(7), u64::MAX));
    }

    #[test]
    fn boots_end_with_their_term_and_no_box_fills_the_memory_with_them() {
        let anchors = Anchors::default();
        for n in 0..2 * MAX_BOOTS as u128 {
            anchors.add(EDGE, &anchor(BootId::from_u128(n), n as i64));
        }
        let kept = || anchors.0.read().unwrap().get(&EDGE).map_or(0, HashMap::len);
        assert_eq!(kept(), MAX_BOOTS);
        anchors.forget_before(WallTime(2 * MAX_BOOTS as i64 - 1));
        assert_eq!(kept(), 1);
        anchors.forget_before(WallTime(i64::MAX));
        assert_eq!(kept(), 0);
    }
}
