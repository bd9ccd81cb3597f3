//! Real RTSP clients against real simulated cameras.

#![allow(clippy::unwrap_used)]

mod client;

use std::path::Path;
use std::time::{Duration, Instant};

use campanile_sim::audit::audit;
use campanile_sim::config::{CameraConfig, Secret, SimConfig};
use campanile_sim::journal::{LogLine, read_log};
use campanile_sim::program::{self, Source};
use campanile_sim::scene::SceneParams;
use campanile_sim::server::SimServer;
use campanile_sim::units::{Codec, FileUnit, read_mp4};
use client::{Client, Received};

const LIMIT: Duration = Duration::from_secs(40);
const LOOP_S: u32 = 3;
const FPS: usize = 10;

fn camera(name: &str, number: u16, codec: Codec) -> CameraConfig {
    CameraConfig {
        name: name.into(),
        number,
        username: "viewer".into(),
        password: Secret::new("campana"),
        codec: Some(codec),
        source: Source::Scene(SceneParams::tiny(number, 5, LOOP_S)),
    }
}

fn start(folder: &Path, cameras: Vec<CameraConfig>) -> SimServer {
    SimServer::start(SimConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        log_dir: folder.join("log"),
        cache_dir: folder.join("cache"),
        ready_file: Some(folder.join("ready.json")),
        cameras,
    })
    .unwrap()
}

fn open(server: &SimServer, name: &str, stream: &str, codec: Codec, protocol: &str) -> Client {
    Client::open(&server.url(name, stream), "viewer", "campana", codec, protocol).unwrap()
}

/// The lines of the client whose log holds what was received, without a gap.
fn lines_of(folder: &Path, name: &str, received: &[Received]) -> Vec<LogLine> {
    let log = read_log(&folder.join("log").join(name)).unwrap();
    let mut seen = String::new();
    for client in 0..=log.iter().map(|line| line.client).max().unwrap_or(0) {
        let own: Vec<LogLine> = log.iter().filter(|line| line.client == client).cloned().collect();
        let matching = own.iter().zip(received).take_while(|(line, unit)| line.sha256 == unit.sha256);
        let matched = matching.count();
        if matched == received.len() {
            return own;
        }
        seen += &format!("client {client}: {} lines, {matched} of {} match; ", own.len(), received.len());
    }
    panic!("no client sent exactly what was received: {seen}");
}

#[test]
fn loops_have_no_seam_and_every_unit_arrives_as_logged() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), vec![camera("uno", 1, Codec::H264), camera("due", 2, Codec::H265)]);
    let count = LOOP_S as usize * FPS * 3 + 5;
    let cases = [
        ("uno", Codec::H264, "tcp"),
        ("uno", Codec::H264, "udp"),
        ("due", Codec::H265, "tcp"),
        ("due", Codec::H265, "udp"),
    ];
    // All at once: two clients read each stream.
    let clients: Vec<_> =
        cases.iter().map(|&(name, codec, protocol)| open(&server, name, "main", codec, protocol)).collect();
    for ((name, codec, protocol), client) in cases.iter().zip(&clients) {
        let received = client.receive(count, LIMIT).unwrap();
        let lines = lines_of(folder.path(), &format!("{name}.main.log"), &received);
        let wire = client.rtp_times();
        for (index, line) in lines.iter().take(count).enumerate() {
            assert_eq!(wire[index], line.rtp_time, "{name} {codec:?} {protocol}: unit {index}");
        }
        let steps: Vec<u32> = wire.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
        assert!(steps.iter().all(|&step| step == 9_000), "{name} {codec:?} {protocol}: {steps:?}");
        assert!(received.windows(2).all(|pair| pair[1].pts_ns > pair[0].pts_ns), "{name} {protocol}");
        assert!(lines[0].key);
    }
    for name in ["uno", "due"] {
        let log = read_log(&folder.path().join(format!("log/{name}.main.log"))).unwrap();
        for client in 0..2 {
            assert!(log.iter().filter(|line| line.client == client).count() >= count, "{name} {client}");
        }
    }
    drop(clients);
    server.stop();
}

