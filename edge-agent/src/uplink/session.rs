//! The session: dial, greet, report, obey, again and again.

use super::deliver::deliver;
use super::outbox::Window;
use super::slots::Slots;
use super::{PROTOCOL, UplinkError};
use crate::clock::Timekeeper;
use crate::identity::{self, Identity, IdentityFolder};
use crate::index::walk::{self, WalkError};
use crate::index::{Content, Index, Waiting};
use crate::keys::KeySet;
use bytes::Bytes;
use campanile_proto::edge::v1::edge_client::EdgeClient;
use campanile_proto::edge::v1::edge_message::Message as Up;
use campanile_proto::edge::v1::hub_message::Message as Down;
use campanile_proto::edge::v1::report::Body;
use campanile_proto::edge::v1::{
    Ack, Applied, Desired, EdgeMessage, Fetch, FetchClass, FetchRefused, Hello, HubTime, Report, SealedRecord,
    SequenceRange, SignedKeys, Welcome,
};
use campanile_proto::ids::Epoch;
use campanile_proto::kind::{Chain, Kind};
use campanile_proto::time::{Clock, MonoTime, WallTime};
use prost::Message;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Channel;

const MIN_WAIT: Duration = Duration::from_secs(1);
/// A thousand boxes whose hub comes back are all there within this.
const MAX_WAIT: Duration = Duration::from_secs(15);
const WELCOME_TIMEOUT: Duration = Duration::from_secs(20);
/// A session that lasted this long was a good one: the next attempt does not wait long.
const GOOD_SESSION: Duration = Duration::from_secs(10);
const RENEWAL_CHECK: Duration = Duration::from_secs(3600);
/// The hub's time is written down as an anchor this often; it comes each minute.
const ANCHOR_INTERVAL_US: i64 = 600_000_000;
/// On a living link a message is not later than this beyond the round trip.
const LINK_DELAY_US: i64 = 500_000;
const BATCH: usize = 64;

/// How the link stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Connecting,
    Connected,
    /// With the cause, for the installer.
    Apart(String),
}

/// What the hub wants of this box.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Wishes {
    pub generation: u64,
    /// 0: none said yet.
    pub retention_days: u32,
}

/// The uplink's parts; `run` is its life.
pub struct Uplink {
    pub folder: IdentityFolder,
    pub identity: Identity,
    pub index: Index,
    pub clock: Arc<dyn Clock>,
    pub timekeeper: Arc<Timekeeper>,
    pub keys: watch::Sender<Option<Arc<KeySet>>>,
    pub wishes: watch::Sender<Wishes>,
    pub standing: watch::Sender<Standing>,
    /// The media folder is walked again when this is told.
    pub rescan: Arc<Notify>,
}

