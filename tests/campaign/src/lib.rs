//! Faults by the hundred against the real edge agent: kills, power cuts, failing disks.
//!
//! Belongs here: choosing faults by a seed, carrying them out, proving what is left, the report.
//! Does not belong here: points in the product at which it can be hurt; the shim finds them from outside.
//! Invariant: a fault is a function of seed, kind and number; what it did is written down before the next.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod campaign;
pub mod disk;
pub mod kill;
pub mod notes;
pub mod power;
pub mod report;
pub mod seed;
pub mod segments;
pub mod shim;
pub mod subject;
// The shim is loaded into other processes and stands in for functions of the C library: nothing may link it.
#[path = "../../shim/src/trace.rs"]
pub mod trace;
