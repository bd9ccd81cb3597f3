//! Which cells move in a picture.
//!
//! ```text
//! luma u8, any size ─ plane: 160 wide, i16 ─ shift: shake taken out ─ background: which pixels differ, and changed
//!   of late ─ light: what light explains ─ blobs: what hangs together ─ judge: thing, light or nothing
//!   ─ things: what lasts and goes somewhere ─ cells, pixels
//! ```
//!
//! Belongs here: pure code over planes; all that is learnt of one camera's picture.
//! Does not belong here: on and off (`state`), events, decoding.
//! Invariant: nothing is allocated once a detector is made; no constant knows a camera, a clip or a size.
//!
//! The parts follow published work: two values a pixel with shared deviation, after Stauffer and Grimson (CVPR 1999)
//! and Zivkovic's MOG2 (ICPR 2004); neighbours' values as a pixel's own, after ViBe (Barnich and Van Droogenbroeck,
//! IEEE TIP 2011); light as a gain, after Jacques, Jung and Musse (SIBGRAPI 2005). What makes it hard is listed with
//! CDnet 2014 (Wang et al., CVPRW 2014): bad weather, low frame rate, night, shadow, dynamic background, jitter.

mod background;
mod blobs;
mod exposure;
mod judge;
mod light;
mod plane;
mod shift;
mod things;

use background::{Background, CHANGES};
use blobs::Blobs;
use campanile_proto::grid::{CELLS, COLUMNS, CellSet, ROWS};
use judge::{Judge, Kind};
use light::Light;
use plane::Shrink;
use shift::Shift;
use things::Things;

pub const NAME: &str = "campanile-grid";
pub const VERSION: &str = "2";

/// Share of a cell that must move.
const CELL_SHARE: f32 = 0.2;
/// From this share of differing pixels on, light is looked for.
const LOOK_FOR_LIGHT: f32 = 0.03;
/// More of the picture than this does not change at once but by light that nothing explains: a lens opened, an IR cut
/// filter, another view.
const LIGHT_SHARE: f32 = 0.4;
/// Nothing is said for so long then, while the background follows with this time constant.
const SETTLE_S: f32 = 1.0;
const FOLLOW_S: f32 = 0.2;
/// A crowd before the lens changes as much, and is not to be settled away for good: so much may be settled in a row,
/// and this part of the time.
const MOST_SETTLE_S: f32 = 5.0;
const SETTLE_PART: f32 = 0.2;
/// Pictures further apart than this say nothing of motion between them. Key frames of cameras that save bits come
/// every half minute.
const MAX_STEP_S: f32 = 60.0;
/// A picture like the one before is taken for a double when it comes within this.
const DOUBLE_S: f32 = 0.25;

/// What was seen in one picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub moved: CellSet,
    /// False: nothing can be said of this picture (first pictures, light).
    pub looked: bool,
}

impl Seen {
    const NOTHING: Self = Self { moved: CellSet::EMPTY, looked: false };

    pub fn moves(&self) -> bool {
        self.looked && !self.moved.is_empty()
    }
}

/// Moving pixels at working resolution, row by row: 255 moves, 0 does not. A working pixel is `factor` x `factor`
/// pixels of the picture given, from its left upper corner.
#[derive(Debug, Clone, Copy)]
pub struct Mask<'a> {
    pub width: usize,
    pub height: usize,
    pub factor: usize,
    pub pixels: &'a [u8],
}

/// Looks at one camera's pictures. Allocates when made only.
pub struct Detector {
    width: usize,
    height: usize,
    shrink: Shrink,
    now: Vec<i16>,
    before: Vec<i16>,
    room: Vec<i16>,
    shift: Shift,
    background: Background,
    light: Light,
    marks: Vec<u8>,
    blobs: Blobs,
    judge: Judge,
    things: Things,
    mask: Vec<u8>,
    cell_of_column: Vec<u16>,
    cell_of_row: Vec<u16>,
    ignored: CellSet,
    /// Left of settling, and of what may be settled.
    settle_s: f32,
    may_settle_s: f32,
    /// Since the first picture, or the last that began anew.
    age_s: f32,
    /// Since the last picture that was no double.
    step_s: f32,
    started: bool,
    last: Seen,
}

impl Detector {
    /// For pictures of this size in pixels, at least 160 x 90 for full effect.
    pub fn new(width: usize, height: usize) -> Self {
        let shrink = Shrink::new(width, height);
        let pixels = shrink.pixels();
        let (w, h) = (shrink.width.max(1), shrink.height.max(1));
        Self {
            width,
            height,
            shrink,
            now: vec![0; pixels],
            before: vec![0; pixels],
            room: vec![0; pixels],
            shift: Shift::new(w, h),
            background: Background::new(w, pixels),
            light: Light::new(w, h),
            marks: vec![0; pixels],
            blobs: Blobs::new(w, h),
            judge: Judge::new(pixels),
            things: Things::new(w, h),
            mask: vec![0; pixels],
            cell_of_column: (0..w).map(|x| (x * COLUMNS / w) as u16).collect(),
            cell_of_row: (0..h).map(|y| (y * ROWS / h * COLUMNS) as u16).collect(),
            ignored: CellSet::EMPTY,
            settle_s: 0.0,
            may_settle_s: MOST_SETTLE_S,
            age_s: 0.0,
            step_s: 0.0,
            started: false,
            last: Seen::NOTHING,
        }
    }

    /// Does not look at these cells.
    pub fn ignoring(mut self, cells: CellSet) -> Self {
        self.ignored = cells;
        self
    }

