//! One box and its kills, one after the other.

use super::journals::Journals;
use super::ledger::{Ledger, Life, Sight};
use super::plan::{Aim, Fault, Point, Trigger, fault};
use crate::shim::{Acted, Shim, acted};
use crate::subject::{Subject, pause_until, used_bytes};
use anyhow::{Context, Result};
use campanile_proto::time::WallTime;
use campanile_tests::demo::micros_now;
use campanile_tests::simcam::Simcam;
use edge_agent::record::store::hour_name;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Longest that a box may take to come to its point; then it is killed from outside.
const COMES_WITHIN: Duration = Duration::from_secs(12);
/// Of the disk, unless a deletion is wanted.
const DISK_BYTES: u64 = 64 << 20;
/// A box that is killed while it starts is killed within this.
const STARTING_US: i64 = 3_000_000;

/// One kill and what came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    pub number: u64,
    pub point: Point,
    /// The box came to its point and was killed there by itself.
    pub hit: bool,
    /// What acted, with the path below the box's folder.
    pub rule: String,
    pub path: String,
    pub sealed: bool,
    /// Largest of the streams.
    pub lost_us: i64,
    /// Of footage that was readable before, or in the middle of a run.
    pub older_lost_us: i64,
    /// Until the first stream has footage on the disk again, and until all have.
    pub first_again_us: i64,
    pub again_us: i64,
    pub streams: usize,
    pub units: usize,
    pub segments: usize,
    pub problems: Vec<String>,
}

pub struct Round {
    pub subject: Subject,
    pub restless: Simcam,
    /// Name of the restless camera in `edge.toml`.
    pub restless_name: String,
    /// Of a box in the clear.
    pub journals: Option<Journals>,
    pub ledger: Ledger,
    pub seed: u64,
    /// The life that goes on.
    began_us: i64,
}

impl Round {
    pub fn new(
        subject: Subject,
        restless: Simcam,
        restless_name: String,
        journals: Option<Journals>,
        seed: u64,
    ) -> Self {
        Self { subject, restless, restless_name, journals, ledger: Ledger::default(), seed, began_us: 0 }
    }

    fn gate(&self) -> PathBuf {
        self.subject.edge.folder.join("gate")
    }

    fn mark(&self) -> PathBuf {
        self.subject.edge.folder.join("mark")
    }

