//! The simulated cameras as a process of their own.

use crate::process::Process;
use crate::roster::{Camera, Picture, SceneSize, to_toml};
use crate::until::until;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Encoding eight scenes for the first time, on one slow core.
const READY_WITHIN: Duration = Duration::from_secs(600);

const READY: &str = "ready.json";

/// What `campanile-simcam` says of a camera once it serves.
#[derive(Debug, Clone, Deserialize)]
pub struct Served {
    pub name: String,
    pub main_url: String,
    pub sub_url: String,
    pub username: String,
    /// What is really there to be seen; none for a film.
    pub truth: Option<PathBuf>,
}

pub struct Simcam {
    pub process: Process,
    pub served: Vec<Served>,
    pub logs: PathBuf,
    folder: PathBuf,
    password: String,
}

#[derive(Serialize)]
struct Configuration<'a> {
    listen: &'a str,
    log_dir: &'a Path,
    cache_dir: &'a Path,
    ready_file: &'a Path,
    camera: Vec<CameraTable<'a>>,
}

#[derive(Serialize)]
struct CameraTable<'a> {
    name: &'a str,
    number: u32,
    username: &'a str,
    password: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    codec: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scene: Option<SceneTable<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<FileTable<'a>>,
}

#[derive(Serialize)]
struct SceneTable<'a> {
    seed: u64,
    light: &'a str,
    activity: &'a str,
    #[serde(flatten)]
    unlike: Option<Sizes>,
}

/// Of a scene that is not the simulator's usual one.
#[derive(Serialize)]
struct Sizes {
    main_width: u32,
    main_height: u32,
    main_fps: u32,
    sub_width: u32,
    sub_height: u32,
    sub_fps: f64,
    loop_s: f64,
}

const SLOW: Sizes = Sizes {
    main_width: 1280,
    main_height: 720,
    main_fps: 12,
    sub_width: 640,
    sub_height: 360,
    sub_fps: 6.0,
    loop_s: 40.0,
};

const SMALL: Sizes = Sizes {
    main_width: 640,
    main_height: 360,
    main_fps: 10,
    sub_width: 320,
    sub_height: 180,
    sub_fps: 5.0,
    loop_s: 16.0,
};

#[derive(Serialize)]
struct FileTable<'a> {
    main: &'a Path,
}

impl Simcam {
    /// Serves the scenes and clips among `cameras` from `folder`; scenes are kept in `cache`.
    pub fn start(folder: &Path, cache: &Path, cameras: &[Camera]) -> Result<Self> {
        let (logs, ready) = (folder.join("logs"), folder.join(READY));
        std::fs::create_dir_all(&logs).context("cannot make the cameras' folder")?;
        std::fs::create_dir_all(cache).context("cannot make the scenes' folder")?;
        let password = fresh_password()?;
        let config = folder.join("simcam.toml");
        let tables = cameras.iter().filter_map(|camera| table(camera, &password)).collect();
        let text = to_toml(&Configuration {
            listen: "127.0.0.1:0",
            log_dir: &logs,
            cache_dir: cache,
            ready_file: &ready,
            camera: tables,
        })?;
        write_private(&config, &text)?;
        let (process, served) = serve(folder)?;
        Ok(Self { process, served, logs, folder: folder.to_owned(), password })
    }

    /// SIGKILL, and the same cameras again at the same addresses.
    pub fn kill_and_restart(&mut self) -> Result<()> {
        self.process.kill()?;
        let config = self.folder.join("simcam.toml");
        let text = std::fs::read_to_string(&config).context("cannot read the cameras' configuration")?;
        let mut table: toml::Table = toml::from_str(&text).context("the cameras' configuration is not TOML")?;
        let served = self.served.first().context("no camera is served")?;
        let address = served.main_url.trim_start_matches("rtsp://").split('/').next().unwrap_or_default();
        table.insert("listen".to_owned(), toml::Value::String(address.to_owned()));
        write_private(&config, &toml::to_string(&table)?)?;
        (self.process, self.served) = serve(&self.folder)?;
        Ok(())
    }

    /// Addresses and sign-in of one camera.
    pub fn camera(&self, key: &str) -> Result<(&Served, &str)> {
        let served = self.served.iter().find(|served| served.name == key);
        Ok((served.with_context(|| format!("no simulated camera {key}"))?, &self.password))
    }

    /// The log of every access unit sent.
    pub fn log(&self, key: &str, stream: &str) -> PathBuf {
        self.logs.join(format!("{key}.{stream}.log"))
    }
}

/// Starts the process and waits until every camera answers.
fn serve(folder: &Path) -> Result<(Process, Vec<Served>)> {
    let ready = folder.join(READY);
    let _ = std::fs::remove_file(&ready);
    let config = folder.join("simcam.toml").to_string_lossy().into_owned();
    let mut process = Process::start("campanile-simcam", &["serve", "--config", &config], &folder.join("simcam.log"))?;
    until("the simulated cameras serve", READY_WITHIN, || {
        process.still_runs().map_err(|error| format!("{error:#}"))?;
        if ready.exists() { Ok(()) } else { Err(process.last_line()) }
    })?;
    let served = std::fs::read(&ready).context("cannot read the cameras' addresses")?;
    Ok((process, serde_json::from_slice(&served).context("the cameras' addresses are not as agreed")?))
}

fn table<'a>(camera: &'a Camera, password: &'a str) -> Option<CameraTable<'a>> {
    let (scene, file) = match &camera.picture {
        Picture::Scene { seed, light, activity, size } => {
            let unlike = match size {
                SceneSize::Full => None,
                SceneSize::Slow => Some(SLOW),
                SceneSize::Small => Some(SMALL),
            };
            (Some(SceneTable { seed: *seed, light, activity, unlike }), None)
        }
        Picture::Clip(path) => (None, Some(FileTable { main: path })),
        Picture::Real { .. } => return None,
    };
    Some(CameraTable {
        name: &camera.key,
        number: camera.number,
        username: "campanile",
        password,
        codec: scene.is_some().then_some(camera.codec),
        scene,
        file,
    })
}

/// 128 random bits as text.
pub fn fresh_password() -> Result<String> {
    Ok(uuid::Uuid::new_v4().simple().to_string())
}

/// Writes a file that only its owner reads.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    let _ = std::fs::remove_file(path);
    let mut file = std::fs::File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}
