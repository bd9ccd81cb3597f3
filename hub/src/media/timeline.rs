//! The one time line: arrival time smoothed over the media clock of a run.

use campanile_proto::time::WallTime;

/// A camera's clock may run this much fast or slow against UTC, parts per million; a fit that wants more
/// follows jitter, or an anchor that jumped.
const MAX_CORRECTION_PPM: f64 = 500.0;
/// Over a shorter stretch arrival jitter weighs more than drift: 50 ms over 60 s is 830 ppm already.
const SHORTEST_FIT_90K: u64 = 600 * 90_000;

/// Arrival of one fragment: its decode time in the run, and present UTC of its first packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    pub decode_90k: u64,
    pub arrival: WallTime,
}

/// A straight line from a run's media time to UTC.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timeline {
    origin_90k: u64,
    origin_us: f64,
    us_per_tick: f64,
}

const NOMINAL: f64 = 1_000_000.0 / 90_000.0;

impl Timeline {
    /// Least squares for the slope, bounded; the median of what remains for the offset, which no single
    /// late packet moves. `None` without points.
    pub fn fit(points: &[Point]) -> Option<Self> {
        let (first, last) = (points.first()?, points.last()?);
        let (origin_90k, base) = (first.decode_90k, first.arrival.0);
        // Small numbers, so that doubles keep the microseconds.
        let at: Vec<(f64, f64)> = points
            .iter()
            .map(|p| (p.decode_90k as f64 - origin_90k as f64, p.arrival.0.saturating_sub(base) as f64))
            .collect();
        let span = last.decode_90k.saturating_sub(origin_90k);
        let slope = if span < SHORTEST_FIT_90K { NOMINAL } else { bounded(least_squares(&at)) };
        let mut offsets: Vec<f64> = at.iter().map(|(tick, us)| us - tick * slope).collect();
        offsets.sort_by(f64::total_cmp);
        let offset = offsets.get(offsets.len() / 2).copied()?;
        Some(Self { origin_90k, origin_us: base as f64 + offset, us_per_tick: slope })
    }

    /// UTC of a media time of the run.
    pub fn at(&self, decode_90k: u64) -> WallTime {
        let ticks = decode_90k as f64 - self.origin_90k as f64;
        WallTime((self.origin_us + ticks * self.us_per_tick).round() as i64)
    }
}

fn bounded(slope: f64) -> f64 {
    let most = NOMINAL * MAX_CORRECTION_PPM / 1_000_000.0;
    slope.clamp(NOMINAL - most, NOMINAL + most)
}

fn least_squares(at: &[(f64, f64)]) -> f64 {
    let count = at.len() as f64;
    let (mean_x, mean_y) = (at.iter().map(|p| p.0).sum::<f64>() / count, at.iter().map(|p| p.1).sum::<f64>() / count);
    let (mut above, mut below) = (0.0, 0.0);
    for (x, y) in at {
        above += (x - mean_x) * (y - mean_y);
        below += (x - mean_x) * (x - mean_x);
    }
    if below > 0.0 { above / below } else { NOMINAL }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn points(count: u64, ppm: f64, jitter: impl Fn(u64) -> i64) -> Vec<Point> {
        let at = |n: u64| 1_763_000_000_000_000 + (n as f64 * 1e6 * (1.0 + ppm / 1e6)) as i64 + jitter(n);
        (0..count).map(|n| Point { decode_90k: 5_000 + n * 90_000, arrival: WallTime(at(n)) }).collect()
    }

    #[test]
    fn a_late_packet_moves_nothing() {
        let calm = Timeline::fit(&points(30, 0.0, |_| 0)).unwrap();
        let late = Timeline::fit(&points(30, 0.0, |n| if n == 7 { 900_000 } else { 0 })).unwrap();
        assert_eq!(calm.at(5_000 + 90_000 * 20), late.at(5_000 + 90_000 * 20));
    }

    #[test]
    fn a_slow_camera_is_followed_and_a_mad_one_is_not() {
        let end = 5_000 + 3_600 * 90_000;
        let at = |ppm| Timeline::fit(&points(3_601, ppm, |n| (n % 7) as i64 * 3_000)).unwrap().at(end).0;
        let expected = |ppm: f64| 1_763_000_000_000_000 + (3_600e6 * (1.0 + ppm / 1e6)) as i64;
        assert!((at(120.0) - expected(120.0)).abs() < 20_000);
        assert!((at(5_000.0) - expected(5_000.0)).abs() > 5_000_000);
    }

    proptest! {
        #[test]
        fn the_correction_stays_within_500_ppm(jumps in proptest::collection::vec(-10_000_000i64..10_000_000, 2..900)) {
            let points: Vec<_> = jumps.iter().enumerate()
                .map(|(n, jump)| Point { decode_90k: n as u64 * 90_000, arrival: WallTime(n as i64 * 1_000_000 + jump) })
                .collect();
            let line = Timeline::fit(&points).unwrap();
            let hour = (line.at(3_600 * 90_000) - line.at(0)) as f64;
            prop_assert!((hour / 3_600e6 - 1.0).abs() <= 500.5e-6);
        }
    }
}
