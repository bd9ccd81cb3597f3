//! Motion per frame: the detector alone, on a synthetic street with something crossing it, and where nothing does.
//!
//! Throughput is in pixels of the picture given; pixels a cycle are that over the processor's frequency.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use edge_agent::motion::detect::Detector;
use std::hint::black_box;

const STEP_S: f32 = 0.1;

/// A textured background with noise, and a block of 40x60 pixels at `position`.
fn picture((width, height): (usize, usize), seed: usize, position: Option<usize>) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32 ^ seed as u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 29) as u8
    };
    let mut luma: Vec<u8> = (0..width * height).map(|at| 80 + (at % width / 16 % 32) as u8 * 3 + noise()).collect();
    for row in height / 2..height / 2 + 60 {
        for column in 0..position.map_or(0, |_| 40) {
            luma[row * width + (position.unwrap_or(0) + column) % width] = 210;
        }
    }
    luma
}

fn motion(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("motion");
    for (width, height) in [(320, 180), (640, 360)] {
        for (name, moves) in [("still", false), ("crossed", true)] {
            let at = |n: usize| moves.then_some(n * 5);
            let pictures: Vec<Vec<u8>> = (0..64).map(|n| picture((width, height), n, at(n))).collect();
            group.throughput(Throughput::Elements((width * height) as u64));
            group.bench_function(format!("frame {width}x{height}, {name}"), |bencher| {
                let mut detector = Detector::new(width, height);
                let mut next = pictures.iter().cycle();
                bencher.iter(|| next.next().map(|luma| black_box(detector.frame(luma, width, STEP_S))));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, motion);
criterion_main!(benches);
