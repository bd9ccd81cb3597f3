//! The agent's wiring: who is started with what, who watches whom, and in which order all of it ends.
//!
//! Belongs here: making the parts, joining their tasks, the shutdown order.
//! Does not belong here: what any part does.
//! Invariant: cameras record before anything else is ready and after everything else failed; only a disk or a
//! configuration that cannot be used keeps them from it.

mod alive;
mod cameras;
mod ending;
mod keep;
mod lock;
mod notify;
mod reindex;
mod services;
mod taking;
#[cfg(test)]
mod tests;

pub use self::reindex::{Reindexed, reindex};

use self::ending::Ending;
use self::lock::Locks;
use crate::clock::Timekeeper;
use crate::config::Config;
use crate::identity::{IdentityError, IdentityFolder};
use crate::index::{Index, IndexError};
use crate::record::segment::SegmentError;
use crate::uplink::Wishes;
use campanile_proto::kind::{Chain, Kind};
use campanile_proto::time::Clock;
use campanile_proto::types::v1::Instant;
use sd_notify::NotifyState;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::sync::{Notify, OnceCell, watch};
use tokio_util::sync::CancellationToken;

/// How often an un-enrolled box looks whether it was enrolled.
const ENROLMENT_CHECK: Duration = Duration::from_secs(1);
/// How exactly a start knows since when the box was off, where no footage says it better.
const CLOCK_INTERVAL: Duration = Duration::from_secs(20);
/// Before an index that cannot be opened is tried again; doubles up to the second value.
const FIRST_OPEN: Duration = Duration::from_millis(500);
const LONGEST_OPEN: Duration = Duration::from_secs(60);
/// The index brings its log into the database within this.
const FLUSH: Duration = Duration::from_secs(2);

/// Why the agent cannot work at all.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("cannot make the folder {path}")]
    MakeFolder { path: PathBuf, source: std::io::Error },
    #[error("there is no folder {path}")]
    NoFolder { path: PathBuf, source: std::io::Error },
    #[error("another agent records into {path}")]
    InUse { path: PathBuf },
    #[error("cannot lock the folder {path}")]
    Lock { path: PathBuf, source: std::io::Error },
    #[error("cannot use the identity of this box")]
    Identity(#[from] IdentityError),
    #[error("the disk of the recordings cannot be used")]
    Disk(#[from] SegmentError),
    #[error("the index cannot be made anew")]
    Index(#[from] IndexError),
}

impl AgentError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::MakeFolder { .. } | Self::Lock { .. } => Kind::Internal,
            Self::InUse { .. } => Kind::Conflict,
            Self::NoFolder { .. } => Kind::NotFound,
            Self::Identity(error) => error.kind(),
            Self::Disk(error) => error.kind(),
            Self::Index(error) => error.kind(),
        }
    }
}

/// What lives as long as the process.
pub(crate) struct Parts {
    pub config: Config,
    pub clock: Arc<dyn Clock>,
    pub timekeeper: Arc<Timekeeper>,
    pub folder: IdentityFolder,
    index: OnceCell<Index>,
    /// What the hub wants of this box.
    pub wishes: watch::Sender<Wishes>,
    /// A disk was found full: the oldest footage makes place.
    pub full: Arc<Notify>,
    /// When the agent was last alive; told once.
    off_since: Mutex<Option<Instant>>,
    pub stop: CancellationToken,
    ending: OnceLock<Ending>,
}

impl Parts {
    /// The process's end, from the first question after it was told to stop.
    fn ending(&self) -> Option<Ending> {
        self.stop.is_cancelled().then(|| *self.ending.get_or_init(Ending::begin))
    }

    /// The index, as soon as it can be opened: a disk may be full, or somebody may have put an older version back.
    /// What is recorded until then is found by the walk through the segments.
    async fn index(&self) -> Index {
        let open = async || {
            let mut rest = FIRST_OPEN;
            loop {
                let path = self.config.state_dir.join("index.sqlite");
                match tokio::task::spawn_blocking(move || Index::open(&path)).await {
                    Ok(Ok(index)) => return index,
                    Ok(Err(error)) => {
                        tracing::error!(error = %Chain(&error), "recording without an index; it is tried again");
                    }
                    Err(error) => tracing::error!(%error, "the index could not be tried"),
                }
                tokio::time::sleep(rest).await;
                rest = (rest * 2).min(LONGEST_OPEN);
            }
        };
        self.index.get_or_init(open).await.clone()
    }
}

