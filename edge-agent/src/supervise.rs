//! The tasks of one camera: a reader for each stream, the analysis, the thread that writes.

use crate::analyse::parent::{Analyser, Task};
use crate::camera::board::Board;
use crate::camera::connection::Refusals;
use crate::camera::gap::KeptGaps;
use crate::camera::masked::Masked;
use crate::camera::reader::{Analyse, Reader};
use crate::config::CameraConfig;
use crate::facts::Facts;
use crate::keys::KeysWatch;
use crate::media::rtsp::RtspOpener;
use crate::media::stamp::{Believe, Stamper};
use crate::media::{Address, Opener, SourceError};
use crate::record::Recorder;
use crate::record::home::Home;
use crate::record::recorder::{Setting, Writing};
use crate::record::segment::{OwnDisk, Signer};
use crate::record::store::Store;
use crate::uplink::Wishes;
use campanile_proto::edge::v1::CameraCondition;
use campanile_proto::ids::CameraId;
use campanile_proto::time::Clock;
use campanile_proto::types::v1::{Instant, Stream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use crate::record::recorder::EdgeIdentity;

/// For fragments that wait and for footers; a disk that takes longer hangs.
const LAST_WRITES: Duration = Duration::from_secs(4);

/// What a camera needs of the rest of the agent.
#[derive(Clone)]
pub struct Dependencies {
    pub clock: Arc<dyn Clock>,
    /// How far the clock is trusted; asked at most once a second.
    pub believe: Believe,
    pub keys: KeysWatch,
    pub facts: Facts,
    pub media_dir: PathBuf,
    pub home: Home,
    pub identity: Option<EdgeIdentity>,
    pub record_in_clear: bool,
    pub signer: Option<Signer>,
    pub retention_days: u32,
    /// What the hub wants of the box.
    pub wishes: watch::Receiver<Wishes>,
    /// Of the streams, while their readers are started again.
    pub gaps: KeptGaps,
    /// When the agent was last alive before its start.
    pub off_since: Option<Instant>,
    /// Told when the disk was found full.
    pub full: Arc<Notify>,
    /// The program that knows the command `analyse`; none: nothing is analysed.
    pub analyser: Option<PathBuf>,
}

/// Why a camera's tasks cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    #[error("streams cannot be opened on this machine")]
    Media(#[source] SourceError),
    #[error("no thread can be started for the recorder")]
    Thread(#[source] std::io::Error),
}

impl SuperviseError {
    pub fn kind(&self) -> campanile_proto::kind::Kind {
        campanile_proto::kind::Kind::Internal
    }

    pub fn condition(&self) -> CameraCondition {
        match self {
            Self::Media(error) => error.condition(),
            Self::Thread(_) => CameraCondition::DiskError,
        }
    }
}

/// One camera.
pub struct Camera {
    id: CameraId,
    readers: Vec<Reader>,
    analyser: Option<Analyser>,
    writing: Writing,
    /// Closes when the recorder's thread is gone.
    recorder: watch::Receiver<()>,
}

impl Camera {
    pub fn new(config: Arc<CameraConfig>, id: CameraId, deps: Dependencies) -> Result<Self, SuperviseError> {
        let stamper = Stamper::new(deps.clock.clone(), deps.believe.clone());
        let opener = Arc::new(RtspOpener::new(stamper.clone()));
        Self::with_opener(&config, id, &deps, stamper, opener)
    }

    /// As `new`, over another way to open streams.
    pub fn with_opener(
        config: &CameraConfig,
        id: CameraId,
        deps: &Dependencies,
        stamper: Stamper,
        opener: Arc<dyn Opener>,
    ) -> Result<Self, SuperviseError> {
        let setting = Setting {
            camera: id,
            store: Store::new(deps.media_dir.clone(), deps.home.clone()),
            disk: Arc::new(OwnDisk),
            stamper: stamper.clone(),
            keys: deps.keys.clone(),
            identity: deps.identity,
            record_in_clear: deps.record_in_clear,
            retention_days: config.days.map_or(deps.retention_days, |own| own.min(deps.retention_days)),
            signer: deps.signer.clone(),
            facts: deps.facts.clone(),
            full: deps.full.clone(),
        };
        let (recorder, [of_main, of_sub], writing) = Recorder::start(setting).map_err(SuperviseError::Thread)?;
        let program = deps.analyser.clone().filter(|_| config.analyse);
        let (analyser, feed) = program
            .map(|program| {
                let (recorder, facts, stamper) = (recorder.clone(), deps.facts.clone(), stamper.clone());
                Analyser::new(Task { program, camera: id, ignore: config.ignore, recorder, facts, stamper })
            })
            .unzip();
        let (for_main, for_sub) = match (feed, &config.sub) {
            (None, _) => (Analyse::Nothing, Analyse::Nothing),
            (Some(feed), None) => (Analyse::Keys(feed), Analyse::Nothing),
            (Some(feed), Some(_)) => (Analyse::Nothing, Analyse::All(feed)),
        };
        let board = Board::new(config, id, deps.facts.clone());
        let refusals = Refusals::default();
        let reader = |stream, url: &String, analyse, outcomes| Reader {
            camera: id,
            stream,
            address: Address::of(config, url),
            opener: opener.clone(),
            recorder: recorder.clone(),
            outcomes,
            analyse,
            board: board.clone(),
            facts: deps.facts.clone(),
            stamper: stamper.clone(),
            keys: deps.keys.clone(),
            masked: Masked::new(id, deps.wishes.clone()),
            record_in_clear: deps.record_in_clear,
            before: Default::default(),
            gaps: deps.gaps.clone(),
            off_since: deps.off_since.clone(),
            refusals: refusals.clone(),
        };
        let mut readers = vec![reader(Stream::Main, &config.main, for_main, of_main)];
        if let Some(sub) = &config.sub {
            readers.push(reader(Stream::Sub, sub, for_sub, of_sub));
        }
        Ok(Self { id, readers, analyser, writing, recorder: recorder.alive() })
    }

    /// Runs until stopped or until one of its parts ends, and ends when everything is on disk: whoever started it
    /// starts it again as a whole.
    pub async fn run(self, stop: CancellationToken) {
        let life = stop.child_token();
        let mut tasks = JoinSet::new();
        for reader in self.readers {
            tasks.spawn(reader.run(life.clone()));
        }
        if let Some(analyser) = self.analyser {
            tasks.spawn(analyser.run(life.clone()));
        }
        let mut recorder = self.recorder;
        let recorder_gone = async { while recorder.changed().await.is_ok() {} };
        tokio::pin!(recorder_gone);
        loop {
            tokio::select! {
                ended = tasks.join_next() => match ended {
                    None => break,
                    Some(Err(error)) => tracing::error!(camera = %self.id, %error, "a camera's task broke off"),
                    Some(Ok(())) if life.is_cancelled() => {}
                    Some(Ok(())) => tracing::error!(camera = %self.id, "a camera's task ended before its time"),
                },
                () = &mut recorder_gone, if !life.is_cancelled() => {
                    tracing::error!(camera = %self.id, "the recorder's thread ended before its time");
                }
            }
            life.cancel();
        }
        let writing = self.writing;
        let finished = tokio::task::spawn_blocking(move || writing.finish());
        match tokio::time::timeout(LAST_WRITES, finished).await {
            Ok(Ok(true)) => {}
            Ok(_) => tracing::error!(camera = %self.id, "the recorder's thread broke off"),
            Err(_) => tracing::error!(camera = %self.id, "the disk takes nothing: the recorder is left behind"),
        }
    }
}

#[cfg(test)]
mod tests;
