//! Processes killed at any moment, databases lost and restored, boxes cloned.

use anyhow::{Result, ensure};
use campanile_tests::proof::audit;
use campanile_tests::rig::{
    Rig, camera_id, clone_box, copy_folder, edge_row, one_box, own_events, play_newest, small_camera, wait_for_edge,
    wait_for_events,
};
use campanile_tests::until::until;
use std::collections::BTreeSet;
use std::time::Duration;

fn ids(events: &std::collections::BTreeMap<String, serde_json::Value>) -> BTreeSet<String> {
    events.keys().cloned().collect()
}

#[test]
fn killed_processes_come_back_and_no_event_is_lost_or_doubled() -> Result<()> {
    let camera = small_camera("uno", 1, "h264");
    let rig = Rig::serving(std::slice::from_ref(&camera))?;
    let mut town = rig.running_town("prato", one_box("cabinet", std::slice::from_ref(&camera)))?;
    let before = ids(&wait_for_events(&town, 1)?);

    town.boxes[0].kill()?;
    town.boxes[0].start()?;
    let after_box = ids(&wait_for_events(&town, before.len() + 1)?);
    ensure!(after_box.is_superset(&before), "lost {:?}", before.difference(&after_box));

    // The hub is away while the box goes on recording and finding motion.
    town.hub.as_mut().expect("it runs").kill()?;
    town.hub = None;
    std::thread::sleep(Duration::from_secs(6));
    town.start_hub()?;
    let after_hub = ids(&wait_for_events(&town, after_box.len() + 1)?);
    ensure!(after_hub.is_superset(&after_box), "lost {:?}", after_box.difference(&after_hub));

    // What was recorded while the hub was away is there, whole.
    let id = camera_id(&town, &camera.name)?;
    let file = rig.path("after.mp4");
    let (from, to) = play_newest(&town, &town, &id, 8, &file)?;
    let (from, to) = (from + 300_000, to - 300_000);
    let clients = newest_client(&rig.simcam.log("uno", "main"))?;
    let own = audit(&clients, &file, from, to)?;
    ensure!(own.is_exact(), "{own:?}");
    Ok(())
}

/// The log of the newest client alone: a killed box leaves its own lines behind.
fn newest_client(log: &std::path::Path) -> Result<std::path::PathBuf> {
    let text = std::fs::read_to_string(log)?;
    let client =
        |line: &str| -> Option<i64> { serde_json::from_str::<serde_json::Value>(line).ok()?["client"].as_i64() };
    let newest = text.lines().filter_map(client).max();
    let kept: Vec<&str> = text.lines().filter(|line| client(line) == newest).collect();
    let path = log.with_extension("newest");
    std::fs::write(&path, kept.join("\n") + "\n")?;
    Ok(path)
}

#[test]
fn a_box_that_lost_its_database_reports_everything_again_without_a_double() -> Result<()> {
    let camera = small_camera("uno", 1, "h264");
    let rig = Rig::serving(std::slice::from_ref(&camera))?;
    let mut town = rig.running_town("prato", one_box("cabinet", std::slice::from_ref(&camera)))?;
    let before = ids(&wait_for_events(&town, 2)?);
    let camera_before = camera_id(&town, &camera.name)?;
    town.boxes[0].end()?;
    for entry in std::fs::read_dir(town.boxes[0].folder.join("state"))? {
        let path = entry?.path();
        if path.to_string_lossy().contains("index.sqlite") {
            std::fs::remove_file(path)?;
        }
    }
    town.boxes[0].start()?;
    let after = ids(&wait_for_events(&town, before.len() + 1)?);
    ensure!(after.is_superset(&before), "lost {:?}", before.difference(&after));
    ensure!(camera_id(&town, &camera.name)? == camera_before, "the camera became another one");
    Ok(())
}

#[test]
fn yesterdays_hub_gets_what_it_forgot_again() -> Result<()> {
    let camera = small_camera("uno", 1, "h264");
    let rig = Rig::serving(std::slice::from_ref(&camera))?;
    let mut town = rig.running_town("prato", one_box("cabinet", std::slice::from_ref(&camera)))?;
    wait_for_edge(&town, "cabinet", "connected", |row| row["connected"] == true)?;
    // Yesterday's backup: the hub as it was before the events came.
    town.hub.take().expect("it runs").end()?;
    let backup = rig.path("backup");
    copy_folder(&town.data(), &backup)?;
    town.start_hub()?;
    let before = ids(&wait_for_events(&town, 2)?);
    town.hub.take().expect("it runs").end()?;
    let addresses = std::fs::read(town.data().join("addresses.json"));
    std::fs::remove_dir_all(town.data())?;
    copy_folder(&backup, &town.data())?;
    if let Ok(addresses) = addresses {
        std::fs::write(town.data().join("addresses.json"), addresses)?;
    }
    town.start_hub()?;
    until("the restored hub has them again", campanile_tests::rig::SOON, || {
        let now = own_events(&town).map(|events| ids(&events)).map_err(|error| format!("{error:#}"))?;
        if now.is_superset(&before) { Ok(()) } else { Err(format!("{} of {}", now.len(), before.len())) }
    })?;
    ensure!(edge_row(&town, "cabinet")?["standing"] != "quarantined", "the box is blamed for the hub's restore");
    Ok(())
}

#[test]
fn a_cloned_box_is_named() -> Result<()> {
    let camera = small_camera("uno", 1, "h264");
    let rig = Rig::serving(std::slice::from_ref(&camera))?;
    let town = rig.running_town("prato", one_box("cabinet", std::slice::from_ref(&camera)))?;
    wait_for_edge(&town, "cabinet", "connected", |row| row["connected"] == true)?;
    let mut clone = clone_box(&town.boxes[0], rig.path("clone"), &rig.simcam)?;
    let _ = std::fs::remove_file(clone.folder.join("state/index.sqlite"));
    clone.start()?;
    wait_for_edge(&town, "cabinet", "quarantined", |row| row["standing"] == "quarantined")?;
    Ok(())
}
