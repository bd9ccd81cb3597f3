//! Every clip of a folder as a camera: recorded, indexed, found, played back whole.

use crate::demo::{ARRIVES_WITHIN_US, clips_in, hits, micros_now, search, until_past};
use crate::proof::audit;
use crate::rig::{Rig, play};
use crate::roster::{BoxPlan, Camera, Picture};
use crate::town::Town;
use crate::until::until_each;
use anyhow::{Context, Result, ensure};
use campanile_sim::units::read_mp4;
use std::path::Path;
use std::time::Duration;

/// Cameras of one box.
const PER_BOX: usize = 3;
/// Beyond the longest clip: connecting, the last fragment, a busy machine.
const MARGIN: Duration = Duration::from_secs(90);
const SLACK_US: i64 = 300_000;

/// Plays every clip as a camera of one town and prints a row for each.
pub fn run(folder: &Path) -> Result<()> {
    let clips = clips_in(folder)?;
    let cameras: Vec<Camera> = (1u32..).zip(clips).map(|(number, (name, clip))| camera(number, name, clip)).collect();
    let boxes = cameras.chunks(PER_BOX).enumerate();
    let boxes = boxes.map(|(at, some)| BoxPlan { name: format!("cabinet-{at}"), cameras: some.to_vec() }).collect();
    let rig = Rig::serving(&cameras)?;
    let town = rig.running_town("prato", boxes)?;
    let began_us = micros_now()?;
    println!("{:<28} {:>6} {:>8} {:>8} {:>8} {:>7}", "clip", "s", "sent", "missing", "foreign", "events");
    let mut failed = Vec::new();
    for camera in &cameras {
        if let Err(error) = row(&rig, &town, camera, began_us) {
            println!("{:<28} {error:#}", camera.key);
            failed.push(camera.key.clone());
        }
    }
    ensure!(failed.is_empty(), "clips not played back whole: {}", failed.join(", "));
    Ok(())
}

fn camera(number: u32, name: String, picture: Picture) -> Camera {
    Camera {
        key: name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"),
        number,
        name: name.clone(),
        site: "Clips".to_owned(),
        address: name,
        latitude: 0.0,
        longitude: 0.0,
        codec: "h264",
        transport: "tcp",
        picture,
    }
}

/// Plays one whole turn of the clip's loop, from a few seconds after recording began.
fn row(rig: &Rig, town: &Town, camera: &Camera, began_us: i64) -> Result<()> {
    let Picture::Clip(path) = &camera.picture else { return Ok(()) };
    let units = read_mp4(path).with_context(|| format!("cannot read {}", path.display()))?;
    let last = units.iter().map(|unit| unit.pts_90k).max().context("the clip is empty")?;
    let seconds = i64::try_from(last)? / 90_000 + 1;
    let (from, to) = (began_us + 8_000_000, began_us + (8 + seconds) * 1_000_000);
    let id = crate::rig::camera_id(town, &camera.name)?;
    let file = rig.path(&format!("{}.mp4", camera.key));
    until_past(to + ARRIVES_WITHIN_US)?;
    until_each(Duration::from_secs(1), "played back whole", MARGIN, || {
        play(town, town, &id, from, to, &file).map_err(|error| format!("{error:#}"))
    })?;
    let report = audit(&rig.simcam.log(&camera.key, "main"), &file, from + SLACK_US, to - SLACK_US)?;
    let answers = town.json(&search(&["--from", "-30m", "--own", "--limit", "500", "--camera", &id]))?;
    let events = hits(&answers).len();
    println!(
        "{:<28} {seconds:>6} {:>8} {:>8} {:>8} {events:>7}",
        camera.key,
        report.expected,
        report.missing.len(),
        report.foreign.len()
    );
    ensure!(report.is_exact(), "{} of {} access units", report.found, report.expected);
    ensure!(events > 0 || !moves(path)?, "nothing found where something moves");
    Ok(())
}

/// Whether the clip's labels, if it has any, know of motion.
fn moves(clip: &Path) -> Result<bool> {
    let labels = clip.with_extension("intervals.csv");
    let Ok(text) = std::fs::read_to_string(&labels) else { return Ok(false) };
    Ok(text.lines().any(|line| line.split(',').nth(2) == Some("motion")))
}
