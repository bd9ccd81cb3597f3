//! Things followed from picture to picture: what flickers in one place, or here and there, is no motion.
//!
//! Rain, insects before the lamp and the noise of a coder give blobs that last a picture or two, or never leave their
//! place. People and vehicles hang together from one picture to the next, and small ones are believed once they went
//! somewhere. The more blobs come to nothing, the longer a small one is waited for.

use super::blobs::Blob;

/// More than this many are not followed.
const MOST: usize = 64;
/// From so many pixels on (of 14,400) a thing is believed when it is seen again.
const LARGE: f32 = 45.0;
const LARGE_IN_CALM: f32 = 25.0;
const CLUTTERED: f32 = 0.1;
const HITS_OF_LARGE: u32 = 2;
/// And for so long: what crosses the lamp is gone by then.
const LEAST_S: f32 = 0.15;
/// And longer what leaves a part of its length behind in a step.
const FAST: f32 = 0.25;
const LEAST_FAST_S: f32 = 0.3;
/// And longest if it is brighter than the ground by so many levels: an insect before the lamp is gone by then.
const LEAST_GLOWING_S: f32 = 0.55;
const GLOWS: f32 = 40.0;
/// While light changes about the picture.
const LEAST_IN_UNREST_S: f32 = 0.35;
const HITS_OF_SMALL: u32 = 3;
/// Chance that blobs which have nothing to do with each other make a small thing.
const CHANCE: f32 = 1e-4;
/// A small thing goes somewhere: this share of its steps is its way.
const STRAIGHT: f32 = 0.5;
/// Steps shorter than this are jitter, in working pixels.
const JITTER: f32 = 1.5;
/// From one picture to the next a thing moves by less than this part of its length, or by the same step as before to
/// within the second: insects and drops leap.
const STEP: f32 = 0.3;
const OVERLAP: f32 = 0.2;
const SURPRISE: f32 = 0.3;
/// Most that is asked of a small one when much comes to nothing.
const MOST_HITS: u32 = 40;
/// How far a small one must have gone, in working pixels.
const TRAVELLED: f32 = 2.5;
/// And how far any, while light changes about the picture.
const TRAVELLED_IN_UNREST: f32 = 2.5;
/// A thing may leap by this many pixels more than it did before.
const LEAP: f32 = 3.0;
/// It is forgotten when not seen for so long.
const FORGOTTEN_S: f32 = 0.7;
/// Seen in a row is what was seen within this; a doubled picture or one that hides it may lie between.
const IN_A_ROW_S: f32 = 0.25;
/// Pictures further apart than this show nothing twice.
const SPARSE_S: f32 = 0.45;
/// Time constant of the count of blobs that come to nothing.
const CLUTTER_S: f32 = 5.0;

#[derive(Debug, Clone, Copy, Default)]
struct Thing {
    left: f32,
    right: f32,
    top: f32,
    bottom: f32,
    at: (f32, f32),
    first: (f32, f32),
    /// Pixels a second.
    speed: (f32, f32),
    travelled: f32,
    /// Pictures in a row in which it was where it could be expected.
    hits: u32,
    /// Since the first of them.
    lasts_s: f32,
    /// Of them, those in which it was large.
    large_hits: u32,
    /// Longest step in parts of its length.
    stride: f32,
    /// Steps taken, longer than jitter.
    path: f32,
    unseen_s: f32,
    is_large: bool,
    /// It was much brighter than the ground.
    glows: bool,
    /// It touches the picture's rim.
    enters: bool,
    believed: bool,
    /// In the present picture.
    seen: bool,
}

/// Allocates when made only.
#[derive(Debug)]
pub struct Things {
    followed: Vec<Thing>,
    /// Share of the picture that small blobs reach, smoothed: the chance that one falls into another's reach.
    clutter: f32,
    /// Working pixels of the picture over 14,400, and its root.
    area: f32,
    right: u16,
    bottom: u16,
    length: f32,
}

