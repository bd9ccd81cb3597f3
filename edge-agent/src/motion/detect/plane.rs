//! Small planes of luma in fixed point, and the loops over them.
//!
//! A level of luma (0 to 255) is `LEVEL` units, so that slow averages move by less than a level.

/// Units of a level; 255 of them fit into an `i16`.
pub const LEVEL: i16 = 128;

/// The share of the way to go towards a value in one step, as a fraction of 2^15.
#[derive(Debug, Clone, Copy)]
pub struct Rate(i16);

impl Rate {
    /// After `constant_s` of such steps 63 % of the way are gone.
    pub fn of(step_s: f32, constant_s: f32) -> Self {
        Self(((1.0 - (-step_s / constant_s).exp()) * f32::from(i16::MAX)) as i16)
    }

    /// By how much a value moves that is `away` from where it goes.
    #[inline(always)]
    pub fn step(self, away: i16) -> i16 {
        // (away * rate + 2^14) >> 15, from the halves of the product that SSE2 and NEON give of eight lanes at once.
        let high = ((i32::from(away) * i32::from(self.0)) >> 16) as i16;
        let low = away.wrapping_mul(self.0) as u16;
        ((high << 1) | (low >> 15) as i16) + ((low >> 14) & 1) as i16
    }
}

/// Means of the pixels under each working pixel, in units: pictures are taken down by whole factors.
#[derive(Debug)]
pub struct Shrink {
    pub factor: usize,
    pub width: usize,
    pub height: usize,
    sums: Vec<u16>,
}

/// Working pictures are about this wide.
const WIDTH: usize = 160;
/// More pixels than this under a working one overflow its sum (256 x 255 < 2^16).
const MOST_FACTOR: usize = 16;

impl Shrink {
    /// For pictures of this size; a few pixels at the right and at the bottom may be left over.
    pub fn new(width: usize, height: usize) -> Self {
        let factor = (width / WIDTH).clamp(1, MOST_FACTOR).min(height.max(1));
        let (small_width, small_height) = (width / factor, height / factor);
        Self { factor, width: small_width, height: small_height, sums: vec![0; small_width * factor] }
    }

    pub fn pixels(&self) -> usize {
        self.width * self.height
    }

    pub fn shrink(&mut self, luma: &[u8], stride: usize, small: &mut [i16]) {
        let scale = f32::from(LEVEL) / (self.factor * self.factor) as f32;
        let scale = (scale * 256.0) as u32;
        for (row, out) in small.chunks_exact_mut(self.width).enumerate() {
            // Line by line, so that the additions run side by side.
            self.sums.fill(0);
            for line in 0..self.factor {
                let pixels = &luma[(row * self.factor + line) * stride..][..self.sums.len()];
                self.sums.iter_mut().zip(pixels).for_each(|(sum, &pixel)| *sum += u16::from(pixel));
            }
            if self.factor == 2 {
                for (out, pair) in out.iter_mut().zip(self.sums.chunks_exact(2)) {
                    *out = ((pair[0] + pair[1]) * (LEVEL as u16 / 4)) as i16;
                }
            } else {
                for (out, part) in out.iter_mut().zip(self.sums.chunks_exact(self.factor)) {
                    let sum: u32 = part.iter().map(|&sum| u32::from(sum)).sum();
                    *out = ((sum * scale) >> 8) as i16;
                }
            }
        }
    }
}

/// Least and greatest values of the 3 x 3 neighbours of every pixel, itself included.
#[derive(Debug)]
pub struct Range {
    pub low: Vec<i16>,
    pub high: Vec<i16>,
    rows: [Vec<i16>; 2],
}

impl Range {
    pub fn new(pixels: usize) -> Self {
        let plane = || vec![0; pixels];
        Self { low: plane(), high: plane(), rows: [plane(), plane()] }
    }

    pub fn of(&mut self, plane: &[i16], width: usize) {
        let [low, high] = &mut self.rows;
        for (at, row) in plane.chunks_exact(width).enumerate() {
            let span = at * width..(at + 1) * width;
            across(row, &mut low[span.clone()], i16::min);
            across(row, &mut high[span], i16::max);
        }
        down(low, &mut self.low, width, i16::min);
        down(high, &mut self.high, width, i16::max);
    }
}

fn across(row: &[i16], out: &mut [i16], pick: impl Fn(i16, i16) -> i16) {
    let last = row.len() - 1;
    if last == 0 {
        out[0] = row[0];
        return;
    }
    (out[0], out[last]) = (pick(row[0], row[1]), pick(row[last - 1], row[last]));
    let inner = &mut out[1..last];
    for (((out, &left), &mid), &right) in inner.iter_mut().zip(row).zip(&row[1..]).zip(&row[2..]) {
        *out = pick(pick(left, mid), right);
    }
}

fn down(rows: &[i16], out: &mut [i16], width: usize, pick: impl Fn(i16, i16) -> i16) {
    let height = rows.len() / width;
    for (y, out) in out.chunks_exact_mut(width).enumerate() {
        let row = |y: usize| &rows[y * width..(y + 1) * width];
        let (above, here, below) = (row(y.saturating_sub(1)), row(y), row((y + 1).min(height - 1)));
        for (((out, &a), &b), &c) in out.iter_mut().zip(above).zip(here).zip(below) {
            *out = pick(pick(a, b), c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_the_rounded_share_of_the_way() {
        let rates = [0.001, 0.1, 0.4, 8.0, 60.0].map(|constant_s| Rate::of(0.1, constant_s));
        for away in (i16::MIN..=i16::MAX).step_by(37) {
            for rate in rates {
                let exactly = ((i32::from(away) * i32::from(rate.0) + (1 << 14)) >> 15) as i16;
                assert_eq!(rate.step(away), exactly, "{away} {rate:?}");
            }
        }
    }

    #[test]
    fn a_flat_picture_stays_flat_at_every_factor() {
        for (width, height) in [(96, 64), (320, 180), (626, 360), (640, 481), (1920, 1080), (3000, 2000)] {
            let mut shrink = Shrink::new(width, height);
            let mut small = vec![0; shrink.pixels()];
            shrink.shrink(&vec![200; width * height], width, &mut small);
            let off = small.iter().map(|&unit| (unit - 200 * LEVEL).abs()).max();
            assert!(off.unwrap() <= LEVEL, "{width}x{height}: {off:?}");
        }
    }

    #[test]
    fn a_range_holds_its_neighbours_and_no_others() {
        let (width, mut plane) = (7, vec![5i16; 7 * 5]);
        plane[2 * width + 3] = 9;
        let mut range = Range::new(plane.len());
        range.of(&plane, width);
        for at in 0..plane.len() {
            let near = (at / width).abs_diff(2) <= 1 && (at % width).abs_diff(3) <= 1;
            assert_eq!((range.low[at], range.high[at]), (5, if near { 9 } else { 5 }), "{at}");
        }
    }
}
