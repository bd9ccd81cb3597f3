//! One session: reports in, acknowledgements and wishes out.

use super::hello::{Opening, Rejected};
use super::sessions::Live;
use super::{Fleet, Wanted};
use crate::media::Keeper;
use campanile_proto::edge::v1::{
    CameraCondition, EdgeMessage, Goodbye, HubMessage, HubTime, Report, edge_message, hub_message,
};
use campanile_proto::ids::{EdgeId, FetchId};
use campanile_proto::kind::Chain;
use campanile_proto::signed;
use futures::{FutureExt, Stream, StreamExt};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{info, warn};

/// Reports that become durable together; a box away for a day has tens of thousands.
const MAX_BATCH: usize = 512;
/// Payload of one batch: bounds what a box can make the hub hold.
const MAX_BATCH_BYTES: usize = 8 << 20;

/// How long things may take; tests crank them.
#[derive(Debug, Clone, Copy)]
pub struct SessionTerms {
    /// For the first message.
    pub hello: Duration,
    /// After which a dead connection is known to be dead (HTTP/2 ping and its timeout, and some more): a
    /// second session that waited so long beside a first one is a second box.
    pub dead_known: Duration,
    pub hub_time_every: Duration,
    /// Beyond a replay's asking, before what came back is taken for all of it.
    pub replay_settles: Duration,
}

impl Default for SessionTerms {
    fn default() -> Self {
        Self {
            hello: Duration::from_secs(10),
            dead_known: crate::rpc::PING_EVERY + crate::rpc::PING_TIMEOUT + Duration::from_secs(2),
            hub_time_every: Duration::from_secs(60),
            replay_settles: Duration::from_secs(5),
        }
    }
}

pub(super) fn message(message: hub_message::Message) -> HubMessage {
    HubMessage { message: Some(message) }
}

pub(super) fn goodbye(reason: &str) -> HubMessage {
    message(hub_message::Message::Goodbye(Goodbye { reason: reason.to_owned() }))
}

/// A session whose opening went well.
struct Talk {
    fleet: Fleet,
    live: Arc<Live>,
    opening: Opening,
    asked: Instant,
    /// Since before the box was greeted.
    wanted: watch::Receiver<Wanted>,
}

type Inbound<E> = Pin<Box<dyn Stream<Item = Result<EdgeMessage, E>> + Send>>;

impl Fleet {
    /// Runs one session to its end, as a task of the fleet.
    pub fn serve_session<E: std::fmt::Display + Send + 'static>(
        &self,
        edge: EdgeId,
        inbound: impl Stream<Item = Result<EdgeMessage, E>> + Send + 'static,
        out: mpsc::Sender<HubMessage>,
    ) {
        let fleet = self.clone();
        self.0.tasks.spawn(async move { fleet.session(edge, Box::pin(inbound), out).await });
    }

    async fn session<E: std::fmt::Display>(self, edge: EdgeId, mut inbound: Inbound<E>, out: mpsc::Sender<HubMessage>) {
        let wanted = self.0.wanted.subscribe();
        let opened = tokio::select! {
            () = self.0.stop.cancelled() => Err(Rejected::Stopping),
            opened = self.open_session(edge, &mut inbound, &out) => opened,
        };
        let (live, opening) = match opened {
            Ok(opened) => opened,
            Err(rejected) => {
                warn!(%edge, reason = %rejected, "session not opened");
                let _ = out.send(goodbye(&rejected.goodbye())).await;
                return;
            }
        };
        info!(%edge, software = live.software, replay = opening.replay, "session open");
        let talk = Talk { fleet: self.clone(), live: live.clone(), opening, asked: Instant::now(), wanted };
        let reason = talk.run(inbound).await;
        self.0.sessions.leave(&live);
        info!(%edge, reason, "session ended");
    }

    /// None while this hub is not sure of its clock: a box destroys and names hours by what it is told.
    pub(super) fn hub_time(&self) -> Option<HubMessage> {
        if !self.0.keeper.may_destroy() {
            return None;
        }
        // How far this machine's clock may be off is not measured; a second is what NTP keeps easily.
        let (utc_us, uncertainty_us) = (self.0.clock.utc().0, 1_000_000_u64);
        let payload = [utc_us.to_le_bytes(), uncertainty_us.to_le_bytes()].concat();
        let signature = signed::sign(signed::EDGE, "HubTime", &payload, &self.0.identity.long_term);
        Some(message(hub_message::Message::Time(HubTime { utc_us, uncertainty_us, signature: signature.into() })))
    }
}

impl Talk {
    /// Until one side ends it; answers why.
    async fn run<E: std::fmt::Display>(mut self, mut inbound: Inbound<E>) -> String {
        let mut keys = self.fleet.0.keys.subscribe();
        let every = self.fleet.0.terms.hub_time_every;
        // The first went out with the welcome.
        let mut time = tokio::time::interval_at(Instant::now() + every, every);
        let live = self.live.clone();
        loop {
            let next = tokio::select! {
                biased;
                () = live.end.cancelled() => return self.part(live.reason()).await,
                () = self.fleet.0.stop.cancelled() => return self.part("shutting down").await,
                () = live.out.closed() => return "the box is gone".to_owned(),
                _ = time.tick() => match self.fleet.hub_time() {
                    Some(time) => self.say(time).await,
                    None => ControlFlow::Continue(()),
                },
                Ok(()) = keys.changed() => self.deliver_keys().await,
                Ok(()) = self.wanted.changed() => self.say(self.fleet.desired(self.live.edge)).await,
                heard = inbound.next() => match heard {
                    None => return "the box ended it".to_owned(),
                    Some(Err(error)) => return format!("the connection broke: {error}"),
                    Some(Ok(heard)) => self.hear(heard, &mut inbound).await,
                },
            };
            if let ControlFlow::Break(reason) = next {
                return reason;
            }
        }
    }

