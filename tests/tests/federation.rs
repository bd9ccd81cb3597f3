//! Two towns, with and without an agreement.

use anyhow::{Result, ensure};
use campanile_tests::demo::{hits, introduce, search, sign_agreement};
use campanile_tests::proof::audit;
use campanile_tests::rig::{Rig, camera_id, one_box, play, play_newest, small_camera, wait_for_events};
use serde_json::Value;

fn of_partner<'a>(answers: &'a [Value], kind: &str) -> Vec<&'a Value> {
    answers.iter().filter(|answer| answer["kind"] == kind && answer["organisation"] == "Comune di Firenze").collect()
}

#[test]
fn a_partner_sees_exactly_as_far_as_the_agreement() -> Result<()> {
    let cameras = [small_camera("uno", 1, "h264"), small_camera("due", 2, "h264")];
    let rig = Rig::serving(&cameras)?;
    let prato = rig.running_town("prato", one_box("prato-1", &cameras[..1]))?;
    let mut firenze = rig.running_town("firenze", one_box("firenze-1", &cameras[1..]))?;
    wait_for_events(&firenze, 1)?;
    let camera = camera_id(&firenze, &cameras[1].name)?;
    let (file, now) = (rig.path("due.mp4"), campanile_tests::demo::micros_now()?);

    // Without an agreement: nobody is asked, nothing is played.
    introduce(&prato, &firenze)?;
    let answers = prato.json(&search(&["--from", "-10m"]))?;
    ensure!(of_partner(&answers, "hits").is_empty(), "{answers:?}");
    let refused = play(&prato, &firenze, &camera, now - 8_000_000, now - 4_000_000, &file);
    ensure!(refused.is_err() && !file.exists(), "played without an agreement");

    // With one: search, playback, proof.
    sign_agreement(&prato, &firenze)?;
    let answers = prato.json(&search(&["--from", "-10m"]))?;
    ensure!(!hits(&answers).is_empty() && !of_partner(&answers, "hits").is_empty(), "{answers:?}");
    ensure!(of_partner(&answers, "done").len() == 1, "{answers:?}");
    let (from, to) = play_newest(&prato, &firenze, &camera, 8, &file)?;
    let own = audit(&rig.simcam.log("due", "main"), &file, from + 300_000, to - 300_000)?;
    ensure!(own.is_exact(), "{own:?}");

    // Outside it: another purpose is refused, and the clause named.
    let other_purpose = ["search", "--purpose", "road-safety", "--case", "TEST/2026/2", "--from", "-10m"];
    let answers = prato.json(&other_purpose)?;
    let failed = of_partner(&answers, "failed");
    ensure!(failed.len() == 1 && failed[0]["code"] == "NOT_GRANTED", "{answers:?}");

    // A dead partner is named, and our own answer comes all the same.
    firenze.hub.take().expect("it runs").kill()?;
    let answers = prato.json(&search(&["--from", "-10m"]))?;
    ensure!(of_partner(&answers, "failed").len() == 1 && !hits(&answers).is_empty(), "{answers:?}");
    firenze.start_hub()?;

    // Revoked by Firenze: nothing more leaves, at once.
    let rows = firenze.json(&["agreements", "list"])?;
    let id = rows.iter().flat_map(campanile_tests::demo::flatten).find_map(|row| row["id"].as_str());
    firenze.command(&["agreements", "revoke", id.unwrap_or_default(), "--reason", "prova"])?;
    let refused = play(&prato, &firenze, &camera, from, to, &rig.path("after.mp4"));
    ensure!(refused.is_err() && !rig.path("after.mp4").exists(), "played after revocation");

    // Both registers hold together, and both know of the accesses.
    for town in [&prato, &firenze] {
        town.command(&["register", "verify"])?;
        let leaves = town.command(&["register", "list"])?;
        ensure!(leaves.contains("TEST/2026") || leaves.contains("playback"), "{leaves}");
    }
    Ok(())
}

#[test]
fn nothing_is_shown_without_purpose_and_case() -> Result<()> {
    let camera = small_camera("uno", 1, "h264");
    let rig = Rig::serving(std::slice::from_ref(&camera))?;
    let town = rig.town("prato", Vec::new())?;
    for arguments in [
        &["search", "--from", "-10m"][..],
        &["search", "--from", "-10m", "--purpose", "urban-security"],
        &["search", "--from", "-10m", "--case", "X/1"],
    ] {
        let error = town.command(arguments).err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(error.contains("purpose") || error.contains("case"), "{arguments:?}: {error}");
    }
    ensure!(town.command(&search(&["--from", "-10m"])).is_ok(), "the control is refused too");
    Ok(())
}
