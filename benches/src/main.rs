//! `campanile-bench`: side-by-side runs and load generators.

use anyhow::{Context, Result, ensure};
use campanile_benches::cost::{self, Setting};
use campanile_benches::recording::{Row, medians, run};
use campanile_benches::score;
use clap::{Parser, Subcommand};
use serde::Serialize;
use std::path::PathBuf;

#[derive(Parser)]
#[command(name = "campanile-bench", about = "Campanile beside its peers, on the same streams, in one run")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A box beside ffmpeg and gst-launch: processor, memory, bytes written, recording main and sub-stream.
    Recording {
        /// Numbers of cameras.
        #[arg(long, value_delimiter = ',', default_value = "1,4,8")]
        cameras: Vec<usize>,
        /// Measured, each time.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// The whole, so often; the table shows medians.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// JSON of every round.
        #[arg(long)]
        report: Option<PathBuf>,
    },
    /// A box with motion, part by part, beside ffmpeg, motion and Frigate's motion stage. Wants
    /// CAMPANILE_LOG=info,edge_agent::analyse=debug.
    Cost {
        /// Numbers of cameras with a sub-stream of 15 pictures a second.
        #[arg(long, value_delimiter = ',', default_value = "1,4,8")]
        cameras: Vec<usize>,
        /// The same with one of 6.
        #[arg(long, value_delimiter = ',', default_value = "4")]
        slow: Vec<usize>,
        /// Measured, each time.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// JSON of every row.
        #[arg(long)]
        report: Option<PathBuf>,
    },
    /// The motion detector beside others, on labelled clips and generated scenes.
    Score {
        /// A folder with a MANIFEST.csv.
        #[arg(long)]
        clips: Option<PathBuf>,
        /// A Python with numpy and OpenCV; ours is scored alone without it.
        #[arg(long)]
        python: Option<PathBuf>,
        /// Other generated scenes.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Of generated scenes in which nothing moves.
        #[arg(long, default_value_t = 120)]
        quiet_minutes: u32,
        /// Of generated scenes with passages.
        #[arg(long, default_value_t = 16)]
        passages_minutes: u32,
        /// Decoded pictures lie here while they are scored.
        #[arg(long, default_value = "target/score")]
        folder: PathBuf,
        /// Leaves them there.
        #[arg(long)]
        keep: bool,
        /// JSON of every figure; the table lies beside it as Markdown.
        #[arg(long)]
        report: Option<PathBuf>,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Recording { cameras, seconds, rounds, report } => recording(&cameras, seconds, rounds, report),
        Command::Score { clips, python, seed, quiet_minutes, passages_minutes, folder, keep, report } => {
            let (quiet_s, passages_s) = (quiet_minutes * 60, passages_minutes * 60);
            scored(&score::Wanted { clips, python, seed, quiet_s, passages_s, folder, keep }, report)
        }
        Command::Cost { cameras, slow, seconds, report } => {
            let quick = cameras.into_iter().map(|cameras| Setting { cameras, slow: false });
            let settings: Vec<Setting> =
                quick.chain(slow.into_iter().map(|cameras| Setting { cameras, slow: true })).collect();
            println!("{:<36} cameras  sub-stream       CPU s/camera-minute  PSS, RSS MiB/camera", "contender");
            write(report, &cost::run(&settings, seconds, |row| println!("{}", cost_line(row)))?)
        }
    }
}

fn scored(wanted: &score::Wanted, report: Option<PathBuf>) -> Result<()> {
    let found = score::run(wanted, |film| eprintln!("score: {film}"))?;
    let table = score::table::markdown(&found);
    println!("{table}");
    if let Some(path) = report {
        let text = serde_json::to_string_pretty(&found).context("a report is JSON")?;
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        let path = path.with_extension("md");
        std::fs::write(&path, table).with_context(|| format!("cannot write {}", path.display()))?;
    }
    ensure!(found.controls_that_pass.is_empty(), "a control meets every target: the score is worth nothing");
    Ok(())
}

fn cost_line(row: &cost::Row) -> String {
    let cost::Row { contender, cameras, sub_stream, cpu_s, split, pss_mib, rss_mib } = row;
    let split = split.map(|split| format!("\n    {split:.3?}")).unwrap_or_default();
    format!("{contender:<36} {cameras:>7}  {sub_stream:<16} {cpu_s:>19.3}  {pss_mib:>8.1} {rss_mib:>8.1}{split}")
}

fn recording(cameras: &[usize], seconds: u64, rounds: usize, report: Option<PathBuf>) -> Result<()> {
    let mut rows = Vec::new();
    println!(
        "{:<28} cameras  CPU s/camera-minute (recording alone)  PSS, RSS MiB/camera  written/received",
        "contender"
    );
    for _ in 0..rounds {
        rows.extend(run(cameras, seconds, |row| println!("{}", line(row)))?);
    }
    println!("medians of {rounds} rounds");
    medians(&rows).iter().for_each(|row| println!("{}", line(row)));
    write(report, &rows)
}

fn write(report: Option<PathBuf>, rows: &[impl Serialize]) -> Result<()> {
    if let Some(path) = report {
        let text = serde_json::to_string_pretty(rows).context("rows are JSON")?;
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn line(row: &Row) -> String {
    let Row { contender, cameras, cpu_s, cpu_s_recording, pss_mib, rss_mib, written_per_received } = row;
    format!(
        "{contender:<28} {cameras:>7}  {cpu_s:>19.3} ({cpu_s_recording:.3})  {pss_mib:>12.1} {rss_mib:>8.1}  {written_per_received:>10.3}"
    )
}
