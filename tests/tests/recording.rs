//! Real processes, real RTSP: recorded, indexed, reported, searched, played back.

use anyhow::{Result, ensure};
use campanile_tests::demo::{hits, search};
use campanile_tests::proof::audit;
use campanile_tests::rig::{Rig, SOON, camera_id, camera_row, one_box, play_newest, small_camera, wait_for_events};
use campanile_tests::until::until;

/// Sending, arrival and the smoothing of the time line at the edges of an interval.
const SLACK_US: i64 = 300_000;

#[test]
fn every_access_unit_sent_is_found_and_played_in_both_codecs() -> Result<()> {
    let cameras = [small_camera("uno", 1, "h264"), small_camera("due", 2, "h265")];
    let rig = Rig::serving(&cameras)?;
    let town = rig.running_town("prato", one_box("cabinet", &cameras))?;
    wait_for_events(&town, 2)?;
    for (camera, other) in [(&cameras[0], &cameras[1]), (&cameras[1], &cameras[0])] {
        let id = camera_id(&town, &camera.name)?;
        let file = rig.path(&format!("{}.mp4", camera.key));
        let (from, to) = play_newest(&town, &town, &id, 10, &file)?;
        let (from, to) = (from + SLACK_US, to - SLACK_US);
        let own = audit(&rig.simcam.log(&camera.key, "main"), &file, from, to)?;
        ensure!(own.is_exact() && own.found >= 90, "{}: {own:?}", camera.key);
        let control = audit(&rig.simcam.log(&other.key, "main"), &file, from, to)?;
        ensure!(!control.is_exact() && !control.foreign.is_empty(), "the audit cannot fail: {control:?}");
    }

    let of = |words: &str| -> Result<usize> {
        Ok(hits(&town.json(&search(&["--from", "-10m", "--own", "--words", words]))?).len())
    };
    ensure!(of("piazza uno")? > 0 && of("piazza")? > of("piazza uno")?, "words narrow a search");
    ensure!(of("lungarno")? == 0, "words that stand nowhere find nothing");
    let whole = "0,0 1,0 1,1 0,1";
    let in_region = |region: &str| -> Result<usize> {
        Ok(hits(&town.json(&search(&["--from", "-10m", "--own", "--region", region]))?).len())
    };
    ensure!(in_region(whole)? > 0, "the whole picture has motion");
    ensure!(in_region("0,0 0.02,0 0.02,0.02 0,0.02")? < in_region(whole)?, "the sky's corner has less");
    Ok(())
}

#[test]
fn a_camera_that_cannot_be_recorded_is_named_and_disturbs_nobody() -> Result<()> {
    let good = small_camera("uno", 1, "h264");
    let rig = Rig::serving(std::slice::from_ref(&good))?;
    let (served, _) = rig.simcam.camera("uno")?;
    let real = |key: &str, main: String, password: &str| {
        let mut camera = small_camera(key, 9, "h264");
        camera.picture = campanile_tests::roster::Picture::Real {
            main,
            sub: None,
            username: served.username.clone(),
            password: password.to_owned(),
        };
        camera
    };
    let refused = real("chiusa", served.main_url.clone(), "wrong");
    let absent = real("assente", "rtsp://127.0.0.1:9/none".to_owned(), "any");
    let town = rig.running_town("prato", one_box("cabinet", &[good.clone(), refused.clone(), absent.clone()]))?;
    for (camera, condition) in [(&refused, "authentication_refused"), (&absent, "unreachable"), (&good, "recording")] {
        until(&format!("{} is {condition}", camera.name), SOON, || match camera_row(&town, &camera.name) {
            Ok(row) if row["streams"][0]["condition"] == condition => Ok(()),
            other => Err(format!("{other:?}")),
        })?;
    }
    wait_for_events(&town, 1)?;
    Ok(())
}
