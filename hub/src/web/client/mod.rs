//! The command line: the same REST as the page, over the administration socket or, signed in, over TLS.
//!
//! Belongs here: arguments, the connection, tables, exit codes.
//! Does not belong here: anything a hub decides; this is a client like any other.
//! Invariant: a password comes from a file only its owner reads, never from the command line.

mod agreements;
mod cameras;
mod clock;
mod connection;
mod coverage;
mod edges;
mod holds;
mod pin;
mod play;
mod playlist;
mod register;
mod search;
mod show;
mod times;
mod unseal;

use clap::{Args, Subcommand};
use connection::Connection;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;

/// sysexits(3): usage, unavailable, refused.
const USAGE: u8 = 64;
const UNAVAILABLE: u8 = 69;
const REFUSED: u8 = 77;

/// Which hub, and as whom.
#[derive(Debug, Args)]
pub struct Target {
    /// The hub's configuration: its administration socket is in data_dir.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The administration socket itself.
    #[arg(long, value_name = "SOCKET", conflicts_with = "url")]
    socket: Option<PathBuf>,
    /// A hub elsewhere, such as https://hub.comune.it:8443.
    #[arg(long, requires = "password_file")]
    url: Option<String>,
    /// Account on that hub.
    #[arg(long, default_value = "operatore", requires = "url")]
    user: String,
    /// File with its password, readable by its owner only.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// SHA-256 of its web certificate, as the hub prints it.
    #[arg(long, value_name = "SHA256")]
    ca_fingerprint: Option<String>,
    /// One JSON value, or one a line, on standard output.
    #[arg(long)]
    json: bool,
}

/// For what and for which case: stands in the register.
#[derive(Debug, Args)]
pub struct Reason {
    /// urban-security, judicial-police, road-safety, civil-protection, environmental-offences, maintenance.
    #[arg(long)]
    purpose: String,
    /// The case this access is for.
    #[arg(long = "case", value_name = "NUMBER")]
    case_number: String,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Search this hub's events and its partners'.
    Search(search::Search),
    /// Save an interval of one camera as a fragmented MP4 file.
    Play(play::Play),
    /// List cameras, ours and those partners let us use; or move one of ours to another box.
    Cameras(cameras::Cameras),
    /// How much of each day each camera recorded, and why not all of it.
    Coverage(coverage::Coverage),
    /// The hub's clock: show, confirm.
    #[command(subcommand)]
    Clock(clock::Clock),
    /// Boxes: list, token, revoke, release.
    #[command(subcommand)]
    Edges(edges::Edges),
    /// Footage kept beyond its term: place, list, show, release, export.
    #[command(subcommand)]
    Holds(holds::Holds),
    /// Open segment files of a box's disk, with this hub's key ring.
    Unseal(unseal::Unseal),
    /// Partner organisations: list, add.
    #[command(subcommand)]
    Partners(agreements::Partners),
    /// Agreements: list, show, propose, sign, confirm, revoke.
    #[command(subcommand)]
    Agreements(agreements::Agreements),
    /// The register: list, verify, checkpoint.
    #[command(subcommand)]
    Register(register::Register),
    /// Accounts: list, add, password.
    #[command(subcommand)]
    People(People),
    /// Whether everything is well.
    Status(Plain),
}

#[derive(Debug, Args)]
pub struct Plain {
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Subcommand)]
pub enum People {
    List(Plain),
    /// Make an account; its password is printed once.
    Add {
        name: String,
        #[command(flatten)]
        target: Target,
    },
    /// Give an account a new password, printed once.
    Password {
        #[arg(default_value = "operatore")]
        name: String,
        #[command(flatten)]
        target: Target,
    },
}

/// Why a command did not do it. What the hub said is shown as it said it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{0}")]
    Usage(String),
    #[error("could not reach the hub at {at}; is it running?")]
    Reach { at: String, source: std::io::Error },
    #[error("could not speak with the hub")]
    Speak(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("could not read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("could not write {path}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{} ({code}){}", show::clean(.sentence), if .clause.is_empty() { String::new() } else { format!(" [clause {}]", show::clean(.clause)) })]
    Hub { status: u16, code: String, sentence: String, clause: String },
    #[error("the hub's answer cannot be read: {0}")]
    Unreadable(&'static str),
    #[error("{0}")]
    Incomplete(String),
}

impl ClientError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Hub { status: 400, .. } => USAGE,
            Self::Hub { status: 401 | 403, .. } => REFUSED,
            _ => UNAVAILABLE,
        }
    }
}

type Done = Result<(), ClientError>;

/// Runs one command against a running hub.
pub async fn command(command: Command) -> ExitCode {
    match run(command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("campanile-hub: {}", campanile_proto::kind::Chain(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

pub(super) async fn run(command: Command) -> Done {
    match command {
        Command::Search(search) => search.run().await,
        Command::Play(play) => play.run().await,
        Command::Cameras(cameras) => cameras.run().await,
        Command::Coverage(coverage) => coverage.run().await,
        Command::Clock(clock) => clock.run().await,
        Command::Edges(edges) => edges.run().await,
        Command::Holds(holds) => holds.run().await,
        Command::Unseal(unseal) => unseal.run().await,
        Command::Partners(partners) => partners.run().await,
        Command::Agreements(agreements) => agreements.run().await,
        Command::Register(register) => register.run().await,
        Command::People(people) => people.run().await,
        Command::Status(plain) => status(&plain.target).await,
    }
}

async fn status(target: &Target) -> Done {
    let answer = Connection::open(target).await?.get("/api/v1/status").await?;
    if target.json {
        println!("{answer}");
        return Ok(());
    }
    let text = |value: &Value| show::text(value);
    let organisation = &answer["organisation"];
    println!("{} ({})", text(&organisation["name"]), text(&organisation["id"]));
    println!("fingerprint  {}", text(&organisation["fingerprint"]));
    println!("software     {}", text(&answer["software"]));
    println!("boxes        {} of {} connected", answer["edges"]["connected"], answer["edges"]["enrolled"]);
    println!("cameras      {}", answer["cameras"]);
    println!("partners     {}, {} agreements in force", answer["partners"], answer["agreements_live"]);
    println!("register     {} entries, root {}", answer["register"]["size"], text(&answer["register"]["root"]));
    println!("kept for     {} days", answer["retention_days"]);
    for alarm in answer["alarms"].as_array().into_iter().flatten() {
        println!("ALARM        {} ({})", text(&alarm["sentence"]), text(&alarm["code"]));
    }
    Ok(())
}

impl People {
    async fn run(self) -> Done {
        let (target, answer) = match &self {
            Self::List(plain) => {
                let answer = Connection::open(&plain.target).await?.get("/api/v1/people").await?;
                for name in answer["people"].as_array().into_iter().flatten() {
                    println!("{}", if plain.target.json { name.to_string() } else { show::text(name) });
                }
                return Ok(());
            }
            Self::Add { name, target } => {
                (target, Connection::open(target).await?.post("/api/v1/people", &json!({ "name": name })).await?)
            }
            Self::Password { name, target } => {
                let path = format!("/api/v1/people/{}/password", connection::segment(name)?);
                (target, Connection::open(target).await?.post(&path, &json!({})).await?)
            }
        };
        if target.json {
            println!("{answer}");
        } else {
            println!("{}", show::text(&answer["password"]));
        }
        Ok(())
    }
}
