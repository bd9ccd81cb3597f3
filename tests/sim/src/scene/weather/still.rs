//! An empty hour: a coder that starts anew at each key frame, exposure that drifts.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Canvas;

/// Side of a coder's block, pixels.
const BLOCK: usize = 8;

#[derive(Debug)]
pub(super) struct Still {
    key_every_s: f64,
    drift_levels: f32,
    drift_period_s: f32,
    seed: u32,
}

impl Still {
    pub fn new(rng: &mut ChaCha8Rng) -> Still {
        Still {
            key_every_s: rng.random_range(1.0..4.0),
            drift_levels: rng.random_range(2.0..10.0),
            drift_period_s: rng.random_range(40.0..200.0),
            seed: rng.random(),
        }
    }

    pub fn disturb(&self, canvas: &mut Canvas<'_>, t_s: f64) {
        let group = (t_s / self.key_every_s) as u32;
        let drift = self.drift_levels * (t_s as f32 * std::f32::consts::TAU / self.drift_period_s).sin();
        let blocks = canvas.width / BLOCK + 1;
        for (y, row) in canvas.luma.chunks_exact_mut(canvas.width).enumerate() {
            for (block, part) in row.chunks_mut(BLOCK).enumerate() {
                let mut hash = (y / BLOCK * blocks + block) as u32 ^ group.wrapping_mul(0x9e37_79b9) ^ self.seed;
                hash = (hash ^ hash >> 15).wrapping_mul(0x2c1b_3c6d);
                let pulse = ((hash >> 16) % 5) as f32 - 2.0;
                let step = (drift + pulse).round() as i16;
                part.iter_mut().for_each(|pixel| *pixel = (i16::from(*pixel) + step).clamp(0, 255) as u8);
            }
        }
    }
}
