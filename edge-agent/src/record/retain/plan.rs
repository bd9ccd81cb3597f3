//! Which segments go, and by which rule. Pure.

use campanile_proto::ids::{CameraId, SegmentId};
use campanile_proto::time::{WallTime, kept_until};
use std::collections::{HashMap, HashSet};

/// One segment that could be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub id: SegmentId,
    pub camera: CameraId,
    /// Latest UTC its first byte can be of; none: nobody can tell.
    pub captured: Option<WallTime>,
    /// Its place when space is needed, oldest first.
    pub place: Place,
    /// Retention class, whole days, fixed at capture.
    pub days: u32,
    pub size_bytes: u64,
}

/// Order of capture as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// As believed, in a boot that is over and whose clock nobody vouched for.
    Unknown(WallTime),
    Known(WallTime),
    /// Microseconds of this boot, whose clock nobody vouches for: newer than everything else.
    Now(i64),
}

/// Why a segment goes; its text is what the hub is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Its hour and retention are over: its key is destroyed by now.
    Age,
    /// The oldest footage makes place for the newest.
    Space,
    /// The same within one camera, beyond what it may keep.
    CameraSpace,
}

impl Rule {
    const EVERY: [Self; 3] = [Self::Age, Self::Space, Self::CameraSpace];

    pub fn id(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Space => "space",
            Self::CameraSpace => "camera space",
        }
    }

    /// Whether this text is a rule by which this box deletes.
    pub fn is_own(id: &str) -> bool {
        Self::EVERY.iter().any(|rule| rule.id() == id)
    }
}

/// What may be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Whole days.
    pub days: u32,
    /// Everything together; none: no bound.
    pub max_bytes: Option<u64>,
    /// Of cameras that may keep less.
    pub cameras: HashMap<CameraId, CameraRule>,
}

/// What one camera may keep; none: what the box may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CameraRule {
    pub days: Option<u32>,
    /// All its streams together.
    pub max_bytes: Option<u64>,
}

impl Rules {
    /// As they hold today: the hub's wish of days shortens what is configured (0: none), and no disk keeps more than
    /// it has room for.
    pub fn within(&self, wished_days: u32, room_bytes: u64) -> Self {
        let days = if wished_days > 0 { self.days.min(wished_days) } else { self.days };
        let max_bytes = Some(self.max_bytes.map_or(room_bytes, |max| max.min(room_bytes)));
        Self { days, max_bytes, cameras: self.cameras.clone() }
    }

    pub fn days_of(&self, camera: CameraId) -> u32 {
        let own = self.cameras.get(&camera).and_then(|rule| rule.days);
        own.map_or(self.days, |own| own.min(self.days))
    }
}

/// Chooses what goes: a shorter rule acts at once, a longer one never backwards. `now` is none when the time is not
/// proven. What is `pinned` stays, whatever the rules say, and takes its place of the bytes.
pub fn plan(
    kept: &[Kept],
    now: Option<WallTime>,
    rules: &Rules,
    pinned: &HashSet<SegmentId>,
) -> Vec<(SegmentId, Rule)> {
    let mut oldest_first: Vec<&Kept> = kept.iter().collect();
    oldest_first.sort_by_key(|segment| (segment.place, segment.id));
    let is_over = |segment: &Kept| match (now, segment.captured) {
        (Some(now), Some(captured)) => kept_until(captured, segment.days.min(rules.days_of(segment.camera))) <= now,
        _ => false,
    };
    let may_go = |segment: &Kept| !pinned.contains(&segment.id);
    let (over, mut left): (Vec<_>, Vec<_>) =
        oldest_first.into_iter().partition(|segment| may_go(segment) && is_over(segment));
    let mut gone: Vec<_> = over.into_iter().map(|segment| (segment.id, Rule::Age)).collect();
    let mut shrink = |max_bytes: u64, rule: Rule, within: &dyn Fn(&Kept) -> bool| {
        let mut total: u64 = left.iter().filter(|segment| within(segment)).map(|segment| segment.size_bytes).sum();
        left.retain(|segment| {
            let goes = total > max_bytes && within(segment) && may_go(segment);
            if goes {
                total -= segment.size_bytes;
                gone.push((segment.id, rule));
            }
            !goes
        });
    };
    for (camera, rule) in &rules.cameras {
        if let Some(max_bytes) = rule.max_bytes {
            shrink(max_bytes, Rule::CameraSpace, &|segment| segment.camera == *camera);
        }
    }
    if let Some(max_bytes) = rules.max_bytes {
        shrink(max_bytes, Rule::Space, &|_| true);
    }
    gone
}
