//! What scenes look like to machines: determinism, emptiness, strips that survive encoding.

#![allow(clippy::unwrap_used)]

use campanile_sim::decode::read_marks;
use campanile_sim::program;
use campanile_sim::scene::{Activity, Light, Renderer, SceneParams, truth_of};
use campanile_sim::units::Codec;

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_does_not() {
    let params = SceneParams::tiny(4, 11, 3);
    let render = |params: &SceneParams, index: u32| Renderer::new(params).render(index).main.to_vec();
    assert!(render(&params, 9) == render(&params, 9));
    let mut ordered = Renderer::new(&params);
    (0..9).for_each(|index| {
        ordered.render(index);
    });
    assert!(ordered.render(9).main == render(&params, 9), "a frame depends on those before it");
    assert!(render(&params, 9) != render(&SceneParams::tiny(4, 12, 3), 9));
    assert!(render(&params, 9) != render(&SceneParams::tiny(5, 11, 3), 9));
}

/// Luma without noise is not at hand; noise averages out over a cell, movement does not.
fn cell_means(luma: &[u8], width: usize, height: usize) -> Vec<f32> {
    let mut means = Vec::new();
    for cell in 0..32 * 18 {
        let (x0, y0) = (cell % 32 * width / 32, cell / 32 * height / 18);
        let (w, h) = (width / 32, height / 18);
        let sum: u32 =
            (y0..y0 + h).flat_map(|y| &luma[y * width + x0..y * width + x0 + w]).map(|&v| u32::from(v)).sum();
        means.push(sum as f32 / (w * h) as f32);
    }
    means
}

#[test]
fn only_cells_of_the_truth_change() {
    for light in [Light::Day, Light::Night] {
        let mut params = SceneParams::tiny(3, 21, 4);
        (params.light, params.strip) = (light, false);
        let mut renderer = Renderer::new(&params);
        let luma = (params.main_width * params.main_height) as usize;
        let means: Vec<Vec<f32>> =
            (0..params.loop_frames).map(|index| cell_means(&renderer.render(index).main[..luma], 320, 180)).collect();
        let truth = renderer.into_truth();
        let (mut moved, mut loudest) = (0, 0.0f32);
        for (index, pair) in means.windows(2).enumerate() {
            let frame = &truth.frames[index + 1];
            for cell in 0..32 * 18u16 {
                let change = (pair[1][usize::from(cell)] - pair[0][usize::from(cell)]).abs();
                if frame.cells.contains(&cell) {
                    moved += usize::from(change > 4.0);
                } else if !frame.either.contains(&cell) {
                    loudest = loudest.max(change);
                }
            }
        }
        assert!(loudest < 4.0, "{light:?}: a still cell changed by {loudest}");
        assert!(moved > 20, "{light:?}: only {moved} cells moved");
        assert!(truth.frames[0].boxes.is_empty());
    }
}

#[test]
fn gaps_of_a_usual_loop_are_long_and_empty() {
    let mut params = SceneParams::tiny(2, 33, 40);
    params.activity = Activity::Normal;
    let truth = truth_of(&params);
    let busy: Vec<bool> =
        truth.frames.iter().map(|frame| !frame.cells.is_empty() || !frame.either.is_empty()).collect();
    let starts = busy.windows(2).filter(|pair| !pair[0] && pair[1]).count();
    assert!(starts >= 2, "{starts} passages");
    let mut gap = 0;
    let mut inner = Vec::new();
    for &now in &busy {
        if now {
            inner.push(std::mem::take(&mut gap));
        } else {
            gap += 1;
        }
    }
    // Somebody hidden by the picture's edge for a moment is no gap of the schedule.
    let long = inner.iter().filter(|&&frames| frames >= 60).count();
    assert!(long + 1 >= starts, "gaps in frames: {inner:?}");
}

#[test]
fn strips_survive_encoding_at_all_sizes() {
    let folder = tempfile::tempdir().unwrap();
    for codec in [Codec::H264, Codec::H265] {
        let mut large = SceneParams::new(41, 3, Light::Night);
        large.loop_frames = 30;
        for params in [large, SceneParams::tiny(42, 3, 3)] {
            let rendered = program::render(&params, codec, folder.path()).unwrap();
            for (path, frames) in [(&rendered.main, params.loop_frames), (&rendered.sub, params.loop_frames / 2)] {
                let marks = read_marks(path).unwrap();
                let counters: Vec<_> =
                    marks.iter().map(|frame| frame.mark.map(|mark| (mark.camera, mark.frame))).collect();
                let wanted: Vec<_> = (0..frames).map(|frame| Some((params.number, frame))).collect();
                assert_eq!(counters, wanted, "{codec:?} {}x{}", params.main_width, params.main_height);
            }
        }
    }
}
