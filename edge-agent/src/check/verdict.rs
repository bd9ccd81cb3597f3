//! From what was seen to what is said and what is to be changed. Pure.

use super::Looks;
use super::disk::DiskSeen;
use super::look::Seen;
use super::report::{Finding, Report, StreamMeasured};
use super::standing::{Enrolment, Standing};
use crate::config::{CameraConfig, Config, Transport};
use crate::media::{Codec, SourceError};
use crate::record::forecast::{Forecast, Growth, forecast};
use crate::record::store::stream_name;
use campanile_proto::edge::v1::CameraCondition;
use campanile_proto::types::v1::{Stream, TimeSource};

/// A burnt-in clock further off misleads whoever looks at the picture; closer is what networks and encoders take.
const MAX_OFFSET_US: i64 = 2_000_000;
/// Seeking goes from key frame to key frame, and a viewer waits for one.
const LONGEST_GROUP_SECONDS: f64 = 8.0;
/// Pictures of motion are looked at up to this size; larger ones cost a core each.
const MAX_ANALYSED_PIXELS: u64 = 1280 * 720;
/// The hub delivers hour keys for 35 days and renews certificates at half-life: whoever has so few left has had no
/// hub for long.
const FEW_DAYS: i64 = 7;
const SECONDS_PER_DAY: f64 = 86_400.0;

pub(super) fn verdict(config: &Config, standing: &Standing, disk: Option<&DiskSeen>, looks: &Looks) -> Report {
    let mut findings = vec![clock(standing)];
    findings.extend(enrolment(standing, config.record_in_clear));
    findings.extend(disk_and_mount(disk));
    let mut streams = Vec::new();
    for (at, stream, seen) in looks {
        let Some(camera) = config.cameras.get(*at) else { continue };
        findings.push(stream_finding(*at, camera, *stream, seen, standing));
        streams.push(measured(camera, *stream, seen));
    }
    if looks.is_empty() {
        findings.push(Finding::amiss("cameras", "none is configured", "add a [[camera]] block for each"));
    }
    let growths: Vec<Growth> = (0..config.cameras.len()).map(|at| growth(at, config, looks)).collect();
    let silent = looks.iter().filter(|(_, _, seen)| seen.is_err()).count();
    let room = disk.map_or(0, |disk| disk.room_bytes);
    let room = config.retention.max_bytes.map_or(room, |max| max.min(room));
    let foreseen = disk.and_then(|_| forecast(room, &growths));
    findings.extend(foreseen.map(|foreseen| storage(&foreseen, config, &growths, silent)));
    Report {
        name: config.name.clone(),
        well: findings.iter().all(|finding| finding.change.is_none()),
        findings,
        streams,
        days_expected: foreseen.map(|foreseen| foreseen.days),
        days_configured: foreseen.map_or(config.retention.days, |foreseen| foreseen.agreed),
        disk_free_bytes: disk.map_or(0, |disk| disk.free_bytes),
        disk_room_bytes: room,
    }
}

fn clock(standing: &Standing) -> Finding {
    let within = standing.uncertainty_us as f64 / 1e6;
    match standing.clock {
        TimeSource::Ntp => Finding::well("clock", format!("synchronised by NTP, within {within} s")),
        TimeSource::Hub => Finding::well("clock", format!("the hub vouches for it, within {within} s")),
        TimeSource::System | TimeSource::Rtc => {
            Finding::well("clock", "plausible; nobody vouches for it until the hub does, and nothing is deleted by age")
        }
        TimeSource::LastKnown | TimeSource::Unspecified => Finding::amiss(
            "clock",
            "wrong, or not believed: footage is sealed to the reserve key",
            "set the clock and give the box an NTP server",
        ),
    }
}

fn enrolment(standing: &Standing, record_in_clear: bool) -> Vec<Finding> {
    match &standing.enrolment {
        Enrolment::Missing if record_in_clear => {
            vec![Finding::well("enrolment", "not enrolled; records unsealed, as record_in_clear says")]
        }
        Enrolment::Missing => {
            let enrol = "run `campanile-edge enrol` with a token of the hub, as the agent's own user";
            vec![Finding::amiss("enrolment", "not enrolled: nothing is recorded", enrol)]
        }
        Enrolment::Unusable(why) => {
            vec![Finding::amiss("enrolment", why.clone(), "mend that, or enrol this box again with --replace")]
        }
        Enrolment::At { organisation, certificate_days, key_days } => {
            let connect = "connect the box to its hub: certificate and keys renew themselves";
            let certificate = match certificate_days {
                ..0 => Finding::amiss("enrolment", "the certificate has expired", connect),
                0..FEW_DAYS => {
                    Finding::amiss("enrolment", format!("the certificate ends in {certificate_days} days"), connect)
                }
                _ => Finding::well("enrolment", format!("at {organisation}, for {certificate_days} days")),
            };
            let keys = match key_days {
                Err(why) => Finding::amiss("keys", format!("nothing can be sealed: {why}"), connect),
                Ok(days @ ..FEW_DAYS) => {
                    let says = format!("hour keys reach {} days, then the reserve key", days.max(&0));
                    Finding::amiss("keys", says, connect)
                }
                Ok(days) => Finding::well("keys", format!("hour keys reach {days} days")),
            };
            vec![certificate, keys]
        }
    }
}