impl Things {
    pub fn new(width: usize, height: usize) -> Self {
        let area = ((width * height) as f32 / 14_400.0).max(0.05);
        Self {
            followed: Vec::with_capacity(MOST),
            clutter: 0.0,
            area,
            right: width as u16,
            bottom: height as u16,
            length: area.sqrt(),
        }
    }

    pub fn forget(&mut self) {
        self.followed.clear();
    }

    /// Takes the blobs of a picture and keeps only those of believed things accepted.
    pub fn follow(&mut self, blobs: &mut [Blob], unrest: bool, step_s: f32) {
        for thing in &mut self.followed {
            thing.seen = false;
            thing.unseen_s += step_s;
        }
        let sparse = step_s > SPARSE_S;
        let calm = 1.0 - (self.clutter / CLUTTERED).min(1.0);
        let large = (LARGE - (LARGE - LARGE_IN_CALM) * calm) * self.area;
        let least_hits = self.least_hits(blobs, step_s);
        for blob in blobs.iter_mut().filter(|blob| blob.accepted) {
            let found = self.nearest(blob);
            let thing = match found {
                Some(at) if !blob.doubtful || self.followed[at].believed => &mut self.followed[at],
                None if !blob.doubtful && self.followed.len() < MOST => {
                    self.followed.push(Thing { first: centre(blob), at: centre(blob), ..Thing::default() });
                    self.followed.last_mut().expect("one was just added, because push adds at the end")
                }
                _ => {
                    blob.accepted = false;
                    continue;
                }
            };
            let rim = blob.left == 0 || blob.top == 0 || blob.right >= self.right || blob.bottom >= self.bottom;
            thing.enters = rim;
            thing.glows |= blob.brighter > GLOWS * blob.pixels as f32;
            thing.take(blob, large, self.length, IN_A_ROW_S.max(1.6 * step_s));
            let hits = if thing.large_hits >= HITS_OF_LARGE { HITS_OF_LARGE } else { least_hits };
            let small = thing.large_hits < HITS_OF_LARGE;
            let went = thing.travelled >= TRAVELLED * self.length && thing.travelled >= STRAIGHT * thing.path;
            let fast = thing.stride > FAST;
            let least_s = match (fast, thing.glows) {
                (true, true) => LEAST_GLOWING_S,
                (true, false) => LEAST_FAST_S,
                _ => LEAST_S,
            };
            let lasts = thing.lasts_s >= if unrest { least_s.max(LEAST_IN_UNREST_S) } else { least_s };
            let went = went && (!unrest || thing.travelled >= TRAVELLED_IN_UNREST * self.length);
            thing.believed |= sparse || thing.hits >= hits && lasts && (!small && !unrest || went);
            blob.accepted = thing.believed;
        }
        self.followed.retain(|thing| thing.unseen_s <= FORGOTTEN_S.max(1.5 * step_s));
        for thing in &mut self.followed {
            thing.settle();
        }
    }

    /// How often a small thing must be seen in a row, so that chance seldom does it: small blobs fall into the reach
    /// of another with a probability of the area that they all reach.
    fn least_hits(&mut self, blobs: &[Blob], step_s: f32) -> u32 {
        let leap = 2.0 * LEAP * self.length;
        let reach = |blob: &Blob| {
            let (across, down) = (f32::from(blob.right - blob.left), f32::from(blob.bottom - blob.top));
            (2.0 * across + leap) * (2.0 * down + leap)
        };
        let small =
            blobs.iter().filter(|blob| blob.accepted && !blob.doubtful && (blob.pixels as f32) < LARGE * self.area);
        let share = (small.map(reach).sum::<f32>() / (14_400.0 * self.area)).min(0.95);
        let rate = 1.0 - (-step_s / CLUTTER_S).exp();
        self.clutter += (share - self.clutter) * if share > self.clutter { rate.max(0.2) } else { rate };
        let hits = (CHANCE.ln() / self.clutter.max(1e-3).ln()).ceil() as u32;
        hits.clamp(HITS_OF_SMALL, MOST_HITS)
    }

