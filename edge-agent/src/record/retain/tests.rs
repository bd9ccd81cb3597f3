use super::*;
use crate::facts::Fact;
use crate::index::rescan::{ThisRun, rescan};
use crate::specimen::{NOON, Specimen, instant};
use crate::uplink::Wishes;
use campanile_proto::edge::v1::HubTime;
use campanile_proto::ids::{CameraId, HoldId, RunId};
use campanile_proto::signed;
use campanile_proto::time::{Clock, SimClock};
use campanile_proto::types::v1::{Anchor, Stream, TimeSource};
use ed25519_dalek::SigningKey;
use proptest::prelude::*;

fn segment(n: u128, hour: i64, days: u32, size_bytes: u64) -> Kept {
    let at = WallTime::from_hour(hour);
    Kept { id: SegmentId::from_u128(n), captured: Some(at), place: Place::Known(at), days, size_bytes }
}

fn segments() -> impl Strategy<Value = Vec<Kept>> {
    let one = (0i64..400, 1u32..8, 1u64..100);
    proptest::collection::vec(one, 0..40).prop_map(|all| {
        all.into_iter().enumerate().map(|(n, (hour, days, size))| segment(n as u128, hour, days, size)).collect()
    })
}

fn none() -> HashSet<SegmentId> {
    HashSet::new()
}

#[test]
fn without_a_clock_nothing_is_old() {
    assert!(plan(&[segment(1, 0, 7, 10)], None, 7, 10, &none()).is_empty());
}

#[test]
fn the_hour_and_the_days_are_the_term() {
    let at = |hour| plan(&[segment(1, 100, 7, 10)], Some(WallTime::from_hour(hour)), 7, 100, &none());
    assert!(at(100 + 167).is_empty());
    assert_eq!(at(100 + 168), [(SegmentId::from_u128(1), Rule::Age)]);
}

#[test]
fn what_nobody_can_date_goes_for_space_only_and_this_boots_goes_last() {
    let undated = |n, place| Kept { captured: None, place, ..segment(n, 0, 7, 10) };
    let kept =
        [undated(1, Place::Now(5)), segment(2, 100, 7, 10), undated(3, Place::Unknown(WallTime::from_hour(900)))];
    let late = Some(WallTime::from_hour(100 + 168));
    assert_eq!(plan(&kept, late, 7, 100, &none()), [(SegmentId::from_u128(2), Rule::Age)]);
    let order: Vec<_> = plan(&kept, None, 7, 0, &none()).into_iter().map(|(id, _)| id).collect();
    assert_eq!(order, [3, 2, 1].map(SegmentId::from_u128));
}

proptest! {
    #[test]
    fn keeps_the_newest_that_fit_and_nothing_over_its_term(
        kept in segments(), now in 0i64..500, days in 1u32..8, max in 0u64..1_500,
    ) {
        let now = WallTime::from_hour(now);
        let gone: HashMap<_, _> = plan(&kept, Some(now), days, max, &none()).into_iter().collect();
        let (left, went): (Vec<_>, Vec<_>) = kept.iter().partition(|s| !gone.contains_key(&s.id));
        prop_assert!(left.iter().all(|s| kept_until(s.captured.unwrap(), s.days.min(days)) > now));
        prop_assert!(left.iter().map(|s| s.size_bytes).sum::<u64>() <= max);
        for segment in went.iter().filter(|s| gone[&s.id] == Rule::Space) {
            prop_assert!(left.iter().all(|other| other.place >= segment.place));
        }
    }

    #[test]
    fn never_drops_a_held_segment_and_makes_room_with_the_others(
        kept in segments(), now in 0i64..500, max in 0u64..1_500, every in 1u128..5,
    ) {
        let pinned: HashSet<_> = (0..40).filter(|n| n % every == 0).map(SegmentId::from_u128).collect();
        let gone: HashMap<_, _> = plan(&kept, Some(WallTime::from_hour(now)), 7, max, &pinned).into_iter().collect();
        prop_assert!(pinned.iter().all(|id| !gone.contains_key(id)));
        let left: Vec<_> = kept.iter().filter(|s| !gone.contains_key(&s.id)).collect();
        let fits = left.iter().map(|s| s.size_bytes).sum::<u64>() <= max;
        prop_assert!(fits || left.iter().all(|s| pinned.contains(&s.id)));
    }

    #[test]
    fn a_longer_rule_never_acts_backwards(kept in segments(), now in 0i64..500) {
        let now = Some(WallTime::from_hour(now));
        let count = |days| plan(&kept, now, days, u64::MAX, &none()).len();
        prop_assert!(count(7) <= count(3) && count(3) <= count(1));
    }
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
        let retain = Retain {
            index: Index::open(&folder.path().join("index.sqlite")).unwrap(),
            timekeeper: Arc::new(Timekeeper::open(folder.path(), clock.clone())),
            home: Home::new(folder.path(), folder.path()),
            media_dir: folder.path().to_owned(),
            days: 7,
            max_bytes,
            wishes: watch::channel(Wishes::default()).1,
            full: Arc::default(),
        };
        Self { folder, clock, retain }
    }

    /// A segment of an earlier boot, with what vouched for its clock.
    async fn record(&self, days_ago: i64, vouched_by: Option<TimeSource>) -> PathBuf {
        let start = -days_ago * 86_400;
        let segment = Specimen::open(CameraId::from_u128(1), Stream::Main, RunId::random(), start, 0);
        let segment = segment.fragments(3, 3).close();
        let path = segment.write(&self.retain.media_dir);
        let run = ThisRun { boot: self.clock.boot(), started: self.clock.mono() };
        rescan(&self.retain.index, &self.retain.media_dir, run).await.unwrap();
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

    fn hub_speaks(&self) {
        let key = SigningKey::from_bytes(&[1; 32]);
        let utc = self.clock.utc();
        let payload = [utc.0.to_le_bytes(), 1_000u64.to_le_bytes()].concat();
        let signature = signed::sign(signed::EDGE, "HubTime", &payload, &key).into();
        let time = HubTime { utc_us: utc.0, uncertainty_us: 1_000, signature };
        self.retain.timekeeper.take_hub_time(&time, self.clock.mono(), &key.verifying_key()).unwrap();
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
async fn what_a_hold_pins_stays_past_its_term_and_without_room_until_the_pin_is_taken_back_or_ends() {
    let captured = WallTime(NOON - 8 * 86_400 * 1_000_000);
    let pin = pinned::Pin {
        hold: HoldId::from_u128(1),
        camera: CameraId::from_u128(1),
        from: captured,
        to: captured.plus_micros(1),
        until: WallTime(NOON + 86_400 * 1_000_000),
    };
    let other = pinned::Pin { camera: CameraId::from_u128(2), ..pin };
    let later = pinned::Pin { from: WallTime(NOON), to: WallTime(NOON + 1), ..pin };
    let ended = pinned::Pin { until: WallTime(NOON - 1_000_000), ..pin };
    for (pins, deleted) in [(vec![pin], 0), (vec![other, later, ended], 1), (Vec::new(), 1)] {
        let mut bench = Bench::new(Some(0));
        let segment = bench.record(8, Some(TimeSource::Hub)).await;
        bench.hub_speaks();
        bench.retain.wishes = watch::channel(Wishes { pins: pins.clone(), ..Wishes::default() }).1;
        assert_eq!(bench.retain.once().await.unwrap(), deleted, "{pins:?}");
        assert_eq!(segment.exists(), deleted == 0, "{pins:?}");
    }
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
