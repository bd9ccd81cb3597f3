//! Footage asked of a box over its session, and delivered by it on a stream of its own.

use super::Fleet;
use super::session::message;
use crate::catalog::EdgeStanding;
use campanile_proto::edge::v1::{
    CancelFetch, DeliverDown, DeliverRecord, DeliverSegment, DeliverUp, Fetch, HubMessage, deliver_down, deliver_up,
    hub_message,
};
use campanile_proto::ids::{CameraId, EdgeId, FetchId};
use campanile_proto::kind::Kind;
use futures::{Stream, StreamExt};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Until the box opens its delivery: over 4G, with a disk to wake.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Between one record and the next.
const ITEM_TIMEOUT: Duration = Duration::from_secs(15);
/// Payload bytes a box may send before any was read; one record may go beyond it.
const WINDOW_BYTES: u64 = 8 << 20;
/// Outstanding payload beyond which a box does not keep to its window: the rest is what it may send before the
/// first window reaches it, and init sections, which it does not count.
const MAX_OUTSTANDING_BYTES: u64 = 2 * WINDOW_BYTES;
/// Read bytes are given back in steps of this.
const WINDOW_STEP: u64 = 1 << 20;
/// Records between the wire and the reader.
const ITEMS: usize = 64;
/// Headers, links and wrapped keys of one message, which no window counts.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// Fetches one hub waits for at once.
const MAX_FETCHES: usize = 1_024;

#[derive(Debug, Clone, PartialEq)]
pub enum FetchItem {
    /// The records that follow are of this segment.
    Segment(DeliverSegment),
    Record(DeliverRecord),
}

/// Why footage does not come.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    #[error("no camera {0} is known")]
    CameraUnknown(CameraId),
    #[error("box {name} is not connected")]
    BoxOffline { name: String },
    #[error("box {name} does not take the request now")]
    BoxBusy { name: String },
    #[error("the box refused: {0}")]
    Refused(String),
    #[error("the box did not begin to deliver within {} s", OPEN_TIMEOUT.as_secs())]
    NotOpened,
    #[error("the box stopped delivering for {} s", ITEM_TIMEOUT.as_secs())]
    Stalled,
    #[error("the delivery broke off: {0}")]
    Broken(String),
    #[error("the hub waits for too many deliveries already")]
    TooMany,
}

impl FetchError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::CameraUnknown(_) => Kind::NotFound,
            Self::BoxBusy { .. } | Self::TooMany => Kind::Exhausted,
            Self::Refused(_) => Kind::Conflict,
            Self::BoxOffline { .. } | Self::NotOpened | Self::Stalled | Self::Broken(_) => Kind::Unavailable,
        }
    }
}

/// `Ok(None)`: all came. A channel that ends without it was cut off.
type Item = Result<Option<FetchItem>, FetchError>;

/// A fetch that no delivery was opened for yet.
struct Waiting {
    edge: EdgeId,
    items: mpsc::Sender<Item>,
    windows: mpsc::UnboundedReceiver<u64>,
}

/// Fetches, from the asking to the end of their delivery. One lock for both, so that a fetch on its way from
/// waiting to running is in one of them for whoever ends a box.
#[derive(Default)]
pub(super) struct Fetches(Mutex<Asked>);

#[derive(Default)]
struct Asked {
    waiting: HashMap<FetchId, Waiting>,
    /// Deliveries under way, to be broken when their box is revoked.
    running: HashMap<FetchId, (EdgeId, CancellationToken)>,
}

impl Asked {
    fn take_waiting(&mut self, edge: EdgeId, id: FetchId) -> Option<Waiting> {
        if self.waiting.get(&id).is_some_and(|fetch| fetch.edge == edge) { self.waiting.remove(&id) } else { None }
    }
}

impl Fetches {
    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The box said no before it delivered anything.
    pub fn refused(&self, edge: EdgeId, id: FetchId, reason: &str) {
        if let Some(fetch) = self.asked().take_waiting(edge, id) {
            let reason = reason.chars().filter(|c| !c.is_control()).take(200).collect();
            let _ = fetch.items.try_send(Err(FetchError::Refused(reason)));
        }
    }

    /// Nothing more is taken from a box.
    pub fn end(&self, edge: EdgeId) {
        let mut asked = self.asked();
        asked.waiting.retain(|_, fetch| fetch.edge != edge);
        asked.running.values().filter(|(of, _)| *of == edge).for_each(|(_, end)| end.cancel());
    }
}

