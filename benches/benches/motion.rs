//! Motion per frame: the detector alone, on a synthetic street with something crossing it.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use edge_agent::motion::detect::Detector;
use std::hint::black_box;

const WIDTH: usize = 320;
const HEIGHT: usize = 180;
const STEP_S: f32 = 0.1;

/// A textured background with noise, and a block of 40x60 pixels at `position`.
fn picture(position: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32 ^ position as u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 29) as u8
    };
    let mut luma: Vec<u8> = (0..WIDTH * HEIGHT).map(|at| 80 + (at % WIDTH / 16) as u8 * 3 + noise()).collect();
    for row in 80..140 {
        for column in 0..40 {
            luma[row * WIDTH + (position + column) % WIDTH] = 210;
        }
    }
    luma
}

fn motion(criterion: &mut Criterion) {
    let pictures: Vec<Vec<u8>> = (0..64).map(|at| picture(at * 5)).collect();
    let mut group = criterion.benchmark_group("motion");
    group.throughput(Throughput::Elements(1));
    group.bench_function("frame 320x180", |bencher| {
        let mut detector = Detector::new(WIDTH, HEIGHT);
        let mut next = pictures.iter().cycle();
        bencher.iter(|| next.next().map(|luma| black_box(detector.frame(luma, WIDTH, STEP_S))));
    });
    group.finish();
}

criterion_group!(benches, motion);
criterion_main!(benches);
