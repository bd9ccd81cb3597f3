//! Generated scenes: two hours in which nothing moves but weather and light, and passages in the same weather.

use super::film::Film;
use super::labels::{Label, Labels, Span};
use anyhow::Result;
use campanile_sim::scene::Activity;
use campanile_sim::scene::weather::{Film as Drawing, Weather, WeatherParams};
use std::path::Path;

/// The sets of scenes that constants were chosen on; every other is for scoring.
pub const TUNED_ON: [u64; 4] = [0, 50, 51, 52];

/// A scene to be drawn.
#[derive(Debug, Clone)]
pub struct Scene {
    pub name: String,
    pub params: WeatherParams,
}

/// Every weather, at five and at ten pictures a second, `seconds` together; somebody passes or nobody does.
pub fn plan(set: u64, seconds: u32, passages: bool) -> Vec<Scene> {
    const RATES: [u32; 2] = [5, 10];
    let each = seconds / (Weather::ALL.len() * RATES.len()) as u32;
    let activity = if passages { Activity::Quiet } else { Activity::Empty };
    let all = Weather::ALL.iter().flat_map(|&weather| RATES.map(|fps| (weather, fps)));
    let seeds = set * 1_000 + if passages { 500 } else { 0 }..;
    let scene = |((weather, fps), seed)| Scene {
        name: format!("{} {}{fps}/s", format!("{weather:?}").to_lowercase(), if passages { "passages " } else { "" }),
        params: WeatherParams { weather, seed, width: 320, height: 180, fps, seconds: each, activity },
    };
    all.zip(seeds).map(scene).collect()
}

/// Draws it into a film, with its labels.
pub fn draw(scene: &Scene, grey: &Path) -> Result<(Film, Labels)> {
    let mut drawing = Drawing::new(scene.params);
    let mut spans: Vec<Span> = Vec::new();
    let step_s = 1.0 / f64::from(scene.params.fps);
    let pictures = std::iter::from_fn(|| {
        let view = drawing.picture()?;
        let label = if view.moves { Label::Motion } else { Label::Empty };
        spans.push(Span { from_s: view.t_s, to_s: view.t_s + step_s, label });
        Some((view.t_s, view.luma.to_vec()))
    });
    let film = Film::record(grey, scene.params.width as usize, scene.params.height as usize, pictures)?;
    Ok((film, Labels::of(spans)))
}
