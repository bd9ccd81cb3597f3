//! From the file as written to a configuration, or to everything that is wrong with it.

use super::{CONFIG_VERSION, CameraConfig, Config, Problem, Retention, Secret, Transport};
use campanile_proto::grid::CellSet;
use serde::Deserialize;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Longest text a screen or a report should carry.
const MAX_TEXT: usize = 200;
/// RFC 9110 section 4.1 asks for 8000; cameras stay far below.
const MAX_ADDRESS: usize = 2048;
const MAX_CAMERAS: usize = 64;
const MAX_POLYGONS: usize = 16;
const MAX_POINTS: usize = 64;
/// Its first line counts; more is no password.
const MAX_PASSWORD_FILE: u64 = 4096;
/// Less is a camera's newest segment.
const LEAST_BYTES: u64 = 1 << 30;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    config_version: u32,
    name: String,
    state_dir: PathBuf,
    media_dir: PathBuf,
    #[serde(default)]
    record_in_clear: bool,
    #[serde(default)]
    retention: RawRetention,
    #[serde(default)]
    camera: Vec<RawCamera>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRetention {
    #[serde(default = "seven")]
    days: u32,
    max_bytes: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCamera {
    name: String,
    #[serde(default)]
    site: String,
    #[serde(default)]
    address: String,
    latitude: Option<f64>,
    longitude: Option<f64>,
    main: String,
    sub: Option<String>,
    username: Option<String>,
    password_file: Option<PathBuf>,
    password_env: Option<String>,
    #[serde(default = "tcp")]
    transport: Transport,
    #[serde(default = "yes")]
    analyse: bool,
    days: Option<u32>,
    max_bytes: Option<u64>,
    #[serde(default)]
    ignore: Vec<Vec<(f64, f64)>>,
}

impl Default for RawRetention {
    fn default() -> Self {
        Self { days: seven(), max_bytes: None }
    }
}

fn seven() -> u32 {
    7
}

fn tcp() -> Transport {
    Transport::Tcp
}

fn yes() -> bool {
    true
}

/// Collects what is wrong.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, key: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Problem { key: key.into(), problem: problem.into(), remedy: remedy.into() });
    }

    fn days(&mut self, key: String, days: u32) {
        if !(1..=7).contains(&days) {
            let remedy = "choose 1 to 7: urban security footage is kept seven days at most (art. 6 D.L. 11/2009)";
            self.add(key, format!("is {days}"), remedy);
        }
    }

    fn max_bytes(&mut self, key: String, max_bytes: Option<u64>) {
        if max_bytes.is_some_and(|bytes| bytes < LEAST_BYTES) {
            self.add(key, "is less than 1 GiB", format!("give at least {LEAST_BYTES}, or leave it out"));
        }
    }

    fn text(&mut self, key: String, text: &str, required: bool) {
        if required && text.trim().is_empty() {
            self.add(key, "is empty", "give it a name people recognise");
        } else if text.chars().count() > MAX_TEXT || text.chars().any(char::is_control) {
            self.add(
                key,
                "is too long or holds control characters",
                format!("use at most {MAX_TEXT} printable characters"),
            );
        }
    }
}

impl RawConfig {
    pub(super) fn check(self, base: &Path) -> Result<Config, Vec<Problem>> {
        let mut problems = Problems::default();
        if self.config_version != CONFIG_VERSION {
            problems.add(
                "config_version",
                format!("is {}", self.config_version),
                format!("this version reads config_version = {CONFIG_VERSION}"),
            );
        }
        problems.text("name".into(), &self.name, true);
        for (key, path) in [("state_dir", &self.state_dir), ("media_dir", &self.media_dir)] {
            if path.as_os_str().is_empty() {
                problems.add(key, "is empty", "name a folder, such as \"/var/lib/campanile\"");
            }
        }
        problems.days("retention.days".into(), self.retention.days);
        problems.max_bytes("retention.max_bytes".into(), self.retention.max_bytes);
        if self.camera.len() > MAX_CAMERAS {
            problems.add(
                "camera",
                format!("{} cameras", self.camera.len()),
                format!("a box takes at most {MAX_CAMERAS}: share them among several boxes"),
            );
        }
        let cameras = check_cameras(self.camera, &self.retention, base, &mut problems);
        if !problems.0.is_empty() {
            return Err(problems.0);
        }
        Ok(Config {
            name: self.name,
            state_dir: base.join(self.state_dir),
            media_dir: base.join(self.media_dir),
            record_in_clear: self.record_in_clear,
            retention: Retention { days: self.retention.days, max_bytes: self.retention.max_bytes },
            cameras,
        })
    }
}

fn check_cameras(
    raw: Vec<RawCamera>,
    retention: &RawRetention,
    base: &Path,
    problems: &mut Problems,
) -> Vec<CameraConfig> {
    let mut cameras: Vec<CameraConfig> = Vec::with_capacity(raw.len());
    for (index, camera) in raw.into_iter().enumerate() {
        let key = |field: &str| format!("camera[{index}].{field}");
        if cameras.iter().any(|other| other.name == camera.name) {
            problems.add(key("name"), format!("\"{}\" is used twice", camera.name), "give each camera its own name");
        }
        check_retention(&camera, retention, problems, &key);
        cameras.push(check_camera(camera, base, problems, &key));
    }
    cameras
}

/// A camera's rule is within the box's.
fn check_retention(raw: &RawCamera, of_box: &RawRetention, problems: &mut Problems, key: &dyn Fn(&str) -> String) {
    match raw.days {
        Some(days) if (1..=7).contains(&days) && days > of_box.days => {
            let problem = format!("is {days}, and retention.days {}", of_box.days);
            problems.add(
                key("days"),
                problem,
                "a camera's days shorten the box's: raise retention.days, or lower these",
            );
        }
        Some(days) => problems.days(key("days"), days),
        None => {}
    }
    problems.max_bytes(key("max_bytes"), raw.max_bytes);
}

