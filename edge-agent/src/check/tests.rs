//! The verdict over what was seen.

use super::disk::{DiskSeen, Mount};
use super::look::Seen;
use super::report::{Finding, Report};
use super::standing::{Enrolment, Standing};
use super::verdict::verdict;
use crate::config::Config;
use crate::media::{Codec, SourceError};
use campanile_proto::types::v1::{Stream, TimeSource};
use std::path::Path;

const CONFIG: &str = "config_version = 1\nname = \"box\"\nstate_dir = \"s\"\nmedia_dir = \"m\"\n\
    [[camera]]\nname = \"porta\"\nmain = \"rtsp://h:554/1?token=geheim\"\nsub = \"rtsp://h:554/2\"\n";

fn seen() -> Seen {
    Seen {
        codec: Codec::H264,
        width: 1280,
        height: 720,
        frames_per_second: Some(15.0),
        group_seconds: Some(2.0),
        bits_per_second: Some(800_000.0),
        clock_offset_us: Some(-3_000),
        watched_seconds: 6.0,
        lost_packets: 0,
    }
}

fn standing() -> Standing {
    let enrolment = Enrolment::At { organisation: "Prato".into(), certificate_days: 700, key_days: Ok(35) };
    Standing { clock: TimeSource::Ntp, uncertainty_us: 100_000, enrolment }
}

fn disk() -> DiskSeen {
    let mount = Some(Mount { at: "/srv".into(), kind: "ext4".into(), read_only: false });
    // Two streams of 800 kbit/s take 17.28 GB a day.
    let (free_bytes, room_bytes) = (150_000_000_000, 140_000_000_000);
    let total_bytes = 200_000_000_000;
    DiskSeen {
        exists: true,
        free_bytes,
        total_bytes,
        room_bytes,
        mount,
        of_system: false,
        elsewhere: None,
        unwritable: None,
    }
}

fn judged(standing: &Standing, disk: &DiskSeen, main: Result<Seen, SourceError>) -> Report {
    let config = Config::parse(CONFIG, Path::new("edge.toml")).unwrap();
    let looks = vec![(0, Stream::Main, main), (0, Stream::Sub, Ok(seen()))];
    verdict(&config, standing, Some(disk), &looks)
}

fn to_change(report: &Report) -> Vec<&Finding> {
    report.findings.iter().filter(|finding| finding.change.is_some()).collect()
}

#[test]
fn a_box_that_is_well_has_nothing_to_change() {
    let report = judged(&standing(), &disk(), Ok(seen()));
    assert!(report.well && to_change(&report).is_empty(), "{report}");
    assert!((report.days_expected.unwrap() - 8.1).abs() < 0.01);
    let text = report.to_string();
    assert!(text.contains("porta, main: H.264 1280x720, 15.0 frames/s, a key frame each 2.0 s, 800 kbit/s"), "{text}");
    assert!(text.contains("camera clock 3 ms behind") && text.ends_with("box: all is well"), "{text}");
}

/// What is amiss and what the line must name.
type Case = (&'static str, fn(&mut Standing, &mut DiskSeen, &mut Result<Seen, SourceError>), &'static str);