/// What the box delivers. Dropping it cancels the rest.
pub struct FetchStream {
    fleet: Fleet,
    id: FetchId,
    edge: EdgeId,
    items: mpsc::Receiver<Item>,
    windows: mpsc::UnboundedSender<u64>,
    read: u64,
    begun: bool,
    ended: bool,
}

impl FetchStream {
    /// The next record; `None` once all came, or after an error.
    pub async fn next(&mut self) -> Option<Result<FetchItem, FetchError>> {
        if self.ended {
            return None;
        }
        let patience = if self.begun { ITEM_TIMEOUT } else { OPEN_TIMEOUT };
        let item = match tokio::time::timeout(patience, self.items.recv()).await {
            Ok(Some(item)) => item.transpose(),
            // The box was revoked, or the hub stops.
            Ok(None) => Some(Err(FetchError::Broken("it was cut off".to_owned()))),
            Err(_) if self.begun => Some(Err(FetchError::Stalled)),
            Err(_) => Some(Err(FetchError::NotOpened)),
        };
        self.begun = true;
        match &item {
            Some(Ok(FetchItem::Record(record))) => self.give_back(record.payload.len() as u64),
            Some(Ok(FetchItem::Segment(_))) => {}
            Some(Err(_)) => {
                self.cancel();
                self.ended = true;
            }
            None => self.ended = true,
        }
        item
    }

    fn give_back(&mut self, bytes: u64) {
        self.read += bytes;
        if self.read >= WINDOW_STEP {
            // A delivery that has ended wants no more.
            let _ = self.windows.send(std::mem::take(&mut self.read));
        }
    }

    fn cancel(&self) {
        let mut asked = self.fleet.0.fetches.asked();
        if let Some((_, end)) = asked.running.get(&self.id) {
            end.cancel();
        }
        let unopened = asked.waiting.remove(&self.id).is_some();
        drop(asked);
        if let (true, Some(session)) = (unopened, self.fleet.0.sessions.of(self.edge)) {
            let cancel = CancelFetch { fetch_id: self.id.into() };
            let _ = session.out.try_send(message(hub_message::Message::Cancel(cancel)));
        }
    }
}

impl Drop for FetchStream {
    fn drop(&mut self) {
        if !self.ended {
            self.cancel();
        }
    }
}

impl Fleet {
    /// Asks the camera's box. The fetch id and the camera are set here.
    pub fn fetch(&self, camera: CameraId, fetch: Fetch) -> Result<FetchStream, FetchError> {
        let edge = self.0.catalog.owner(camera).ok_or(FetchError::CameraUnknown(camera))?;
        let name = || self.registered(edge).map_or_else(|| edge.to_string(), |row| row.name);
        let session = self.0.sessions.of(edge).ok_or_else(|| FetchError::BoxOffline { name: name() })?;
        let id = FetchId::random();
        let (items_in, items) = mpsc::channel(ITEMS);
        let (windows, windows_out) = mpsc::unbounded_channel();
        {
            let mut asked = self.0.fetches.asked();
            if asked.waiting.len() >= MAX_FETCHES {
                return Err(FetchError::TooMany);
            }
            asked.waiting.insert(id, Waiting { edge, items: items_in, windows: windows_out });
        }
        let (begun, ended) = (false, false);
        let stream = FetchStream { fleet: self.clone(), id, edge, items, windows, read: 0, begun, ended };
        let fetch = Fetch { fetch_id: id.into(), camera_id: camera.into(), ..fetch };
        let asked: HubMessage = message(hub_message::Message::Fetch(fetch));
        session.out.try_send(asked).map_err(|_| FetchError::BoxBusy { name: name() })?;
        Ok(stream)
    }

