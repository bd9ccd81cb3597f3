//! A generated piazza with its campanile, seen by a fixed camera.
//!
//! Belongs here: everything between a seed and raw frames with their ground truth.
//! Does not belong here: encoding (`encode`), caching (`program`), sending (`server`).
//! Invariant: a function of its parameters alone, byte for byte; outside passages nothing moves
//! but noise and the strip.
//!
//! The still background is painted once (`backdrop`); moving things are laid over it in each
//! frame (`render`), so that a frame costs little more than its copy.

mod figure;
mod ground;
mod mood;
mod paint;
mod palazzo;
mod planes;
mod raster;
mod render;
mod schedule;
mod sky;
mod tower;
pub mod truth;
mod view;
pub mod weather;

pub use render::{Frame, Renderer};
use serde::{Deserialize, Serialize};
use truth::Truth;

/// Changes whenever the same parameters give other pictures: part of every cache key.
pub const SCENE_VERSION: u32 = 1;

/// Light of the scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Light {
    /// In colour.
    Day,
    /// By the camera's infrared lamp, without colour.
    Night,
}

/// How much happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activity {
    /// Nothing, however long.
    Empty,
    /// Gaps of 14 to 24 s.
    Quiet,
    /// Gaps of at least 6 s.
    Normal,
    /// Gaps of at least 2 s, several things at once.
    Busy,
}

/// All that a scene depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SceneParams {
    /// Camera number in the strip.
    pub number: u16,
    /// Seed of everything.
    pub seed: u64,
    /// Day or night.
    pub light: Light,
    /// How much happens.
    pub activity: Activity,
    /// Main stream, pixels; even.
    pub main_width: u32,
    /// Main stream, pixels; even.
    pub main_height: u32,
    /// Main stream, frames per second.
    pub main_fps: u32,
    /// Sub-stream, pixels; even.
    pub sub_width: u32,
    /// Sub-stream, pixels; even.
    pub sub_height: u32,
    /// Every how many main frames the sub-stream has one.
    pub sub_every: u32,
    /// Frames in a loop of the main stream.
    pub loop_frames: u32,
    /// Whether frames carry the strip.
    pub strip: bool,
}

impl SceneParams {
    /// 1280x720 at 15 frames/s, sub-stream 640x360 at 7.5, 40 s: what a usual camera is set to.
    pub fn new(number: u16, seed: u64, light: Light) -> SceneParams {
        SceneParams {
            number,
            seed,
            light,
            activity: Activity::Normal,
            main_width: 1280,
            main_height: 720,
            main_fps: 15,
            sub_width: 640,
            sub_height: 360,
            sub_every: 2,
            loop_frames: 600,
            strip: true,
        }
    }

    /// 320x180 at 10 frames/s for tests, the sub-stream at 5, `loop_s` seconds.
    pub fn tiny(number: u16, seed: u64, loop_s: u32) -> SceneParams {
        SceneParams {
            main_width: 320,
            main_height: 180,
            main_fps: 10,
            sub_width: 256,
            sub_height: 144,
            loop_frames: loop_s * 10,
            ..SceneParams::new(number, seed, Light::Day)
        }
    }

    /// Length of a loop in seconds.
    pub fn loop_s(&self) -> f64 {
        f64::from(self.loop_frames) / f64::from(self.main_fps)
    }
}

/// The ground truth alone, without keeping a picture.
pub fn truth_of(params: &SceneParams) -> Truth {
    let mut renderer = Renderer::new(params);
    for index in 0..params.loop_frames {
        renderer.render(index);
    }
    renderer.into_truth()
}
