//! Rain: streaks shorter than an exposure's fall, never twice in one place.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Canvas;

#[derive(Debug)]
pub(super) struct Rain {
    streaks: f32,
    slant: f32,
    gust_s: f32,
    drops_a_second: f64,
}

impl Rain {
    pub fn new(rng: &mut ChaCha8Rng) -> Rain {
        Rain {
            streaks: rng.random_range(30.0..160.0),
            slant: rng.random_range(-0.35..0.35),
            gust_s: rng.random_range(20.0..90.0),
            drops_a_second: rng.random_range(0.2..1.5),
        }
    }

    pub fn disturb(&self, canvas: &mut Canvas<'_>, t_s: f64, rng: &mut ChaCha8Rng) {
        let gust = 0.7 + 0.3 * (t_s as f32 * std::f32::consts::TAU / self.gust_s).sin();
        for _ in 0..(self.streaks * gust) as u32 {
            let near = rng.random_range(0.0f32..1.0).powi(3);
            let length = (5.0 + 22.0 * near) * canvas.scale();
            let wide = if near > 0.5 { 2 } else { 1 };
            self.streak(canvas, rng, length, wide, rng_levels(near));
        }
        // Close to the lens: wide, blurred, seen once.
        if rng.random_bool((self.drops_a_second / 10.0).min(1.0)) {
            let length = rng.random_range(30.0..80.0) * canvas.scale();
            self.streak(canvas, rng, length, 6, 30.0);
        }
    }

    fn streak(&self, canvas: &mut Canvas<'_>, rng: &mut ChaCha8Rng, length: f32, wide: i32, levels: f32) {
        let x = rng.random_range(-10.0..canvas.width as f32 + 10.0);
        let y = rng.random_range(-length..canvas.height as f32);
        for step in 0..length as i32 {
            let fade = 1.0 - (2.0 * step as f32 / length - 1.0).abs();
            for side in 0..wide {
                canvas.add((x + self.slant * step as f32) as i32 + side, y as i32 + step, levels * (0.4 + fade));
            }
        }
    }
}

fn rng_levels(near: f32) -> f32 {
    14.0 + 22.0 * near
}
