//! Sends what waits, as the window allows.

use super::UplinkError;
use super::outbox::Window;
use super::session::gone;
use crate::index::walk::{self, WalkError};
use crate::index::{Content, Index, Waiting};
use campanile_proto::edge::v1::edge_message::Message as Up;
use campanile_proto::edge::v1::report::Body;
use campanile_proto::edge::v1::{EdgeMessage, Report, SealedRecord};
use campanile_proto::kind::{Chain, Kind};
use prost::Message;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use tokio::sync::{Notify, mpsc};

/// Rows read at once.
pub(super) const BATCH: usize = 64;

/// One session's reports.
pub(super) struct Reports<'a> {
    pub index: &'a Index,
    pub window: &'a Mutex<Window>,
    pub room: &'a Notify,
    pub up: mpsc::Sender<EdgeMessage>,
}

impl Reports<'_> {
    pub async fn send(&self) -> UplinkError {
        let mut offered = self.index.offered();
        // Not readable now; another session tries again.
        let mut skipped = HashSet::new();
        loop {
            offered.borrow_and_update();
            match self.batch(&mut skipped).await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => return error,
            }
            tokio::select! {
                changed = offered.changed() => if changed.is_err() { return gone() },
                () = self.room.notified() => {}
            }
        }
    }

    /// Sends one batch; false when there is nothing to send, or no room.
    async fn batch(&self, skipped: &mut HashSet<u64>) -> Result<bool, UplinkError> {
        let (room, mut except) = {
            let window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
            (window.room().min(BATCH), window.sequences().collect::<HashSet<_>>())
        };
        if room == 0 {
            return Ok(false);
        }
        except.extend(skipped.iter());
        let batch = self.index.waiting(room, except).await?;
        let any = !batch.is_empty();
        for waiting in batch {
            let sequence = waiting.sequence;
            match body(waiting.content.clone()).await {
                Ok(Some(body)) => self.report(waiting, body).await?,
                Ok(None) => self.index.withdraw(sequence).await?,
                Err(error) if error.kind() == Kind::Invalid => {
                    tracing::warn!(error = %Chain(&error), "a record cannot be read and is not reported");
                    self.index.withdraw(sequence).await?;
                }
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "a record cannot be read now");
                    skipped.insert(sequence);
                }
            }
        }
        Ok(any)
    }

    async fn report(&self, waiting: Waiting, body: Body) -> Result<(), UplinkError> {
        let report = Report {
            epoch: self.index.epoch().into(),
            sequence: waiting.sequence,
            object_id: waiting.object.into(),
            revision: waiting.revision,
            body: Some(body),
        };
        let size = report.encoded_len();
        self.window.lock().unwrap_or_else(PoisonError::into_inner).sent(waiting.sequence, size);
        self.up.send(EdgeMessage { message: Some(Up::Report(report)) }).await.map_err(|_| gone())
    }
}

/// The body of a report; a record is read from its segment's file. None: it is gone.
async fn body(content: Content) -> Result<Option<Body>, WalkError> {
    match content {
        Content::Gone => Ok(None),
        Content::Body(body) => Ok(Some(body)),
        Content::Record { path, offset, segment_header, wrapped_key } => {
            let record = read_record(path, offset).await?;
            let (header, payload) = (record.header, record.payload);
            Ok(Some(Body::Sealed(SealedRecord { segment_header, wrapped_key, header, payload })))
        }
    }
}

async fn read_record(path: PathBuf, offset: u64) -> Result<campanile_proto::segment::Record, WalkError> {
    match tokio::task::spawn_blocking(move || walk::record_at(&path, offset)).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
