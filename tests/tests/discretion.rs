//! What must not be found: listeners beyond loopback, secrets where people look, footage in plain.
//! Each scan finds its canary in the same run.

use anyhow::{Context, Result, ensure};
use campanile_tests::edge_box::EdgeBox;
use campanile_tests::rig::{Rig, SOON, camera_id, one_box, play_newest, small_camera, wait_for_events};
use campanile_tests::scan::{files_holding, is_loopback, listening};
use campanile_tests::town::Town;
use campanile_tests::until::until;
use std::path::Path;

fn one_town() -> Result<(Rig, Town)> {
    let camera = small_camera("uno", 1, "h264");
    let rig = Rig::serving(std::slice::from_ref(&camera))?;
    let town = rig.running_town("prato", one_box("cabinet", &[camera]))?;
    wait_for_events(&town, 1)?;
    Ok((rig, town))
}

#[test]
fn nothing_listens_beyond_loopback_unless_configured() -> Result<()> {
    let (_rig, town) = one_town()?;
    let hub = town.hub.as_ref().context("it runs")?.pid();
    let edge = town.boxes[0].process.as_ref().context("it runs")?.pid();
    let found = listening(hub)?;
    let addresses = town.addresses()?;
    // The control: the scan finds what the hub says it listens on.
    for address in [addresses.rpc.as_str(), addresses.web.trim_start_matches("https://")] {
        ensure!(found.iter().any(|listener| listener == address), "{address} is not among {found:?}");
    }
    ensure!(!is_loopback("0.0.0.0:1") && !is_loopback("[::]:1") && is_loopback("[::1]:1"), "the check cannot fail");
    for listener in found.into_iter().chain(listening(edge)?) {
        ensure!(is_loopback(&listener), "{listener} is reachable from elsewhere");
    }
    ensure!(listening(edge)?.is_empty(), "a box is dialled by nobody: {:?}", listening(edge)?);
    Ok(())
}

#[test]
fn no_secret_stands_in_a_log_or_on_a_command_line() -> Result<()> {
    let (rig, town) = one_town()?;
    let (_, camera_password) = rig.simcam.camera("uno")?;
    let operator_password = town.password()?;
    let token = town.token("another")?;
    let secrets = [camera_password.as_bytes(), operator_password.as_bytes(), token.trim().as_bytes()];
    let logs = [town.folder.join("hub.log"), town.boxes[0].folder.join("edge.log")];
    for log in &logs {
        ensure!(std::fs::metadata(log)?.len() > 100, "{} says nothing", log.display());
    }
    let command_lines = || -> Result<Vec<Vec<u8>>> {
        let pids = [town.hub.as_ref(), town.boxes[0].process.as_ref()].into_iter().flatten();
        pids.map(|process| Ok(std::fs::read(format!("/proc/{}/cmdline", process.pid()))?)).collect()
    };
    let found = |secret: &[u8]| -> Result<usize> {
        let holds = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
        let mut count = 0;
        for log in &logs {
            count += usize::from(holds(&std::fs::read(log)?));
        }
        Ok(count + command_lines()?.iter().filter(|line| holds(line)).count())
    };
    // The control: what does stand there is found, in a log and on the command lines.
    ensure!(found(b"session")? > 0 && found(b"--config")? == 2, "the scan finds nothing");
    for secret in secrets {
        ensure!(secret.len() >= 12 && found(secret)? == 0, "a secret is written where people look");
    }
    Ok(())
}

#[test]
fn no_footage_rests_in_plain_on_a_box_or_a_hub() -> Result<()> {
    let (rig, mut town) = one_town()?;
    let camera = town.plan.boxes[0].cameras[0].clone();
    let file = rig.path("played.mp4");
    let id = camera_id(&town, &camera.name)?;
    play_newest(&town, &town, &id, 6, &file)?;
    // A piece of coded picture from the middle of what was played, and the marks of an MP4 fragment.
    let played = std::fs::read(&file)?;
    let canary = played.get(played.len() / 2..played.len() / 2 + 48).context("too little was played")?.to_vec();
    let box_folder = town.boxes[0].folder.clone();
    town.end()?;
    for mark in [canary.as_slice(), b"mdat", b"moof"] {
        ensure!(files_holding(rig.folder.path(), mark)?.contains(&file), "the scan does not find what was played");
        for folder in [box_folder.clone(), town.data()] {
            let found = files_holding(&folder, mark)?;
            ensure!(found.is_empty(), "footage in plain: {found:?}");
        }
    }
    // The same box, told to record in clear, and the same scan.
    let clear = EdgeBox::prepare(town.plan.boxes[0].clone(), rig.path("clear"), Some(&rig.simcam))?;
    let config = std::fs::read_to_string(clear.config())?;
    let config = config.replacen("config_version = 1\n", "config_version = 1\nrecord_in_clear = true\n", 1);
    std::fs::write(clear.config(), config)?;
    records_in_clear(clear, &rig.path("clear/media"))
}

fn records_in_clear(mut edge: EdgeBox, media: &Path) -> Result<()> {
    edge.start()?;
    until("a fragment in clear", SOON, || match files_holding(media, b"moof") {
        Ok(found) if !found.is_empty() => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    edge.end()
}
