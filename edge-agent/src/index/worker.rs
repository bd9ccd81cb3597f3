//! The one thread that owns the database connection, and the handle to it.

use super::objects::Object;
use super::offers::{self, Waiting};
use super::open::{is_damage, open_connection, set_aside};
use super::segments::{self, Grown, SegmentRow, Throttle};
use super::walk::Walk;
use super::{IndexError, failed, objects};
use crate::facts::Fact;
use campanile_proto::edge::v1::{EdgeHealth, SequenceRange};
use campanile_proto::ids::{CameraId, EdgeId, Epoch, ObjectId, SegmentId};
use campanile_proto::kind::Chain;
use campanile_proto::time::{MonoTime, WallTime};
use campanile_proto::types::v1::{Anchor, Instant, Stream};
use rusqlite::Connection;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Requests waiting for the thread; whoever finds no place waits.
const QUEUE: usize = 256;

/// Before a damaged database is tried again.
const AGAIN: Duration = Duration::from_secs(1);

type Job = Box<dyn FnOnce(&mut Owner) + Send>;

/// What the thread owns.
struct Owner {
    path: PathBuf,
    connection: Connection,
    throttle: Throttle,
    offered: watch::Sender<u64>,
    epoch: watch::Sender<Epoch>,
    /// A job met damage: the database is made anew before the next one.
    damaged: bool,
}

impl Owner {
    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(job) = queue.blocking_recv() {
            // One job's panic is its caller's; what it began was rolled back.
            if catch_unwind(AssertUnwindSafe(|| job(&mut self))).is_err() {
                tracing::error!("a job of the index panicked");
            }
            while self.damaged {
                match self.make_anew() {
                    Ok(()) => self.damaged = false,
                    Err(error) => {
                        tracing::error!(error = %Chain(&error), "the damaged index cannot be made anew yet");
                        std::thread::sleep(AGAIN);
                    }
                }
            }
        }
    }

    fn change<R>(
        &mut self,
        attempt: &'static str,
        work: impl FnOnce(&Connection, &mut Throttle) -> Result<R, IndexError>,
    ) -> Result<R, IndexError> {
        let transaction = self.connection.transaction().map_err(failed(attempt))?;
        let result = work(&transaction, &mut self.throttle)?;
        transaction.commit().map_err(failed(attempt))?;
        self.offered.send_modify(|count| *count += 1);
        Ok(result)
    }

    /// Media is the truth: what can be found there is found again by the next walk.
    fn make_anew(&mut self) -> Result<(), IndexError> {
        if self.path.exists() {
            set_aside(&self.path)?;
        }
        let (connection, epoch) = open_connection(&self.path)?;
        (self.connection, self.throttle) = (connection, Throttle::default());
        self.epoch.send_replace(epoch);
        self.offered.send_modify(|count| *count += 1);
        Ok(())
    }
}

/// Handle to the index; cheap to clone. The thread ends when the last handle is gone.
#[derive(Clone)]
pub struct Index {
    jobs: mpsc::Sender<Job>,
    offered: watch::Receiver<u64>,
    epoch: watch::Receiver<Epoch>,
}

/// How far the outbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Whose sequences these are.
    pub epoch: Epoch,
    pub next_sequence: u64,
    /// Every sequence up to here was acknowledged or superseded.
    pub acknowledged_through: u64,
    /// Reports the hub acknowledged, each once; never those a newer revision took the place of.
    pub acknowledged_count: u64,
    pub waiting: u64,
}