    fn nearest(&self, blob: &Blob) -> Option<usize> {
        let (x, y) = centre(blob);
        let (left, right) = (f32::from(blob.left), f32::from(blob.right));
        let (top, bottom) = (f32::from(blob.top), f32::from(blob.bottom));
        let near = |thing: &Thing| {
            let leap = LEAP * self.length;
            let (dx, dy) =
                if thing.seen { (0.0, 0.0) } else { (thing.speed.0 * thing.unseen_s, thing.speed.1 * thing.unseen_s) };
            let spread = |a: f32, b: f32, moved: f32| (a.min(a + moved) - leap, b.max(b + moved) + leap);
            let (l, r) = spread(thing.left, thing.right, dx);
            let (t, b) = spread(thing.top, thing.bottom, dy);
            left < r && right > l && top < b && bottom > t
        };
        let distance = |thing: &Thing| (thing.at.0 - x).hypot(thing.at.1 - y) - if thing.believed { LEAP } else { 0.0 };
        let near = self.followed.iter().enumerate().filter(|(_, thing)| near(thing));
        near.min_by(|a, b| distance(a.1).total_cmp(&distance(b.1))).map(|(at, _)| at)
    }
}

impl Thing {
    fn take(&mut self, blob: &Blob, large: f32, length: f32, in_a_row_s: f32) {
        let (left, right) = (f32::from(blob.left), f32::from(blob.right));
        let (top, bottom) = (f32::from(blob.top), f32::from(blob.bottom));
        let is_large = blob.pixels as f32 >= large;
        if self.seen {
            // A further part of it.
            (self.left, self.right) = (self.left.min(left), self.right.max(right));
            (self.top, self.bottom) = (self.top.min(top), self.bottom.max(bottom));
            if is_large && !self.is_large {
                (self.is_large, self.large_hits) = (true, self.large_hits + 1);
            }
            return;
        }
        let at = centre(blob);
        if !self.believed && self.unseen_s > in_a_row_s {
            self.begin_anew(at);
        }
        if self.hits > 0 && self.unseen_s > 0.0 {
            let size = (right - left).max(bottom - top).max(self.right - self.left).max(self.bottom - self.top);
            let size = size + 2.0 * length;
            let (dx, dy) = (at.0 - self.at.0, at.1 - self.at.1);
            let (sx, sy) = (self.speed.0 * self.unseen_s, self.speed.1 * self.unseen_s);
            let shared = (right.min(self.right) - left.max(self.left)).max(0.0)
                * (bottom.min(self.bottom) - top.max(self.top)).max(0.0);
            let smaller = ((right - left) * (bottom - top)).min((self.right - self.left) * (self.bottom - self.top));
            let expected = shared >= OVERLAP * smaller
                || dx.hypot(dy) <= STEP * size
                || (dx - sx).hypot(dy - sy) <= SURPRISE * size;
            if !expected {
                self.begin_anew(at);
                self.believed = false;
            }
            // What comes in grows as much as it goes.
            if !self.enters || self.glows {
                self.stride = self.stride.max(dx.hypot(dy) / size);
            }
            if dx.hypot(dy) > JITTER * length {
                self.path += dx.hypot(dy);
            }
            self.speed = (dx / self.unseen_s, dy / self.unseen_s);
        }
        (self.left, self.right, self.top, self.bottom) = (left, right, top, bottom);
        self.at = at;
        self.travelled = (at.0 - self.first.0).hypot(at.1 - self.first.1);
        self.lasts_s += if self.hits > 0 { self.unseen_s } else { 0.0 };
        self.hits += 1;
        (self.is_large, self.large_hits) = (is_large, if is_large { self.large_hits + 1 } else { self.large_hits });
        self.seen = true;
    }

    fn begin_anew(&mut self, at: (f32, f32)) {
        (self.hits, self.large_hits, self.lasts_s) = (0, 0, 0.0);
        (self.path, self.travelled, self.stride, self.first) = (0.0, 0.0, 0.0, at);
    }

    fn settle(&mut self) {
        if self.seen {
            self.unseen_s = 0.0;
        }
    }
}

fn centre(blob: &Blob) -> (f32, f32) {
    (f32::from(blob.left + blob.right) / 2.0, f32::from(blob.top + blob.bottom) / 2.0)
}
