//! What is printed: one line each.

use serde::Serialize;
use std::fmt;

/// The whole answer; its JSON is the answer of `check --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Of the box.
    pub name: String,
    /// Nothing is to be changed.
    pub well: bool,
    pub findings: Vec<Finding>,
    pub streams: Vec<StreamMeasured>,
    /// Whole-box figures of the forecast.
    pub days_expected: Option<f64>,
    pub days_configured: u32,
    pub disk_free_bytes: u64,
    pub disk_room_bytes: u64,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// `clock`, `disk`, or a camera and its stream.
    pub about: String,
    pub says: String,
    /// What to do; none: it is well.
    pub change: Option<String>,
}

/// What a stream showed; fields are null where it did not show it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct StreamMeasured {
    pub camera: String,
    pub stream: &'static str,
    /// `recording`, or the condition the agent would report, as `campanile-hub cameras` names it.
    pub condition: &'static str,
    pub codec: Option<&'static str>,
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub frames_per_second: Option<f64>,
    pub group_seconds: Option<f64>,
    pub bits_per_second: Option<u64>,
    /// The camera's clock minus the box's.
    pub clock_offset_ms: Option<i64>,
    pub lost_packets: Option<u64>,
}

impl Finding {
    pub(super) fn well(about: impl Into<String>, says: impl Into<String>) -> Self {
        Self { about: about.into(), says: says.into(), change: None }
    }

    pub(super) fn amiss(about: impl Into<String>, says: impl Into<String>, change: impl Into<String>) -> Self {
        Self { about: about.into(), says: says.into(), change: Some(change.into()) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.change {
            None => write!(f, "ok      {}: {}", self.about, self.says),
            Some(change) => write!(f, "CHANGE  {}: {}; {change}", self.about, self.says),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        match self.findings.iter().filter(|finding| finding.change.is_some()).count() {
            0 => write!(f, "{}: all is well", self.name),
            1 => write!(f, "{}: 1 thing to change", self.name),
            count => write!(f, "{}: {count} things to change", self.name),
        }
    }
}
