//! `campanile-hub`: parse, build, run, drain.

use campanile_proto::kind::Chain;
use campanile_proto::time::SystemClock;
use clap::{Parser, Subcommand};
use hub::config::{self, Config, EXIT_BAD_CONFIG};
use hub::hub::Addresses;
use hub::notify::{self, systemd};
use sd_notify::NotifyState;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// Campanile's hub: fleet, search, playback, federation of one organisation.
#[derive(Parser)]
#[command(name = "campanile-hub", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the hub until it is told to stop.
    Run {
        #[arg(long)]
        config: PathBuf,
    },
    /// Read the configuration and name everything wrong with it.
    CheckConfig {
        #[arg(long)]
        config: PathBuf,
    },
    #[command(flatten)]
    Client(Box<hub::web::client::Command>),
}

fn main() -> ExitCode {
    // Two libraries of TLS are in the tree: without a choice the first use of rustls panics.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("campanile-hub: another TLS provider was installed first");
        return ExitCode::FAILURE;
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(asked) => {
            // Help and version are answers, everything else is a wrong command line.
            let code = if asked.use_stderr() { EXIT_BAD_CONFIG } else { 0 };
            let _ = asked.print();
            return ExitCode::from(code as u8);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("campanile-hub: cannot start its threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    match arguments.command {
        Command::Run { config } => match load(&config) {
            Ok(config) => runtime.block_on(run(config)),
            Err(code) => code,
        },
        Command::CheckConfig { config } => match load(&config) {
            Ok(_) => ExitCode::SUCCESS,
            Err(code) => code,
        },
        Command::Client(command) => runtime.block_on(hub::web::client::command(*command)),
    }
}

/// The configuration, with the files it names.
fn load(path: &Path) -> Result<Config, ExitCode> {
    let loaded = config::load(path).and_then(|config| match hub::web::Tls::check(&config) {
        Ok(()) => Ok(config),
        Err(problem) => Err(config::ConfigProblems { path: path.to_owned(), problems: vec![problem] }),
    });
    loaded.map_err(|problems| {
        eprintln!("campanile-hub: {problems}");
        ExitCode::from(EXIT_BAD_CONFIG as u8)
    })
}

async fn run(config: Config) -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let stop = CancellationToken::new();
    let watching = watch_signals(stop.clone());
    if let Err(error) = watching {
        error!(%error, "signals cannot be watched");
        return ExitCode::FAILURE;
    }
    tokio::spawn(notify::live());
    let started = hub::hub::run(config, Arc::new(SystemClock::new()), stop.clone(), ready);
    match started.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!(error = %Chain(&failure), "hub failed");
            ExitCode::FAILURE
        }
    }
}

fn ready(addresses: &Addresses) {
    info!(rpc = %addresses.rpc, web = addresses.web, "hub ready");
    println!("campanile-hub: boxes and partners at {}, people at {}", addresses.rpc, addresses.web);
    println!("campanile-hub: organisation key {}", addresses.organisation_fingerprint);
    if !addresses.web_fingerprint.is_empty() {
        println!("campanile-hub: web certificate SHA-256 {}", addresses.web_fingerprint);
    }
    systemd(&[NotifyState::Ready]);
}

/// The first signal stops in order, the second at once.
fn watch_signals(stop: CancellationToken) -> std::io::Result<()> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        let mut asked = false;
        loop {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            if asked {
                std::process::exit(1);
            }
            asked = true;
            systemd(&[NotifyState::Stopping]);
            stop.cancel();
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use std::collections::BTreeSet;

    /// What the client's commands do, the library's tests drive against a shut door; these two ask no hub.
    const ALONE: [&str; 2] = ["run", "check-config"];

    #[test]
    fn every_command_but_two_goes_through_the_client() {
        let names = |command: &clap::Command| -> BTreeSet<String> {
            command.get_subcommands().map(|below| below.get_name().to_owned()).collect()
        };
        let clients = hub::web::client::Command::augment_subcommands(clap::Command::new("client"));
        let mut expected = names(&clients);
        expected.extend(ALONE.map(str::to_owned));
        assert_eq!(names(&Arguments::command()), expected);
    }
}
