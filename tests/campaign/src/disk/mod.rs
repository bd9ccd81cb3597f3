//! Disks that fail: full, read-only, with errors; injected by the shim, and real ones on a small tmpfs as root.
//!
//! Belongs here: what fails for how long, and what that cost.
//! Does not belong here: dying with it (`kill`, `power`).
//! Invariant: what was readable before stays readable; nothing is recorded while nothing can be, and that says so.

pub mod mount;

use crate::kill::ledger::{Ledger, Sight};
use crate::shim::{Shim, acted};
use crate::subject::{Subject, footage, pause_until};
use anyhow::{Context, Result, ensure};
use campanile_tests::demo::micros_now;
use mount::Tmpfs;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

pub const KIND: &str = "disk";

/// What smoothing and rounding of fragments' times may come to.
const SPARED_US: i64 = 500_000;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// ENOSPC for every change of the media folder.
    Full,
    /// EROFS for every change of the media folder.
    ReadOnly,
    /// EIO for every write to a segment.
    WriteErrors,
    /// EIO for one write.
    OneWriteError,
    /// EIO for one fsync: what it was to bring to the disk may be gone.
    OneSyncError,
    /// ENOSPC for every change of the state folder: no index, no clock.
    StateFull,
    /// EIO for every sync of the index.
    IndexErrors,
    /// A tmpfs on which no byte is left.
    RealFull,
    /// A tmpfs that is read-only when the box starts.
    RealReadOnly,
}

impl Fault {
    pub const INJECTED: [Self; 7] = [
        Self::Full,
        Self::ReadOnly,
        Self::WriteErrors,
        Self::OneWriteError,
        Self::OneSyncError,
        Self::StateFull,
        Self::IndexErrors,
    ];
    pub const REAL: [Self; 2] = [Self::RealFull, Self::RealReadOnly];

    fn rules(self) -> Vec<String> {
        let rule = match self {
            Self::Full => "fail-ENOSPC change */media/* 1 *",
            Self::ReadOnly => "fail-EROFS change */media/* 1 *",
            Self::WriteErrors => "fail-EIO write *.seg 1 *",
            Self::OneWriteError => "fail-EIO write */main/*.seg 1",
            Self::OneSyncError => "fail-EIO sync */main/*.seg 1",
            Self::StateFull => "fail-ENOSPC change */state/* 1 *",
            Self::IndexErrors => "fail-EIO sync *index.sqlite* 1 *",
            Self::RealFull | Self::RealReadOnly => return Vec::new(),
        };
        vec![rule.to_owned()]
    }

    fn is_once(self) -> bool {
        matches!(self, Self::OneWriteError | Self::OneSyncError)
    }

    /// Whether footage is recorded all the same.
    fn spares_footage(self) -> bool {
        matches!(self, Self::StateFull | Self::IndexErrors)
    }
}

/// One fault and what it cost.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    pub number: u64,
    pub fault: Fault,
    /// How long it lasted.
    pub lasted_us: i64,
    /// Operations that failed.
    pub failed: usize,
    /// Footage missing beyond that time (at all, where only the index's disk failed), of the stream that lost most.
    pub lost_us: i64,
    pub older_lost_us: i64,
    /// From its end until all streams have footage on the disk again.
    pub again_us: i64,
    pub problems: Vec<String>,
}

/// A box that records in the clear, and its disk.
pub struct Trial {
    pub subject: Subject,
    pub ledger: Ledger,
    /// Below `media`, when it is a real one.
    pub tmpfs: Option<Tmpfs>,
}

impl Trial {
    fn gate(&self) -> PathBuf {
        self.subject.edge.folder.join("gate")
    }

    fn mark(&self) -> PathBuf {
        self.subject.edge.folder.join("mark")
    }

    fn shim(&self, rules: Vec<String>) -> Shim {
        Shim { rules, gate: Some(self.gate()), mark: Some(self.mark()), ..self.subject.shim() }
    }

    fn look(&mut self) -> Result<(Vec<String>, i64)> {
        let (media, index) = (self.subject.media(), self.subject.state().join("index.sqlite"));
        let sight = Sight { media: &media, index: &index, journals: None, restarted: None };
        let found = self.ledger.look(&sight, &[])?;
        Ok((found.holes, found.holes_us))
    }

