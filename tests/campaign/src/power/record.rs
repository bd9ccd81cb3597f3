//! A real box, traced: several lives with rotations, deletions, a torn end and an orderly one.

use super::history::{Deed, History};
use crate::subject::{Subject, pause_until, real, used_bytes};
use anyhow::{Context, Result, ensure};
use campanile_tests::rig::small_camera;
use campanile_tests::roster::Camera;
use campanile_tests::simcam::Simcam;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The trace and whose it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Traced {
    pub trace: PathBuf,
    pub state: PathBuf,
    pub media: PathBuf,
    pub cameras: Vec<String>,
}

/// Longest a traced box records before its next misfortune.
const LIFE_US: i64 = 9_000_000;

/// Traces `lives` lives of a box of two cameras below `folder`; scenes are kept in `scenes`.
pub fn record(folder: &Path, scenes: &Path, lives: usize) -> Result<Traced> {
    let served = |name: &str, camera: &Camera| -> Result<Simcam> {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Simcam::start(&folder, scenes, std::slice::from_ref(camera))
    };
    let cameras = [small_camera("uno", 1, "h264"), small_camera("due", 2, "h265")];
    let (steady, mut restless) = (served("steady", &cameras[0])?, served("restless", &cameras[1])?);
    let seen = [cameras[0].clone(), real(&cameras[1], &restless)?];
    let mut subject = Subject::in_clear("traced", &seen, folder.join("box"), &steady)?;
    let trace = folder.join("trace");
    for life in 0..lives {
        let used = used_bytes(&subject.media());
        let mut shim = subject.shim();
        shim.trace = Some(trace.clone());
        // From the second life on the disk is too small for what is there, and later fuller than the box was told.
        shim.disk_bytes = Some(if life == 0 { 1 << 30 } else { (used * 9 / 10).max(1 << 20) });
        shim.rules = vec!["fail-ENOSPC write */main/*.seg 14".to_owned()];
        subject.start(&shim)?;
        subject.records()?;
        subject.walked()?;
        if life % 2 == 1 {
            restless.kill_and_restart()?;
        }
        pause_until(subject.started_us + LIFE_US)?;
        if life % 3 == 2 {
            subject.edge.end()?;
        } else {
            subject.edge.kill()?;
        }
    }
    let (state, media) = (subject.state(), subject.media());
    Ok(Traced { trace, state, media, cameras: seen.iter().map(|camera| camera.name.clone()).collect() })
}

/// A trace in which nothing happened proves nothing.
pub fn has_everything(history: &History) -> Result<()> {
    let count = |is: fn(&Deed) -> bool| history.changes.iter().filter(|change| is(&change.deed)).count();
    let of_segments = |path: &str| path.ends_with(crate::segments::ENDING);
    let begun =
        history.changes.iter().filter(|c| matches!(&c.deed, Deed::Create { path, .. } if of_segments(path))).count();
    let gone = history.changes.iter().filter(|c| matches!(&c.deed, Deed::Unlink { path } if of_segments(path))).count();
    let logs = history
        .changes
        .iter()
        .filter(|c| matches!(&c.deed, Deed::Create { path, .. } if path.ends_with("-wal")))
        .count();
    let renamed = count(|deed| matches!(deed, Deed::Rename { .. }));
    ensure!(begun >= 10, "{begun} segments were begun");
    ensure!(gone >= 1, "no segment was deleted");
    ensure!(logs >= 1 && renamed >= 3, "{logs} logs of a database, {renamed} renamings");
    ensure!(history.syncs.len() >= 30, "{} syncs", history.syncs.len());
    Ok(())
}
