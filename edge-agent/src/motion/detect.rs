//! Which cells move in a picture: a background model on small luma.
//!
//! A pixel moves when it differs both from the long-term background (seconds to a minute) and from the picture of
//! the last moments: what stands still is no motion, however new it is. Noise is learnt per pixel; a change that
//! the whole picture shares is light, not motion.

use campanile_proto::grid::{CELLS, COLUMNS, CellSet, ROWS};

pub const NAME: &str = "campanile-grid";
pub const VERSION: &str = "1";

/// Pixels of the working picture along a cell's sides: small enough to be cheap, large enough for a person far off.
const CELL_SIDE: usize = 5;
const WIDTH: usize = COLUMNS * CELL_SIDE;
const HEIGHT: usize = ROWS * CELL_SIDE;
const PIXELS: usize = WIDTH * HEIGHT;

/// Time constants in seconds: of the background where nothing moves, of the background under something, of the
/// noise estimate, and of the picture of the last moments.
const BACKGROUND_S: f32 = 8.0;
const UNDER_MOTION_S: f32 = 40.0;
const NOISE_S: f32 = 4.0;
const RECENT_S: f32 = 0.5;
/// Least difference that counts, in levels of luma (0 to 255).
const LEAST_FROM_BACKGROUND: f32 = 9.0;
const LEAST_FROM_RECENT: f32 = 5.0;
/// Multiples of the mean absolute deviation of a pixel.
const NOISE_FACTOR: f32 = 4.0;
/// Pixels of a cell that must move, of 25; with a moving neighbour, and alone.
const LEAST_PIXELS: u8 = 5;
const LEAST_PIXELS_ALONE: u8 = 11;
/// More moving cells than this share, beyond a change of level that all share, is light.
const LIGHT_SHARE: f32 = 0.5;
/// After light changed nothing is said for this long, while the background is learnt anew.
const SETTLE_S: f32 = 1.5;
/// Pictures further apart than this say nothing of motion between them. Key frames of cameras that save bits come
/// every half minute.
const MAX_STEP_S: f32 = 60.0;

/// What was seen in one picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub moved: CellSet,
    /// False: nothing can be said of this picture (first pictures, light).
    pub looked: bool,
}

/// Looks at one camera's pictures. Allocates when made only.
pub struct Detector {
    width: usize,
    height: usize,
    /// One for each column of the picture.
    sums: Vec<u32>,
    now: Vec<f32>,
    background: Vec<f32>,
    recent: Vec<f32>,
    noise: Vec<f32>,
    moving: Vec<bool>,
    settle_s: f32,
    started: bool,
    ignored: CellSet,
}

impl Detector {
    /// For pictures of this size, at least 160 x 90 for full effect.
    pub fn new(width: usize, height: usize) -> Self {
        let plane = || vec![0.0; PIXELS];
        Self {
            width,
            height,
            sums: vec![0; width],
            now: plane(),
            background: plane(),
            recent: plane(),
            noise: vec![2.0; PIXELS],
            moving: vec![false; PIXELS],
            settle_s: SETTLE_S,
            started: false,
            ignored: CellSet::EMPTY,
        }
    }

    /// Does not look at these cells.
    pub fn ignoring(mut self, cells: CellSet) -> Self {
        self.ignored = cells;
        self
    }

    /// Looks at the next picture, `step_s` after the one before. A plane too small for the size given in `new`
    /// is not looked at.
    pub fn frame(&mut self, luma: &[u8], stride: usize, step_s: f32) -> Seen {
        let nothing = Seen { moved: CellSet::EMPTY, looked: false };
        if self.width == 0
            || self.height == 0
            || stride < self.width
            || luma.len() < stride * (self.height - 1) + self.width
        {
            return nothing;
        }
        self.shrink(luma, stride);
        if !self.started || !(0.0..=MAX_STEP_S).contains(&step_s) {
            self.restart();
            return nothing;
        }
        let (moved, count) =
            self.compare(shared_change(&self.now, &self.background), shared_change(&self.now, &self.recent));
        if count as f32 > LIGHT_SHARE * CELLS as f32 {
            self.settle_s = SETTLE_S;
        }
        let settling = self.settle_s > 0.0;
        self.settle_s -= step_s;
        self.learn(step_s, settling);
        if settling { nothing } else { Seen { moved, looked: true } }
    }

