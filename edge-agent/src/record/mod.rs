//! Recording: access units become fragments, fragments become sealed records of segment files.
//!
//! Belongs here: when a fragment and a segment end, how they are written, sealed and read back, where they lie.
//! Does not belong here: connections to cameras (`media`, `camera`), what is in a picture (`analyse`, `motion`).
//! Invariant: nothing here decodes, and nothing here waits for motion, the index, another camera or the hub.

#[cfg(test)]
pub(crate) mod fixture;
pub mod fmp4;
pub mod forecast;
pub mod fragment;
pub mod home;
mod lane;
mod orders;
pub mod pinned;
mod queue;
pub mod recorder;
pub mod retain;
pub mod rotate;
mod sealing;
pub mod segment;
pub mod store;

pub use recorder::Recorder;
