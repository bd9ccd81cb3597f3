use super::*;
use campanile_proto::segment::PublicKey;
use campanile_proto::time::{MICROS_PER_HOUR, SimClock};
use campanile_proto::types::v1::Suite;

/// Without a second source, whatever this machine has.
fn keeper(dir: &Path, clock: &Arc<SimClock>) -> RingKeeper {
    RingKeeper::open_beside(dir, Arc::new(Identity::for_tests()), 7, clock.clone(), Vec::new()).unwrap()
}

/// The hub's machine was started again.
fn booted(utc: WallTime) -> Arc<SimClock> {
    Arc::new(SimClock::starting_at(utc))
}

fn keys(keeper: &RingKeeper, edge: EdgeId) -> SealingKeys {
    SealingKeys::decode(keeper.signed_keys(edge).unwrap().payload).unwrap()
}

/// What a box that was given these keys seals to.
pub(crate) fn sealing_key(keys: &SealingKeys, kind: KeyKind, hour: i64) -> PublicKey {
    let bytes = match kind {
        KeyKind::Hour => &keys.hour_keys[(hour - keys.first_hour as i64) as usize],
        _ => &keys.reserve_key,
    };
    PublicKey::from_bytes(bytes).unwrap()
}

/// A segment of the hour sealed as a box would, and its key.
fn segment(keeper: &RingKeeper, hour: i64, kind: KeyKind) -> (SegmentHeader, Vec<u8>, Vec<u8>) {
    let edge = EdgeId::from_u128(5);
    let keys = keys(keeper, edge);
    let public = sealing_key(&keys, kind, hour);
    let header = SegmentHeader {
        organisation_id: keys.organisation_id.clone(),
        edge_id: edge.into(),
        stream: Stream::Index.into(),
        suite: Suite::Aes256Gcm.into(),
        key_kind: kind.into(),
        hour: hour as u64,
        key_generation: keys.generation,
        retention_days: keys.retention_days,
        ..SegmentHeader::default()
    };
    let bytes = header.encode_to_vec();
    let key = SegmentKey::random().unwrap();
    let wrapped = key.wrap(&header, &bytes, &public).unwrap();
    (header, bytes, wrapped)
}

#[test]
fn a_destroyed_hour_opens_nothing_and_one_step_earlier_opens() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(SimClock::starting_at(WallTime::from_hour(490_000)));
    let keeper = keeper(dir.path(), &clock);
    for kind in [KeyKind::Hour, KeyKind::Reserve] {
        let (header, bytes, wrapped) = segment(&keeper, 490_000, kind);
        assert!(keeper.unwrap(For::Report, &header, &bytes, &wrapped).is_ok());
    }
    let (header, bytes, wrapped) = segment(&keeper, 490_000, KeyKind::Hour);
    clock.advance_micros(168 * MICROS_PER_HOUR - 1);
    assert!(!keeper.maintain().unwrap().destroyed.contains(&490_000));
    assert!(keeper.unwrap(For::Report, &header, &bytes, &wrapped).is_ok());
    clock.advance_micros(1);
    assert!(keeper.maintain().unwrap().destroyed.contains(&490_000));
    assert!(matches!(
        keeper.unwrap(For::Report, &header, &bytes, &wrapped),
        Err(KeeperError::Destroyed { hour: 490_000 })
    ));
    // The key itself is gone, not only the permission: a clock set back brings nothing back.
    clock.step_utc(WallTime::from_hour(490_001));
    assert!(matches!(keeper.unwrap(For::Report, &header, &bytes, &wrapped), Err(KeeperError::Unknown { .. })));
    drop(keeper);
    let reopened = self::keeper(dir.path(), &clock);
    assert!(matches!(
        reopened.unwrap(For::Report, &header, &bytes, &wrapped),
        Err(KeeperError::Unknown { .. } | KeeperError::Seal(_))
    ));
}

