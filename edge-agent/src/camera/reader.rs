//! Reads one stream for as long as the agent runs: connect, record, and connect again.

use super::board::Board;
use super::connection::{Connection, Refusals};
use super::gap::{Gaps, KeptGaps};
use super::masked::Masked;
use crate::analyse::parent::Feed;
use crate::facts::{Fact, Facts};
use crate::keys::KeysWatch;
use crate::media::stamp::Stamper;
use crate::media::{AccessUnit, Address, Item, Losses, Opener, Source, SourceError, StreamFormat};
use crate::record::Recorder;
use crate::record::fragment::{Fragment, Fragmenter};
use crate::record::recorder::{MediaOrder, Outcome, Outcomes};
use campanile_proto::edge::v1::CameraCondition;
use campanile_proto::ids::{CameraId, RunId};
use campanile_proto::types::v1::{self, Stream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// No picture for this long ends a connection.
const WATCHDOG: Duration = Duration::from_secs(5);
/// The first picture waits for a connection and for a key frame.
const FIRST_PICTURE: Duration = Duration::from_secs(20);
/// How soon a stall is noticed.
const TICK: Duration = Duration::from_millis(250);
/// For the last fragments and the footer of a run.
const CLOSING: Duration = Duration::from_secs(2);

/// What is fed to the analysis.
pub enum Analyse {
    Nothing,
    /// Every unit: a sub-stream.
    All(Feed),
    /// Key frames only: a main stream without a sub-stream beside it.
    Keys(Feed),
}

/// One stream of one camera.
pub struct Reader {
    pub camera: CameraId,
    pub stream: Stream,
    pub address: Address,
    pub opener: Arc<dyn Opener>,
    pub recorder: Recorder,
    /// Of this stream.
    pub outcomes: Outcomes,
    pub analyse: Analyse,
    pub board: Board,
    pub facts: Facts,
    pub stamper: Stamper,
    pub keys: KeysWatch,
    pub masked: Masked,
    pub record_in_clear: bool,
    pub before: Lost,
    /// Kept from one life to the next.
    pub gaps: KeptGaps,
    /// When the agent was last alive before its start.
    pub off_since: Option<v1::Instant>,
    /// Of this camera's streams together.
    pub refusals: Refusals,
}

/// Losses of the connections that are over.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lost {
    packets: u64,
    pictures: u64,
}

impl Lost {
    fn and(self, losses: &Losses) -> Self {
        Self {
            packets: self.packets + losses.packets.load(Ordering::Relaxed),
            pictures: self.pictures + losses.pictures.load(Ordering::Relaxed),
        }
    }

    fn add(&mut self, losses: &Losses) {
        *self = self.and(losses);
    }
}

/// The run that is being recorded.
struct Run {
    id: RunId,
    format: Arc<StreamFormat>,
    fragmenter: Fragmenter,
    next_index: u64,
}

