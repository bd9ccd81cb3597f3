//! What disturbs a camera though nothing moves: weather, light, leaves, insects, a shaken pole.
//!
//! Belongs here: luma at the size and rate at which motion is looked for, with the disturbance laid over a scene.
//! Does not belong here: who passes (`schedule`), colour, encoding.
//! Invariant: a function of its parameters alone, byte for byte; without passages every picture is labelled empty.

mod insects;
mod lamp;
mod leaves;
mod patch;
mod rain;
mod shake;
mod sky;
mod still;

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::render::frame_rng;
use super::{Activity, Light, Renderer, SceneParams};

/// What disturbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weather {
    /// Noise, a coder's pulse at key frames, exposure that drifts.
    Still,
    /// The same by infrared light, where the noise is three times as strong.
    Night,
    /// Streaks anywhere in every picture, drops close to the lens now and then.
    Rain,
    /// A lamp that lights a part of the picture, switched on and off, and the exposure that follows.
    Lamp,
    /// Bright and fast before the infrared lamp.
    Insects,
    /// Foliage that sways in gusts.
    Leaves,
    /// Shadows of clouds that pass.
    Clouds,
    /// A pole in the wind.
    Shake,
}

impl Weather {
    /// Every kind.
    pub const ALL: [Weather; 8] = [
        Weather::Still,
        Weather::Night,
        Weather::Rain,
        Weather::Lamp,
        Weather::Insects,
        Weather::Leaves,
        Weather::Clouds,
        Weather::Shake,
    ];

    fn light(self) -> Light {
        match self {
            Weather::Night | Weather::Insects => Light::Night,
            _ => Light::Day,
        }
    }
}

/// All that a disturbed scene depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeatherParams {
    /// What disturbs.
    pub weather: Weather,
    /// Seed of everything.
    pub seed: u64,
    /// Pixels; even.
    pub width: u32,
    /// Pixels; even.
    pub height: u32,
    /// Pictures a second.
    pub fps: u32,
    /// Length.
    pub seconds: u32,
    /// Whether anybody passes.
    pub activity: Activity,
}

/// One picture, valid until the next.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Since the first.
    pub t_s: f64,
    /// Without padding.
    pub luma: &'a [u8],
    /// Whether somebody's own pixels are in it.
    pub moves: bool,
}

/// Draws a disturbed scene, picture by picture.
#[derive(Debug)]
pub struct Film {
    params: WeatherParams,
    scene: Renderer,
    disturbance: Disturbance,
    luma: Vec<u8>,
    next: u32,
}

/// A picture that is disturbed in place.
#[derive(Debug)]
pub(super) struct Canvas<'a> {
    pub luma: &'a mut [u8],
    pub width: usize,
    pub height: usize,
}

impl Canvas<'_> {
    /// Lays light over a pixel, if it is one.
    pub fn add(&mut self, x: i32, y: i32, levels: f32) {
        if x >= 0 && y >= 0 && (x as usize) < self.width && (y as usize) < self.height {
            let pixel = &mut self.luma[y as usize * self.width + x as usize];
            *pixel = (f32::from(*pixel) + levels).clamp(0.0, 255.0) as u8;
        }
    }

    /// Pixels a disturbance was drawn for, of a picture 320 wide.
    pub fn scale(&self) -> f32 {
        self.width as f32 / 320.0
    }
}

#[derive(Debug)]
enum Disturbance {
    Still(still::Still),
    Rain(rain::Rain),
    Lamp(lamp::Lamps),
    Insects(insects::Insects),
    Leaves(leaves::Leaves),
    Clouds(sky::Clouds),
    Shake(shake::Shake),
}

