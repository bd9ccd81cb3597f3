//! Present UTC: a box's monotonic reading through the best anchor of its boot.

use campanile_proto::ids::BootId;
use campanile_proto::time::WallTime;
use campanile_proto::types::v1::{Anchor, Instant};
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// Anchors kept of one boot; a year of one every ten minutes would not fit, the best ones do.
const MAX_PER_BOOT: usize = 1024;

/// Every anchor reported, by boot.
#[derive(Default)]
pub struct Anchors(RwLock<HashMap<BootId, Vec<Anchor>>>);

impl Anchors {
    pub fn add(&self, anchor: &Anchor) {
        let Ok(boot) = BootId::try_from(&anchor.boot_id) else { return };
        let mut boots = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let anchors = boots.entry(boot).or_default();
        if anchors.contains(anchor) {
            return;
        }
        anchors.push(anchor.clone());
        if anchors.len() > MAX_PER_BOOT {
            let worst = anchors.iter().enumerate().max_by_key(|(_, a)| a.uncertainty_us).map(|(at, _)| at);
            worst.map(|at| anchors.swap_remove(at));
        }
    }

    /// UTC of `instant` and its uncertainty: through the anchor that is surest, the nearest of equals; as
    /// believed then when no anchor is surer.
    pub fn present(&self, instant: &Instant) -> (WallTime, u64) {
        let believed = (WallTime(instant.utc_us), instant.uncertainty_us);
        let Ok(boot) = BootId::try_from(&instant.boot_id) else { return believed };
        let boots = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let best = boots
            .get(&boot)
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

    #[test]
    fn a_better_anchor_moves_what_was_believed() {
        let (anchors, boot) = (Anchors::default(), BootId::random());
        let instant = Instant { boot_id: boot.into(), mono_us: 5_000_000, utc_us: 7, uncertainty_us: u64::MAX };
        assert_eq!(anchors.present(&instant), (WallTime(7), u64::MAX));
        let anchor =
            Anchor { boot_id: boot.into(), mono_us: 9_000_000, utc_us: 1_000_000_000, uncertainty_us: 50, source: 3 };
        anchors.add(&anchor);
        assert_eq!(anchors.present(&instant), (WallTime(996_000_000), 50));
        let surer = Instant { uncertainty_us: 10, ..instant };
        assert_eq!(anchors.present(&surer), (WallTime(7), 10));
    }
}
