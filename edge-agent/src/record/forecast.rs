//! How many days of footage this disk will hold. Pure.

use crate::index::SegmentRow;
use campanile_proto::ids::{BootId, CameraId};
use campanile_proto::time::{MICROS_PER_SECOND, MonoTime};
use std::collections::BTreeMap;

const DAY_US: i64 = 86_400 * MICROS_PER_SECOND;
/// Less says nothing of a day.
const SHORTEST_US: i64 = 3_600 * MICROS_PER_SECOND;

/// What one camera takes, and what it may keep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Growth {
    pub bytes_per_day: f64,
    /// Its own bound; none: it shares the room with the others.
    pub max_bytes: Option<u64>,
    /// That were agreed.
    pub days: u32,
}

/// The shortest of what was agreed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    pub days: f64,
    pub agreed: u32,
    /// Of the growths, the one whose own bound it is; none: the room that all of them share.
    pub bound_of: Option<usize>,
}

impl Forecast {
    /// Footage makes place before its time.
    pub fn is_short(&self) -> bool {
        self.days < f64::from(self.agreed)
    }
}

/// Days until the oldest footage makes place for the newest; none: nothing is written, so nothing goes.
fn days_kept(room_bytes: u64, bytes_per_day: f64) -> Option<f64> {
    (bytes_per_day > 0.0).then(|| room_bytes as f64 / bytes_per_day)
}

/// What becomes of footage that is written now; none: nothing is written.
pub fn forecast(room_bytes: u64, growths: &[Growth]) -> Option<Forecast> {
    let longest = growths.iter().map(|growth| growth.days).max()?;
    let written = || growths.iter().enumerate().filter(|(_, growth)| growth.bytes_per_day > 0.0);
    // Beyond this a camera takes no more room: its own bound, or days of its own that are fewer than the others'.
    let bound = |growth: &Growth| growth.max_bytes.and_then(|max| days_kept(max, growth.bytes_per_day));
    let limit = |growth: &Growth| {
        let own_days = if growth.days < longest { f64::from(growth.days) } else { f64::INFINITY };
        bound(growth).unwrap_or(f64::INFINITY).min(own_days)
    };
    let shared = shared_days(room_bytes, written().map(|(_, growth)| (growth.bytes_per_day, limit(growth))).collect());
    let of_camera = |(at, growth): (usize, &Growth)| Forecast {
        days: shared.min(limit(growth)),
        agreed: growth.days,
        bound_of: bound(growth).filter(|bound| *bound < shared).map(|_| at),
    };
    let part = |forecast: &Forecast| forecast.days / f64::from(forecast.agreed.max(1));
    written().map(of_camera).min_by(|one, other| part(one).total_cmp(&part(other)))
}

/// Days after which room is full, of cameras with what they take a day and the days beyond which they take no more.
fn shared_days(room_bytes: u64, mut cameras: Vec<(f64, f64)>) -> f64 {
    cameras.sort_by(|one, other| one.1.total_cmp(&other.1));
    let (mut room, mut bytes_per_day) = (room_bytes as f64, cameras.iter().map(|(rate, _)| rate).sum::<f64>());
    for (rate, limit) in cameras {
        if room <= bytes_per_day * limit {
            return room / bytes_per_day;
        }
        room -= rate * limit;
        bytes_per_day -= rate;
    }
    f64::INFINITY
}

