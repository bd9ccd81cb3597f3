use super::*;
use crate::clock::Timekeeper;
use crate::facts::Fact;
use crate::index::rescan::{ThisRun, rescan};
use crate::record::pinned::Pin;
use crate::specimen::{NOON, Specimen, instant};
use crate::uplink::Wishes;
use campanile_proto::edge::v1::HubTime;
use campanile_proto::ids::{CameraId, HoldId, RunId};
use campanile_proto::signed;
use campanile_proto::time::{Clock, SimClock, kept_until};
use campanile_proto::types::v1::{Anchor, Stream, TimeSource};
use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use std::path::PathBuf;
use std::sync::Arc;

const CAMERA: CameraId = CameraId::from_u128(1);

fn segment(n: u128, hour: i64, days: u32, size_bytes: u64) -> Kept {
    let at = WallTime::from_hour(hour);
    Kept { id: SegmentId::from_u128(n), camera: CAMERA, captured: Some(at), place: Place::Known(at), days, size_bytes }
}

/// Of four cameras.
fn segments() -> impl Strategy<Value = Vec<Kept>> {
    let one = (0i64..400, 1u32..8, 1u64..100, 0u128..4);
    proptest::collection::vec(one, 0..40).prop_map(|all| {
        let kept = |(n, (hour, days, size, camera)): (usize, (i64, u32, u64, u128))| Kept {
            camera: CameraId::from_u128(camera),
            ..segment(n as u128, hour, days, size)
        };
        all.into_iter().enumerate().map(kept).collect()
    })
}

/// Without rules of cameras or pins.
fn planned(kept: &[Kept], now: Option<WallTime>, days: u32, max_bytes: u64) -> Vec<(SegmentId, Rule)> {
    plan(kept, now, &rules(days, max_bytes, &[]), &HashSet::new())
}

fn rules(days: u32, max_bytes: u64, cameras: &[(CameraId, CameraRule)]) -> Rules {
    Rules { days, max_bytes: Some(max_bytes), cameras: cameras.iter().copied().collect() }
}

#[test]
fn without_a_clock_nothing_is_old() {
    assert!(planned(&[segment(1, 0, 7, 10)], None, 7, 10).is_empty());
}

#[test]
fn the_hour_and_the_days_are_the_term() {
    let at = |hour| planned(&[segment(1, 100, 7, 10)], Some(WallTime::from_hour(hour)), 7, 100);
    assert!(at(100 + 167).is_empty());
    assert_eq!(at(100 + 168), [(SegmentId::from_u128(1), Rule::Age)]);
}

#[test]
fn a_cameras_own_days_act_at_once_and_never_lengthen_the_boxs_or_the_class() {
    let over = |days: u32, box_days: u32, class: u32, age_hours: i64| {
        let cameras = [(CAMERA, CameraRule { days: Some(days), max_bytes: None })];
        let now = Some(WallTime::from_hour(100 + age_hours));
        !plan(&[segment(1, 100, class, 10)], now, &rules(box_days, u64::MAX, &cameras), &HashSet::new()).is_empty()
    };
    assert!(over(2, 7, 7, 48) && !over(2, 7, 7, 47));
    assert!(over(7, 3, 7, 72) && over(7, 7, 1, 24) && !over(7, 7, 7, 167));
    let of_another = [(CameraId::from_u128(9), CameraRule { days: Some(1), max_bytes: Some(0) })];
    let now = Some(WallTime::from_hour(100 + 30));
    assert!(plan(&[segment(1, 100, 7, 10)], now, &rules(7, u64::MAX, &of_another), &HashSet::new()).is_empty());
}

#[test]
fn a_wish_of_the_hub_shortens_what_is_configured_and_no_disk_keeps_more_than_it_holds() {
    let configured = Rules { days: 5, max_bytes: None, cameras: HashMap::new() };
    let today = |wished, room| (configured.within(wished, room).days, configured.within(wished, room).max_bytes);
    assert_eq!((today(0, 9), today(2, 9), today(7, 9)), ((5, Some(9)), (2, Some(9)), (5, Some(9))));
    let bounded = Rules { max_bytes: Some(4), ..configured };
    assert_eq!((bounded.within(0, 9).max_bytes, bounded.within(0, 3).max_bytes), (Some(4), Some(3)));
}

