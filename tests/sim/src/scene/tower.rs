//! The campanile.
//!
//! Belongs here: its shaft, clock, belfry with bells, crown.
//! Does not belong here: the church beside it (`palazzo`).
//! Invariant: painted between the hills and the palazzi.

use super::mood::Crown;
use super::paint::{Painter, arch};
use super::raster::{self, Point, Rgb, lit, mix, shade};
use super::view::{Spot, Wall};

const DISTANCE_M: f32 = 60.0;
const HALF_M: f32 = 2.9;
/// Width of the flank that shows the tower's depth.
const FLANK_M: f32 = 1.5;

/// Paints it.
pub fn paint(painter: &mut Painter<'_>) {
    let x = painter.mood.tower_x * (DISTANCE_M / 40.0);
    let x = x.clamp(-24.0, 24.0);
    let height = painter.mood.tower_height;
    let wall = Wall::Facing { z: DISTANCE_M };
    let [brick, marble] = painter.mood.tower_colours;
    let belfry = height * 0.66;
    let cornice = height * 0.84;
    shaft(painter, wall, x, (0.0, cornice), brick, marble);
    for lesene in [-2.35, -0.35, 1.65] {
        painter.panel(wall, (x + lesene, x + lesene + 0.7), (0.0, belfry - 0.4), shade(brick, 1.08));
    }
    for storey in 1..4 {
        let v = height * 0.62 * storey as f32 / 4.0 + 1.2;
        painter.panel(wall, (x - HALF_M, x + HALF_M), (v - 0.9, v - 0.6), marble);
        painter.on_wall(wall, &arch((x - 0.28, x + 0.28), (v, v + 1.7)), [48.0, 40.0, 38.0]);
    }
    clock(painter, x, belfry - 2.6);
    bells(painter, wall, x, belfry, cornice, marble);
    for (v, out) in [(belfry - 0.35, 0.25), (cornice - 0.1, 0.45), (cornice + 0.35, 0.25)] {
        painter.panel(wall, (x - HALF_M - out, x + HALF_M + out), (v, v + 0.45), marble);
    }
    flank(painter, x, cornice + 0.8);
    crown(painter, wall, x, cornice + 0.8, height);
}

/// Courses of brick with marble bands.
fn shaft(painter: &mut Painter<'_>, wall: Wall, x: f32, v: (f32, f32), brick: Rgb, marble: Rgb) {
    let light = painter.mood.wall_light(wall);
    let points: Vec<Point> = super::paint::rectangle((x - HALF_M, x + HALF_M), v)
        .iter()
        .map(|&(u, v)| painter.view.project(wall.at(u, v)))
        .collect();
    let scale = painter.view.scale(DISTANCE_M);
    let grain = painter.mood.grain;
    let foot = painter.view.project(wall.at(x, 0.0))[1];
    painter.textured(
        &points,
        1.0,
        |_| DISTANCE_M,
        |px, py| {
            let up = (foot - py as f32) / scale;
            let course = raster::hash(px as i32 / 3, (up * 3.0) as i32, grain) - 0.5;
            let band = if up.rem_euclid(2.6) < 0.32 { mix(brick, marble, 0.55) } else { brick };
            shade(lit(band, light), 1.0 + 0.13 * course)
        },
    );
}

fn clock(painter: &mut Painter<'_>, x: f32, v: f32) {
    let wall = Wall::Facing { z: DISTANCE_M };
    let disc = |radius: f32| -> Vec<(f32, f32)> {
        raster::ellipse([x, v], radius, radius).into_iter().map(|[u, v]| (u, v)).collect()
    };
    painter.on_wall(wall, &disc(1.55), [96.0, 78.0, 60.0]);
    painter.on_wall(wall, &disc(1.35), [240.0, 234.0, 214.0]);
    for hour in 0..12 {
        let (sin, cos) = (hour as f32 / 12.0 * std::f32::consts::TAU).sin_cos();
        let mark = raster::limb([x + 1.02 * sin, v + 1.02 * cos], [x + 1.2 * sin, v + 1.2 * cos], 0.06, 0.06);
        painter.on_wall(wall, &mark.iter().map(|p| (p[0], p[1])).collect::<Vec<_>>(), [50.0, 44.0, 42.0]);
    }
    for (turn, length, width) in [(0.83f32, 0.7, 0.09), (0.2, 1.0, 0.06)] {
        let (sin, cos) = (turn * std::f32::consts::TAU).sin_cos();
        let hand = raster::limb([x, v], [x + length * sin, v + length * cos], width, width * 0.6);
        painter.on_wall(wall, &hand.iter().map(|p| (p[0], p[1])).collect::<Vec<_>>(), [40.0, 36.0, 40.0]);
    }
}

