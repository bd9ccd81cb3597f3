//! Simulated cameras: RTSP servers that play clips and generated scenes and log every access
//! unit they send.
//!
//! Belongs here: cameras to test against, and the instruments that judge a recording of them.
//! Does not belong here: anything that the product itself uses.
//! Invariant: what is sent is logged first, so that a log is evidence of every loss.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod audit;
pub mod config;
pub mod decode;
pub mod demux;
pub mod encode;
pub mod fragments;
pub mod journal;
pub mod program;
pub mod scene;
pub mod server;
pub mod strip;
pub mod timeline;
pub mod units;