#[test]
fn a_reserve_key_opens_whatever_hour_a_dead_clock_believed() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(SimClock::starting_at(WallTime::from_hour(490_000)));
    let keeper = keeper(dir.path(), &clock);
    let (header, bytes, wrapped) = segment(&keeper, 17, KeyKind::Reserve);
    assert!(keeper.unwrap(For::Report, &header, &bytes, &wrapped).is_ok());
    let (header, bytes, wrapped) = segment(&keeper, 490_000, KeyKind::Hour);
    let old = SegmentHeader { hour: 17, ..header };
    assert!(matches!(keeper.unwrap(For::Report, &old, &bytes, &wrapped), Err(KeeperError::Destroyed { hour: 17 })));
}

#[test]
fn a_clock_that_jumps_destroys_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(SimClock::starting_at(WallTime::from_hour(490_000)));
    let keeper = keeper(dir.path(), &clock);
    clock.step_utc(WallTime::from_hour(490_900));
    let done = keeper.maintain().unwrap();
    assert!(done.clock_doubted && done.destroyed.is_empty() && !done.extended);
    clock.step_utc(WallTime::from_hour(490_000));
    assert!(!keeper.maintain().unwrap().clock_doubted);
}

#[test]
fn keys_reach_35_days_ahead_and_one_batch_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(SimClock::starting_at(WallTime::from_hour(490_000)));
    let keeper = keeper(dir.path(), &clock);
    let before = keys(&keeper, EdgeId::from_u128(5));
    assert_eq!((before.first_hour, before.hour_keys.len()), (489_999, 35 * 24 + 2));
    clock.advance_micros(MICROS_PER_HOUR);
    assert!(!keeper.maintain().unwrap().extended);
    clock.advance_micros(25 * MICROS_PER_HOUR);
    assert!(keeper.maintain().unwrap().extended);
    let after = keys(&keeper, EdgeId::from_u128(5));
    assert_eq!(after.generation, before.generation + 1);
    assert_ne!(after.reserve_key, before.reserve_key);
    assert_eq!(after.hour_keys[0], before.hour_keys[26]);
}

#[test]
fn a_hub_started_with_a_clock_in_the_future_destroys_nothing_until_a_person_confirms_it() {
    let dir = tempfile::tempdir().unwrap();
    let clock = booted(WallTime::from_hour(490_000));
    let first = keeper(dir.path(), &clock);
    let (header, bytes, wrapped) = segment(&first, 490_000, KeyKind::Hour);
    drop(first);
    let future = WallTime::from_hour(490_000 + 365 * 24);
    let clock = booted(future);
    let second = keeper(dir.path(), &clock);
    let done = second.maintain().unwrap();
    assert!(done.clock_doubted && done.destroyed.is_empty() && !done.extended);
    assert_eq!(second.alarms(), [Alarm::Clock]);
    drop(second);
    // The clock is put right, and everything opens still.
    let right = keeper(dir.path(), &booted(WallTime::from_hour(490_002)));
    assert!(right.alarms().is_empty() && right.unwrap(For::Report, &header, &bytes, &wrapped).is_ok());
    drop(right);

    let clock = booted(future);
    let again = keeper(dir.path(), &clock);
    assert!(matches!(again.confirm_clock(WallTime::from_hour(490_002)), Err(KeeperError::ClockDiffers)));
    assert!(again.maintain().unwrap().destroyed.is_empty());
    again.confirm_clock(future.plus_micros(60 * MICROS_PER_SECOND)).unwrap();
    assert!(again.alarms().is_empty() && again.maintain().unwrap().destroyed.contains(&490_000));
}

