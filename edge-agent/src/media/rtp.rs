//! RTP packets and their clock (RFC 3550 section 5.1).

use super::TICKS_PER_SECOND;
use super::outlet::to_90k;

/// A jump of the camera's clock beyond this against arrival is a clock that was set, not a network that stalled.
const MAX_DRIFT_90K: i64 = 10 * TICKS_PER_SECOND;
/// Reordered pictures go back less than this; a clock that goes back further was set.
const MAX_BACK_90K: i64 = TICKS_PER_SECOND;
/// A time line that is this far from arrival, for longer than a network stalls, is not the time of the pictures.
const MAX_STRAY_90K: i64 = 2 * TICKS_PER_SECOND;
const STRAYS_AFTER_US: i64 = 5_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    pub marker: bool,
    pub sequence: u16,
    pub timestamp: u32,
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// `None` for what is no RTP packet of version 2.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, mut rest) = bytes.split_first_chunk::<12>()?;
        if header[0] >> 6 != 2 {
            return None;
        }
        let contributors = usize::from(header[0] & 0x0f) * 4;
        rest = rest.get(contributors..)?;
        if header[0] & 0x10 != 0 {
            let (extension, after) = rest.split_first_chunk::<4>()?;
            let words = usize::from(u16::from_be_bytes([extension[2], extension[3]]));
            rest = after.get(words * 4..)?;
        }
        if header[0] & 0x20 != 0 {
            let padding = usize::from(*rest.last()?);
            rest = rest.get(..rest.len().checked_sub(padding)?)?;
        }
        Some(Self {
            marker: header[1] & 0x80 != 0,
            sequence: u16::from_be_bytes([header[2], header[3]]),
            timestamp: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            payload: rest,
        })
    }
}

/// Turns wrapping 32-bit timestamps into a line that starts at 0. A clock that jumps is followed by arrival
/// instead: a recording never ends for a bad timestamp.
#[derive(Debug, Default)]
pub struct TimeLine {
    last: Option<Last>,
    /// Presentation and arrival of the first unit since the line began.
    base: Option<(i64, i64)>,
    /// Arrival since when it strays.
    strays_since_us: Option<i64>,
}

/// Where a unit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    pub pts_90k: i64,
    /// The line is to begin again where decoding can.
    pub strays: bool,
}

#[derive(Debug)]
struct Last {
    timestamp: u32,
    pts_90k: i64,
    arrival_us: i64,
}

impl TimeLine {
    /// Presentation time of a unit with this timestamp that arrived at this monotonic time.
    pub fn place(&mut self, timestamp: u32, arrival_us: i64, clock_rate: u32) -> Placed {
        let pts_90k = match &self.last {
            None => 0,
            Some(last) => {
                let told = to_90k(i64::from(timestamp.wrapping_sub(last.timestamp) as i32), clock_rate);
                let passed = (arrival_us - last.arrival_us).max(0).saturating_mul(TICKS_PER_SECOND) / 1_000_000;
                let set = told < -MAX_BACK_90K || (told - passed).abs() > MAX_DRIFT_90K;
                let step = if set { passed.max(1) } else { told };
                last.pts_90k + step
            }
        };
        self.last = Some(Last { timestamp, pts_90k, arrival_us });
        let (base_90k, base_us) = *self.base.get_or_insert((pts_90k, arrival_us));
        let by_arrival = (arrival_us - base_us).saturating_mul(TICKS_PER_SECOND) / 1_000_000;
        if (pts_90k - base_90k - by_arrival).abs() <= MAX_STRAY_90K {
            self.strays_since_us = None;
        } else {
            self.strays_since_us.get_or_insert(arrival_us);
        }
        let strays = self.strays_since_us.is_some_and(|since| arrival_us - since >= STRAYS_AFTER_US);
        Placed { pts_90k, strays }
    }

