//! What holds keep at this box until the hub has it. Pure.
//!
//! A pinned segment is deleted for no reason, neither age nor space, before the hold's end, and that end only counts
//! when the time is proven. The hub takes a pin back once it has the copy: then the ordinary rules hold again.

use crate::clock::Anchors;
use campanile_proto::edge::v1 as wire;
use campanile_proto::ids::{CameraId, HoldId};
use campanile_proto::segment::MAX_SEGMENT_SECONDS;
use campanile_proto::time::{MICROS_PER_SECOND, WallTime};
use campanile_proto::types::v1::{Instant, Stream};
use serde::{Deserialize, Serialize};

/// Of all holds together; each names one camera.
const MAX_PINS: usize = 10_000;

/// An interval of one camera, half-open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    pub hold: HoldId,
    pub camera: CameraId,
    pub from: WallTime,
    pub to: WallTime,
    pub until: WallTime,
}

/// The hub's pins, and how many of them are none.
pub fn read(pins: &[wire::Pin]) -> (Vec<Pin>, usize) {
    let one = |pin: &wire::Pin| {
        let (from, to, until) = (WallTime(pin.from_us), WallTime(pin.to_us), WallTime(pin.until_us));
        let hold = HoldId::try_from(&pin.hold_id).ok()?;
        let camera = CameraId::try_from(&pin.camera_id).ok()?;
        (from < to).then_some(Pin { hold, camera, from, to, until })
    };
    let read: Vec<Pin> = pins.iter().take(MAX_PINS).filter_map(one).collect();
    let unread = pins.len() - read.len();
    (read, unread)
}

/// Where a segment lies, by its instants.
#[derive(Debug, Clone, Copy)]
pub struct Lying<'a> {
    pub camera: CameraId,
    pub stream: Stream,
    pub start: &'a Instant,
    /// None: nobody can tell; a segment has its longest.
    pub end: Option<&'a Instant>,
}

/// Whether a pin covers this segment, or may, as far as its time is known.
pub fn covers(pins: &[Pin], lying: Lying<'_>, anchors: &Anchors, now: Option<WallTime>) -> bool {
    let Lying { camera, stream, start, end } = lying;
    let mut its = pins.iter().filter(|pin| pin.camera == camera && now.is_none_or(|now| now < pin.until)).peekable();
    if its.peek().is_none() || !matches!(stream, Stream::Main | Stream::Sub) {
        return false;
    }
    let slack = |uncertainty_us: u64| i64::try_from(uncertainty_us).unwrap_or(i64::MAX);
    let (begun, uncertainty_us) = anchors.present(start);
    let earliest = begun.plus_micros(-slack(uncertainty_us));
    let (ended, uncertainty_us) = match end {
        Some(end) => anchors.present(end),
        None => (begun.plus_micros(MAX_SEGMENT_SECONDS * MICROS_PER_SECOND), uncertainty_us),
    };
    let latest = ended.plus_micros(slack(uncertainty_us));
    its.any(|pin| earliest < pin.to && latest >= pin.from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_proto::edge::v1::Pin as OnTheWire;

    #[test]
    fn a_pin_that_says_nothing_is_counted_and_the_others_hold() {
        let good = OnTheWire {
            hold_id: HoldId::from_u128(1).into(),
            camera_id: CameraId::from_u128(2).into(),
            from_us: 5,
            to_us: 9,
            until_us: 100,
        };
        let bad = [OnTheWire { to_us: 5, ..good.clone() }, OnTheWire { camera_id: vec![1].into(), ..good.clone() }];
        let (pins, unread) = read(&[&bad[..], &[good]].concat());
        let expected = Pin {
            hold: HoldId::from_u128(1),
            camera: CameraId::from_u128(2),
            from: WallTime(5),
            to: WallTime(9),
            until: WallTime(100),
        };
        assert_eq!((pins, unread), (vec![expected], 2));
    }
}
