//! By how much a shaken camera's picture is shifted, in whole working pixels.
//!
//! Found on anchors, the pixels with the steepest gradients, one a block, so that no moving thing holds most of them.
//! What is left below a pixel is within the range of neighbours that `background` allows.

use super::plane::LEVEL;

/// Side of the blocks that have an anchor each, working pixels.
const BLOCK: usize = 8;
/// Least gradient of an anchor, over two pixels.
const STEEP: i16 = 14 * LEVEL;
/// Fewer anchors say nothing.
const LEAST_ANCHORS: usize = 12;
/// Shifts that are looked for, each way.
const MOST: isize = 4;
/// A difference counts no more than this: what moves before an anchor is not weighed by its brightness.
const MOST_DIFFERENCE: i16 = 24 * LEVEL;
/// A shift must explain the picture so much better than none, in percent of what none leaves over.
const BETTER: u32 = 75;
/// Anchors are chosen anew so often.
const ANEW_S: f32 = 4.0;
/// A camera that was knocked hangs as it hangs after this.
const STAYS_S: f32 = 15.0;

/// Allocates when made only.
#[derive(Debug)]
pub struct Shift {
    width: usize,
    height: usize,
    anchors: Vec<u32>,
    chosen_s: f32,
    was: (isize, isize),
    same_s: f32,
    /// Of the last picture: where in it lies what the background has at (0, 0).
    pub at: (isize, isize),
}

impl Shift {
    pub fn new(width: usize, height: usize) -> Self {
        let most = (width / BLOCK + 1) * (height / BLOCK + 1);
        Self {
            width,
            height,
            anchors: Vec::with_capacity(most),
            chosen_s: f32::INFINITY,
            was: (0, 0),
            same_s: 0.0,
            at: (0, 0),
        }
    }

    pub fn forget(&mut self) {
        (self.chosen_s, self.at) = (f32::INFINITY, (0, 0));
    }

    /// Takes the shift out of a picture, in place; `room` is a plane to work in.
    pub fn straighten(&mut self, now: &mut Vec<i16>, usual: &[i16], room: &mut Vec<i16>, step_s: f32) {
        self.chosen_s += step_s;
        if self.chosen_s > ANEW_S {
            self.choose(usual);
            self.chosen_s = 0.0;
        }
        self.at = self.find(now, usual);
        if self.at == (0, 0) {
            return;
        }
        moved(now, room, self.width, self.at);
        std::mem::swap(now, room);
    }

    /// The shift, once it has stayed for so long that the camera hangs so now; none from then on.
    pub fn stays(&mut self, step_s: f32) -> Option<(isize, isize)> {
        self.same_s = if self.at == self.was { self.same_s + step_s } else { 0.0 };
        self.was = self.at;
        if self.at == (0, 0) || self.same_s < STAYS_S {
            return None;
        }
        self.chosen_s = f32::INFINITY;
        Some(std::mem::take(&mut self.at))
    }

    fn choose(&mut self, usual: &[i16]) {
        self.anchors.clear();
        let edge = MOST as usize + 1;
        if self.width <= 2 * edge || self.height <= 2 * edge {
            return;
        }
        for top in (edge..self.height - edge).step_by(BLOCK) {
            for left in (edge..self.width - edge).step_by(BLOCK) {
                let mut best = (STEEP, None);
                for y in top..(top + BLOCK).min(self.height - edge) {
                    for x in left..(left + BLOCK).min(self.width - edge) {
                        let at = y * self.width + x;
                        let across = (usual[at + 1] - usual[at - 1]).saturating_abs();
                        let down = (usual[at + self.width] - usual[at - self.width]).saturating_abs();
                        let steep = across.max(down);
                        if steep > best.0 {
                            best = (steep, Some(at as u32));
                        }
                    }
                }
                self.anchors.extend(best.1);
            }
        }
    }

