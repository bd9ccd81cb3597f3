//! Looking for motion, in a child process: what decodes a camera's bytes holds no key, no network and no disk.
//!
//! Belongs here: the child's life, the words between it and the agent, its sandbox.
//! Does not belong here: what counts as motion (`motion`), sealing what was found (`record`).
//! Invariant: a crash, a hang or a slow child never touches recording.

pub mod child;
pub mod frame;
mod listener;
pub mod look;
pub mod parent;
mod patience;
pub mod sandbox;