#[test]
fn after_a_reboot_a_clock_a_week_ahead_destroys_nothing_before_ntp_can_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let first = keeper(dir.path(), &booted(WallTime::from_hour(490_000)));
    let (header, bytes, wrapped) = segment(&first, 490_000, KeyKind::Hour);
    drop(first);
    let ahead = WallTime::from_hour(490_000 + 169);
    let clock = booted(ahead);
    let second = keeper(dir.path(), &clock);
    assert!(second.clock_trusted() && !second.may_destroy());
    clock.advance_micros(MICROS_PER_HOUR - 1);
    assert!(second.maintain().unwrap().destroyed.is_empty());
    drop(second);
    // Nor does the hour begin in the middle when the process starts anew.
    let third = keeper(dir.path(), &clock);
    clock.advance_micros(1);
    assert!(third.maintain().unwrap().destroyed.is_empty());
    // NTP puts it right.
    clock.step_utc(WallTime::from_hour(490_002));
    clock.advance_micros(2 * MICROS_PER_HOUR);
    assert!(third.maintain().unwrap().destroyed.is_empty());
    assert!(third.confirm_clock(clock.utc()).is_ok());
    assert!(third.unwrap(For::Report, &header, &bytes, &wrapped).is_ok());
    drop(third);
    // It was right after all: an hour later what is over is destroyed.
    let clock = booted(ahead);
    let fourth = keeper(dir.path(), &clock);
    clock.advance_micros(MICROS_PER_HOUR);
    assert!(fourth.maintain().unwrap().destroyed.contains(&490_000));
}

#[test]
fn trust_lost_to_an_ordinary_step_of_ntp_comes_back_with_its_mark() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("synchronized");
    let touch = |at: WallTime| {
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_micros(at.0 as u64);
        std::fs::File::create(&mark).unwrap().set_modified(at).unwrap();
    };
    let clock = booted(WallTime::from_hour(490_000));
    let identity = Arc::new(Identity::for_tests());
    let ring = dir.path().join("ring");
    let keeper = RingKeeper::open_beside(&ring, identity, 7, clock.clone(), vec![mark.clone()]).unwrap();
    touch(clock.utc());
    clock.step_utc(WallTime::from_hour(490_001));
    clock.advance_micros(MICROS_PER_SECOND);
    // The mark is of before the step: whoever set the clock, it was not the one that touches it.
    assert!(keeper.maintain().unwrap().clock_doubted);
    touch(clock.utc());
    clock.advance_micros(30 * MICROS_PER_SECOND);
    assert!(!keeper.maintain().unwrap().clock_doubted && keeper.may_destroy());
}

#[test]
fn a_clock_that_was_set_while_the_hub_was_down_is_noticed_within_the_same_boot() {
    let dir = tempfile::tempdir().unwrap();
    let clock = booted(WallTime::from_hour(490_000));
    drop(keeper(dir.path(), &clock));
    clock.step_utc(WallTime::from_hour(490_048));
    assert_eq!(keeper(dir.path(), &clock).alarms(), [Alarm::Clock]);
    clock.step_utc(WallTime::from_hour(490_000));
    clock.advance_micros(48 * MICROS_PER_HOUR);
    assert!(keeper(dir.path(), &clock).alarms().is_empty());
}

#[test]
fn a_ring_made_anew_is_above_every_generation_a_box_can_hold() {
    let dir = tempfile::tempdir().unwrap();
    let clock = booted(WallTime::from_hour(490_000));
    let first = keeper(dir.path(), &clock);
    let held = keys(&first, EdgeId::from_u128(5)).generation;
    assert!(first.alarms().is_empty(), "a new organisation has lost nothing");
    drop(first);
    std::fs::remove_dir_all(dir.path()).unwrap();
    clock.advance_micros(60 * MICROS_PER_SECOND);
    let identity = Arc::new(Identity { made_now: false, ..Identity::for_tests() });
    let anew = RingKeeper::open_beside(dir.path(), identity, 7, clock.clone(), Vec::new()).unwrap();
    assert!(anew.generation() > held);
    assert_eq!(anew.alarms(), [Alarm::RingLost]);
}

