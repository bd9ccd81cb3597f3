//! One life of the agent, from starting its parts to ending them in order.

use super::ending::Ending;
use super::keep::keep;
use super::taking::Taking;
use super::{AgentError, Parts, cameras};
use crate::config::{CameraConfig, Config};
use crate::facts::{self, Fact, Facts, Lost};
use crate::health::Health;
use crate::identity::{CameraNames, Identity};
use crate::index::Index;
use crate::index::rescan::{self, ThisRun};
use crate::keys::{KeySet, KeysWatch};
use crate::media::stamp::Belief;
use crate::record::home::Home;
use crate::record::retain::{CameraRule, Folder, Foreseen, Retain, Rules};
use crate::supervise::{Dependencies, EdgeIdentity};
use crate::uplink::{Standing, Uplink, Wishes};
use campanile_proto::edge::v1::CameraState;
use campanile_proto::ids::CameraId;
use campanile_proto::kind::Chain;
use campanile_proto::types::v1::Instant;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

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
    let run = ThisRun { boot: parts.clock.boot(), started: parts.clock.mono() };
    let (facts, received, lost) = facts::channel();
    let (keys, keys_watch) = watch::channel(load_keys(parts, identity.as_ref()));
    let (standing, standing_watch) = watch::channel(Standing::Connecting);
    let off_since = parts.off_since.lock().unwrap_or_else(PoisonError::into_inner).take();
    let names = CameraNames::load(&parts.folder, parts.config.cameras.iter().map(|camera| camera.name.as_str()))?;
    let mut living = Living {
        cameras: start_cameras(parts, identity.as_ref(), &names, &facts, keys_watch, off_since.clone(), &stop),
        telling: CancellationToken::new(),
        taker: None,
        services: JoinSet::new(),
        ends: CancellationToken::new(),
        standing: standing_watch,
    };
    let folder = media_folder(parts, &names);
    // A full disk may be what the index waits for.
    let index = tokio::select! {
        index = stop.run_until_cancelled(parts.index()) => index,
        never = folder.keep_free() => match never {},
    };
    if let Some(index) = &index {
        if let Err(error) = index.end_gaps(off_since, parts.clock.utc()).await {
            tracing::error!(error = %Chain(&error), "gaps of the last run are not ended");
        }
        let beside = Beside {
            parts,
            index,
            run,
            rescan: Arc::new(Notify::new()),
            restarts: Arc::default(),
            camera_names: Arc::new(names.by_id()),
            folder,
            foreseen: watch::Sender::new(None),
        };
        living.taker = Some(tokio::spawn(beside.taking(lost.clone()).run(received)));
        beside.attend(&mut living, &facts, lost);
        if let Some(identity) = identity {
            beside.report(&mut living, identity, keys, standing);
        }
    }
    drop(facts);
    stop.cancelled().await;
    living.end(index.as_ref(), parts.ending().unwrap_or_else(Ending::begin)).await;
    Ok(())
}

/// What is done beside the cameras, once there is an index.
struct Beside<'a> {
    parts: &'a Parts,
    index: &'a Index,
    run: ThisRun,
    rescan: Arc<Notify>,
    restarts: Arc<AtomicU64>,
    camera_names: Arc<HashMap<CameraId, String>>,
    folder: Folder,
    foreseen: watch::Sender<Option<Foreseen>>,
}

impl Beside<'_> {
    fn taking(&self, lost: Arc<Lost>) -> Taking {
        Taking {
            index: self.index.clone(),
            clock: self.parts.clock.clone(),
            restarts: self.restarts.clone(),
            media_dir: self.parts.config.media_dir.clone(),
            run: self.run,
            rescan: self.rescan.clone(),
            lost,
        }
    }

    /// What an un-enrolled box does too.
    fn attend(&self, living: &mut Living, facts: &Facts, lost: Arc<Lost>) {
        let (services, ends, parts) = (&mut living.services, &living.ends, self.parts);
        let (index, media_dir, run) = (self.index.clone(), parts.config.media_dir.clone(), self.run);
        let rescan = self.rescan.clone();
        keep(services, "walk", ends, move || walk(index.clone(), media_dir.clone(), run, rescan.clone(), lost.clone()));
        let (home, rescan, stop) = (self.folder.home.clone(), self.rescan.clone(), ends.clone());
        keep(services, "disk", ends, move || home.clone().watch(rescan.clone(), stop.clone()));
        let (folder, foreseen) = (self.folder.clone(), self.foreseen.clone());
        let retain = Retain { folder, index: self.index.clone(), foreseen };
        let stop = ends.clone();
        keep(services, "retention", ends, move || retain.clone().run(stop.clone()));
        let (timekeeper, facts) = (parts.timekeeper.clone(), facts.clone());
        // The one service that tells facts: it ends with the cameras, before the others.
        let (telling, stop) = (&living.telling, living.telling.clone());
        keep(services, "time", telling, move || tell_time(timekeeper.clone(), facts.clone(), stop.clone()));
        let (wishes, path) = (parts.wishes.subscribe(), parts.config.state_dir.join("desired.json"));
        keep(services, "wishes", ends, move || keep_wishes(wishes.clone(), path.clone()));
    }

    fn report(
        &self,
        living: &mut Living,
        identity: Identity,
        keys: watch::Sender<Option<Arc<KeySet>>>,
        standing: watch::Sender<Standing>,
    ) {
        let (services, ends, parts) = (&mut living.services, &living.ends, self.parts);
        let identity = watch::Sender::new(identity);
        let health = Health {
            identity: identity.subscribe(),
            index: self.index.clone(),
            clock: parts.clock.clone(),
            timekeeper: parts.timekeeper.clone(),
            media_dir: parts.config.media_dir.clone(),
            analyse_restarts: self.restarts.clone(),
            camera_names: self.camera_names.clone(),
            foreseen: self.foreseen.subscribe(),
        };
        let stop = ends.clone();
        keep(services, "health", ends, move || health.clone().run(stop.clone()));
        let uplink = Uplink {
            folder: parts.folder.clone(),
            identity,
            index: self.index.clone(),
            clock: parts.clock.clone(),
            timekeeper: parts.timekeeper.clone(),
            keys,
            wishes: parts.wishes.clone(),
            standing,
            rescan: self.rescan.clone(),
        };
        let stop = ends.clone();
        keep(services, "uplink", ends, move || uplink.clone().run(stop.clone()));
    }
}