#[test]
fn what_nobody_can_date_goes_for_space_only_and_this_boots_goes_last() {
    let undated = |n, place| Kept { captured: None, place, ..segment(n, 0, 7, 10) };
    let kept =
        [undated(1, Place::Now(5)), segment(2, 100, 7, 10), undated(3, Place::Unknown(WallTime::from_hour(900)))];
    let late = Some(WallTime::from_hour(100 + 168));
    assert_eq!(planned(&kept, late, 7, 100), [(SegmentId::from_u128(2), Rule::Age)]);
    let order: Vec<_> = planned(&kept, None, 7, 0).into_iter().map(|(id, _)| id).collect();
    assert_eq!(order, [3, 2, 1].map(SegmentId::from_u128));
}

proptest! {
    #[test]
    fn keeps_the_newest_that_fit_and_nothing_over_its_term(
        kept in segments(), now in 0i64..500, days in 1u32..8, max in 0u64..1_500,
    ) {
        let now = WallTime::from_hour(now);
        let gone: HashMap<_, _> = planned(&kept, Some(now), days, max).into_iter().collect();
        let (left, went): (Vec<_>, Vec<_>) = kept.iter().partition(|s| !gone.contains_key(&s.id));
        prop_assert!(left.iter().all(|s| kept_until(s.captured.unwrap(), s.days.min(days)) > now));
        prop_assert!(left.iter().map(|s| s.size_bytes).sum::<u64>() <= max);
        for segment in went.iter().filter(|s| gone[&s.id] == Rule::Space) {
            prop_assert!(left.iter().all(|other| other.place >= segment.place));
        }
    }

    #[test]
    fn never_drops_a_pinned_segment_and_makes_place_with_others(
        kept in segments(), pins in proptest::collection::hash_set(0u128..40, 0..20),
        now in 0i64..500, max in 0u64..1_500, own in 0u64..500,
    ) {
        let pinned: HashSet<SegmentId> = pins.into_iter().map(SegmentId::from_u128).collect();
        let cameras = [(CameraId::from_u128(2), CameraRule { days: Some(1), max_bytes: Some(own) })];
        let now = WallTime::from_hour(now);
        let gone: HashMap<_, _> = plan(&kept, Some(now), &rules(7, max, &cameras), &pinned).into_iter().collect();
        prop_assert!(gone.keys().all(|id| !pinned.contains(id)));
        let left: Vec<_> = kept.iter().filter(|s| !gone.contains_key(&s.id)).collect();
        let loose = |s: &&&Kept| !pinned.contains(&s.id);
        prop_assert!(left.iter().map(|s| s.size_bytes).sum::<u64>() <= max || left.iter().filter(loose).count() == 0);
        let of_camera: Vec<_> = left.iter().filter(|s| s.camera == CameraId::from_u128(2)).copied().collect();
        prop_assert!(of_camera.iter().map(|s| s.size_bytes).sum::<u64>() <= own
            || of_camera.iter().filter(loose).count() == 0);
    }

    #[test]
    fn a_cameras_bound_costs_no_other_camera_a_byte(kept in segments(), own in 0u64..500) {
        let camera = CameraId::from_u128(2);
        let cameras = [(camera, CameraRule { days: None, max_bytes: Some(own) })];
        let gone = plan(&kept, None, &rules(7, u64::MAX, &cameras), &HashSet::new());
        let of = |id: &SegmentId| kept.iter().find(|s| s.id == *id).unwrap();
        prop_assert!(gone.iter().all(|(id, rule)| of(id).camera == camera && *rule == Rule::CameraSpace));
        let places: Vec<_> = gone.iter().map(|(id, _)| (of(id).place, *id)).collect();
        prop_assert!(places.is_sorted(), "oldest first");
        let newest_kept = kept.iter().filter(|s| s.camera == camera && gone.iter().all(|(id, _)| *id != s.id));
        prop_assert!(newest_kept.map(|s| (s.place, s.id)).all(|place| places.last().is_none_or(|last| place > *last)));
    }

    #[test]
    fn a_longer_rule_never_acts_backwards(kept in segments(), now in 0i64..500) {
        let now = Some(WallTime::from_hour(now));
        let count = |days| planned(&kept, now, days, u64::MAX).len();
        prop_assert!(count(7) <= count(3) && count(3) <= count(1));
    }
}

