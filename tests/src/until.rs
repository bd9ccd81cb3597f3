//! Waiting on a predicate, bounded, with the last state seen in the error.

use anyhow::{Result, bail};
use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// Whoever waits is told this often what for.
const PATIENCE: Duration = Duration::from_secs(5);
const STATE_CHARACTERS: usize = 160;

/// Looks until `look` answers `Ok`; after `limit` fails with `what` and the last state it answered.
pub fn until<T, S: Debug>(what: &str, limit: Duration, look: impl FnMut() -> Result<T, S>) -> Result<T> {
    until_each(PAUSE, what, limit, look)
}

/// The same for a look that costs something: `pause` lies between two.
pub fn until_each<T, S: Debug>(
    pause: Duration,
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<T, S>,
) -> Result<T> {
    let started = Instant::now();
    let mut told = started;
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(state) if started.elapsed() >= limit => {
                bail!("{what}: not within {limit:?}; last seen: {state:?}")
            }
            Err(state) => {
                if told.elapsed() >= PATIENCE {
                    told = Instant::now();
                    let state: String = format!("{state:?}").chars().take(STATE_CHARACTERS).collect();
                    eprintln!("\n    … {what}, {} s so far: {state}", started.elapsed().as_secs());
                }
                std::thread::sleep(pause);
            }
        }
    }
}
