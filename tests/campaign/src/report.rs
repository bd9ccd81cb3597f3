//! The figures of a campaign.

use crate::disk;
use crate::kill::plan::Point;
use crate::kill::round;
use crate::power;
use serde::Serialize;
use std::collections::BTreeMap;

/// The targets: at most 2 s of tail, never an older second, recording again within 5 s.
const MOST_LOST_US: i64 = 2_000_000;
const MOST_AGAIN_US: i64 = 5_000_000;
/// Bin of the histograms, milliseconds.
const BIN_MS: i64 = 250;

#[derive(Debug, Serialize)]
pub struct Report {
    pub command: String,
    pub commit: String,
    pub date: String,
    pub seed: u64,
    pub machine: Machine,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kills: Option<Kills>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_cuts: Option<PowerCuts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disks: Option<Disks>,
    /// Found wrong, with the fault's kind and number: `--only KIND --number NUMBER` repeats it.
    pub problems: Vec<String>,
    /// Numbers of faults that missed a target.
    pub targets_missed: BTreeMap<&'static str, Vec<u64>>,
}

#[derive(Debug, Serialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub load_average: String,
}

/// Seconds.
#[derive(Debug, Serialize)]
pub struct Spread {
    pub count: usize,
    pub p50: f64,
    pub p95: f64,
    pub p100: f64,
    /// Faults by the lower end of their bin, milliseconds.
    pub histogram: BTreeMap<i64, usize>,
}

impl Spread {
    fn of(micros: impl Iterator<Item = i64>) -> Self {
        let mut all: Vec<i64> = micros.collect();
        all.sort_unstable();
        let at = |share: f64| {
            let place = ((all.len() as f64 * share).ceil() as usize).clamp(1, all.len().max(1)) - 1;
            all.get(place).map_or(0.0, |us| (*us as f64 / 10_000.0).round() / 100.0)
        };
        let mut histogram = BTreeMap::new();
        all.iter().for_each(|us| *histogram.entry(us / 1_000 / BIN_MS * BIN_MS).or_default() += 1);
        Self { count: all.len(), p50: at(0.5), p95: at(0.95), p100: at(1.0), histogram }
    }
}

#[derive(Debug, Serialize)]
pub struct Kills {
    pub kills: usize,
    pub of_sealed_boxes: usize,
    /// By point: planned, and killed there by the point itself.
    pub points: BTreeMap<Point, Struck>,
    pub seconds_lost: Spread,
    pub older_seconds_unreadable: f64,
    pub first_stream_again_after: Spread,
    pub all_streams_again_after: Spread,
    /// Access units compared with what the cameras sent.
    pub units_compared: usize,
}

#[derive(Debug, Default, Serialize)]
pub struct Struck {
    pub planned: usize,
    pub hit: usize,
    pub rules: BTreeMap<String, usize>,
}

#[derive(Debug, Serialize)]
pub struct PowerCuts {
    pub images: usize,
    pub by_names_and_fate: BTreeMap<String, usize>,
    pub seconds_lost: Spread,
    pub older_seconds_unreadable: f64,
    pub tails_cut_off: usize,
    pub set_aside: usize,
    /// Segments of unsynced footage that arrived out of order: readable up to the hole, the rest left as it is.
    pub left_damaged: usize,
    pub index_made_anew: usize,
}

#[derive(Debug, Serialize)]
pub struct Disks {
    pub faults: usize,
    pub real_tmpfs: bool,
    pub by_fault: BTreeMap<disk::Fault, OneDisk>,
    pub older_seconds_unreadable: f64,
}

#[derive(Debug, Serialize)]
pub struct OneDisk {
    pub seconds_lost: Spread,
    pub all_streams_again_after: Spread,
}

impl Report {
    pub fn kills(&mut self, outcomes: &[round::Outcome]) {
        let mut points: BTreeMap<Point, Struck> = BTreeMap::new();
        for outcome in outcomes {
            let struck = points.entry(outcome.point).or_default();
            struck.planned += 1;
            struck.hit += usize::from(outcome.hit);
            if !outcome.rule.is_empty() {
                // Without its number and whose segment it was.
                let rule: Vec<&str> = outcome.rule.split(' ').take(2).collect();
                let end = outcome.path.rsplit(['/', '.']).next().unwrap_or_default();
                *struck.rules.entry(format!("{} …{end}", rule.join(" "))).or_default() += 1;
            }
            self.note("kill", outcome.number, &outcome.problems, outcome.older_lost_us);
            self.missed("lost_more_than_2_s", outcome.number, outcome.lost_us > MOST_LOST_US);
            let late = outcome.again_us > MOST_AGAIN_US || outcome.again_us < 0;
            self.missed("recording_again_later_than_5_s", outcome.number, late);
        }
        let of = |of: fn(&round::Outcome) -> i64| Spread::of(outcomes.iter().map(of));
        self.kills = Some(Kills {
            kills: outcomes.len(),
            of_sealed_boxes: outcomes.iter().filter(|outcome| outcome.sealed).count(),
            points,
            seconds_lost: Spread::of(outcomes.iter().filter(|outcome| outcome.streams > 0).map(|o| o.lost_us)),
            older_seconds_unreadable: seconds(outcomes.iter().map(|outcome| outcome.older_lost_us)),
            first_stream_again_after: of(|outcome| outcome.first_again_us),
            all_streams_again_after: of(|outcome| outcome.again_us),
            units_compared: outcomes.iter().map(|outcome| outcome.units).sum(),
        });
    }