impl Uplink {
    /// Keeps a session open until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut failures = 0;
        let mut renew_first = false;
        while !stop.is_cancelled() {
            self.standing.send_replace(Standing::Connecting);
            let began = tokio::time::Instant::now();
            let outcome = tokio::select! {
                outcome = self.once(renew_first) => outcome,
                () = stop.cancelled() => return,
            };
            let Err(error) = outcome;
            failures = if began.elapsed() >= GOOD_SESSION { 0 } else { failures + 1 };
            // A hub that does not know us may only find our certificate expired; our own clock cannot tell.
            renew_first = !renew_first && matches!(error.kind(), Kind::Unauthenticated | Kind::Expired);
            let text = Chain(&error).to_string();
            let wait = if matches!(error, UplinkError::Goodbye(_)) { MAX_WAIT } else { backoff(failures) };
            tracing::warn!(error = %text, wait_ms = wait.as_millis() as u64, "no session with the hub");
            self.standing.send_replace(Standing::Apart(text));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// One session, from dialling to its end.
    async fn once(&mut self, renew_first: bool) -> Result<std::convert::Infallible, UplinkError> {
        let mut channel = self.dial().await?;
        let validity = self.identity.validity()?;
        if renew_first || identity::is_due(validity, self.timekeeper.latest()) {
            match identity::renew(&self.folder, &self.identity, channel.clone()).await {
                Ok(renewed) => {
                    self.identity = renewed;
                    tracing::info!("certificate renewed");
                    channel = self.dial().await?;
                }
                // A certificate at half-life still opens a session.
                Err(error) => tracing::warn!(error = %Chain(&error), "certificate not renewed"),
            }
        }
        let (up, outbound) = mpsc::channel(BATCH);
        let asked = self.clock.mono();
        let hello = self.hello().await?;
        let _ = up.send(EdgeMessage { message: Some(Up::Hello(hello)) }).await;
        let mut client = EdgeClient::new(channel);
        let mut inbound = tokio::time::timeout(WELCOME_TIMEOUT, client.session(ReceiverStream::new(outbound)))
            .await
            .map_err(|_| UplinkError::NoWelcome(WELCOME_TIMEOUT.as_secs()))?
            .map_err(|status| UplinkError::from_status(&status))?
            .into_inner();
        let welcome = tokio::time::timeout(WELCOME_TIMEOUT, expect_welcome(&mut inbound))
            .await
            .map_err(|_| UplinkError::NoWelcome(WELCOME_TIMEOUT.as_secs()))??;
        if welcome.protocol != PROTOCOL {
            return Err(UplinkError::Protocol(welcome.protocol));
        }
        let held = welcome.held.iter().map(|range| range.last.saturating_sub(range.first) + 1).sum::<u64>();
        tracing::info!(hub = %self.identity.organisation_name, held, "session with the hub");
        self.index.acknowledge(self.index.epoch(), welcome.held).await?;
        self.standing.send_replace(Standing::Connected);
        let window = Mutex::new(Window::default());
        let room = Notify::new();
        let mut obey = Obey {
            uplink: self,
            window: &window,
            room: &room,
            up: up.clone(),
            asked: Some(asked),
            round_trip_us: 0,
            last_anchor: MonoTime(i64::MIN),
            deliveries: Deliveries::new(),
        };
        let renewals = async {
            loop {
                tokio::time::sleep(RENEWAL_CHECK).await;
                if identity::is_due(validity, self.timekeeper.latest()) {
                    // The next session begins with renewing.
                    return UplinkError::Goodbye("certificate is due for renewal".into());
                }
            }
        };
        let reports = Reports { index: &self.index, window: &window, room: &room, up };
        Err(tokio::select! {
            error = reports.send() => error,
            error = obey.listen(&mut inbound) => error,
            error = renewals => error,
        })
    }

    async fn dial(&self) -> Result<Channel, UplinkError> {
        let identity = &self.identity;
        Ok(identity::connect(&identity.hub, identity.pin()?, Some(identity), self.timekeeper.latest()).await?)
    }

    async fn hello(&self) -> Result<Hello, UplinkError> {
        let progress = self.index.progress().await?;
        Ok(Hello {
            oldest_protocol: PROTOCOL,
            newest_protocol: PROTOCOL,
            features: Vec::new(),
            epoch: self.index.epoch().into(),
            next_sequence: progress.next_sequence,
            acknowledged_through: progress.acknowledged_through,
            acknowledged_count: progress.acknowledged_count,
            boot_id: self.clock.boot().into(),
            software: concat!("campanile-edge ", env!("CARGO_PKG_VERSION")).to_owned(),
            now: Some(self.clock.instant(self.timekeeper.belief().1)),
            desired_generation: self.wishes.borrow().generation,
            key_generation: self.keys.borrow().as_ref().map_or(0, |keys| keys.generation),
        })
    }
}

async fn expect_welcome(
    inbound: &mut Streaming<campanile_proto::edge::v1::HubMessage>,
) -> Result<Welcome, UplinkError> {
    loop {
        let message = inbound.message().await.map_err(|status| UplinkError::from_status(&status))?;
        match message.ok_or_else(gone)?.message {
            Some(Down::Welcome(welcome)) => return Ok(welcome),
            Some(Down::Goodbye(goodbye)) => return Err(said_goodbye(&goodbye.reason)),
            _ => {}
        }
    }
}

fn gone() -> UplinkError {
    UplinkError::Ended { kind: Kind::Unavailable, sentence: "the stream is over".into() }
}

fn said_goodbye(reason: &str) -> UplinkError {
    match reason {
        "shutting down" => UplinkError::Ended { kind: Kind::Unavailable, sentence: reason.to_owned() },
        other => UplinkError::Goodbye(other.chars().filter(|c| !c.is_control()).take(200).collect()),
    }
}

/// Exponential, between half and whole of it at random: boxes do not come back in step after a hub's restart.
fn backoff(failures: u32) -> Duration {
    let full = MIN_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(5)).min(MAX_WAIT);
    let mut random = [0; 1];
    let share = if getrandom::fill(&mut random).is_ok() { f64::from(random[0]) / 255.0 } else { 0.5 };
    full.mul_f64(0.5 + share / 2.0)
}

