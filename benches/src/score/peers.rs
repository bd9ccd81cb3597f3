//! Other detectors, in a Python beside us that reads the same pictures.

use super::film::Film;
use super::track::Track;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const PROGRAM: &str = include_str!("peers.py");

/// Pixels of masks against a clip's own: rightly moving, wrongly, missed.
pub type Pixels = [u64; 3];

/// What they said of a film.
#[derive(Debug, Deserialize)]
pub struct Answer {
    states: BTreeMap<String, Vec<(f64, bool)>>,
    /// Ours are among them as "ours".
    pub pixels: BTreeMap<String, Pixels>,
    pub opencv: String,
}

impl Answer {
    pub fn tracks(&self) -> impl Iterator<Item = (&str, Track)> {
        self.states.iter().map(|(name, states)| {
            let mut track = Track::default();
            states.iter().for_each(|&(t_s, on)| track.set(t_s, on));
            (name.as_str(), track)
        })
    }
}

/// Our masks of a film and where true ones lie.
#[derive(Debug, Clone, Copy)]
pub struct Gold<'a> {
    pub archive: &'a Path,
    pub fps: f64,
    pub ours: &'a Path,
    pub ours_size: (usize, usize),
}

/// A process that answers film by film.
pub struct Peers {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Peers {
    pub fn start(python: &Path) -> Result<Self> {
        let mut child = Command::new(python)
            .args(["-c", PROGRAM])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} does not start; `tests/setup.sh score` makes it", python.display()))?;
        let to = child.stdin.take().context("its input is a pipe")?;
        let from = BufReader::new(child.stdout.take().context("its output is a pipe")?);
        Ok(Self { child, to: Some(to), from })
    }

    pub fn watch(&mut self, film: &Film, gold: Option<Gold<'_>>) -> Result<Answer> {
        let mut line = json!({
            "grey": film.grey, "width": film.width, "height": film.height, "times": film.times_s,
            "masks": null, "fps": 0.0, "ours": null, "ours_size": [0, 0],
        });
        if let Some(gold) = gold {
            line["masks"] = json!(gold.archive);
            line["fps"] = json!(gold.fps);
            line["ours"] = json!(gold.ours);
            line["ours_size"] = json!(gold.ours_size);
        }
        let to = self.to.as_mut().context("it listens")?;
        writeln!(to, "{line}").and_then(|()| to.flush()).context("the other detectors do not listen")?;
        let mut answer = String::new();
        self.from.read_line(&mut answer).context("the other detectors do not answer")?;
        ensure!(!answer.is_empty(), "the other detectors ended before they answered");
        serde_json::from_str(&answer).context("the other detectors' answer cannot be read")
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        // It ends when its input does.
        drop(self.to.take());
        let _ = self.child.wait();
    }
}
