//! One run: clips, then scenes, every contender, the controls.

use super::film::Film;
use super::labels::Labels;
use super::peers::{Gold, Peers, Pixels};
use super::rule::{self, Counts, judge, misses};
use super::scenes::{self, Scene, TUNED_ON};
use super::track::Track;
use super::workshop::Workshop;
use super::{manifest, ours};
use anyhow::{Context, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

pub const OURS: &str = "campanile";
const CONTROLS: [&str; 3] = ["always on", "always off", "labels, 2 s late"];

/// What a person asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub clips: Option<PathBuf>,
    /// Nobody else is asked without one.
    pub python: Option<PathBuf>,
    pub seed: u64,
    /// Of scenes in which nothing moves.
    pub quiet_s: u32,
    /// Of scenes with passages.
    pub passages_s: u32,
    pub folder: PathBuf,
    pub keep: bool,
}

/// A contender's figures.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    pub name: String,
    pub clips: Vec<(String, Counts)>,
    pub scenes: Vec<(String, Counts)>,
    pub false_events: Vec<(String, usize)>,
    pub quiet_hours: f64,
    pub pixels: BTreeMap<String, Pixels>,
    pub misses: Vec<String>,
    /// Clips on which it is worse than MOG2.
    pub worse_than_mog2: Vec<String>,
}

impl Row {
    pub fn all_clips(&self) -> Counts {
        sum(&self.clips)
    }

    pub fn all_scenes(&self) -> Counts {
        sum(&self.scenes)
    }

    pub fn false_events_per_hour(&self) -> Option<f64> {
        let events: usize = self.false_events.iter().map(|(_, events)| events).sum();
        (self.quiet_hours > 0.0).then(|| events as f64 / self.quiet_hours)
    }

    /// Of hits, false and missed pixels, over all clips with masks.
    pub fn pixel_f(&self, clip: &str) -> Option<f64> {
        let [hit, wrong, missed] = *self.pixels.get(clip)?;
        (hit > 0).then(|| 2.0 * hit as f64 / (2 * hit + wrong + missed) as f64)
    }
}

fn sum(all: &[(String, Counts)]) -> Counts {
    let mut sum = Counts::default();
    all.iter().for_each(|(_, counts)| sum.add(counts));
    sum
}

/// The whole.
#[derive(Debug, Serialize)]
pub struct Report {
    pub detector: String,
    pub seed: u64,
    /// Constants were chosen on the scenes of these seeds.
    pub tuned_on: [u64; 4],
    pub opencv: String,
    pub pictures: usize,
    pub seconds: f64,
    pub rule: &'static str,
    /// In clips of the set that cannot be scored.
    pub left_out: Vec<String>,
    pub quality: BTreeMap<String, String>,
    pub rows: Vec<Row>,
    /// Controls that should have missed a target and met them all.
    pub controls_that_pass: Vec<String>,
}

struct Run {
    rows: Vec<Row>,
    peers: Option<Peers>,
    workshop: Workshop,
    opencv: String,
    pictures: usize,
}

