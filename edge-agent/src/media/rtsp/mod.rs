//! RTSP over TCP (RFC 2326), the way most cameras are read.
//!
//! Belongs here: the words with a camera, taking its interleaved packets off the wire (section 10.12), reading its
//! description.
//! Does not belong here: what packets become (`outlet`), when to try again (`camera`), UDP and TLS (`gst`).
//! Invariant: no byte of a camera is trusted, and nothing of it grows without bound.

mod answer;
mod description;
mod dialogue;
mod sign_in;
mod wire;

use super::outlet::Outlet;
use super::stamp::Stamper;
use super::{Address, Opener, Source, SourceError, gst};
use crate::config::Transport;
use dialogue::Dialogue;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// A camera that does not answer within this is unreachable.
const ANSWER: Duration = Duration::from_secs(5);
/// To take our leave of it.
const LEAVE: Duration = Duration::from_millis(500);

/// Opens RTSP addresses: over TCP itself, others through GStreamer, which is loaded at the first of them.
pub struct RtspOpener {
    stamper: Stamper,
}

impl RtspOpener {
    pub fn new(stamper: Stamper) -> Self {
        Self { stamper }
    }
}

impl Opener for RtspOpener {
    fn open(&self, address: &Address) -> Result<Source, SourceError> {
        let plain = address.url.strip_prefix("rtsp://").is_some();
        if !plain || address.transport == Transport::Udp {
            return gst::open(address, &self.stamper);
        }
        let (sender, items) = mpsc::channel(super::QUEUE_UNITS);
        let outlet = Arc::new(Outlet::new(sender, self.stamper.clone()));
        let (losses, waiting) = (outlet.losses(), outlet.waiting());
        let (open, (is_closed, closed)) = (CancellationToken::new(), oneshot::channel());
        tokio::spawn(read(address.clone(), outlet, open.clone(), is_closed));
        Ok(Source::new(items, open.drop_guard()).watched(losses, waiting, closed))
    }
}

/// One connection from its beginning to its end.
async fn read(address: Address, outlet: Arc<Outlet>, stop: CancellationToken, is_closed: oneshot::Sender<()>) {
    let connected = tokio::select! {
        () = stop.cancelled() => return,
        connected = Dialogue::connect(&address) => connected,
    };
    match connected {
        Err(error) => outlet.end(error),
        Ok(mut dialogue) => {
            tokio::select! {
                () = stop.cancelled() => {}
                Err(error) = dialogue.receive(&outlet) => outlet.end(error),
            }
            let _ = tokio::time::timeout(LEAVE, dialogue.leave()).await;
        }
    }
    drop(is_closed);
}
#[cfg(test)]
mod tests;
