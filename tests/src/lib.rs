//! Whole towns on one machine: real hubs, boxes and cameras as processes, driven as their users drive them.
//!
//! Belongs here: starting, stopping and killing real processes; the demo; what several tests need to see.
//! Does not belong here: anything a shipped binary needs; mocks.
//! Invariant: everything made lies under one folder, every process started is ended.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod camera_list;
pub mod clips;
pub mod demo;
pub mod edge_box;
pub mod packages;
pub mod process;
pub mod proof;
pub mod rig;
pub mod roster;
pub mod scan;
pub mod simcam;
pub mod steps;
pub mod tidy;
pub mod town;
pub mod until;
