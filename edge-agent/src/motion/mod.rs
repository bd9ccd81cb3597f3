//! What moved: pictures become cells, cells become seconds and events.
//!
//! Belongs here: pure code over planes of pixels and sets of cells; time comes as a parameter.
//! Does not belong here: decoding, processes, sealing, what anybody does with an event.
//! Invariant: "nothing moved" is only said of cells that were looked at.

pub mod detect;
pub mod event;
pub mod seconds;
pub mod state;
pub mod thumbnail;

pub use detect::Detector;
