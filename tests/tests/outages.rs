//! Processes killed at any moment, databases lost and restored, boxes cloned.

use anyhow::{Context, Result, ensure};
use campanile_tests::demo::{ARRIVES_WITHIN_US, micros_now, rfc3339, until_past};
use campanile_tests::process::children;
use campanile_tests::proof::{Audit, audit};
use campanile_tests::rig::{
    Rig, SOON, camera_id, camera_row, clone_box, copy_folder, edge_row, micros, one_box, own_events, play, play_newest,
    small_camera, wait_for_edge, wait_for_events, wait_for_more_events,
};
use campanile_tests::roster::Camera;
use campanile_tests::town::Town;
use campanile_tests::until::until;
use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Sending, arrival and the smoothing of the time line at the edges of an interval.
const SLACK_US: i64 = 300_000;

type Events = BTreeMap<String, Value>;

fn ids(events: &Events) -> BTreeSet<String> {
    events.keys().cloned().collect()
}

/// An event told again under another id is a double too.
fn no_two_begin_together(events: &Events) -> Result<()> {
    let begun: BTreeSet<String> = events.values().map(|hit| format!("{} {}", hit["camera"], hit["start"])).collect();
    ensure!(begun.len() == events.len(), "{} events, {} beginnings: {events:#?}", events.len(), begun.len());
    Ok(())
}

/// One camera, one box, one hub.
fn one_camera() -> Result<(Camera, Rig, Town)> {
    let camera = small_camera("uno", 1, "h264");
    let rig = Rig::serving(std::slice::from_ref(&camera))?;
    let town = rig.running_town("prato", one_box("cabinet", std::slice::from_ref(&camera)))?;
    Ok((camera, rig, town))
}

/// The whole seconds of [from, to) were recorded and are exactly what the newest client was sent.
fn is_whole(rig: &Rig, town: &Town, camera: &Camera, from: i64, to: i64, name: &str) -> Result<Audit> {
    let file = rig.path(name);
    let id = camera_id(town, &camera.name)?;
    until("the interval is played whole", SOON, || {
        play(town, town, &id, from, to, &file).map_err(|error| format!("{error:#}"))
    })?;
    let found = audit(&newest_client(&rig.simcam.log(&camera.key, "main"))?, &file, from + SLACK_US, to - SLACK_US)?;
    ensure!(found.is_exact(), "{found:?}");
    Ok(found)
}

/// What `campanile-hub coverage` says of [from, to): seconds recorded, and seconds missing by cause.
fn coverage(town: &Town, camera: &Camera, from: i64, to: i64) -> Result<(f64, BTreeMap<String, f64>)> {
    let (id, from, to) = (camera_id(town, &camera.name)?, rfc3339(from), rfc3339(to));
    let answer = town.json(&["coverage", "--camera", &id, "--from", &from, "--to", &to])?;
    let days = answer.first().and_then(|answer| answer["cameras"][0]["days"].as_array()).context("no days")?;
    let (mut recorded, mut whole, mut missing) = (0.0, 0.0, BTreeMap::new());
    for day in days {
        recorded += day["recorded_seconds"].as_f64().context("no seconds")?;
        whole += day["seconds"].as_f64().context("no seconds")?;
        for gap in day["gaps"].as_array().context("no gaps")? {
            let cause = gap["cause"].as_str().context("no cause")?.to_owned();
            *missing.entry(cause).or_default() += (micros(&gap["end"])? - micros(&gap["start"])?) as f64 / 1e6;
        }
    }
    let said = recorded + missing.values().sum::<f64>();
    ensure!((said - whole).abs() < 0.001, "of {whole} s, {recorded} s were recorded and {missing:?} were not");
    Ok((recorded, missing))
}

