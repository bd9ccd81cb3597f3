//! `campanile-campaign`: hurts the edge agent and writes down what was lost.

use anyhow::{Context, Result};
use campanile_campaign::campaign::{LIVES, Wanted, run};
use clap::{Parser, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "campanile-campaign", about = "Kills, power cuts and failing disks against the real edge agent")]
struct Arguments {
    /// Of every choice; the same seed repeats a campaign, and goes on with one that was interrupted.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 500)]
    kills: u64,
    #[arg(long, default_value_t = 2_000)]
    images: u64,
    /// Rounds of every fault of a disk.
    #[arg(long, default_value_t = 3)]
    disks: u64,
    /// One kind alone.
    #[arg(long)]
    only: Option<Only>,
    /// One fault of that kind alone, again.
    #[arg(long, requires = "only")]
    number: Option<u64>,
    /// Of each of the two boxes that are killed.
    #[arg(long, default_value_t = 4)]
    cameras: usize,
    /// Where it works.
    #[arg(long, default_value = "target/campaign")]
    folder: PathBuf,
    /// Where the figures go.
    #[arg(long)]
    report: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Only {
    Kill,
    Power,
    Disk,
}

fn main() -> ExitCode {
    match begin(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("campanile-campaign: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing was found wrong.
fn begin(arguments: Arguments) -> Result<bool> {
    let wants = |kind| arguments.only.is_none_or(|only| only == kind);
    let wanted = Wanted {
        seed: arguments.seed,
        kills: if wants(Only::Kill) { arguments.kills } else { 0 },
        images: if wants(Only::Power) { arguments.images } else { 0 },
        disks: if wants(Only::Disk) { arguments.disks } else { 0 },
        number: arguments.number,
        cameras: arguments.cameras,
        scenes: PathBuf::from("target/scenes"),
        folder: arguments.folder,
        real_disks: true,
        lives: LIVES,
    };
    let mut report = run(&wanted)?;
    // As a person repeats it.
    let words: Vec<String> = std::env::args().skip(1).collect();
    report.command = format!("campanile-campaign {}", words.join(" ")).trim().to_owned();
    let text = serde_json::to_string_pretty(&report)? + "\n";
    match &arguments.report {
        Some(path) => std::fs::write(path, &text).with_context(|| format!("cannot write {}", path.display()))?,
        None => print!("{text}"),
    }
    for problem in &report.problems {
        eprintln!("campanile-campaign: {problem}");
    }
    for (target, numbers) in &report.targets_missed {
        eprintln!("campanile-campaign: {target}: {} times, {numbers:?}", numbers.len());
    }
    Ok(report.problems.is_empty())
}
