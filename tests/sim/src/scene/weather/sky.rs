//! Shadows of clouds over the ground.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Canvas;

#[derive(Debug)]
struct Wave {
    along: (f32, f32),
    phase: f32,
    /// Radians a second.
    drift: f32,
    height: f32,
}

#[derive(Debug)]
pub(super) struct Clouds {
    waves: Vec<Wave>,
    depth: f32,
    rim: f32,
    height: usize,
}

impl Clouds {
    pub fn new(rng: &mut ChaCha8Rng, (width, height): (usize, usize)) -> Clouds {
        let way: f32 = rng.random_range(0.0..std::f32::consts::TAU);
        // Widths of the picture a second.
        let speed = rng.random_range(0.02..0.3);
        let waves = (0..4).map(|_| {
            let long = rng.random_range(0.8..3.0f32);
            let turn = way + rng.random_range(-0.7..0.7f32);
            let per_pixel = std::f32::consts::TAU / (long * width as f32);
            Wave {
                along: (per_pixel * turn.cos(), per_pixel * turn.sin()),
                phase: rng.random_range(0.0..std::f32::consts::TAU),
                drift: std::f32::consts::TAU * speed / long,
                height: rng.random_range(0.5..1.0),
            }
        });
        Clouds { waves: waves.collect(), depth: rng.random_range(0.15..0.45), rim: rng.random_range(0.3..1.2), height }
    }

    pub fn disturb(&self, canvas: &mut Canvas<'_>, t_s: f64) {
        let t = t_s as f32;
        debug_assert_eq!(canvas.height, self.height);
        for (y, row) in canvas.luma.chunks_exact_mut(canvas.width).enumerate() {
            for (block, part) in row.chunks_mut(4).enumerate() {
                let (x, y) = ((block * 4) as f32, y as f32);
                let sum: f32 = self
                    .waves
                    .iter()
                    .map(|wave| wave.height * (wave.along.0 * x + wave.along.1 * y + wave.phase + wave.drift * t).sin())
                    .sum();
                let shade = (sum / self.rim + 0.5).clamp(0.0, 1.0);
                let gain = 1.0 - self.depth * shade * shade * (3.0 - 2.0 * shade);
                part.iter_mut().for_each(|pixel| *pixel = (f32::from(*pixel) * gain) as u8);
            }
        }
    }
}
