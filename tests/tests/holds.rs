//! A hold on the seconds just gone and those just coming: copied through kills, read past its term, gone on release.

use anyhow::{Context, Result, ensure};
use campanile_tests::demo::{flatten, micros_now, rfc3339, until_past};
use campanile_tests::proof::audit;
use campanile_tests::rig::{Rig, SOON, camera_id, one_box, play, play_newest, small_camera, wait_for_edge};
use campanile_tests::town::Town;
use campanile_tests::until::until;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const SECOND: i64 = 1_000_000;
/// Sending, arrival and the smoothing of the time line at the edges of an interval.
const SLACK_US: i64 = 300_000;
/// Past every term.
const DAYS: i64 = 8;

/// A camera's held interval into a file, whole or not at all.
fn play_held(town: &Town, hold: &str, camera: &str, from: i64, to: i64, file: &Path) -> Result<String> {
    let (from, to, file) = (rfc3339(from), rfc3339(to), file.to_string_lossy());
    town.command(&[
        "play",
        "--hold",
        hold,
        "--camera",
        camera,
        "--from",
        &from,
        "--to",
        &to,
        "--out",
        &file,
        "--complete",
        "--purpose",
        "judicial-police",
        "--case",
        "RGNR 1/2026",
    ])
}

fn one(rows: Vec<Value>) -> Result<Value> {
    rows.iter().flat_map(flatten).next().cloned().context("no answer")
}

fn place(town: &Town, camera: &str, from: i64, to: i64) -> Result<String> {
    let (from, to, until) = (rfc3339(from), rfc3339(to), rfc3339(to + 30 * 86_400 * SECOND));
    let why = ["--act", "prot. 4711/2026", "--author", "Anna Bianchi", "--reason", "decreto"];
    let what = ["--camera", camera, "--from", &from, "--to", &to, "--until", &until];
    let unapproved = [&["holds", "place", "--approver", "anna bianchi"], &why[..], &what[..]].concat();
    let refused = town.command(&unapproved).err().context("one person alone has placed a hold")?;
    ensure!(format!("{refused:#}").contains("another person"), "{refused:#}");
    let placing = [&["holds", "place", "--approver", "Bruno Neri"], &why[..], &what[..]].concat();
    let placed = one(town.json(&placing)?)?;
    Ok(placed["id"].as_str().context("a hold has an id")?.to_owned())
}

/// The hub's clock is days ahead, somebody says that it is right, and every key past its term is destroyed.
fn the_term_passes(town: &mut Town) -> Result<()> {
    town.wall = Some(format!("+{DAYS}d"));
    for _ in 0..2 {
        town.hub.take().context("it runs")?.end()?;
        town.start_hub()?;
        town.command(&["clock", "confirm", &rfc3339(micros_now()? + DAYS * 86_400 * SECOND)])?;
    }
    until("the keys of their hours are destroyed", SOON, || {
        let entries = town.json(&["register", "list"]).map_err(|error| format!("{error:#}"))?;
        let destroyed = entries.iter().flat_map(flatten).any(|entry| entry["act"] == "key_destroyed");
        if destroyed { Ok(()) } else { Err(format!("{} entries", entries.len())) }
    })
}

