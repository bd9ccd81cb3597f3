//! The ring in memory: which keys are made, retired, destroyed, and what of it is not on the disk yet.

use super::ring::{Ring, RingError, RingFolder};
use campanile_proto::ids::{EdgeId, HoldId};
use campanile_proto::segment::key_pair;
use campanile_proto::time::{MAX_RETENTION_HOURS, MICROS_PER_HOUR, MonoTime, WallTime, kept_until};
use std::collections::{BTreeMap, BTreeSet};

/// Hour keys are made this far ahead: a box that hears nothing for so long seals to its reserve key.
pub(super) const HOURS_AHEAD: i64 = 35 * 24;
/// Made ahead again once a day's worth is used up, so that a box gets one message a day.
const HOURS_BATCH: i64 = 24;
/// What a box with a clock slightly behind may still seal to.
pub(super) const HOURS_BEHIND: i64 = 1;
/// From the box's confirming a newer reserve key until the older one is destroyed.
const RETIRED_US: i64 = MAX_RETENTION_HOURS * MICROS_PER_HOUR;

/// What a round of [`RingKeeper::maintain`] did. What was destroyed is told once it is destroyed on the disk too.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Maintained {
    /// Hours whose keys were destroyed.
    pub destroyed: Vec<i64>,
    /// Boxes of which a reserve key was destroyed.
    pub reserves_destroyed: Vec<EdgeId>,
    /// Holds whose end has come and whose keys were destroyed.
    pub holds_destroyed: Vec<HoldId>,
    /// New keys are there to be delivered.
    pub extended: bool,
    /// The wall clock is not believed: nothing was destroyed, somebody must look.
    pub clock_doubted: bool,
}

/// The ring in memory and its folder.
pub(super) struct Kept {
    pub folder: RingFolder,
    pub ring: Ring,
    /// The folder does not hold what the memory does: a writing failed, and is tried again.
    pub unwritten: bool,
    /// The newest generation each box is known to seal to.
    pub confirmed: BTreeMap<EdgeId, u32>,
    /// Boxes that seal nothing any more.
    pub revoked: BTreeSet<EdgeId>,
    /// When a box last lifted the ring's generation.
    pub lifted: BTreeMap<EdgeId, MonoTime>,
    /// Done in memory, to be told once it is written.
    pub done: Maintained,
}

impl Kept {
    pub fn write(&mut self) -> Result<(), RingError> {
        self.unwritten = true;
        self.folder.write(&self.ring)?;
        self.unwritten = false;
        Ok(())
    }

    pub fn confirm(&mut self, edge: EdgeId, generation: u32) {
        let known = self.confirmed.entry(edge).or_default();
        *known = generation.max(*known);
    }

    /// Takes out what is past its term.
    pub fn destroy(&mut self, now: WallTime) {
        let over = self.ring.hours.keys().copied().filter(|&(hour, days)| over(hour, u32::from(days), now));
        for class in over.collect::<Vec<_>>() {
            self.ring.hours.remove(&class);
            self.done.destroyed.push(class.0);
            self.unwritten = true;
        }
        let ended = self.ring.holds.iter().filter(|(_, key)| key.until <= now).map(|(hold, _)| *hold);
        for hold in ended.collect::<Vec<_>>() {
            self.ring.holds.remove(&hold);
            self.done.holds_destroyed.push(hold);
            self.unwritten = true;
        }
        for (edge, reserves) in &mut self.ring.reserves {
            let before = reserves.len();
            reserves.retain(|reserve| reserve.retired.is_none_or(|at| now - at < RETIRED_US));
            if reserves.len() < before {
                self.done.reserves_destroyed.push(*edge);
                self.unwritten = true;
            }
        }
    }

    /// From now on the boxes are known to seal to newer reserve keys than these.
    pub fn retire(&mut self, now: WallTime) {
        for (edge, confirmed) in std::mem::take(&mut self.confirmed) {
            let Some(reserves) = self.ring.reserves.get_mut(&edge) else { continue };
            let newest = reserves.iter().rposition(|reserve| reserve.made <= confirmed).unwrap_or(0);
            for reserve in reserves.iter_mut().take(newest).filter(|reserve| reserve.retired.is_none()) {
                reserve.retired = Some(now);
                self.unwritten = true;
            }
        }
        for edge in &self.revoked {
            let reserves = self.ring.reserves.get_mut(edge).into_iter().flatten();
            for reserve in reserves.filter(|reserve| reserve.retired.is_none()) {
                reserve.retired = Some(now);
                self.unwritten = true;
            }
        }
    }

    /// Makes hour keys ahead, and a new generation, once a batch of them is used up.
    pub fn extend(&mut self, now_hour: i64, days: u8) {
        let wanted = now_hour - HOURS_BEHIND..=now_hour + HOURS_AHEAD;
        let ring = &mut self.ring;
        let lasts = ring.hours.contains_key(&(now_hour, days))
            && ring.hours.contains_key(&(now_hour + HOURS_AHEAD - HOURS_BATCH, days));
        if lasts {
            return;
        }
        for hour in wanted {
            ring.hours.entry((hour, days)).or_insert_with(key_pair);
        }
        ring.generation += 1;
        self.done.extended = true;
        self.unwritten = true;
    }
}

/// Whether what was captured in this hour is past its term.
pub(super) fn over(hour: i64, days: u32, now: WallTime) -> bool {
    kept_until(WallTime::from_hour(hour), days) <= now
}