/// Runs until `stop`; starts anew from within when the box is enrolled.
pub async fn run(config: Config, clock: Arc<dyn Clock>, stop: CancellationToken) -> Result<(), AgentError> {
    for path in [&config.state_dir, &config.media_dir] {
        make_folder(path)?;
    }
    // Paths in the index stay true when the next start happens in another folder.
    let media_dir = std::fs::canonicalize(&config.media_dir)
        .map_err(|source| AgentError::MakeFolder { path: config.media_dir.clone(), source })?;
    let config = Config { media_dir, ..config };
    let (state_dir, media_dir) = (config.state_dir.clone(), config.media_dir.clone());
    let locks = tokio::task::spawn_blocking(move || Locks::take(&[&state_dir, &media_dir])).await;
    let _locks = locks.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    let off_since = alive::last(&config.state_dir);
    let folder = IdentityFolder::open(&config.state_dir)?;
    let timekeeper = Arc::new(Timekeeper::open(&config.state_dir, clock.clone()));
    let (index, ending) = (OnceCell::new(), OnceLock::new());
    let wishes = watch::Sender::new(services::read_wishes(&config.state_dir));
    let parts = Parts {
        config,
        clock,
        timekeeper,
        folder,
        index,
        wishes,
        full: Arc::default(),
        off_since: Mutex::new(off_since),
        stop,
        ending,
    };
    let keep_time =
        tokio::spawn(keep_time(parts.timekeeper.clone(), parts.clock.clone(), parts.config.state_dir.clone()));
    let told = parts.stop.clone();
    let tell_systemd = tokio::spawn(async move {
        told.cancelled().await;
        notify::systemd(&[NotifyState::Stopping]);
    });
    let signs = tokio::spawn(notify::live());
    let outcome = lives(&parts).await;
    keep_time.abort();
    let now = parts.clock.instant(parts.timekeeper.belief().1);
    if let Err(error) = alive::write(&parts.config.state_dir, &now) {
        tracing::warn!(%error, "time not written down");
    }
    tell_systemd.abort();
    let ending = parts.ending().unwrap_or_else(Ending::begin);
    if let Some(index) = parts.index.get() {
        match ending.stage(FLUSH, index.flush()).await {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::error!(error = %Chain(&error), "index not flushed"),
            None => tracing::error!("index not flushed in time"),
        }
    }
    signs.abort();
    outcome
}

/// One life a state of enrolment.
async fn lives(parts: &Parts) -> Result<(), AgentError> {
    let stop = &parts.stop;
    while !stop.is_cancelled() {
        let identity = parts.folder.load()?;
        let life = stop.child_token();
        match &identity {
            Some(identity) => {
                tracing::info!(edge = %identity.edge, organisation = %identity.organisation_name, "enrolled");
                notify::systemd(&[NotifyState::Ready, NotifyState::Status("recording")]);
                services::live(parts, Some(identity.clone()), life).await?;
            }
            None => {
                let enrolled = enrolled(&parts.folder);
                notify::systemd(&[NotifyState::Ready, NotifyState::Status("waiting for enrolment")]);
                if parts.config.record_in_clear {
                    tracing::warn!("not enrolled: recording in clear, as record_in_clear says");
                    let living = services::live(parts, None, life.clone());
                    tokio::pin!(living);
                    tokio::select! {
                        outcome = &mut living => outcome?,
                        () = enrolled => {
                            life.cancel();
                            living.await?;
                        }
                    }
                } else {
                    tracing::warn!("not enrolled: nothing is recorded; run `campanile-edge enrol`");
                    tokio::select! {
                        () = enrolled => {}
                        () = stop.cancelled() => {}
                    }
                }
            }
        }
    }
    Ok(())
}

async fn enrolled(folder: &IdentityFolder) {
    while !matches!(folder.load(), Ok(Some(_))) {
        tokio::time::sleep(ENROLMENT_CHECK).await;
    }
}

async fn keep_time(timekeeper: Arc<Timekeeper>, clock: Arc<dyn Clock>, state_dir: PathBuf) {
    loop {
        let (keeper, now, state_dir) = (timekeeper.clone(), clock.instant(timekeeper.belief().1), state_dir.clone());
        let written =
            tokio::task::spawn_blocking(move || keeper.persist().and_then(|()| alive::write(&state_dir, &now)));
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "time not written down"),
            Err(error) => tracing::warn!(%error, "time not written down"),
        }
        tokio::time::sleep(CLOCK_INTERVAL).await;
    }
}

/// Readable to this user only: what a box knows is nobody else's.
fn make_folder(path: &Path) -> Result<(), AgentError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| AgentError::MakeFolder { path: path.to_owned(), source })
}