impl Film {
    /// Paints the scene behind it.
    pub fn new(params: WeatherParams) -> Film {
        let scene = SceneParams {
            main_width: params.width,
            main_height: params.height,
            main_fps: params.fps,
            // One is enough: nobody looks at it.
            sub_width: 32,
            sub_height: 18,
            sub_every: u32::MAX,
            loop_frames: params.seconds * params.fps,
            strip: false,
            activity: params.activity,
            ..SceneParams::new(0, params.seed, params.weather.light())
        };
        let size = (params.width as usize, params.height as usize);
        let mut rng = frame_rng(params.seed ^ 0x3ea7_4e25, 0);
        let seconds = f64::from(params.seconds);
        let disturbance = match params.weather {
            Weather::Still | Weather::Night => Disturbance::Still(still::Still::new(&mut rng)),
            Weather::Rain => Disturbance::Rain(rain::Rain::new(&mut rng)),
            Weather::Lamp => Disturbance::Lamp(lamp::Lamps::new(&mut rng, size, seconds)),
            Weather::Insects => Disturbance::Insects(insects::Insects::new(&mut rng, size, seconds)),
            Weather::Leaves => Disturbance::Leaves(leaves::Leaves::new(&mut rng, size)),
            Weather::Clouds => Disturbance::Clouds(sky::Clouds::new(&mut rng, size)),
            Weather::Shake => Disturbance::Shake(shake::Shake::new(&mut rng, size)),
        };
        Film { params, scene: Renderer::new(&scene), disturbance, luma: vec![0; size.0 * size.1], next: 0 }
    }

    /// The next picture; none after the last.
    pub fn picture(&mut self) -> Option<View<'_>> {
        let index = self.next;
        if index >= self.params.seconds * self.params.fps {
            return None;
        }
        self.next += 1;
        let t_s = f64::from(index) / f64::from(self.params.fps);
        let frame = self.scene.render(index);
        let pixels = self.luma.len();
        self.luma.copy_from_slice(&frame.main[..pixels]);
        let moves = self.scene.last_truth().is_some_and(|truth| !truth.cells.is_empty());
        let (width, height) = (self.params.width as usize, self.params.height as usize);
        let mut canvas = Canvas { luma: &mut self.luma, width, height };
        let mut rng: ChaCha8Rng = frame_rng(self.params.seed ^ 0x3ea7_4e26, index);
        match &mut self.disturbance {
            Disturbance::Still(still) => still.disturb(&mut canvas, t_s),
            Disturbance::Rain(rain) => rain.disturb(&mut canvas, t_s, &mut rng),
            Disturbance::Lamp(lamps) => lamps.disturb(&mut canvas, t_s),
            Disturbance::Insects(insects) => insects.disturb(&mut canvas, t_s),
            Disturbance::Leaves(leaves) => leaves.disturb(&mut canvas, t_s),
            Disturbance::Clouds(clouds) => clouds.disturb(&mut canvas, t_s),
            Disturbance::Shake(shake) => shake.disturb(&mut canvas, t_s, &mut rng),
        }
        Some(View { t_s, luma: &self.luma, moves })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(weather: Weather, activity: Activity) -> WeatherParams {
        WeatherParams { weather, seed: 3, width: 160, height: 90, fps: 5, seconds: 60, activity }
    }

    #[test]
    fn a_seed_gives_the_same_pictures_again_and_every_weather_disturbs() {
        for weather in Weather::ALL {
            let (mut one, mut two) =
                (Film::new(params(weather, Activity::Empty)), Film::new(params(weather, Activity::Empty)));
            let (mut first, mut most) = (Vec::new(), 0.0f64);
            while let (Some(a), Some(b)) = (one.picture(), two.picture()) {
                assert_eq!(a.luma, b.luma, "{weather:?}");
                assert!(!a.moves);
                if first.is_empty() {
                    first = a.luma.to_vec();
                }
                let change = first.iter().zip(a.luma).filter(|(a, b)| a.abs_diff(**b) > 12).count();
                most = most.max(change as f64 / first.len() as f64);
            }
            let limit = if matches!(weather, Weather::Still | Weather::Insects) { 0.0 } else { 0.005 };
            assert!(most > limit, "{weather:?}: {most}");
        }
    }

    #[test]
    fn who_passes_is_labelled_and_is_in_the_picture() {
        let mut film = Film::new(params(Weather::Still, Activity::Normal));
        let mut background: Vec<u8> = Vec::new();
        let (mut moving, mut with, mut without) = (0, 0.0f64, 0.0f64);
        while let Some(view) = film.picture() {
            if background.is_empty() {
                background = view.luma.to_vec();
            }
            let change = background.iter().zip(view.luma).filter(|(a, b)| a.abs_diff(**b) > 25).count() as f64;
            if view.moves {
                (moving, with) = (moving + 1, with + change);
            } else {
                without = without.max(change);
            }
        }
        assert!(moving > 20 && with / f64::from(moving) > 3.0 * without.max(2.0), "{moving} {with} {without}");
    }
}