/// Sends what waits, as the window allows.
struct Reports<'a> {
    index: &'a Index,
    window: &'a Mutex<Window>,
    room: &'a Notify,
    up: mpsc::Sender<EdgeMessage>,
}

impl Reports<'_> {
    async fn send(&self) -> UplinkError {
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

/// Does what the hub says.
struct Obey<'a> {
    uplink: &'a Uplink,
    window: &'a Mutex<Window>,
    room: &'a Notify,
    up: mpsc::Sender<EdgeMessage>,
    /// When the hello went out, until the first time came back.
    asked: Option<MonoTime>,
    round_trip_us: i64,
    last_anchor: MonoTime,
    deliveries: Deliveries,
}

impl Obey<'_> {
    async fn listen(&mut self, inbound: &mut Streaming<campanile_proto::edge::v1::HubMessage>) -> UplinkError {
        loop {
            let message = tokio::select! {
                message = inbound.message() => message,
                () = self.deliveries.joined() => continue,
            };
            let outcome = match message {
                Ok(Some(message)) => self.obey(message.message).await,
                Ok(None) => Err(gone()),
                Err(status) => Err(UplinkError::from_status(&status)),
            };
            if let Err(error) = outcome {
                return error;
            }
        }
    }

    async fn obey(&mut self, message: Option<Down>) -> Result<(), UplinkError> {
        match message {
            Some(Down::Ack(ack)) => self.acknowledged(ack).await,
            Some(Down::Fetch(fetch)) => self.fetch(fetch).await,
            Some(Down::Cancel(cancel)) => {
                self.deliveries.cancel(&cancel.fetch_id);
                Ok(())
            }
            Some(Down::Replay(replay)) => {
                tracing::info!(since_us = replay.since_us, "the hub asks for everything again");
                self.uplink.index.offer_again(WallTime(replay.since_us)).await?;
                self.uplink.rescan.notify_one();
                Ok(())
            }
            Some(Down::Keys(keys)) => {
                self.take_keys(&keys);
                Ok(())
            }
            Some(Down::Desired(desired)) => self.take_desired(desired).await,
            Some(Down::Time(time)) => self.take_time(&time).await,
            Some(Down::Goodbye(goodbye)) => Err(said_goodbye(&goodbye.reason)),
            Some(Down::Welcome(_)) | None => Ok(()),
        }
    }

    async fn acknowledged(&mut self, ack: Ack) -> Result<(), UplinkError> {
        let Ok(epoch) = Epoch::try_from(&ack.epoch) else { return Ok(()) };
        if epoch != self.uplink.index.epoch() {
            return Ok(());
        }
        if ack.expired > 0 || ack.refused > 0 {
            tracing::warn!(expired = ack.expired, refused = ack.refused, "the hub did not keep some reports");
        }
        // First the durable rows: a report that is in neither place would be sent twice.
        let ranges: Vec<SequenceRange> = ack.ranges;
        let sent = {
            let window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
            window.sequences().filter(|s| ranges.iter().any(|range| (range.first..=range.last).contains(s))).count()
        };
        self.uplink.index.acknowledge_sent(epoch, ranges.clone(), sent as u64).await?;
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        ranges.iter().for_each(|range| window.acknowledged(range.first, range.last));
        drop(window);
        self.room.notify_one();
        Ok(())
    }

    async fn fetch(&mut self, fetch: Fetch) -> Result<(), UplinkError> {
        if let Err(fetch_id) = self.deliveries.ask(fetch) {
            let reason = "too many fetches wait at this box".to_owned();
            let message = Some(Up::FetchRefused(FetchRefused { fetch_id, reason }));
            self.up.send(EdgeMessage { message }).await.map_err(|_| gone())?;
        }
        if let Err(error) = self.deliveries.begin(self.uplink).await {
            tracing::warn!(error = %Chain(&error), "no second connection for footage");
            for fetch_id in self.deliveries.give_up() {
                let reason = "the box cannot open a second connection".to_owned();
                let message = Some(Up::FetchRefused(FetchRefused { fetch_id, reason }));
                self.up.send(EdgeMessage { message }).await.map_err(|_| gone())?;
            }
        }
        Ok(())
    }

    /// Keys of an older generation never replace newer ones.
    fn take_keys(&self, signed: &SignedKeys) {
        let identity = &self.uplink.identity;
        let keys = match KeySet::verify(signed, &identity.organisation_key, identity.edge) {
            Ok(keys) => keys,
            Err(error) => return tracing::error!(error = %Chain(&error), "sealing keys refused"),
        };
        let known = self.uplink.keys.borrow().as_ref().map_or(0, |keys| keys.generation);
        if keys.generation < known {
            return tracing::warn!(known, delivered = keys.generation, "older sealing keys ignored");
        }
        if let Err(error) = self.uplink.folder.store_keys(signed) {
            tracing::error!(error = %Chain(&error), "sealing keys are used but not kept");
        }
        self.uplink.keys.send_replace(Some(Arc::new(keys)));
    }

    async fn take_desired(&self, desired: Desired) -> Result<(), UplinkError> {
        let mut problems = Vec::new();
        let generation = desired.generation;
        if generation >= self.uplink.wishes.borrow().generation {
            if (1..=7).contains(&desired.retention_days) {
                let wishes = Wishes { generation, retention_days: desired.retention_days };
                self.uplink.wishes.send_replace(wishes);
            } else {
                problems.push(format!("retention_days is {}, not 1 to 7", desired.retention_days));
            }
        }
        let applied = Up::Applied(Applied { generation, problems });
        self.up.send(EdgeMessage { message: Some(applied) }).await.map_err(|_| gone())
    }

    async fn take_time(&mut self, time: &HubTime) -> Result<(), UplinkError> {
        let now = self.uplink.clock.mono();
        let asked = match self.asked.take() {
            Some(asked) => {
                self.round_trip_us = now - asked;
                asked
            }
            None => MonoTime(now.0 - self.round_trip_us - LINK_DELAY_US),
        };
        let key = &self.uplink.identity.organisation_key;
        let Some(anchor) = self.uplink.timekeeper.take_hub_time(time, asked, key) else {
            tracing::error!("the hub's time is not signed by this box's organisation and is ignored");
            return Ok(());
        };
        if now.0.saturating_sub(self.last_anchor.0) < ANCHOR_INTERVAL_US {
            return Ok(());
        }
        self.last_anchor = now;
        let fact = crate::facts::Fact::Anchor(anchor);
        Ok(self.uplink.index.take(vec![fact], self.uplink.clock.utc(), now).await?)
    }
}

