//! The thread that writes, over a folder that a test can spoil.

use super::*;
use crate::facts;
use crate::index::walk::{Depth, head, walk};
use crate::media::parameters::ParameterSets;
use crate::media::{Codec, StreamFormat};
use crate::record::fixture;
use crate::record::fragment::{Fragment, Sample};
use crate::record::home::Home;
use crate::record::store::Store;
use campanile_proto::ids::{CameraId, EdgeId, OrganisationId, RunId};
use campanile_proto::segment::SegmentReader;
use campanile_proto::time::{Clock, SimClock, WallTime};
use campanile_proto::types::v1::RecordKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod failing;

const CAMERA: CameraId = CameraId::from_u128(1);

fn format() -> Arc<StreamFormat> {
    let mut sets = ParameterSets::new(Codec::H264);
    for set in ["674d401ed900c037a6a0c0c0c80000030008000003019078b17240", "68ebc1b2c8"] {
        assert!(sets.offer(&hex::decode(set).unwrap()));
    }
    Arc::new(sets.format().unwrap())
}

struct Bench {
    media: tempfile::TempDir,
    clock: Arc<SimClock>,
    run: RunId,
    next_index: u64,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(SimClock::starting_at(WallTime(crate::specimen::NOON)));
        Self { media: tempfile::tempdir().unwrap(), clock, run: RunId::random(), next_index: 0 }
    }

    fn start(&self, change: impl FnOnce(&mut Setting)) -> (Recorder, Outcomes, Writing) {
        let mut setting = fixture::on(self.clock.clone(), self.media.path(), CAMERA, facts::channel().0);
        change(&mut setting);
        let (recorder, [main, _], writing) = Recorder::start(setting).unwrap();
        (recorder, main, writing)
    }

    /// A fragment of one second; the clock goes on with it.
    fn record(&mut self, recorder: &Recorder) {
        let data = bytes::Bytes::from(vec![self.next_index as u8; 500]);
        let arrival = self.clock.instant(7);
        self.clock.advance_micros(1_000_000);
        let fragment = Fragment {
            decode_time_90k: self.next_index * 90_000,
            duration_90k: 90_000,
            samples: vec![Sample { data, duration_90k: 90_000, offset_90k: 0, key: true }],
            arrival: arrival.clone(),
            last_arrival: arrival,
            rtp_time: 0,
            camera_ntp_us: 0,
        };
        let (stream, run, index) = (Stream::Main, self.run, self.next_index);
        recorder.media(MediaOrder { stream, format: format(), run, index, fragment }).unwrap();
        self.next_index += 1;
    }

    fn store(&self) -> Store {
        Store::new(self.media.path().to_owned(), Home::new(self.media.path(), self.media.path()))
    }

    fn stream_folder(&self) -> PathBuf {
        self.store().folder(CAMERA, Stream::Main)
    }

    fn segments(&self) -> Vec<PathBuf> {
        let entries = |folder: &Path| -> Vec<PathBuf> {
            std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
        };
        entries(&self.stream_folder()).iter().flat_map(|hour| entries(hour)).collect()
    }
}

/// What became of the next order.
async fn next(outcomes: &mut Outcomes) -> Outcome {
    loop {
        let next = tokio::time::timeout(Duration::from_secs(20), outcomes.recv()).await;
        match next.expect("nothing came of it").unwrap() {
            Outcome::Begins { .. } => {}
            outcome => return outcome,
        }
    }
}