impl Index {
    /// Opens or makes the database. One that is damaged is set aside and made anew: media is the truth.
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        let (connection, epoch) = match open_connection(path) {
            Err(error) if is_damage(&error) => {
                set_aside(path)?;
                open_connection(path)?
            }
            other => other?,
        };
        let (jobs, queue) = mpsc::channel::<Job>(QUEUE);
        let ((offered_to, offered), (epoch_to, epoch)) = (watch::channel(0), watch::channel(epoch));
        let owner = Owner {
            path: path.to_owned(),
            connection,
            throttle: Throttle::default(),
            offered: offered_to,
            epoch: epoch_to,
            damaged: false,
        };
        std::thread::Builder::new().name("index".into()).spawn(move || owner.run(queue)).map_err(IndexError::Spawn)?;
        Ok(Self { jobs, offered, epoch })
    }

    pub fn epoch(&self) -> Epoch {
        *self.epoch.borrow()
    }

    /// Changes when the database was damaged and made anew: what is shown is to be told again, and the media folder
    /// to be walked.
    pub fn epochs(&self) -> watch::Receiver<Epoch> {
        self.epoch.clone()
    }

    /// Changes whenever something new waits for the hub.
    pub fn offered(&self) -> watch::Receiver<u64> {
        self.offered.clone()
    }

    /// Takes facts in one durable step; those that cannot be read are left out and counted.
    pub async fn take(&self, facts: Vec<Fact>, utc: WallTime, mono: MonoTime) -> Result<usize, IndexError> {
        self.change("take facts", move |c, throttle| {
            let mut unreadable = 0;
            for fact in facts {
                match take_one(c, throttle, fact, utc, mono) {
                    Err(IndexError::Damaged { .. }) => unreadable += 1,
                    other => other?,
                }
            }
            Ok(unreadable)
        })
        .await
    }

    pub async fn health(&self, edge: EdgeId, health: EdgeHealth, utc: WallTime) -> Result<(), IndexError> {
        self.change("keep health", move |c, _| {
            let object = ObjectId::from_u128(u128::from_be_bytes(*edge.as_bytes()));
            objects::put(c, object, &Object::health(&health), utc)
        })
        .await
    }

    /// Ends the gaps that went on when the last run ended: that run is over, and says no more of them.
    pub async fn end_gaps(&self, alive: Option<Instant>, utc: WallTime) -> Result<usize, IndexError> {
        self.change("end gaps", move |c, _| objects::end_gaps(c, alive.as_ref(), utc)).await
    }

    /// Reports of `epoch` to send next, best first, none of `except`; at most `limit`. None: the index was made
    /// anew, and its sequences are not those of `epoch`.
    pub async fn waiting(
        &self,
        epoch: Epoch,
        limit: usize,
        except: HashSet<u64>,
    ) -> Result<Option<Vec<Waiting>>, IndexError> {
        self.ask(move |owner| {
            let is_its = *owner.epoch.borrow() == epoch;
            is_its.then(|| offers::waiting(&owner.connection, limit, &except)).transpose()
        })
        .await
    }

    pub async fn progress(&self) -> Result<Progress, IndexError> {
        self.ask(|owner| offers::progress(&owner.connection, *owner.epoch.borrow())).await
    }

    /// Forgets what the hub holds; a foreign epoch's acknowledgement is not ours. Returns how many rows it was.
    pub async fn acknowledge(&self, epoch: Epoch, ranges: Vec<SequenceRange>) -> Result<usize, IndexError> {
        self.forget_acknowledged(epoch, ranges, None).await
    }

    /// The same for an answer to `reports` that were sent: one that was superseded on its way has no row any
    /// more, and was acknowledged all the same.
    pub async fn acknowledge_sent(
        &self,
        epoch: Epoch,
        ranges: Vec<SequenceRange>,
        reports: u64,
    ) -> Result<usize, IndexError> {
        self.forget_acknowledged(epoch, ranges, Some(reports)).await
    }

    async fn forget_acknowledged(
        &self,
        epoch: Epoch,
        ranges: Vec<SequenceRange>,
        reports: Option<u64>,
    ) -> Result<usize, IndexError> {
        self.change_of(epoch, "acknowledge", move |c| {
            let gone = ranges.iter().map(|range| offers::acknowledge(c, range.first, range.last));
            let gone: usize = gone.sum::<Result<usize, IndexError>>()?;
            offers::count(c, reports.unwrap_or(gone as u64))?;
            Ok(gone)
        })
        .await
    }

    /// A report whose record cannot be read any more.
    pub async fn withdraw(&self, epoch: Epoch, sequence: u64) -> Result<(), IndexError> {
        self.change_of(epoch, "withdraw a report", move |c| offers::withdraw(c, sequence)).await
    }

    /// Segments of a camera's stream whose files are there, oldest first.
    pub async fn segments(&self, camera: CameraId, stream: Stream) -> Result<Vec<SegmentRow>, IndexError> {
        self.ask(move |owner| segments::of_stream(&owner.connection, camera, stream)).await
    }

    /// The segment of a camera's stream that is written now, else its last one.
    pub async fn newest_segment(&self, camera: CameraId, stream: Stream) -> Result<Option<SegmentRow>, IndexError> {
        self.ask(move |owner| segments::newest(&owner.connection, camera, stream)).await
    }

    /// Every segment, also those marked as deleted.
    pub async fn all_segments(&self) -> Result<Vec<SegmentRow>, IndexError> {
        self.ask(|owner| segments::all(&owner.connection)).await
    }

    /// Segments of which a write or a flush failed and that are there, oldest first.
    pub async fn suspect_segments(&self) -> Result<Vec<SegmentRow>, IndexError> {
        self.ask(|owner| segments::suspect(&owner.connection)).await
    }

    pub async fn segment(&self, id: SegmentId) -> Result<Option<SegmentRow>, IndexError> {
        self.ask(move |owner| segments::one(&owner.connection, id)).await
    }

    pub async fn anchors(&self) -> Result<Vec<Anchor>, IndexError> {
        self.ask(|owner| objects::anchors(&owner.connection)).await
    }

    /// Takes what a walk through a file found; `whole`: the file will not grow any more.
    pub async fn found(&self, path: PathBuf, walk: Walk, whole: bool) -> Result<(), IndexError> {
        self.change("take a walked segment", move |c, _| segments::found(c, &path, &walk, whole)).await
    }

    /// Notes that a rule deletes a segment, before its file goes.
    pub async fn delete_segment(&self, id: SegmentId, rule: &'static str) -> Result<(), IndexError> {
        self.change("delete a segment", move |c, _| segments::delete(c, id, rule)).await
    }

    /// A segment that was thought to be missing is there again.
    pub async fn revive_segment(&self, id: SegmentId) -> Result<(), IndexError> {
        self.change("take a segment back", move |c, _| segments::revive(c, id)).await
    }

    /// Drops what the media folder tells of segments that are there: the next walk makes it again and offers all of
    /// it. Segments a rule deleted, and objects reported whole, are in no file and stay.
    pub async fn drop_recorded(&self) -> Result<(), IndexError> {
        self.change("drop what was recorded", move |c, throttle| {
            *throttle = Throttle::default();
            segments::drop_recorded(c)
        })
        .await
    }

    /// Drops rows that nobody will ask for: deleted segments whose deletion the hub knows, and objects from
    /// before `before`, unless they still wait.
    pub async fn forget(&self, before: WallTime) -> Result<(), IndexError> {
        self.change("forget old rows", move |c, _| {
            segments::forget(c, before)?;
            objects::forget(c, before)
        })
        .await
    }

    /// Makes everything captured since then wait again, under new sequences and the same revisions. Records of
    /// the index stream follow with the next walk.
    pub async fn offer_again(&self, since: WallTime) -> Result<(), IndexError> {
        self.change("offer again", move |c, throttle| {
            *throttle = Throttle::default();
            segments::offer_again(c, since)?;
            objects::offer_again(c, since)
        })
        .await
    }

    /// Waits until everything asked before is done, and flushes the log into the database.
    pub async fn flush(&self) -> Result<(), IndexError> {
        self.ask(|owner| {
            let checkpoint = owner.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            checkpoint.map_err(failed("flush the log"))
        })
        .await
    }

    /// Changes what `epoch` counted; in an index that was made anew since, the same sequences are other reports.
    async fn change_of<R: Default + Send + 'static>(
        &self,
        epoch: Epoch,
        attempt: &'static str,
        work: impl FnOnce(&Connection) -> Result<R, IndexError> + Send + 'static,
    ) -> Result<R, IndexError> {
        self.ask(
            move |owner| {
                if *owner.epoch.borrow() != epoch { Ok(R::default()) } else { owner.change(attempt, |c, _| work(c)) }
            },
        )
        .await
    }

    /// Runs in one transaction and tells who follows the outbox.
    async fn change<R: Send + 'static>(
        &self,
        attempt: &'static str,
        work: impl FnOnce(&Connection, &mut Throttle) -> Result<R, IndexError> + Send + 'static,
    ) -> Result<R, IndexError> {
        self.ask(move |owner| owner.change(attempt, work)).await
    }

    /// As on a disk that is full.
    #[cfg(test)]
    pub(crate) async fn refuse_writes(&self, refuse: bool) {
        let refusing = self.with(move |c| c.pragma_update(None, "query_only", refuse).map_err(failed("refuse")));
        refusing.await.unwrap();
    }

    /// Runs on the thread, for tests that spoil something.
    #[cfg(test)]
    pub(super) async fn with<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<R, IndexError> + Send + 'static,
    ) -> Result<R, IndexError> {
        self.ask(move |owner| work(&owner.connection)).await
    }

    async fn ask<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Owner) -> Result<R, IndexError> + Send + 'static,
    ) -> Result<R, IndexError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |owner| {
            // Whoever asked may be gone; the work is done all the same.
            let result = work(owner);
            owner.damaged |= result.as_ref().is_err_and(is_damage);
            let _ = reply.send(result);
        });
        self.jobs.send(job).await.map_err(|_| IndexError::Closed)?;
        answer.await.map_err(|_| IndexError::Closed)?
    }
}