#[test]
fn a_wrong_password_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), vec![camera("uno", 1, Codec::H264)]);
    let url = server.url("uno", "sub");
    let refused = Client::open(&url, "viewer", "wrong", Codec::H264, "tcp").unwrap().receive(1, LIMIT);
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("Unauthorized") || text.contains("401"), "{text}");
    Client::open(&url, "viewer", "campana", Codec::H264, "tcp").unwrap().receive(2, LIMIT).unwrap();
    let log = read_log(&folder.path().join("log/uno.sub.log")).unwrap();
    assert!(log.iter().all(|line| line.client == 0), "the refused client was sent something");
}

#[test]
fn a_file_plays_with_a_transcoded_sub_stream() {
    let folder = tempfile::tempdir().unwrap();
    let made = program::render(&SceneParams::tiny(7, 8, LOOP_S), Codec::H264, folder.path()).unwrap();
    let mut config = camera("file", 7, Codec::H264);
    config.source = Source::File { main: made.main.clone(), sub: None };
    let server = start(folder.path(), vec![config]);
    let received = open(&server, "file", "main", Codec::H264, "tcp").receive(40, LIMIT).unwrap();
    let lines = lines_of(folder.path(), "file.main.log", &received);
    let original = read_mp4(&made.main).unwrap();
    for line in &lines {
        assert_eq!(line.sha256, original[line.frame as usize].sha256);
    }
    let sub = open(&server, "file", "sub", Codec::H264, "tcp").receive(5, LIMIT).unwrap();
    lines_of(folder.path(), "file.sub.log", &sub);
}

#[test]
fn faults_stop_bytes_and_recovery_brings_them_back() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), vec![camera("uno", 1, Codec::H264)]);
    let control = server.camera("uno").unwrap();
    let watching = open(&server, "uno", "main", Codec::H264, "tcp");
    watching.receive(5, LIMIT).unwrap();
    control.pause();
    // What was under way still arrives; then nothing does.
    let _ = watching.receive(usize::MAX, Duration::from_millis(600));
    assert!(watching.receive(1, Duration::from_millis(700)).is_err());
    control.resume();
    watching.receive(5, LIMIT).unwrap();
    control.kill();
    assert!(watching.receive(100, Duration::from_secs(5)).is_err());
    let dead = Client::open(&server.url("uno", "main"), "viewer", "campana", Codec::H264, "tcp");
    assert!(dead.unwrap().receive(1, Duration::from_secs(3)).is_err());
    control.restart();
    open(&server, "uno", "main", Codec::H264, "tcp").receive(5, LIMIT).unwrap();
    let address = server.address();
    server.stop();
    assert!(std::net::TcpStream::connect(address).is_err(), "the port is still open");
}

#[test]
fn a_recording_is_audited_against_its_log_only() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), vec![camera("uno", 1, Codec::H264), camera("due", 2, Codec::H264)]);
    let clients = ["uno", "due"].map(|name| open(&server, name, "main", Codec::H264, "tcp"));
    let [ours, theirs] = clients.map(|client| client.receive(35, LIMIT).unwrap());
    let ours_log = lines_of(folder.path(), "uno.main.log", &ours);
    let theirs_log = lines_of(folder.path(), "due.main.log", &theirs);
    let mut file: Vec<FileUnit> = ours
        .iter()
        .map(|unit| FileUnit { sha256: unit.sha256.clone(), pts_90k: unit.pts_ns * 9 / 100_000, key: false })
        .collect();
    assert!(audit(&ours_log, &file, None, None).is_exact());
    assert_eq!(audit(&theirs_log, &file, None, None).foreign.len(), file.len());
    file.remove(12);
    assert_eq!(audit(&ours_log, &file, None, None).missing.len(), 1);
}

#[test]
fn the_ready_file_lists_served_cameras_without_passwords() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), vec![camera("uno", 1, Codec::H264)]);
    let text = std::fs::read_to_string(folder.path().join("ready.json")).unwrap();
    let listed: Vec<campanile_sim::server::ServedCamera> = serde_json::from_str(&text).unwrap();
    assert_eq!(listed, server.cameras());
    assert!(!text.contains("campana\""));
    let started = Instant::now();
    server.stop();
    assert!(started.elapsed() < Duration::from_secs(5));
}
