//! The edge agent: hands at one site.
//!
//! Belongs here: recording, motion, the index of what was recorded, reports, and the link to the hub.
//! Does not belong here: anything about people, agreements or other towns (`hub`).
//! Invariant: recording never waits for motion, index, another camera's disk, or the hub.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod agent;
pub mod analyse;
pub mod camera;
pub mod check;
pub mod clock;
pub mod config;
pub mod facts;
pub mod hardware;
pub mod health;
pub mod identity;
pub mod index;
pub mod keys;
pub mod media;
pub mod motion;
pub mod record;
pub mod supervise;
pub mod uplink;

#[cfg(test)]
mod fake_hub;
#[cfg(test)]
mod specimen;