fn check_camera(raw: RawCamera, base: &Path, problems: &mut Problems, key: &dyn Fn(&str) -> String) -> CameraConfig {
    problems.text(key("name"), &raw.name, true);
    problems.text(key("site"), &raw.site, false);
    problems.text(key("address"), &raw.address, false);
    check_address(key("main"), &raw.main, problems);
    if let Some(sub) = &raw.sub {
        check_address(key("sub"), sub, problems);
    }
    let (latitude, longitude) = match (raw.latitude, raw.longitude) {
        (Some(lat), Some(lon)) if lat.abs() <= 90.0 && lon.abs() <= 180.0 => (lat, lon),
        (None, None) => (0.0, 0.0),
        _ => {
            problems.add(
                key("latitude"),
                "latitude and longitude do not name a place",
                "give both in degrees (WGS 84), such as 43.8807 and 11.0966, or neither",
            );
            (0.0, 0.0)
        }
    };
    let ignore = ignored(&raw.ignore, problems, key);
    let password = password(&raw, base, problems, key);
    if password.is_some() != raw.username.is_some() {
        problems.add(
            key("username"),
            "a username needs a password and the other way round",
            "give username and one of password_file and password_env, or none of them",
        );
    }
    CameraConfig {
        name: raw.name,
        site: raw.site,
        address: raw.address,
        latitude,
        longitude,
        main: raw.main,
        sub: raw.sub,
        username: raw.username,
        password,
        transport: raw.transport,
        analyse: raw.analyse,
        days: raw.days,
        max_bytes: raw.max_bytes,
        ignore,
    }
}

/// Cells touched by any of the polygons.
fn ignored(polygons: &[Vec<(f64, f64)>], problems: &mut Problems, key: &dyn Fn(&str) -> String) -> CellSet {
    let mut cells = CellSet::EMPTY;
    let inside = |&(x, y): &(f64, f64)| (0.0..=1.0).contains(&x) && (0.0..=1.0).contains(&y);
    if polygons.len() > MAX_POLYGONS {
        problems.add(key("ignore"), "holds too many areas", format!("draw at most {MAX_POLYGONS}"));
    }
    for polygon in polygons.iter().take(MAX_POLYGONS) {
        if !(3..=MAX_POINTS).contains(&polygon.len()) || !polygon.iter().all(inside) {
            problems.add(
                key("ignore"),
                "holds an area that is no polygon of the picture",
                format!("give 3 to {MAX_POINTS} points [x, y], fractions of width and height from 0.0 to 1.0"),
            );
            break;
        }
        cells.union(&CellSet::touched_by(polygon));
    }
    if cells == CellSet::FULL {
        problems.add(key("ignore"), "leaves nothing to look at", "draw less, or set analyse = false");
    }
    cells
}

fn password(raw: &RawCamera, base: &Path, problems: &mut Problems, key: &dyn Fn(&str) -> String) -> Option<Secret> {
    let found = match (&raw.password_file, &raw.password_env) {
        (Some(_), Some(_)) => {
            problems.add(key("password_file"), "stands beside password_env", "keep one of the two");
            return None;
        }
        (Some(path), None) => read_password(&base.join(path))
            .map_err(|(problem, remedy)| (key("password_file"), format!("{} {problem}", path.display()), remedy)),
        (None, Some(name)) => std::env::var(name).map_err(|_| {
            (key("password_env"), format!("the variable {name} is not set"), "set it in the service's environment")
        }),
        (None, None) => return None,
    };
    match found {
        Ok(password) if !password.is_empty() => return Some(Secret::new(password)),
        Ok(_) => problems.add(key("password_file"), "the password is empty", "write it in the file's first line"),
        Err((key, problem, remedy)) => problems.add(key, problem, remedy),
    }
    None
}

/// The file's first line; refused when anybody beyond its owner and group can open it. A service reads its secrets as
/// a group of its own (`root:campanile-edge 0640`).
fn read_password(path: &Path) -> Result<String, (String, &'static str)> {
    let read = |error: std::io::Error| (format!("cannot be read: {error}"), "make it readable to this user, mode 0600");
    let mut file = std::fs::File::open(path).map_err(read)?;
    let mode = file.metadata().map_err(read)?.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        let problem = format!("has mode {mode:04o}: every user of this machine can open it");
        return Err((problem, "chmod 0600 it, or 0640 with a group of its own, and change the password"));
    }
    let mut text = String::new();
    file.by_ref().take(MAX_PASSWORD_FILE).read_to_string(&mut text).map_err(read)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Never repeats the address: it may hold a password.
fn check_address(key: String, address: &str, problems: &mut Problems) {
    let Some(rest) = address.strip_prefix("rtsp://").or_else(|| address.strip_prefix("rtsps://")) else {
        return problems.add(key, "is no RTSP address", "write rtsp://host:port/path");
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    if rest.contains('@') {
        return problems.add(
            key,
            "holds a user or password",
            "take them out of the address: use username and password_file (mode 0600) or password_env",
        );
    }
    let host = authority.rsplit_once(':').map_or(authority, |(host, port)| {
        if port.parse::<u16>().is_err() && !authority.ends_with(']') { "" } else { host }
    });
    let clean = address.len() <= MAX_ADDRESS && address.chars().all(|c| c.is_ascii_graphic());
    if host.is_empty() || !clean {
        problems.add(key, "names no host and port, or holds spaces or odd characters", "write rtsp://host:port/path");
    }
}

#[cfg(test)]
mod tests;
