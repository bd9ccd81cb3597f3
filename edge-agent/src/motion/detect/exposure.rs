//! What two pictures share: the same level more or less everywhere, or everything.

use super::plane::LEVEL;

/// Side of a block whose mean change counts once, working pixels.
const BLOCK: usize = 5;
/// Changes are counted in half levels, up to 256 levels each way.
const STEPS: usize = 1024;
/// A doubled picture comes out of a coder with no pixel further off than this.
const DOUBLE: i16 = 3 * LEVEL;
/// More blocks in a row than this are not counted.
const MOST_ACROSS: usize = 128;

/// By how much the whole picture changed, in units: the median over blocks of their mean change. An exposure that
/// follows a large thing changes the rest by as much.
pub fn shared_change(now: &[i16], before: &[i16], width: usize) -> i16 {
    let mut counts = [0u16; STEPS];
    let across = (width / BLOCK).min(MOST_ACROSS);
    let mut blocks = 0;
    for (now, before) in now.chunks_exact(BLOCK * width).zip(before.chunks_exact(BLOCK * width)) {
        let mut sums = [0i32; MOST_ACROSS];
        for (now, before) in now.chunks_exact(width).zip(before.chunks_exact(width)) {
            let parts = now.chunks_exact(BLOCK).zip(before.chunks_exact(BLOCK));
            for (sum, (now, before)) in sums[..across].iter_mut().zip(parts) {
                *sum += now.iter().zip(before).map(|(&now, &before)| i32::from(now - before)).sum::<i32>();
            }
        }
        for sum in &sums[..across] {
            let half_levels = sum / ((BLOCK * BLOCK) as i32 * i32::from(LEVEL) / 2);
            counts[(half_levels + STEPS as i32 / 2).clamp(0, STEPS as i32 - 1) as usize] += 1;
            blocks += 1;
        }
    }
    let mut below = 0;
    let median = counts.iter().position(|&count| {
        below += usize::from(count);
        below * 2 >= blocks
    });
    let half_levels = median.map_or(0, |step| step as i32 - STEPS as i32 / 2);
    (half_levels * i32::from(LEVEL) / 2).clamp(i16::MIN.into(), i16::MAX.into()) as i16
}

/// Whether a picture is the one before again, as cameras send it that promise more pictures than they take.
pub fn is_double(now: &[i16], before: &[i16]) -> bool {
    now.chunks(256).zip(before.chunks(256)).all(|(now, before)| {
        let most = now.iter().zip(before).map(|(now, before)| (now - before).abs()).max();
        most.unwrap_or(0) <= DOUBLE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_most_of_the_picture_shares_is_found_beside_a_large_thing() {
        let before = vec![80 * LEVEL; 160 * 90];
        let mut now = vec![86 * LEVEL; 160 * 90];
        now[..160 * 30].fill(200 * LEVEL);
        assert_eq!(shared_change(&now, &before, 160), 6 * LEVEL);
        assert!(is_double(&before, &before) && !is_double(&now, &before));
    }
}