/// Open arches with a bell in each.
fn bells(painter: &mut Painter<'_>, wall: Wall, x: f32, from: f32, to: f32, marble: Rgb) {
    let sky = mix(painter.mood.sky[0], painter.mood.sky[1], 0.3);
    for place in [-1.35f32, 0.0, 1.35] {
        let u = (x + place - 0.55, x + place + 0.55);
        painter.on_wall(wall, &arch((u.0 - 0.12, u.1 + 0.12), (from + 0.25, to - 0.55)), marble);
        let through = shade(sky, 0.72);
        painter.wall_colour(wall, &arch(u, (from + 0.35, to - 0.7)), through);
        let top = to - 1.5;
        let c = x + place;
        let bell = [
            (c - 0.12, top),
            (c + 0.12, top),
            (c + 0.24, top - 0.5),
            (c + 0.4, top - 1.0),
            (c - 0.4, top - 1.0),
            (c - 0.24, top - 0.5),
        ];
        painter.on_wall(wall, &bell, [112.0, 88.0, 50.0]);
        painter.panel(wall, (c - 0.55, c + 0.55), (top, top + 0.14), [70.0, 54.0, 42.0]);
    }
}

/// The side turned away from the sun.
fn flank(painter: &mut Painter<'_>, x: f32, top: f32) {
    let away = -painter.mood.side;
    let u = (x + away * (HALF_M - FLANK_M), x + away * HALF_M);
    let points: Vec<Point> =
        super::paint::rectangle(u, (0.0, top)).iter().map(|&(u, v)| painter.view.project([u, v, DISTANCE_M])).collect();
    let (edge, fade) = (painter.view.project([u.1, 0.0, DISTANCE_M])[0], painter.view.scale(DISTANCE_M) * FLANK_M);
    let canvas = &mut *painter.canvas;
    let tint = painter.mood.shadow;
    raster::fill(&points, canvas.width, canvas.height, |px, py, coverage| {
        let pixel = &mut canvas.pixels[py * canvas.width + px];
        let share = 1.0 - ((px as f32 - edge).abs() / fade).clamp(0.0, 1.0);
        let dark = lit(pixel.map(f32::from), tint);
        raster::blend(pixel, dark, coverage * (0.25 + 0.75 * share) * 0.85);
    });
}

fn crown(painter: &mut Painter<'_>, wall: Wall, x: f32, from: f32, to: f32) {
    let [brick, marble] = painter.mood.tower_colours;
    match painter.mood.crown {
        Crown::Spire => {
            let copper = [104.0, 146.0, 128.0];
            painter.on_wall(wall, &[(x - HALF_M - 0.2, from), (x + HALF_M + 0.2, from), (x, to)], copper);
            let away = -painter.mood.side;
            let light = painter.mood.wall_light(wall);
            let dark = lit(shade(copper, 0.72), light);
            painter.wall_colour(wall, &[(x, to), (x + away * (HALF_M + 0.2), from), (x + away * 0.9, from)], dark);
        }
        Crown::Drum => {
            painter.panel(wall, (x - 1.9, x + 1.9), (from, from + 1.5), brick);
            for place in [-1.2f32, 0.0, 1.2] {
                painter.on_wall(
                    wall,
                    &arch((x + place - 0.3, x + place + 0.3), (from + 0.2, from + 1.3)),
                    [60.0, 50.0, 48.0],
                );
            }
            painter.panel(wall, (x - 2.1, x + 2.1), (from + 1.5, from + 1.8), marble);
            painter.on_wall(wall, &[(x - 1.9, from + 1.8), (x + 1.9, from + 1.8), (x, to)], shade(brick, 0.9));
        }
        Crown::Battlements => {
            painter.panel(wall, (x - HALF_M - 0.3, x + HALF_M + 0.3), (from, from + 0.9), brick);
            for merlon in 0..4 {
                let c = x - HALF_M + 0.35 + merlon as f32 * (2.0 * HALF_M - 0.7) / 3.0;
                let v = from + 0.9;
                let tails = [(c - 0.45, v), (c + 0.45, v), (c + 0.45, v + 1.3), (c, v + 0.85), (c - 0.45, v + 1.3)];
                painter.on_wall(wall, &tails, brick);
            }
        }
    }
    let foot: Spot = match painter.mood.crown {
        Crown::Battlements => return,
        _ => [x, to, DISTANCE_M],
    };
    let top = painter.view.project([foot[0], foot[1] + 1.2, foot[2]]);
    let base = painter.view.project(foot);
    let width = painter.view.width / 1280.0;
    painter.textured(&raster::limb(base, top, width, width), 1.0, |_| DISTANCE_M, |_, _| [60.0; 3]);
    let (cx, cy) = (top[0], top[1] + (base[1] - top[1]) * 0.35);
    let arm = 4.0 * width;
    painter.textured(
        &raster::limb([cx - arm, cy], [cx + arm, cy], width, width),
        1.0,
        |_| DISTANCE_M,
        |_, _| [60.0; 3],
    );
}