    async fn part(&self, reason: &str) -> String {
        // A box that takes nothing must not hold the hub: its queue is full, or it is gone.
        let _ = self.live.out.try_send(goodbye(reason));
        reason.to_owned()
    }

    async fn say(&self, message: HubMessage) -> ControlFlow<String> {
        tokio::select! {
            biased;
            () = self.live.end.cancelled() => ControlFlow::Break(self.part(self.live.reason()).await),
            sent = self.live.out.send(message) => match sent {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break("the box is gone".to_owned()),
            },
        }
    }

    async fn deliver_keys(&self) -> ControlFlow<String> {
        match self.fleet.signed_keys(self.live.edge).await {
            Ok(keys) => {
                self.say(message(hub_message::Message::Keys(keys))).await?;
                self.say(self.fleet.desired(self.live.edge)).await
            }
            Err(error) => {
                warn!(edge = %self.live.edge, error = %Chain(&error), "sealing keys not delivered");
                ControlFlow::Continue(())
            }
        }
    }

    async fn hear<E: std::fmt::Display>(
        &mut self,
        heard: EdgeMessage,
        inbound: &mut Inbound<E>,
    ) -> ControlFlow<String> {
        self.live.last_heard_us.store(self.fleet.0.clock.utc().0, Ordering::Relaxed);
        let (mut batch, mut bytes, mut broke) = (Vec::new(), 0, None);
        let mut next = Some(heard);
        while let Some(EdgeMessage { message }) = next.take() {
            match message {
                Some(edge_message::Message::Report(report)) => {
                    bytes += prost::Message::encoded_len(&report);
                    batch.push(report);
                }
                Some(edge_message::Message::FetchRefused(refused)) => {
                    if let Ok(id) = FetchId::try_from(&refused.fetch_id) {
                        self.fleet.0.fetches.refused(self.live.edge, id, &refused.reason);
                    }
                }
                Some(edge_message::Message::Applied(applied)) => {
                    for problem in applied.problems.iter().take(8) {
                        warn!(edge = %self.live.edge, generation = applied.generation, problem, "not applied");
                    }
                }
                Some(edge_message::Message::Hello(_)) => return ControlFlow::Break("a second hello".to_owned()),
                None => {}
            }
            if batch.len() >= MAX_BATCH || bytes >= MAX_BATCH_BYTES {
                break;
            }
            // What has arrived already becomes durable together with it.
            match inbound.next().now_or_never() {
                Some(Some(Ok(heard))) => next = Some(heard),
                Some(Some(Err(error))) => broke = Some(format!("the connection broke: {error}")),
                Some(None) => broke = Some("the box ended it".to_owned()),
                None => {}
            }
        }
        if !batch.is_empty() {
            self.take_in(batch).await?;
        }
        broke.map_or(ControlFlow::Continue(()), ControlFlow::Break)
    }

    async fn take_in(&mut self, batch: Vec<Report>) -> ControlFlow<String> {
        let edge = self.live.edge;
        let newest = batch.iter().map(|report| report.sequence).max().unwrap_or(0);
        if batch.iter().any(|report| report.epoch != self.live.epoch.as_bytes().as_slice()) {
            // What was held and what is acknowledged counts by the epoch of the hello.
            return ControlFlow::Break(self.part("a report of another epoch than the session's").await);
        }
        log_conditions(edge, &batch);
        let ack = match self.fleet.0.catalog.ingest(edge, batch).await {
            Ok(ack) => ack,
            Err(error) => {
                tracing::error!(%edge, error = %Chain(&error), "reports not kept");
                let _ = self.live.out.try_send(goodbye("shutting down"));
                return ControlFlow::Break("reports could not be kept".to_owned());
            }
        };
        self.say(message(hub_message::Message::Ack(ack))).await?;
        self.settle(newest).await;
        ControlFlow::Continue(())
    }

    /// After a replay was asked for and new reports come: what the box was told before the restore, and
    /// reports again under new numbers, is no hole any more.
    async fn settle(&mut self, newest: u64) {
        let settles = self.asked.elapsed() >= self.fleet.0.terms.replay_settles;
        if !(self.opening.replay && settles && newest >= self.opening.next_sequence) {
            return;
        }
        let Opening { acknowledged_through: through, lost, .. } = self.opening;
        match self.fleet.0.catalog.settle(self.live.edge, self.live.epoch, through, lost).await {
            Ok(()) => self.opening.replay = false,
            Err(error) => warn!(edge = %self.live.edge, error = %Chain(&error), "replay not settled"),
        }
    }
}

/// A camera that does not record is named in the hub's log with its cause, once a report.
fn log_conditions(edge: EdgeId, batch: &[Report]) {
    use campanile_proto::edge::v1::report::Body;
    for report in batch {
        let Some(Body::Camera(camera)) = &report.body else { continue };
        for stream in &camera.streams {
            if !matches!(stream.condition(), CameraCondition::Recording | CameraCondition::Connecting) {
                let (condition, detail) = (stream.condition().as_str_name(), stream.detail.chars().take(300));
                let detail: String = detail.collect();
                warn!(%edge, camera = camera.name, condition, detail, "camera does not record");
            }
        }
    }
}
