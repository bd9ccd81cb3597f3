//! What cameras sent while something was measured.

use anyhow::{Context, Result, ensure};
use campanile_sim::journal::read_log;
use campanile_tests::rig::Rig;
use campanile_tests::roster::Camera;

/// Minutes between two moments.
pub fn micro_minutes(from_us: i64, to_us: i64) -> f64 {
    (to_us - from_us) as f64 / 60e6
}

/// Bytes of the access units that the cameras sent meanwhile.
pub fn sent_bytes(rig: &Rig, cameras: &[Camera], from_us: i64, to_us: i64) -> Result<u64> {
    let mut sum = 0;
    for camera in cameras {
        for stream in ["main", "sub"] {
            let lines = read_log(&rig.simcam.log(&camera.key, stream)).context("a camera's log cannot be read")?;
            let within = lines.iter().filter(|line| (from_us..to_us).contains(&line.wall_us));
            let bytes: u64 = within.map(|line| line.size).sum();
            ensure!(bytes > 0, "{} sent nothing on {stream}", camera.key);
            sum += bytes;
        }
    }
    Ok(sum)
}