#[test]
fn a_masked_camera_records_nothing_and_its_absence_is_named_until_it_is_unmasked() -> Result<()> {
    let (camera, _rig, mut town) = one_camera()?;
    let id = camera_id(&town, &camera.name)?;
    let recording = |town: &Town, from: i64| {
        until("it is recorded", SOON, || {
            let covered = micros_now().and_then(|now| coverage(town, &camera, from, now));
            let (recorded, _) = covered.map_err(|error| format!("{error:#}"))?;
            if recorded > 2.0 { Ok(()) } else { Err(format!("{recorded} s")) }
        })
    };
    recording(&town, micros_now()? - 60_000_000)?;

    town.command(&["cameras", "mask", &id, "--act", "delibera 12/2026", "--author", "Rossi"])?;
    let shown = |town: &Town| anyhow::Ok(camera_row(town, &camera.name)?["masked"]["act"].clone());
    ensure!(shown(&town)? == "delibera 12/2026", "{}", shown(&town)?);
    let masked_by = micros_now()? + 5_000_000;
    until_past(masked_by)?;
    // Its box, started again without its hub, keeps to it.
    town.hub.take().context("it runs")?.kill()?;
    let edge = town.boxes.first_mut().context("no box")?;
    edge.kill()?;
    edge.start()?;
    until_past(masked_by + 5_000_000)?;
    town.start_hub()?;
    let while_masked = micros_now()?;
    let (recorded, missing) = until("the absence is named", SOON, || {
        let (recorded, missing) =
            coverage(&town, &camera, masked_by, while_masked).map_err(|error| format!("{error:#}"))?;
        if missing.get("masked").is_some_and(|seconds| *seconds > 2.0) && !missing.contains_key("not_reported") {
            Ok((recorded, missing))
        } else {
            Err(format!("{missing:?}"))
        }
    })?;
    ensure!(recorded == 0.0, "{recorded} s of a masked camera, {missing:?}");

    town.command(&["cameras", "unmask", &id])?;
    ensure!(shown(&town)?.is_null(), "{}", shown(&town)?);
    recording(&town, while_masked)
}

/// [from, to) was not recorded altogether, and all that is missing is so for one of `causes`.
fn absence_is_named(town: &Town, camera: &Camera, from: i64, to: i64, causes: &[&str]) -> Result<()> {
    until("the absence is named", SOON, || match coverage(town, camera, from, to) {
        Ok((recorded, missing))
            if recorded > 0.0
                && !missing.is_empty()
                && missing.keys().all(|cause| causes.contains(&cause.as_str())) =>
        {
            Ok(())
        }
        other => Err(format!("{other:?}")),
    })
}

#[test]
fn a_killed_box_comes_back_and_no_event_is_lost_or_doubled() -> Result<()> {
    let (camera, rig, mut town) = one_camera()?;
    let before = wait_for_events(&town, 1)?;
    let killed = micros_now()?;
    town.boxes[0].kill()?;
    town.boxes[0].start()?;
    let restarted = micros_now()?;
    let begun_after = |hit: &Value| micros(&hit["start"]).is_ok_and(|start| start > restarted);
    let after = wait_for_more_events(&town, "an event after the kill", |events| events.values().any(begun_after))?;
    ensure!(ids(&after).is_superset(&ids(&before)), "lost {:?}", ids(&before).difference(&ids(&after)));
    no_two_begin_together(&after)?;
    let file = rig.path("after.mp4");
    let (from, to) = play_newest(&town, &town, &camera_id(&town, &camera.name)?, 4, &file)?;
    let own = audit(&newest_client(&rig.simcam.log("uno", "main"))?, &file, from + SLACK_US, to - SLACK_US)?;
    ensure!(own.is_exact(), "{own:?}");
    absence_is_named(&town, &camera, killed - 4_000_000, to, &["edge_off", "connecting"])
}

#[test]
fn a_killed_hub_hears_of_everything_that_happened_meanwhile() -> Result<()> {
    let (camera, rig, mut town) = one_camera()?;
    let before = wait_for_events(&town, 1)?;
    town.hub.take().context("it runs")?.kill()?;
    // Recording and finding motion go on: two of the scene's busy spells, as long as each loop lasts.
    let away = micros_now()?;
    let log = rig.simcam.log("uno", "main");
    until("16 s of pictures without a hub", SOON, || {
        let sent = last_sent(&log).map_err(|error| format!("{error:#}"))?;
        if sent > away + 16_000_000 { Ok(()) } else { Err(format!("{} us", sent - away)) }
    })?;
    let back = micros_now()?;
    town.start_hub()?;
    let meanwhile = |hit: &Value| micros(&hit["start"]).is_ok_and(|start| (away..back).contains(&start));
    let after = wait_for_more_events(&town, "an event of the outage", |events| events.values().any(meanwhile))?;
    ensure!(ids(&after).is_superset(&ids(&before)), "lost {:?}", ids(&before).difference(&ids(&after)));
    no_two_begin_together(&after)?;
    let found = is_whole(&rig, &town, &camera, away + 1_000_000, back - 1_000_000, "meanwhile.mp4")?;
    ensure!(found.found > 100, "{found:?}");
    Ok(())
}

