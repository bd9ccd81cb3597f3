//! The configuration of simulated cameras.
//!
//! Belongs here: the file's shape, checking it, the checked form that `server` takes.
//! Does not belong here: opening clips or rendering (`program`).
//! Invariant: a [`SimConfig`] is valid; a refused file names all its problems by key.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use crate::program::Source;
use crate::scene::{Activity, Light, SceneParams};
use crate::strip;
use crate::units::Codec;

/// Why a configuration is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read configuration {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Others may read the passwords in it.
    #[error("configuration {path} has mode {mode:04o}; it holds passwords and must have mode 0600")]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not TOML of this shape.
    #[error("cannot understand configuration {path}: {reason}")]
    Shape {
        /// The file.
        path: PathBuf,
        /// The parser's message.
        reason: String,
    },
    /// Values that cannot be.
    #[error("configuration is refused:\n{}", .0.iter().map(|p| format!("  {p}")).collect::<Vec<_>>().join("\n"))]
    Values(Vec<String>),
}

/// A password; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a password.
    pub fn new(password: impl Into<String>) -> Secret {
        Secret(password.into())
    }

    /// The password itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A camera to simulate.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraConfig {
    /// Path and log name.
    pub name: String,
    /// Number in the strip.
    pub number: u16,
    /// Who may read it. Cameras with the same user have the same password.
    pub username: String,
    /// With what.
    pub password: Secret,
    /// Coding of scenes (H.264 when absent); what a file has to be.
    pub codec: Option<Codec>,
    /// Pictures.
    pub source: Source,
}

