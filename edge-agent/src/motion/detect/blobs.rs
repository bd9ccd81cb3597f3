//! Pixels that hang together become one thing, judged as one.

use super::background::CHANGES;

/// What is known of a thing in one picture, in working pixels.
#[derive(Debug, Clone, Copy, Default)]
pub struct Blob {
    pub pixels: u32,
    /// Of them, those that changed in the last moments.
    pub changed: u32,
    pub left: u16,
    pub right: u16,
    pub top: u16,
    pub bottom: u16,
    /// Products of gradients over it and its rim: picture with background, with itself, background with itself.
    pub across: f32,
    pub picture: f32,
    pub ground: f32,
    /// Sum of the difference from the background, in levels.
    pub brighter: f32,
    /// Sum of the brighter of picture and background, in levels.
    pub level: f32,
    /// Pixels whose gradients were taken.
    pub measured: u32,
    pub accepted: bool,
    /// Accepted only as a part of something else.
    pub doubtful: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Run {
    row: u16,
    from: u16,
    to: u16,
    label: u32,
}

/// Labels runs of marked pixels (union-find over rows). Allocates when made only.
pub struct Blobs {
    width: usize,
    height: usize,
    grown: Vec<u8>,
    runs: Vec<Run>,
    parents: Vec<u32>,
    pub found: Vec<Blob>,
}

impl Blobs {
    pub fn new(width: usize, height: usize) -> Self {
        let most = width.div_ceil(2) * height;
        Self {
            width,
            height,
            grown: vec![0; width * height],
            runs: Vec::with_capacity(most),
            parents: Vec::with_capacity(most),
            found: Vec::with_capacity(most),
        }
    }

    /// Finds what hangs together over gaps of two pixels, and measures it.
    pub fn find(&mut self, marks: &[u8], now: &[i16], usual: &[i16]) {
        self.grow(marks);
        self.label();
        self.measure(marks, now, usual);
    }

    fn grow(&mut self, marks: &[u8]) {
        let width = self.width;
        for y in 0..self.height {
            let row = |y: usize| &marks[y * width..(y + 1) * width];
            let (above, here, below) = (row(y.saturating_sub(1)), row(y), row((y + 1).min(self.height - 1)));
            let out = &mut self.grown[y * width..(y + 1) * width];
            for (((out, &a), &b), &c) in out.iter_mut().zip(above).zip(here).zip(below) {
                *out = a | b | c;
            }
            let mut before = 0;
            for x in 0..width {
                let mine = out[x];
                out[x] = mine | before | out.get(x + 1).copied().unwrap_or(0);
                before = mine;
            }
        }
    }

    fn label(&mut self) {
        self.runs.clear();
        self.parents.clear();
        let mut above = 0..0;
        for y in 0..self.height {
            let first = self.runs.len();
            let row = &self.grown[y * self.width..(y + 1) * self.width];
            let mut x = 0;
            while x < self.width {
                if row[x] == 0 {
                    x += 1;
                    continue;
                }
                let from = x;
                while x < self.width && row[x] != 0 {
                    x += 1;
                }
                let label = self.parents.len() as u32;
                self.parents.push(label);
                self.runs.push(Run { row: y as u16, from: from as u16, to: x as u16, label });
                let me = self.runs.len() - 1;
                let mut at = above.start;
                while at < above.end && usize::from(self.runs[at].from) <= x {
                    if usize::from(self.runs[at].to) >= from {
                        let (a, b) = (root(&mut self.parents, self.runs[at].label), root(&mut self.parents, label));
                        self.parents[a.max(b) as usize] = a.min(b);
                        self.runs[me].label = a.min(b);
                    }
                    at += 1;
                }
            }
            above = first..self.runs.len();
        }
        // Roots become numbers in order.
        self.found.clear();
        for at in 0..self.runs.len() {
            self.runs[at].label = root(&mut self.parents, self.runs[at].label);
        }
        for label in 0..self.parents.len() {
            if self.parents[label] == label as u32 {
                self.parents[label] = self.found.len() as u32 | ROOT;
                self.found.push(Blob { left: u16::MAX, top: u16::MAX, ..Blob::default() });
            }
        }
        for run in &mut self.runs {
            run.label = self.parents[run.label as usize] & !ROOT;
        }
    }

    fn measure(&mut self, marks: &[u8], now: &[i16], usual: &[i16]) {
        let (width, height) = (self.width, self.height);
        for run in &self.runs {
            let blob = &mut self.found[run.label as usize];
            let y = usize::from(run.row);
            let inner = y > 0 && y + 1 < height;
            for x in usize::from(run.from)..usize::from(run.to) {
                let at = y * width + x;
                if marks[at] != 0 {
                    blob.pixels += 1;
                    blob.changed += u32::from(marks[at] & CHANGES != 0);
                    blob.level += f32::from(usual[at].max(now[at])) / 128.0;
                    blob.brighter += f32::from(now[at] - usual[at]) / 128.0;
                    (blob.left, blob.right) = (blob.left.min(x as u16), blob.right.max(x as u16 + 1));
                    (blob.top, blob.bottom) = (blob.top.min(run.row), blob.bottom.max(run.row + 1));
                }
                if inner && x > 0 && x + 1 < width {
                    let slope = |plane: &[i16]| {
                        let across = f32::from(plane[at + 1] - plane[at - 1]) / 256.0;
                        let down = f32::from(plane[at + width] - plane[at - width]) / 256.0;
                        (across, down)
                    };
                    let (n, u) = (slope(now), slope(usual));
                    blob.measured += 1;
                    blob.across += n.0 * u.0 + n.1 * u.1;
                    blob.picture += n.0 * n.0 + n.1 * n.1;
                    blob.ground += u.0 * u.0 + u.1 * u.1;
                }
            }
        }
    }

    /// Writes the pixels of accepted things into a mask.
    pub fn paint(&self, marks: &[u8], mask: &mut [u8]) {
        mask.fill(0);
        for run in self.runs.iter().filter(|run| self.found[run.label as usize].accepted) {
            let start = usize::from(run.row) * self.width;
            for at in start + usize::from(run.from)..start + usize::from(run.to) {
                mask[at] = u8::from(marks[at] != 0) * u8::MAX;
            }
        }
    }
}

const ROOT: u32 = 1 << 31;

fn root(parents: &mut [u32], mut label: u32) -> u32 {
    while parents[label as usize] != label {
        let above = parents[label as usize];
        parents[label as usize] = parents[above as usize];
        label = above;
    }
    label
}
