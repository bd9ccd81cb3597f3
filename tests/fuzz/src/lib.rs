//! What hostile bytes reach first, a function for each way in: called by libFuzzer (`make fuzz`), and with the kept
//! corpora and seeded mutations by `make test`.
//!
//! Belongs here: turning bytes into what a camera, a disk or a child that was taken over could send, and what must hold
//! whatever they send.
//! Does not belong here: the words of RTSP, which are retina's and GStreamer's.
//! Invariant: a panic is a finding.

mod analysed;
mod camera;
mod described;
mod segment;
mod served;

pub use analysed::analysed;
pub use camera::{camera, parameters};
pub use described::described;
pub use segment::segment;
pub use served::served;
