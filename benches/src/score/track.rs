//! A contender's answer over time: on or off, from picture to picture.

/// Instants in seconds at which the state was set; it holds until the next.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Track(Vec<(f64, bool)>);

impl Track {
    /// In order of time.
    pub fn set(&mut self, t_s: f64, on: bool) {
        self.0.push((t_s, on));
    }

    pub fn always(on: bool) -> Self {
        Self(vec![(0.0, on)])
    }

    /// Everything later by this much, off before.
    pub fn later(&self, by_s: f64) -> Self {
        Self(self.0.iter().map(|&(t, on)| (t + by_s, on)).collect())
    }

    /// Off before the first picture.
    pub fn at(&self, t_s: f64) -> bool {
        // Pictures carry times to the millisecond at best.
        let after = self.0.partition_point(|&(t, _)| t <= t_s + 1e-6);
        after > 0 && self.0[after - 1].1
    }

    /// First instant from `from_s` on at which it is on.
    pub fn first_on(&self, from_s: f64) -> Option<f64> {
        if self.at(from_s) {
            return Some(from_s);
        }
        self.0.iter().find(|&&(t, on)| t >= from_s && on).map(|&(t, _)| t)
    }

    /// Intervals until `end_s` in which it is on; those closer than `gap_s` are one.
    pub fn spells(&self, gap_s: f64, end_s: f64) -> Vec<(f64, f64)> {
        let mut spells: Vec<(f64, f64)> = Vec::new();
        let ends = self.0.iter().skip(1).map(|&(t, _)| t).chain([end_s]);
        for (&(from, _), to) in self.0.iter().zip(ends).filter(|((_, on), _)| *on) {
            match spells.last_mut() {
                Some(last) if from - last.1 < gap_s => last.1 = to,
                _ => spells.push((from, to)),
            }
        }
        spells
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_holds_until_the_next_picture() {
        let mut track = Track::default();
        for (t, on) in [(0.0, false), (1.0, true), (1.5, false), (2.0, true), (9.0, false)] {
            track.set(t, on);
        }
        assert_eq!([0.5, 1.0, 1.4, 1.5, 8.9, 9.0].map(|t| track.at(t)), [false, true, true, false, true, false]);
        assert_eq!((track.first_on(1.6), track.first_on(3.0), track.first_on(9.5)), (Some(2.0), Some(3.0), None));
        assert_eq!(track.spells(0.0, 12.0), [(1.0, 1.5), (2.0, 9.0)]);
        assert_eq!(track.spells(3.0, 12.0), [(1.0, 9.0)]);
        assert_eq!(Track::always(true).spells(3.0, 12.0), [(0.0, 12.0)]);
        assert!(!track.later(2.0).at(2.9) && track.later(2.0).at(3.0));
    }
}