    /// Means of the pixels under each working pixel.
    fn shrink(&mut self, luma: &[u8], stride: usize) {
        for row in 0..HEIGHT {
            let (top, bottom) = span(row, HEIGHT, self.height);
            // Line by line, so that the additions run side by side.
            self.sums.fill(0);
            for line in top..bottom {
                let pixels = &luma[line * stride..line * stride + self.width];
                self.sums.iter_mut().zip(pixels).for_each(|(sum, &pixel)| *sum += u32::from(pixel));
            }
            for column in 0..WIDTH {
                let (left, right) = span(column, WIDTH, self.width);
                let sum: u32 = self.sums[left..right].iter().sum();
                self.now[row * WIDTH + column] = sum as f32 / ((right - left) * (bottom - top)) as f32;
            }
        }
    }

    fn restart(&mut self) {
        self.background.copy_from_slice(&self.now);
        self.recent.copy_from_slice(&self.now);
        self.settle_s = SETTLE_S;
        self.started = true;
    }

    /// Marks moving pixels and gives the moving cells and how many there were before lone ones were left out.
    fn compare(&mut self, since_background: f32, since_recent: f32) -> (CellSet, usize) {
        for pixel in 0..PIXELS {
            let now = self.now[pixel];
            let threshold = NOISE_FACTOR * self.noise[pixel];
            let from_background = (now - self.background[pixel] - since_background).abs();
            let from_recent = (now - self.recent[pixel] - since_recent).abs();
            self.moving[pixel] = from_background > threshold.max(LEAST_FROM_BACKGROUND)
                && from_recent > (0.6 * threshold).max(LEAST_FROM_RECENT);
        }
        let mut counts = [0u8; CELLS];
        for (pixel, _) in self.moving.iter().enumerate().filter(|(_, moving)| **moving) {
            counts[pixel / (WIDTH * CELL_SIDE) * COLUMNS + pixel % WIDTH / CELL_SIDE] += 1;
        }
        self.ignored.iter().for_each(|cell| counts[cell] = 0);
        let active = |cell: usize| counts[cell] >= LEAST_PIXELS;
        let mut moved = CellSet::EMPTY;
        for cell in (0..CELLS).filter(|&cell| active(cell)) {
            if counts[cell] >= LEAST_PIXELS_ALONE || neighbours(cell).any(active) {
                moved.insert(cell);
            }
        }
        (moved, (0..CELLS).filter(|&cell| active(cell)).count())
    }

    fn learn(&mut self, step_s: f32, settling: bool) {
        let rate = |constant: f32| 1.0 - (-step_s / constant).exp();
        let (still, under) = if settling { (rate(0.3), rate(0.3)) } else { (rate(BACKGROUND_S), rate(UNDER_MOTION_S)) };
        let (noise_rate, recent_rate) = (rate(NOISE_S), rate(RECENT_S));
        for pixel in 0..PIXELS {
            let now = self.now[pixel];
            let difference = now - self.background[pixel];
            let moving = self.moving[pixel];
            self.background[pixel] += difference * if moving { under } else { still };
            // Against the recent picture, so that slow change is no noise.
            let deviation = (now - self.recent[pixel]).abs().min(if moving { 0.0 } else { 12.0 });
            if !moving {
                self.noise[pixel] += (deviation - self.noise[pixel]) * noise_rate;
            }
            self.recent[pixel] += (now - self.recent[pixel]) * recent_rate;
        }
    }
}

/// By how much the whole picture changed: the median over cells of their mean difference,
/// found by counting in steps of half a level.
fn shared_change(now: &[f32], before: &[f32]) -> f32 {
    const STEPS: usize = 1024;
    let mut counts = [0u16; STEPS];
    for (now, before) in now.chunks_exact(CELL_SIDE * WIDTH).zip(before.chunks_exact(CELL_SIDE * WIDTH)) {
        let mut sums = [0.0; COLUMNS];
        for (at, (now, before)) in now.iter().zip(before).enumerate() {
            sums[at % WIDTH / CELL_SIDE] += now - before;
        }
        for sum in sums {
            let mean = sum / (CELL_SIDE * CELL_SIDE) as f32;
            let step = (mean * 2.0 + STEPS as f32 / 2.0).clamp(0.0, STEPS as f32 - 1.0);
            counts[step as usize] += 1;
        }
    }
    let mut below = 0;
    for (step, &count) in counts.iter().enumerate() {
        below += usize::from(count);
        if below * 2 >= CELLS {
            return (step as f32 - STEPS as f32 / 2.0) / 2.0;
        }
    }
    0.0
}

