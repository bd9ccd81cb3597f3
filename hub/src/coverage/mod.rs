//! What was recorded and what was not, and why: for every camera and second.
//!
//! Belongs here: holes between what was recorded, their causes, days of a town's calendar. Pure.
//! Does not belong here: what boxes reported (`catalog`), who may know it (`access`), footage.
//! Invariant: every instant of an interval is either recorded or in a hole with exactly one cause.

mod cause;
mod days;
mod holes;

pub use cause::Cause;
pub use days::{Day, days};
pub use holes::{Hole, Reported, Span, reported};
