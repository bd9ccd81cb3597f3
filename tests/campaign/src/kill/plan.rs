//! Which process is killed where. Pure.

use crate::seed;
use rand::RngExt;
use serde::{Deserialize, Serialize};

/// Where a kill strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// Half of a record is written.
    FragmentWrite,
    /// Records are written and not yet brought to the disk.
    BeforeSync,
    /// A segment is closed or begun.
    Rotation,
    IndexCommit,
    Deletion,
    StartUpScan,
    Anywhere,
}

impl Point {
    pub const NAMED: [Self; 6] =
        [Self::FragmentWrite, Self::BeforeSync, Self::Rotation, Self::IndexCommit, Self::Deletion, Self::StartUpScan];
}

/// What makes the box come to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// It does so by itself while it records.
    Recording,
    /// A camera ends and comes back.
    CameraRestart,
    /// It is told to stop.
    Stop,
    /// It starts, after another kill.
    Start,
    /// None: it is killed from outside while it records, or (`true`) while it starts.
    Outside { starting: bool },
}

/// One kill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub number: u64,
    pub point: Point,
    pub trigger: Trigger,
    /// For the shim; counted from the gate, or from the start.
    pub rules: Vec<String>,
    /// From the moment that everything records (or the start, for `Outside { starting }`).
    pub delay_us: i64,
}

impl Fault {
    /// Whether the process before is killed for this one.
    pub fn needs_start(&self) -> bool {
        matches!(self.trigger, Trigger::Start | Trigger::Outside { starting: true })
    }
}

/// Each named point gets its share of `kills`, 52 of 500 (the walk at the start does not always come by), the rest strikes anywhere; shuffled.
pub fn points(seed: u64, kills: u64) -> Vec<Point> {
    let share = (kills * 104 / 1_000).max(1);
    let named = Point::NAMED.into_iter().flat_map(|point| (0..share).map(move |_| point));
    let mut points: Vec<Point> = named.take(kills as usize).collect();
    points.resize(kills as usize, Point::Anywhere);
    let mut random = seed::of(seed, "plan", kills);
    for last in (1..points.len()).rev() {
        points.swap(last, random.random_range(0..=last));
    }
    points
}

/// What a fault needs to know of its box.
pub struct Aim<'a> {
    /// Folder name of the camera that can be restarted.
    pub restless: &'a str,
    /// Folder name of the present hour.
    pub hour: &'a str,
}

pub fn fault(seed: u64, number: u64, point: Point, aim: &Aim<'_>) -> Fault {
    let mut random = seed::of(seed, "kill", number);
    let mut one_of = |texts: &[&str]| texts[random.random_range(0..texts.len())].to_owned();
    let segment = one_of(&["*/main/*.seg", "*/sub/*.seg", "*.seg"]);
    let (mut trigger, rule) = match point {
        Point::FragmentWrite => (Trigger::Recording, format!("kill-half write {segment} N8")),
        Point::BeforeSync => (Trigger::Recording, format!("kill-before sync {segment} N8")),
        Point::Rotation => {
            let stream = one_of(&["main", "sub"]);
            let (file, folder) =
                (format!("*/{}/{stream}/*.seg", aim.restless), format!("*/{}/{stream}/{}", aim.restless, aim.hour));
            let closing =
                one_of(&["kill-half write *.seg N12", "kill-before sync *.seg N12", "kill-after sync *.seg N12"]);
            let beginning = one_of(&[
                "kill-before create FILE 1",
                "kill-after create FILE 1",
                "kill-before sync FOLDER 1",
                "kill-after sync FOLDER 1",
                "kill-half write FILE 1",
                "kill-half write FILE 2",
            ]);
            match one_of(&["stop", "camera", "camera"]).as_str() {
                "stop" => (Trigger::Stop, closing),
                _ => (Trigger::CameraRestart, beginning.replace("FILE", &file).replace("FOLDER", &folder)),
            }
        }
        Point::IndexCommit => {
            let log = one_of(&[
                "kill-half write *index.sqlite-wal N6",
                "kill-before sync *index.sqlite-wal N3",
                "kill-after sync *index.sqlite-wal N3",
            ]);
            let database = one_of(&["kill-half write *index.sqlite N4", "kill-before sync *index.sqlite 1"]);
            match one_of(&["log", "log", "log", "database"]).as_str() {
                "database" => (Trigger::Stop, database),
                _ => (Trigger::Recording, log),
            }
        }
        Point::Deletion => (Trigger::Start, one_of(&["kill-before unlink *.seg N2", "kill-after unlink *.seg N2"])),
        Point::StartUpScan => (
            Trigger::Start,
            one_of(&[
                "kill-before open *.seg N30",
                "kill-before read *.seg N200",
                "kill-before truncate *.seg 1",
                "kill-after truncate *.seg 1",
            ]),
        ),
        Point::Anywhere => (Trigger::Outside { starting: false }, String::new()),
    };
    if point == Point::Anywhere && random.random_bool(0.3) {
        trigger = Trigger::Outside { starting: true };
    }
    let rules = rule.split(';').filter(|rule| !rule.is_empty()).map(|rule| drawn(rule, &mut random)).collect();
    let delay_us = random.random_range(0..2_500_000);
    Fault { number, point, trigger, rules, delay_us }
}

/// A rule whose last word `N8` became a number from 1 to 8.
fn drawn(rule: &str, random: &mut rand_chacha::ChaCha8Rng) -> String {
    let (front, last) = rule.rsplit_once(' ').unwrap_or(("", rule));
    match last.strip_prefix('N').and_then(|most| most.parse::<u64>().ok()) {
        Some(most) => format!("{front} {}", random.random_range(1..=most)),
        None => rule.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn every_named_point_gets_its_share_and_the_plan_is_the_seeds() {
        let plan = points(7, 500);
        let mut counts: BTreeMap<Point, usize> = BTreeMap::new();
        plan.iter().for_each(|point| *counts.entry(*point).or_default() += 1);
        assert!(Point::NAMED.iter().all(|point| counts[point] == 52), "{counts:?}");
        assert_eq!((counts[&Point::Anywhere], plan.len()), (188, 500));
        assert_eq!(points(7, 500), plan);
        assert_ne!(points(8, 500), plan);
        assert!(Point::NAMED.iter().all(|point| points(1, 10).contains(point)));
    }

    #[test]
    fn a_fault_is_the_same_each_time() {
        let aim = Aim { restless: "c", hour: "20260101T00" };
        for number in 0..200 {
            for point in Point::NAMED {
                let one = fault(1, number, point, &aim);
                assert_eq!(one, fault(1, number, point, &aim));
                assert!(one.rules.len() == 1 && !one.rules[0].contains(" N"), "{one:?}");
            }
        }
    }
}
