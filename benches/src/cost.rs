//! What a box takes of the machine, part by part, beside what others take on the same cameras.

use crate::contender::{Contender, Running};
use crate::measured::{micro_minutes, sent_bytes};
use crate::usage::{Threads, Usage};
use anyhow::{Context, Result, ensure};
use campanile_proto::segment::{Record, SegmentKey, suite_for_this_machine};
use campanile_proto::types::v1::RecordKind;
use campanile_tests::demo::micros_now;
use campanile_tests::rig::Rig;
use campanile_tests::roster::{Camera, Picture, SceneSize, two_towns};
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::time::Duration;

/// Connecting, first key frames, buffers that fill, a first word of the analysis.
const WARM_UP: Duration = Duration::from_secs(12);
/// One second of a 2 Mbit/s stream.
const FRAGMENT_BYTES: usize = 250_000;
const SEALINGS: u32 = 200;

/// One contender with so many cameras, once. Times are processor seconds a camera and minute.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub contender: &'static str,
    pub cameras: usize,
    pub sub_stream: &'static str,
    pub cpu_s: f64,
    /// Of the box alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// A camera: pages that processes share divided among them, and counted in each of them.
    pub pss_mib: f64,
    pub rss_mib: f64,
}

/// Where a box's time goes.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Split {
    /// Receiving, units, handing them on; reports and control on the same threads.
    pub ingest: f64,
    /// Fragments, boxes, writing, bringing to disk.
    pub record: f64,
    /// By the bytes received and the cost of a byte, measured in the same run: cipher, chain, checksum.
    pub seal: f64,
    pub decode: f64,
    /// Motion, events, thumbnails.
    pub detect: f64,
    /// The box's database.
    pub index: f64,
    pub rest: f64,
}

/// What is measured: how many cameras, how many pictures their sub-streams have.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub cameras: usize,
    pub slow: bool,
}

fn cameras(setting: Setting) -> Vec<Camera> {
    let boxes = two_towns().into_iter().flat_map(|town| town.boxes);
    let mut cameras: Vec<Camera> = boxes.flat_map(|one| one.cameras).take(setting.cameras).collect();
    for camera in &mut cameras {
        if let Picture::Scene { size, .. } = &mut camera.picture
            && setting.slow
        {
            *size = SceneSize::Slow;
        }
    }
    cameras
}

/// Every contender in every setting, one after the other.
pub fn run(settings: &[Setting], seconds: u64, told: impl Fn(&Row)) -> Result<Vec<Row>> {
    let seal_s_per_byte = sealing()?;
    let mut rows = Vec::new();
    for &setting in settings {
        let cameras = cameras(setting);
        ensure!(
            setting.cameras > 0 && cameras.len() == setting.cameras,
            "there are {} cameras, not {}",
            cameras.len(),
            setting.cameras
        );
        for contender in Contender::WITH_MOTION {
            let row = measure(contender, setting, &cameras, Duration::from_secs(seconds), seal_s_per_byte)?;
            told(&row);
            rows.push(row);
        }
    }
    Ok(rows)
}

/// Processor seconds a byte on this machine, in a process like the box's.
fn sealing() -> Result<f64> {
    let plain: Vec<u8> = (0..FRAGMENT_BYTES).map(|at| (at * 31 % 251) as u8).collect();
    let key = SegmentKey::random().context("no random bytes")?;
    let now = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).context("a thread has a clock");
    let began = now()?;
    for index in 0..SEALINGS {
        let sealed = key.seal(suite_for_this_machine().into(), index, b"header", &plain)?;
        let record =
            Record::following(&[7; 32], RecordKind::Fragment, bytes::Bytes::from_static(b"header"), sealed.into());
        std::hint::black_box(record.encode());
    }
    Ok(now()?.saturating_sub(began).as_secs_f64() / f64::from(SEALINGS) / FRAGMENT_BYTES as f64)
}

/// At one moment.
struct Taken {
    at_us: i64,
    usage: Usage,
    threads: Threads,
}

fn taken(running: &Running) -> Result<Taken> {
    let (mut usage, mut threads) = (Usage::default(), Threads::default());
    for pid in running.processes()? {
        usage = usage.plus(Usage::of_tree(pid)?);
        threads.add(pid);
    }
    Ok(Taken { at_us: micros_now()?, usage, threads })
}

fn measure(
    contender: Contender,
    setting: Setting,
    cameras: &[Camera],
    lasts: Duration,
    seal_s_per_byte: f64,
) -> Result<Row> {
    let rig = Rig::serving(cameras)?;
    let running = contender.start(&rig, cameras)?;
    std::thread::sleep(WARM_UP);
    let before = taken(&running)?;
    std::thread::sleep(lasts);
    let after = taken(&running)?;
    let analysed = running.analysed()?;
    running.end()?;
    let camera_minutes = micro_minutes(before.at_us, after.at_us) * cameras.len() as f64;
    let a_camera_minute = |time: Duration| time.as_secs_f64() / camera_minutes;
    let cpu_s = a_camera_minute(after.usage.processor.saturating_sub(before.usage.processor));
    let split = (contender == Contender::Campanile).then(|| -> Result<Split> {
        let thread = |name: &str| a_camera_minute(after.threads.of(name).saturating_sub(before.threads.of(name)));
        let child = a_camera_minute(after.threads.children.saturating_sub(before.threads.children));
        let bytes = sent_bytes(&rig, cameras, before.at_us, after.at_us)?;
        let seal = bytes as f64 * seal_s_per_byte / camera_minutes;
        let [ingest, recorder, index] = ["tokio-rt-worker", "recorder", "index"].map(thread);
        let (decode, detect) = (child * analysed.decode_share(), child * analysed.look_share());
        let record = recorder - seal;
        let rest = cpu_s - ingest - recorder - index - decode - detect;
        Ok(Split { ingest, record, seal, decode, detect, index, rest })
    });
    let mib_a_camera = |bytes: u64| bytes as f64 / cameras.len() as f64 / f64::from(1 << 20);
    Ok(Row {
        contender: contender.name(),
        cameras: cameras.len(),
        sub_stream: if setting.slow { "640x360 at 6/s" } else { "640x360 at 15/s" },
        cpu_s,
        split: split.transpose()?,
        pss_mib: mib_a_camera(after.usage.proportional_bytes),
        rss_mib: mib_a_camera(after.usage.resident_bytes),
    })
}
