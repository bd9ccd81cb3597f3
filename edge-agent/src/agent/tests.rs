//! The agent as a whole, without cameras.

use crate::clock::Reckoned;
use crate::config::{Config, Retention};
use crate::fake_hub::FakeHub;
use crate::identity::{IdentityFolder, Token, enrol};
use crate::index::Index;
use crate::specimen::Specimen;
use campanile_proto::ids::{CameraId, RunId};
use campanile_proto::time::{SystemClock, WallTime};
use campanile_proto::types::v1::Stream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

fn config(folder: &Path) -> Config {
    Config {
        name: "box".into(),
        state_dir: folder.join("state"),
        media_dir: folder.join("media"),
        record_in_clear: true,
        retention: Retention { days: 7, max_bytes: None },
        cameras: Vec::new(),
    }
}

async fn until(what: &str, mut found: impl FnMut() -> bool) {
    let looking = async {
        while !found() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), looking).await.is_ok(), "{what}: not within 20 s");
}

#[tokio::test]
async fn an_index_that_cannot_be_opened_does_not_end_the_agent_and_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/index.sqlite");
    std::fs::create_dir_all(&path).unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(super::run(config(folder.path()), Arc::new(SystemClock::new()), stop.clone()));
    until("the clock is kept: the agent lives", || folder.path().join("media").is_dir()).await;
    assert!(!running.is_finished());
    std::fs::remove_dir(&path).unwrap();
    until("the index is opened after all", || path.is_file()).await;
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_disk_that_is_full_before_the_index_can_be_opened_is_freed_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.retention.max_bytes = Some(0);
    std::fs::create_dir_all(config.state_dir.join("index.sqlite")).unwrap();
    let old = Specimen::open(CameraId::from_u128(1), Stream::Main, RunId::random(), -86_400, 0).fragments(3, 3);
    let path = old.close().write(&config.media_dir);
    let stop = CancellationToken::new();
    let running = tokio::spawn(super::run(config, Arc::new(SystemClock::new()), stop.clone()));
    until("the oldest footage makes place", || !path.exists()).await;
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// Reports that wait in the database, 0 while it cannot be read.
async fn waiting(path: &Path) -> u64 {
    match Index::open(path) {
        Ok(index) => index.progress().await.map_or(0, |progress| progress.waiting),
        Err(_) => 0,
    }
}

#[test]
fn a_box_whose_hub_is_gone_ends_in_time_and_keeps_what_it_would_have_said() {
    let (hubs, runtime) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let hub = hubs.block_on(FakeHub::start());
    let identity = IdentityFolder::open(&config.state_dir).unwrap();
    let now = Reckoned::unvouched(WallTime(crate::specimen::NOON));
    runtime.block_on(enrol(&identity, &Token::parse(&hub.token()).unwrap(), "box", now, false)).unwrap();
    hubs.shutdown_background();
    let index = config.state_dir.join("index.sqlite");
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let running = tokio::spawn(super::run(config, Arc::new(SystemClock::new()), stop.clone()));
        until("the index is there", || index.is_file()).await;
        let said = async {
            while waiting(&index).await == 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), said).await.expect("the box says nothing of its clock");
        let began = tokio::time::Instant::now();
        stop.cancel();
        running.await.unwrap().unwrap();
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert!(waiting(&index).await > 0);
    });
}