/// What [`crate::server::SimServer`] serves.
#[derive(Debug, Clone, PartialEq)]
pub struct SimConfig {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Logs of access units, `<name>.<stream>.log`.
    pub log_dir: PathBuf,
    /// Rendered scenes and transcoded sub-streams.
    pub cache_dir: PathBuf,
    /// Written when every camera serves.
    pub ready_file: Option<PathBuf>,
    /// The cameras.
    pub cameras: Vec<CameraConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    listen: String,
    log_dir: PathBuf,
    cache_dir: PathBuf,
    ready_file: Option<PathBuf>,
    #[serde(default)]
    camera: Vec<RawCamera>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCamera {
    name: String,
    number: u16,
    username: String,
    password: Option<String>,
    password_file: Option<PathBuf>,
    codec: Option<Codec>,
    scene: Option<RawScene>,
    file: Option<RawFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    main: PathBuf,
    sub: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScene {
    seed: u64,
    light: Light,
    #[serde(default = "usual_activity")]
    activity: Activity,
    main_width: Option<u32>,
    main_height: Option<u32>,
    main_fps: Option<u32>,
    sub_width: Option<u32>,
    sub_height: Option<u32>,
    sub_fps: Option<f64>,
    loop_s: Option<f64>,
    strip: Option<bool>,
}

fn usual_activity() -> Activity {
    Activity::Normal
}

/// Reads and checks a configuration file.
pub fn load(path: &Path) -> Result<SimConfig, ConfigError> {
    let read = |source| ConfigError::Read { path: path.to_owned(), source };
    let mode = std::fs::metadata(path).map_err(read)?.permissions().mode() & 0o777;
    if mode != 0o600 {
        return Err(ConfigError::Mode { path: path.to_owned(), mode });
    }
    let text = std::fs::read_to_string(path).map_err(read)?;
    let raw: RawConfig = toml::from_str(&text).map_err(|error| {
        // The parser's own display quotes the line, which may hold a password.
        ConfigError::Shape { path: path.to_owned(), reason: error.message().to_owned() }
    })?;
    raw.check()
}

impl RawConfig {
    fn check(self) -> Result<SimConfig, ConfigError> {
        let mut problems = Vec::new();
        let listen = self.listen.parse::<SocketAddr>();
        match &listen {
            Ok(address) if !address.ip().is_loopback() => {
                problems.push("listen: only loopback addresses are served".to_owned());
            }
            Ok(_) => {}
            Err(_) => problems.push(format!("listen: {:?} is not address:port", self.listen)),
        }
        if self.camera.is_empty() {
            problems.push("camera: at least one is needed".to_owned());
        }
        let mut cameras = Vec::new();
        for (index, raw) in self.camera.into_iter().enumerate() {
            cameras.extend(raw.check(&format!("camera[{index}]"), &mut problems));
        }
        check_unique(&cameras, &mut problems);
        match listen {
            Ok(listen) if problems.is_empty() => Ok(SimConfig {
                listen,
                log_dir: self.log_dir,
                cache_dir: self.cache_dir,
                ready_file: self.ready_file,
                cameras,
            }),
            _ => Err(ConfigError::Values(problems)),
        }
    }
}

fn check_unique(cameras: &[CameraConfig], problems: &mut Vec<String>) {
    let mut names = BTreeMap::new();
    let mut passwords = BTreeMap::new();
    for camera in cameras {
        if names.insert(&camera.name, ()).is_some() {
            problems.push(format!("camera.name: {:?} is used twice", camera.name));
        }
        let known = passwords.entry(&camera.username).or_insert(&camera.password);
        if *known != &camera.password {
            problems.push(format!("camera.username: {:?} has two passwords", camera.username));
        }
    }
}

impl RawCamera {
    fn check(self, key: &str, problems: &mut Vec<String>) -> Option<CameraConfig> {
        let before = problems.len();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if self.name.is_empty() || !self.name.chars().all(plain) {
            problems.push(format!("{key}.name: letters, digits, - and _ only"));
        }
        if self.username.is_empty() || self.username.contains(':') {
            problems.push(format!("{key}.username: must not be empty or hold a colon"));
        }
        let password = match (self.password, self.password_file) {
            (Some(password), None) => password,
            (None, Some(path)) => std::fs::read_to_string(&path)
                .map(|text| text.trim_end_matches('\n').to_owned())
                .unwrap_or_else(|error| {
                    problems.push(format!("{key}.password_file: {}: {error}", path.display()));
                    String::new()
                }),
            _ => {
                problems.push(format!("{key}: exactly one of password and password_file"));
                String::new()
            }
        };
        let source = match (self.scene, self.file) {
            (Some(scene), None) => Some(Source::Scene(scene.check(self.number, key, problems))),
            (None, Some(file)) => Some(file.check(key, problems)),
            _ => {
                problems.push(format!("{key}: exactly one of scene and file"));
                None
            }
        };
        (problems.len() == before).then_some(())?;
        Some(CameraConfig {
            name: self.name,
            number: self.number,
            username: self.username,
            password: Secret(password),
            codec: self.codec,
            source: source?,
        })
    }
}

impl RawFile {
    fn check(self, key: &str, problems: &mut Vec<String>) -> Source {
        for (name, path) in [("main", Some(&self.main)), ("sub", self.sub.as_ref())] {
            if let Some(path) = path.filter(|path| !path.is_file()) {
                problems.push(format!("{key}.file.{name}: {} is not a file", path.display()));
            }
        }
        Source::File { main: self.main, sub: self.sub }
    }
}

const LONGEST_LOOP_S: f64 = 3_600.0;

impl RawScene {
    fn check(self, number: u16, key: &str, problems: &mut Vec<String>) -> SceneParams {
        let usual = SceneParams::new(number, self.seed, self.light);
        let mut refuse = |name: &str, why: &str| problems.push(format!("{key}.scene.{name}: {why}"));
        let size = |value: Option<u32>, otherwise: u32| value.unwrap_or(otherwise);
        let sizes = [
            ("main_width", size(self.main_width, usual.main_width), strip::LEAST_WIDTH),
            ("main_height", size(self.main_height, usual.main_height), 144),
            ("sub_width", size(self.sub_width, usual.sub_width), strip::LEAST_WIDTH),
            ("sub_height", size(self.sub_height, usual.sub_height), 144),
        ];
        for (name, value, least) in sizes {
            if !(least..=3840).contains(&value) || value % 2 != 0 {
                refuse(name, &format!("{value} is not an even number from {least} to 3840"));
            }
        }
        let main_fps = self.main_fps.unwrap_or(usual.main_fps);
        if !(1..=60).contains(&main_fps) {
            refuse("main_fps", "from 1 to 60");
        }
        let sub_fps = self.sub_fps.unwrap_or(f64::from(main_fps) / 2.0);
        let ratio = f64::from(main_fps) / sub_fps;
        let sub_every = if ratio.is_finite() { ratio.round().clamp(1.0, 60.0) as u32 } else { 1 };
        if (ratio - f64::from(sub_every)).abs() > 0.001 {
            refuse("sub_fps", "main_fps must be a whole multiple of it");
        }
        let loop_s = self.loop_s.unwrap_or(40.0);
        if !(2.0..=LONGEST_LOOP_S).contains(&loop_s) {
            refuse("loop_s", "from 2 to 3600");
        }
        // A whole number of sub-stream frames, so that both streams loop together.
        let frames = (loop_s.clamp(0.0, LONGEST_LOOP_S) * f64::from(main_fps)) as u32;
        SceneParams {
            activity: self.activity,
            main_width: sizes[0].1,
            main_height: sizes[1].1,
            main_fps,
            sub_width: sizes[2].1,
            sub_height: sizes[3].1,
            sub_every,
            loop_frames: frames - frames % sub_every,
            strip: self.strip.unwrap_or(true),
            ..usual
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("simcam.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    const GOOD: &str = r#"
listen = "127.0.0.1:0"
log_dir = "logs"
cache_dir = "cache"
[[camera]]
name = "piazza"
number = 3
username = "agent"
password = "s3cret"
codec = "h265"
[camera.scene]
seed = 9
light = "night"
"#;

    #[test]
    fn a_usual_file_is_taken() {
        let (_folder, path) = written(GOOD, 0o600);
        let config = load(&path).unwrap();
        let Source::Scene(scene) = &config.cameras[0].source else { panic!("no scene") };
        assert_eq!((scene.main_width, scene.sub_every, scene.loop_frames), (1280, 2, 600));
        assert!(!format!("{config:?}").contains("s3cret"));
    }

    #[test]
    fn passwords_must_not_be_readable_by_others() {
        let (_folder, path) = written(GOOD, 0o644);
        assert!(matches!(load(&path), Err(ConfigError::Mode { mode: 0o644, .. })));
    }

    #[test]
    fn all_problems_are_named_at_once_by_key() {
        let bad = GOOD
            .replace("127.0.0.1:0", "0.0.0.0:554")
            .replace("password = \"s3cret\"", "")
            .replace("seed = 9", "seed = 9\nmain_width = 33\nsub_fps = 4.0");
        let (_folder, path) = written(&bad, 0o600);
        let Err(ConfigError::Values(problems)) = load(&path) else { panic!("taken") };
        for key in ["listen", "camera[0]: exactly", "camera[0].scene.main_width", "camera[0].scene.sub_fps"] {
            assert!(problems.iter().any(|problem| problem.starts_with(key)), "{key}: {problems:?}");
        }
    }

    #[test]
    fn a_password_on_a_broken_line_is_not_repeated() {
        let (_folder, path) = written(&GOOD.replace("\"s3cret\"", "\"s3cret"), 0o600);
        let text = load(&path).unwrap_err().to_string();
        assert!(!text.contains("s3cret"), "{text}");
    }
}
