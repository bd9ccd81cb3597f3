//! Simulated cameras on the command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use campanile_sim::audit::{AuditReport, audit};
use campanile_sim::config::{self, ConfigError};
use campanile_sim::scene::{Activity, Light, SceneParams};
use campanile_sim::server::SimServer;
use campanile_sim::units::Codec;
use campanile_sim::{decode, journal, program, units};
use clap::{Args, Parser, Subcommand, ValueEnum};
use nix::sys::signal::{SigSet, Signal};

/// EX_USAGE of sysexits(3): the configuration is refused.
const REFUSED: u8 = 64;

#[derive(Debug, Parser)]
#[command(name = "campanile-simcam", version, about = "Simulated RTSP cameras that log every access unit they send")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Serve the cameras of a configuration file until SIGTERM
    Serve {
        /// TOML, mode 0600
        #[arg(long)]
        config: PathBuf,
    },
    /// Render a scene into MP4 files with its ground truth
    Render(Render),
    /// Print time, camera number and frame counter of every frame of a video
    Read {
        /// Any video file
        file: PathBuf,
        /// One JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Compare a recording with the log of what was sent; exit 0 when exact, 1 otherwise
    Audit(Audit),
}

#[derive(Debug, Args)]
struct Render {
    #[arg(long)]
    seed: u64,
    #[arg(long, default_value_t = 1)]
    number: u16,
    #[arg(long, value_enum, default_value = "day")]
    light: CliLight,
    #[arg(long, value_enum, default_value = "normal")]
    activity: CliActivity,
    #[arg(long, value_enum, default_value = "h264")]
    codec: CliCodec,
    #[arg(long, default_value_t = 40)]
    loop_s: u32,
    /// Folder for the files
    #[arg(long)]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct Audit {
    /// A camera's log
    #[arg(long)]
    log: PathBuf,
    /// The recording, MP4 or fragmented MP4
    #[arg(long)]
    file: PathBuf,
    /// Wall time from which every unit is expected, UTC microseconds
    #[arg(long, requires = "to_us")]
    from_us: Option<i64>,
    /// Wall time up to which every unit is expected, UTC microseconds
    #[arg(long, requires = "from_us")]
    to_us: Option<i64>,
    /// Client number in the log; the best matching one when absent
    #[arg(long)]
    client: Option<u64>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CliLight {
    Day,
    Night,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CliActivity {
    Quiet,
    Normal,
    Busy,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CliCodec {
    H264,
    H265,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false).init();
    let outcome = match Cli::parse().task {
        Task::Serve { config } => serve(&config),
        Task::Render(render) => render_scene(&render),
        Task::Read { file, json } => read(&file, json),
        Task::Audit(request) => compare(&request),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("campanile-simcam: {error:#}");
        let refused = error.downcast_ref::<ConfigError>().is_some();
        ExitCode::from(if refused { REFUSED } else { 1 })
    })
}

fn serve(path: &Path) -> anyhow::Result<ExitCode> {
    // Before any thread starts, so that all of them leave these signals to the wait below.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().context("cannot block signals")?;
    let config = config::load(path)?;
    let ready_file = config.ready_file.clone();
    let server = SimServer::start(config)?;
    for camera in server.cameras() {
        tracing::info!(camera = %camera.name, main = %camera.main_url, sub = %camera.sub_url, "serving");
    }
    let signal = signals.wait().context("cannot wait for signals")?;
    tracing::info!(%signal, "stopping");
    server.stop();
    if let Some(path) = ready_file {
        // Nobody should find cameras by it any more; if it is gone already, so much the better.
        let _ = std::fs::remove_file(path);
    }
    Ok(ExitCode::SUCCESS)
}

fn render_scene(request: &Render) -> anyhow::Result<ExitCode> {
    let light = match request.light {
        CliLight::Day => Light::Day,
        CliLight::Night => Light::Night,
    };
    let codec = match request.codec {
        CliCodec::H264 => Codec::H264,
        CliCodec::H265 => Codec::H265,
    };
    let mut params = SceneParams::new(request.number, request.seed, light);
    params.activity = match request.activity {
        CliActivity::Quiet => Activity::Quiet,
        CliActivity::Normal => Activity::Normal,
        CliActivity::Busy => Activity::Busy,
    };
    let frames = request.loop_s.clamp(2, 3_600) * params.main_fps;
    params.loop_frames = frames - frames % params.sub_every;
    let rendered = program::render(&params, codec, &request.out)?;
    for path in [rendered.main, rendered.sub, rendered.truth] {
        println!("{}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path, json: bool) -> anyhow::Result<ExitCode> {
    for frame in decode::read_marks(file)? {
        if json {
            println!("{}", serde_json::to_string(&frame)?);
            continue;
        }
        let seconds = frame.pts_90k as f64 / 90_000.0;
        match frame.mark {
            Some(mark) => println!("{seconds:.4} {} {}", mark.camera, mark.frame),
            None => println!("{seconds:.4} unreadable"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn compare(request: &Audit) -> anyhow::Result<ExitCode> {
    let lines = journal::read_log(&request.log)?;
    let file = units::read_mp4(&request.file)?;
    let clients: std::collections::BTreeSet<u64> = match request.client {
        Some(client) => [client].into(),
        None => lines.iter().map(|line| line.client).collect(),
    };
    let mut best: Option<(u64, AuditReport)> = None;
    for client in clients {
        let own: Vec<_> = lines.iter().filter(|line| line.client == client).cloned().collect();
        let report = audit(&own, &file, request.from_us, request.to_us);
        let better = |known: &AuditReport| {
            let score = |report: &AuditReport| report.found as i64 - report.missing.len() as i64;
            score(&report) > score(known)
        };
        if best.as_ref().is_none_or(|(_, known)| better(known)) {
            best = Some((client, report));
        }
    }
    let (client, report) = best.context("the log holds no client")?;
    if request.json {
        println!("{}", serde_json::json!({ "client": client, "exact": report.is_exact(), "report": report }));
    } else {
        println!(
            "client {client}: expected {}, found {}, missing {}, foreign {}, out of order {}",
            report.expected,
            report.found,
            report.missing.len(),
            report.foreign.len(),
            report.out_of_order
        );
    }
    Ok(if report.is_exact() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
