//! Pictures drawn by hand: what must be seen and what must not.

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
    assert!(standing[..3].iter().any(|&cells| cells > 0), "{standing:?}");
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
    let seen =
        [0, 3, 6, 9, 12, 15].map(|gone| detector.frame(&picture(&mut seed, 150, Some((200 + gone, 40))), W, STEP));
    assert!(seen.iter().any(|seen| seen.looked && !seen.moved.is_empty()));
}

#[test]
fn a_plane_that_is_too_small_is_not_looked_at() {
    let mut detector = Detector::new(W, H);
    assert!(!detector.frame(&[0; 100], W, STEP).looked);
    assert!(!Detector::new(0, 0).frame(&[], 0, STEP).looked);
}

/// Pictures in which a square is drawn where `at` says, 60 of a bare wall before them.
fn cells_seen(seed: u32, pictures: usize, at: impl Fn(usize) -> Option<(usize, usize)>) -> Vec<usize> {
    let mut seed = seed;
    let mut detector = warmed_up(&mut seed);
    let see = |n| detector.frame(&picture(&mut seed, 90, at(n)), W, STEP).moved.len();
    (0..pictures).map(see).collect()
}

#[test]
fn a_flash_and_what_leaps_about_are_not_seen() {
    assert!(cells_seen(5, 40, |n| (n == 10).then_some((100, 60))).iter().all(|&cells| cells == 0));
    let places = [(10, 20), (250, 120), (120, 10), (40, 140), (280, 30), (160, 90)];
    let leaps = cells_seen(6, 60, |n| Some(places[n % places.len()]));
    assert!(leaps.iter().all(|&cells| cells == 0), "{leaps:?}");
}

#[test]
fn doubled_pictures_hide_nobody() {
    let mut seed = 7;
    let mut detector = warmed_up(&mut seed);
    let mut hit = 0;
    for step in 0..50 {
        let luma = picture(&mut seed, 90, Some((20 + step * 5, 80)));
        for _ in 0..2 {
            hit += usize::from(!detector.frame(&luma, W, STEP / 2.0).moved.is_empty());
        }
    }
    assert!(hit >= 94, "{hit} of 100");
}

#[test]
fn a_shaken_wall_is_still_and_a_walker_before_it_is_seen() {
    let mut seed = 8;
    let mut detector = warmed_up(&mut seed);
    let shaken = |luma: &[u8], n: usize| -> Vec<u8> {
        let (dx, dy) = ([0, 2, 4, 2][n % 4], [0, 2, 0, 4][n % 4]);
        (0..W * H).map(|at| luma[(at / W + dy).min(H - 1) * W + (at % W + dx).min(W - 1)]).collect()
    };
    for n in 0..60 {
        let seen = detector.frame(&shaken(&picture(&mut seed, 90, None), n), W, STEP);
        assert!(seen.moved.is_empty(), "{n}: {:?}", seen.moved);
    }
    let walker = |n: usize| Some((40 + n * 4, 80));
    let seen = |n| !detector.frame(&shaken(&picture(&mut seed, 90, walker(n)), n), W, STEP).moved.is_empty();
    let hit = (0..40).map(seen).filter(|seen| *seen).count();
    assert!(hit >= 37, "{hit} of 40");
}

#[test]
fn who_walks_where_nobody_looks_is_not_seen() {
    let left = CellSet::touched_by(&[(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)]);
    let mut seed = 9;
    let mut detector = Detector::new(W, H).ignoring(left);
    for _ in 0..60 {
        detector.frame(&picture(&mut seed, 90, None), W, STEP);
    }
    let mut where_seen = CellSet::EMPTY;
    for n in 0..80 {
        where_seen.union(&detector.frame(&picture(&mut seed, 90, Some((n * 3, 80))), W, STEP).moved);
    }
    assert!(!where_seen.is_empty() && !where_seen.intersects(&left), "{where_seen:?}");
}

#[test]
fn any_size_of_picture_is_looked_at_without_panic() {
    for (width, height) in [(1, 1), (2, 2), (7, 300), (300, 3), (33, 18), (160, 90), (641, 359), (2000, 1100)] {
        let mut detector = Detector::new(width, height);
        for n in 0..12u8 {
            let luma: Vec<u8> = (0..width * height).map(|at| (at as u8).wrapping_mul(n).wrapping_add(n)).collect();
            detector.frame(&luma, width, [0.1, 0.0, 90.0, f32::NAN][usize::from(n) % 4]);
            assert_eq!(detector.mask().pixels.len(), detector.mask().width * detector.mask().height);
        }
    }
}
