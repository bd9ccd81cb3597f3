//! Two towns, with and without an agreement.

use anyhow::{Context, Result, ensure};
use campanile_tests::demo::{flatten, hits, introduce, micros_now, search, sign_agreement};
use campanile_tests::proof::audit;
use campanile_tests::rig::{Rig, camera_id, one_box, play, play_newest, small_camera, wait_for_events};
use serde_json::Value;

const FIRENZE: &str = "Comune di Firenze";

fn of_partner<'a>(answers: &'a [Value], kind: &str) -> Vec<&'a Value> {
    answers.iter().filter(|answer| answer["kind"] == kind && answer["organisation"] == FIRENZE).collect()
}

/// The one reason why Firenze did not answer.
fn failure(answers: &[Value]) -> Result<&Value> {
    let failed = of_partner(answers, "failed");
    ensure!(failed.len() == 1 && of_partner(answers, "hits").is_empty(), "{answers:?}");
    Ok(failed[0])
}

/// Nothing was played, for one of these reasons.
fn refused(played: Result<String>, codes: &[&str]) -> Result<()> {
    let error = format!("{:#}", played.err().context("it was played")?);
    ensure!(codes.iter().any(|code| error.contains(code)), "none of {codes:?} in: {error}");
    Ok(())
}

#[test]
fn a_partner_sees_exactly_as_far_as_the_agreement() -> Result<()> {
    let cameras = [small_camera("uno", 1, "h264"), small_camera("due", 2, "h264")];
    let rig = Rig::serving(&cameras)?;
    let prato = rig.running_town("prato", one_box("prato-1", &cameras[..1]))?;
    let mut firenze = rig.running_town("firenze", one_box("firenze-1", &cameras[1..]))?;
    wait_for_events(&prato, 1)?;
    wait_for_events(&firenze, 1)?;
    let camera = camera_id(&firenze, &cameras[1].name)?;
    let (file, now) = (rig.path("due.mp4"), micros_now()?);

    // Without an agreement: nobody is asked, nothing is played.
    introduce(&prato, &firenze)?;
    let answers = prato.json(&search(&["--from", "-10m"]))?;
    ensure!(failure(&answers)?["code"] == "NO_AGREEMENT", "{answers:?}");
    refused(play(&prato, &firenze, &camera, now - 8_000_000, now - 4_000_000, &file), &["NO_AGREEMENT"])?;
    ensure!(!file.exists(), "played without an agreement");

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
    let named = failure(&answers)?;
    ensure!(named["code"] == "NOT_GRANTED" && named["clause"].as_str().is_some_and(|it| !it.is_empty()), "{named}");

    // A dead partner is named, and our own answer comes all the same.
    firenze.hub.take().context("it runs")?.kill()?;
    let answers = prato.json(&search(&["--from", "-10m"]))?;
    ensure!(failure(&answers)?["code"] == "UNREACHABLE" && !hits(&answers).is_empty(), "{answers:?}");
    firenze.start_hub()?;

    // Revoked by Firenze: nothing more leaves, at once.
    let rows = firenze.json(&["agreements", "list"])?;
    let id = rows.iter().flat_map(flatten).find_map(|row| row["id"].as_str()).context("an agreement is listed")?;
    firenze.command(&["agreements", "revoke", id, "--reason", "prova"])?;
    let after = rig.path("after.mp4");
    refused(play(&prato, &firenze, &camera, from, to, &after), &["NO_AGREEMENT", "REVOKED"])?;
    ensure!(!after.exists(), "played after revocation");

    // Both registers hold together, and both know of the accesses.
    for town in [&prato, &firenze] {
        town.command(&["register", "verify"])?;
        let leaves = town.command(&["register", "list"])?;
        let refuses = town.plan.name == FIRENZE;
        for word in ["search", "playback", "opened", "closed"].into_iter().chain(refuses.then_some("refused")) {
            ensure!(leaves.contains(word), "no {word} in the register of {}:\n{leaves}", town.plan.name);
        }
    }
    Ok(())
}

#[test]
fn nothing_is_shown_without_purpose_and_case() -> Result<()> {
    let camera = small_camera("uno", 1, "h264");
    let rig = Rig::serving(std::slice::from_ref(&camera))?;
    let town = rig.town("prato", Vec::new())?;
    let asked = |purpose: &str, case: &str| {
        town.command(&["search", "--from", "-10m", "--purpose", purpose, "--case", case])
            .err()
            .map(|error| format!("{error:#}"))
            .unwrap_or_default()
    };
    // The hub itself refuses: the command line lets an empty value through.
    for (purpose, case, code) in [("", "X/1", "NO_PURPOSE"), ("urban-security", "", "NO_CASE")] {
        let error = asked(purpose, case);
        ensure!(error.contains(code), "{code} is not in: {error}");
    }
    ensure!(asked("urban-security", "X/1").is_empty(), "the control is refused too");
    Ok(())
}
