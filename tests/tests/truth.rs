//! What the hub says moved, against what really moved.

use anyhow::{Context, Result, ensure};
use campanile_sim::scene::truth::Truth;
use campanile_tests::demo::micros_now;
use campanile_tests::rig::{Rig, micros, one_box, small_camera, wait_for_events, wait_for_more_events};
use serde_json::Value;
use std::path::Path;

/// A passage shorter than this may go unseen.
const SHORTEST_US: i64 = 1_500_000;
/// From what is seen to what is told: events need three pictures, arrival and sending differ.
const SLACK_US: i64 = 2_000_000;
const AFTERGLOW_US: i64 = 4_000_000;

/// Intervals [from, to] of wall time in which something of the scene moved, by the log of what was sent.
fn passages(truth: &Truth, log: &Path, after_us: i64, before_us: i64) -> Result<Vec<(i64, i64)>> {
    let text = std::fs::read_to_string(log)?;
    let mut passages: Vec<(i64, i64)> = Vec::new();
    let mut moved = false;
    for line in text.lines() {
        let line: Value = serde_json::from_str(line)?;
        let (at, frame) = (line["wall_us"].as_i64().context("wall_us")?, line["frame"].as_u64().context("frame")?);
        if !(after_us..before_us).contains(&at) {
            continue;
        }
        let moves = truth.frames.get(frame as usize).is_some_and(|frame| !frame.cells.is_empty());
        match passages.last_mut() {
            Some(last) if moves && moved => last.1 = at,
            _ if moves => passages.push((at, at)),
            _ => {}
        }
        moved = moves;
    }
    Ok(passages)
}

#[test]
fn every_passage_is_an_event_and_a_quiet_piazza_is_none() -> Result<()> {
    let camera = small_camera("uno", 1, "h264");
    let rig = Rig::serving(std::slice::from_ref(&camera))?;
    let town = rig.running_town("prato", one_box("cabinet", std::slice::from_ref(&camera)))?;
    let (served, _) = rig.simcam.camera("uno")?;
    let truth: Truth = serde_json::from_slice(&std::fs::read(served.truth.as_ref().context("a scene has a truth")?)?)?;
    // The detector's first seconds are its own; then two whole loops of the scene.
    wait_for_events(&town, 1)?;
    let began = micros_now()?;
    let loop_us = truth.frames.len() as i64 * 1_000_000 / i64::from(truth.fps);
    let enough = began + 2 * loop_us + AFTERGLOW_US;
    let events = wait_for_more_events(&town, "two loops of the scene", |_| micros_now().is_ok_and(|now| now > enough))?;
    let spans: Vec<(i64, i64)> =
        events.values().map(|hit| Ok((micros(&hit["start"])?, micros(&hit["end"])?))).collect::<Result<_>>()?;
    let log = rig.simcam.log("uno", "main");
    let seen = passages(&truth, &log, began, enough - AFTERGLOW_US)?;
    let long: Vec<_> = seen.iter().filter(|(from, to)| to - from >= SHORTEST_US).collect();
    ensure!(long.len() >= 2, "the scene holds too little: {seen:?}");
    for (from, to) in &long {
        ensure!(spans.iter().any(|(start, end)| start <= to && end >= from), "{from} to {to} is no event: {spans:?}");
    }
    let all = passages(&truth, &log, 0, i64::MAX)?;
    for (start, end) in &spans {
        let near = |passage: &&(i64, i64)| passage.0 - SLACK_US <= *start && *end <= passage.1 + AFTERGLOW_US;
        ensure!(all.iter().any(|passage| near(&passage)), "{start} to {end}: nothing moved then: {all:?}");
    }
    Ok(())
}
