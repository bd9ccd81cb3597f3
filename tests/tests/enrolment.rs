//! How a box becomes the town's, and stops being it.

use anyhow::{Result, ensure};
use campanile_tests::edge_box::{EdgeBox, text};
use campanile_tests::process::run_to_end;
use campanile_tests::rig::{Rig, one_box, small_camera, wait_for_edge};
use std::time::{Duration, Instant};

#[test]
fn a_token_serves_once_in_time_and_only_here() -> Result<()> {
    let camera = small_camera("uno", 1, "h264");
    let rig = Rig::serving(std::slice::from_ref(&camera))?;
    let town = rig.town("prato", Vec::new())?;
    let edge = |name: &str| {
        let plan = one_box(name, std::slice::from_ref(&camera)).remove(0);
        EdgeBox::prepare(plan, rig.path(name), Some(&rig.simcam))
    };
    let refused = |edge: &EdgeBox, token: &str, word: &str| -> Result<()> {
        let error = format!("{:#}", edge.enrol(token).err().map(|e| e.to_string()).unwrap_or_default());
        ensure!(error.contains(word), "expected \"{word}\" in: {error}");
        Ok(())
    };

    let good = town.token("one")?;
    edge("one")?.enrol(&good)?;
    refused(&edge("two")?, &good, "used")?;
    refused(&edge("three")?, "cmp1_bm90IGEgdG9rZW4", "token")?;
    let short = town.command(&["edges", "token", "--name", "four", "--valid", "1s"])?;
    std::thread::sleep(Duration::from_millis(1_500));
    refused(&edge("four")?, &short, "expired")?;

    let firenze = rig.town("firenze", Vec::new())?;
    let mut elsewhere = decode(&firenze.token("five")?)?;
    elsewhere["hub"] = decode(&town.token("five")?)?["hub"].clone();
    refused(&edge("five")?, &encode(&elsewhere), "certificate")?;
    Ok(())
}

fn decode(token: &str) -> Result<serde_json::Value> {
    let body = token.trim_start_matches("cmp1_");
    Ok(serde_json::from_slice(&base64_url(body)?)?)
}

fn base64_url(text: &str) -> Result<Vec<u8>> {
    use base64::Engine;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text)?)
}

fn encode(value: &serde_json::Value) -> String {
    use base64::Engine;
    format!("cmp1_{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string()))
}

#[test]
fn revocation_ends_a_live_session_within_five_seconds() -> Result<()> {
    let camera = small_camera("uno", 1, "h264");
    let rig = Rig::serving(std::slice::from_ref(&camera))?;
    let town = rig.running_town("prato", one_box("cabinet", &[camera]))?;
    let row = wait_for_edge(&town, "cabinet", "connected", |row| row["connected"] == true)?;
    let id = row["id"].as_str().unwrap_or_default().to_owned();
    let began = Instant::now();
    town.command(&["edges", "revoke", &id])?;
    wait_for_edge(&town, "cabinet", "gone", |row| row["connected"] == false && row["standing"] == "revoked")?;
    ensure!(began.elapsed() < Duration::from_secs(5), "took {:?}", began.elapsed());
    Ok(())
}

#[test]
fn bad_configuration_names_every_problem_and_exits_64() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let edge = folder.path().join("edge.toml");
    let text_of = "config_version = 1\nname = ''\nstate_dir = ''\nmedia_dir = '/tmp/x'\n[retention]\ndays = 9\n\
                   [[camera]]\nname = 'a'\nsite = ''\naddress = ''\nmain = 'rtsp://u:geheim@h/x'\nusername = 'u'\n";
    std::fs::write(&edge, text_of)?;
    let output = run_to_end("campanile-edge", &["check-config", "--config", &edge.to_string_lossy()])?;
    let said = text(&output.stderr);
    ensure!(output.status.code() == Some(64), "{}: {said}", output.status);
    for key in ["name", "state_dir", "retention.days", "main"] {
        ensure!(said.contains(key), "{key} is not named in: {said}");
    }
    ensure!(!said.contains("geheim"), "a password is repeated: {said}");

    let hub = folder.path().join("hub.toml");
    std::fs::write(&hub, "config_version = 1\ndata_dir = ''\nretention_days = 9\n[organisation]\nname = ''\n")?;
    let output = run_to_end("campanile-hub", &["run", "--config", &hub.to_string_lossy()])?;
    let said = text(&output.stderr);
    ensure!(output.status.code() == Some(64), "{}: {said}", output.status);
    for key in ["data_dir", "retention_days", "organisation.name"] {
        ensure!(said.contains(key), "{key} is not named in: {said}");
    }
    Ok(())
}