    /// Steepest descent from the last shift and from none.
    fn find(&self, now: &[i16], usual: &[i16]) -> (isize, isize) {
        if self.anchors.len() < LEAST_ANCHORS {
            return (0, 0);
        }
        let none = self.left_over(now, usual, (0, 0));
        let mut best = ((0, 0), none);
        for start in [(0, 0), self.at] {
            let mut here = (start, self.left_over(now, usual, start));
            loop {
                let around = (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (dx, dy)));
                let around = around.map(|(dx, dy)| (here.0.0 + dx, here.0.1 + dy));
                let around = around.filter(|(x, y)| *x != here.0.0 || *y != here.0.1);
                let around = around.filter(|(x, y)| x.abs() <= MOST && y.abs() <= MOST);
                let next = around.map(|to| (to, self.left_over(now, usual, to))).min_by_key(|(_, left)| *left);
                match next {
                    Some(next) if next.1 < here.1 => here = next,
                    _ => break,
                }
            }
            if here.1 < best.1 {
                best = here;
            }
        }
        if u64::from(best.1) * 100 < u64::from(none) * u64::from(BETTER) { best.0 } else { (0, 0) }
    }

    fn left_over(&self, now: &[i16], usual: &[i16], (dx, dy): (isize, isize)) -> u32 {
        let offset = dy * self.width as isize + dx;
        let difference = |&at: &u32| {
            let there = (at as usize).wrapping_add_signed(offset);
            (now[there] - usual[at as usize]).saturating_abs().min(MOST_DIFFERENCE) as u32
        };
        self.anchors.iter().map(difference).sum::<u32>()
    }
}

/// What a plane has at (x + dx, y + dy), at (x, y); its rim repeated.
pub fn moved(plane: &[i16], out: &mut [i16], width: usize, (dx, dy): (isize, isize)) {
    let height = plane.len() / width.max(1);
    for (y, out) in out.chunks_exact_mut(width).enumerate() {
        let from = y.saturating_add_signed(dy).min(height - 1) * width;
        let row = &plane[from..from + width];
        let across = dx.unsigned_abs().min(width - 1);
        if dx >= 0 {
            out[..width - across].copy_from_slice(&row[across..]);
            out[width - across..].fill(row[width - 1]);
        } else {
            out[across..].copy_from_slice(&row[..width - across]);
            out[..across].fill(row[0]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const W: usize = 160;
    const H: usize = 90;

    /// A wall of stones of many shades, seen from a little further right and down.
    fn wall(dx: usize, dy: usize) -> Vec<i16> {
        let stone = |x: usize, y: usize| (x.wrapping_mul(7_919) ^ y.wrapping_mul(104_729)) * 31 % 97;
        let level = |x: usize, y: usize| (50 + stone((x + dx) / 11, (y + dy) / 7)) as i16 * LEVEL;
        (0..W * H).map(|at| level(at % W, at / W)).collect()
    }

    #[test]
    fn a_shaken_picture_is_put_back_and_a_still_one_left() {
        let usual = wall(8, 8);
        for (dx, dy) in [(0isize, 0isize), (1, 0), (-2, 1), (3, -3)] {
            let mut now = wall(8usize.saturating_add_signed(dx), 8usize.saturating_add_signed(dy));
            let mut shift = Shift::new(W, H);
            shift.straighten(&mut now, &usual, &mut vec![0; W * H], 0.1);
            assert_eq!(shift.at, (-dx, -dy));
            let wrong = (5..H - 5).flat_map(|y| (5..W - 5).map(move |x| y * W + x)).filter(|&at| now[at] != usual[at]);
            assert_eq!(wrong.count(), 0, "{dx},{dy}");
        }
    }

    #[test]
    fn a_camera_that_was_knocked_is_believed_in_the_end() {
        let (usual, knocked) = (wall(8, 8), wall(10, 7));
        let mut shift = Shift::new(W, H);
        let mut stays = None;
        let mut pictures = 0;
        while stays.is_none() && pictures < 1_000 {
            shift.straighten(&mut knocked.clone(), &usual, &mut vec![0; W * H], 0.1);
            stays = shift.stays(0.1);
            pictures += 1;
        }
        assert_eq!((stays, pictures > 100), (Some((-2, 1)), true));
        let mut follows = vec![0; W * H];
        moved(&usual, &mut follows, W, (2, -1));
        let wrong =
            (5..H - 5).flat_map(|y| (5..W - 5).map(move |x| y * W + x)).filter(|&at| follows[at] != knocked[at]);
        assert_eq!(wrong.count(), 0);
    }

    #[test]
    fn what_moves_through_is_no_shift() {
        let usual = wall(8, 8);
        let mut now = usual.clone();
        for y in 10..80 {
            now[y * W + 40..y * W + 90].fill(250 * LEVEL / 2);
        }
        let mut shift = Shift::new(W, H);
        shift.straighten(&mut now, &usual, &mut vec![0; W * H], 0.1);
        assert_eq!(shift.at, (0, 0));
    }
}
