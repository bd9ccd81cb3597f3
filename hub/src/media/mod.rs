//! Footage on its way from a box's disk to an eye.
//!
//! Belongs here: the key ring, opening and checking what boxes deliver, the one time line, packaging.
//! Does not belong here: who may see it (`access`), how a browser or partner asks (`web`, `federation`).
//! Invariant: footage is plain in memory only, and not past the end of its term.

mod alarm;
pub mod axis;
mod cache;
pub mod codecs;
pub(crate) mod groups;
mod held_keys;
pub mod hls;
pub mod keeper;
mod kept;
mod opening;
pub(crate) mod playback;
pub mod rendition;
mod ring;
pub(crate) mod timeline;
mod trust;

pub use alarm::Alarm;
pub use held_keys::HeldKeys;
pub use keeper::{For, Keeper, KeeperError, RingKeeper};
pub use kept::Maintained;
pub use playback::{Playback, PlaybackError};
pub(crate) use trust::TIMESYNC_MARK;
