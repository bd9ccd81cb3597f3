//! One box as a process.

use crate::process::{Process, run_to_end_at};
use crate::roster::{BoxPlan, Camera, Picture, SceneSize, to_toml};
use crate::simcam::{Simcam, write_private};
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::path::{Path, PathBuf};

pub struct EdgeBox {
    pub plan: BoxPlan,
    pub folder: PathBuf,
    pub process: Option<Process>,
    /// A wall clock that is off, see [`Process::start_at`].
    pub wall: Option<String>,
}

#[derive(Serialize)]
struct Configuration {
    config_version: u32,
    name: String,
    state_dir: PathBuf,
    media_dir: PathBuf,
    camera: Vec<CameraTable>,
}

#[derive(Serialize)]
struct CameraTable {
    name: String,
    site: String,
    address: String,
    latitude: f64,
    longitude: f64,
    main: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    username: String,
    password_file: PathBuf,
    transport: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ignore: Vec<Vec<(f64, f64)>>,
}

/// Where a generated scene carries its strip, as a real camera its clock: bottom left of the sub-stream.
fn strip_area(size: SceneSize) -> Vec<(f64, f64)> {
    let (width, height) = size.sub_stream();
    let (_, top, strip_width, _) = campanile_sim::strip::area(width, height);
    let (top, right) = (top as f64 / height as f64, strip_width as f64 / width as f64);
    vec![(0.0, top), (right, top), (right, 1.0), (0.0, 1.0)]
}

impl EdgeBox {
    /// Writes the box's configuration and secrets into `folder`.
    pub fn prepare(plan: BoxPlan, folder: PathBuf, simcam: Option<&Simcam>) -> Result<Self> {
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let cameras = plan.cameras.iter().map(|camera| table(camera, &folder, simcam)).collect::<Result<_>>()?;
        let text = to_toml(&Configuration {
            config_version: 1,
            name: plan.name.clone(),
            state_dir: folder.join("state"),
            media_dir: folder.join("media"),
            camera: cameras,
        })?;
        write_private(&folder.join("edge.toml"), &text)?;
        Ok(Self { plan, folder, process: None, wall: None })
    }

    pub fn config(&self) -> String {
        self.folder.join("edge.toml").to_string_lossy().into_owned()
    }

    /// Uses up `token`; the error is what an installer reads.
    pub fn enrol(&self, token: &str) -> Result<()> {
        let file = self.folder.join("token");
        write_private(&file, token)?;
        let file_text = file.to_string_lossy().into_owned();
        let output = run_to_end_at(
            "campanile-edge",
            &["enrol", "--config", &self.config(), "--token-file", &file_text],
            self.wall.as_deref(),
        )?;
        std::fs::remove_file(&file).context("cannot remove the token")?;
        if !output.status.success() {
            bail!("enrolment of {} ended with {}: {}", self.plan.name, output.status, text(&output.stderr));
        }
        Ok(())
    }

    pub fn start(&mut self) -> Result<()> {
        let log = self.folder.join("edge.log");
        self.process = Some(Process::start_at(
            "campanile-edge",
            &["run", "--config", &self.config()],
            &log,
            self.wall.as_deref(),
        )?);
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("the box does not run")?.kill()
    }

    /// An orderly end.
    pub fn end(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.end()?;
        }
        Ok(())
    }
}

/// Output as text for a message.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

fn table(camera: &Camera, folder: &Path, simcam: Option<&Simcam>) -> Result<CameraTable> {
    let (main, sub, username, password) = match &camera.picture {
        Picture::Real { main, sub, username, password } => {
            (main.clone(), sub.clone(), username.clone(), password.clone())
        }
        Picture::Scene { .. } | Picture::Clip(_) => {
            let simcam = simcam.context("simulated cameras are needed and none are served")?;
            let (served, password) = simcam.camera(&camera.key)?;
            let (main, sub) = (served.main_url.clone(), Some(served.sub_url.clone()));
            (main, sub, served.username.clone(), password.to_owned())
        }
    };
    let password_file = folder.join(format!("{}.password", camera.key));
    write_private(&password_file, &password)?;
    Ok(CameraTable {
        name: camera.name.clone(),
        site: camera.site.clone(),
        address: camera.address.clone(),
        latitude: camera.latitude,
        longitude: camera.longitude,
        main,
        sub,
        username,
        password_file,
        ignore: match &camera.picture {
            Picture::Scene { size, .. } => vec![strip_area(*size)],
            Picture::Clip(_) | Picture::Real { .. } => Vec::new(),
        },
        transport: camera.transport,
    })
}
