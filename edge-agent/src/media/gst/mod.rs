//! GStreamer: the only folder that names it.
//!
//! Belongs here: streams over UDP and TLS become packets (`receive`), units become pictures (`decode`).
//! Does not belong here: what a picture shows (`motion`), which process decodes (`analyse`).
//! Invariant: no GStreamer type leaves this folder.

mod decode;
mod receive;
mod shrink;

pub use decode::{Decoder, IdleDecoder, PICTURE_WIDTH, Picture};
pub use receive::open;

use super::SourceError;
use gstreamer as gst;
use std::sync::OnceLock;

/// Initialises GStreamer once.
pub fn initialise() -> Result<(), SourceError> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    DONE.get_or_init(|| gst::init().map_err(|error| error.to_string())).clone().map_err(SourceError::Machine)
}

fn element(name: &str) -> Result<gst::Element, SourceError> {
    gst::ElementFactory::make(name)
        .build()
        .map_err(|_| SourceError::Machine(format!("GStreamer's element {name} is not installed")))
}