    /// Looks at the next picture, `step_s` seconds after the one before. `luma` is 0 to 255, full or limited range,
    /// rows `stride` bytes apart. A plane too small for the size given in `new` is not looked at.
    pub fn frame(&mut self, luma: &[u8], stride: usize, step_s: f32) -> Seen {
        if self.width == 0
            || self.height == 0
            || stride < self.width
            || luma.len() < stride * (self.height - 1) + self.width
        {
            return Seen::NOTHING;
        }
        std::mem::swap(&mut self.now, &mut self.before);
        self.shrink.shrink(luma, stride, &mut self.now);
        if !self.started || !(0.0..=MAX_STEP_S).contains(&step_s) {
            self.restart();
            return Seen::NOTHING;
        }
        self.step_s += step_s;
        if self.step_s < DOUBLE_S && exposure::is_double(&self.now, &self.before) {
            return self.last;
        }
        let step_s = std::mem::take(&mut self.step_s);
        self.age_s += step_s;
        self.last = self.look(step_s);
        self.last
    }

    /// What moves in the picture looked at last.
    pub fn mask(&self) -> Mask<'_> {
        let Shrink { width, height, factor, .. } = self.shrink;
        Mask { width, height, factor, pixels: &self.mask }
    }

    fn restart(&mut self) {
        self.background.restart(&self.now);
        self.shift.forget();
        self.things.forget();
        self.mask.fill(0);
        (self.started, self.age_s, self.step_s) = (true, 0.0, 0.0);
        self.last = Seen::NOTHING;
    }

    fn look(&mut self, step_s: f32) -> Seen {
        if self.settle_s > 0.0 {
            self.shift.forget();
        } else {
            self.shift.straighten(&mut self.now, &self.background.usual, &mut self.room, step_s);
        }
        let lit = self.compare();
        if self.settles(step_s) {
            self.background.follow(&self.now, step_s, FOLLOW_S);
            self.things.forget();
            self.mask.fill(0);
            return Seen::NOTHING;
        }
        self.blobs.find(&self.marks, &self.now, &self.background.usual);
        let mut light_pixels = 0;
        self.judge.begin(self.background.mean_noise);
        for blob in &mut self.blobs.found {
            let kind = self.judge.kind(blob);
            (blob.accepted, blob.doubtful) = (matches!(kind, Kind::Thing | Kind::Doubtful), kind == Kind::Doubtful);
            light_pixels += if matches!(kind, Kind::Light | Kind::Doubtful) { blob.pixels } else { 0 };
        }
        self.judge.end(lit.max(light_pixels as f32 / self.marks.len() as f32), step_s);
        self.things.follow(&mut self.blobs.found, self.judge.unrest(), step_s);
        self.blobs.paint(&self.marks, &mut self.mask);
        self.background.learn(&self.now, &self.mask, self.age_s, step_s);
        if let Some(shift) = self.shift.stays(step_s) {
            self.background.hang(shift, &mut self.room);
        }
        Seen { moved: self.cells(), looked: true }
    }

    /// Marks what differs; the share of the picture whose light the background followed.
    fn compare(&mut self) -> f32 {
        let width = self.shrink.width;
        let since_recent = exposure::shared_change(&self.now, self.background.recent(), width);
        let mut lit = 0.0;
        for again in [false, true] {
            let since_usual = exposure::shared_change(&self.now, &self.background.usual, width);
            self.background.compare(&self.now, (since_usual, since_recent), &mut self.marks);
            self.leave_out_ignored();
            let differ = self.marks.iter().filter(|&&mark| mark != 0).count();
            if again || differ as f32 <= LOOK_FOR_LIGHT * self.marks.len() as f32 {
                break;
            }
            lit = self.background.relight(&self.now, &mut self.light);
            if lit == 0.0 {
                break;
            }
        }
        lit
    }

    fn leave_out_ignored(&mut self) {
        if self.ignored.is_empty() {
            return;
        }
        for (row, &first) in self.marks.chunks_exact_mut(self.shrink.width).zip(&self.cell_of_row) {
            for (mark, &column) in row.iter_mut().zip(&self.cell_of_column) {
                if self.ignored.contains(usize::from(first + column)) {
                    *mark = 0;
                }
            }
        }
    }

    /// Whether the light is so new that nothing can be said.
    fn settles(&mut self, step_s: f32) -> bool {
        let changed = self.marks.iter().filter(|&&mark| mark & CHANGES != 0).count();
        if changed as f32 > LIGHT_SHARE * self.marks.len() as f32 {
            self.settle_s = SETTLE_S;
        }
        let settles = self.settle_s > 0.0 && self.may_settle_s > 0.0;
        self.settle_s -= step_s;
        let gained = if settles { -step_s } else { SETTLE_PART * step_s };
        self.may_settle_s = (self.may_settle_s + gained).min(MOST_SETTLE_S);
        settles
    }

    /// Cells that the moving pixels fill enough of; the fullest where none is.
    fn cells(&self) -> CellSet {
        let mut counts = [0u16; CELLS];
        for (row, &first) in self.mask.chunks_exact(self.shrink.width.max(1)).zip(&self.cell_of_row) {
            for (&pixel, &column) in row.iter().zip(&self.cell_of_column) {
                counts[usize::from(first + column)] += u16::from(pixel != 0);
            }
        }
        let least = (CELL_SHARE * self.mask.len() as f32 / CELLS as f32).ceil().max(1.0) as u16;
        let mut moved = CellSet::EMPTY;
        (0..CELLS).filter(|&cell| counts[cell] >= least).for_each(|cell| moved.insert(cell));
        if moved.is_empty() {
            let fullest = (0..CELLS).max_by_key(|&cell| counts[cell]).filter(|&cell| counts[cell] > 0);
            fullest.into_iter().for_each(|cell| moved.insert(cell));
        }
        moved
    }
}

#[cfg(test)]
mod tests;
