//! Sends what waits, as the window allows.

use super::UplinkError;
use super::outbox::Window;
use super::session::gone;
use crate::index::{Content, Index, Waiting};
use campanile_proto::edge::v1::edge_message::Message as Up;
use campanile_proto::edge::v1::report::Body;
use campanile_proto::edge::v1::{EdgeMessage, Report, SealedRecord};
use campanile_proto::ids::Epoch;
use campanile_proto::kind::{Chain, Kind};
use campanile_proto::segment::{ReadError, Record, SegmentReader};
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
    /// Of the hello: an index made anew since counts another one's sequences.
    pub epoch: Epoch,
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
        let batch = self.index.waiting(self.epoch, room, except).await?.ok_or(UplinkError::IndexMadeAnew)?;
        let any = !batch.is_empty();
        for waiting in batch {
            let sequence = waiting.sequence;
            match body(waiting.content.clone()).await {
                Ok(Some(body)) => self.report(waiting, body).await?,
                Ok(None) => self.index.withdraw(self.epoch, sequence).await?,
                Err(error) if error.kind() == Kind::Invalid => {
                    tracing::warn!(error = %Chain(&error), "a record cannot be read and is not reported");
                    self.index.withdraw(self.epoch, sequence).await?;
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
            epoch: self.epoch.into(),
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
async fn body(content: Content) -> Result<Option<Body>, ReadError> {
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

async fn read_record(path: PathBuf, offset: u64) -> Result<Record, ReadError> {
    match tokio::task::spawn_blocking(move || SegmentReader::open(&path)?.record_at(offset)).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Fact;
    use campanile_proto::ids::ObjectId;
    use campanile_proto::time::{MonoTime, WallTime};

    #[tokio::test]
    async fn a_session_never_sends_the_sequences_of_an_index_that_was_made_anew_since_its_hello() {
        let folder = tempfile::tempdir().unwrap();
        let index = Index::open(&folder.path().join("index.sqlite")).unwrap();
        let gap = Fact::Gap { object: ObjectId::from_u128(1), gap: Default::default() };
        index.take(vec![gap], WallTime(crate::specimen::NOON), MonoTime(0)).await.unwrap();
        let (window, room) = (Mutex::new(Window::default()), Notify::new());
        let batch = async |epoch| {
            let (up, mut sent) = mpsc::channel(BATCH);
            let reports = Reports { index: &index, epoch, window: &window, room: &room, up };
            let outcome = reports.batch(&mut HashSet::new()).await;
            (outcome, sent.try_recv().ok().and_then(|message: EdgeMessage| message.message))
        };
        let (outcome, sent) = batch(Epoch::random()).await;
        assert!(matches!(outcome, Err(UplinkError::IndexMadeAnew)) && sent.is_none(), "{outcome:?} {sent:?}");
        // Control: under its own epoch.
        let (outcome, sent) = batch(index.epoch()).await;
        assert!(matches!((&outcome, &sent), (Ok(true), Some(Up::Report(_)))), "{outcome:?} {sent:?}");
    }
}