/// What is to be ended, in this order.
struct Living {
    cameras: JoinSet<()>,
    /// Stops the telling of the time, the last that tells facts once the cameras are gone.
    telling: CancellationToken,
    taker: Option<tokio::task::JoinHandle<()>>,
    services: JoinSet<()>,
    ends: CancellationToken,
    standing: watch::Receiver<Standing>,
}

impl Living {
    /// Cameras close their segments; what they told reaches the index; the hub hears of it, if it is there.
    async fn end(mut self, index: Option<&Index>, ending: Ending) {
        let all_ended = async { while self.cameras.join_next().await.is_some() {} };
        if ending.stage(CAMERAS, all_ended).await.is_none() {
            tracing::error!("a camera did not close its segments in time: the next start will");
            ending.stage(ABORTED, self.cameras.shutdown()).await;
        }
        self.telling.cancel();
        if let Some(mut taker) = self.taker
            && ending.stage(FACTS, &mut taker).await.is_none()
        {
            tracing::error!("facts were not written down in time: the next start reads the segments");
            taker.abort();
        }
        let all_reported = async {
            while let Some(index) = index
                && *self.standing.borrow() == Standing::Connected
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

fn media_folder(parts: &Parts, names: &CameraNames) -> Folder {
    Folder {
        home: Home::new(&parts.config.state_dir, &parts.config.media_dir),
        media_dir: parts.config.media_dir.clone(),
        timekeeper: parts.timekeeper.clone(),
        rules: rules(&parts.config, names),
        wishes: parts.wishes.subscribe(),
        full: parts.full.clone(),
        unnoted: Arc::default(),
    }
}

/// What each camera may keep, by its id.
fn rules(config: &Config, names: &CameraNames) -> Rules {
    let of_camera = |camera: &CameraConfig| {
        let rule = CameraRule { days: camera.days, max_bytes: camera.max_bytes };
        names.id(&camera.name).filter(|_| rule != CameraRule::default()).map(|id| (id, rule))
    };
    let cameras = config.cameras.iter().filter_map(of_camera).collect();
    Rules { days: config.retention.days, max_bytes: config.retention.max_bytes, cameras }
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
    names: &CameraNames,
    facts: &Facts,
    keys: KeysWatch,
    off_since: Option<Instant>,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let config = &parts.config;
    let timekeeper = parts.timekeeper.clone();
    let dependencies = Dependencies {
        clock: parts.clock.clone(),
        believe: Arc::new(move || Belief { trusted: timekeeper.trusted(), uncertainty_us: timekeeper.belief().1 }),
        keys,
        facts: facts.clone(),
        media_dir: config.media_dir.clone(),
        home: Home::new(&config.state_dir, &config.media_dir),
        identity: identity.map(|i| EdgeIdentity { organisation: i.organisation, edge: i.edge }),
        record_in_clear: config.record_in_clear && identity.is_none(),
        signer: identity.map(Identity::signer),
        retention_days: config.retention.days,
        wishes: parts.wishes.subscribe(),
        gaps: Default::default(),
        off_since,
        full: parts.full.clone(),
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
    tasks
}

/// Walks the media folder at the start, and whenever there is a reason.
async fn walk(index: Index, media_dir: PathBuf, run: ThisRun, again: Arc<Notify>, lost: Arc<Lost>) {
    let mut epochs = index.epochs();
    loop {
        match rescan::rescan(&index, &media_dir, run).await {
            Ok(summary) => tracing::info!(
                files = summary.files,
                walked = summary.walked,
                truncated = summary.truncated,
                set_aside = summary.set_aside,
                missing = summary.missing,
                overlong = summary.overlong,
                "media folder walked"
            ),
            Err(error) => tracing::error!(error = %Chain(&error), "media folder not walked"),
        }
        loop {
            tokio::select! {
                () = again.notified() => break,
                Ok(()) = epochs.changed() => {
                    tracing::warn!("the index was made anew: walking the media folder");
                    break;
                }
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
pub(super) fn read_wishes(state_dir: &Path) -> Wishes {
    let text = std::fs::read(state_dir.join("desired.json")).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

async fn keep_wishes(mut wishes: watch::Receiver<Wishes>, path: PathBuf) {
    while wishes.changed().await.is_ok() {
        let text = serde_json::to_vec(&*wishes.borrow_and_update()).unwrap_or_default();
        let path = path.clone();
        let kept = tokio::task::spawn_blocking(move || crate::identity::replace_file(&path, &text)).await;
        if let Err(error) = kept.map_err(std::io::Error::other).flatten() {
            tracing::error!(%error, "the hub's wishes are not kept");
        }
    }
    // Without an uplink nobody wishes anything.
    std::future::pending().await
}
