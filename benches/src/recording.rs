//! Recording main and sub-stream: what a box takes of the machine beside what others would use.

use crate::contender::Contender;
use crate::measured::{micro_minutes, sent_bytes};
use crate::usage::Usage;
use anyhow::{Result, ensure};
use campanile_tests::demo::micros_now;
use campanile_tests::rig::Rig;
use campanile_tests::roster::{Camera, two_towns};
use serde::Serialize;
use std::time::Duration;

/// Connecting, first key frames, buffers that fill.
const WARM_UP: Duration = Duration::from_secs(8);

/// One contender with so many cameras, once.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub contender: &'static str,
    pub cameras: usize,
    /// Of all its processes, a camera and minute.
    pub cpu_s: f64,
    /// Of the recording process alone: without the one that looks for motion.
    pub cpu_s_recording: f64,
    /// All its processes, a camera: pages that several share divided among them, and counted in each.
    pub pss_mib: f64,
    pub rss_mib: f64,
    /// Handed to the disk for each byte of the camera's access units.
    pub written_per_received: f64,
}

/// The demo's eight scenes: 1280x720 and 640x360, H.264.
fn cameras(count: usize) -> Vec<Camera> {
    let boxes = two_towns().into_iter().flat_map(|town| town.boxes);
    boxes.flat_map(|one| one.cameras).take(count).collect()
}

/// Every contender with every number of cameras, one after the other.
pub fn run(counts: &[usize], seconds: u64, told: impl Fn(&Row)) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &count in counts {
        let cameras = cameras(count);
        ensure!(cameras.len() == count, "there are {} cameras, not {count}", cameras.len());
        for contender in Contender::RECORDING {
            let row = measure(contender, &cameras, Duration::from_secs(seconds))?;
            told(&row);
            rows.push(row);
        }
    }
    Ok(rows)
}

fn measure(contender: Contender, cameras: &[Camera], lasts: Duration) -> Result<Row> {
    let rig = Rig::serving(cameras)?;
    let running = contender.start(&rig, cameras)?;
    std::thread::sleep(WARM_UP);
    let processes = running.processes()?;
    let sum = |of: fn(_) -> Result<Usage>| {
        processes.iter().try_fold(Usage::default(), |sum, &pid| Ok::<_, anyhow::Error>(sum.plus(of(pid)?)))
    };
    let (began_us, alone, tree) = (micros_now()?, sum(Usage::of)?, sum(Usage::of_tree)?);
    std::thread::sleep(lasts);
    let (ended_us, alone_after, tree_after) = (micros_now()?, sum(Usage::of)?, sum(Usage::of_tree)?);
    running.end()?;
    let received = sent_bytes(&rig, cameras, began_us, ended_us)?;
    let camera_minutes = cameras.len() as f64 * micro_minutes(began_us, ended_us);
    let per_camera_minute =
        |before: Usage, after: Usage| after.processor.saturating_sub(before.processor).as_secs_f64() / camera_minutes;
    let mib_a_camera = |bytes: u64| bytes as f64 / cameras.len() as f64 / f64::from(1 << 20);
    Ok(Row {
        contender: contender.name(),
        cameras: cameras.len(),
        cpu_s: per_camera_minute(tree, tree_after),
        cpu_s_recording: per_camera_minute(alone, alone_after),
        pss_mib: mib_a_camera(tree_after.proportional_bytes),
        rss_mib: mib_a_camera(tree_after.resident_bytes),
        written_per_received: tree_after.written_bytes.saturating_sub(tree.written_bytes) as f64 / received as f64,
    })
}

/// Median over the rounds of each contender with each number of cameras, in the order of the first round.
pub fn medians(rows: &[Row]) -> Vec<Row> {
    let key = |row: &Row| (row.contender, row.cameras);
    let mut kinds: Vec<&Row> = Vec::new();
    for row in rows {
        if !kinds.iter().any(|kind| key(kind) == key(row)) {
            kinds.push(row);
        }
    }
    let of_kind = |kind: &Row| {
        let median = |value: fn(&Row) -> f64| {
            let mut values: Vec<f64> = rows.iter().filter(|row| key(row) == key(kind)).map(value).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        Row {
            contender: kind.contender,
            cameras: kind.cameras,
            cpu_s: median(|row| row.cpu_s),
            cpu_s_recording: median(|row| row.cpu_s_recording),
            pss_mib: median(|row| row.pss_mib),
            rss_mib: median(|row| row.rss_mib),
            written_per_received: median(|row| row.written_per_received),
        }
    };
    kinds.into_iter().map(of_kind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_of_one_kind_become_their_median() {
        let row = |cameras, cpu_s| Row {
            contender: "one",
            cameras,
            cpu_s,
            cpu_s_recording: cpu_s / 2.0,
            pss_mib: 1.0,
            rss_mib: 1.0,
            written_per_received: 1.0,
        };
        let rows = [row(1, 3.0), row(4, 9.0), row(1, 1.0), row(1, 2.0)];
        let medians = medians(&rows);
        let seen: Vec<(usize, f64, f64)> = medians.iter().map(|r| (r.cameras, r.cpu_s, r.cpu_s_recording)).collect();
        assert_eq!(seen, [(1, 2.0, 1.0), (4, 9.0, 4.5)]);
    }
}
