//! Units become fragments: closed before a key frame or after a second, whichever comes first. Pure.
//!
//! RTP gives presentation times only. Samples lie in decode order; the decode times of a fragment are its
//! presentation times in ascending order, and composition offsets say the rest (ISO/IEC 14496-12 clause
//! 8.8.8.2, version 1). A fragment ends where everything before is also shown before.

use crate::media::AccessUnit;
use campanile_proto::segment::MAX_FRAGMENT_90K;
use campanile_proto::types::v1::Instant;

/// Where reordering forbids a clean end, a fragment ends after this all the same.
const FORCED_90K: i64 = 2 * MAX_FRAGMENT_90K as i64;
/// Samples of one fragment: a second of 240 pictures, with room.
const MAX_SAMPLES: usize = 1_000;
/// Below the record's limit of 32 MiB, with room for boxes.
const MAX_BYTES: usize = 24 << 20;
/// Duration of a lone picture: 25 a second.
const LONE_90K: i64 = 3_600;
/// Nothing followed for this long, and a picture was due.
const STALL_US: i64 = 500_000;
/// The same where nobody knows when one is due: a slow camera, or one whose pictures come out of order.
const LONGEST_STALL_US: i64 = 1_500_000;
/// What waits so long is written at the first pause: with what the disk takes then, two seconds are not over.
const OLD_US: i64 = 1_500_000;
/// A last picture is not held longer than this on the time line when nothing follows.
const MAX_LAST_90K: i64 = 90_000;

/// One picture of a fragment.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub data: bytes::Bytes,
    pub duration_90k: u32,
    /// Presentation minus decode time.
    pub offset_90k: i32,
    pub key: bool,
}

/// What becomes one moof and mdat.
#[derive(Debug, Clone, PartialEq)]
pub struct Fragment {
    /// Decode time of the first sample since the run's start.
    pub decode_time_90k: u64,
    pub duration_90k: u64,
    pub samples: Vec<Sample>,
    pub arrival: Instant,
    /// Of the last unit.
    pub last_arrival: Instant,
    pub rtp_time: u32,
    pub camera_ntp_us: i64,
}

impl Fragment {
    pub fn starts_with_key(&self) -> bool {
        self.samples.first().is_some_and(|sample| sample.key)
    }
}

/// Collects one run.
#[derive(Debug, Default)]
pub struct Fragmenter {
    waiting: Vec<AccessUnit>,
    bytes: usize,
    /// Presentation time that is 0 of the run.
    zero: Option<i64>,
    /// Latest presentation time so far in the run.
    latest: i64,
    /// Decode time where the next fragment may begin at the earliest.
    next_decode: i64,
    /// The usual step between pictures.
    step: i64,
    /// Between the last two units; none before the second.
    interval_us: Option<i64>,
    /// Arrival of the last unit.
    newest_us: Option<i64>,
    /// Pictures of an earlier fragment came out of order.
    reorders: bool,
}

impl Fragmenter {
    /// Takes the next unit; gives the fragment that ends before it.
    pub fn push(&mut self, mut unit: AccessUnit) -> Option<Fragment> {
        let zero = *self.zero.get_or_insert(unit.pts_90k);
        unit.pts_90k -= zero;
        let closed = if self.ends_before(&unit) { self.close(Some(unit.pts_90k)) } else { None };
        self.latest = if self.waiting.is_empty() && closed.is_none() && self.next_decode == 0 {
            unit.pts_90k
        } else {
            self.latest.max(unit.pts_90k)
        };
        self.bytes += unit.data.len();
        self.interval_us = self.newest_us.map(|newest| unit.arrival.mono_us - newest);
        self.newest_us = Some(unit.arrival.mono_us);
        self.waiting.push(unit);
        closed
    }

    /// Nothing more comes, or nothing came for long.
    pub fn flush(&mut self) -> Option<Fragment> {
        self.close(None)
    }

    /// Whether what waits is to be written without what would end it: the stream pauses, and a power cut would take
    /// it.
    pub fn is_stalled(&self, now_us: i64) -> bool {
        let (Some(first), Some(newest_us)) = (self.waiting.first(), self.newest_us) else { return false };
        let silent_us = now_us - newest_us;
        let due_us = self.interval_us.map_or(LONGEST_STALL_US, |interval| interval.saturating_mul(2));
        if self.reorders {
            return silent_us >= LONGEST_STALL_US;
        }
        let is_old = now_us - first.arrival.mono_us >= OLD_US;
        silent_us >= due_us.clamp(STALL_US, LONGEST_STALL_US) || is_old && silent_us >= STALL_US
    }