/// A second of the camera, so many days ago.
fn pin(days_ago: i64) -> Pin {
    let from = WallTime(NOON - days_ago * 86_400 * 1_000_000);
    let (to, until) = (from.plus_micros(1_000_000), WallTime(NOON + 30 * 86_400 * 1_000_000));
    Pin { hold: HoldId::from_u128(1), camera: CAMERA, from, to, until }
}

/// Rows as the index knows them, on a clock of ours; one closed segment of `days_ago`.
struct Bench {
    folder: tempfile::TempDir,
    clock: Arc<SimClock>,
    retain: Retain,
}

impl Bench {
    fn new(max_bytes: Option<u64>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(SimClock::starting_at(WallTime(NOON)));
        let its_folder = Folder {
            home: Home::new(folder.path(), folder.path()),
            media_dir: folder.path().to_owned(),
            timekeeper: Arc::new(Timekeeper::open(folder.path(), clock.clone())),
            rules: Rules { days: 7, max_bytes, cameras: HashMap::new() },
            wishes: watch::channel(Wishes::default()).1,
            full: Arc::default(),
            unnoted: Arc::default(),
        };
        let index = Index::open(&folder.path().join("index.sqlite")).unwrap();
        let retain = Retain { folder: its_folder, index, foreseen: watch::Sender::new(None) };
        Self { folder, clock, retain }
    }

    /// A segment of an earlier boot, with what vouched for its clock.
    async fn record(&self, days_ago: i64, vouched_by: Option<TimeSource>) -> PathBuf {
        let start = -days_ago * 86_400;
        let segment = Specimen::open(CameraId::from_u128(1), Stream::Main, RunId::random(), start, 0);
        let segment = segment.fragments(3, 3).close();
        let path = segment.write(&self.retain.folder.media_dir);
        let run = ThisRun { boot: self.clock.boot(), started: self.clock.mono() };
        rescan(&self.retain.index, &self.retain.folder.media_dir, run).await.unwrap();
        if let Some(source) = vouched_by {
            let at = instant(segment.boot, NOON + start * 1_000_000);
            let anchor = Anchor {
                boot_id: at.boot_id,
                mono_us: at.mono_us,
                utc_us: at.utc_us,
                uncertainty_us: 1_000,
                source: source.into(),
            };
            let facts = vec![Fact::Anchor(anchor)];
            self.retain.index.take(facts, WallTime(NOON), MonoTime(0)).await.unwrap();
        }
        path
    }

    /// The hub's holds pin this.
    fn pin(&mut self, pins: Vec<Pin>) {
        self.retain.folder.wishes = watch::channel(Wishes { pins, ..Wishes::default() }).1;
    }

    fn hub_speaks(&self) {
        let key = SigningKey::from_bytes(&[1; 32]);
        let utc = self.clock.utc();
        let payload = [utc.0.to_le_bytes(), 1_000u64.to_le_bytes()].concat();
        let signature = signed::sign(signed::EDGE, "HubTime", &payload, &key).into();
        let time = HubTime { utc_us: utc.0, uncertainty_us: 1_000, signature };
        self.retain.folder.timekeeper.take_hub_time(&time, self.clock.mono(), &key.verifying_key()).unwrap();
    }
}

#[tokio::test]
async fn what_is_over_its_term_goes_once_the_time_is_proven_and_not_before() {
    let bench = Bench::new(None);
    let old = bench.record(8, Some(TimeSource::Hub)).await;
    let young = bench.record(6, Some(TimeSource::Hub)).await;
    assert_eq!(bench.retain.once().await.unwrap(), 0, "the clock is plausible, and that is all");
    bench.hub_speaks();
    assert_eq!(bench.retain.once().await.unwrap(), 1);
    assert!(!old.exists() && young.exists());
}

