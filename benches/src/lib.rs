//! Load generators and side-by-side runs with peers.
//!
//! Belongs here: starting contenders on the same streams, and what they take of the machine.
//! Does not belong here: criterion benches (`benches/`), anything a shipped binary needs.
//! Invariant: contenders are compared within one run, on the same cameras.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod contender;
pub mod cost;
mod measured;
mod peers;
pub mod recording;
pub mod score;
pub mod usage;
