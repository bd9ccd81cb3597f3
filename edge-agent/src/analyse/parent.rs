//! The agent's side: keeps a child at work, never waits for it.

use super::frame::Frame;
use super::listener::Listener;
use super::patience::{Pulse, Rests};
use crate::facts::{Fact, Facts};
use crate::media::budget::Budget;
use crate::media::stamp::Stamper;
use crate::media::{AccessUnit, StreamFormat};
use crate::record::Recorder;
use bytes::BytesMut;
use campanile_proto::grid::CellSet;
use campanile_proto::ids::CameraId;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Units that wait for a slow child: 4 s of 15 pictures a second. More are dropped up to the next key frame, and
/// their seconds were not looked at.
const QUEUE: usize = 64;
/// Of them in bytes: a main stream's key frames are large.
const QUEUE_BYTES: usize = 16 << 20;
/// Units are handed over together, so that a child is woken five times a second and decodes with warm caches.
const GATHER: Duration = Duration::from_millis(200);
/// Or as soon as there are so many bytes of them.
const GATHERED_BYTES: usize = 1 << 20;
/// How soon a child that hangs is noticed, beyond its patience.
const TICK: Duration = Duration::from_millis(500);
/// To say its last when its socket is closed; what it did not decode by then was not looked at.
const FAREWELL: Duration = Duration::from_secs(2);
/// A killed child is gone at once, unless it hangs in the kernel: then it is left to init.
const GONE: Duration = Duration::from_millis(500);
/// Of a child's standard error, in its log line.
const MAX_LAST_WORDS: usize = 500;
/// Variables the child may see; passwords of cameras may stand in others.
const ENVIRONMENT: &[&str] = &[
    "PATH",
    "HOME",
    "LANG",
    "LD_LIBRARY_PATH",
    "XDG_CACHE_HOME",
    "GST_PLUGIN_PATH",
    "GST_PLUGIN_SYSTEM_PATH",
    "GST_PLUGIN_SYSTEM_PATH_1_0",
    "GST_REGISTRY",
    "GST_PLUGIN_SCANNER",
];

enum Work {
    Format(Arc<StreamFormat>),
    Unit(AccessUnit),
}

/// Gives units to an [`Analyser`]; never waits.
pub struct Feed {
    work: mpsc::Sender<Work>,
    waiting: Arc<Budget>,
    /// Units were dropped: decoding starts again at a key frame.
    needs_key: bool,
    /// A format that found no place yet: no unit goes before it.
    pending: Option<Arc<StreamFormat>>,
}

/// What is looked for, where, and who is told.
pub struct Task {
    /// This binary, which knows the command `analyse`.
    pub program: PathBuf,
    pub camera: CameraId,
    pub ignore: CellSet,
    pub recorder: Recorder,
    pub facts: Facts,
    pub stamper: Stamper,
}

/// Looks for motion in one stream of one camera.
pub struct Analyser {
    task: Task,
    work: mpsc::Receiver<Work>,
    waiting: Arc<Budget>,
}

/// The [`Pulse`] of one child, for both ends of its socket.
#[derive(Clone, Default)]
pub(super) struct SharedPulse(Arc<Mutex<Pulse>>);

impl SharedPulse {
    pub fn heard(&self) {
        self.with(|pulse| pulse.heard(Instant::now()));
    }

    fn given(&self) {
        self.with(|pulse| pulse.given(Instant::now()));
    }

