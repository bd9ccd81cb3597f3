//! The one on/off answer: does something move now. Events are made from it. Pure: hysteresis over time.

use super::detect::Seen;

/// Of the last pictures looked at, so many must move: one picture alone is a flash.
const WINDOW: u32 = 3;
const LEAST_OF_WINDOW: u32 = 2;
/// Pictures further apart than this are few; what is seen in one was in the one before, or it would not be believed.
const SLOW_US: i64 = 150_000;
const LEAST_OF_SLOW: u32 = 1;
/// It stays on over pauses of this length: a step, a doubled frame, a picture that hides more than it shows.
const HOLD_US: i64 = 500_000;

/// Whether something moves, followed from picture to picture.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Whether the last pictures moved, newest in bit 0.
    window: u32,
    last_us: Option<i64>,
    /// Between pictures, smoothed.
    interval_us: i64,
    /// Of the last picture that moved, while on.
    moved_us: Option<i64>,
}

impl State {
    /// Takes one picture at a time of the monotonic clock, in microseconds; whether the state is on now.
    pub fn picture(&mut self, at_us: i64, seen: &Seen) -> bool {
        if let Some(step) = self.last_us.replace(at_us).map(|last| (at_us - last).max(0)) {
            self.interval_us = if self.interval_us == 0 { step } else { (3 * self.interval_us + step) / 4 };
        }
        let moves = seen.moves();
        if seen.looked {
            self.window = (self.window << 1 | u32::from(moves)) & ((1 << WINDOW) - 1);
        }
        match self.moved_us {
            None if moves && self.window.count_ones() >= self.least() => self.moved_us = Some(at_us),
            Some(_) if moves => self.moved_us = Some(at_us),
            Some(moved_us) if at_us - moved_us >= HOLD_US.max(self.interval_us) => {
                (self.moved_us, self.window) = (None, 0);
            }
            _ => {}
        }
        self.moved_us.is_some()
    }

    /// Between pictures, smoothed, in microseconds.
    pub fn interval_us(&self) -> i64 {
        self.interval_us
    }

    /// Whether it is off and nothing of the last pictures moved.
    pub fn is_quiet(&self) -> bool {
        self.window == 0 && self.moved_us.is_none()
    }

    fn least(&self) -> u32 {
        match self.interval_us {
            SLOW_US.. => LEAST_OF_SLOW,
            _ => LEAST_OF_WINDOW,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_proto::grid::CellSet;

    fn seen(moves: bool, looked: bool) -> Seen {
        Seen { moved: if moves { CellSet::FULL } else { CellSet::EMPTY }, looked }
    }

    /// States at ten pictures a second.
    fn states(moves: impl Fn(i64) -> bool, pictures: i64) -> Vec<bool> {
        let mut state = State::default();
        (0..pictures).map(|n| state.picture(n * 100_000, &seen(moves(n), true))).collect()
    }

    #[test]
    fn two_pictures_turn_it_on_and_a_pause_does_not_turn_it_off() {
        let states = states(|n| (10..20).contains(&n) && n != 15 && n != 16, 40);
        let on: Vec<usize> = states.iter().enumerate().filter(|(_, on)| **on).map(|(n, _)| n).collect();
        assert_eq!(on, (11..24).collect::<Vec<_>>());
    }

    #[test]
    fn a_flash_does_not_turn_it_on() {
        assert!(states(|n| n % 5 == 0, 60).iter().all(|on| !on));
    }

    #[test]
    fn it_goes_off_while_nothing_can_be_seen() {
        let mut state = State::default();
        (0..10).for_each(|n| _ = state.picture(n * 100_000, &seen(true, true)));
        let blind: Vec<bool> = (10..20).map(|n| state.picture(n * 100_000, &seen(false, false))).collect();
        assert_eq!(blind.iter().filter(|on| **on).count(), 4);
    }

    #[test]
    fn one_key_frame_in_seconds_is_enough() {
        let mut state = State::default();
        let states: Vec<bool> = (0..8).map(|n| state.picture(n * 4_000_000, &seen(n == 5, true))).collect();
        assert_eq!(states, [false, false, false, false, false, true, false, false]);
    }
}