#[tokio::test]
async fn a_pinned_segment_outlives_its_term_and_a_camera_that_is_bounded_gives_its_oldest() {
    let mut bench = Bench::new(None);
    let old = bench.record(8, Some(TimeSource::Hub)).await;
    let young = [bench.record(3, Some(TimeSource::Hub)).await, bench.record(2, Some(TimeSource::Hub)).await];
    let id = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().parse::<SegmentId>().unwrap();
    bench.pin(vec![pin(8), pin(3)]);
    let rule = CameraRule { days: None, max_bytes: Some(1) };
    bench.retain.folder.rules.cameras.insert(CAMERA, rule);
    bench.hub_speaks();
    assert_eq!(bench.retain.once().await.unwrap(), 1);
    assert!(old.exists() && young[0].exists() && !young[1].exists());
    let row = bench.retain.index.segment(id(&young[1])).await.unwrap().unwrap();
    assert_eq!(row.deleted_by.as_deref(), Some("camera space"));
    // Control: what pins another camera, another time, or ended, holds neither.
    let (other, ended) =
        (Pin { camera: CameraId::from_u128(9), ..pin(8) }, Pin { until: WallTime(NOON - 1_000_000), ..pin(3) });
    bench.pin(vec![other, ended, pin(5)]);
    assert_eq!(bench.retain.once().await.unwrap(), 2);
}

#[tokio::test]
async fn a_capture_that_nobody_dated_is_as_old_as_this_boot() {
    let bench = Bench::new(None);
    let undated = bench.record(20_000, Some(TimeSource::System)).await;
    bench.hub_speaks();
    assert_eq!(bench.retain.once().await.unwrap(), 0, "a dead clock wrote 1972");
    bench.clock.advance_micros(8 * 86_400 * 1_000_000);
    bench.hub_speaks();
    assert_eq!(bench.retain.once().await.unwrap(), 1);
    assert!(!undated.exists());
}

#[tokio::test]
async fn a_segment_whose_closing_was_never_noted_is_deleted_all_the_same() {
    let bench = Bench::new(Some(0));
    let boot = bench.clock.boot();
    let mut segment = Specimen::open(CameraId::from_u128(1), Stream::Main, RunId::random(), 0, 0);
    segment.boot = boot;
    let opened = Fact::SegmentOpened {
        segment: segment.id,
        camera: segment.camera,
        stream: segment.stream,
        path: segment.path(bench.folder.path()),
        header: segment.header.clone(),
        wrapped_key: Default::default(),
    };
    let grew = Fact::SegmentGrew {
        segment: segment.id,
        start: bench.clock.instant(0),
        end: bench.clock.instant(0),
        fragment_count: 1,
        size_bytes: 100,
        newest_link: [0; 32],
        closed: false,
        signed: None,
    };
    bench.retain.index.take(vec![opened, grew], WallTime(NOON), MonoTime(0)).await.unwrap();
    assert_eq!(bench.retain.once().await.unwrap(), 0, "it may be written to");
    bench.clock.advance_micros(2 * 3_600 * 1_000_000);
    assert_eq!(bench.retain.once().await.unwrap(), 1);
}

#[tokio::test]
async fn a_disk_that_keeps_fewer_days_than_agreed_is_foreseen_by_what_the_last_day_took() {
    const GIB: u64 = 1 << 30;
    let mut bench = Bench::new(Some(GIB));
    let segment = Specimen::open(CAMERA, Stream::Main, RunId::random(), 0, 0);
    let start = bench.clock.instant(7);
    let opened = Fact::SegmentOpened {
        segment: segment.id,
        camera: segment.camera,
        stream: segment.stream,
        path: segment.path(&bench.retain.folder.media_dir),
        header: segment.header.clone(),
        wrapped_key: Default::default(),
    };
    let grew = Fact::SegmentGrew {
        segment: segment.id,
        start: start.clone(),
        end: start,
        fragment_count: 600,
        size_bytes: GIB,
        newest_link: [1; 32],
        closed: true,
        signed: None,
    };
    bench.retain.index.take(vec![opened, grew], WallTime(NOON), MonoTime(0)).await.unwrap();
    assert_eq!(bench.retain.foresee().await.unwrap(), None, "within the first hour nobody knows");
    bench.clock.advance_micros(3_600_000_000);
    let foreseen = bench.retain.foresee().await.unwrap().unwrap();
    assert!((foreseen.forecast.days - 1.0 / 24.0).abs() < 1e-9, "a GiB an hour fills a GiB in an hour: {foreseen:?}");
    assert_eq!((foreseen.forecast.agreed, foreseen.camera), (7, None));
    bench.retain.folder.rules.cameras.insert(CAMERA, CameraRule { days: Some(2), max_bytes: Some(GIB / 2) });
    let foreseen = bench.retain.foresee().await.unwrap().unwrap();
    assert!((foreseen.forecast.days - 1.0 / 48.0).abs() < 1e-9, "{foreseen:?}");
    assert_eq!((foreseen.forecast.agreed, foreseen.camera), (2, Some(CAMERA)));

    std::fs::write(bench.folder.path().join("media-disk"), RunId::random().to_string()).unwrap();
    assert_eq!(bench.retain.foresee().await.unwrap(), None, "its disk is away");
}

