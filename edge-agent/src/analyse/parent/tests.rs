//! The agent's side against children that do not behave.

use super::{Analyser, Feed, Task};
use crate::facts::{self, Fact};
use crate::media::{AccessUnit, Codec, StreamFormat};
use crate::record::Recorder;
use crate::record::recorder::Writing;
use campanile_proto::grid::CellSet;
use campanile_proto::ids::CameraId;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const CAMERA: CameraId = CameraId::from_u128(1);

/// A program that does what `script` says, whatever it is asked.
fn program(folder: &Path, script: &str) -> PathBuf {
    let path = folder.join("child");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    path
}

struct Bench {
    analyser: Analyser,
    feed: Feed,
    facts: mpsc::Receiver<Fact>,
    _writing: Writing,
    _media: tempfile::TempDir,
}

fn bench(script: &str) -> Bench {
    let media = tempfile::tempdir().unwrap();
    let (sender, facts, _) = facts::channel();
    let setting = crate::record::fixture::in_clear(media.path(), CAMERA, sender.clone());
    let stamper = setting.stamper.clone();
    let (recorder, _, writing) = Recorder::start(setting).unwrap();
    let program = program(media.path(), script);
    let ignore = CellSet::EMPTY;
    let (analyser, feed) = Analyser::new(Task { program, camera: CAMERA, ignore, recorder, facts: sender, stamper });
    Bench { analyser, feed, facts, _writing: writing, _media: media }
}

fn format() -> Arc<StreamFormat> {
    let decoder_configuration = bytes::Bytes::from_static(b"none");
    Arc::new(StreamFormat { codec: Codec::H264, width: 320, height: 180, decoder_configuration })
}

/// Larger than what a socket takes without a reader.
fn unit() -> AccessUnit {
    AccessUnit {
        data: vec![7; 4 << 20].into(),
        pts_90k: 0,
        rtp_time: 0,
        camera_ntp_us: 0,
        key: true,
        arrival: Default::default(),
    }
}

#[tokio::test]
async fn a_child_that_takes_nothing_does_not_hold_up_the_end() {
    let Bench { analyser, mut feed, mut facts, _writing, _media } = bench("exec sleep 60");
    feed.format(&format());
    feed.unit(&unit());
    let stop = CancellationToken::new();
    let running = tokio::spawn(analyser.run(stop.clone()));
    // The unit was taken out of the queue: the child is being written to.
    let writing = async {
        while feed.work.capacity() < feed.work.max_capacity() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), writing).await.expect("the unit is taken");
    stop.cancel();
    // The child sleeps for a minute.
    tokio::time::timeout(Duration::from_secs(20), running).await.expect("it waits for the child").unwrap();
    assert!(facts.try_recv().is_err(), "it waited until the child was found to hang");
}

#[tokio::test]
async fn a_child_that_dies_is_told_and_started_again() {
    let Bench { analyser, mut feed, mut facts, _writing, _media } = bench("echo broken >&2; exit 3");
    feed.format(&format());
    let stop = CancellationToken::new();
    let running = tokio::spawn(analyser.run(stop.clone()));
    for _ in 0..2 {
        feed.unit(&unit());
        let fact = tokio::time::timeout(Duration::from_secs(20), facts.recv()).await.expect("it is told").unwrap();
        assert!(matches!(fact, Fact::AnalyseRestarted(CAMERA)), "{fact:?}");
    }
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_format_that_found_no_place_is_told_before_the_next_unit() {
    let Bench { mut analyser, mut feed, .. } = bench("exit 0");
    let small = || AccessUnit { data: vec![0; 8].into(), ..unit() };
    (0..super::QUEUE).for_each(|_| feed.unit(&small()));
    feed.format(&format());
    feed.unit(&small());
    (0..super::QUEUE).for_each(|_| assert!(matches!(analyser.work.try_recv(), Ok(super::Work::Unit(_)))));
    feed.unit(&small());
    assert!(matches!(analyser.work.try_recv(), Ok(super::Work::Format(_))));
    assert!(matches!(analyser.work.try_recv(), Ok(super::Work::Unit(_))));
}
