//! A lamp that somebody switches: part of the picture is brighter at once, and the exposure follows.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Canvas;
use super::patch::Patch;

/// How fast an exposure follows, seconds.
const EXPOSURE_S: f64 = 0.8;

#[derive(Debug)]
pub(super) struct Lamps {
    light: Patch,
    gain: f32,
    /// Whole picture, while the lamp is on.
    exposure: f32,
    rise_s: f64,
    /// On at even ones, off at odd ones.
    switched_s: Vec<f64>,
}

impl Lamps {
    pub fn new(rng: &mut ChaCha8Rng, size: (usize, usize), seconds: f64) -> Lamps {
        let mut switched_s = Vec::new();
        let mut at = rng.random_range(8.0..25.0);
        while at < seconds {
            switched_s.push(at);
            at += rng.random_range(8.0..60.0);
        }
        Lamps {
            light: Patch::new(rng, size, 0.25..0.9),
            gain: rng.random_range(0.3..1.6),
            exposure: rng.random_range(0.0..0.3),
            rise_s: rng.random_range(0.02..0.6),
            switched_s,
        }
    }

    pub fn disturb(&self, canvas: &mut Canvas<'_>, t_s: f64) {
        let count = self.switched_s.partition_point(|&at| at <= t_s);
        let Some(last) = count.checked_sub(1) else { return };
        let since = t_s - self.switched_s[last];
        let on = count % 2 == 1;
        let approach = |constant: f64| {
            let left = (-since / constant).exp() as f32;
            if on { 1.0 - left } else { left }
        };
        let (light, exposure) = (approach(self.rise_s), approach(EXPOSURE_S));
        if light < 0.001 && exposure < 0.001 {
            return;
        }
        for (pixel, &weight) in canvas.luma.iter_mut().zip(self.light.weights()) {
            let gain = (1.0 + self.gain * light * weight) * (1.0 - self.exposure * exposure);
            *pixel = (f32::from(*pixel) * gain + 6.0 * light * weight).min(255.0) as u8;
        }
    }
}
