//! What an installer writes in `edge.toml`.
//!
//! Belongs here: the file's shape, its checks, and secrets that never show.
//! Does not belong here: what the hub decides (desired state), and anything read after the start.
//! Invariant: a `Config` holds only valid values; what is wrong is reported all at once, by key.

mod check;
mod secret;
mod shape;

pub use secret::Secret;

use campanile_proto::grid::CellSet;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Version in `config_version`.
pub const CONFIG_VERSION: u32 = 1;

/// One box, checked.
#[derive(Debug, Clone)]
pub struct Config {
    pub name: String,
    /// Identity, database, clock: mode 0700.
    pub state_dir: PathBuf,
    /// Segments.
    pub media_dir: PathBuf,
    /// Record unsealed while not enrolled.
    pub record_in_clear: bool,
    pub retention: Retention,
    pub cameras: Vec<CameraConfig>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Whole days, 1 to 7.
    pub days: u32,
    /// Oldest segments go first beyond this; none: the disk's size minus a reserve.
    pub max_bytes: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Tcp,
    Udp,
}

/// One camera, checked.
#[derive(Debug, Clone)]
pub struct CameraConfig {
    pub name: String,
    pub site: String,
    /// Street address.
    pub address: String,
    /// WGS 84, degrees; both 0 when unknown.
    pub latitude: f64,
    pub longitude: f64,
    /// `rtsp://host:port/path`, without user or password.
    pub main: String,
    pub sub: Option<String>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub transport: Transport,
    /// Look for motion.
    pub analyse: bool,
    /// Whole days, 1 to `retention.days`; none: these.
    pub days: Option<u32>,
    /// Its oldest segments go first beyond this, all its streams together; none: only the box's bound counts.
    pub max_bytes: Option<u64>,
    /// Cells where motion is not looked for: a clock burnt into the picture, a flag, a tree.
    pub ignore: CellSet,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is not a valid file: {message}")]
    Syntax { path: PathBuf, message: String },
    #[error("{}", list(.problems))]
    Problems { path: PathBuf, problems: Vec<Problem> },
}

/// One thing to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `camera[1].main`: the key in the file, counted from 0.
    pub key: String,
    pub problem: String,
    pub remedy: String,
}

impl ConfigError {
    /// EX_USAGE of sysexits.h, what a bad configuration exits with.
    pub const EXIT_CODE: u8 = 64;

    pub fn kind(&self) -> campanile_proto::kind::Kind {
        campanile_proto::kind::Kind::Invalid
    }
}

impl Config {
    /// Reads, parses and checks the file; password files and variables are read too.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        Self::parse(&text, path)
    }

    /// `path` names the file in errors and is where relative paths start.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let syntax = |message: String| ConfigError::Syntax { path: path.into(), message };
        let mut table: toml::Table = toml::from_str(text).map_err(|error| {
            // The snippet a TOML error shows could hold a secret in the wrong place.
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
            syntax(format!("line {line}: {}", error.message()))
        })?;
        let mut problems = shape::repair(&mut table);
        // What stands in for keys that are missing or of another type is not to be complained about again.
        let stand_ins: Vec<String> = problems.iter().map(|problem| problem.key.clone()).collect();
        let raw: check::RawConfig = table.try_into().map_err(|error| syntax(error.message().to_owned()))?;
        let base = path.parent().unwrap_or(Path::new(""));
        match raw.check(base) {
            Ok(config) if problems.is_empty() => Ok(config),
            Ok(_) => Err(ConfigError::Problems { path: path.into(), problems }),
            Err(found) => {
                problems.extend(found.into_iter().filter(|problem| !stand_ins.contains(&problem.key)));
                Err(ConfigError::Problems { path: path.into(), problems })
            }
        }
    }
}

fn list(problems: &[Problem]) -> String {
    let lines: Vec<String> =
        problems.iter().map(|p| format!("  {}: {}\n      {}", p.key, p.problem, p.remedy)).collect();
    format!("{} to correct in the configuration:\n{}", lines.len(), lines.join("\n"))
}
