//! One life of the agent, from starting its parts to ending them in order.

use super::ending::Ending;
use super::{AgentError, Parts, cameras};
use crate::facts::{self, Fact, Facts, Lost};
use crate::health::Health;
use crate::identity::{CameraNames, Identity};
use crate::index::Index;
use crate::index::rescan::{self, ThisRun};
use crate::keys::{KeySet, KeysWatch};
use crate::media::stamp::Belief;
use crate::record::Live;
use crate::record::retain::Retain;
use crate::supervise::{Dependencies, EdgeIdentity};
use crate::uplink::{Standing, Uplink, Wishes};
use campanile_proto::edge::v1::CameraState;
use campanile_proto::ids::SegmentId;
use campanile_proto::kind::Chain;
use campanile_proto::time::Clock;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Facts are gathered this long into one durable step.
const GATHER: Duration = Duration::from_millis(150);
const MAX_FACTS: usize = 1024;
/// How often the start-up walk is repeated when facts were dropped, at most.
const RESCAN_CHECK: Duration = Duration::from_secs(10);
/// Cameras close their segments within this: a fragment is one second, a farewell to an analysing child two.
const CAMERAS: Duration = Duration::from_secs(5);
/// Tasks that are aborted end at their next step.
const ABORTED: Duration = Duration::from_millis(500);
/// What the cameras told is written down within this.
const FACTS: Duration = Duration::from_secs(2);
/// The last states of segments and cameras go out within this, if the hub is there.
const REPORTS: Duration = Duration::from_secs(3);
/// The system clock is told to the hub this often.
const ANCHOR_INTERVAL: Duration = Duration::from_secs(1800);

/// Lives until `stop`: cameras first, everything else beside them.
pub(super) async fn live(parts: &Parts, identity: Option<Identity>, stop: CancellationToken) -> Result<(), AgentError> {
    let started = ThisRun { boot: parts.clock.boot(), started: parts.clock.mono() };
    let (facts, received, lost) = facts::channel();
    let (keys, keys_watch) = watch::channel(load_keys(parts, identity.as_ref()));
    let (wishes, wishes_watch) = watch::channel(read_wishes(parts));
    let rescan = Arc::new(Notify::new());
    let analyse_restarts = Arc::new(AtomicU64::new(0));
    let ends = CancellationToken::new();
    let (standing, standing_watch) = watch::channel(Standing::Connecting);

    let cameras = start_cameras(parts, identity.as_ref(), &facts, keys_watch, &stop)?;
    let mut services = JoinSet::new();
    let taking = Taking {
        index: parts.index.clone(),
        clock: parts.clock.clone(),
        restarts: analyse_restarts.clone(),
        media_dir: parts.config.media_dir.clone(),
        run: started,
    };
    let taker = tokio::spawn(taking.run(received));
    services.spawn(walk(parts.index.clone(), parts.config.media_dir.clone(), started, rescan.clone(), lost));
    let retain = Retain {
        index: parts.index.clone(),
        timekeeper: parts.timekeeper.clone(),
        media_dir: parts.config.media_dir.clone(),
        days: parts.config.retention.days,
        max_bytes: parts.config.retention.max_bytes,
        wished_days: wishes_watch.clone(),
    };
    services.spawn(retain.run(ends.clone()));
    let telling = CancellationToken::new();
    services.spawn(tell_time(parts.timekeeper.clone(), facts.clone(), telling.clone()));
    services.spawn(keep_wishes(wishes_watch, parts.config.state_dir.join("desired.json")));
    if let Some(identity) = identity {
        let health = Health {
            identity: identity.clone(),
            index: parts.index.clone(),
            clock: parts.clock.clone(),
            timekeeper: parts.timekeeper.clone(),
            media_dir: parts.config.media_dir.clone(),
            analyse_restarts,
        };
        services.spawn(health.run(ends.clone()));
        let uplink = Uplink {
            folder: parts.folder.clone(),
            identity,
            index: parts.index.clone(),
            clock: parts.clock.clone(),
            timekeeper: parts.timekeeper.clone(),
            keys,
            wishes,
            standing,
            rescan,
        };
        services.spawn(uplink.run(ends.clone()));
    }
    drop(facts);
    let outcome = tokio::select! {
        () = stop.cancelled() => Ok(()),
        ended = services.join_next() => Err(died(ended)),
    };
    stop.cancel();
    let living = Living { cameras, telling, taker, services, ends, standing: standing_watch };
    living.end(&parts.index, parts.ending().unwrap_or_else(Ending::begin)).await;
    outcome
}