    fn ends_before(&self, unit: &AccessUnit) -> bool {
        let Some(first) = self.waiting.iter().map(|u| u.pts_90k).min() else { return false };
        if self.waiting.len() >= MAX_SAMPLES || self.bytes + unit.data.len() > MAX_BYTES {
            return true;
        }
        let clean = unit.pts_90k > self.latest;
        let length = unit.pts_90k - first;
        let step =
            if self.step > 0 { self.step } else { (self.latest - first) / (self.waiting.len() as i64 - 1).max(1) };
        clean && (unit.key || length + step > MAX_FRAGMENT_90K as i64) || length >= FORCED_90K
    }

    fn close(&mut self, following: Option<i64>) -> Option<Fragment> {
        let units = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        let (first, last) = (units.first()?, units.last()?);
        let mut decode: Vec<i64> = units.iter().map(|unit| unit.pts_90k).collect();
        let reordered = !decode.is_sorted();
        self.reorders |= reordered;
        decode.sort_unstable();
        let mut earliest = self.next_decode;
        for time in &mut decode {
            *time = (*time).max(earliest);
            earliest = *time + 1;
        }
        let (start, end) = (decode[0], decode[decode.len() - 1]);
        if decode.len() > 1 {
            self.step = (end - start) / (decode.len() as i64 - 1);
        }
        let usual = if self.step > 0 { self.step } else { LONE_90K };
        // A reordered stream's next unit is shown later than the one that is decoded next is due.
        let last_step = match following {
            Some(next) if !reordered && next > end => (next - end).min(MAX_LAST_90K),
            _ => usual,
        };
        self.next_decode = end + last_step;
        let ends = decode[1..].iter().copied().chain([self.next_decode]);
        let fragment = Fragment {
            decode_time_90k: start as u64,
            duration_90k: (self.next_decode - start) as u64,
            arrival: first.arrival.clone(),
            last_arrival: last.arrival.clone(),
            rtp_time: first.rtp_time,
            camera_ntp_us: first.camera_ntp_us,
            samples: units
                .iter()
                .zip(decode.iter().zip(ends))
                .map(|(unit, (&at, end))| sample(unit, at, end))
                .collect(),
        };
        Some(fragment)
    }
}

