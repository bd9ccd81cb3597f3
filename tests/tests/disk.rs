//! A disk of recordings that is away.

use anyhow::{Result, ensure};
use campanile_tests::edge_box::text;
use campanile_tests::process::run_to_end;
use campanile_tests::rig::{Rig, SOON, camera_row, one_box, small_camera, wait_for_events};
use campanile_tests::town::Town;
use campanile_tests::until::until;

fn main_is(town: &Town, camera: &str, condition: &str) -> Result<serde_json::Value> {
    until(&format!("{camera} is {condition}"), SOON, || match camera_row(town, camera) {
        Ok(row) if row["streams"][0]["condition"] == condition => Ok(row),
        other => Err(format!("{other:?}")),
    })
}

#[test]
fn a_disk_that_is_not_mounted_is_named_fills_nothing_and_is_recorded_to_once_it_is_back() -> Result<()> {
    let camera = small_camera("uno", 1, "h264");
    let rig = Rig::serving(std::slice::from_ref(&camera))?;
    let mut town = rig.running_town("prato", one_box("cabinet", std::slice::from_ref(&camera)))?;
    wait_for_events(&town, 1)?;
    town.boxes[0].end()?;
    let (media, disk) = (town.boxes[0].folder.join("media"), town.boxes[0].folder.join("disk"));
    // What a mount point is without its disk.
    std::fs::rename(&media, &disk)?;
    std::fs::create_dir(&media)?;
    town.boxes[0].start()?;
    let row = main_is(&town, &camera.name, "disk_error")?;
    ensure!(row.to_string().contains("not mounted"), "{row}");
    let config = town.boxes[0].config();
    let check = run_to_end("campanile-edge", &["check", "--config", &config])?;
    ensure!(text(&check.stdout).contains("CHANGE  mount: "), "{}", text(&check.stdout));
    ensure!(check.status.code() == Some(1), "{}", check.status);
    ensure!(std::fs::read_dir(&media)?.count() == 0, "something was made where the disk is not");
    std::fs::remove_dir(&media)?;
    std::fs::rename(&disk, &media)?;
    main_is(&town, &camera.name, "recording")?;
    Ok(())
}