/// What a film is for.
enum Kind<'a> {
    Clip { masks: Option<(&'a Path, f64)> },
    Passages,
    Quiet,
}

/// Scores everybody; `say` hears of each film.
pub fn run(wanted: &Wanted, say: impl Fn(&str)) -> Result<Report> {
    let began = Instant::now();
    let peers = wanted.python.as_deref().map(Peers::start).transpose()?;
    let workshop = Workshop::open(&wanted.folder, wanted.keep)?;
    let mut run = Run { rows: Vec::new(), peers, workshop, opencv: String::new(), pictures: 0 };
    let (mut left_out, mut quality) = (Vec::new(), BTreeMap::new());
    if let Some(folder) = &wanted.clips {
        let (clips, without) = manifest::read(folder)?;
        left_out = without;
        for clip in &clips {
            say(&clip.name);
            let (grey, _) = run.workshop.of(&clip.name);
            match Film::decode(&clip.path, &grey) {
                Ok(film) => {
                    let masks = clip.masks.as_deref().map(|path| (path, clip.fps));
                    run.film(&clip.name, &film, &clip.labels, &Kind::Clip { masks })?;
                    quality.insert(clip.name.clone(), clip.quality.clone());
                }
                Err(error) => left_out.push(format!("{}: {error:#}", clip.name)),
            }
        }
    }
    let scene = |run: &mut Run, scene: &Scene, kind: Kind<'_>| -> Result<()> {
        say(&scene.name);
        let (grey, _) = run.workshop.of(&scene.name);
        let (film, labels) = scenes::draw(scene, &grey)?;
        if wanted.keep {
            let lines =
                labels.spans().iter().map(|span| format!("{:.3} {:.3} {:?}\n", span.from_s, span.to_s, span.label));
            std::fs::write(grey.with_extension("labels"), lines.collect::<String>()).context("no room for labels")?;
        }
        run.film(&scene.name, &film, &labels, &kind)
    };
    for planned in scenes::plan(wanted.seed, wanted.passages_s, true).iter().filter(|scene| scene.params.seconds > 0) {
        scene(&mut run, planned, Kind::Passages)?;
    }
    for planned in scenes::plan(wanted.seed, wanted.quiet_s, false).iter().filter(|scene| scene.params.seconds > 0) {
        scene(&mut run, planned, Kind::Quiet)?;
    }
    run.judge();
    let controls =
        CONTROLS.iter().filter(|name| run.rows.iter().any(|row| row.name == **name && row.misses.is_empty()));
    Ok(Report {
        detector: format!("{} {}", edge_agent::motion::detect::NAME, edge_agent::motion::detect::VERSION),
        seed: wanted.seed,
        tuned_on: TUNED_ON,
        opencv: run.opencv,
        pictures: run.pictures,
        seconds: began.elapsed().as_secs_f64(),
        rule: rule::FOOT,
        left_out,
        quality,
        controls_that_pass: controls.map(|name| (*name).to_owned()).collect(),
        rows: run.rows,
    })
}

impl Run {
    fn film(&mut self, name: &str, film: &Film, labels: &Labels, kind: &Kind<'_>) -> Result<()> {
        let (_, mask) = self.workshop.of(name);
        let masks = match kind {
            Kind::Clip { masks } => *masks,
            _ => None,
        };
        let said = ours::watch(film, masks.map(|_| mask.as_path()))?;
        self.take(OURS, name, labels, &said.track, kind);
        if let Some(peers) = &mut self.peers {
            let gold = masks.map(|(archive, fps)| Gold { archive, fps, ours: &mask, ours_size: said.mask_size });
            let answer = peers.watch(film, gold).with_context(|| name.to_owned())?;
            for (peer, track) in answer.tracks() {
                self.take(peer, name, labels, &track, kind);
            }
            for (peer, pixels) in answer.pixels {
                let peer = if peer == "ours" { OURS } else { &peer };
                self.row(peer).pixels.insert(name.to_owned(), pixels);
            }
            self.opencv = answer.opencv;
        }
        let mut late = Track::default();
        labels.spans().iter().for_each(|span| late.set(span.from_s, span.label == super::labels::Label::Motion));
        for (control, track) in CONTROLS.iter().zip([Track::always(true), Track::always(false), late.later(2.0)]) {
            self.take(control, name, labels, &track, kind);
        }
        self.pictures += film.times_s.len();
        self.workshop.clear(name);
        Ok(())
    }

