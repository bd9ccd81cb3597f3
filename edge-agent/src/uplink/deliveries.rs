//! The fetches of one session, on a second connection.

use super::UplinkError;
use super::deliver::deliver;
use super::session::Uplink;
use super::slots::Slots;
use crate::index::Index;
use bytes::Bytes;
use campanile_proto::edge::v1::{Fetch, FetchClass};
use std::collections::HashMap;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Deliveries of one session; they end with it.
pub(super) struct Deliveries {
    slots: Slots<Fetch>,
    running: JoinSet<Bytes>,
    cancels: HashMap<Bytes, CancellationToken>,
    /// The second connection, made when the first footage is wanted.
    channel: Option<Channel>,
    index: Option<Index>,
}

impl Deliveries {
    pub fn new() -> Self {
        Self { slots: Slots::default(), running: JoinSet::new(), cancels: HashMap::new(), channel: None, index: None }
    }

    /// Gives the fetch's id back when too many wait.
    pub fn ask(&mut self, fetch: Fetch) -> Result<(), Bytes> {
        let class = FetchClass::try_from(fetch.class).unwrap_or_default();
        self.slots.ask(class, fetch).map_err(|refused| refused.fetch_id)
    }

    pub async fn begin(&mut self, uplink: &Uplink) -> Result<(), UplinkError> {
        self.index = Some(uplink.index.clone());
        if self.channel.is_none() {
            self.channel = Some(uplink.dial().await?);
        }
        self.start();
        Ok(())
    }

    fn start(&mut self) {
        let (Some(channel), Some(index)) = (&self.channel, &self.index) else { return };
        while let Some(fetch) = self.slots.begin() {
            let cancel = CancellationToken::new();
            let id = fetch.fetch_id.clone();
            self.cancels.insert(id.clone(), cancel.clone());
            let (channel, index) = (channel.clone(), index.clone());
            self.running.spawn(async move {
                deliver(channel, fetch, index, cancel).await;
                id
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
    pub fn give_up(&mut self) -> Vec<Bytes> {
        std::iter::from_fn(|| {
            let fetch = self.slots.begin()?;
            self.slots.ended();
            Some(fetch.fetch_id)
        })
        .collect()
    }

    /// A delivery has ended: the next one begins. Never returns while none runs.
    pub async fn joined(&mut self) {
        match self.running.join_next().await {
            None => std::future::pending().await,
            Some(Ok(id)) => {
                self.cancels.remove(&id);
            }
            Some(Err(error)) => tracing::error!(%error, "a delivery died"),
        }
        self.slots.ended();
        self.start();
    }
}