#[tokio::test]
async fn an_enrolled_box_without_keys_writes_nothing_in_clear_whatever_its_file_says() {
    let mut bench = Bench::new();
    let enrolled = EdgeIdentity { organisation: OrganisationId::from_u128(1), edge: EdgeId::from_u128(2) };
    let (recorder, mut outcomes, _writing) = bench.start(|setting| setting.identity = Some(enrolled));
    bench.record(&recorder);
    let Outcome::Failed(trouble) = next(&mut outcomes).await else { panic!("it recorded") };
    assert_eq!(trouble.condition, CameraCondition::NoSealingKeys);
    assert!(bench.segments().is_empty());
    // Control: the same box before it was enrolled.
    let (recorder, mut outcomes, _writing) = bench.start(|_| {});
    bench.record(&recorder);
    assert!(matches!(next(&mut outcomes).await, Outcome::Written { .. }));
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_told_and_recording_goes_on_once_it_can() {
    let mut bench = Bench::new();
    let folder = bench.stream_folder();
    std::fs::create_dir_all(folder.parent().unwrap()).unwrap();
    std::fs::write(&folder, "in its place").unwrap();
    let (recorder, mut outcomes, _writing) = bench.start(|_| {});
    bench.record(&recorder);
    let Outcome::Failed(trouble) = next(&mut outcomes).await else { panic!("it recorded") };
    assert_eq!(trouble.condition, CameraCondition::DiskError);
    std::fs::remove_file(&folder).unwrap();
    bench.record(&recorder);
    bench.record(&recorder);
    bench.record(&recorder);
    let Outcome::Written { start, .. } = next(&mut outcomes).await else { panic!("it rests for ever") };
    assert!(start.mono_us > 1_000_000, "the first is lost and said to be");
}

#[tokio::test]
async fn a_footer_says_when_the_last_picture_ended_and_the_next_start_goes_on_with_its_link() {
    let mut bench = Bench::new();
    let (recorder, mut outcomes, writing) = bench.start(|_| {});
    bench.record(&recorder);
    bench.record(&recorder);
    let end = bench.clock.mono().0;
    bench.clock.advance_micros(30_000_000);
    recorder.end_run(Stream::Main);
    while next(&mut outcomes).await != Outcome::Closed {}
    drop(recorder);
    assert!(writing.finish());
    let first = bench.segments().pop().unwrap();
    let walked = walk(&first, Depth::Verify).unwrap();
    assert_eq!((walked.footer, walked.end.mono_us), (true, end), "not half a minute later");

    let (recorder, mut outcomes, _writing) = bench.start(|_| {});
    let Some(Outcome::Begins { covered: Some(covered) }) = outcomes.recv().await else { panic!("there is footage") };
    assert_eq!(covered.mono_us, end);
    bench.run = RunId::random();
    bench.record(&recorder);
    next(&mut outcomes).await;
    let second = bench.segments().into_iter().find(|path| *path != first).unwrap();
    assert_eq!(head(&second).unwrap().header.previous_link, walked.link.to_vec());
}

#[tokio::test]
async fn the_first_write_does_not_wait_for_a_walk_through_the_last_segment() {
    let mut bench = Bench::new();
    let (recorder, mut outcomes, writing) = bench.start(|_| {});
    (0..4).for_each(|_| bench.record(&recorder));
    for _ in 0..4 {
        next(&mut outcomes).await;
    }
    drop(recorder);
    assert!(writing.finish());
    let path = bench.segments().pop().unwrap();
    let whole = walk(&path, Depth::Verify).unwrap();
    let reader = SegmentReader::open(&path).unwrap();
    let mut entries = reader.entries(SegmentReader::first_offset()).map(Result::unwrap);
    let first = entries.find(|entry| entry.prefix.kind == RecordKind::Fragment).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[first.offset as usize + 300] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert!(walk(&path, Depth::Verify).unwrap().damage.is_some(), "a walk would have met the damage");
    let store = bench.store();
    assert_eq!(store.newest(CAMERA, Stream::Main).unwrap().link, whole.link);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert_ne!(store.newest(CAMERA, Stream::Main).unwrap().link, whole.link, "its own record is read");
}

#[tokio::test]
async fn a_disk_that_is_away_fills_no_other_and_recording_goes_on_once_it_is_back() {
    let mut bench = Bench::new();
    let (state, media) = (tempfile::tempdir().unwrap(), bench.media.path().to_owned());
    let home = Home::new(state.path(), &media);
    let on_it = |setting: &mut Setting| setting.store = Store::new(media.clone(), home.clone());
    let (recorder, mut outcomes, writing) = bench.start(on_it);
    bench.record(&recorder);
    assert!(matches!(next(&mut outcomes).await, Outcome::Written { .. }));
    drop(recorder);
    assert!(writing.finish());
    let first = bench.segments();

    let aside = state.path().join("disk");
    std::fs::rename(&media, &aside).unwrap();
    std::fs::create_dir(&media).unwrap();
    let (recorder, mut outcomes, writing) = bench.start(on_it);
    bench.record(&recorder);
    let Outcome::Failed(trouble) = next(&mut outcomes).await else { panic!("it recorded to another disk") };
    assert_eq!(trouble.condition, CameraCondition::DiskError);
    assert!(trouble.sentence.contains("not mounted"), "{}", trouble.sentence);
    assert_eq!(std::fs::read_dir(&media).unwrap().count(), 0);

    std::fs::remove_dir(&media).unwrap();
    std::fs::rename(&aside, &media).unwrap();
    (0..3).for_each(|_| bench.record(&recorder));
    assert!(matches!(next(&mut outcomes).await, Outcome::Written { .. }));
    drop(recorder);
    assert!(writing.finish());
    let second = bench.segments().into_iter().find(|path| !first.contains(path)).unwrap();
    let chained = head(&second).unwrap().header.previous_segment_id;
    assert_eq!(head(&first[0]).unwrap().header.segment_id, chained, "what came before was found");
}
