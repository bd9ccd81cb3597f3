//! Power cuts: every operation of a real run is traced, and of that trace disks are made as a cut may leave them.
//!
//! Belongs here: what is on a disk since when (`history`), what a cut leaves (`image`), the product's start over it
//! and what must hold then (`judge`).
//! Does not belong here: how operations are caught (`tests/shim`).
//! Invariant: an image is a function of trace, seed and number.

pub mod history;
pub mod image;
pub mod judge;
pub mod record;

use crate::seed;
use anyhow::{Context, Result};
use history::History;
use image::{Cut, image};
use judge::{Judge, Places, Verdict, fresh};
use record::Traced;
use serde::{Deserialize, Serialize};
use std::path::Path;

pub const KIND: &str = "power";

/// One power cut and what came of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub number: u64,
    pub cut: Cut,
    pub verdict: Verdict,
}

/// Makes the images `numbers` and starts the product over each. Folders lie below `folder`.
pub fn run(
    traced: &Traced,
    seed: u64,
    numbers: impl Iterator<Item = u64>,
    folder: &Path,
    mut tell: impl FnMut(&Outcome) -> Result<()>,
) -> Result<()> {
    let bytes = std::fs::read(&traced.trace).context("cannot read the trace")?;
    let history = History::read(bytes)?;
    record::has_everything(&history)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let places = Places { state: traced.state.clone(), media: traced.media.clone() };
    let (state, media) = (text(&traced.state)?, text(&traced.media)?);
    let judge = Judge::new(&history, places, &runtime, traced.cameras.clone());
    for number in numbers {
        let mut random = seed::of(seed, KIND, number);
        let cut = Cut::choose(&history, &mut random);
        let image = image(&history, &cut, &[&state, &media], &mut random);
        // A folder of its own: the database of the image before may still be closing.
        let own = fresh(&folder.join(format!("state-{number}")))?;
        let verdict = judge.judge(&cut, &image, &own).with_context(|| format!("image {number} cannot be judged"))?;
        tell(&Outcome { number, cut, verdict })?;
        std::fs::remove_dir_all(&own).context("cannot clear an image's state")?;
    }
    Ok(())
}

fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().context("a path is text")?.to_owned())
}
