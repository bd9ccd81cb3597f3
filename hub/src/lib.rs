//! The hub: memory and diplomacy of a town.
//!
//! Belongs here: fleet, catalogue, search, playback, access, register, federation, the operators' pages.
//! Does not belong here: anything done at a site (`edge-agent`), anything both must agree on (`proto`).
//! Invariant: nothing is shown, searched or released that did not pass `access::decide` first.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod access;
pub mod catalog;
pub mod config;
pub mod coverage;
pub mod federation;
pub mod fleet;
pub mod holds;
pub mod hub;
pub mod media;
pub mod notify;
pub mod register;
pub mod retention;
pub mod rpc;
pub mod search;
pub mod web;
