//! Insects before an infrared lamp: large, bright, out of focus, gone within a second.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Canvas;

#[derive(Debug)]
struct Insect {
    from_s: f64,
    to_s: f64,
    start: (f32, f32),
    /// Pixels a second.
    speed: (f32, f32),
    wiggle: f32,
    wiggle_hz: f32,
    radius: f32,
    levels: f32,
}

impl Insect {
    fn at(&self, t_s: f64) -> (f32, f32) {
        let t = (t_s - self.from_s) as f32;
        let turn = t * self.wiggle_hz * std::f32::consts::TAU;
        (
            self.start.0 + self.speed.0 * t + self.wiggle * turn.sin(),
            self.start.1 + self.speed.1 * t + self.wiggle * (1.7 * turn).cos(),
        )
    }
}

#[derive(Debug)]
pub(super) struct Insects {
    /// In order of their coming.
    all: Vec<Insect>,
    exposure_s: f64,
}

/// Points along the way of one exposure.
const SMEAR: u32 = 5;

impl Insects {
    pub fn new(rng: &mut ChaCha8Rng, (width, height): (usize, usize), seconds: f64) -> Insects {
        let scale = width as f32 / 320.0;
        let every_s = rng.random_range(0.6..5.0);
        let (mut all, mut at) = (Vec::new(), 1.0);
        while at < seconds {
            let fast = rng.random_range(120.0f32..600.0) * scale;
            let way = rng.random_range(0.0..std::f32::consts::TAU);
            all.push(Insect {
                from_s: at,
                to_s: at + rng.random_range(0.1..1.2),
                start: (rng.random_range(0.0..width as f32), rng.random_range(0.0..height as f32)),
                speed: (fast * way.cos(), fast * way.sin()),
                wiggle: rng.random_range(4.0..30.0) * scale,
                wiggle_hz: rng.random_range(1.0..5.0),
                radius: rng.random_range(2.0..11.0) * scale,
                levels: rng.random_range(30.0..160.0),
            });
            at += every_s * rng.random_range(0.1..1.9);
        }
        Insects { all, exposure_s: rng.random_range(0.01..0.06) }
    }

    pub fn disturb(&self, canvas: &mut Canvas<'_>, t_s: f64) {
        let end = self.all.partition_point(|insect| insect.from_s <= t_s);
        for insect in self.all[..end].iter().rev().take(8).filter(|insect| t_s < insect.to_s) {
            for point in 0..SMEAR {
                let (x, y) = insect.at(t_s + self.exposure_s * f64::from(point) / f64::from(SMEAR));
                dot(canvas, (x, y), insect.radius, insect.levels / SMEAR as f32 * 2.0);
            }
        }
    }
}

fn dot(canvas: &mut Canvas<'_>, (x, y): (f32, f32), radius: f32, levels: f32) {
    let reach = (radius * 1.6).ceil() as i32;
    for dy in -reach..=reach {
        for dx in -reach..=reach {
            let away = (dx as f32).hypot(dy as f32) / radius;
            let light = (-away * away).exp();
            canvas.add(x as i32 + dx, y as i32 + dy, levels * light);
        }
    }
}