/// What a day takes, by the last day of this boot: its clock counts time whatever the wall clock says. Nothing of a
/// camera within its first hour.
pub fn bytes_per_day<'a>(
    segments: impl Iterator<Item = &'a SegmentRow>,
    boot: BootId,
    now: MonoTime,
) -> BTreeMap<CameraId, f64> {
    let of_boot = segments.filter(|row| row.start.boot_id == boot.as_bytes().as_slice());
    let mut seen: BTreeMap<CameraId, (i64, u64)> = BTreeMap::new();
    for row in of_boot.filter(|row| now.0 - row.start.mono_us <= DAY_US) {
        let (first, bytes) = seen.entry(row.camera).or_insert((i64::MAX, 0));
        (*first, *bytes) = ((*first).min(row.start.mono_us), bytes.saturating_add(row.size_bytes));
    }
    let of_camera = |(camera, (first, bytes)): (CameraId, (i64, u64))| {
        let span_us = now.0.saturating_sub(first);
        (span_us >= SHORTEST_US).then(|| (camera, bytes as f64 * DAY_US as f64 / span_us as f64))
    };
    seen.into_iter().filter_map(of_camera).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use campanile_proto::ids::SegmentId;
    use campanile_proto::time::WallTime;
    use campanile_proto::types::v1::{Instant, Stream};
    use proptest::prelude::*;

    fn growth(bytes_per_day: f64, max_bytes: Option<u64>, days: u32) -> Growth {
        Growth { bytes_per_day, max_bytes, days }
    }

    #[test]
    fn room_is_divided_by_what_a_day_takes() {
        assert_eq!(days_kept(70 << 30, (10u64 << 30) as f64), Some(7.0));
        assert_eq!(days_kept(0, 1.0), Some(0.0));
        assert_eq!(days_kept(1, 0.0), None);
        let shared = forecast(700, &[growth(60.0, None, 7), growth(40.0, None, 7), growth(0.0, None, 7)]);
        assert_eq!(shared, Some(Forecast { days: 7.0, agreed: 7, bound_of: None }));
        assert!(!shared.unwrap().is_short() && forecast(699, &[growth(100.0, None, 7)]).unwrap().is_short());
        assert_eq!((forecast(1, &[]), forecast(1, &[growth(0.0, None, 7)])), (None, None));
    }

    #[test]
    fn a_camera_with_a_bound_of_its_own_leaves_room_to_the_others_and_is_named_when_it_is_short() {
        let short = forecast(1_000, &[growth(50.0, None, 7), growth(500.0, Some(500), 7)]).unwrap();
        assert_eq!((short.days, short.bound_of, short.is_short()), (1.0, Some(1), true));
        let others = forecast(850, &[growth(50.0, None, 7), growth(500.0, Some(500), 1)]).unwrap();
        assert_eq!((others.days, others.agreed, others.is_short()), (7.0, 7, false));
        let crowded = forecast(800, &[growth(50.0, None, 7), growth(500.0, Some(500), 1)]).unwrap();
        assert_eq!((crowded.days, crowded.bound_of, crowded.is_short()), (6.0, None, true));
        let endless = forecast(u64::MAX, &[growth(50.0, Some(5_000), 7)]).unwrap();
        assert_eq!((endless.days, endless.is_short()), (100.0, false));
    }

    proptest! {
        #[test]
        fn what_is_foreseen_fits_into_the_room(
            room in 0u64..100_000,
            growths in proptest::collection::vec((1.0..500.0f64, proptest::option::of(0u64..5_000), 1u32..8), 1..12),
        ) {
            let growths: Vec<_> = growths.into_iter().map(|(rate, max, days)| growth(rate, max, days)).collect();
            let foreseen = forecast(room, &growths).unwrap();
            let longest = growths.iter().map(|growth| growth.days).max().unwrap();
            let taken = |days: f64| -> f64 {
                let of = |growth: &Growth| {
                    let own = if growth.days < longest { f64::from(growth.days) } else { f64::INFINITY };
                    (growth.bytes_per_day * days.min(own)).min(growth.max_bytes.map_or(f64::INFINITY, |max| max as f64))
                };
                growths.iter().map(of).sum()
            };
            // Whether it is short of what was agreed is whether what was agreed does not fit.
            let fits = taken(f64::from(longest)) <= room as f64 * (1.0 + 1e-9)
                && growths.iter().all(|growth| {
                    let agreed = growth.bytes_per_day * f64::from(growth.days);
                    growth.max_bytes.is_none_or(|max| max as f64 >= agreed * (1.0 - 1e-9))
                });
            if !foreseen.is_short() {
                prop_assert!(fits, "{foreseen:?}");
            }
        }
    }

    fn row(boot: BootId, start_hour: i64, size_bytes: u64) -> SegmentRow {
        let start = Instant { boot_id: boot.into(), mono_us: start_hour * SHORTEST_US, ..Instant::default() };
        SegmentRow {
            id: SegmentId::random(),
            camera: CameraId::from_u128(1),
            stream: Stream::Main,
            path: "s".into(),
            header: Bytes::new(),
            wrapped_key: Bytes::new(),
            captured: WallTime(0),
            end: start.clone(),
            start,
            fragments: 1,
            size_bytes,
            link: Bytes::new(),
            closed: true,
            deleted_by: None,
            offered: 0,
            settled: false,
            signed: None,
            suspect: None,
        }
    }

    #[test]
    fn a_day_is_reckoned_from_the_last_one_of_this_boot() {
        let (boot, other) = (BootId::random(), BootId::random());
        let rows = [row(boot, 40, 100), row(boot, 46, 100), row(boot, 1, 1 << 40), row(other, 47, 1 << 40)];
        let at = |rows: &[SegmentRow], us: i64| -> Vec<f64> {
            bytes_per_day(rows.iter(), boot, MonoTime(us)).into_values().collect()
        };
        assert_eq!(at(&rows, 48 * SHORTEST_US), [600.0], "200 bytes in eight hours");
        assert!(at(&rows[..1], 41 * SHORTEST_US - 1).is_empty() && at(&[], 41 * SHORTEST_US).is_empty());
        let another = SegmentRow { camera: CameraId::from_u128(2), ..row(boot, 47, 10) };
        assert_eq!(at(&[rows[0].clone(), another], 48 * SHORTEST_US), [300.0, 240.0]);
    }
}
