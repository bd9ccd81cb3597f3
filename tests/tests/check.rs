//! `campanile-edge check` over real streams: what it measures, what it names, and that it gives nothing away.

use anyhow::{Context, Result, ensure};
use campanile_tests::edge_box::{EdgeBox, text};
use campanile_tests::process::run_to_end;
use campanile_tests::rig::{Rig, one_box, small_camera};
use campanile_tests::roster::{Camera, Picture};
use serde_json::Value;
use std::process::Output;
use std::time::{Duration, Instant};

/// Connecting, watching and closing have bounds of their own that add up to less; a busy machine.
const BOUNDED: Duration = Duration::from_secs(60);
const WRONG: &str = "wrong-password-of-a-test";

fn checked(config: &str, arguments: &[&str]) -> Result<Output> {
    let began = Instant::now();
    let output = run_to_end("campanile-edge", &[&["check", "--config", config], arguments].concat())?;
    ensure!(began.elapsed() < BOUNDED, "it took {:?}", began.elapsed());
    Ok(output)
}

fn json(output: &Output) -> Result<Value> {
    serde_json::from_slice(&output.stdout).with_context(|| format!("no JSON: {}", text(&output.stdout)))
}

fn stream<'a>(report: &'a Value, camera: &Camera, stream: &str) -> Result<&'a Value> {
    let mut streams = report["streams"].as_array().into_iter().flatten();
    let found = streams.find(|row| row["camera"] == *camera.name && row["stream"] == stream);
    found.with_context(|| format!("{}, {stream} is not in {report}", camera.name))
}

/// The changes asked for, by what they are about.
fn changes(report: &Value) -> Vec<(String, String)> {
    let findings = report["findings"].as_array().into_iter().flatten();
    let changes = findings.filter_map(|finding| Some((finding["about"].as_str()?, finding["change"].as_str()?)));
    changes.map(|(about, change)| (about.to_owned(), change.to_owned())).collect()
}

fn shows(row: &Value, codec: &str, size: (u64, u64), rate: f64) -> Result<()> {
    let number = |field: &str| row[field].as_f64().with_context(|| format!("{field} is missing in {row}"));
    ensure!(row["condition"] == "recording" && row["codec"] == codec, "{row}");
    ensure!((row["width"].as_u64(), row["height"].as_u64()) == (Some(size.0), Some(size.1)), "{row}");
    ensure!((number("frames_per_second")? - rate).abs() < rate / 10.0, "{rate} frames a second: {row}");
    ensure!((0.5..8.0).contains(&number("group_seconds")?), "{row}");
    ensure!((5_000.0..20_000_000.0).contains(&number("bits_per_second")?), "{row}");
    // Cameras and box share this machine's clock.
    ensure!(number("clock_offset_ms")?.abs() < 1_500.0, "{row}");
    Ok(())
}

#[test]
fn each_camera_is_measured_or_named_with_what_to_change_and_no_secret_is_printed() -> Result<()> {
    let (uno, due) = (small_camera("uno", 1, "h264"), small_camera("due", 2, "h265"));
    let rig = Rig::serving(&[uno.clone(), due.clone()])?;
    let (served, right) = rig.simcam.camera("uno")?;
    let real = |key: &str, main: String| {
        let (username, password) = (served.username.clone(), WRONG.to_owned());
        Camera { picture: Picture::Real { main, sub: None, username, password }, ..small_camera(key, 9, "h264") }
    };
    let refused = real("chiusa", served.main_url.clone());
    let absent = real("assente", "rtsp://127.0.0.1:9/none".to_owned());
    let cameras = [uno.clone(), due.clone(), refused.clone(), absent.clone()];
    let plan = one_box("cabinet", &cameras).remove(0);
    let one = EdgeBox::prepare(plan, rig.path("cabinet"), Some(&rig.simcam))?;

    let output = checked(&one.config(), &["--json"])?;
    ensure!(output.status.code() == Some(1), "{}: {}", output.status, text(&output.stderr));
    let report = json(&output)?;
    for (camera, codec) in [(&uno, "h264"), (&due, "h265")] {
        shows(stream(&report, camera, "main")?, codec, (640, 360), 10.0)?;
        shows(stream(&report, camera, "sub")?, codec, (320, 180), 5.0)?;
    }
    ensure!(stream(&report, &refused, "main")?["condition"] == "authentication_refused", "{report}");
    ensure!(stream(&report, &absent, "main")?["condition"] == "unreachable", "{report}");
    ensure!(report["days_expected"].as_f64().is_some_and(|days| days > 0.0), "{report}");
    let changes = changes(&report);
    for (about, change) in [
        ("enrolment", "campanile-edge enrol"),
        ("Piazza chiusa, main", "camera[2].username"),
        ("Piazza assente, main", "camera[3].main"),
    ] {
        ensure!(changes.iter().any(|row| row.0 == about && row.1.contains(change)), "{about}, {change}: {changes:?}");
    }
    ensure!(!changes.iter().any(|row| row.0.contains("uno") || row.0.contains("due")), "{changes:?}");
    ensure!(!one.folder.join("state").exists() && !one.folder.join("media").exists(), "it made something");

    let lines = checked(&one.config(), &[])?;
    let (shown, said) = (text(&lines.stdout), text(&lines.stderr));
    ensure!(lines.status.code() == Some(1) && shown.contains("CHANGE  Piazza chiusa, main: "), "{shown}");
    for printed in [&shown, &said, &text(&output.stdout), &text(&output.stderr)] {
        ensure!(!printed.contains(WRONG) && !printed.contains(right) && !printed.contains("rtsp://"), "{printed}");
    }
    Ok(())
}

#[test]
fn all_is_well_with_an_enrolled_box_also_while_it_records_and_bad_configuration_is_64() -> Result<()> {
    let cameras = [small_camera("uno", 1, "h264")];
    let rig = Rig::serving(&cameras)?;
    let town = rig.running_town("prato", one_box("cabinet", &cameras))?;
    let one = town.boxes.first().context("the town has a box")?;
    // What the disk of whoever tests has room for.
    let written = std::fs::read_to_string(one.config())?;
    let config = one.folder.join("one-day.toml");
    std::fs::write(&config, format!("{written}\n[retention]\ndays = 1\n"))?;
    let config = config.to_string_lossy().into_owned();
    let output = checked(&config, &["--json"])?;
    let report = json(&output)?;
    ensure!(output.status.code() == Some(0) && report["well"] == true, "{}: {report}", output.status);
    ensure!(changes(&report).is_empty(), "{report}");

    std::fs::write(&config, format!("{written}\n[retention]\ndays = 8\n"))?;
    let output = checked(&config, &[])?;
    ensure!(output.status.code() == Some(64) && text(&output.stderr).contains("retention.days"), "{}", output.status);
    Ok(())
}
