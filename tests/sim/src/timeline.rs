//! A clip repeated for ever on one time line.
//!
//! Belongs here: which access unit is due when, and with which time stamp.
//! Does not belong here: clocks and sending (`server`).
//! Invariant: pure; time stamps continue over the seam: pts = original + loops x duration.

use crate::demux::{Clip, DemuxedUnit};

/// A last frame that claims to last longer than this many median frames is not believed:
/// muxers that do not know it write nought, one tick or the whole movie's duration.
const LONGEST_LAST_FRAME: u64 = 3;
/// A client waits at most this long for the next key frame; in a clip with rarer key frames it
/// starts at the previous one and catches up.
const LONGEST_WAIT_90K: u64 = 4 * 90_000;

/// Loop of a clip's access units, first one a key frame.
#[derive(Debug, Clone)]
pub struct Timeline {
    units: Vec<DemuxedUnit>,
    duration_90k: u64,
}

/// An access unit's place: the n-th since the camera's start.
#[derive(Debug, Clone, Copy)]
pub struct Due<'a> {
    /// The access unit, with the clip's own times.
    pub unit: &'a DemuxedUnit,
    /// Its index in the loop.
    pub index: u64,
    /// Presentation time since the camera's start.
    pub pts_90k: u64,
    /// Decoding time since the camera's start: when it is sent.
    pub dts_90k: u64,
}

impl Timeline {
    /// Drops what comes before the first key frame and starts times at nought; `None` without a
    /// key frame.
    pub fn new(clip: &Clip) -> Option<Timeline> {
        let first_key = clip.units.iter().position(|unit| unit.key)?;
        let mut units = clip.units[first_key..].to_vec();
        let first_pts = units.iter().map(|unit| unit.pts_90k).min()?;
        let first_dts = units.first()?.dts_90k;
        for unit in &mut units {
            unit.pts_90k -= first_pts;
            unit.dts_90k = unit.dts_90k.saturating_sub(first_dts);
        }
        let duration_90k = duration(&units);
        Some(Timeline { units, duration_90k })
    }

    /// Access units in a loop.
    pub fn len(&self) -> usize {
        self.units.len()
    }

    /// Never: a time line begins with a key frame.
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// Length of a loop.
    pub fn duration_90k(&self) -> u64 {
        self.duration_90k
    }

    /// The n-th access unit since the camera's start.
    pub fn at(&self, n: u64) -> Due<'_> {
        let length = self.units.len() as u64;
        let unit = &self.units[(n % length) as usize];
        let shift = (n / length) * self.duration_90k;
        Due { unit, index: n % length, pts_90k: unit.pts_90k + shift, dts_90k: unit.dts_90k + shift }
    }

    /// Where a client starts that arrives at `now_90k`: the next key frame, see
    /// [`LONGEST_WAIT_90K`] for the exception.
    pub fn start(&self, now_90k: u64) -> u64 {
        let length = self.units.len() as u64;
        let first = (now_90k / self.duration_90k) * length;
        let mut previous = first;
        // One loop and its successor's first unit always hold a key frame at or after now.
        for n in first..=first + length {
            let due = self.at(n);
            if !due.unit.key {
                continue;
            }
            if due.dts_90k >= now_90k {
                return if due.dts_90k - now_90k <= LONGEST_WAIT_90K { n } else { previous };
            }
            previous = n;
        }
        previous
    }
}

fn duration(units: &[DemuxedUnit]) -> u64 {
    let mut times: Vec<u64> = units.iter().map(|unit| unit.pts_90k).collect();
    times.sort_unstable();
    let mut steps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    steps.sort_unstable();
    let median = steps.get(steps.len() / 2).copied().unwrap_or(3_600).max(1);
    let last = units.iter().max_by_key(|unit| unit.pts_90k);
    let stated = last.and_then(|unit| unit.duration_90k);
    let believed = stated.filter(|&ticks| ticks * 2 > median && ticks <= LONGEST_LAST_FRAME * median);
    times.last().copied().unwrap_or(0) + believed.unwrap_or(median)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Codec;
    use bytes::Bytes;
    use gstreamer as gst;

    fn clip(pts: &[u64], last_duration: Option<u64>) -> Clip {
        gst::init().unwrap();
        let units = pts.iter().enumerate().map(|(index, &pts_90k)| DemuxedUnit {
            bytes: Bytes::from_static(&[0]),
            pts_90k,
            dts_90k: 6_000 * index as u64,
            duration_90k: last_duration,
            key: index % 3 == 0,
            sha256: String::new(),
        });
        Clip { codec: Codec::H264, caps: gst::Caps::new_any(), units: units.collect() }
    }

    #[test]
    fn steps_are_constant_over_the_seam() {
        for last in [None, Some(0), Some(1), Some(6_000), Some(900_000)] {
            let line = Timeline::new(&clip(&[12_000, 18_000, 24_000, 30_000], last)).unwrap();
            let pts: Vec<u64> = (0..13).map(|n| line.at(n).pts_90k).collect();
            assert!(pts.windows(2).all(|pair| pair[1] - pair[0] == 6_000), "{last:?}: {pts:?}");
        }
    }

    #[test]
    fn reordered_frames_keep_their_times() {
        let line = Timeline::new(&clip(&[6_000, 24_000, 12_000, 18_000], None)).unwrap();
        let pts: Vec<u64> = (0..8).map(|n| line.at(n).pts_90k).collect();
        assert_eq!(pts, [0, 18_000, 6_000, 12_000, 24_000, 42_000, 30_000, 36_000]);
    }

    #[test]
    fn a_client_starts_at_the_next_key_frame() {
        let line = Timeline::new(&clip(&[0, 6_000, 12_000, 18_000, 24_000], None)).unwrap();
        assert_eq!(line.start(0), 0);
        assert_eq!(line.start(1), 3);
        assert_eq!(line.start(18_001), 5);
        assert_eq!(line.start(30_000 * 7 + 100), 7 * 5 + 3);
    }

    #[test]
    fn rare_key_frames_do_not_keep_a_client_waiting() {
        let mut long = clip(&(0..300).map(|n| n * 6_000).collect::<Vec<_>>(), None);
        long.units.iter_mut().skip(1).for_each(|unit| unit.key = false);
        let line = Timeline::new(&long).unwrap();
        assert_eq!(line.start(90_000), 0);
        assert_eq!(line.start(line.duration_90k() - 90_000), 300);
    }
}
