//! A camera on a pole in the wind: the picture swings, and a lorry knocks it now and then.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Canvas;

#[derive(Debug)]
pub(super) struct Shake {
    swing: (f32, f32),
    hz: (f32, f32),
    gust_s: f32,
    jitter: f32,
    still: Vec<u8>,
}

impl Shake {
    pub fn new(rng: &mut ChaCha8Rng, (width, height): (usize, usize)) -> Shake {
        let scale = width as f32 / 320.0;
        Shake {
            swing: (rng.random_range(0.5..3.0) * scale, rng.random_range(0.2..1.5) * scale),
            hz: (rng.random_range(0.4..3.0), rng.random_range(0.4..3.0)),
            gust_s: rng.random_range(6.0..30.0),
            jitter: rng.random_range(0.0..0.5) * scale,
            still: vec![0; width * height],
        }
    }

    pub fn disturb(&mut self, canvas: &mut Canvas<'_>, t_s: f64, rng: &mut ChaCha8Rng) {
        let t = t_s as f32 * std::f32::consts::TAU;
        let gust = 0.2 + 0.8 * (t / self.gust_s).sin().max(0.0);
        let knock = if t_s % 97.0 < 0.8 { 2.0 } else { 1.0 };
        let mut jitter = || rng.random_range(-1.0..1.0) * self.jitter;
        let dx = self.swing.0 * gust * knock * (t * self.hz.0).sin() + jitter();
        let dy = self.swing.1 * gust * knock * (t * self.hz.1).cos() + jitter();
        self.still.copy_from_slice(canvas.luma);
        let (width, height) = (canvas.width as i32, canvas.height as i32);
        let (whole_x, whole_y) = (dx.floor(), dy.floor());
        let (part_x, part_y) = (((dx - whole_x) * 256.0) as u32, ((dy - whole_y) * 256.0) as u32);
        let pixel =
            |x: i32, y: i32| u32::from(self.still[(y.clamp(0, height - 1) * width + x.clamp(0, width - 1)) as usize]);
        for y in 0..height {
            for x in 0..width {
                let (sx, sy) = (x + whole_x as i32, y + whole_y as i32);
                let above = pixel(sx, sy) * (256 - part_x) + pixel(sx + 1, sy) * part_x;
                let below = pixel(sx, sy + 1) * (256 - part_x) + pixel(sx + 1, sy + 1) * part_x;
                canvas.luma[(y * width + x) as usize] = ((above * (256 - part_y) + below * part_y) >> 16) as u8;
            }
        }
    }
}