fn disk_and_mount(disk: Option<&DiskSeen>) -> Vec<Finding> {
    let Some(disk) = disk else {
        return vec![Finding::amiss(
            "disk",
            "the disk of media_dir does not answer",
            "look at the disk, and at media_dir",
        )];
    };
    let of = format!("{} free of {}", gigabytes(disk.free_bytes as f64), gigabytes(disk.total_bytes as f64));
    let free = match &disk.unwritable {
        Some(why) => Finding::amiss("disk", format!("this user cannot write to media_dir: {why}"), "change its owner"),
        None if disk.exists => Finding::well("disk", of),
        None => Finding::well("disk", format!("{of}; the agent makes media_dir at its first start")),
    };
    if let Some(known) = &disk.elsewhere {
        let says = "the disk of the recordings is not at media_dir: nothing is recorded";
        let change = format!("mount it; if another one is meant to take its place, remove {}", known.display());
        return vec![free, Finding::amiss("mount", says, change)];
    }
    let mount = match &disk.mount {
        None => Finding::well("mount", "the kernel does not say where media_dir is mounted"),
        Some(mount) if mount.read_only => Finding::amiss(
            "mount",
            format!("{} ({}) is mounted read-only", mount.at, mount.kind),
            "look for the disk's errors in the kernel's log, and mount it writable",
        ),
        Some(mount) => {
            let whose = if disk.of_system { ", the system's own disk" } else { "" };
            Finding::well("mount", format!("{} ({}){whose}", mount.at, mount.kind))
        }
    };
    vec![free, mount]
}

fn stream_finding(
    at: usize,
    camera: &CameraConfig,
    stream: Stream,
    seen: &Result<Seen, SourceError>,
    standing: &Standing,
) -> Finding {
    let about = format!("{}, {}", camera.name, stream_name(stream));
    match seen {
        Err(error) => Finding::amiss(about, error.to_string(), after(error, at, stream)),
        Ok(seen) => match to_change(seen, camera, stream, standing) {
            Some(change) => Finding::amiss(about, described(seen), change),
            None => Finding::well(about, described(seen)),
        },
    }
}

/// Names keys, never values.
fn after(error: &SourceError, at: usize, stream: Stream) -> String {
    let key = format!("camera[{at}].{}", stream_name(stream));
    match error {
        SourceError::Unreachable(_) | SourceError::Ended(_) => {
            format!("look at its power and cable, and at address and path in {key}")
        }
        SourceError::AuthenticationRefused => {
            format!("correct camera[{at}].username and the password its password_file or password_env names")
        }
        SourceError::UnsupportedCodec(_) => "set the camera to H.264 or H.265".into(),
        SourceError::NoBytes(_) => {
            format!("set a key frame each 2 s in the camera; with transport = \"udp\" try \"tcp\"; see {key}")
        }
        SourceError::Machine(_) => "install what is missing: GStreamer with its plugins base, good and bad".into(),
    }
}

fn described(seen: &Seen) -> String {
    let mut parts = vec![format!("{} {}x{}", codec_name(seen.codec), seen.width, seen.height)];
    parts.extend(seen.frames_per_second.map(|rate| format!("{rate:.1} frames/s")));
    parts.push(match seen.group_seconds {
        Some(seconds) => format!("a key frame each {seconds:.1} s"),
        None => format!("no second key frame within {:.0} s", seen.watched_seconds),
    });
    parts.extend(seen.bits_per_second.map(|bits| format!("{:.0} kbit/s", bits / 1e3)));
    parts.push(match seen.clock_offset_us {
        Some(us @ 0..) => format!("camera clock {} ahead", span(us)),
        Some(us) => format!("camera clock {} behind", span(us)),
        None => "camera clock not told".into(),
    });
    if seen.lost_packets > 0 {
        parts.push(format!("{} packets lost", seen.lost_packets));
    }
    parts.join(", ")
}