    fn row(&mut self, name: &str) -> &mut Row {
        let at = self.rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.rows.push(Row { name: name.to_owned(), ..Row::default() });
            self.rows.len() - 1
        });
        &mut self.rows[at]
    }

    fn take(&mut self, contender: &str, name: &str, labels: &Labels, track: &Track, kind: &Kind<'_>) {
        let row = self.row(contender);
        match kind {
            Kind::Clip { .. } => row.clips.push((name.to_owned(), judge(labels, track))),
            Kind::Passages => row.scenes.push((name.to_owned(), judge(labels, track))),
            Kind::Quiet => {
                row.false_events.push((name.to_owned(), rule::false_events(track, labels.end_s())));
                row.quiet_hours += labels.end_s() / 3_600.0;
            }
        }
    }

    fn judge(&mut self) {
        let mog2 = self.rows.iter().find(|row| row.name == "MOG2").map(|row| row.clips.clone());
        for row in &mut self.rows {
            let judged = if row.clips.is_empty() { &row.scenes } else { &row.clips };
            row.misses = misses(judged, row.false_events_per_hour());
            let pairs = row.clips.iter().zip(mog2.iter().flatten());
            let worse = pairs.filter(|((_, mine), (_, theirs))| mine.wrong() > theirs.wrong() + 1e-9);
            row.worse_than_mog2 = worse.map(|((name, _), _)| name.clone()).collect();
        }
        self.rows.sort_by_key(|row| CONTROLS.iter().position(|name| *name == row.name).map_or(0, |at| at + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_sim::program;
    use campanile_sim::scene::SceneParams;
    use campanile_sim::scene::truth::Truth;
    use campanile_sim::units::Codec;

    fn wanted(folder: &Path) -> Wanted {
        Wanted {
            clips: None,
            python: None,
            seed: 1,
            quiet_s: 0,
            passages_s: 0,
            folder: folder.join("films"),
            keep: false,
        }
    }

    fn row<'a>(report: &'a Report, name: &str) -> &'a Row {
        report.rows.iter().find(|row| row.name == name).unwrap()
    }

    #[test]
    fn a_clip_is_scored_through_the_box_s_own_decoder() {
        let folder = tempfile::tempdir().unwrap();
        let scene = SceneParams { strip: false, ..SceneParams::tiny(1, 7, 40) };
        let files = program::render(&scene, Codec::H264, folder.path()).unwrap();
        std::fs::copy(&files.main, folder.path().join("one.mp4")).unwrap();
        let truth: Truth = serde_json::from_slice(&std::fs::read(&files.truth).unwrap()).unwrap();
        let mut labels = String::from("frame_index,t_seconds,motion\n");
        for frame in &truth.frames {
            let motion = if !frame.cells.is_empty() { 1 } else { -i32::from(!frame.either.is_empty()) };
            labels += &format!("{},{},{motion}\n", frame.frame, frame.t);
        }
        std::fs::write(folder.path().join("one.frames.csv"), labels).unwrap();
        std::fs::write(folder.path().join("MANIFEST.csv"), "file,fps\none.mp4,10\nnone.mp4,10\n").unwrap();
        let report = run(&Wanted { clips: Some(folder.path().to_owned()), ..wanted(folder.path()) }, |_| {}).unwrap();
        let ours = row(&report, OURS);
        assert_eq!((report.pictures, ours.misses.as_slice()), (400, &[][..]), "{ours:#?}");
        assert!(ours.clips[0].1.motion > 50 && ours.clips[0].1.empty > 50, "{ours:#?}");
        assert_eq!((report.controls_that_pass.len(), report.left_out.len()), (0, 1));
    }

    #[test]
    fn a_slice_of_every_weather_is_quiet_and_its_passages_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let report = run(&Wanted { quiet_s: 16 * 20, passages_s: 16 * 24, ..wanted(folder.path()) }, |_| {}).unwrap();
        let (ours, on) = (row(&report, OURS), row(&report, "always on"));
        let events = |row: &Row| row.false_events.iter().map(|(_, events)| events).sum::<usize>();
        assert!(events(ours) <= 1 && events(on) == 16, "{ours:#?}");
        assert!(ours.all_scenes().recall() > Some(0.85), "{ours:#?}");
        assert!(ours.all_scenes().on_while_empty() < Some(0.03), "{ours:#?}");
        assert!(!on.misses.is_empty() && !row(&report, "labels, 2 s late").misses.is_empty());
    }
}
