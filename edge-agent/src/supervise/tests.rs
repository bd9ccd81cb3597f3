//! One camera over a source that a test plays, on a clock that it cranks.

use super::{Camera, Dependencies};
use crate::camera::gap::KeptGaps;
use crate::config::{CameraConfig, Transport};
use crate::facts::{self, Fact};
use crate::media::parameters::ParameterSets;
use crate::media::stamp::{Belief, Stamper};
use crate::media::{AccessUnit, Address, Codec, Item, Opener, Source, SourceError, StreamFormat};
use crate::record::home::Home;
use bytes::Bytes;
use campanile_proto::edge::v1::{CameraCondition, CameraState, Gap};
use campanile_proto::grid::CellSet;
use campanile_proto::ids::CameraId;
use campanile_proto::time::{Clock, SimClock, WallTime};
use campanile_proto::types::v1::SegmentHeader;
use prost::Message;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const SPS: [&str; 2] = [
    "674d401ed900c037a6a0c0c0c80000030008000003019078b17240",
    // The same with another level.
    "674d401fd900c037a6a0c0c0c80000030008000003019078b17240",
];
const PPS: &str = "68ebc1b2c8";

fn format(which: usize) -> Arc<StreamFormat> {
    let mut sets = ParameterSets::new(Codec::H264);
    assert!([SPS[which], PPS].iter().all(|set| sets.offer(&hex::decode(set).unwrap())));
    Arc::new(sets.format().unwrap())
}

type Feeding = mpsc::Sender<Result<Item, SourceError>>;

/// Gives each connection to the test.
struct Played {
    opened: mpsc::UnboundedSender<Feeding>,
    /// Blocks while the test holds the other end.
    hangs: Mutex<Option<std_mpsc::Receiver<()>>>,
    refuses: bool,
}

impl Opener for Played {
    fn open(&self, _: &Address) -> Result<Source, SourceError> {
        if let Some(hangs) = self.hangs.lock().unwrap().take() {
            let _ = hangs.recv();
        }
        let (sender, items) = mpsc::channel(256);
        let _ = self.opened.send(sender);
        if self.refuses { Err(SourceError::AuthenticationRefused) } else { Ok(Source::new(items, ())) }
    }
}

struct Stage {
    media: tempfile::TempDir,
    clock: Arc<SimClock>,
    opened: mpsc::UnboundedReceiver<Feeding>,
    facts: mpsc::Receiver<Fact>,
    seen: Vec<Fact>,
    stop: CancellationToken,
    running: JoinHandle<()>,
    pts_90k: i64,
}

impl Stage {
    fn new(change: impl FnOnce(&mut Played, &mut Dependencies)) -> Self {
        let media = tempfile::tempdir().unwrap();
        let clock = Arc::new(SimClock::starting_at(WallTime(crate::specimen::NOON)));
        let (facts, receiver, _) = facts::channel();
        let (opened_to, opened) = mpsc::unbounded_channel();
        let mut played = Played { opened: opened_to, hangs: Mutex::new(None), refuses: false };
        let mut deps = Dependencies {
            clock: clock.clone(),
            believe: Arc::new(|| Belief { trusted: true, uncertainty_us: 7 }),
            keys: watch::channel(None).1,
            facts,
            media_dir: media.path().to_owned(),
            home: Home::new(media.path(), media.path()),
            identity: None,
            record_in_clear: true,
            signer: None,
            retention_days: 7,
            wishes: watch::channel(Default::default()).1,
            gaps: Default::default(),
            off_since: None,
            full: Arc::default(),
            analyser: None,
        };
        change(&mut played, &mut deps);
        let config = CameraConfig {
            name: "porta".into(),
            site: String::new(),
            address: String::new(),
            latitude: 0.0,
            longitude: 0.0,
            main: "rtsp://camera/main".into(),
            sub: None,
            username: None,
            password: None,
            transport: Transport::Tcp,
            analyse: true,
            days: None,
            max_bytes: None,
            ignore: CellSet::EMPTY,
        };
        let stamper = Stamper::new(clock.clone(), deps.believe.clone());
        let camera = Camera::with_opener(&config, CameraId::from_u128(1), &deps, stamper, Arc::new(played)).unwrap();
        drop(deps);
        let stop = CancellationToken::new();
        let running = tokio::spawn(camera.run(stop.clone()));
        Self { media, clock, opened, facts: receiver, seen: Vec::new(), stop, running, pts_90k: 0 }
    }

