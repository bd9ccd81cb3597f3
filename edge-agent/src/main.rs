//! `campanile-edge`: parse, build, run, end.

use campanile_proto::kind::Chain;
use campanile_proto::time::SystemClock;
use clap::{Parser, Subcommand, ValueEnum};
use edge_agent::agent::{AgentError, Reindexed};
use edge_agent::clock::Timekeeper;
use edge_agent::config::{Config, ConfigError};
use edge_agent::identity::{IdentityError, IdentityFolder, Token, enrol};
use edge_agent::media::Opener;
use edge_agent::media::rtsp::RtspOpener;
use nix::sys::signal::{SigSet, Signal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// EX_SOFTWARE of sysexits.h.
const EXIT_SOFTWARE: u8 = 70;
/// EX_IOERR and EX_TEMPFAIL.
const EXIT_DISK: u8 = 74;
const EXIT_IN_USE: u8 = 75;
/// A second signal: 128 + SIGINT.
const EXIT_AT_ONCE: i32 = 130;

/// For threads that hang in a driver, behind the agent's own deadline.
const LEFT_BEHIND: std::time::Duration = std::time::Duration::from_secs(1);

/// Records the cameras beside it and reports to its hub.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// How log lines look, on standard error.
    #[arg(long, value_enum, default_value = "text", global = true)]
    log: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Records and reports until it is told to stop.
    Run {
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Makes this box one of a hub's, with the token that `campanile-hub edges token` printed.
    Enrol {
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// File that holds the token, or - for standard input; never the token itself.
        #[arg(long, value_name = "FILE|-")]
        token_file: String,
        /// Gives a box that is enrolled already a new identity.
        #[arg(long)]
        replace: bool,
    },
    /// Reads the configuration and says everything that is wrong with it.
    CheckConfig {
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Opens every camera for a few seconds, looks at the box, and says what to change; at most half a minute.
    /// Exits 0 when all is well, 1 when something is to be changed, 64 when the configuration is wrong.
    Check {
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// One JSON object instead of lines.
        #[arg(long)]
        json: bool,
    },
    /// Makes the index of the recordings anew from the segments, and offers all of it to the hub again. The agent
    /// must not run. Exits 0, 75 while an agent runs, 74 when a disk fails or is away.
    Reindex {
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Looks for motion in a stream that the agent hands over; started by the agent alone.
    #[command(hide = true)]
    Analyse,
}

fn main() -> ExitCode {
    // A parent that waits with sigwait(3) leaves them blocked, and a box that cannot be stopped is killed.
    let stopping: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    if let Err(error) = stopping.thread_unblock() {
        eprintln!("campanile-edge: signals cannot be received: {error}");
        return ExitCode::from(EXIT_SOFTWARE);
    }
    let arguments = Arguments::parse();
    if matches!(arguments.command, Command::Analyse) {
        return analyse();
    }
    // Two providers end up in the tree; without a choice rustls panics at the first handshake.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("campanile-edge: a TLS provider was installed before main");
        return ExitCode::from(EXIT_SOFTWARE);
    }
    log_to_stderr(arguments.log);
    match arguments.command {
        Command::Run { config } => with_config(&config, run),
        Command::Enrol { config, token_file, replace } => {
            with_config(&config, |config| enrol_this_box(&config, &token_file, replace))
        }
        Command::CheckConfig { config } => with_config(&config, |config| {
            println!("{}: {} cameras, no problem found", config.name, config.cameras.len());
            ExitCode::SUCCESS
        }),
        Command::Check { config, json } => with_config(&config, |config| check(&config, json)),
        Command::Reindex { config } => with_config(&config, |config| reindex(&config)),
        Command::Analyse => ExitCode::from(EXIT_SOFTWARE),
    }
}

fn reindex(config: &Config) -> ExitCode {
    let done = runtime()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| Ok(runtime.block_on(edge_agent::agent::reindex(config, &SystemClock::new()))?));
    match done {
        Ok(Reindexed { walk, waiting }) => {
            println!(
                "{} segments indexed, {} torn tails cut off, {} files set aside, {waiting} reports wait for the hub",
                walk.walked, walk.truncated, walk.set_aside
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("campanile-edge: {error:#}");
            let in_use = matches!(error.downcast_ref::<AgentError>(), Some(AgentError::InUse { .. }));
            ExitCode::from(if in_use { EXIT_IN_USE } else { EXIT_DISK })
        }
    }
}

fn check(config: &Config, json: bool) -> ExitCode {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("campanile-edge: {error}");
            return ExitCode::from(EXIT_SOFTWARE);
        }
    };
    let open = |stamper| Ok(Arc::new(RtspOpener::new(stamper)) as Arc<dyn Opener>);
    let report = runtime.block_on(edge_agent::check::check(config, Arc::new(SystemClock::new()), open));
    runtime.shutdown_timeout(LEFT_BEHIND);
    if json {
        println!("{}", serde_json::to_string(&report).expect("a report encodes, because its keys are text"));
    } else {
        println!("{report}");
    }
    if report.well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The sandboxed child: no runtime, no log file, one socket.
fn analyse() -> ExitCode {
    match edge_agent::analyse::child::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("campanile-edge analyse: {}", Chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn log_to_stderr(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("CAMPANILE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// Bad configuration: every problem, exit code 64.
fn with_config(path: &Path, then: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    match Config::load(path) {
        Ok(config) => then(config),
        Err(error) => {
            eprintln!("campanile-edge: {}", Chain(&error));
            ExitCode::from(ConfigError::EXIT_CODE)
        }
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

fn run(config: Config) -> ExitCode {
    let outcome = runtime().map_err(anyhow::Error::from).and_then(|runtime| {
        let outcome = runtime.block_on(async {
            let stop = CancellationToken::new();
            stop_on_signals(stop.clone())?;
            Ok(edge_agent::agent::run(config, Arc::new(SystemClock::new()), stop).await?)
        });
        // A camera's thread that hangs in a driver does not hold the process.
        runtime.shutdown_timeout(LEFT_BEHIND);
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("campanile-edge: {error:#}");
            ExitCode::from(EXIT_SOFTWARE)
        }
    }
}

/// The first signal asks for an orderly end, the second ends at once.
fn stop_on_signals(stop: CancellationToken) -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stop.is_cancelled() {
                std::process::exit(EXIT_AT_ONCE);
            }
            tracing::info!("stopping");
            stop.cancel();
        }
    });
    Ok(())
}

fn enrol_this_box(config: &Config, token_file: &str, replace: bool) -> ExitCode {
    let enrolling = || -> Result<_, IdentityError> {
        let token = Token::read(token_file)?;
        let folder = IdentityFolder::open(&config.state_dir)?;
        let now = Timekeeper::open(&config.state_dir, Arc::new(SystemClock::new())).reckoned();
        let runtime = runtime().map_err(|source| IdentityError::Read { path: config.state_dir.clone(), source })?;
        runtime.block_on(enrol(&folder, &token, &config.name, now, replace))
    };
    match enrolling() {
        Ok(identity) => {
            println!("enrolled at {} as {}", identity.organisation_name, identity.edge);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("campanile-edge: {}", Chain(&error));
            ExitCode::from(error.exit_code())
        }
    }
}
