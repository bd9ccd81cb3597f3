//! Boxes whose clocks are wrong, and boxes that were long away, come back without a visit.

use anyhow::{Context, Result, ensure};
use campanile_proto::ids::BootId;
use campanile_proto::time::{Clock, MICROS_PER_HOUR, MonoTime, SystemClock, WallTime};
use campanile_tests::demo::{micros_now, rfc3339};
use campanile_tests::edge_box::EdgeBox;
use campanile_tests::proof::audit;
use campanile_tests::rig::{Rig, SOON, camera_id, one_box, play_newest, small_camera, wait_for_edge, wait_for_events};
use campanile_tests::town::Town;
use campanile_tests::until::until;
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Sending, arrival and the smoothing of the time line at the edges of an interval.
const SLACK_US: i64 = 300_000;

/// What the camera sends now is recorded, told with true times, and played whole.
fn records_in_true_time(rig: &Rig, town: &Town) -> Result<()> {
    let camera = &town.plan.boxes[0].cameras[0];
    let began = micros_now()?;
    let events = campanile_tests::rig::wait_for_more_events(town, "an event of this minute", |events| {
        events.values().any(|hit| {
            campanile_tests::rig::micros(&hit["start"]).is_ok_and(|start| (began - 60_000_000..).contains(&start))
        })
    })?;
    ensure!(!events.is_empty(), "no event");
    let file = rig.path("now.mp4");
    let (from, to) = play_newest(town, town, &camera_id(town, &camera.name)?, 4, &file)?;
    let own = audit(&rig.simcam.log(&camera.key, "main"), &file, from + SLACK_US, to - SLACK_US)?;
    ensure!(own.is_exact(), "{own:?}");
    Ok(())
}

/// A box enrolled today whose clock then says `wall`.
fn comes_back_with_its_clock_at(wall: &str) -> Result<()> {
    let camera = small_camera("uno", 1, "h264");
    let rig = Rig::serving(std::slice::from_ref(&camera))?;
    let mut town = rig.running_town("prato", one_box("cabinet", &[camera]))?;
    wait_for_events(&town, 1)?;
    town.boxes[0].end()?;
    wait_for_edge(&town, "cabinet", "away", |row| row["connected"] == false)?;
    town.boxes[0].wall = Some(wall.to_owned());
    town.boxes[0].start()?;
    wait_for_edge(&town, "cabinet", "back", |row| row["connected"] == true)?;
    records_in_true_time(&rig, &town)
}

#[test]
fn a_box_whose_clock_is_dead_comes_back_and_records_in_true_time() -> Result<()> {
    comes_back_with_its_clock_at("@1970-01-02 00:00:00")
}

#[test]
fn a_box_whose_clock_is_in_2040_comes_back_and_records_in_true_time() -> Result<()> {
    comes_back_with_its_clock_at("@2040-06-01 12:00:00")
}

/// The wall clock some days ago, in a boot of its own.
struct Past {
    days: i64,
    boot: BootId,
    now: SystemClock,
}

impl Clock for Past {
    fn utc(&self) -> WallTime {
        self.now.utc().plus_micros(-self.days * 24 * MICROS_PER_HOUR)
    }

    fn mono(&self) -> MonoTime {
        self.now.mono()
    }

    fn boot(&self) -> BootId {
        self.boot
    }
}

/// Hub and box live for a moment `days` ago, in this process; the box is enrolled then.
fn lived_then(town: &mut Town, edge: &mut EdgeBox, days: i64) -> Result<()> {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let past = || Arc::new(Past { days, boot: BootId::random(), now: SystemClock::new() });
    let runtime = tokio::runtime::Runtime::new()?;
    let config = hub::config::load(Path::new(&town.config())).map_err(|problems| anyhow::anyhow!("{problems}"))?;
    let (stop_hub, stop_edge) = (CancellationToken::new(), CancellationToken::new());
    let hub = runtime.spawn(hub::hub::run(config, past(), stop_hub.clone(), |_| ()));
    until("the hub of the past serves", SOON, || town.addresses().map_err(|error| format!("{error:#}")))?;
    town.keeps_its_ports()?;
    edge.wall = Some(format!("-{days}d"));
    edge.enrol(&town.token(&edge.plan.name)?)?;
    edge.wall = None;
    let config = edge_agent::config::Config::load(Path::new(&edge.config()))?;
    let running = runtime.spawn(edge_agent::agent::run(config, past(), stop_edge.clone()));
    wait_for_edge(town, &edge.plan.name, "connected", |row| row["connected"] == true)?;
    stop_edge.cancel();
    runtime.block_on(running)??;
    stop_hub.cancel();
    runtime.block_on(hub)??;
    Ok(())
}

/// The box is off since `days` ago; its hub was off too, and somebody says that its clock is right.
fn comes_back_after(days: i64) -> Result<String> {
    let camera = small_camera("uno", 1, "h264");
    let rig = Rig::serving(std::slice::from_ref(&camera))?;
    let plan = one_box("cabinet", &[camera]);
    let mut edge = EdgeBox::prepare(plan[0].clone(), rig.path("cabinet"), Some(&rig.simcam))?;
    let mut town = rig.prepared_town("prato", plan)?;
    lived_then(&mut town, &mut edge, days)?;

    town.start_hub()?;
    edge.start()?;
    wait_for_edge(&town, "cabinet", "back", |row| row["connected"] == true)?;
    town.command(&["clock", "confirm", &rfc3339(micros_now()?)])?;
    town.boxes.push(edge);
    records_in_true_time(&rig, &town)?;
    Ok(town.boxes[0].process.as_ref().context("it runs")?.log())
}

#[test]
fn a_box_that_was_off_for_90_days_comes_back() -> Result<()> {
    let log = comes_back_after(90)?;
    ensure!(!log.contains("certificate renewed"), "a certificate is good for longer:\n{log}");
    Ok(())
}

#[test]
fn a_box_whose_certificate_expired_in_a_drawer_renews_it_and_comes_back() -> Result<()> {
    let log = comes_back_after(740)?;
    ensure!(log.contains("certificate renewed"), "{log}");
    Ok(())
}