impl Reader {
    pub async fn run(mut self, stop: CancellationToken) {
        let mut gaps = self.gaps.of(self.camera, self.stream, self.stamper.now()).await;
        let mut connection = Connection::default();
        self.say(CameraCondition::Connecting, "");
        self.tell_off(&gaps).await;
        self.gap(gaps.begun(&self.stamper.now()));
        while self.await_leave(&mut gaps, &stop).await {
            let opened = tokio::select! {
                () = stop.cancelled() => break,
                opened = self.open_when_allowed() => opened,
            };
            let (error, recorded) = match opened {
                Ok(source) => self.record(source, &mut gaps, &stop).await,
                Err(error) => (Some(error), Duration::ZERO),
            };
            self.await_closed(&mut gaps).await;
            let Some(error) = error else { continue };
            let condition = error.condition();
            self.say(condition, &error.to_string());
            self.gap(gaps.missing(&self.stamper.now(), condition));
            let wait = match condition {
                CameraCondition::AuthenticationRefused => self.refusals.refused(self.stamper.clock.mono(), random()),
                _ => connection.failed(condition, recorded, random()),
            };
            tracing::warn!(
                camera = %self.camera, stream = ?self.stream, %error, wait_ms = wait.as_millis() as u64, "source lost"
            );
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.masked.begins() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.gap(gaps.finish(&self.stamper.now()));
    }

    /// Waits until recording is allowed; false when stopped.
    async fn await_leave(&mut self, gaps: &mut Gaps, stop: &CancellationToken) -> bool {
        if self.masked.is_now() {
            self.say(CameraCondition::Masked, "the town has masked this camera");
            self.gap(gaps.missing(&self.stamper.now(), CameraCondition::Masked));
            tokio::select! {
                () = stop.cancelled() => return false,
                () = self.masked.ends() => {}
            }
        }
        while !self.record_in_clear && self.keys.borrow_and_update().is_none() {
            self.say(CameraCondition::NoSealingKeys, "the box is not enrolled: there are no keys to seal to");
            self.gap(gaps.missing(&self.stamper.now(), CameraCondition::NoSealingKeys));
            tokio::select! {
                () = stop.cancelled() => return false,
                changed = self.keys.changed() => if changed.is_err() {
                    // Nobody will ever bring keys.
                    stop.cancelled().await;
                    return false;
                }
            }
        }
        !stop.is_cancelled()
    }

    /// The time from the last life to this one, if there was a last one.
    async fn tell_off(&mut self, gaps: &Gaps) {
        let Some(alive) = self.off_since.take() else { return };
        let begins = tokio::time::timeout(CLOSING, self.outcomes.recv()).await;
        let covered = match begins {
            Ok(Some(Outcome::Begins { covered })) => covered,
            _ => None,
        };
        let start = covered.filter(|covered| is_later(covered, &alive)).unwrap_or(alive);
        self.gap(Some(gaps.between(start, self.stamper.now(), CameraCondition::EdgeOff)));
    }

    /// A camera that refused the password is left alone for a while, whichever of its streams asked.
    async fn open_when_allowed(&self) -> Result<Source, SourceError> {
        loop {
            let rest = self.refusals.rest(self.stamper.clock.mono());
            if rest.is_zero() {
                return self.open().await;
            }
            tokio::time::sleep(rest).await;
        }
    }

    async fn open(&self) -> Result<Source, SourceError> {
        let (opener, address) = (self.opener.clone(), self.address.clone());
        tokio::task::spawn_blocking(move || opener.open(&address))
            .await
            .unwrap_or_else(|_| Err(SourceError::Machine("opening the stream failed".into())))
    }

    /// Records until the source ends; no error when stopped or masked. Says how long pictures came.
    async fn record(
        &mut self,
        mut source: Source,
        gaps: &mut Gaps,
        stop: &CancellationToken,
    ) -> (Option<SourceError>, Duration) {
        let mut first: Option<Instant> = None;
        let mut run: Option<Run> = None;
        let mut deadline = Instant::now() + FIRST_PICTURE;
        let mut tick = tokio::time::interval(TICK);
        let ended = loop {
            tokio::select! {
                () = stop.cancelled() => break None,
                () = self.masked.begins() => break None,
                item = source.items.recv() => match item {
                    None => break Some(SourceError::Ended("the connection broke".into())),
                    Some(Err(error)) => break Some(error),
                    Some(Ok(Item::Format(format))) => {
                        self.finish_run(&mut run, gaps);
                        run = Some(self.begin_run(format));
                        deadline = deadline.max(Instant::now() + WATCHDOG);
                    }
                    Some(Ok(Item::Unit(unit))) => {
                        source.waiting.give_back(unit.data.len());
                        if first.is_none() {
                            first = Some(Instant::now());
                            self.refusals.accepted();
                        }
                        deadline = Instant::now() + WATCHDOG;
                        if let Some(run) = &mut run {
                            self.take(run, unit, gaps);
                        }
                    }
                    Some(Ok(Item::Lost { from, to })) => {
                        self.finish_run_part(&mut run, gaps);
                        self.gap(Some(gaps.between(from, to, CameraCondition::DiskError)));
                    }
                },
                Some(outcome) = self.outcomes.recv() => self.learn(outcome, gaps),
                _ = tick.tick() => {
                    self.flush_stalled(&mut run, gaps);
                    self.count(&source.losses);
                }
                () = tokio::time::sleep_until(deadline) => {
                    let waited = if first.is_some() { WATCHDOG } else { FIRST_PICTURE };
                    break Some(SourceError::NoBytes(waited.as_secs()));
                }
            }
        };
        self.finish_run(&mut run, gaps);
        self.count(&source.losses);
        self.before.add(&source.losses);
        source.close().await;
        (ended, first.map_or(Duration::ZERO, |first| first.elapsed()))
    }

    /// What the disk made of an order.
    fn learn(&self, outcome: Outcome, gaps: &mut Gaps) {
        match outcome {
            Outcome::Written { start, end } => {
                self.say(CameraCondition::Recording, "");
                self.gap(gaps.recorded(&start, &end));
            }
            Outcome::Failed(trouble) => {
                self.say(trouble.condition, &trouble.sentence);
                self.gap(gaps.missing(&self.stamper.now(), trouble.condition));
            }
            Outcome::Doubtful { start, end, condition } => self.gap(Some(gaps.between(start, end, condition))),
            Outcome::Begins { .. } | Outcome::Closed => {}
        }
    }

    /// The run's last fragments reach the disk before a gap begins behind them.
    async fn await_closed(&mut self, gaps: &mut Gaps) {
        self.recorder.end_run(self.stream);
        let closed = async {
            while let Some(outcome) = self.outcomes.recv().await {
                let over = outcome == Outcome::Closed;
                self.learn(outcome, gaps);
                if over {
                    return;
                }
            }
        };
        // A disk that hangs longer tells later.
        let _ = tokio::time::timeout(CLOSING, closed).await;
    }

    fn begin_run(&mut self, format: Arc<StreamFormat>) -> Run {
        self.board.format(self.stream, &format);
        if let Analyse::All(feed) | Analyse::Keys(feed) = &mut self.analyse {
            feed.format(&format);
        }
        Run { id: RunId::random(), format, fragmenter: Fragmenter::default(), next_index: 0 }
    }

    fn take(&mut self, run: &mut Run, unit: AccessUnit, gaps: &mut Gaps) {
        match &mut self.analyse {
            Analyse::All(feed) => feed.unit(&unit),
            Analyse::Keys(feed) if unit.key => feed.unit(&unit),
            Analyse::Keys(_) | Analyse::Nothing => {}
        }
        if let Some(fragment) = run.fragmenter.push(unit) {
            self.store(run, fragment, gaps);
        }
    }

    fn flush_stalled(&mut self, run: &mut Option<Run>, gaps: &mut Gaps) {
        let now = self.stamper.clock.mono().0;
        let Some(run) = run else { return };
        if run.fragmenter.is_stalled(now)
            && let Some(fragment) = run.fragmenter.flush()
        {
            self.store(run, fragment, gaps);
        }
    }

    /// What arrived before a hole is a fragment of its own.
    fn finish_run_part(&mut self, run: &mut Option<Run>, gaps: &mut Gaps) {
        if let Some(run) = run
            && let Some(fragment) = run.fragmenter.flush()
        {
            self.store(run, fragment, gaps);
        }
    }

    fn count(&self, losses: &Losses) {
        let now = self.before.and(losses);
        self.board.losses(self.stream, now.packets, now.pictures, self.stamper.clock.mono());
    }

    fn finish_run(&mut self, run: &mut Option<Run>, gaps: &mut Gaps) {
        if let Some(mut run) = run.take()
            && let Some(fragment) = run.fragmenter.flush()
        {
            self.store(&mut run, fragment, gaps);
        }
    }

    fn store(&mut self, run: &mut Run, fragment: Fragment, gaps: &mut Gaps) {
        let (start, end) = (fragment.arrival.clone(), fragment.last_arrival.clone());
        let order = MediaOrder {
            stream: self.stream,
            format: run.format.clone(),
            run: run.id,
            index: run.next_index,
            fragment,
        };
        run.next_index += 1;
        if let Err(error) = self.recorder.media(order) {
            self.say(CameraCondition::DiskError, &error.to_string());
            self.gap(Some(gaps.dropped(start, end)));
        }
    }

    fn say(&self, condition: CameraCondition, detail: &str) {
        self.board.set(self.stream, condition, detail, self.stamper.now());
    }

    fn gap(&self, told: Option<(campanile_proto::ids::ObjectId, campanile_proto::edge::v1::Gap)>) {
        if let Some((object, gap)) = told {
            self.facts.tell(Fact::Gap { object, gap });
        }
    }
}

/// By the monotonic clock within a boot.
fn is_later(one: &v1::Instant, other: &v1::Instant) -> bool {
    if one.boot_id == other.boot_id { one.mono_us > other.mono_us } else { one.utc_us > other.utc_us }
}

fn random() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}
