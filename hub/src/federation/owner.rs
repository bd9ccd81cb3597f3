//! What the answering side needs of its hub: the door, and what lies behind it.

use crate::access::{Pass, Refusal, Request};
use crate::register::Root;
use bytes::Bytes;
use campanile_proto::federation::v1::{CameraCard, Listing, SearchHit, SignedEnvelope};
use campanile_proto::grid::CellSet;
use campanile_proto::ids::{CameraId, EventId, RequestId, RunId};
use campanile_proto::kind::Kind;
use campanile_proto::time::WallTime;
use campanile_proto::types::v1::{Act, Stream};
use futures::future::BoxFuture;

/// What a search looks for; `cameras` is never empty and all of it is granted.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub from: WallTime,
    pub to: WallTime,
    pub cameras: Vec<CameraId>,
    pub words: String,
    pub region: Option<CellSet>,
    pub limit: usize,
}

/// A thumbnail and whose it is.
#[derive(Debug, Clone)]
pub struct Picture {
    pub camera: CameraId,
    pub start: WallTime,
    pub jpeg: Bytes,
}

/// Why what was allowed did not come; the partner hears the kind alone.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot be released")]
pub struct NotReleased {
    pub what: &'static str,
    pub kind: Kind,
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

type Closing = Box<dyn FnOnce(u64, u64) -> BoxFuture<'static, ()> + Send + Sync>;

/// An access the door let in and the register holds; dropped without `close` it is closed all the same.
pub struct Entry {
    pub cameras: Vec<CameraId>,
    pub clause: String,
    closing: Closing,
}

impl Entry {
    pub fn new(cameras: Vec<CameraId>, clause: String, closing: Closing) -> Self {
        Self { cameras, clause, closing }
    }

    pub async fn close(self, items: u64, bytes: u64) {
        (self.closing)(items, bytes).await;
    }
}

/// The hub as its federation sees it.
pub trait Owner: Send + Sync + 'static {
    /// The door: its register entry is durable when this returns.
    fn enter(&self, request: Request) -> BoxFuture<'_, Result<Entry, Refusal>>;
    /// Registers what was refused before the door could judge it: who asked, for what, and the code.
    fn note_refused(&self, act: Act, who: String, code: String) -> BoxFuture<'_, ()>;
    fn search(&self, wanted: Wanted) -> BoxFuture<'_, Result<Vec<SearchHit>, NotReleased>>;
    fn cards(&self, cameras: Vec<CameraId>) -> BoxFuture<'_, Result<Vec<CameraCard>, NotReleased>>;
    fn picture(&self, event: EventId) -> BoxFuture<'_, Result<Option<Picture>, NotReleased>>;
    /// Footage under the access of this id, whose entry is open.
    fn listing(
        &self,
        access: RequestId,
        camera: CameraId,
        from: WallTime,
        to: WallTime,
    ) -> BoxFuture<'_, Result<Listing, NotReleased>>;
    fn init(
        &self,
        access: RequestId,
        camera: CameraId,
        stream: Stream,
        run: RunId,
    ) -> BoxFuture<'_, Result<Bytes, NotReleased>>;
    fn group(
        &self,
        access: RequestId,
        camera: CameraId,
        stream: Stream,
        run: RunId,
        range: (u64, u64),
        zero: WallTime,
    ) -> BoxFuture<'_, Result<Bytes, NotReleased>>;
    /// Our register's newest signed checkpoint.
    fn checkpoint(&self) -> BoxFuture<'_, Result<SignedEnvelope, NotReleased>>;
    /// Whether our register begins with the tree of this root.
    fn begins_with(&self, then: Root) -> BoxFuture<'_, Result<bool, NotReleased>>;
    /// Proof that our register of `old` leaves is the beginning of that of `new`.
    fn growth(&self, old: u64, new: u64) -> BoxFuture<'_, Result<Vec<[u8; 32]>, NotReleased>>;
}

impl Entry {
    /// Holds a pass of the door until it is closed.
    pub fn of(pass: Pass) -> Self {
        let (cameras, clause) = (pass.cameras().to_vec(), pass.clause().to_owned());
        Self::new(cameras, clause, Box::new(move |items, bytes| Box::pin(pass.close(items, bytes))))
    }
}
