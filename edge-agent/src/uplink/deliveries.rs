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
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// They end with their session.
pub(super) struct Deliveries {
    slots: Slots<Fetch>,
    running: JoinSet<Done>,
    cancels: HashMap<Bytes, CancellationToken>,
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
    Delivered { id: Bytes, class: FetchClass },
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
            cancels: HashMap::new(),
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
        let Some(channel) = &self.channel else { return };
        while let Some(fetch) = self.slots.begin() {
            let cancel = CancellationToken::new();
            let (id, class) = (fetch.fetch_id.clone(), FetchClass::try_from(fetch.class).unwrap_or_default());
            self.cancels.insert(id.clone(), cancel.clone());
            let (channel, index) = (channel.clone(), self.index.clone());
            let pace = if is_watched(class) { Pace::Watched } else { Pace::Bulk(self.watched.subscribe()) };
            self.watched.send_modify(|watched| *watched += usize::from(is_watched(class)));
            self.running.spawn(async move {
                deliver(channel, fetch, index, pace, cancel).await;
                Done::Delivered { id, class }
            });
        }
    }

    pub fn cancel(&mut self, id: &Bytes) {
        self.slots.cancel(|fetch| fetch.fetch_id == *id);
        if let Some(cancel) = self.cancels.get(id) {
            cancel.cancel();
        }
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
        match self.running.join_next().await {
            None => return std::future::pending().await,
            Some(Ok(Done::Dialled(Ok(channel)))) => {
                (self.channel, self.dialling) = (Some(channel), false);
            }
            Some(Ok(Done::Dialled(Err(error)))) => {
                tracing::warn!(error = %Chain(&error), "no second connection for footage");
                self.dialling = false;
                return Some(self.give_up());
            }
            Some(Ok(Done::Delivered { id, class })) => {
                self.cancels.remove(&id);
                self.watched.send_modify(|watched| *watched -= usize::from(is_watched(class)));
                self.slots.ended();
            }
            Some(Err(error)) => {
                tracing::error!(%error, "a delivery died");
                self.slots.ended();
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
