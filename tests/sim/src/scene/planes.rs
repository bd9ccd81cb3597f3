//! Luma and chroma planes.
//!
//! Belongs here: colour conversion, scaling, sensor noise on I420 planes.
//! Does not belong here: what is in the picture.
//! Invariant: BT.709 limited range; planes without padding; widths and heights even.

use rand::RngExt;

use super::Light;
use super::render::frame_rng;

/// A rectangle of pixels; right and bottom excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rect {
    left: usize,
    right: usize,
    top: usize,
    bottom: usize,
}

impl Rect {
    /// Holds nothing.
    pub const EMPTY: Rect = Rect { left: usize::MAX, right: 0, top: usize::MAX, bottom: 0 };

    /// The whole picture.
    pub fn whole(width: usize, height: usize) -> Rect {
        Rect { left: 0, right: width, top: 0, bottom: height }
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.left >= self.right
    }

    /// Grows to hold a pixel.
    pub fn include(&mut self, x: usize, y: usize) {
        self.left = self.left.min(x);
        self.right = self.right.max(x + 1);
        self.top = self.top.min(y);
        self.bottom = self.bottom.max(y + 1);
    }

    /// Holds both.
    pub fn joined(self, other: Rect) -> Rect {
        Rect {
            left: self.left.min(other.left),
            right: self.right.max(other.right),
            top: self.top.min(other.top),
            bottom: self.bottom.max(other.bottom),
        }
    }

    /// Columns.
    pub fn columns(&self) -> std::ops::Range<usize> {
        if self.is_empty() { 0..0 } else { self.left..self.right }
    }

    /// Rows.
    pub fn rows(&self) -> std::ops::Range<usize> {
        if self.is_empty() { 0..0 } else { self.top..self.bottom }
    }

    /// Copies the rectangle from one picture into another of the same width.
    pub fn copy_rows<T: Copy>(&self, width: usize, from: &[T], to: &mut [T]) {
        for y in self.rows() {
            let span = y * width + self.left..y * width + self.right;
            to[span.clone()].copy_from_slice(&from[span]);
        }
    }
}

/// Converts a rectangle of a picture, grown to even borders, into I420.
pub fn from_rgb(pixels: &[[u8; 3]], width: usize, height: usize, rect: Rect, planes: &mut [u8]) {
    let (luma, chroma) = planes.split_at_mut(width * height);
    let (blue, red) = chroma.split_at_mut(width * height / 4);
    let (columns, rows) = (rect.columns(), rect.rows());
    for pair in rows.start / 2..rows.end.div_ceil(2) {
        for column in columns.start / 2..columns.end.div_ceil(2) {
            let mut sum = [0i32; 3];
            for (dx, dy) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                let at = (pair * 2 + dy) * width + column * 2 + dx;
                let [r, g, b] = pixels[at].map(i32::from);
                luma[at] = (16 + ((r * 47 + g * 157 + b * 16 + 128) >> 8)) as u8;
                sum = [sum[0] + r, sum[1] + g, sum[2] + b];
            }
            let [r, g, b] = sum;
            let at = pair * width / 2 + column;
            blue[at] = (128 + ((-26 * r - 86 * g + 112 * b + 512) >> 10)) as u8;
            red[at] = (128 + ((112 * r - 102 * g - 10 * b + 512) >> 10)) as u8;
        }
    }
}

/// Takes the colour out of an area (x, y, width, height).
pub fn bleach(planes: &mut [u8], width: usize, height: usize, (x, y, w, h): (usize, usize, usize, usize)) {
    for chroma in planes[width * height..].chunks_exact_mut(width * height / 4) {
        for row in y / 2..(y + h) / 2 {
            chroma[row * width / 2 + x / 2..row * width / 2 + (x + w) / 2].fill(128);
        }
    }
}

/// Scales an I420 picture down by averaging.
pub fn shrink(from: &[u8], from_size: (usize, usize), to: &mut [u8], to_size: (usize, usize)) {
    let (mut source, mut target) = (0, 0);
    for part in [1, 2, 2] {
        let (w, h) = (from_size.0 / part, from_size.1 / part);
        let (tw, th) = (to_size.0 / part, to_size.1 / part);
        shrink_plane(&from[source..source + w * h], (w, h), &mut to[target..target + tw * th], (tw, th));
        source += w * h;
        target += tw * th;
    }
}