    pub fn power(&mut self, outcomes: &[power::Outcome]) {
        let mut kinds = BTreeMap::new();
        for outcome in outcomes {
            let cut = &outcome.cut;
            *kinds.entry(format!("{:?} {:?}", cut.names, cut.fate).to_lowercase()).or_default() += 1;
            self.note("power", outcome.number, &outcome.verdict.problems, 0);
            self.missed("power_cut_lost_more_than_2_s", outcome.number, outcome.verdict.lost_us > MOST_LOST_US);
        }
        let sum = |of: fn(&power::judge::Verdict) -> usize| outcomes.iter().map(|outcome| of(&outcome.verdict)).sum();
        let older = outcomes.iter().map(|outcome| outcome.verdict.older_lost_us);
        self.power_cuts = Some(PowerCuts {
            images: outcomes.len(),
            by_names_and_fate: kinds,
            seconds_lost: Spread::of(outcomes.iter().map(|outcome| outcome.verdict.lost_us)),
            older_seconds_unreadable: seconds(older),
            tails_cut_off: sum(|verdict| verdict.truncated),
            set_aside: sum(|verdict| verdict.set_aside),
            left_damaged: sum(|verdict| verdict.left_damaged),
            index_made_anew: sum(|verdict| usize::from(verdict.index_made_anew)),
        });
    }

    pub fn disks(&mut self, outcomes: &[disk::Outcome]) {
        let mut by_fault: BTreeMap<disk::Fault, Vec<&disk::Outcome>> = BTreeMap::new();
        for outcome in outcomes {
            by_fault.entry(outcome.fault).or_default().push(outcome);
            self.note("disk", outcome.number, &outcome.problems, outcome.older_lost_us);
            let late = outcome.again_us > MOST_AGAIN_US || outcome.again_us < 0;
            self.missed("disk_recording_again_later_than_5_s", outcome.number, late);
        }
        let one = |all: &[&disk::Outcome]| OneDisk {
            seconds_lost: Spread::of(all.iter().map(|outcome| outcome.lost_us)),
            all_streams_again_after: Spread::of(all.iter().map(|outcome| outcome.again_us)),
        };
        self.disks = Some(Disks {
            faults: outcomes.len(),
            real_tmpfs: outcomes.iter().any(|outcome| disk::Fault::REAL.contains(&outcome.fault)),
            by_fault: by_fault.iter().map(|(fault, all)| (*fault, one(all))).collect(),
            older_seconds_unreadable: seconds(outcomes.iter().map(|outcome| outcome.older_lost_us)),
        });
    }

    fn note(&mut self, kind: &str, number: u64, problems: &[String], older_lost_us: i64) {
        self.problems.extend(problems.iter().map(|problem| format!("{kind} {number}: {problem}")));
        if older_lost_us > 0 && problems.is_empty() {
            self.problems.push(format!("{kind} {number}: {older_lost_us} us of older footage cannot be read"));
        }
    }

    fn missed(&mut self, target: &'static str, number: u64, is_missed: bool) {
        if is_missed {
            self.targets_missed.entry(target).or_default().push(number);
        }
    }
}

fn seconds(micros: impl Iterator<Item = i64>) -> f64 {
    micros.sum::<i64>() as f64 / 1e6
}

impl Machine {
    pub fn this() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let named = processors.lines().find(|line| line.starts_with("model name"));
        Self {
            processor: named.and_then(|line| line.split(':').nth(1)).unwrap_or("unknown").trim().to_owned(),
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            load_average: read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_of_all_faults_and_its_last_is_the_worst() {
        let spread = Spread::of((1..=100).map(|tenth| tenth * 100_000));
        assert_eq!((spread.p50, spread.p95, spread.p100), (5.0, 9.5, 10.0));
        assert_eq!((spread.histogram[&0], spread.histogram[&10_000]), (2, 1));
        assert_eq!(Spread::of(std::iter::empty()).p100, 0.0);
    }
}
