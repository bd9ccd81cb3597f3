//! Light that changed over a part of the picture: a cloud, a lamp, an exposure.
//!
//! Light multiplies what is there and covers much of the picture at once; a thing replaces what is there. Block by
//! block the background is tried with the gain that the block's means give; where that explains most of the
//! difference, and such blocks hang together over a good part of the picture, it was light, and the background follows
//! at once. What moves within keeps its difference. (Ratio models of light: Kaewtrakulpong and Bowden, AVBS 2001;
//! Jacques, Jung and Musse, SIBGRAPI 2005.)

use super::plane::LEVEL;

/// Side of a block, working pixels.
const BLOCK: usize = 8;
/// A block is looked at when it differs by this much in the mean, levels.
const LEAST_LEVELS: i32 = 3;
/// A gain explains a block when it leaves less than this share of the difference, in percent, and a level for noise.
const LEFT_PERCENT: i32 = 35;
/// Blocks that hang together, in percent of all; a lorry near by is smaller or has more to it.
const LEAST_AREA_PERCENT: usize = 12;
/// A pattern has this mean deviation, levels, and a gain keeps it when it leaves less than this share, in percent.
const PATTERN_LEVELS: i32 = 4;
const KEPT_PERCENT: i32 = 45;
/// Blocks of a region that must show it, in percent.
const LEAST_SHOWN_PERCENT: usize = 30;
/// Gains in parts of 256.
const ONE: i32 = 256;
const DARKEST: i32 = ONE * 35 / 100;
const BRIGHTEST: i32 = ONE * 3;
/// Too dark to divide by, in levels.
const DARK: i32 = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Same,
    /// The gain; and whether a pattern on the ground shows it to be light, which a bare wall cannot.
    Light(i32, bool),
    Other,
}

/// Allocates when made only.
#[derive(Debug)]
pub struct Light {
    width: usize,
    height: usize,
    across: usize,
    down: usize,
    verdicts: Vec<Verdict>,
    /// In parts of 256; 0 where there is none.
    gains: Vec<i32>,
    region: Vec<u16>,
    waiting: Vec<u16>,
}

impl Light {
    pub fn new(width: usize, height: usize) -> Self {
        let (across, down) = (width.div_ceil(BLOCK), height.div_ceil(BLOCK));
        Self {
            width,
            height,
            across,
            down,
            verdicts: vec![Verdict::Same; across * down],
            gains: vec![0; across * down],
            region: Vec::with_capacity(across * down),
            waiting: Vec::with_capacity(across * down),
        }
    }

    /// Lets the background follow light; the share of the picture that it changed, 0 to 1.
    pub fn follow(&mut self, now: &[i16], usual: &mut [i16]) -> f32 {
        for block in 0..self.verdicts.len() {
            self.verdicts[block] = self.verdict(block, now, usual);
        }
        let mut lit = 0;
        for block in 0..self.verdicts.len() {
            if !matches!(self.verdicts[block], Verdict::Light(..)) {
                continue;
            }
            self.gather(block);
            let shown = |block: &&u16| matches!(self.verdicts[usize::from(**block)], Verdict::Light(_, true));
            let shown = self.region.iter().filter(shown).count();
            let large = self.region.len() * 100 >= LEAST_AREA_PERCENT * self.verdicts.len();
            if large && shown * 100 >= LEAST_SHOWN_PERCENT * self.region.len() {
                lit += self.region.len();
                self.apply(usual);
            }
            self.region.iter().for_each(|&block| self.verdicts[usize::from(block)] = Verdict::Same);
        }
        lit as f32 / self.verdicts.len() as f32
    }

