//! One thread that writes everything of one camera, in order.

pub use super::orders::{EdgeIdentity, IndexOrder, MediaOrder, RecordError, Setting};

use super::lane::{Doubtful, Lane};
use super::queue::{Giver, Next, Order, Taker, queue};
use campanile_proto::edge::v1::CameraCondition;
use campanile_proto::kind::Chain;
use campanile_proto::types::v1::{Instant, Stream};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

const TICK: Duration = Duration::from_millis(250);

/// What became of a stream's orders.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// First: when the newest footage of earlier runs ends.
    Begins { covered: Option<Instant> },
    /// Footage of this time was written.
    Written { start: Instant, end: Instant },
    /// Footage is lost until the next [`Outcome::Written`].
    Failed(Trouble),
    /// Footage of this time was written, and the disk may not have it.
    Doubtful { start: Instant, end: Instant, condition: CameraCondition },
    /// The run is over and its segment closed.
    Closed,
}

/// What keeps footage from the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub condition: CameraCondition,
    /// For the installer.
    pub sentence: String,
}

/// One stream's outcomes, in order; about one a second.
pub type Outcomes = mpsc::UnboundedReceiver<Outcome>;

/// Gives orders; cheap to clone, never waits.
#[derive(Clone)]
pub struct Recorder {
    orders: Giver,
    alive: watch::Receiver<()>,
}

/// Joins the thread once every [`Recorder`] is gone.
pub struct Writing(JoinHandle<()>);

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the disk does not keep up")]
pub struct NotTaken;

impl Recorder {
    /// Gives the outcomes of the main stream and of the sub-stream.
    pub fn start(setting: Setting) -> std::io::Result<(Self, [Outcomes; 2], Writing)> {
        let (orders, taker) = queue();
        let (lives, alive) = watch::channel(());
        let ((main, of_main), (sub, of_sub)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let thread = std::thread::Builder::new().name("recorder".into()).spawn(move || {
            let _lives = lives;
            Writer { setting, outcomes: [main, sub] }.run(&taker);
        })?;
        Ok((Self { orders, alive }, [of_main, of_sub], Writing(thread)))
    }

    pub fn media(&self, order: MediaOrder) -> Result<(), NotTaken> {
        self.orders.give(Order::Media(Box::new(order))).map_err(|_| NotTaken)
    }

    pub fn index(&self, order: IndexOrder) -> Result<(), NotTaken> {
        self.orders.give(Order::Index(order)).map_err(|_| NotTaken)
    }

    /// The run of this stream is over.
    pub fn end_run(&self, stream: Stream) {
        let _ = self.orders.give(Order::Close(stream));
    }

    /// Closes when the thread is gone.
    pub fn alive(&self) -> watch::Receiver<()> {
        self.alive.clone()
    }
}

impl Writing {
    /// Waits until everything is on disk and every segment closed; false when the thread panicked.
    pub fn finish(self) -> bool {
        self.0.join().is_ok()
    }
}

/// Lives in the thread.
struct Writer {
    setting: Setting,
    outcomes: [mpsc::UnboundedSender<Outcome>; 2],
}

impl Writer {
    fn run(&self, orders: &Taker) {
        let setting = &self.setting;
        let mut lanes = [Stream::Main, Stream::Sub, Stream::Index].map(|stream| Lane::new(stream, setting));
        for (to, lane) in self.outcomes.iter().zip(&lanes) {
            let _ = to.send(Outcome::Begins { covered: lane.covered().cloned() });
        }
        loop {
            match orders.next(TICK) {
                Next::Order(Order::Media(order)) => {
                    let stream = order.stream;
                    let outcome = lanes[place(stream)].media(setting, &order);
                    let (start, end) = (order.fragment.arrival, order.fragment.last_arrival);
                    self.tell(stream, outcome.map(|()| Outcome::Written { start, end }));
                }
                Next::Order(Order::Index(order)) => {
                    // Why is in the log; findings are not footage.
                    let _ = lanes[place(Stream::Index)].index(setting, &order);
                }
                Next::Order(Order::Close(stream)) => {
                    lanes[place(stream)].close(setting);
                    self.tell(stream, Ok(Outcome::Closed));
                }
                Next::Idle => {}
                Next::Over => break,
            }
            for (lane, stream) in lanes.iter_mut().zip([Stream::Main, Stream::Sub, Stream::Index]) {
                if let Err(error) = lane.tick(setting) {
                    self.tell(stream, Err(error));
                }
                if let Some(Doubtful { start, end, full }) = lane.take_doubtful() {
                    let condition = if full { CameraCondition::DiskFull } else { CameraCondition::DiskError };
                    self.tell(stream, Ok(Outcome::Doubtful { start, end, condition }));
                }
            }
        }
        lanes.iter_mut().for_each(|lane| lane.close(setting));
    }

    fn tell(&self, stream: Stream, outcome: Result<Outcome, RecordError>) {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            // The reason for resting was told.
            Err(RecordError::Resting) => return,
            Err(error) => {
                Outcome::Failed(Trouble { condition: error.condition(), sentence: Chain(&error).to_string() })
            }
        };
        if let Some(to) = self.outcomes.get(place(stream)) {
            // Nobody may listen any more.
            let _ = to.send(outcome);
        }
    }
}

/// Of a stream among the lanes.
fn place(stream: Stream) -> usize {
    match stream {
        Stream::Main | Stream::Unspecified => 0,
        Stream::Sub => 1,
        Stream::Index => 2,
    }
}

#[cfg(test)]
mod tests;