#[test]
fn each_thing_amiss_is_one_line_with_what_to_change() {
    let cases: [Case; 14] = [
        ("clock", |standing, _, _| standing.clock = TimeSource::LastKnown, "NTP server"),
        ("enrolment", |standing, _, _| standing.enrolment = Enrolment::Missing, "campanile-edge enrol"),
        ("enrolment", |standing, _, _| standing.enrolment = Enrolment::Unusable("damaged".into()), "--replace"),
        ("enrolment", |standing, _, _| expire(standing, -1, Ok(35)), "has expired"),
        ("keys", |standing, _, _| expire(standing, 700, Ok(-2)), "hour keys reach 0 days"),
        ("keys", |standing, _, _| expire(standing, 700, Err("torn".into())), "nothing can be sealed: torn"),
        ("disk", |_, disk, _| disk.unwritable = Some("Permission denied".into()), "change its owner"),
        ("mount", |_, disk, _| disk.mount.as_mut().unwrap().read_only = true, "mount it writable"),
        ("mount", |_, disk, _| disk.elsewhere = Some("/s/media-disk".into()), "remove /s/media-disk"),
        ("storage", |_, disk, _| disk.room_bytes /= 2, "give recordings 121.0 GB"),
        ("porta, main", |_, _, main| *main = Err(SourceError::AuthenticationRefused), "camera[0].username"),
        ("porta, main", |_, _, main| alter(main, |seen| seen.group_seconds = None), "key frame each 2 to 4 s"),
        ("porta, main", |_, _, main| alter(main, |seen| seen.clock_offset_us = Some(90_000_000)), "90 s ahead"),
        ("porta, main", |_, _, main| alter(main, |seen| seen.lost_packets = 4), "4 packets lost"),
    ];
    for (about, spoil, names) in cases {
        let (mut standing, mut disk, mut main) = (standing(), disk(), Ok(seen()));
        spoil(&mut standing, &mut disk, &mut main);
        let report = judged(&standing, &disk, main);
        let [finding] = to_change(&report)[..] else { panic!("{about}, {names}: {report}") };
        assert!(!report.well && finding.about == about && finding.to_string().contains(names), "{names}: {report}");
        assert!(report.to_string().ends_with("box: 1 thing to change"));
        let json = serde_json::to_string(&report).unwrap();
        assert!(!report.to_string().contains("geheim") && !json.contains("geheim"), "an address may hold a password");
    }
}

fn expire(standing: &mut Standing, certificate_days: i64, key_days: Result<i64, String>) {
    standing.enrolment = Enrolment::At { organisation: "Prato".into(), certificate_days, key_days };
}

fn alter(main: &mut Result<Seen, SourceError>, spoil: impl FnOnce(&mut Seen)) {
    spoil(main.as_mut().unwrap());
}

#[test]
fn a_stream_that_does_not_answer_is_not_counted_as_if_it_took_no_place() {
    let report = judged(&standing(), &disk(), Err(SourceError::Unreachable("no connection".into())));
    assert!(report.to_string().contains("without 1 stream that does not answer"), "{report}");
    let conditions: Vec<_> = report.streams.iter().map(|stream| (stream.stream, stream.condition)).collect();
    assert_eq!(conditions, [("main", "unreachable"), ("sub", "recording")]);
}

#[test]
fn an_own_clock_that_is_wrong_accuses_no_camera() {
    let standing = Standing { clock: TimeSource::LastKnown, ..standing() };
    let mut main = Ok(seen());
    alter(&mut main, |seen| seen.clock_offset_us = Some(1_000_000_000_000));
    let report = judged(&standing, &disk(), main);
    assert_eq!(to_change(&report).len(), 1, "{report}");
    assert!(report.to_string().contains("camera clock 11 days ahead"), "{report}");
}

#[test]
fn a_camera_that_its_own_bound_keeps_short_is_named_with_the_key_to_change() {
    let looks = || vec![(0, Stream::Main, Ok(seen())), (0, Stream::Sub, Ok(seen()))];
    let bounded = |keys: &str| {
        let config = Config::parse(&format!("{CONFIG}{keys}"), Path::new("edge.toml")).unwrap();
        verdict(&config, &standing(), Some(&disk()), &looks())
    };
    let short = bounded("\nmax_bytes = 34560000000\n");
    assert!((short.days_expected.unwrap() - 2.0).abs() < 0.01);
    let [finding] = to_change(&short)[..] else { panic!("{short}") };
    assert!(finding.says.starts_with("porta: 2.0 days at 17.3 GB a day; 7 are configured"), "{finding:?}");
    assert!(finding.change.as_ref().unwrap().contains("camera[0].max_bytes 121.0 GB"), "{finding:?}");
    let agreed = bounded("\nmax_bytes = 34560000000\ndays = 2\n");
    assert!(agreed.well && agreed.days_configured == 2, "{agreed}");
}
