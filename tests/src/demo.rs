//! The demo: two towns, one search, one playback across the border, each step named.

use crate::camera_list;
use crate::proof::audit;
use crate::roster::{Camera, Picture, TownPlan, show_instead, two_towns};
use crate::simcam::Simcam;
use crate::steps::Steps;
use crate::town::Town;
use crate::until::{until, until_each};
use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Endings of films that the simulated cameras play.
const FILMS: &[&str] = &["mp4", "m4v", "mov", "mkv", "webm", "ts"];
/// Seconds of footage carried across the border.
const PLAYED_SECONDS: i64 = 30;
/// From a box's start to its cameras' names at the hub.
const REPORTED_WITHIN: Duration = Duration::from_secs(30);
/// From a camera's first frame to a motion episode at its hub, the scenes' quiet start included.
const INDEXED_WITHIN: Duration = Duration::from_secs(120);
/// Wall-clock slack at the edges of an interval: sending, arrival and the smoothing of the time line.
const EDGE_SLACK_US: i64 = 250_000;
/// Every camera records by now.
const RECORDED_BEFORE_US: i64 = 1_000_000;
/// From a picture to its fragment at the box, whole.
pub const ARRIVES_WITHIN_US: i64 = 3_000_000;
/// Each try fetches footage and writes the register.
const PLAY_PAUSE: Duration = Duration::from_secs(1);
const CASE: &str = "DEMO/2026/1";

/// What the person asked for.
pub struct Wanted {
    pub once: bool,
    pub clips: Option<PathBuf>,
    pub cameras: Option<PathBuf>,
    /// First of the ports that people, boxes and partners use; free ones otherwise.
    pub port: Option<u16>,
    pub folder: PathBuf,
    /// Where encoded scenes are kept between runs.
    pub scenes: PathBuf,
}

/// Everything that runs, ended in the order of its fields.
pub struct Running {
    pub towns: Vec<Town>,
    pub simcam: Option<Simcam>,
    _lock: Flock<File>,
}

/// Empties the demo's folder, unless another demo lives in it.
fn only_demo(folder: &Path) -> Result<Flock<File>> {
    let name = folder.with_extension("lock");
    let parent = folder.parent().context("the demo's folder lies in another")?;
    std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let file = File::create(&name).with_context(|| format!("cannot make {}", name.display()))?;
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock);
    let lock = lock.ok().with_context(|| format!("another demo runs in {}; end it first", folder.display()))?;
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(lock)
}

/// Plans two towns with the pictures asked for.
pub fn plan(wanted: &Wanted) -> Result<Vec<TownPlan>> {
    let mut towns = two_towns();
    if let Some(folder) = &wanted.clips {
        show_instead(&mut towns, clips_in(folder)?);
    }
    if let Some(list) = &wanted.cameras {
        show_instead(&mut towns, camera_list::read(list)?);
    }
    Ok(towns)
}

/// Video files of a folder, by name.
pub fn clips_in(folder: &Path) -> Result<Vec<(String, Picture)>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("CLIPS={}: cannot be read", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    let ending = |path: &PathBuf| path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    paths.retain(|path| FILMS.contains(&ending(path).as_str()));
    paths.sort();
    ensure!(!paths.is_empty(), "CLIPS={}: holds no film ({})", folder.display(), FILMS.join(", "));
    let stem = |path: &PathBuf| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let stems: Vec<String> = paths.iter().map(stem).collect();
    let name = |path: &PathBuf| {
        let stem = stem(path);
        let alone = stems.iter().filter(|other| **other == stem).count() == 1;
        if alone { stem } else { format!("{stem}-{}", ending(path)) }
    };
    Ok(paths.iter().map(|path| (name(path), Picture::Clip(path.clone()))).collect())
}