    /// Ids of the cameras by their names, as the box chose them.
    pub fn cameras(&self) -> Result<BTreeMap<String, String>> {
        let path = self.subject.state().join("identity/cameras.json");
        let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).context("the cameras' names are not as agreed")
    }

    fn restless_id(&self) -> Result<String> {
        self.cameras()?.remove(&self.restless_name).context("the restless camera has an id")
    }

    fn shim(&self, rules: &[String], gated: bool) -> Shim {
        Shim {
            rules: rules.to_vec(),
            gate: gated.then(|| self.gate()),
            mark: Some(self.mark()),
            disk_bytes: Some(DISK_BYTES),
            ..self.subject.shim()
        }
    }

    /// The box's first start, for the fault that follows.
    pub fn begin(&mut self) -> Result<()> {
        let _ = std::fs::remove_file(self.gate());
        self.start(&self.shim(&[], true))?;
        self.subject.records()?;
        self.subject.walked()
    }

    fn start(&mut self, shim: &Shim) -> Result<()> {
        self.subject.start(shim)?;
        self.began_us = self.subject.started_us;
        Ok(())
    }

    /// Starts the box with rules that wait for the gate.
    fn arm(&mut self, rules: &[String]) -> Result<()> {
        self.start(&self.shim(rules, true))
    }

    /// An orderly end, and a start with what the first fault needs.
    pub fn rearm(&mut self, first: &Fault) -> Result<()> {
        self.subject.edge.end()?;
        self.arm(&Self::rules_before(first))?;
        self.subject.records()?;
        self.subject.walked()
    }

    pub fn fault(&self, number: u64, point: Point) -> Result<Fault> {
        let hour = hour_name(WallTime(micros_now()?).hour());
        Ok(fault(self.seed, number, point, &Aim { restless: &self.restless_id()?, hour: &hour }))
    }

    /// What the box that runs before a fault is to be told: the fault itself, or that its predecessor is to be torn.
    pub fn rules_before(fault: &Fault) -> Vec<String> {
        if fault.needs_start() { vec!["kill-half write *.seg 2".to_owned()] } else { fault.rules.clone() }
    }

    /// Carries out one kill on the box that runs, starts it again for `next`, and looks at what is left.
    pub fn carry_out(&mut self, fault: &Fault, next: Option<&Fault>) -> Result<Outcome> {
        let marks = acted(&self.mark()).len();
        let mut lives = Vec::new();
        let hit = if fault.needs_start() {
            pause_until(micros_now()? + fault.delay_us / 5)?;
            lives.push(self.kill_at_gate(Trigger::Recording, marks)?.0);
            self.kill_starting(fault, &mut lives)?
        } else {
            pause_until(micros_now()? + fault.delay_us)?;
            let (life, hit) = self.kill_at_gate(fault.trigger, marks)?;
            lives.push(life);
            hit
        };
        let died_us = lives.last().map_or(0, |life| life.ended_us);
        let died_us = hit.as_ref().map_or(died_us, |hit| hit.utc_us);
        let _ = std::fs::remove_file(self.gate());
        self.arm(&next.map(Self::rules_before).unwrap_or_default())?;
        let restarted = (fault.trigger == Trigger::CameraRestart).then(|| self.restless_id()).transpose()?;
        let (again, mut problems) = match self.subject.records() {
            Ok(again) => (again, Vec::new()),
            Err(error) => (BTreeMap::new(), vec![format!("{error:#}")]),
        };
        self.subject.walked()?;
        let since_death = |us: Option<&i64>| us.map_or(-1, |us| us + self.began_us - died_us);
        let (first_again_us, again_us) = (since_death(again.values().min()), since_death(again.values().max()));
        let found = self.look(&lives, restarted.as_deref())?;
        problems.extend(found.holes);
        if found.foreign > 0 {
            problems.push(format!("{} access units that were not sent so", found.foreign));
        }
        let folder = self.subject.edge.folder.to_string_lossy().into_owned();
        Ok(Outcome {
            number: fault.number,
            point: fault.point,
            hit: hit.is_some() || fault.point == Point::Anywhere,
            rule: hit.as_ref().map(|hit| hit.rule.replace(',', " ")).unwrap_or_default(),
            path: hit.map(|hit| hit.path.replacen(&folder, "", 1)).unwrap_or_default(),
            sealed: self.journals.is_none(),
            lost_us: found.tails_us.iter().copied().max().unwrap_or(0),
            older_lost_us: found.holes_us,
            first_again_us,
            again_us,
            streams: found.tails_us.len(),
            units: found.units,
            segments: found.segments,
            problems,
        })
    }

    /// Opens the gate and waits for the kill; from outside where none is to come by itself.
    fn kill_at_gate(&mut self, trigger: Trigger, marks: usize) -> Result<(Life, Option<Acted>)> {
        let began_us = self.began_us;
        let mut told_us = None;
        if !matches!(trigger, Trigger::Outside { .. }) {
            std::fs::write(self.gate(), "").context("cannot open the gate")?;
        }
        match trigger {
            Trigger::CameraRestart => self.restless.kill_and_restart()?,
            Trigger::Stop => {
                told_us = Some(micros_now()?);
                self.subject.process()?.signal(Signal::SIGTERM)?;
            }
            _ => {}
        }
        let by_itself = !matches!(trigger, Trigger::Outside { .. }) && self.subject.dies_within(COMES_WITHIN)?;
        let now = micros_now()?;
        self.kill()?;
        let hit = acted(&self.mark()).into_iter().nth(marks).filter(|_| by_itself);
        let died_us = hit.as_ref().map_or(now, |hit| hit.utc_us);
        Ok((Life { began_us, ended_us: told_us.unwrap_or(died_us) }, hit))
    }

    /// Starts the box and kills it before it has come up.
    fn kill_starting(&mut self, fault: &Fault, lives: &mut Vec<Life>) -> Result<Option<Acted>> {
        let _ = std::fs::remove_file(self.gate());
        let marks = acted(&self.mark()).len();
        let mut shim = self.shim(&fault.rules, false);
        if fault.point == Point::Deletion {
            // Smaller than what is there.
            shim.disk_bytes = Some(used_bytes(&self.subject.media()) * 19 / 20);
        }
        self.start(&shim)?;
        let by_itself = match fault.trigger {
            Trigger::Outside { .. } => {
                pause_until(self.began_us + fault.delay_us.min(STARTING_US))?;
                false
            }
            _ => self.subject.dies_within(COMES_WITHIN)?,
        };
        let now = micros_now()?;
        self.kill()?;
        let hit = acted(&self.mark()).into_iter().nth(marks).filter(|_| by_itself);
        let ended_us = hit.as_ref().map_or(now, |hit| hit.utc_us);
        lives.push(Life { began_us: self.began_us, ended_us });
        Ok(hit)
    }

    /// SIGKILL, unless it is dead already.
    fn kill(&mut self) -> Result<()> {
        let mut process = self.subject.edge.process.take().context("the box runs")?;
        if !process.has_ended()? {
            process.kill()?;
        }
        Ok(())
    }

    fn look(&mut self, lives: &[Life], restarted: Option<&str>) -> Result<super::ledger::Found> {
        if let Some(journals) = &mut self.journals {
            journals.refresh()?;
        }
        let (media, index) = (self.subject.media(), self.subject.state().join("index.sqlite"));
        let sight = Sight { media: &media, index: &index, journals: self.journals.as_ref(), restarted };
        self.ledger.look(&sight, lives)
    }

    /// Ends the box and reads every byte once more.
    pub fn finish(&mut self) -> Result<Vec<String>> {
        self.subject.edge.end()?;
        let (media, index) = (self.subject.media(), self.subject.state().join("index.sqlite"));
        let sight = Sight { media: &media, index: &index, journals: None, restarted: None };
        Ok(self.ledger.read_all(&sight)?.holes)
    }
}
