//! One thread that writes everything of one camera, in order.

pub use super::lane::{EdgeIdentity, IndexOrder, MediaOrder, RecordError, Setting};

use super::lane::Lane;
use campanile_proto::edge::v1::CameraCondition;
use campanile_proto::kind::Chain;
use campanile_proto::types::v1::Stream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// Fragments that wait while the disk is slow; more are lost, and the gap is told.
const QUEUE: usize = 64;
const TICK: Duration = Duration::from_millis(250);

enum Order {
    Media(Box<MediaOrder>),
    Index(IndexOrder),
    /// The run is over.
    Close(Stream),
}

/// What keeps footage from the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub condition: CameraCondition,
    /// For the installer.
    pub sentence: String,
}

/// Gives orders; cheap to clone, never waits.
#[derive(Clone)]
pub struct Recorder {
    orders: SyncSender<Order>,
    trouble: watch::Receiver<Option<Trouble>>,
}

/// Joins the thread once every [`Recorder`] is gone.
pub struct Writing(JoinHandle<()>);

/// The queue is full or the thread is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the disk does not keep up")]
pub struct NotTaken;

impl Recorder {
    pub fn start(setting: Setting) -> std::io::Result<(Self, Writing)> {
        let (orders, receiver) = sync_channel(QUEUE);
        let (tell, trouble) = watch::channel(None);
        let thread = std::thread::Builder::new().name("recorder".into()).spawn(move || {
            write_all(&setting, &receiver, &tell);
        })?;
        Ok((Self { orders, trouble }, Writing(thread)))
    }

    pub fn media(&self, order: MediaOrder) -> Result<(), NotTaken> {
        self.orders.try_send(Order::Media(Box::new(order))).map_err(|_| NotTaken)
    }

    pub fn index(&self, order: IndexOrder) -> Result<(), NotTaken> {
        self.orders.try_send(Order::Index(order)).map_err(|_| NotTaken)
    }

    /// The run of this stream is over.
    pub fn end_run(&self, stream: Stream) {
        let _ = self.orders.try_send(Order::Close(stream));
    }

    /// None: records reach the disk.
    pub fn trouble(&self) -> watch::Receiver<Option<Trouble>> {
        self.trouble.clone()
    }
}

impl Writing {
    /// Waits until everything is on disk and every segment closed; false when the thread panicked.
    pub fn finish(self) -> bool {
        self.0.join().is_ok()
    }
}

fn write_all(setting: &Setting, orders: &Receiver<Order>, tell: &watch::Sender<Option<Trouble>>) {
    let mut lanes = [Stream::Main, Stream::Sub, Stream::Index].map(|stream| Lane::new(stream, setting));
    loop {
        let outcome = match orders.recv_timeout(TICK) {
            Ok(Order::Media(order)) => Some(lane(&mut lanes, order.stream).media(setting, &order)),
            Ok(Order::Index(order)) => Some(lane(&mut lanes, Stream::Index).index(setting, &order)),
            Ok(Order::Close(stream)) => {
                lane(&mut lanes, stream).close(setting);
                None
            }
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        if let Some(outcome) = outcome {
            report(&outcome, tell);
        }
        for lane in &mut lanes {
            if let Err(error) = lane.tick(setting) {
                report(&Err(error), tell);
            }
        }
    }
    lanes.iter_mut().for_each(|lane| lane.close(setting));
}

fn lane(lanes: &mut [Lane; 3], stream: Stream) -> &mut Lane {
    &mut lanes[match stream {
        Stream::Main | Stream::Unspecified => 0,
        Stream::Sub => 1,
        Stream::Index => 2,
    }]
}

fn report(outcome: &Result<(), RecordError>, tell: &watch::Sender<Option<Trouble>>) {
    let trouble = match outcome {
        Ok(()) => None,
        // The reason for resting was told.
        Err(RecordError::Resting) => return,
        Err(error) => Some(Trouble { condition: error.condition(), sentence: Chain(error).to_string() }),
    };
    tell.send_if_modified(|told| {
        let changed = *told != trouble;
        *told = trouble;
        changed
    });
}
