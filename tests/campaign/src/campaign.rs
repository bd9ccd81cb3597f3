//! A whole campaign, or what is left of it.

use crate::disk::{self, Fault, Trial, mount};
use crate::kill::{self, Size, plan};
use crate::notes::Notes;
use crate::power;
use crate::report::{Machine, Report};
use crate::seed;
use crate::subject::Subject;
use anyhow::{Context, Result};
use campanile_tests::rig::small_camera;
use campanile_tests::simcam::Simcam;
use rand::RngExt;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// A tmpfs that two cameras fill in some minutes.
const TMPFS_BYTES: u64 = 48 << 20;
/// Lives of a box whose trace becomes images: a minute.
pub const LIVES: usize = 6;

/// How much of what.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub seed: u64,
    pub kills: u64,
    pub images: u64,
    /// Rounds of every fault of a disk.
    pub disks: u64,
    /// This one alone, whether it was done or not.
    pub number: Option<u64>,
    pub cameras: usize,
    pub scenes: PathBuf,
    pub folder: PathBuf,
    /// Mounts a tmpfs; as root only.
    pub real_disks: bool,
    /// Of the box whose trace becomes images.
    pub lives: usize,
}

/// Carries out what is not done yet, and reports on all of it.
pub fn run(wanted: &Wanted) -> Result<Report> {
    let absolute = |folder: &Path| -> Result<PathBuf> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        std::fs::canonicalize(folder).context("a folder has a path")
    };
    let (folder, scenes) = (absolute(&wanted.folder)?, absolute(&wanted.scenes)?);
    let wanted = &Wanted { folder, scenes, ..wanted.clone() };
    let notes = Notes::open(&wanted.folder, wanted.seed)?;
    let mut report = Report {
        command: String::new(),
        commit: commit(),
        date: jiff::Timestamp::now().to_string(),
        seed: wanted.seed,
        machine: Machine::this(),
        kills: None,
        power_cuts: None,
        disks: None,
        problems: Vec::new(),
        targets_missed: BTreeMap::new(),
    };
    if wanted.images > 0 {
        report.power(&power_cuts(wanted, &notes)?);
    }
    if wanted.disks > 0 {
        report.disks(&disks(wanted, &notes)?);
    }
    if wanted.kills > 0 {
        let (outcomes, problems) = kills(wanted, &notes)?;
        report.kills(&outcomes);
        report.problems.extend(problems.into_iter().map(|problem| format!("after the last kill: {problem}")));
    }
    Ok(report)
}