    /// Lets `fault` last for `lasts_us` on a box that records, and waits until it records again.
    pub fn carry_out(&mut self, number: u64, fault: Fault, lasts_us: i64) -> Result<Outcome> {
        let _ = std::fs::remove_file(self.gate());
        self.subject.start(&self.shim(fault.rules()))?;
        self.subject.records()?;
        self.subject.walked()?;
        pause_until(micros_now()? + 1_500_000)?;
        let mut problems = self.look()?.0;
        let failed_before = acted(&self.mark()).len();
        let (from, to) = self.go_wrong(fault, lasts_us)?;
        let again = match self.subject.footage_since(to) {
            Ok(again) => again.values().copied().max().unwrap_or(0),
            Err(error) => {
                problems.push(format!("{error:#}"));
                -1
            }
        };
        let failed = acted(&self.mark()).len() - failed_before;
        if !Fault::REAL.contains(&fault) {
            ensure!(failed > 0, "nothing failed: the fault is none");
        }
        // The walk of the next start says what it finds of the files that were cut.
        self.subject.edge.end()?;
        let (holes, older_lost_us) = self.look()?;
        problems.extend(holes);
        let missing_us = self.missing_us(from, to);
        let lost_us = if fault.spares_footage() { missing_us } else { (missing_us - (to - from)).max(0) };
        if fault.spares_footage() && missing_us > SPARED_US {
            problems.push(format!("{missing_us} us of footage are missing though its disk was well"));
        }
        Ok(Outcome { number, fault, lasted_us: to - from, failed, lost_us, older_lost_us, again_us: again, problems })
    }

    /// Gives when it began and when it was over.
    fn go_wrong(&mut self, fault: Fault, lasts_us: i64) -> Result<(i64, i64)> {
        let marks = acted(&self.mark()).len();
        match fault {
            Fault::RealFull => {
                let tmpfs = self.tmpfs.as_ref().context("a tmpfs is mounted")?;
                let from = micros_now()?;
                tmpfs.fill()?;
                pause_until(from + lasts_us)?;
                tmpfs.unfill()?;
                Ok((from, micros_now()?))
            }
            Fault::RealReadOnly => {
                // A mount with files open for writing cannot be made read-only: the box finds it so when it starts.
                self.subject.edge.kill()?;
                let from = micros_now()?;
                let tmpfs = self.tmpfs.as_ref().context("a tmpfs is mounted")?;
                tmpfs.remount("ro")?;
                self.subject.start(&self.shim(Vec::new()))?;
                pause_until(from + lasts_us)?;
                self.tmpfs.as_ref().context("a tmpfs is mounted")?.remount("rw")?;
                Ok((from, micros_now()?))
            }
            injected => {
                let opened = micros_now()?;
                std::fs::write(self.gate(), "").context("cannot open the gate")?;
                let acting = || acted(&self.mark()).into_iter().nth(marks).map(|acted| acted.utc_us);
                let first = campanile_tests::until::until("something fails", crate::subject::RECORDS_WITHIN, || {
                    acting().ok_or("nothing failed yet")
                })?;
                if !injected.is_once() {
                    pause_until(opened + lasts_us)?;
                }
                std::fs::remove_file(self.gate()).context("cannot close the gate")?;
                let over = if injected.is_once() { first } else { micros_now()? };
                Ok((first, over))
            }
        }
    }

    /// Footage missing around [from, to), of the stream that lost most.
    fn missing_us(&self, from: i64, to: i64) -> i64 {
        let streams = footage(&self.subject.media());
        let missing = streams.values().filter_map(|pieces| {
            let before = pieces.iter().filter(|(began, _)| *began < from).map(|(_, over)| *over).max()?;
            let after = pieces.iter().map(|(began, _)| *began).find(|began| *began >= to)?;
            // What was recorded in between, by a fault that lets some through, is no loss.
            let between: i64 =
                pieces.iter().filter(|(began, _)| (from..to).contains(began)).map(|(began, over)| over - began).sum();
            Some(after - before - between)
        });
        missing.max().unwrap_or(0).max(0)
    }
}