    /// Takes a delivery that `edge` opened to whoever waits for it, as a task of the fleet.
    pub fn serve_delivery<E: std::fmt::Display + Send + 'static>(
        &self,
        edge: EdgeId,
        inbound: impl Stream<Item = Result<DeliverUp, E>> + Send + 'static,
        down: mpsc::Sender<DeliverDown>,
    ) {
        let fleet = self.clone();
        self.0.tasks.spawn(async move { fleet.delivery(edge, Box::pin(inbound), down).await });
    }

    async fn delivery<E: std::fmt::Display>(
        self,
        edge: EdgeId,
        mut inbound: Pin<Box<dyn Stream<Item = Result<DeliverUp, E>> + Send>>,
        down: mpsc::Sender<DeliverDown>,
    ) {
        let first = tokio::time::timeout(OPEN_TIMEOUT, inbound.next()).await;
        let Ok(Some(Ok(DeliverUp { message: Some(deliver_up::Message::Open(open)) }))) = first else { return };
        let Ok(id) = FetchId::try_from(&open.fetch_id) else { return };
        let Some((Waiting { items, mut windows, .. }, end)) = self.begin_delivery(edge, id) else {
            let _ = down.send(cancel()).await;
            return;
        };
        let _ = down.send(window(WINDOW_BYTES)).await;
        let (mut more_windows, mut budget) = (true, Budget { allowed: MAX_OUTSTANDING_BYTES, taken: 0 });
        loop {
            tokio::select! {
                biased;
                () = end.cancelled() => break,
                () = self.0.stop.cancelled() => break,
                step = windows.recv(), if more_windows => match step {
                    Some(bytes) => {
                        budget.allowed += bytes;
                        let _ = down.send(window(bytes)).await;
                    }
                    None => more_windows = false,
                },
                heard = inbound.next() => {
                    let item = match heard {
                        Some(Ok(up)) => read(up).and_then(|item| budget.take(item)),
                        Some(Err(error)) => Err(FetchError::Broken(error.to_string().chars().take(200).collect())),
                        None => Err(FetchError::Broken("the box ended it without saying so".to_owned())),
                    };
                    let last = !matches!(item, Ok(Some(_)));
                    let sent = tokio::select! {
                        () = end.cancelled() => false,
                        sent = items.send(item) => sent.is_ok(),
                    };
                    if last || !sent {
                        break;
                    }
                }
            }
        }
        self.0.fetches.asked().running.remove(&id);
        let _ = down.try_send(cancel());
    }

    /// From waiting to running, unless the box was shut out since it opened the delivery: it is marked as shut
    /// out before its fetches are ended.
    fn begin_delivery(&self, edge: EdgeId, id: FetchId) -> Option<(Waiting, CancellationToken)> {
        let mut asked = self.0.fetches.asked();
        let fetch = asked.take_waiting(edge, id)?;
        let good = self.registered(edge).is_none_or(|row| row.standing == EdgeStanding::Good);
        if !good || self.is_revoked(edge) {
            return None;
        }
        let end = CancellationToken::new();
        asked.running.insert(id, (edge, end.clone()));
        Some((fetch, end))
    }
}

/// Payload bytes a box may send, and has sent.
struct Budget {
    allowed: u64,
    taken: u64,
}

impl Budget {
    /// One record may go beyond what is allowed, none may begin there.
    fn take(&mut self, item: Option<FetchItem>) -> Item {
        let broken = |why: &str| Err(FetchError::Broken(why.to_owned()));
        let beside = match &item {
            None => return Ok(item),
            Some(FetchItem::Segment(segment)) => segment.header.len() + segment.wrapped_key.len(),
            Some(FetchItem::Record(record)) => {
                if self.taken >= self.allowed && !record.payload.is_empty() {
                    return broken("the box sends more than it was allowed");
                }
                self.taken += record.payload.len() as u64;
                record.header.len() + record.link.len()
            }
        };
        if beside > MAX_HEADER_BYTES { broken("a header of more than 64 KiB") } else { Ok(item) }
    }
}

fn read(up: DeliverUp) -> Item {
    match up.message {
        Some(deliver_up::Message::Segment(segment)) => Ok(Some(FetchItem::Segment(segment))),
        Some(deliver_up::Message::Record(record)) => Ok(Some(FetchItem::Record(record))),
        Some(deliver_up::Message::End(end)) if end.complete => Ok(None),
        Some(deliver_up::Message::End(end)) => {
            Err(FetchError::Broken(end.reason.chars().filter(|c| !c.is_control()).take(200).collect()))
        }
        Some(deliver_up::Message::Open(_)) => Err(FetchError::Broken("it was opened twice".to_owned())),
        None => Err(FetchError::Broken("a message this version does not know".to_owned())),
    }
}

fn window(bytes: u64) -> DeliverDown {
    DeliverDown { message: Some(deliver_down::Message::WindowBytes(bytes)) }
}

fn cancel() -> DeliverDown {
    DeliverDown { message: Some(deliver_down::Message::Cancel(true)) }
}