#[test]
fn an_analysis_that_crashes_or_hangs_never_touches_recording_and_is_started_again() -> Result<()> {
    let (camera, rig, town) = one_camera()?;
    wait_for_events(&town, 1)?;
    let edge = town.boxes[0].process.as_ref().context("it runs")?.pid();
    let began = micros_now()?;
    // The runtime of Rust lets a first SIGSEGV from outside pass.
    for fault in [Signal::SIGABRT, Signal::SIGSTOP] {
        let analysing = children(edge, "analyse")?;
        ensure!(analysing.len() == 1, "{analysing:?}");
        kill(analysing[0], fault)?;
        until("another child analyses", SOON, || match children(edge, "analyse") {
            Ok(now) if now.len() == 1 && now[0] != analysing[0] => Ok(()),
            other => Err(format!("after {fault}: {other:?}")),
        })?;
    }
    let again = micros_now()?;
    let begun_after = |hit: &Value| micros(&hit["start"]).is_ok_and(|start| start > again);
    let events = wait_for_more_events(&town, "an event after the kill", |events| events.values().any(begun_after))?;
    no_two_begin_together(&events)?;
    is_whole(&rig, &town, &camera, began - 1_000_000, micros_now()? - 3_000_000, "through.mp4")?;
    Ok(())
}

#[test]
fn a_camera_that_comes_back_is_recorded_again_and_its_absence_named() -> Result<()> {
    let (camera, mut rig, town) = one_camera()?;
    wait_for_events(&town, 1)?;
    let gone = micros_now()?;
    rig.simcam.process.kill()?;
    let condition = |is: fn(&str) -> bool| {
        until("the camera's condition", SOON, || match camera_row(&town, &camera.name) {
            Ok(row) if row["streams"][0]["condition"].as_str().is_some_and(is) => Ok(()),
            other => Err(format!("{other:?}")),
        })
    };
    condition(|said| said == "unreachable" || said == "no_bytes")?;
    rig.simcam.kill_and_restart()?;
    condition(|said| said == "recording")?;
    let back = micros_now()?;
    until_past(back + 5_000_000 + ARRIVES_WITHIN_US)?;
    is_whole(&rig, &town, &camera, back + 1_000_000, back + 5_000_000, "back.mp4")?;
    absence_is_named(&town, &camera, gone - 2_000_000, back + 5_000_000, &["unreachable", "no_bytes"])?;
    let whole = coverage(&town, &camera, back + 1_000_000, back + 5_000_000)?;
    ensure!(whole.1.is_empty(), "{whole:?}");
    Ok(())
}

/// Wall time at which the newest access unit was sent.
fn last_sent(log: &Path) -> Result<i64> {
    let text = std::fs::read_to_string(log)?;
    let of = |line: &str| serde_json::from_str::<Value>(line).ok()?["wall_us"].as_i64();
    text.lines().rev().find_map(of).with_context(|| format!("nothing sent yet: {}", log.display()))
}

/// The log of the newest client alone: a killed box leaves its own lines behind.
fn newest_client(log: &Path) -> Result<PathBuf> {
    let text = std::fs::read_to_string(log)?;
    let client = |line: &str| -> Option<i64> { serde_json::from_str::<Value>(line).ok()?["client"].as_i64() };
    let newest = text.lines().filter_map(client).max();
    let kept: Vec<&str> = text.lines().filter(|line| client(line) == newest).collect();
    let path = log.with_extension("newest");
    std::fs::write(&path, kept.join("\n") + "\n")?;
    Ok(path)
}

