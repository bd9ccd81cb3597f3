//! A soft patch of light or shade: weights of 0 to 1 over a picture.

use std::ops::Range;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

#[derive(Debug)]
pub(super) struct Patch(Vec<f32>);

impl Patch {
    /// An ellipse somewhere, of a radius in widths of the picture, with a rim between hard and soft.
    pub fn new(rng: &mut ChaCha8Rng, (width, height): (usize, usize), radius: Range<f32>) -> Patch {
        let (x, y) = (rng.random_range(0.0..1.0) * width as f32, rng.random_range(0.0..1.0) * height as f32);
        let across = rng.random_range(radius) * width as f32;
        let down = across * rng.random_range(0.5..1.0);
        let rim = rng.random_range(0.08..0.8);
        let weight = |at: usize| {
            let (dx, dy) = (((at % width) as f32 - x) / across, ((at / width) as f32 - y) / down);
            let inside = ((1.0 - dx.hypot(dy)) / rim).clamp(0.0, 1.0);
            inside * inside * (3.0 - 2.0 * inside)
        };
        Patch((0..width * height).map(weight).collect())
    }

    pub fn weights(&self) -> &[f32] {
        &self.0
    }
}