#[test]
fn a_box_with_newer_keys_than_the_ring_lifts_the_ring_above_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let clock = booted(WallTime::from_hour(490_000));
    let (keeper, edge) = (keeper(dir.path(), &clock), EdgeId::from_u128(5));
    let ours = keeper.generation();
    assert!(!keeper.box_holds(edge, ours).unwrap());
    assert!(!keeper.box_holds(edge, u32::MAX).unwrap(), "a claim that uses up every generation is not heard");
    assert_eq!((keeper.generation(), keeper.alarms().len()), (ours, 0));
    assert!(keeper.box_holds(edge, ours + 7).unwrap());
    assert_eq!((keys(&keeper, edge).generation, keeper.alarms()), (ours + 8, vec![Alarm::RingOlder { edge }]));
    assert!(!keeper.box_holds(edge, ours + 8).unwrap());
}

#[test]
fn one_box_does_not_drive_the_generation_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let clock = booted(WallTime::from_hour(490_000));
    let (keeper, edge) = (keeper(dir.path(), &clock), EdgeId::from_u128(5));
    let end = generation_of(clock.utc()) + GENERATIONS_AHEAD;
    assert!(!keeper.box_holds(edge, end + 1).unwrap());
    assert!(keeper.box_holds(edge, end - 9).unwrap());
    assert!(!keeper.box_holds(edge, end - 7).unwrap(), "every box would get new keys as often as one asks");
    assert!(keeper.box_holds(EdgeId::from_u128(6), end - 7).unwrap());
    clock.advance_micros(MICROS_PER_HOUR);
    assert!(keeper.box_holds(edge, end).unwrap());
    assert!(!keeper.box_holds(EdgeId::from_u128(7), keeper.generation() + GENERATIONS_AHEAD).unwrap());
}

#[test]
fn a_reserve_key_is_destroyed_a_week_after_the_box_confirmed_a_newer_one() {
    let dir = tempfile::tempdir().unwrap();
    let clock = booted(WallTime::from_hour(490_000));
    let (keeper, edge) = (keeper(dir.path(), &clock), EdgeId::from_u128(5));
    let (header, bytes, wrapped) = segment(&keeper, 17, KeyKind::Reserve);
    let opens = |keeper: &RingKeeper| keeper.unwrap(For::Report, &header, &bytes, &wrapped).is_ok();
    clock.advance_micros(26 * MICROS_PER_HOUR);
    assert!(keeper.maintain().unwrap().extended);
    let newer = keys(&keeper, edge).generation;
    // However long the box does not say that it has the newer one: it may still seal to the older.
    clock.advance_micros(20 * 24 * MICROS_PER_HOUR);
    keeper.maintain().unwrap();
    assert!(opens(&keeper));
    keeper.box_holds(edge, newer).unwrap();
    keeper.maintain().unwrap();
    clock.advance_micros(168 * MICROS_PER_HOUR - 1);
    assert!(keeper.maintain().unwrap().reserves_destroyed.is_empty() && opens(&keeper));
    clock.advance_micros(1);
    assert_eq!(keeper.maintain().unwrap().reserves_destroyed, [edge]);
    assert!(matches!(keeper.unwrap(For::Report, &header, &bytes, &wrapped), Err(KeeperError::NoReserve)));
    let (header, bytes, wrapped) = segment(&keeper, 17, KeyKind::Reserve);
    assert!(keeper.unwrap(For::Report, &header, &bytes, &wrapped).is_ok());
}