fn shrink_plane(from: &[u8], (w, h): (usize, usize), to: &mut [u8], (tw, th): (usize, usize)) {
    if tw * 2 == w && th * 2 == h {
        for (y, row) in to.chunks_exact_mut(tw).enumerate() {
            let (upper, lower) = from[y * 2 * w..(y * 2 + 2) * w].split_at(w);
            for ((cell, a), b) in row.iter_mut().zip(upper.chunks_exact(2)).zip(lower.chunks_exact(2)) {
                let sum = u16::from(a[0]) + u16::from(a[1]) + u16::from(b[0]) + u16::from(b[1]);
                *cell = ((sum + 2) / 4) as u8;
            }
        }
        return;
    }
    for y in 0..th {
        let (top, bottom) = (y * h / th, ((y + 1) * h).div_ceil(th).min(h).max(y * h / th + 1));
        for x in 0..tw {
            let (left, right) = (x * w / tw, ((x + 1) * w).div_ceil(tw).min(w).max(x * w / tw + 1));
            let mut sum = 0u32;
            for row in top..bottom {
                sum += from[row * w + left..row * w + right].iter().map(|&v| u32::from(v)).sum::<u32>();
            }
            to[y * tw + x] = (sum / ((bottom - top) * (right - left)) as u32) as u8;
        }
    }
}

/// An image sensor: adds noise.
#[derive(Debug)]
pub struct Sensor {
    seed: u64,
    noise: Vec<i8>,
    width: usize,
}

/// The noise plane is larger than the picture by this much each way and shifted in every frame:
/// drawing a million normal deviates per frame would cost more than everything else.
const SLACK: usize = 128;

impl Sensor {
    /// Draws the noise plane; by night the amplifier is turned up.
    pub fn new(seed: u64, light: Light, width: usize, height: usize) -> Sensor {
        let sigma = match light {
            Light::Day => 1.5,
            Light::Night => 4.2,
        };
        let (width, height) = (width + SLACK, height + SLACK);
        let mut rng = frame_rng(seed, u32::MAX);
        let raw: Vec<f32> = (0..width * height)
            .map(|_| {
                // Sum of four uniforms: near enough to normal, variance 1/3.
                let sum: f32 = (0..4).map(|_| rng.random::<f32>() - 0.5).sum();
                sum * sigma * 1.73
            })
            .collect();
        // Demosaicing smears a sensor's noise over neighbours.
        let noise = (0..raw.len())
            .map(|at| {
                let (next, below) = ((at + 1) % raw.len(), (at + width) % raw.len());
                (0.72 * raw[at] + 0.48 * raw[next] + 0.48 * raw[below]).round() as i8
            })
            .collect();
        Sensor { seed, noise, width }
    }

    /// Adds a frame's noise to its luma plane.
    pub fn expose(&self, luma: &mut [u8], width: usize, index: u32) {
        let mut rng = frame_rng(self.seed, index);
        let (dx, dy) = (rng.random_range(0..SLACK), rng.random_range(0..SLACK));
        for (y, row) in luma.chunks_exact_mut(width).enumerate() {
            let start = (y + dy) * self.width + dx;
            for (sample, &noise) in row.iter_mut().zip(&self.noise[start..start + width]) {
                *sample = sample.saturating_add_signed(noise);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_and_black_stay_in_range() {
        let mut planes = vec![0u8; 4 * 2 * 3 / 2];
        from_rgb(&[[255; 3]; 8], 4, 2, Rect::whole(4, 2), &mut planes);
        assert!(planes[..8].iter().all(|&luma| (234..=236).contains(&luma)), "{planes:?}");
        assert!(planes[8..].iter().all(|&chroma| (127..=129).contains(&chroma)), "{planes:?}");
        from_rgb(&[[0; 3]; 8], 4, 2, Rect::whole(4, 2), &mut planes);
        assert!(planes[..8].iter().all(|&luma| luma == 16));
    }

    #[test]
    fn shrinking_keeps_a_flat_picture_flat() {
        for to in [(8, 4), (10, 6)] {
            let mut small = vec![0u8; to.0 * to.1 * 3 / 2];
            shrink(&[77; 16 * 8 * 3 / 2], (16, 8), &mut small, to);
            assert!(small.iter().all(|&value| value == 77));
        }
    }
}
