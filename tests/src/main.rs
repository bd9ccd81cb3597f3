//! `campanile-demo`: two towns on this machine.

use anyhow::{Context, Result, bail};
use campanile_tests::camera_list::address_problem;
use campanile_tests::demo::{Running, Wanted, run};
use clap::{Parser, Subcommand};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

/// EX_USAGE of sysexits.h.
const USAGE: u8 = 64;
/// How long after a Ctrl-C we look whether everything already stood.
const STANDS_WITHIN: Duration = Duration::from_millis(100);

#[derive(Parser)]
#[command(name = "campanile-demo", about = "Two towns, eight cameras, one search and one playback across the border")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts everything, shows it, and runs until Ctrl-C.
    Run {
        /// End after the last step.
        #[arg(long)]
        once: bool,
        /// Folder of video files to show instead of generated scenes.
        #[arg(long)]
        clips: Option<PathBuf>,
        /// File of real cameras (mode 0600).
        #[arg(long)]
        cameras: Option<String>,
        /// First of four ports to listen on; free ones when absent.
        #[arg(long)]
        port: Option<u16>,
    },
    /// Each clip of a folder as a camera: recorded, indexed, found, played back whole.
    Clips {
        #[arg(long)]
        clips: PathBuf,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run { once, clips, cameras, port } => match wanted(once, clips, cameras, port) {
            Ok(wanted) => show(&wanted),
            Err(error) => {
                eprintln!("campanile-demo: {error:#}");
                return ExitCode::from(USAGE);
            }
        },
        Command::Clips { clips } => campanile_tests::clips::run(&clips),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("campanile-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn wanted(once: bool, clips: Option<PathBuf>, cameras: Option<String>, port: Option<u16>) -> Result<Wanted> {
    if let Some(cameras) = &cameras
        && cameras.contains("://")
    {
        let reason = address_problem(cameras).unwrap_or("is an address");
        bail!("CAMERAS names a file, this {reason}; write the cameras into a file of mode 0600 and name that");
    }
    if let Some(list) = &cameras {
        // Said before anything is started.
        campanile_tests::camera_list::read(list.as_ref())?;
    }
    let here = std::env::current_dir().context("no current folder")?.join("target");
    Ok(Wanted {
        once,
        clips,
        cameras: cameras.map(PathBuf::from),
        port,
        folder: here.join("demo"),
        scenes: here.join("scenes"),
    })
}

fn show(wanted: &Wanted) -> Result<()> {
    let asked_to_end = on_ctrl_c(wanted.once)?;
    let mut running = run(wanted)?;
    if !wanted.once {
        invite(&running)?;
        asked_to_end.send(()).context("nobody waits for Ctrl-C")?;
    }
    println!("\nending");
    for town in &mut running.towns {
        town.end()?;
    }
    Ok(())
}

/// Before the sender's message is taken Ctrl-C ends us at once (the kernel then ends our children); the message
/// is taken on the Ctrl-C after everything stands, and sending it waits until then.
fn on_ctrl_c(once: bool) -> Result<SyncSender<()>> {
    // A handler, not a blocked signal: what is blocked here would be blocked in every process we start.
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot take signals")?;
    let (sender, receiver) = sync_channel(0);
    std::thread::spawn(move || {
        signals.forever().next();
        // A rendezvous: somebody is sending only once everything stands.
        if once || receiver.recv_timeout(STANDS_WITHIN).is_err() {
            eprintln!("interrupted");
            std::process::exit(130);
        }
    });
    Ok(sender)
}

fn invite(running: &Running) -> Result<()> {
    println!();
    for town in &running.towns {
        let addresses = town.addresses()?;
        println!("{}: {}", town.plan.name, addresses.web);
        println!("    operator `operatore`, password in {}", town.data().join("initial-password").display());
        println!("    certificate SHA-256 {}", addresses.web_fingerprint);
    }
    println!("\nCtrl-C ends it all; `make clean-demo` removes what it made.");
    Ok(())
}