/// The one thing that matters most.
fn to_change(seen: &Seen, camera: &CameraConfig, stream: Stream, standing: &Standing) -> Option<String> {
    let box_knows = !matches!(standing.clock, TimeSource::LastKnown | TimeSource::Unspecified);
    if seen.lost_packets > 0 {
        let tcp = if camera.transport == Transport::Udp { ", or set transport = \"tcp\"" } else { "" };
        return Some(format!("look at the network between camera and box{tcp}"));
    }
    if seen.group_seconds.is_none_or(|seconds| seconds > LONGEST_GROUP_SECONDS) {
        return Some("set the camera to a key frame each 2 to 4 s".into());
    }
    if box_knows && seen.clock_offset_us.is_some_and(|offset| offset.abs() > MAX_OFFSET_US) {
        return Some("give the camera an NTP server, such as this box".into());
    }
    let pixels = u64::from(seen.width) * u64::from(seen.height);
    if stream == Stream::Sub && camera.analyse && pixels > MAX_ANALYSED_PIXELS {
        return Some("set the camera's sub-stream to 640x360: motion is looked for in every picture of it".into());
    }
    None
}

fn measured(camera: &CameraConfig, stream: Stream, seen: &Result<Seen, SourceError>) -> StreamMeasured {
    let named = StreamMeasured { camera: camera.name.clone(), stream: stream_name(stream), ..Default::default() };
    match seen {
        Err(error) => StreamMeasured { condition: condition_name(error.condition()), ..named },
        Ok(seen) => StreamMeasured {
            condition: condition_name(CameraCondition::Recording),
            codec: Some(match seen.codec {
                Codec::H264 => "h264",
                Codec::H265 => "h265",
            }),
            width: Some(seen.width),
            height: Some(seen.height),
            frames_per_second: seen.frames_per_second,
            group_seconds: seen.group_seconds,
            bits_per_second: seen.bits_per_second.map(|bits| bits as u64),
            clock_offset_ms: seen.clock_offset_us.map(|us| us / 1_000),
            lost_packets: Some(seen.lost_packets),
            ..named
        },
    }
}

/// What the streams of a camera took that answered.
fn growth(at: usize, config: &Config, looks: &Looks) -> Growth {
    let its = looks.iter().filter(|(of, ..)| *of == at).filter_map(|(_, _, seen)| seen.as_ref().ok());
    let bits_per_second: f64 = its.filter_map(|seen| seen.bits_per_second).sum();
    let camera = &config.cameras[at];
    Growth {
        bytes_per_day: bits_per_second / 8.0 * SECONDS_PER_DAY,
        max_bytes: camera.max_bytes,
        days: camera.days.unwrap_or(config.retention.days),
    }
}

fn storage(foreseen: &Forecast, config: &Config, growths: &[Growth], silent: usize) -> Finding {
    let (days, configured) = (foreseen.days, foreseen.agreed);
    let (whose, bytes_per_day) = match foreseen.bound_of {
        Some(at) => (format!("{}: ", config.cameras[at].name), growths[at].bytes_per_day),
        None => (String::new(), growths.iter().map(|growth| growth.bytes_per_day).sum()),
    };
    let streams = match silent {
        0 => String::new(),
        1 => ", without 1 stream that does not answer".into(),
        count => format!(", without {count} streams that do not answer"),
    };
    let says =
        format!("{whose}{days:.1} days at {} a day{streams}; {configured} are configured", gigabytes(bytes_per_day));
    if !foreseen.is_short() {
        return Finding::well("storage", says);
    }
    let needed = gigabytes(bytes_per_day * f64::from(configured));
    let change = match foreseen.bound_of {
        Some(at) => {
            format!("give camera[{at}].max_bytes {needed}, lower its bit rate, or agree on fewer camera[{at}].days")
        }
        None => format!("give recordings {needed}, lower the cameras' bit rates, or agree on fewer retention.days"),
    };
    Finding::amiss("storage", says, change)
}

fn gigabytes(bytes: f64) -> String {
    format!("{:.1} GB", bytes / 1e9)
}

/// Milliseconds up to ten seconds, then seconds, then days.
fn span(us: i64) -> String {
    match us.unsigned_abs() {
        us @ 0..10_000_000 => format!("{} ms", us / 1_000),
        us @ 10_000_000..172_800_000_000 => format!("{} s", us / 1_000_000),
        us => format!("{} days", us / 86_400_000_000),
    }
}

fn codec_name(codec: Codec) -> &'static str {
    match codec {
        Codec::H264 => "H.264",
        Codec::H265 => "H.265",
    }
}

fn condition_name(condition: CameraCondition) -> &'static str {
    match condition {
        CameraCondition::Recording => "recording",
        CameraCondition::AuthenticationRefused => "authentication_refused",
        CameraCondition::UnsupportedCodec => "unsupported_codec",
        CameraCondition::NoBytes => "no_bytes",
        _ => "unreachable",
    }
}
