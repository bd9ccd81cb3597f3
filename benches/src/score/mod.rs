//! How well motion is found: our detector beside others, on labelled clips and generated scenes.
//!
//! Belongs here: reading labels, playing a clip once through the box's own decoder, the scoring rule, the table.
//! Does not belong here: what counts as motion (`edge_agent::motion`), making scenes (`campanile_sim::scene`).
//! Invariant: every contender sees the same decoded pictures once, in order, cold; the rule knows no clip by name.

pub mod film;
pub mod labels;
pub mod manifest;
pub mod ours;
pub mod peers;
pub mod report;
pub mod rule;
pub mod scenes;
pub mod table;
pub mod track;
mod workshop;

pub use report::{Wanted, run};