    async fn connection(&mut self) -> Feeding {
        tokio::time::timeout(Duration::from_secs(20), self.opened.recv()).await.expect("no connection").unwrap()
    }

    /// Pictures of a tenth of a second, the first a key frame.
    async fn send(&mut self, to: &Feeding, pictures: usize) {
        for picture in 0..pictures {
            let mut data = vec![0, 0, 0, 2];
            data.extend(if picture == 0 { [0x65, 1] } else { [0x41, 1] });
            let unit = AccessUnit {
                data: Bytes::from(data),
                pts_90k: self.pts_90k,
                rtp_time: self.pts_90k as u32,
                camera_ntp_us: 0,
                key: picture == 0,
                arrival: self.clock.instant(7),
            };
            to.send(Ok(Item::Unit(unit))).await.unwrap();
            self.pts_90k += 9_000;
            self.clock.advance_micros(100_000);
        }
    }

    /// Waits for a fact, bounded; those before it are kept in `seen`.
    async fn until<T>(&mut self, what: &str, found: impl Fn(&Fact) -> Option<T>) -> T {
        let waiting = async {
            loop {
                let fact = self.facts.recv().await.expect("the camera goes on");
                let found = found(&fact);
                self.seen.push(fact);
                if let Some(found) = found {
                    return found;
                }
            }
        };
        match tokio::time::timeout(Duration::from_secs(20), waiting).await {
            Ok(found) => found,
            Err(_) => panic!("{what}: not within 20 s; seen: {:#?}", self.seen),
        }
    }

    fn bytes_on_disk(&self) -> u64 {
        fn below(folder: &std::path::Path) -> u64 {
            let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
            let size = |entry: std::fs::DirEntry| match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => below(&entry.path()),
                other => other.map_or(0, |metadata| metadata.len()),
            };
            entries.map(size).sum()
        }
        below(self.media.path())
    }

    async fn until_on_disk(&self, bytes: u64) {
        let grown = async {
            while self.bytes_on_disk() < bytes {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), grown).await.expect("nothing more reached the disk");
    }

    async fn end(mut self) -> Vec<Fact> {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(10), &mut self.running).await.expect("it ends").unwrap();
        while let Some(fact) = self.facts.recv().await {
            self.seen.push(fact);
        }
        self.seen
    }
}

fn condition(wanted: CameraCondition) -> impl Fn(&Fact) -> Option<CameraState> {
    move |fact| match fact {
        Fact::Camera(state) if state.streams.iter().any(|s| s.condition() == wanted) => Some(state.clone()),
        _ => None,
    }
}

fn opened(fact: &Fact) -> Option<Bytes> {
    match fact {
        Fact::SegmentOpened { header, .. } => Some(header.clone()),
        _ => None,
    }
}

fn hour(header: &Bytes) -> u64 {
    SegmentHeader::decode(header.clone()).unwrap().hour
}

fn gap(fact: &Fact) -> Option<Gap> {
    match fact {
        Fact::Gap { gap, .. } => Some(gap.clone()),
        _ => None,
    }
}

#[tokio::test]
async fn a_camera_that_hangs_while_dialling_does_not_hold_up_the_end() {
    let (held, hangs) = std_mpsc::channel();
    let mut stage = Stage::new(|played, _| played.hangs = Mutex::new(Some(hangs)));
    stage.until("it dials", condition(CameraCondition::Connecting)).await;
    let (nobody, opened) = mpsc::unbounded_channel();
    drop(nobody);
    let mut opened = std::mem::replace(&mut stage.opened, opened);
    stage.end().await;
    assert!(opened.try_recv().is_err(), "it ended while the dialling hangs");
    drop(held);
    tokio::time::timeout(Duration::from_secs(20), opened.recv()).await.expect("it hung until now").unwrap();
}