/// Deliveries of one session; they end with it.
struct Deliveries {
    slots: Slots<Fetch>,
    running: JoinSet<Bytes>,
    cancels: HashMap<Bytes, CancellationToken>,
    /// The second connection, made when the first footage is wanted.
    channel: Option<Channel>,
    index: Option<Index>,
}

impl Deliveries {
    fn new() -> Self {
        Self { slots: Slots::default(), running: JoinSet::new(), cancels: HashMap::new(), channel: None, index: None }
    }

    /// Gives the fetch's id back when too many wait.
    fn ask(&mut self, fetch: Fetch) -> Result<(), Bytes> {
        let class = FetchClass::try_from(fetch.class).unwrap_or_default();
        self.slots.ask(class, fetch).map_err(|refused| refused.fetch_id)
    }

    async fn begin(&mut self, uplink: &Uplink) -> Result<(), UplinkError> {
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

    fn cancel(&mut self, id: &Bytes) {
        self.slots.cancel(|fetch| fetch.fetch_id == *id);
        if let Some(cancel) = self.cancels.get(id) {
            cancel.cancel();
        }
    }

    /// Fetches that wait and will not be served.
    fn give_up(&mut self) -> Vec<Bytes> {
        std::iter::from_fn(|| {
            let fetch = self.slots.begin()?;
            self.slots.ended();
            Some(fetch.fetch_id)
        })
        .collect()
    }

    /// A delivery has ended: the next one begins. Never returns while none runs.
    async fn joined(&mut self) {
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
