//! The agent as a whole, without cameras.

use crate::config::{Config, Retention};
use campanile_proto::time::SystemClock;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
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