fn died(ended: Option<Result<(), tokio::task::JoinError>>) -> AgentError {
    if let Some(Err(error)) = ended {
        tracing::error!(%error, "a part of the agent died");
    }
    AgentError::Ended("beside the cameras")
}

/// What is to be ended, in this order.
struct Living {
    cameras: JoinSet<()>,
    /// Stops the telling of the time, the last that tells facts once the cameras are gone.
    telling: CancellationToken,
    taker: tokio::task::JoinHandle<()>,
    services: JoinSet<()>,
    ends: CancellationToken,
    standing: watch::Receiver<Standing>,
}

impl Living {
    /// Cameras close their segments; what they told reaches the index; the hub hears of it, if it is there.
    async fn end(mut self, index: &Index, ending: Ending) {
        let all_ended = async { while self.cameras.join_next().await.is_some() {} };
        if ending.stage(CAMERAS, all_ended).await.is_none() {
            tracing::error!("a camera did not close its segments in time: the next start will");
            ending.stage(ABORTED, self.cameras.shutdown()).await;
        }
        self.telling.cancel();
        if ending.stage(FACTS, &mut self.taker).await.is_none() {
            tracing::error!("facts were not written down in time: the next start reads the segments");
            self.taker.abort();
        }
        let all_reported = async {
            while *self.standing.borrow() == Standing::Connected
                && index.progress().await.is_ok_and(|progress| progress.waiting > 0)
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if ending.stage(REPORTS, all_reported).await.is_none() {
            tracing::info!("reports wait for the next start");
        }
        self.ends.cancel();
        if ending.stage(ABORTED, self.services.shutdown()).await.is_none() {
            tracing::error!("a service did not end in time and is left behind");
            self.services.detach_all();
        }
    }
}

fn load_keys(parts: &Parts, identity: Option<&Identity>) -> Option<Arc<KeySet>> {
    match parts.folder.load_keys(identity?) {
        Ok(keys) => Some(keys),
        Err(error) => {
            tracing::error!(error = %Chain(&error), "no sealing keys: nothing is recorded until the hub sends some");
            None
        }
    }
}

fn start_cameras(
    parts: &Parts,
    identity: Option<&Identity>,
    facts: &Facts,
    keys: KeysWatch,
    stop: &CancellationToken,
) -> Result<JoinSet<()>, AgentError> {
    let config = &parts.config;
    let names = CameraNames::load(&parts.folder, config.cameras.iter().map(|camera| camera.name.as_str()))?;
    let timekeeper = parts.timekeeper.clone();
    let dependencies = Dependencies {
        clock: parts.clock.clone(),
        believe: Arc::new(move || Belief { trusted: timekeeper.trusted(), uncertainty_us: timekeeper.belief().1 }),
        keys,
        facts: facts.clone(),
        media_dir: config.media_dir.clone(),
        identity: identity.map(|i| EdgeIdentity { organisation: i.organisation, edge: i.edge }),
        record_in_clear: config.record_in_clear,
        signer: identity.map(Identity::signer),
        retention_days: config.retention.days,
        live: Live::default(),
        analyser: std::env::current_exe().ok(),
    };
    let mut tasks = JoinSet::new();
    for camera in &config.cameras {
        if let Some(id) = names.id(&camera.name) {
            cameras::start(&mut tasks, Arc::new(camera.clone()), id, dependencies.clone(), stop.child_token());
        }
    }
    for (name, id) in names.others(config.cameras.iter().map(|camera| camera.name.as_str())) {
        let state = CameraState { camera_id: id.into(), name, removed: true, ..CameraState::default() };
        facts.tell(Fact::Camera(state));
    }
    Ok(tasks)
}

/// From facts to durable rows.
struct Taking {
    index: Index,
    clock: Arc<dyn Clock>,
    restarts: Arc<AtomicU64>,
    media_dir: PathBuf,
    run: ThisRun,
}

impl Taking {
    async fn run(self, mut facts: mpsc::Receiver<Fact>) {
        let mut gathered = Vec::new();
        while facts.recv_many(&mut gathered, MAX_FACTS).await > 0 {
            tokio::time::sleep(GATHER).await;
            while gathered.len() < MAX_FACTS
                && let Ok(fact) = facts.try_recv()
            {
                gathered.push(fact);
            }
            let restarts = gathered.iter().filter(|fact| matches!(fact, Fact::AnalyseRestarted(_))).count();
            self.restarts.fetch_add(restarts as u64, Ordering::Relaxed);
            let closed: Vec<SegmentId> = gathered.iter().filter_map(closed_segment).collect();
            let batch = std::mem::take(&mut gathered);
            if let Err(error) = self.index.take(batch, self.clock.utc(), self.clock.mono()).await {
                tracing::error!(error = %Chain(&error), "facts not written down");
            }
            for segment in closed {
                if let Err(error) = rescan::settle(&self.index, segment, &self.media_dir, self.run).await {
                    tracing::error!(error = %Chain(&error), "closed index segment not settled");
                }
            }
        }
    }
}

fn closed_segment(fact: &Fact) -> Option<SegmentId> {
    match fact {
        Fact::SegmentGrew { segment, closed: true, .. } => Some(*segment),
        _ => None,
    }
}

/// Walks the media folder at the start, and whenever there is a reason.
async fn walk(index: Index, media_dir: PathBuf, run: ThisRun, again: Arc<Notify>, lost: Arc<Lost>) {
    loop {
        match rescan::rescan(&index, &media_dir, run).await {
            Ok(summary) => tracing::info!(
                files = summary.files,
                walked = summary.walked,
                truncated = summary.truncated,
                set_aside = summary.set_aside,
                missing = summary.missing,
                "media folder walked"
            ),
            Err(error) => tracing::error!(error = %Chain(&error), "media folder not walked"),
        }
        loop {
            tokio::select! {
                () = again.notified() => break,
                () = tokio::time::sleep(RESCAN_CHECK) => if lost.take_rescan_needed() {
                    tracing::warn!(dropped = lost.count(), "facts were dropped: walking the media folder");
                    break;
                },
            }
        }
    }
}

async fn tell_time(timekeeper: Arc<crate::clock::Timekeeper>, facts: Facts, stop: CancellationToken) {
    loop {
        facts.tell(Fact::Anchor(timekeeper.system_anchor()));
        tokio::select! {
            () = tokio::time::sleep(ANCHOR_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// The hub's last wish holds also while there is no hub.
fn read_wishes(parts: &Parts) -> Wishes {
    let text = std::fs::read(parts.config.state_dir.join("desired.json")).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

async fn keep_wishes(mut wishes: watch::Receiver<Wishes>, path: PathBuf) {
    while wishes.changed().await.is_ok() {
        let text = serde_json::to_vec(&*wishes.borrow_and_update()).unwrap_or_default();
        if let Err(error) = crate::identity::replace_file(&path, &text) {
            tracing::error!(%error, "the hub's wishes are not kept");
        }
    }
    // Without an uplink nobody wishes anything.
    std::future::pending().await
}
