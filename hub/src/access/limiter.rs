//! Failed sign-ins, counted by name and by address.

use campanile_proto::time::{MICROS_PER_SECOND, MonoTime};
use std::collections::HashMap;

/// Failures are forgotten after this long without another.
const WINDOW_US: i64 = 300 * MICROS_PER_SECOND;
/// By one address: a person mistypes some times.
const PER_ADDRESS: u32 = 10;
/// For one name, from anywhere: high, so that a stranger cannot easily lock an operator out.
const PER_NAME: u32 = 50;
/// Entries beyond this: the oldest go.
const MAX_ENTRIES: usize = 10_000;

#[derive(Default)]
pub(super) struct Limiter {
    attempts: HashMap<String, (u32, MonoTime)>,
}

impl Limiter {
    /// Counts an attempt, or says in how many seconds the next may be made.
    pub fn admit(&mut self, name: &str, from: &str, now: MonoTime) -> Result<(), u64> {
        if self.attempts.len() >= MAX_ENTRIES {
            self.attempts.retain(|_, (_, at)| now - *at < WINDOW_US);
            if self.attempts.len() >= MAX_ENTRIES {
                self.attempts.clear();
            }
        }
        let keys = keys(name, from);
        for (key, limit) in keys.iter().zip([PER_NAME, PER_ADDRESS]) {
            if let Some((count, at)) = self.attempts.get(key)
                && *count >= limit
                && now - *at < WINDOW_US
            {
                let left = (WINDOW_US - (now - *at)) / MICROS_PER_SECOND;
                return Err(u64::try_from(left).unwrap_or(0) + 1);
            }
        }
        for key in keys {
            let (count, at) = self.attempts.entry(key).or_insert((0, now));
            *count = if now - *at < WINDOW_US { *count + 1 } else { 1 };
            *at = now;
        }
        Ok(())
    }

    /// A success clears what came before it.
    pub fn forget(&mut self, name: &str, from: &str) {
        for key in keys(name, from) {
            self.attempts.remove(&key);
        }
    }
}

fn keys(name: &str, from: &str) -> [String; 2] {
    [format!("name {}", name.chars().take(64).collect::<String>()), format!("from {from}")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_guesses_waits_and_another_does_not() {
        let (mut limiter, now) = (Limiter::default(), MonoTime(1));
        for _ in 0..PER_ADDRESS {
            assert_eq!(limiter.admit("anna", "10.0.0.1", now), Ok(()));
        }
        assert_eq!(limiter.admit("anna", "10.0.0.1", now), Err(301));
        assert_eq!(limiter.admit("anna", "10.0.0.2", now), Ok(()));
        assert_eq!(limiter.admit("anna", "10.0.0.1", MonoTime(WINDOW_US + 1)), Ok(()));
    }

    #[test]
    fn a_name_guessed_from_everywhere_is_shut_too() {
        let (mut limiter, now) = (Limiter::default(), MonoTime(1));
        for address in 0..PER_NAME {
            assert_eq!(limiter.admit("anna", &address.to_string(), now), Ok(()));
        }
        assert!(limiter.admit("anna", "elsewhere", now).is_err());
        assert!(limiter.admit("bruno", "elsewhere", now).is_ok());
    }
}
