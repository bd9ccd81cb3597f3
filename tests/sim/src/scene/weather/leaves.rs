//! Foliage in the wind: leaves of a tree sway together, each a little in its own way.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Canvas;

#[derive(Debug)]
struct Leaf {
    at: (f32, f32),
    size: (f32, f32),
    level: f32,
    phase: f32,
    hz: f32,
    /// Of the tree's sway.
    share: f32,
}

#[derive(Debug)]
pub(super) struct Leaves {
    leaves: Vec<Leaf>,
    sway: f32,
    gust_s: f32,
}

impl Leaves {
    pub fn new(rng: &mut ChaCha8Rng, (width, height): (usize, usize)) -> Leaves {
        let scale = width as f32 / 320.0;
        let mut leaves = Vec::new();
        for _ in 0..rng.random_range(1..=3) {
            let middle = (rng.random_range(0.05..0.95) * width as f32, rng.random_range(0.1..0.6) * height as f32);
            let reach = rng.random_range(20.0..50.0) * scale;
            for _ in 0..rng.random_range(60..160) {
                let (turn, far) =
                    (rng.random_range(0.0..std::f32::consts::TAU), rng.random_range(0.0f32..1.0).sqrt() * reach);
                leaves.push(Leaf {
                    at: (middle.0 + far * turn.cos(), middle.1 + far * turn.sin()),
                    size: (rng.random_range(1.5..6.0) * scale, rng.random_range(1.5..4.0) * scale),
                    level: rng.random_range(35.0..125.0),
                    phase: rng.random_range(0.0..std::f32::consts::TAU),
                    hz: rng.random_range(0.3..1.6),
                    share: rng.random_range(0.3..1.0),
                });
            }
        }
        Leaves { leaves, sway: rng.random_range(0.8..4.0) * scale, gust_s: rng.random_range(8.0..40.0) }
    }

    pub fn disturb(&self, canvas: &mut Canvas<'_>, t_s: f64) {
        let t = t_s as f32;
        let gust = 0.35 + 0.65 * (t * std::f32::consts::TAU / self.gust_s).sin().max(0.0);
        for leaf in &self.leaves {
            let swing = (t * leaf.hz * std::f32::consts::TAU + leaf.phase).sin();
            let together = (t * 0.45 * std::f32::consts::TAU).sin();
            let move_x = self.sway * gust * leaf.share * (0.6 * together + 0.4 * swing);
            let move_y = 0.4 * self.sway * gust * leaf.share * swing;
            ellipse(canvas, (leaf.at.0 + move_x, leaf.at.1 + move_y), leaf.size, leaf.level);
        }
    }
}

fn ellipse(canvas: &mut Canvas<'_>, (x, y): (f32, f32), (across, down): (f32, f32), level: f32) {
    for py in (y - down - 1.0) as i32..=(y + down + 1.0) as i32 {
        for px in (x - across - 1.0) as i32..=(x + across + 1.0) as i32 {
            if px < 0 || py < 0 || px as usize >= canvas.width || py as usize >= canvas.height {
                continue;
            }
            let away = ((px as f32 - x) / across).hypot((py as f32 - y) / down);
            let cover = ((1.0 - away) * across.min(down) + 0.5).clamp(0.0, 1.0);
            if cover > 0.0 {
                let pixel = &mut canvas.luma[py as usize * canvas.width + px as usize];
                *pixel = (f32::from(*pixel) * (1.0 - cover) + level * cover) as u8;
            }
        }
    }
}
