//! Real processes, real RTSP: recorded, indexed, reported, searched, played back.

use anyhow::{Context, Result, ensure};
use campanile_tests::demo::{hits, search};
use campanile_tests::edge_box::EdgeBox;
use campanile_tests::proof::audit;
use campanile_tests::rig::{
    Rig, SOON, camera_id, camera_row, one_box, play_newest, small_camera, wait_for_events, wait_for_more_events,
};
use campanile_tests::roster::{Camera, Picture};
use campanile_tests::town::Town;
use campanile_tests::until::until;
use std::path::Path;
use std::process::Command;

/// Sending, arrival and the smoothing of the time line at the edges of an interval.
const SLACK_US: i64 = 300_000;

/// Plays `seconds` of `camera` and compares them with its log, and with another's, which must fail.
fn is_played_as_sent(rig: &Rig, town: &Town, camera: &Camera, other: &Camera, seconds: i64) -> Result<u64> {
    let id = camera_id(town, &camera.name)?;
    let file = rig.path(&format!("{}.mp4", camera.key));
    let (from, to) = play_newest(town, town, &id, seconds, &file)?;
    let (from, to) = (from + SLACK_US, to - SLACK_US);
    let own = audit(&rig.simcam.log(&camera.key, "main"), &file, from, to)?;
    ensure!(own.is_exact(), "{}: {own:?}", camera.key);
    let control = audit(&rig.simcam.log(&other.key, "main"), &file, from, to)?;
    ensure!(!control.is_exact() && !control.foreign.is_empty(), "the audit cannot fail: {control:?}");
    Ok(own.found)
}

#[test]
fn every_access_unit_sent_is_found_and_played_in_both_codecs_over_tcp_and_udp() -> Result<()> {
    let mut cameras = [small_camera("uno", 1, "h264"), small_camera("due", 2, "h265"), small_camera("tre", 3, "h264")];
    cameras[2].transport = "udp";
    let rig = Rig::serving(&cameras)?;
    let town = rig.running_town("prato", one_box("cabinet", &cameras))?;
    wait_for_more_events(&town, "events of every camera", |events| {
        cameras.iter().all(|camera| events.values().any(|hit| hit["camera_name"] == *camera.name))
    })?;
    for (camera, other) in [(0, 1), (1, 0), (2, 0)] {
        let found = is_played_as_sent(&rig, &town, &cameras[camera], &cameras[other], 10)?;
        ensure!(found >= 90, "{found} units in ten seconds of ten a second");
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
fn a_box_with_a_shorter_term_than_its_hub_is_recorded_and_played() -> Result<()> {
    let camera = small_camera("uno", 1, "h264");
    let rig = Rig::serving(std::slice::from_ref(&camera))?;
    let plan = one_box("cabinet", &[camera]);
    let mut edge = EdgeBox::prepare(plan[0].clone(), rig.path("cabinet"), Some(&rig.simcam))?;
    let config = std::fs::read_to_string(edge.config())?;
    std::fs::write(edge.config(), config.replacen("[[camera]]", "[retention]\ndays = 3\n\n[[camera]]", 1))?;
    let mut town = rig.town("prato", plan)?;
    edge.enrol(&town.token("cabinet")?)?;
    edge.start()?;
    town.boxes.push(edge);
    wait_for_events(&town, 1)?;
    play_newest(&town, &town, &camera_id(&town, "Piazza uno")?, 4, &rig.path("uno.mp4"))?;
    Ok(())
}

/// A clip as people have them: reordered pictures, sound beside them, a container that is not MP4.
fn filmed(path: &Path, scene: &str, codec: &[&str]) -> Result<()> {
    let scene = format!("{scene}=size=640x360:rate=12");
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-f", "lavfi", "-t", "8", "-i", &scene])
        .args(["-f", "lavfi", "-i", "sine=frequency=440:duration=8", "-c:a", "aac", "-pix_fmt", "yuv420p"])
        .args(codec)
        .arg(path)
        .output()
        .context("ffmpeg cannot be run")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn a_film_with_reordered_pictures_and_sound_is_recorded_and_played_whole() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let x264 = ["-c:v", "libx264", "-bf", "2", "-g", "24"];
    let x265 = ["-c:v", "libx265", "-x265-params", "bframes=2:keyint=24:log-level=none"];
    let films = [("mkv", "testsrc2", &x264[..]), ("ts", "testsrc", &x264[..]), ("mp4", "mandelbrot", &x265[..])];
    let cameras = films.iter().zip(1..).map(|((ending, scene, codec), number)| {
        let path = folder.path().join(format!("film.{ending}"));
        filmed(&path, scene, codec)?;
        Ok(Camera { picture: Picture::Clip(path), ..small_camera(ending, number, "h264") })
    });
    let cameras: Vec<Camera> = cameras.collect::<Result<_>>()?;
    let rig = Rig::serving(&cameras)?;
    let town = rig.running_town("prato", one_box("cabinet", &cameras))?;
    // Ten seconds hold the seam of an eight second loop.
    for (at, camera) in cameras.iter().enumerate() {
        let other = &cameras[(at + 1) % cameras.len()];
        let found = is_played_as_sent(&rig, &town, camera, other, 10)?;
        ensure!(found >= 108, "{}: {found} units in ten seconds of twelve a second", camera.key);
    }
    Ok(())
}

#[test]
fn a_camera_that_cannot_be_recorded_is_named_and_disturbs_nobody() -> Result<()> {
    let good = small_camera("uno", 1, "h264");
    let rig = Rig::serving(std::slice::from_ref(&good))?;
    let (served, right) = rig.simcam.camera("uno")?;
    let real = |key: &str, main: String, password: &str| {
        let picture =
            Picture::Real { main, sub: None, username: served.username.clone(), password: password.to_owned() };
        Camera { picture, ..small_camera(key, 9, "h264") }
    };
    let refused = real("chiusa", served.main_url.clone(), "wrong");
    let absent = real("assente", "rtsp://127.0.0.1:9/none".to_owned(), "any");
    let jpeg = real("vecchia", served.main_url.replace("/main", "/jpeg"), right);
    let cameras = [good.clone(), refused.clone(), absent.clone(), jpeg.clone()];
    let town = rig.running_town("prato", one_box("cabinet", &cameras))?;
    let expected = [
        (&refused, "authentication_refused"),
        (&absent, "unreachable"),
        (&jpeg, "unsupported_codec"),
        (&good, "recording"),
    ];
    for (camera, condition) in expected {
        until(&format!("{} is {condition}", camera.name), SOON, || match camera_row(&town, &camera.name) {
            Ok(row) if row["streams"][0]["condition"] == condition => Ok(()),
            other => Err(format!("{other:?}")),
        })?;
    }
    wait_for_events(&town, 1)?;
    Ok(())
}