#[test]
fn the_last_reserve_key_of_a_revoked_box_is_destroyed_a_week_later() {
    let dir = tempfile::tempdir().unwrap();
    let clock = booted(WallTime::from_hour(490_000));
    let (keeper, edge) = (keeper(dir.path(), &clock), EdgeId::from_u128(5));
    let (header, bytes, wrapped) = segment(&keeper, 17, KeyKind::Reserve);
    let other = keys(&keeper, EdgeId::from_u128(6));
    keeper.revoked(edge);
    keeper.maintain().unwrap();
    clock.advance_micros(168 * MICROS_PER_HOUR - 1);
    assert!(keeper.maintain().unwrap().reserves_destroyed.is_empty());
    assert!(keeper.unwrap(For::Report, &header, &bytes, &wrapped).is_ok());
    clock.advance_micros(1);
    assert_eq!(keeper.maintain().unwrap().reserves_destroyed, [edge]);
    assert!(matches!(keeper.unwrap(For::Report, &header, &bytes, &wrapped), Err(KeeperError::NoReserve)));
    let kept = &keeper.ring().ring.reserves[&EdgeId::from_u128(6)];
    assert!(kept.iter().any(|reserve| reserve.public.0 == other.reserve_key[..]), "the control");
}

#[test]
fn what_was_destroyed_is_told_although_the_first_writing_failed() {
    let dir = tempfile::tempdir().unwrap();
    let clock = booted(WallTime::from_hour(490_000));
    let keeper = keeper(dir.path(), &clock);
    keeper.maintain().unwrap();
    clock.advance_micros(168 * MICROS_PER_HOUR);
    // A folder stands where the next ring is to be written.
    let blocked = dir.path().join("ring-2.key");
    std::fs::create_dir(&blocked).unwrap();
    assert!(matches!(keeper.maintain(), Err(KeeperError::Ring(_))));
    std::fs::remove_dir(&blocked).unwrap();
    let done = keeper.maintain().unwrap();
    assert!(done.destroyed.contains(&490_000) && done.extended);
}

#[test]
fn a_class_changed_in_mid_hour_plays_within_the_shorter_rule_and_the_class_of_its_key() {
    // From that many days to that many; how long what was sealed before the change opens, and what was sealed after it.
    for (earlier, later, of_earlier, of_later) in [(7, 3, 3, 3), (3, 7, 3, 7)] {
        let (dir, edge) = (tempfile::tempdir().unwrap(), EdgeId::from_u128(5));
        let hour = 490_000;
        let clock = Arc::new(SimClock::starting_at(WallTime::from_hour(hour).plus_micros(MICROS_PER_HOUR / 4)));
        let with = |days| {
            let identity = Arc::new(Identity::for_tests());
            RingKeeper::open_beside(dir.path(), identity, days, clock.clone(), Vec::new()).unwrap()
        };
        let before = segment(&with(earlier), hour, KeyKind::Hour);
        clock.advance_micros(MICROS_PER_HOUR / 4);
        let keeper = with(later);
        let after = segment(&keeper, hour, KeyKind::Hour);
        assert_eq!((before.0.retention_days, after.0.retention_days), (earlier, later));
        assert_eq!(keys(&keeper, edge).retention_days, later);
        let opens = |(header, bytes, wrapped): &(SegmentHeader, Vec<u8>, Vec<u8>)| {
            keeper.unwrap(For::Report, header, bytes, wrapped).is_ok()
        };
        for passed in 0..=8 * 24 {
            let days_begun = |days: i64| passed < days * 24;
            let seen = (opens(&before), opens(&after));
            assert_eq!(seen, (days_begun(of_earlier), days_begun(of_later)), "{earlier} to {later}, {passed} h");
            let next = WallTime::from_hour(hour + passed + 1);
            clock.advance_micros(next - clock.utc());
            keeper.maintain().unwrap();
        }
    }
}

#[test]
fn footage_is_not_opened_as_a_report() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = keeper(dir.path(), &booted(WallTime::from_hour(490_000)));
    let (header, bytes, wrapped) = segment(&keeper, 490_000, KeyKind::Hour);
    assert!(keeper.unwrap(For::Report, &header, &bytes, &wrapped).is_ok());
    let footage = SegmentHeader { stream: Stream::Main.into(), ..header };
    assert!(matches!(keeper.unwrap(For::Report, &footage, &bytes, &wrapped), Err(KeeperError::NoAccess)));
}
