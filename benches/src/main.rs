//! `campanile-bench`: side-by-side runs and load generators.

use anyhow::{Context, Result};
use campanile_benches::cost::{self, Setting};
use campanile_benches::recording::{Row, medians, run};
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
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Recording { cameras, seconds, rounds, report } => recording(&cameras, seconds, rounds, report),
        Command::Cost { cameras, slow, seconds, report } => {
            let quick = cameras.into_iter().map(|cameras| Setting { cameras, slow: false });
            let settings: Vec<Setting> =
                quick.chain(slow.into_iter().map(|cameras| Setting { cameras, slow: true })).collect();
            println!("{:<36} cameras  sub-stream       CPU s/camera-minute  PSS, RSS MiB/camera", "contender");
            write(report, &cost::run(&settings, seconds, |row| println!("{}", cost_line(row)))?)
        }
    }
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
