//! The fetches of one session, on a second connection.

use super::UplinkError;
use super::deliver::{Pace, deliver};
use super::session::Uplink;
use super::slots::Slots;
use crate::index::Index;
use bytes::Bytes;
use campanile_proto::edge::v1::{Fetch, FetchClass};
use campanile_proto::kind::Chain;
use std::collections::HashMap;
use std::future::Future;
use tokio::sync::watch;
use tokio::task::{self, JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// They end with their session.
pub(super) struct Deliveries {
    slots: Slots<Fetch>,
    running: JoinSet<Done>,
    /// By its task, so that one that dies is known too.
    under_way: HashMap<task::Id, UnderWay>,
    /// The second connection, made when the first footage is wanted.
    channel: Option<Channel>,
    dialling: bool,
    index: Index,
    /// How many that somebody waits for are under way.
    watched: watch::Sender<usize>,
}

/// What a task brought about.
enum Done {
    Dialled(Result<Channel, UplinkError>),
    Delivered,
}

/// One delivery.
struct UnderWay {
    fetch_id: Bytes,
    cancel: CancellationToken,
    watched: bool,
}

/// Fetches that will not be served.
pub(super) struct Refused {
    pub ids: Vec<Bytes>,
    pub reason: &'static str,
}

impl Deliveries {
    pub fn new(index: Index) -> Self {
        Self {
            slots: Slots::default(),
            running: JoinSet::new(),
            under_way: HashMap::new(),
            channel: None,
            dialling: false,
            index,
            watched: watch::Sender::new(0),
        }
    }

    /// Queues a fetch and sees to the connection; never waits for it.
    pub fn ask(&mut self, fetch: Fetch, uplink: &Uplink) -> Option<Refused> {
        let class = FetchClass::try_from(fetch.class).unwrap_or_default();
        if let Err(refused) = self.slots.ask(class, fetch) {
            return Some(Refused { ids: vec![refused.fetch_id], reason: "too many fetches wait at this box" });
        }
        if self.channel.is_none() && !self.dialling {
            self.dialling = true;
            let uplink = uplink.clone();
            self.running.spawn(async move { Done::Dialled(uplink.dial().await) });
        }
        self.start();
        None
    }

    fn start(&mut self) {
        let Some(channel) = self.channel.clone() else { return };
        while let Some(fetch) = self.slots.begin() {
            let (channel, index, cancel) = (channel.clone(), self.index.clone(), CancellationToken::new());
            let (fetch_id, watched) = (fetch.fetch_id.clone(), is_watched(fetch.class()));
            let pace = if watched { Pace::Watched } else { Pace::Bulk(self.watched.subscribe()) };
            let delivery = deliver(channel, fetch, index, pace, cancel.clone());
            self.run(UnderWay { fetch_id, cancel, watched }, delivery);
        }
    }

    fn run(&mut self, what: UnderWay, delivery: impl Future<Output = ()> + Send + 'static) {
        self.watched.send_modify(|watched| *watched += usize::from(what.watched));
        let task = self.running.spawn(async move {
            delivery.await;
            Done::Delivered
        });
        self.under_way.insert(task.id(), what);
    }

    /// However it came to its end.
    fn ended(&mut self, task: task::Id) {
        if let Some(what) = self.under_way.remove(&task) {
            self.watched.send_modify(|watched| *watched -= usize::from(what.watched));
            self.slots.ended();
        }
    }

    pub fn cancel(&mut self, id: &Bytes) {
        self.slots.cancel(|fetch| fetch.fetch_id == *id);
        self.under_way.values().filter(|what| what.fetch_id == *id).for_each(|what| what.cancel.cancel());
    }

    /// Fetches that wait and will not be served.
    fn give_up(&mut self) -> Refused {
        let begun = std::iter::from_fn(|| {
            let fetch = self.slots.begin()?;
            self.slots.ended();
            Some(fetch.fetch_id)
        });
        Refused { ids: begun.collect(), reason: "the box cannot open a second connection" }
    }

    /// Waits until a task is done, and does what follows from it. Never returns while none runs.
    pub async fn next(&mut self) -> Option<Refused> {
        match self.running.join_next_with_id().await {
            None => return std::future::pending().await,
            Some(Ok((_, Done::Dialled(Ok(channel))))) => {
                (self.channel, self.dialling) = (Some(channel), false);
            }
            Some(Ok((_, Done::Dialled(Err(error))))) => {
                tracing::warn!(error = %Chain(&error), "no second connection for footage");
                self.dialling = false;
                return Some(self.give_up());
            }
            Some(Ok((task, Done::Delivered))) => self.ended(task),
            Some(Err(error)) if self.under_way.contains_key(&error.id()) => {
                tracing::error!(%error, "a delivery died");
                self.ended(error.id());
            }
            Some(Err(error)) => {
                tracing::error!(%error, "dialling for footage died");
                self.dialling = false;
                return Some(self.give_up());
            }
        }
        self.start();
        None
    }
}

/// Somebody sits before a screen.
fn is_watched(class: FetchClass) -> bool {
    class >= FetchClass::Playback
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_delivery_that_dies_neither_holds_up_bulk_for_ever_nor_keeps_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let mut deliveries = Deliveries::new(Index::open(&folder.path().join("index.sqlite")).unwrap());
        let watched = deliveries.watched.subscribe();
        let begin = |deliveries: &mut Deliveries, ends: bool| {
            let fetch = Fetch { class: FetchClass::Live.into(), ..Fetch::default() };
            assert!(deliveries.slots.ask(FetchClass::Live, fetch).is_ok());
            assert!(deliveries.slots.begin().is_some(), "a place is free");
            let cancel = CancellationToken::new();
            let what = UnderWay { fetch_id: Bytes::new(), cancel, watched: true };
            deliveries.run(what, async move { assert!(ends, "on purpose") });
        };
        // More than there are places, one after the other.
        for ends in [true, false].repeat(10) {
            begin(&mut deliveries, ends);
            assert_eq!((*watched.borrow(), deliveries.under_way.len()), (1, 1));
            assert!(deliveries.next().await.is_none());
            assert_eq!((*watched.borrow(), deliveries.under_way.len()), (0, 0), "it ended well: {ends}");
        }
    }
}