fn take_one(
    c: &Connection,
    throttle: &mut Throttle,
    fact: Fact,
    utc: WallTime,
    mono: MonoTime,
) -> Result<(), IndexError> {
    match fact {
        Fact::SegmentOpened { segment, camera, stream, path, header, wrapped_key } => {
            segments::opened(c, segment, camera, stream, &path, &header, &wrapped_key)
        }
        Fact::SegmentGrew { segment, start, end, fragment_count, size_bytes, newest_link, closed, signed } => {
            if throttle.passes(segment, mono, closed) {
                let (link, signed) = (newest_link.as_slice(), signed.as_ref());
                let grown =
                    Grown { start: &start, end: &end, fragments: fragment_count, size_bytes, link, closed, signed };
                segments::grew(c, segment, &grown)
            } else {
                Ok(())
            }
        }
        Fact::SegmentSuspect { segment, cause } => segments::doubt(c, segment, &cause),
        Fact::IndexRecord { segment, offset, object, revision, .. } => {
            offers::offer_record(c, segment, offset, object, revision, utc.0)
        }
        Fact::Camera(state) => objects::put_camera(c, &state, utc),
        Fact::Gap { object, gap } => objects::put_gap(c, object, &gap, utc),
        Fact::Anchor(anchor) => objects::put_anchor(c, &anchor),
        Fact::AnalyseRestarted(_) => Ok(()),
    }
}