/// Runs the steps; what runs stays running until the answer is dropped.
pub fn run(wanted: &Wanted) -> Result<Running> {
    let started = Instant::now();
    let plans = plan(wanted)?;
    let mut steps = Steps::of(9);
    let folder = &wanted.folder;
    let lock = only_demo(folder)?;

    let all: Vec<Camera> = plans.iter().flat_map(|t| &t.boxes).flat_map(|b| b.cameras.clone()).collect();
    let simulated: Vec<Camera> =
        all.iter().filter(|camera| !matches!(camera.picture, Picture::Real { .. })).cloned().collect();
    let simcam = steps.step("cameras: RTSP servers with digest authentication", || {
        if simulated.is_empty() {
            return Ok((None, "all of them real".to_owned()));
        }
        let simcam = Simcam::start(&make(folder, "cameras")?, &wanted.scenes, &simulated)?;
        let note = format!("{} cameras, main and sub-stream each", simcam.served.len());
        Ok((Some(simcam), note))
    })?;
    let mut towns = steps.step("hubs: Comune di Prato and Comune di Firenze", || {
        let towns = (0u16..).zip(plans).map(|(number, plan)| {
            let mut town = Town::prepare(plan.clone(), make(folder, plan.key)?)?;
            if let Some(first) = wanted.port {
                // Two towns, two ports each: people, then boxes and partners.
                town.listen_at(first.checked_add(2 * number).context("PORT leaves no room for four ports")?)?;
            }
            town.start_hub()?;
            Ok(town)
        });
        let towns: Vec<Town> = towns.collect::<Result<_>>()?;
        let addresses: Vec<String> = towns.iter().map(|t| Ok(t.addresses()?.web)).collect::<Result<_>>()?;
        Ok((towns, addresses.join(", ")))
    })?;
    steps.step("boxes: enrolled with one-time tokens, recording", || {
        for town in &mut towns {
            town.start_boxes(simcam.as_ref())?;
        }
        let boxes: usize = towns.iter().map(|town| town.boxes.len()).sum();
        // The agreement names cameras: each town must know its own.
        let cameras = towns.iter().map(wait_for_cameras).sum::<Result<usize>>()?;
        Ok(((), format!("{boxes} boxes, {cameras} cameras")))
    })?;
    let [prato, firenze] = towns.as_slice() else { bail!("the demo has two towns") };
    steps.step("agreement: drawn up in Prato, signed by both", || sign_agreement(prato, firenze))?;
    steps.step("motion: indexed at both hubs", || wait_for_motion(&[prato, firenze]))?;
    steps.step("search: asked in Prato, answered by both towns", || {
        let answers = prato.json(&search(&["--from", "-10m"]))?;
        for town in [prato, firenze] {
            let of = |kind: &str| answers.iter().find(|a| a["kind"] == kind && a["organisation"] == *town.plan.name);
            ensure!(of("done").is_some() && of("hits").is_some(), "{} did not answer: {answers:?}", town.plan.name);
        }
        let first = started.elapsed();
        println!("\n{}", prato.command(&search(&["--from", "-10m"]))?);
        Ok(((), format!("first federated result {:.1} s after the start", first.as_secs_f64())))
    })?;

    let camera = &firenze.plan.boxes[0].cameras[0];
    let (file, from, to) = steps
        .step("playback: thirty seconds of Firenze, seen from Prato", || play_across(prato, firenze, camera, folder))?;
    steps.step("proof: the file holds exactly what that camera sent", || {
        let simcam = match (&camera.picture, &simcam) {
            (Picture::Scene { .. } | Picture::Clip(_), Some(simcam)) => simcam,
            _ => return Ok(((), "a real camera keeps no log of what it sent".to_owned())),
        };
        let others: Vec<&Camera> = simulated.iter().filter(|other| other.key != camera.key).collect();
        prove(simcam, camera, others.first().copied(), &file, from, to)
    })?;
    steps.step("registers: both towns can prove it", || {
        for town in [prato, firenze] {
            town.command(&["register", "verify"])?;
        }
        Ok(((), "every leaf in its tree".to_owned()))
    })?;
    Ok(Running { towns, simcam, _lock: lock })
}

fn make(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}

/// A search with purpose and case number.
pub fn search<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["search", "--purpose", "urban-security", "--case", CASE], more].concat()
}

/// Waits until every camera of a town is reported; gives their number.
fn wait_for_cameras(town: &Town) -> Result<usize> {
    let planned: usize = town.plan.boxes.iter().map(|one| one.cameras.len()).sum();
    until(&format!("{planned} cameras reported in {}", town.plan.name), REPORTED_WITHIN, || {
        match town.json(&["cameras"]) {
            Ok(rows) if rows.iter().flat_map(flatten).count() >= planned => Ok(planned),
            other => Err(format!("{other:?}")),
        }
    })
}

/// Prato pins Firenze, Firenze pins Prato, Prato proposes and signs, Firenze reads and signs.
pub fn sign_agreement(prato: &Town, firenze: &Town) -> Result<((), String)> {
    introduce(prato, firenze)?;
    introduce(firenze, prato)?;
    let partner = firenze.addresses()?.organisation_id;
    let rights = "search,thumbnail,playback";
    let proposed = prato.json(&[
        "agreements",
        "propose",
        "--partner",
        &partner,
        "--title",
        "Protocollo d'intesa Prato-Firenze",
        "--rights",
        rights,
        "--purposes",
        "urban-security,judicial-police",
        "--days",
        "365",
    ])?;
    let id = proposed.first().and_then(|value| value["id"].as_str()).context("the proposal has no id")?.to_owned();
    until("the proposal lies in Firenze", Duration::from_secs(10), || firenze.command(&["agreements", "show", &id]))?;
    firenze.command(&["agreements", "sign", &id])?;
    for town in [prato, firenze] {
        until("the agreement is live", Duration::from_secs(10), || match town.json(&["agreements", "list"]) {
            Ok(rows) if rows.iter().flat_map(flatten).any(|row| row["id"] == *id && row["state"] == "live") => Ok(()),
            other => Err(format!("{other:?}")),
        })?;
    }
    Ok(((), rights.replace(',', ", ")))
}