fn commit() -> String {
    let asked = Command::new("git").args(["rev-parse", "HEAD"]).output();
    asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// A fresh folder: what a box of an interrupted campaign left behind is none of the next one's.
fn folder(wanted: &Wanted, name: &str) -> Result<PathBuf> {
    power::judge::fresh(&wanted.folder.join(name))
}

fn kills(wanted: &Wanted, notes: &Notes) -> Result<(Vec<kill::round::Outcome>, Vec<String>)> {
    let points = plan::points(wanted.seed, wanted.kills);
    let known: Vec<kill::round::Outcome> = notes.read(kill::KIND)?;
    let done: BTreeSet<u64> = known.iter().map(|outcome| outcome.number).collect();
    let is_done = |number: u64| match wanted.number {
        Some(only) => number != only,
        None => done.contains(&number),
    };
    let mut problems = Vec::new();
    if (0..wanted.kills).any(|number| !is_done(number)) {
        let folder = folder(wanted, "kill")?;
        let mut arena = kill::arena(&folder, &wanted.scenes, Size { cameras: wanted.cameras }, wanted.seed)?;
        let (began, count) = (Instant::now(), AtomicUsize::new(done.len()));
        let tell = |outcome: &kill::round::Outcome| {
            notes.add(kill::KIND, outcome)?;
            let count = count.fetch_add(1, Ordering::Relaxed) + 1;
            println!(
                "{count}/{} kill {} {:?}{}: {:.2} s lost, again after {:.2} s; {} s so far",
                wanted.kills,
                outcome.number,
                outcome.point,
                if outcome.hit { "" } else { " (not reached)" },
                outcome.lost_us as f64 / 1e6,
                outcome.again_us as f64 / 1e6,
                began.elapsed().as_secs()
            );
            outcome.problems.iter().for_each(|problem| println!("    {problem}"));
            Ok(())
        };
        problems = kill::run(&mut arena, &points, &is_done, &tell)?;
    }
    let outcomes: Vec<kill::round::Outcome> = notes.read(kill::KIND)?;
    Ok((outcomes.into_iter().filter(|o| wanted.number.is_none_or(|n| n == o.number)).collect(), problems))
}

fn power_cuts(wanted: &Wanted, notes: &Notes) -> Result<Vec<power::Outcome>> {
    let known: Vec<power::Outcome> = notes.read(power::KIND)?;
    let done: BTreeSet<u64> = known.iter().map(|outcome| outcome.number).collect();
    let left: Vec<u64> = match wanted.number {
        Some(only) => vec![only],
        None => (0..wanted.images).filter(|number| !done.contains(number)).collect(),
    };
    if !left.is_empty() {
        let traced = traced(wanted)?;
        let images = folder(wanted, "images")?;
        let mut count = done.len();
        power::run(&traced, wanted.seed, left.into_iter(), &images, |outcome| {
            notes.add(power::KIND, outcome)?;
            count += 1;
            if count.is_multiple_of(100) {
                println!("{count}/{} images", wanted.images);
            }
            outcome.verdict.problems.iter().for_each(|problem| println!("    image {}: {problem}", outcome.number));
            Ok(())
        })?;
    }
    let outcomes: Vec<power::Outcome> = notes.read(power::KIND)?;
    Ok(outcomes.into_iter().filter(|o| wanted.number.is_none_or(|n| n == o.number)).collect())
}

/// The trace of this campaign, made once: an image is a function of it.
fn traced(wanted: &Wanted) -> Result<power::record::Traced> {
    let known = wanted.folder.join(format!("traced-{}.json", wanted.seed));
    if let Ok(text) = std::fs::read(&known) {
        return serde_json::from_slice(&text).context("the known trace is not as agreed");
    }
    println!("tracing a box for about a minute");
    let folder = folder(wanted, &format!("traced-{}", wanted.seed))?;
    let traced = power::record::record(&folder, &wanted.scenes, wanted.lives)?;
    std::fs::write(&known, serde_json::to_vec(&traced)?).context("cannot note the trace")?;
    Ok(traced)
}

fn disks(wanted: &Wanted, notes: &Notes) -> Result<Vec<disk::Outcome>> {
    let is_real = wanted.real_disks && mount::is_allowed();
    if wanted.real_disks && !is_real {
        println!("not root: no tmpfs is filled or made read-only, failures are injected alone");
    }
    let faults: Vec<Fault> = Fault::INJECTED.into_iter().chain(Fault::REAL.into_iter().filter(|_| is_real)).collect();
    let known: Vec<disk::Outcome> = notes.read(disk::KIND)?;
    let done: BTreeSet<u64> = known.iter().map(|outcome| outcome.number).collect();
    let all = (0..wanted.disks * faults.len() as u64).filter(|number| match wanted.number {
        Some(only) => *number == only,
        None => !done.contains(number),
    });
    let left: Vec<(u64, Fault)> = all.map(|number| (number, faults[number as usize % faults.len()])).collect();
    if !left.is_empty() {
        let folder = folder(wanted, "disk")?;
        for (number, fault) in left {
            let mut random = seed::of(wanted.seed, disk::KIND, number);
            let lasts_us = random.random_range(3_000_000..8_000_000);
            let own = folder.join(number.to_string());
            let outcome = one_disk(&own, &wanted.scenes, number, fault, lasts_us)?;
            println!(
                "disk {number} {fault:?} for {:.1} s: {:.2} s lost beside, again after {:.2} s",
                outcome.lasted_us as f64 / 1e6,
                outcome.lost_us as f64 / 1e6,
                outcome.again_us as f64 / 1e6
            );
            outcome.problems.iter().for_each(|problem| println!("    {problem}"));
            notes.add(disk::KIND, &outcome)?;
        }
    }
    let outcomes: Vec<disk::Outcome> = notes.read(disk::KIND)?;
    Ok(outcomes.into_iter().filter(|o| wanted.number.is_none_or(|n| n == o.number)).collect())
}

/// One fault on a box of its own.
pub fn one_disk(folder: &Path, scenes: &Path, number: u64, fault: Fault, lasts_us: i64) -> Result<disk::Outcome> {
    let served = folder.join("cameras");
    std::fs::create_dir_all(&served).with_context(|| format!("cannot make {}", served.display()))?;
    let cameras = [small_camera("uno", 1, "h264"), small_camera("due", 2, "h265")];
    let simcam = Simcam::start(&served, scenes, &cameras)?;
    let subject = Subject::in_clear("failing", &cameras, folder.join("box"), &simcam)?;
    let is_real = Fault::REAL.contains(&fault);
    let tmpfs = is_real.then(|| mount::Tmpfs::mount(&subject.media(), TMPFS_BYTES)).transpose()?;
    let mut trial = Trial { subject, ledger: kill::ledger::Ledger::default(), tmpfs };
    let outcome = trial.carry_out(number, fault, lasts_us);
    trial.subject.edge.end()?;
    outcome
}