#[test]
fn a_box_that_lost_its_database_reports_everything_again_without_a_double() -> Result<()> {
    let (camera, _rig, mut town) = one_camera()?;
    let before = wait_for_events(&town, 2)?;
    let camera_before = camera_id(&town, &camera.name)?;
    town.boxes[0].end()?;
    let mut removed = 0;
    for entry in std::fs::read_dir(town.boxes[0].folder.join("state"))? {
        let path = entry?.path();
        if path.to_string_lossy().contains("index.sqlite") {
            std::fs::remove_file(path)?;
            removed += 1;
        }
    }
    ensure!(removed > 0, "there was no database to lose");
    town.boxes[0].start()?;
    let restarted = micros_now()?;
    let begun_after = |hit: &Value| micros(&hit["start"]).is_ok_and(|start| start > restarted);
    let after = wait_for_more_events(&town, "an event after the loss", |events| events.values().any(begun_after))?;
    ensure!(ids(&after).is_superset(&ids(&before)), "lost {:?}", ids(&before).difference(&ids(&after)));
    no_two_begin_together(&after)?;
    ensure!(camera_id(&town, &camera.name)? == camera_before, "the camera became another one");
    Ok(())
}

#[test]
fn yesterdays_hub_gets_what_it_forgot_again() -> Result<()> {
    let (_camera, rig, mut town) = one_camera()?;
    wait_for_edge(&town, "cabinet", "connected", |row| row["connected"] == true)?;
    // Yesterday's backup: the hub as it was before the events came.
    town.hub.take().context("it runs")?.end()?;
    let backup = rig.path("backup");
    copy_folder(&town.data(), &backup)?;
    town.start_hub()?;
    let before = ids(&wait_for_events(&town, 2)?);
    town.hub.take().context("it runs")?.end()?;
    // The key ring is in no backup, and stands beside what is restored.
    for entry in std::fs::read_dir(town.data())? {
        let entry = entry?;
        if entry.file_name() == "keyring" {
            continue;
        }
        let path = entry.path();
        if path.is_dir() { std::fs::remove_dir_all(path)? } else { std::fs::remove_file(path)? }
    }
    std::fs::remove_dir_all(backup.join("keyring"))?;
    copy_folder(&backup, &town.data())?;
    town.start_hub()?;
    until("the restored hub has them again", SOON, || {
        let now = own_events(&town).map(|events| ids(&events)).map_err(|error| format!("{error:#}"))?;
        if now.is_superset(&before) { Ok(()) } else { Err(format!("{} of {}", now.len(), before.len())) }
    })?;
    no_two_begin_together(&own_events(&town)?)?;
    ensure!(edge_row(&town, "cabinet")?["standing"] != "quarantined", "the box is blamed for the hub's restore");
    Ok(())
}

#[test]
fn a_cloned_box_is_named() -> Result<()> {
    let (_camera, rig, town) = one_camera()?;
    wait_for_edge(&town, "cabinet", "connected", |row| row["connected"] == true)?;
    let mut clone = clone_box(&town.boxes[0], rig.path("clone"), &rig.simcam)?;
    for entry in std::fs::read_dir(clone.folder.join("state"))? {
        let path = entry?.path();
        if path.to_string_lossy().contains("index.sqlite") {
            std::fs::remove_file(path)?;
        }
    }
    clone.start()?;
    wait_for_edge(&town, "cabinet", "quarantined", |row| row["standing"] == "quarantined")?;
    Ok(())
}

#[test]
fn a_stopped_hub_and_a_stopped_box_end_in_order() -> Result<()> {
    let (_camera, _rig, mut town) = one_camera()?;
    wait_for_events(&town, 1)?;
    let edge = town.boxes[0].process.as_mut().context("it runs")?;
    let status = edge.end()?;
    ensure!(status.success(), "the box ended with {status}: {}", edge.last_line());
    let hub = town.hub.as_mut().context("it runs")?;
    let status = hub.end()?;
    ensure!(status.success(), "the hub ended with {status}: {}", hub.last_line());
    Ok(())
}
