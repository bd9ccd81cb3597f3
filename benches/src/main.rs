//! `campanile-bench`: side-by-side runs and load generators.

use anyhow::{Context, Result};
use campanile_benches::recording::{Row, medians, run};
use clap::{Parser, Subcommand};
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
}

fn main() -> Result<()> {
    let Command::Recording { cameras, seconds, rounds, report } = Arguments::parse().command;
    let mut rows = Vec::new();
    println!("{:<28} cameras  CPU s/camera-minute (recording alone)  MiB/camera  written/received", "contender");
    for _ in 0..rounds {
        rows.extend(run(&cameras, seconds, |row| println!("{}", line(row)))?);
    }
    println!("medians of {rounds} rounds");
    medians(&rows).iter().for_each(|row| println!("{}", line(row)));
    if let Some(path) = report {
        let text = serde_json::to_string_pretty(&rows).context("rows are JSON")?;
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn line(row: &Row) -> String {
    let Row { contender, cameras, cpu_s, cpu_s_recording, rss_mib, written_per_received } = row;
    format!(
        "{contender:<28} {cameras:>7}  {cpu_s:>19.3} ({cpu_s_recording:.3})  {rss_mib:>20.1}  {written_per_received:>10.3}"
    )
}