/// Pixels of the picture under one of `parts` of the working picture, at least one.
fn span(part: usize, parts: usize, size: usize) -> (usize, usize) {
    let start = (part * size / parts).min(size - 1);
    (start, ((part + 1) * size / parts).clamp(start + 1, size))
}

/// The up to eight cells around one.
pub fn neighbours(cell: usize) -> impl Iterator<Item = usize> {
    let (row, column) = ((cell / COLUMNS) as isize, (cell % COLUMNS) as isize);
    (-1..=1).flat_map(move |dy| (-1..=1).map(move |dx| (dy, dx))).filter_map(move |(dy, dx)| {
        let (r, c) = (row + dy, column + dx);
        let inside = (0..ROWS as isize).contains(&r) && (0..COLUMNS as isize).contains(&c);
        ((dy, dx) != (0, 0) && inside).then(|| r as usize * COLUMNS + c as usize)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const W: usize = 320;
    const H: usize = 180;
    const STEP: f32 = 0.1;

    /// Small deterministic noise.
    fn noise(seed: &mut u32, amplitude: i32) -> i32 {
        *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (*seed >> 16) as i32 % (2 * amplitude + 1) - amplitude
    }

    /// A noisy textured wall at a level, with a bright square at a place.
    fn picture(seed: &mut u32, level: i32, square: Option<(usize, usize)>) -> Vec<u8> {
        let mut luma = vec![0u8; W * H];
        for y in 0..H {
            for x in 0..W {
                let texture = ((x / 20 + y / 20) % 2) as i32 * 20;
                let value = level + texture + noise(seed, 4);
                luma[y * W + x] = value.clamp(0, 255) as u8;
            }
        }
        if let Some((left, top)) = square {
            for y in top..(top + 30).min(H) {
                luma[y * W + left..y * W + (left + 20).min(W)].fill(230);
            }
        }
        luma
    }

    fn warmed_up(seed: &mut u32) -> Detector {
        let mut detector = Detector::new(W, H);
        for _ in 0..60 {
            detector.frame(&picture(seed, 90, None), W, STEP);
        }
        detector
    }

    #[test]
    fn noise_alone_does_not_move() {
        let mut seed = 1;
        let mut detector = warmed_up(&mut seed);
        for _ in 0..300 {
            let seen = detector.frame(&picture(&mut seed, 90, None), W, STEP);
            assert_eq!((seen.moved.len(), seen.looked), (0, true));
        }
    }

    #[test]
    fn a_walker_moves_the_cells_it_covers_and_no_others() {
        let mut seed = 2;
        let mut detector = warmed_up(&mut seed);
        let mut hit = 0;
        for step in 0..50 {
            let left = 20 + step * 5;
            let seen = detector.frame(&picture(&mut seed, 90, Some((left, 80))), W, STEP);
            hit += usize::from(!seen.moved.is_empty());
            for cell in seen.moved.iter() {
                let (x, y) = (cell % COLUMNS * 10, cell / COLUMNS * 10);
                assert!(x + 10 + 40 > left && x < left + 20 && (70..=110).contains(&y), "cell {x},{y} at {left}");
            }
        }
        assert!(hit >= 48, "{hit}");
    }

    #[test]
    fn what_stands_still_stops_moving() {
        let mut seed = 3;
        let mut detector = warmed_up(&mut seed);
        let standing: Vec<usize> =
            (0..60).map(|_| detector.frame(&picture(&mut seed, 90, Some((100, 80))), W, STEP).moved.len()).collect();
        assert!(standing[0] > 0);
        assert!(standing[30..].iter().all(|&cells| cells == 0), "{standing:?}");
    }

    #[test]
    fn light_is_not_motion_and_what_follows_is_seen_again() {
        let mut seed = 4;
        let mut detector = warmed_up(&mut seed);
        for _ in 0..20 {
            let seen = detector.frame(&picture(&mut seed, 150, None), W, STEP);
            assert!(seen.moved.is_empty());
        }
        for _ in 0..20 {
            detector.frame(&picture(&mut seed, 150, None), W, STEP);
        }
        let seen = detector.frame(&picture(&mut seed, 150, Some((200, 40))), W, STEP);
        assert!(seen.looked && !seen.moved.is_empty());
    }

    #[test]
    fn a_plane_that_is_too_small_is_not_looked_at() {
        let mut detector = Detector::new(W, H);
        assert!(!detector.frame(&[0; 100], W, STEP).looked);
        assert!(!Detector::new(0, 0).frame(&[], 0, STEP).looked);
    }
}