    /// A new run begins with the unit that was placed last.
    pub fn begin_again(&mut self) {
        self.base = self.last.as_ref().map(|last| (last.pts_90k, last.arrival_us));
        self.strays_since_us = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn follows_the_wire_across_its_wrap() {
        let mut line = TimeLine::default();
        let start = u32::MAX - 3_599;
        for frame in 0..100u32 {
            let placed = line.place(start.wrapping_add(frame * 3_600), i64::from(frame) * 40_000, 90_000);
            assert_eq!(placed, Placed { pts_90k: i64::from(frame) * 3_600, strays: false });
        }
    }

    #[test]
    fn a_clock_that_jumps_is_followed_by_arrival() {
        let mut line = TimeLine::default();
        line.place(1_000, 0, 90_000);
        assert_eq!(line.place(900_000_000, 40_000, 90_000).pts_90k, 3_600);
        assert_eq!(line.place(900_003_600, 80_000, 90_000).pts_90k, 7_200);
        assert_eq!(line.place(5, 120_000, 90_000).pts_90k, 10_800);
    }

    #[test]
    fn a_stall_and_the_burst_behind_it_do_not_end_a_run() {
        let mut line = TimeLine::default();
        for frame in 0..500u32 {
            // Held back for four seconds, then all at once.
            let sent = i64::from(frame) * 40_000;
            let arrival = if (100..200).contains(&frame) { sent.max(8_000_000) } else { sent };
            assert!(!line.place(frame * 3_600, arrival, 90_000).strays, "frame {frame}");
        }
    }

    #[test]
    fn skips_contributors_extension_and_padding() {
        let mut bytes = vec![0xb1, 0xe0, 0, 7, 0, 0, 0, 9, 0, 0, 0, 0];
        bytes.extend([1, 2, 3, 4]);
        bytes.extend([0xbe, 0xde, 0, 1, 9, 9, 9, 9]);
        bytes.extend([0x65, 0x01, 0, 2]);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet, Packet { marker: true, sequence: 7, timestamp: 9, payload: &[0x65, 0x01] });
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Packet::parse(&bytes);
        }

        #[test]
        fn a_camera_whose_clock_runs_wrong_never_strays_far_within_a_run(
            speed_percent in 20i64..400, gop in 1usize..50, frames in 100usize..3_000
        ) {
            let (mut line, mut base) = (TimeLine::default(), (0, 0));
            let mut wanted = false;
            for frame in 0..frames {
                let arrival = frame as i64 * 40_000;
                let stamp = (frame as i64 * 36 * speed_percent) as u32;
                let placed = line.place(stamp, arrival, 90_000);
                if frame == 0 || wanted && frame % gop == 0 {
                    line.begin_again();
                    base = (placed.pts_90k, arrival);
                    wanted = false;
                } else {
                    wanted |= placed.strays;
                }
                let off = placed.pts_90k - base.0 - (arrival - base.1) * 9 / 100;
                // Two seconds, what is added while it is watched for five, and a group.
                let while_watched = (5_100_000 + gop as i64 * 40_000) * 9 / 100 * (speed_percent - 100).abs() / 100;
                prop_assert!(off.abs() <= MAX_STRAY_90K + while_watched + 3_600 * 4, "{off} at frame {frame}");
            }
        }

        #[test]
        fn any_timestamps_give_a_line_within_drift_of_arrival(
            stamps in proptest::collection::vec((any::<u32>(), 0i64..10_000_000), 1..50)
        ) {
            let mut line = TimeLine::default();
            let (mut arrival, mut last, mut last_arrival) = (0, None::<i64>, 0);
            for (stamp, step) in stamps {
                arrival += step;
                let pts = line.place(stamp, arrival, 90_000).pts_90k;
                if let Some(last) = last {
                    let passed = (arrival - last_arrival) * 9 / 100;
                    prop_assert!((pts - last - passed).abs() <= MAX_DRIFT_90K + 1);
                    prop_assert!(pts - last >= -MAX_BACK_90K);
                }
                (last, last_arrival) = (Some(pts), arrival);
            }
        }
    }
}
