//! The box's own detector with what it ships, over one film.

use super::film::Film;
use super::track::Track;
use anyhow::{Context, Result};
use edge_agent::motion::Detector;
use edge_agent::motion::state::State;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// What it said.
#[derive(Debug)]
pub struct Said {
    pub track: Track,
    pub mask_size: (usize, usize),
}

/// Plays the film once; masks go to a file, one a picture, where one is named.
pub fn watch(film: &Film, masks: Option<&Path>) -> Result<Said> {
    let mut detector = Detector::new(film.width, film.height);
    let (mut state, mut track, mut last_s) = (State::default(), Track::default(), None);
    let mut masks = match masks {
        Some(path) => Some(BufWriter::new(File::create(path).context("no room for masks")?)),
        None => None,
    };
    let mut written = Ok(());
    film.play(|t_s, luma| {
        let step_s = t_s - last_s.replace(t_s).unwrap_or(t_s);
        let seen = detector.frame(luma, film.width, step_s.max(0.0) as f32);
        let on = state.picture((t_s * 1e6).round() as i64, &seen);
        track.set(t_s, on);
        if let (Some(file), Ok(())) = (&mut masks, &written) {
            written = file.write_all(detector.mask().pixels);
        }
    })?;
    written.context("no room for masks")?;
    if let Some(mut file) = masks {
        file.flush().context("no room for masks")?;
    }
    let mask = detector.mask();
    Ok(Said { track, mask_size: (mask.width, mask.height) })
}