    /// Returns once the child hangs.
    async fn stops(&self) {
        let mut ticks = tokio::time::interval(TICK);
        while !self.with(|pulse| pulse.hangs(Instant::now())) {
            ticks.tick().await;
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut Pulse) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Why a child is not at work any more.
enum Over {
    /// Nobody feeds it, or the agent stops.
    Stopped,
    NewFormat(Arc<StreamFormat>),
    Died,
    Hangs,
}

impl Feed {
    pub fn format(&mut self, format: &Arc<StreamFormat>) {
        self.pending = Some(format.clone());
        self.tell_format();
    }

    fn tell_format(&mut self) {
        if let Some(format) = &self.pending {
            match self.work.try_send(Work::Format(format.clone())) {
                Ok(()) => self.pending = None,
                Err(_) => self.needs_key = true,
            }
        }
    }

    pub fn unit(&mut self, unit: &AccessUnit) {
        self.tell_format();
        if self.pending.is_some() {
            return;
        }
        if self.needs_key && !unit.key {
            return;
        }
        let bytes = unit.data.len();
        self.needs_key = !self.waiting.take(bytes) || {
            let refused = self.work.try_send(Work::Unit(unit.clone())).is_err();
            if refused {
                self.waiting.give_back(bytes);
            }
            refused
        };
    }
}

impl Analyser {
    pub fn new(task: Task) -> (Self, Feed) {
        let (sender, work) = mpsc::channel(QUEUE);
        let waiting = Arc::new(Budget::new(QUEUE_BYTES));
        let feed = Feed { work: sender, waiting: waiting.clone(), needs_key: true, pending: None };
        (Self { task, work, waiting }, feed)
    }

    pub async fn run(mut self, stop: CancellationToken) {
        let mut rests = Rests::new(Instant::now());
        let mut format = None;
        loop {
            let Some(known) = self.await_format(format.take(), &stop).await else { return };
            match self.attend(&known, &stop).await {
                Over::Stopped => return,
                Over::NewFormat(new) => format = Some(new),
                over @ (Over::Died | Over::Hangs) => {
                    let rest = rests.died(Instant::now());
                    let what = if matches!(over, Over::Hangs) { "it does nothing" } else { "it ended" };
                    let rest_ms = rest.as_millis() as u64;
                    tracing::warn!(camera = %self.task.camera, reason = what, rest_ms, "analysis starts again");
                    self.task.facts.tell(Fact::AnalyseRestarted(self.task.camera));
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(rest) => {}
                    }
                    format = Some(known);
                }
            }
        }
    }

    /// The newest format there is.
    async fn await_format(
        &mut self,
        mut known: Option<Arc<StreamFormat>>,
        stop: &CancellationToken,
    ) -> Option<Arc<StreamFormat>> {
        while known.is_none() {
            let work = tokio::select! {
                () = stop.cancelled() => return None,
                work = self.next_work() => work?,
            };
            if let Work::Format(format) = work {
                known = Some(format);
            }
        }
        known
    }

    /// One child from birth to death.
    async fn attend(&mut self, format: &Arc<StreamFormat>, stop: &CancellationToken) -> Over {
        let (mut child, socket) = match self.spawn() {
            Ok(spawned) => spawned,
            Err(error) => {
                tracing::error!(camera = %self.task.camera, %error, "analysis cannot be started");
                return Over::Died;
            }
        };
        let (from_child, mut to_child) = socket.into_split();
        let listener = Listener::new(self.task.camera, self.task.recorder.clone(), self.task.stamper.clone());
        let pulse = SharedPulse::default();
        let listening: JoinHandle<()> = tokio::spawn(listener.run(from_child, pulse.clone()));
        let last_words = tokio::spawn(last_words(child.stderr.take()));
        let begin =
            Frame::Begin { camera: self.task.camera, ignore: self.task.ignore, format: format.as_ref().clone() };
        let feeding = async {
            match write(&mut to_child, &begin).await {
                Ok(()) => self.feed(&mut to_child, &pulse).await,
                Err(over) => over,
            }
        };
        let over = tokio::select! {
            () = stop.cancelled() => Over::Stopped,
            () = pulse.stops() => Over::Hangs,
            over = feeding => over,
        };
        drop(to_child);
        let farewell = if matches!(over, Over::Hangs) { Duration::ZERO } else { FAREWELL };
        let ended = part(&mut child, farewell).await;
        if let (Over::Died, Some(status)) = (&over, ended) {
            let said = tokio::time::timeout(GONE, last_words).await.ok().and_then(Result::ok).unwrap_or_default();
            tracing::warn!(camera = %self.task.camera, %status, said, "the analysing child ended");
        }
        let abort = listening.abort_handle();
        match tokio::time::timeout(GONE, listening).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(camera = %self.task.camera, %error, "what analysis found was not taken"),
            Err(_) => abort.abort(),
        }
        over
    }

    async fn next_work(&mut self) -> Option<Work> {
        let work = self.work.recv().await?;
        if let Work::Unit(unit) = &work {
            self.waiting.give_back(unit.data.len());
        }
        Some(work)
    }

    async fn feed(&mut self, to_child: &mut OwnedWriteHalf, pulse: &SharedPulse) -> Over {
        let mut started = false;
        loop {
            let (mut gathered, mut until) = (BytesMut::new(), None);
            let over = loop {
                let work = match until {
                    None => self.next_work().await,
                    Some(until) => match tokio::time::timeout_at(until, self.next_work()).await {
                        Ok(work) => work,
                        Err(_) => break None,
                    },
                };
                match work {
                    None => break Some(Over::Stopped),
                    Some(Work::Format(format)) => break Some(Over::NewFormat(format)),
                    Some(Work::Unit(unit)) => {
                        started |= unit.key;
                        if !started {
                            continue;
                        }
                        let AccessUnit { pts_90k, arrival, data, .. } = unit;
                        gathered.extend_from_slice(&Frame::Unit { pts_90k, arrival, data }.encode());
                        until.get_or_insert_with(|| tokio::time::Instant::now() + GATHER);
                        if gathered.len() >= GATHERED_BYTES {
                            break None;
                        }
                    }
                }
            };
            if !gathered.is_empty() {
                pulse.given();
                if to_child.write_all(&gathered).await.is_err() {
                    return Over::Died;
                }
            }
            if let Some(over) = over {
                return over;
            }
        }
    }

    fn spawn(&self) -> std::io::Result<(Child, UnixStream)> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let kept = ENVIRONMENT.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
        let child = Command::new(&self.task.program)
            .arg("analyse")
            .env_clear()
            .envs(kept)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        Ok((child, UnixStream::from_std(ours)?))
    }
}

/// Waits for a child's end, kills it when it takes too long; none when even that does not end it.
async fn part(child: &mut Child, farewell: Duration) -> Option<ExitStatus> {
    match tokio::time::timeout(farewell, child.wait()).await {
        Ok(status) => status.ok(),
        Err(_) => {
            let _ = child.start_kill();
            tokio::time::timeout(GONE, child.wait()).await.ok()?.ok()
        }
    }
}

/// The end of what a child wrote to its standard error, on one line.
async fn last_words(from: Option<ChildStderr>) -> String {
    let Some(mut from) = from else { return String::new() };
    let (mut last, mut part) = (Vec::new(), [0; 512]);
    while let Ok(length @ 1..) = from.read(&mut part).await {
        last.extend_from_slice(&part[..length]);
        last.drain(..last.len().saturating_sub(MAX_LAST_WORDS));
    }
    String::from_utf8_lossy(&last).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

async fn write(to_child: &mut OwnedWriteHalf, frame: &Frame) -> Result<(), Over> {
    to_child.write_all(&frame.encode()).await.map_err(|_| Over::Died)
}

#[cfg(test)]
mod tests;