#[tokio::test]
async fn what_arrives_is_recorded_and_a_broken_connection_is_a_gap_until_the_next() {
    let mut stage = Stage::new(|_, _| {});
    let first = stage.connection().await;
    first.send(Ok(Item::Format(format(0)))).await.unwrap();
    stage.send(&first, 30).await;
    stage.until("recording", condition(CameraCondition::Recording)).await;
    drop(first);
    let lost = |fact: &Fact| gap(fact).filter(|gap| gap.cause() == CameraCondition::Unreachable);
    assert!(stage.until("a gap", lost).await.ongoing);
    stage.clock.advance_micros(5_000_000);
    let second = stage.connection().await;
    second.send(Ok(Item::Format(format(0)))).await.unwrap();
    stage.send(&second, 30).await;
    let over = stage.until("the end of the gap", |fact| lost(fact).filter(|gap| !gap.ongoing)).await;
    let (start, end) = (over.start.unwrap().mono_us, over.end.unwrap().mono_us);
    assert!((5_000_000..5_300_000).contains(&(end - start)), "{}", end - start);
    let facts = stage.end().await;
    assert_eq!(facts.iter().filter_map(opened).count(), 2, "a connection is a run of its own");
}

#[tokio::test]
async fn what_a_camera_sent_before_it_stalled_is_on_disk_before_two_seconds_are_over() {
    let mut stage = Stage::new(|_, _| {});
    let connection = stage.connection().await;
    connection.send(Ok(Item::Format(format(0)))).await.unwrap();
    stage.send(&connection, 15).await;
    let begun = stage.until("the first fragment", opened);
    begun.await;
    stage.until("it is written", condition(CameraCondition::Recording)).await;
    let before = stage.bytes_on_disk();
    // Half a second of pictures waits for what would end it; nothing follows.
    stage.clock.advance_micros(500_000);
    stage.until_on_disk(before + 1).await;
    stage.end().await;
}

#[tokio::test]
async fn the_time_until_the_first_picture_is_a_gap_too() {
    let mut stage = Stage::new(|_, _| {});
    let begun = stage.until("a gap", gap).await;
    assert_eq!((begun.ongoing, begun.cause()), (true, CameraCondition::Connecting));
    stage.clock.advance_micros(3_000_000);
    let connection = stage.connection().await;
    connection.send(Ok(Item::Format(format(0)))).await.unwrap();
    stage.send(&connection, 30).await;
    let over = stage.until("the end of the gap", gap).await;
    assert_eq!((&over.start, over.ongoing, over.cause()), (&begun.start, false, CameraCondition::Connecting));
    assert!(over.end.unwrap().mono_us - over.start.unwrap().mono_us >= 3_000_000);
    stage.end().await;
}

#[tokio::test]
async fn other_parameter_sets_begin_another_run() {
    let mut stage = Stage::new(|_, _| {});
    let connection = stage.connection().await;
    for which in [0, 1] {
        connection.send(Ok(Item::Format(format(which)))).await.unwrap();
        stage.send(&connection, 30).await;
    }
    let mut runs = Vec::new();
    for _ in 0..2 {
        let header = stage.until("a segment", opened).await;
        runs.push(SegmentHeader::decode(header).unwrap().run_id);
    }
    assert_ne!(runs[0], runs[1]);
    stage.end().await;
}

#[tokio::test]
async fn no_segment_crosses_an_hour() {
    let mut stage = Stage::new(|_, _| {});
    // A fragment begins half a second before the hour and is written after it.
    stage.clock.step_utc(WallTime::from_hour(500_001).plus_micros(-2_500_000));
    let connection = stage.connection().await;
    connection.send(Ok(Item::Format(format(0)))).await.unwrap();
    for second in 0..6 {
        let before = stage.bytes_on_disk();
        stage.send(&connection, 10).await;
        if second > 0 {
            stage.until_on_disk(before + 1).await;
        }
    }
    let facts = stage.end().await;
    let hours: Vec<u64> = facts.iter().filter_map(opened).map(|header| hour(&header)).collect();
    assert_eq!(hours, [500_000, 500_001], "and none is begun anew for the last second of an hour");
}