/// A partner is pinned by the fingerprint that people compared.
pub fn introduce(here: &Town, there: &Town) -> Result<()> {
    let there = there.addresses()?;
    here.command(&["partners", "add", &there.rpc, "--fingerprint", &there.organisation_fingerprint]).map(|_| ())
}

/// A list answer is one array or one value a line.
pub fn flatten(value: &Value) -> Vec<&Value> {
    value.as_array().map_or_else(|| vec![value], |rows| rows.iter().collect())
}

/// Every hit in the answers of a search.
pub fn hits(answers: &[Value]) -> Vec<&Value> {
    answers.iter().filter_map(|answer| answer["hits"].as_array()).flatten().collect()
}

fn wait_for_motion(towns: &[&Town]) -> Result<((), String)> {
    let mut counts = Vec::new();
    for town in towns {
        let what = format!("motion indexed in {}", town.plan.name);
        let count = until(&what, INDEXED_WITHIN, || match town.json(&search(&["--from", "-10m", "--own"])) {
            Ok(answers) if !hits(&answers).is_empty() => Ok(hits(&answers).len()),
            other => Err(format!("{other:?}")),
        })?;
        counts.push(count.to_string());
    }
    Ok(((), format!("{} events so far", counts.join(" + "))))
}

/// Plays the newest complete thirty seconds of `camera` of `owner` at `asker` into a file.
fn play_across(asker: &Town, owner: &Town, camera: &Camera, folder: &Path) -> Result<((PathBuf, i64, i64), String)> {
    let cameras = asker.json(&["cameras"])?;
    let row = cameras.iter().flat_map(flatten).find(|row| row["name"] == *camera.name);
    let id = row.and_then(|row| row["id"].as_str()).with_context(|| format!("{} is not listed", camera.name))?;
    let file = folder.join("firenze.mp4");
    let started = micros_now()?;
    let (from, to) = (started - RECORDED_BEFORE_US, started - RECORDED_BEFORE_US + PLAYED_SECONDS * 1_000_000);
    until_past(to + ARRIVES_WITHIN_US)?;
    until_each(PLAY_PAUSE, "played whole", Duration::from_secs(60), || {
        asker.play(owner, id, from, to, CASE, &file).map_err(|error| format!("{error:#}"))
    })?;
    let size = std::fs::metadata(&file).context("nothing was written")?.len();
    let waited = (micros_now()? - started) as f64 / 1e6;
    Ok(((file, from, to), format!("{:.1} MB ({waited:.1} s with the wait for the footage)", size as f64 / 1e6)))
}

/// The same check with another camera's log must fail.
fn prove(
    simcam: &Simcam,
    camera: &Camera,
    other: Option<&Camera>,
    file: &Path,
    from: i64,
    to: i64,
) -> Result<((), String)> {
    let (from, to) = (from + EDGE_SLACK_US, to - EDGE_SLACK_US);
    let own = audit(&simcam.log(&camera.key, "main"), file, from, to)?;
    ensure!(own.is_exact(), "expected {} access units, found {}: {own:?}", own.expected, own.found);
    let other = other.context("one camera alone is no control")?;
    let control = audit(&simcam.log(&other.key, "main"), file, from, to)?;
    ensure!(!control.is_exact() && !control.foreign.is_empty(), "the check cannot fail: {control:?}");
    Ok((
        (),
        format!(
            "{} of {} access units, 0 missing, 0 foreign; against the log of {}: {} foreign",
            own.found,
            own.expected,
            other.name,
            control.foreign.len()
        ),
    ))
}

/// Waits until an instant (UTC, microseconds) has passed.
pub fn until_past(instant_us: i64) -> Result<()> {
    let left_us = instant_us - micros_now()?;
    let limit = Duration::from_micros(u64::try_from(left_us).unwrap_or(0)) + Duration::from_secs(5);
    until("what is to be played is recorded", limit, || match micros_now() {
        Ok(now) if now > instant_us => Ok(()),
        Ok(now) => Err(format!("{} s to go", (instant_us - now) / 1_000_000)),
        Err(error) => Err(format!("{error:#}")),
    })
}

/// UTC now in microseconds.
pub fn micros_now() -> Result<i64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    i64::try_from(now.as_micros()).context("the clock is past the year 290000")
}

/// RFC 3339 with microseconds.
pub fn rfc3339(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros).map(|t| t.to_string()).unwrap_or_default()
}