fn sample(unit: &AccessUnit, decode_90k: i64, end_90k: i64) -> Sample {
    let bounded = |value: i64| i32::try_from(value).unwrap_or(0);
    Sample {
        data: unit.data.clone(),
        duration_90k: u32::try_from(end_90k - decode_90k).unwrap_or(1),
        offset_90k: bounded(unit.pts_90k - decode_90k),
        key: unit.key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    pub(crate) fn unit(pts_90k: i64, key: bool) -> AccessUnit {
        AccessUnit {
            data: Bytes::copy_from_slice(&pts_90k.to_be_bytes()),
            pts_90k,
            rtp_time: pts_90k as u32,
            camera_ntp_us: 0,
            key,
            arrival: Instant { mono_us: pts_90k * 100 / 9, ..Default::default() },
        }
    }

    fn cut(units: impl IntoIterator<Item = AccessUnit>) -> Vec<Fragment> {
        let mut fragmenter = Fragmenter::default();
        let mut all: Vec<_> = units.into_iter().filter_map(|unit| fragmenter.push(unit)).collect();
        all.extend(fragmenter.flush());
        all
    }

    #[test]
    fn closes_before_a_key_frame_and_after_a_second() {
        let fragments = cut((0..75).map(|n| unit(7_000 + n * 3_600, n == 0 || n == 30)));
        let counts: Vec<_> = fragments.iter().map(|f| (f.samples.len(), f.starts_with_key())).collect();
        assert_eq!(counts, [(25, true), (5, false), (25, true), (20, false)]);
        assert_eq!(fragments[1].decode_time_90k, 90_000);
        assert!(fragments.iter().all(|f| f.duration_90k <= MAX_FRAGMENT_90K));
    }

    #[test]
    fn reordered_pictures_keep_their_presentation_times() {
        // I P B B, P B B …: presentation 0 3 1 2 6 4 5, 1/25 s each.
        let order: Vec<i64> = [0].into_iter().chain((0..40).flat_map(|g| [3 * g + 3, 3 * g + 1, 3 * g + 2])).collect();
        let fragments = cut(order.iter().map(|n| unit(n * 3_600, *n == 0)));
        let shown: Vec<i64> = times(&fragments).iter().map(|(_, shown)| shown / 3_600).collect();
        assert_eq!(shown, order);
        assert!(fragments.iter().all(|f| f.duration_90k <= FORCED_90K as u64));
    }

    #[test]
    fn a_stall_is_a_hole_in_the_time_line_and_not_the_end_of_the_run() {
        let mut fragmenter = Fragmenter::default();
        (0..10).for_each(|n| assert_eq!(fragmenter.push(unit(n * 3_600, n == 0)), None));
        assert_eq!(fragmenter.flush().unwrap().duration_90k, 36_000);
        assert_eq!(fragmenter.push(unit(400_000, false)), None);
        assert_eq!(fragmenter.flush().unwrap().decode_time_90k, 400_000);
    }

    #[test]
    fn a_pause_is_noticed_by_the_pictures_that_were_due_and_by_the_age_of_what_waits() {
        let waiting = |units: &[i64]| {
            let mut fragmenter = Fragmenter::default();
            units.iter().for_each(|ms| drop(fragmenter.push(unit(ms * 90, *ms == 0))));
            move |ms: i64| fragmenter.is_stalled(ms * 1_000)
        };
        assert!(!waiting(&[])(99_000), "nothing waits");
        let quick = waiting(&[0, 66, 133]);
        assert_eq!((quick(632), quick(634)), (false, true));
        let slow = waiting(&[0, 400]);
        assert_eq!((slow(1_199), slow(1_200)), (false, true), "two pictures were due");
        let slowest = waiting(&[0, 900]);
        assert_eq!((slowest(1_499), slowest(1_500)), (false, true), "a second and a half old");
        let first = waiting(&[0]);
        assert_eq!((first(1_499), first(1_500)), (false, true), "nobody knows when the second is due");
    }

    #[test]
    fn pictures_out_of_order_are_not_cut_apart_by_a_short_pause() {
        let mut fragmenter = Fragmenter::default();
        [0, 120, 40, 80].iter().for_each(|ms| drop(fragmenter.push(unit(ms * 90, *ms == 0))));
        assert!(fragmenter.flush().is_some());
        fragmenter.push(unit(160 * 90, false));
        assert!(!fragmenter.is_stalled(1_400_000) && fragmenter.is_stalled(1_700_000));
    }

    /// Decode and presentation time of each sample.
    fn times(fragments: &[Fragment]) -> Vec<(i64, i64)> {
        let mut all = Vec::new();
        for fragment in fragments {
            let mut at = fragment.decode_time_90k as i64;
            for sample in &fragment.samples {
                all.push((at, at + i64::from(sample.offset_90k)));
                at += i64::from(sample.duration_90k);
            }
            assert_eq!(at as u64, fragment.decode_time_90k + fragment.duration_90k);
        }
        all
    }

    proptest! {
        #[test]
        fn every_unit_is_kept_in_order_and_decode_times_grow(
            steps in proptest::collection::vec((-20_000i64..200_000, any::<bool>()), 1..300)
        ) {
            let (mut pts, mut units) = (0, Vec::new());
            for (step, key) in steps {
                pts += step;
                units.push(unit(pts, key));
            }
            let fragments = cut(units.clone());
            let kept: Vec<_> = fragments.iter().flat_map(|f| f.samples.iter().map(|s| s.data.clone())).collect();
            let given: Vec<_> = units.iter().map(|u| u.data.clone()).collect();
            prop_assert_eq!(kept, given);
            let times = times(&fragments);
            prop_assert!(times.windows(2).all(|pair| pair[0].0 < pair[1].0));
            let ends = fragments.windows(2).all(|f| f[0].decode_time_90k + f[0].duration_90k <= f[1].decode_time_90k);
            prop_assert!(ends);
        }
    }
}