#[tokio::test]
async fn a_wrong_password_is_named() {
    let mut stage = Stage::new(|played, _| played.refuses = true);
    let state = stage.until("the cause", condition(CameraCondition::AuthenticationRefused)).await;
    assert!(state.streams[0].detail.contains("password"), "{}", state.streams[0].detail);
    assert!(std::fs::read_dir(stage.media.path()).unwrap().next().is_none(), "nothing was recorded");
    stage.end().await;
}

#[tokio::test]
async fn a_camera_whose_reader_dies_ends_as_a_whole_so_that_it_is_started_again() {
    // Asked for by the reader first.
    let mut stage = Stage::new(|_, deps| deps.believe = Arc::new(|| panic!("on purpose")));
    tokio::time::timeout(Duration::from_secs(10), &mut stage.running).await.expect("it ends by itself").unwrap();
    assert!(!stage.stop.is_cancelled(), "nobody told it to");
}

#[tokio::test]
async fn the_time_the_box_was_off_is_told_from_the_last_footage_to_the_start() {
    let mut first = Stage::new(|_, _| {});
    let connection = first.connection().await;
    connection.send(Ok(Item::Format(format(0)))).await.unwrap();
    first.send(&connection, 20).await;
    first.until("recording", condition(CameraCondition::Recording)).await;
    let media = std::mem::replace(&mut first.media, tempfile::tempdir().unwrap());
    let ended = first.clock.utc();
    first.end().await;
    let at = |utc: WallTime| campanile_proto::types::v1::Instant {
        boot_id: vec![9; 16].into(),
        utc_us: utc.0,
        ..Default::default()
    };
    let alive = at(ended.plus_micros(-1_500_000));
    let mut second = Stage::new(|_, deps| {
        deps.off_since = Some(alive.clone());
        deps.media_dir = media.path().to_owned();
    });
    let off = second.until("the gap", gap).await;
    assert_eq!((off.cause(), off.ongoing), (CameraCondition::EdgeOff, false));
    assert_eq!(off.start.unwrap().utc_us, ended.0, "footage after the last sign of life is no gap");
    second.end().await;
}

#[tokio::test]
async fn a_gap_in_which_the_reader_died_is_ended_by_the_next_ones_footage() {
    let (kept, dies) = (KeptGaps::default(), Arc::new(AtomicBool::new(false)));
    let mut first = Stage::new(|_, deps| {
        let dies = dies.clone();
        deps.gaps = kept.clone();
        deps.believe = Arc::new(move || {
            assert!(!dies.load(Ordering::SeqCst), "on purpose");
            Belief { trusted: true, uncertainty_us: 7 }
        });
    });
    let told = |fact: &Fact| match fact {
        Fact::Gap { object, gap } => Some((*object, gap.ongoing)),
        _ => None,
    };
    drop(first.connection().await);
    let (begun, ongoing) = first.until("a gap", told).await;
    assert!(ongoing);
    let connection = first.connection().await;
    dies.store(true, Ordering::SeqCst);
    first.clock.advance_micros(2_000_000);
    drop(connection);
    tokio::time::timeout(Duration::from_secs(10), &mut first.running).await.expect("its reader dies").unwrap();

    let mut second = Stage::new(|_, deps| deps.gaps = kept);
    let connection = second.connection().await;
    connection.send(Ok(Item::Format(format(0)))).await.unwrap();
    second.send(&connection, 30).await;
    let ended = second.until("the end of the gap", |fact| told(fact).filter(|(_, ongoing)| !ongoing)).await;
    assert_eq!(ended, (begun, false));
    second.end().await;
}
