//! Instants of arrival.

use campanile_proto::time::{Clock, MICROS_PER_SECOND};
use campanile_proto::types::v1::Instant;
use std::sync::{Arc, Mutex, PoisonError};

/// How far the wall clock is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Belief {
    /// It may say which hour it is.
    pub trusted: bool,
    pub uncertainty_us: u64,
}

/// Asked at most once a second.
pub type Believe = Arc<dyn Fn() -> Belief + Send + Sync>;

/// Stamps what arrives; cheap to clone.
#[derive(Clone)]
pub struct Stamper {
    pub clock: Arc<dyn Clock>,
    believe: Believe,
    latest: Arc<Mutex<Option<(i64, Belief)>>>,
}

impl Stamper {
    pub fn new(clock: Arc<dyn Clock>, believe: Believe) -> Self {
        Self { clock, believe, latest: Arc::default() }
    }

    pub fn now(&self) -> Instant {
        self.clock.instant(self.belief().uncertainty_us)
    }

    pub fn belief(&self) -> Belief {
        let now = self.clock.mono().0;
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        match *latest {
            Some((at, belief)) if now - at < MICROS_PER_SECOND => belief,
            _ => {
                let belief = (self.believe)();
                *latest = Some((now, belief));
                belief
            }
        }
    }
}