#[test]
fn held_seconds_outlive_their_term_frame_for_frame_and_nothing_outlives_a_release() -> Result<()> {
    let camera = small_camera("uno", 1, "h264");
    let rig = Rig::serving(std::slice::from_ref(&camera))?;
    let mut town = rig.running_town("prato", one_box("cabinet", std::slice::from_ref(&camera)))?;
    let id = camera_id(&town, &camera.name)?;
    play_newest(&town, &town, &id, 12, &rig.path("first.mp4"))?;

    let now = micros_now()?;
    let (from, killed) = (now - 8 * SECOND, now);
    let to = now + 6 * SECOND;
    let hold = place(&town, &id, from, to)?;
    town.boxes[0].kill()?;
    town.hub.take().context("it runs")?.kill()?;
    town.start_hub()?;
    town.boxes[0].start()?;
    let show = |town: &Town| one(town.json(&["holds", "show", &hold])?);
    until("the hold is complete", SOON, || match show(&town) {
        Ok(shown) if shown["state"] == "complete" => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    let shown = show(&town)?;
    let main = &shown["account"][0];
    let held = main["seconds"]["held"].as_f64().context("some of it is held")?;
    ensure!((7.0..=14.0).contains(&held), "{shown}");
    for part in main["missing"].as_array().into_iter().flatten() {
        let named = part["cause"] == "edge-off" || part["cause"] == "connecting";
        ensure!(part["what"] == "never-recorded" && named, "{shown}");
    }

    // What lies beside the hold, and within it before the kill, opens in the ordinary way: the control.
    let inside = (from, killed - 2 * SECOND);
    let outside = [(from - 4 * SECOND, from - 2 * SECOND), (to + 3 * SECOND, to + 5 * SECOND)];
    until_past(to + 9 * SECOND)?;
    for (at, (from, to)) in outside.into_iter().chain([inside]).enumerate() {
        until("it is played before its term", SOON, || {
            play(&town, &town, &id, from, to, &rig.path(&format!("ordinary-{at}.mp4"))).map_err(|e| format!("{e:#}"))
        })?;
    }
    town.boxes[0].end()?;
    the_term_passes(&mut town)?;
    wait_for_edge(&town, "cabinet", "away", |row| row["connected"] == false)?;

    let file = rig.path("held.mp4");
    play_held(&town, &hold, &id, inside.0, inside.1, &file)?;
    let own = audit(&rig.simcam.log(&camera.key, "main"), &file, inside.0 + SLACK_US, inside.1 - SLACK_US)?;
    ensure!(own.is_exact(), "{own:?}");
    let refused = play(&town, &town, &id, inside.0, inside.1, &rig.path("late.mp4"));
    ensure!(refused.is_err(), "the ordinary way opens footage past its term: {refused:?}");
    for (from, to) in outside {
        let refused = play_held(&town, &hold, &id, from, to, &rig.path("beside.mp4")).err();
        let refused = format!("{:#}", refused.context("seconds beside the hold open")?);
        ensure!(refused.contains("NOTHING_HELD"), "{refused}");
    }
    let folder = rig.path("export");
    let folder_text = folder.to_string_lossy().into_owned();
    let export =
        ["holds", "export", &hold, "--output", &folder_text, "--purpose", "judicial-police", "--case", "RGNR 1/2026"];
    let files = town.json(&export)?;
    let names: Vec<&str> = files.iter().flat_map(flatten).filter_map(|file| file["file"].as_str()).collect();
    ensure!(names.len() == 2 && names[0].contains("-main-") && names[1].contains("-sub-"), "{names:?}");
    // Of two runs, whose scenes repeat: nothing in it that the camera did not send, and a player reads it to its end.
    let own = audit(&rig.simcam.log(&camera.key, "main"), Path::new(names[0]), from, to)?;
    ensure!(own.found > 60 && own.foreign.is_empty(), "{own:?}");
    for name in &names {
        let played = Command::new("ffmpeg").args(["-nostdin", "-v", "error", "-i", name, "-f", "null", "-"]).output();
        let played = played.context("ffmpeg cannot be run")?;
        ensure!(played.status.success(), "{name}: {}", String::from_utf8_lossy(&played.stderr));
    }
    let entries = town.json(&["register", "list", "--limit", "1000"])?;
    let of_hold = |act: &str| {
        let rows = entries.iter().flat_map(flatten);
        rows.filter(|entry| entry["hold"] == *hold && entry["act"] == *act).count()
    };
    ensure!(of_hold("hold_placed") == 2 && of_hold("hold_complete") == 1 && of_hold("playback") >= 4, "{entries:#?}");

    town.command(&["holds", "release", &hold, "--by", "Carla Verdi", "--reason", "archiviazione"])?;
    let refused = play_held(&town, &hold, &id, inside.0, inside.1, &file).err().context("a released hold opens")?;
    ensure!(format!("{refused:#}").contains("is over"), "{refused:#}");
    ensure!(town.json(&export).is_err(), "a released hold is exported");
    ensure!(!town.data().join("holds").join(&hold).exists(), "its copies are still there");
    Ok(())
}
