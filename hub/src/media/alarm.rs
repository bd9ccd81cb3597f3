//! What of keys and time somebody must look at.

use campanile_proto::ids::EdgeId;

/// What somebody must look at; each stays until the hub is started again, the clock's until it is believed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Alarm {
    #[error(
        "the wall clock is not believed, so no key is destroyed and nothing deleted: compare it, set it if it is \
         wrong, then campanile-hub clock confirm"
    )]
    Clock,
    #[error(
        "the key ring was missing and was made anew: what was sealed to the keys of the lost one cannot be opened \
         any more, boxes get new keys as they connect"
    )]
    RingLost,
    #[error(
        "box {edge} has newer sealing keys than this ring: an older ring was put back, and what was sealed in \
         between may be lost; every box gets new keys"
    )]
    RingOlder { edge: EdgeId },
}

impl Alarm {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Clock => "CLOCK_NOT_BELIEVED",
            Self::RingLost => "KEY_RING_LOST",
            Self::RingOlder { .. } => "KEY_RING_OLDER",
        }
    }
}