/// Oldest first: three of boots that are over, one of this boot that may be written, and what is none of ours.
async fn filled(bench: &Bench) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let mut own = Vec::new();
    for days_ago in [3, 2, 1] {
        own.push(bench.record(days_ago, Some(TimeSource::Hub)).await);
    }
    let mut young = Specimen::open(CAMERA, Stream::Main, RunId::random(), 0, 0);
    young = Specimen::of_boot(young, bench.clock.boot()).fragments(3, 3);
    own.push(young.write(&bench.retain.folder.media_dir));
    let hour = own[0].parent().unwrap().to_owned();
    let another = bench.retain.folder.media_dir.join("another camera/main/20270115T08");
    std::fs::create_dir_all(&another).unwrap();
    let foreign = vec![
        hour.join(format!("{}.seg", SegmentId::random())),
        hour.join("notes.seg"),
        hour.join("notes.txt"),
        another.join(own[0].file_name().unwrap()),
    ];
    // A segment under a name that is not its own, or in a place that is not: somebody put it there.
    std::fs::copy(&own[0], &foreign[0]).unwrap();
    std::fs::copy(&own[0], &foreign[3]).unwrap();
    foreign[1..3].iter().for_each(|path| std::fs::write(path, "mine").unwrap());
    (own, foreign)
}

fn there(paths: &[PathBuf]) -> Vec<bool> {
    paths.iter().map(|path| path.exists()).collect()
}

#[tokio::test]
async fn a_full_disk_is_freed_though_the_index_takes_nothing_and_what_went_is_noted_once_it_does() {
    let mut bench = Bench::new(None);
    let (own, foreign) = filled(&bench).await;
    let size = std::fs::metadata(&own[0]).unwrap().len();
    bench.retain.folder.rules.max_bytes = Some(2 * size);
    bench.retain.index.refuse_writes(true).await;
    assert!(bench.retain.once().await.is_err(), "the index takes nothing");
    assert_eq!(there(&own), [true; 4]);
    assert_eq!(bench.retain.folder.once().await, 2);
    assert_eq!((there(&own), there(&foreign)), (vec![false, false, true, true], vec![true; 4]));
    bench.retain.folder.rules.max_bytes = Some(0);
    assert_eq!(bench.retain.folder.once().await, 1, "never what may still be written");
    assert_eq!((there(&own), there(&foreign)), (vec![false, false, false, true], vec![true; 4]));

    bench.retain.index.refuse_writes(false).await;
    let run = ThisRun { boot: bench.clock.boot(), started: bench.clock.mono() };
    rescan(&bench.retain.index, &bench.retain.folder.media_dir, run).await.unwrap();
    bench.retain.folder.rules.max_bytes = None;
    bench.retain.once().await.unwrap();
    for path in &own[..3] {
        let id = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let row = bench.retain.index.segment(id).await.unwrap().unwrap();
        assert_eq!(row.deleted_by.as_deref(), Some("space"), "and not that its file is missing");
    }
}

#[tokio::test]
async fn without_an_index_nothing_on_another_disk_is_touched_and_pins_hold() {
    let mut bench = Bench::new(Some(0));
    let (own, _) = filled(&bench).await;
    let known = bench.folder.path().join("media-disk");
    std::fs::write(&known, RunId::random().to_string()).unwrap();
    assert_eq!(bench.retain.folder.once().await, 0, "the disk of the recordings is away");
    std::fs::remove_file(known).unwrap();
    bench.pin(vec![pin(3)]);
    assert_eq!(bench.retain.folder.once().await, 2);
    assert_eq!(there(&own), [true, false, false, true]);
}