    fn rows(&self, block: usize) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        let (left, top) = (block % self.across * BLOCK, block / self.across * BLOCK);
        let (right, bottom, width) = ((left + BLOCK).min(self.width), (top + BLOCK).min(self.height), self.width);
        (top..bottom).map(move |y| y * width + left..y * width + right)
    }

    fn verdict(&self, block: usize, now: &[i16], usual: &[i16]) -> Verdict {
        let (mut count, mut sum_now, mut sum_usual, mut apart) = (0, 0i32, 0i32, 0i32);
        for row in self.rows(block) {
            for (&now, &usual) in now[row.clone()].iter().zip(&usual[row.clone()]) {
                let (now, usual) = (i32::from(now), i32::from(usual));
                (sum_now, sum_usual, apart) = (sum_now + now, sum_usual + usual, apart + (now - usual).abs());
            }
            count += row.len() as i32;
        }
        let level = i32::from(LEVEL) * count;
        if apart < LEAST_LEVELS * level {
            return Verdict::Same;
        }
        if sum_usual < DARK * level {
            return Verdict::Other;
        }
        let gain = (i64::from(sum_now) * i64::from(ONE) / i64::from(sum_usual)) as i32;
        let gain = gain.clamp(DARKEST, BRIGHTEST);
        let (mean, mut pattern, mut left) = (sum_usual / count, 0i32, 0i32);
        for row in self.rows(block) {
            for (&now, &usual) in now[row.clone()].iter().zip(&usual[row]) {
                left += (i32::from(now) - lit(usual, gain)).abs();
                pattern += (lit(usual, gain) - mean * gain / ONE).abs();
            }
        }
        if i64::from(left - level) * 100 < i64::from(apart) * i64::from(LEFT_PERCENT) {
            let shown = pattern > PATTERN_LEVELS * level
                && i64::from(left) * 100 < i64::from(pattern) * i64::from(KEPT_PERCENT);
            Verdict::Light(gain, shown)
        } else {
            Verdict::Other
        }
    }

    /// Blocks of light on the same side of none that hang together with this one, and what they enclose.
    fn gather(&mut self, first: usize) {
        let side = |verdict: Verdict| match verdict {
            Verdict::Light(gain, _) => Some(gain > ONE),
            _ => None,
        };
        let mine = side(self.verdicts[first]);
        self.region.clear();
        self.waiting.clear();
        self.waiting.push(first as u16);
        self.region.push(first as u16);
        while let Some(block) = self.waiting.pop() {
            for next in self.around(usize::from(block)).into_iter().flatten() {
                if side(self.verdicts[next]) == mine && !self.region.contains(&(next as u16)) {
                    self.region.push(next as u16);
                    self.waiting.push(next as u16);
                }
            }
        }
    }

    fn around(&self, block: usize) -> [Option<usize>; 4] {
        let (x, y) = (block % self.across, block / self.across);
        [
            (x > 0).then(|| block - 1),
            (x + 1 < self.across).then_some(block + 1),
            (y > 0).then(|| block - self.across),
            (y + 1 < self.down).then_some(block + self.across),
        ]
    }

    fn apply(&mut self, usual: &mut [i16]) {
        self.gains.fill(0);
        for (gain, verdict) in self.gains.iter_mut().zip(&self.verdicts) {
            *gain = match verdict {
                Verdict::Same => ONE,
                _ => 0,
            };
        }
        for &block in &self.region {
            if let Verdict::Light(gain, _) = self.verdicts[usize::from(block)] {
                self.gains[usize::from(block)] = gain;
            }
        }
        for at in 0..self.region.len() {
            self.relight(usize::from(self.region[at]), usual);
        }
        // Something before the lit ground: three sides of it tell how it would be lit.
        for block in 0..self.verdicts.len() {
            if self.verdicts[block] == Verdict::Other {
                let lit = |next: &usize| self.region.contains(&(*next as u16));
                if self.around(block).into_iter().flatten().filter(lit).count() >= 3 {
                    self.relight(block, usual);
                }
            }
        }
    }

    /// Gains run evenly from the middle of a block to that of the next, so that they add no edges; blocks without one
    /// are passed over.
    fn relight(&self, block: usize, usual: &mut [i16]) {
        let middle = (BLOCK / 2) as i32;
        let (left, top) = (block % self.across * BLOCK, block / self.across * BLOCK);
        let (column, row) = ((block % self.across) as i32, (block / self.across) as i32);
        for y in top..(top + BLOCK).min(self.height) {
            for x in left..(left + BLOCK).min(self.width) {
                let (dx, dy) = ((x - left) as i32 * 2 + 1 - 2 * middle, (y - top) as i32 * 2 + 1 - 2 * middle);
                let (sx, sy) = (dx.signum(), dy.signum());
                let (wx, wy) = (dx.abs(), dy.abs());
                let full = 2 * BLOCK as i32;
                let (mut sum, mut weights) = (0, 0);
                for (gx, gy, weight) in [
                    (0, 0, (full - wx) * (full - wy)),
                    (sx, 0, wx * (full - wy)),
                    (0, sy, (full - wx) * wy),
                    (sx, sy, wx * wy),
                ] {
                    let (gx, gy) = (column + gx, row + gy);
                    if gx < 0 || gy < 0 || gx >= self.across as i32 || gy >= self.down as i32 {
                        continue;
                    }
                    let gain = self.gains[gy as usize * self.across + gx as usize];
                    if gain > 0 {
                        (sum, weights) = (sum + gain * weight, weights + weight);
                    }
                }
                if weights > 0 {
                    let at = y * self.width + x;
                    usual[at] = lit(usual[at], sum / weights) as i16;
                }
            }
        }
    }
}

fn lit(usual: i16, gain: i32) -> i32 {
    (i32::from(usual) * gain / ONE).min(255 * i32::from(LEVEL))
}
