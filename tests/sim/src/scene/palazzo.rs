//! The houses around the piazza.
//!
//! Belongs here: palazzi with portici, shops and shutters, the church front, the side buildings.
//! Does not belong here: the campanile (`tower`), street furniture (`ground`).
//! Invariant: facades have depth, so that they hide who passes behind them.

use super::paint::{Painter, arch, rectangle};
use super::raster::{Rgb, ellipse, hash, shade};
use super::view::Wall;

/// Distance of the row at the back.
pub const ROW_Z: f32 = 48.0;
/// Lateral place of the side buildings' fronts.
pub const SIDE_X: f32 = 17.5;
/// Where the side buildings begin, behind the street.
pub const SIDE_Z: f32 = 34.0;

const PORTICO_M: f32 = 4.0;
const STONE: Rgb = [214.0, 202.0, 182.0];
const GLASS: Rgb = [74.0, 84.0, 96.0];

/// Paints the row at the back, then both sides.
pub fn paint(painter: &mut Painter<'_>) {
    let mut u = -34.0;
    for place in 0..7usize {
        let pick = |salt: u32| hash(place as i32, salt as i32, painter.mood.grain);
        let width = 9.0 + 3.0 * pick(1);
        let height = 8.4 + 2.6 * pick(2);
        let colour = painter.mood.plaster[place % painter.mood.plaster.len()];
        let wall = Wall::Facing { z: ROW_Z + if place % 2 == 0 { 0.0 } else { 0.05 } };
        if place == painter.mood.church + 1 {
            church(painter, wall, (u, u + 9.5));
            u += 9.5;
        } else {
            house(painter, wall, (u, u + width), height, colour, place);
            u += width;
        }
    }
    for side in [-1.0f32, 1.0] {
        let place = if side > 0.0 { 7 } else { 8 };
        let near = side == painter.mood.side;
        let height = if near { 9.6 } else { 7.8 };
        let colour = painter.mood.plaster[place];
        let wall = Wall::Receding { x: side * SIDE_X };
        house(painter, wall, (SIDE_Z, ROW_Z), height, colour, place);
        let end = Wall::Facing { z: SIDE_Z };
        let u = if side > 0.0 { (SIDE_X, 32.0) } else { (-32.0, -SIDE_X) };
        house(painter, end, u, height, colour, place + 2);
    }
}

fn house(painter: &mut Painter<'_>, wall: Wall, u: (f32, f32), height: f32, colour: Rgb, place: usize) {
    painter.plaster(wall, u, (0.0, height), colour, painter.mood.grain ^ place as u32);
    let bays = ((u.1 - u.0) / 3.1).round().max(2.0) as usize;
    let bay = (u.1 - u.0) / bays as f32;
    let portico = place.is_multiple_of(2);
    for index in 0..bays {
        let from = u.0 + index as f32 * bay;
        let middle = from + bay / 2.0;
        if portico {
            portico_bay(painter, wall, middle, bay);
        } else {
            shop(painter, wall, middle, bay, place * 7 + index);
        }
        for (storey, v) in [(0usize, PORTICO_M + 0.75), (1, PORTICO_M + 3.1)] {
            if v + 1.9 < height {
                window(painter, wall, middle, v, place * 31 + index * 3 + storey);
            }
        }
    }
    painter.panel(wall, u, (PORTICO_M + 0.12, PORTICO_M + 0.38), STONE);
    eaves(painter, wall, u, height);
}

fn portico_bay(painter: &mut Painter<'_>, wall: Wall, middle: f32, bay: f32) {
    let half = bay / 2.0 - 0.32;
    let opening = (middle - half, middle + half);
    painter.on_wall(wall, &arch((opening.0 - 0.16, opening.1 + 0.16), (0.0, PORTICO_M - 0.02)), STONE);
    painter.on_wall(wall, &arch(opening, (0.0, PORTICO_M - 0.2)), [78.0, 66.0, 58.0]);
    // The inner wall's lit lower part and a door give the passage its depth.
    painter.on_wall(wall, &rectangle((opening.0, opening.1), (0.0, 1.9)), [98.0, 84.0, 72.0]);
    painter.on_wall(wall, &arch((middle - 0.55, middle + 0.55), (0.0, 2.3)), [56.0, 46.0, 42.0]);
    painter.panel(
        wall,
        (opening.0 - 0.5, opening.0 - 0.04),
        (PORTICO_M - 0.5 - half, PORTICO_M - 0.3 - half),
        shade(STONE, 1.08),
    );
    painter.panel(wall, (opening.0 - 0.5, opening.0 - 0.04), (0.0, 0.35), shade(STONE, 0.9));
}

fn shop(painter: &mut Painter<'_>, wall: Wall, middle: f32, bay: f32, salt: usize) {
    let half = bay / 2.0 - 0.4;
    let u = (middle - half, middle + half);
    painter.panel(wall, (u.0 - 0.14, u.1 + 0.14), (0.0, 3.3), STONE);
    painter.panel(wall, u, (0.0, 3.1), [52.0, 50.0, 54.0]);
    painter.panel(wall, (u.0 + 0.1, u.1 - 0.9), (0.6, 2.5), [136.0, 130.0, 116.0]);
    painter.panel(wall, (u.0 + 0.25, u.1 - 1.05), (0.7, 1.3), [178.0, 150.0, 108.0]);
    painter.panel(wall, (u.1 - 0.8, u.1 - 0.1), (0.05, 2.5), GLASS);
    let cloth = [[156.0, 52.0, 48.0], [60.0, 98.0, 78.0], [206.0, 190.0, 160.0], [66.0, 84.0, 128.0]];
    let colour = cloth[salt % cloth.len()];
    let light = painter.mood.wall_light(wall);
    let stripes = 6;
    for stripe in 0..stripes {
        let step = (u.1 - u.0 + 0.3) / stripes as f32;
        let from = u.0 - 0.15 + stripe as f32 * step;
        let shadeof = if stripe % 2 == 0 { colour } else { [228.0, 222.0, 208.0] };
        let spots = [
            wall.at(from, 3.15),
            wall.at(from + step, 3.15),
            wall.behind(from + step, 2.55, -1.1),
            wall.behind(from, 2.55, -1.1),
        ];
        painter.flat(&spots, super::raster::lit(shadeof, light), 1.0);
    }
}

fn window(painter: &mut Painter<'_>, wall: Wall, middle: f32, v: f32, salt: usize) {
    let half = 0.5;
    painter.panel(wall, (middle - half - 0.16, middle + half + 0.16), (v - 0.14, v + 1.74), STONE);
    painter.panel(wall, (middle - half - 0.26, middle + half + 0.26), (v - 0.22, v - 0.08), shade(STONE, 0.86));
    let lit_room = painter.mood.night && hash(salt as i32, 5, painter.mood.grain) > 0.8;
    let open = hash(salt as i32, 9, painter.mood.grain) > 0.3;
    let shutters = painter.mood.shutters;
    if lit_room {
        painter.wall_colour(wall, &rectangle((middle - half, middle + half), (v, v + 1.6)), [250.0, 244.0, 230.0]);
    } else if open {
        painter.panel(wall, (middle - half, middle + half), (v, v + 1.6), GLASS);
        painter.panel(wall, (middle - half, middle + half), (v + 0.9, v + 1.6), shade(GLASS, 1.3));
        painter.panel(wall, (middle - 0.04, middle + 0.04), (v, v + 1.6), STONE);
        for side in [-1.0f32, 1.0] {
            let near = middle + side * (half + 0.02);
            painter.panel(
                wall,
                (near.min(near + side * 0.46), near.max(near + side * 0.46)),
                (v - 0.02, v + 1.6),
                shutters,
            );
        }
    } else {
        painter.panel(wall, (middle - half, middle + half), (v, v + 1.6), shutters);
        painter.panel(wall, (middle - 0.03, middle + 0.03), (v, v + 1.6), shade(shutters, 0.7));
    }
    if hash(salt as i32, 13, painter.mood.grain) > 0.78 {
        painter.panel(wall, (middle - half - 0.1, middle + half + 0.1), (v - 0.12, v + 0.12), [142.0, 78.0, 52.0]);
        for flower in 0..5 {
            let c = middle - half + 0.05 + flower as f32 * 0.23;
            let petals: Vec<(f32, f32)> = ellipse([c, v + 0.18], 0.13, 0.1).iter().map(|p| (p[0], p[1])).collect();
            let colour = if flower % 2 == 0 { [206.0, 66.0, 74.0] } else { [96.0, 132.0, 72.0] };
            painter.on_wall(wall, &petals, colour);
        }
    }
}

/// Cornice, gutter and a tiled roof running back. From the lens's height the roofs of the side
/// buildings' long fronts hide behind their own eaves.
fn eaves(painter: &mut Painter<'_>, wall: Wall, u: (f32, f32), height: f32) {
    let tiles = [176.0, 102.0, 72.0];
    let light = painter.mood.wall_light(wall);
    if let Wall::Facing { z } = wall {
        // The end of a side building is hipped at its corner to the piazza.
        let hip = if z < ROW_Z { 3.7 } else { -0.2 };
        let (left, right) = if u.0 < 0.0 { (-0.2, hip) } else { (hip, -0.2) };
        let (left, right) = if z < ROW_Z { (left, right) } else { (-0.2, -0.2) };
        let slope = [
            wall.behind(u.0 - 0.2, height + 0.1, -0.4),
            wall.behind(u.1 + 0.2, height + 0.1, -0.4),
            wall.behind(u.1 - right, height + 1.5, 3.5),
            wall.behind(u.0 + left, height + 1.5, 3.5),
        ];
        painter.flat(&slope, super::raster::lit(tiles, light), 1.0);
        let courses = ((u.1 - u.0) / 0.55) as usize;
        for course in 0..courses {
            let at = u.0 + course as f32 * 0.55;
            if at < u.0 + left || at > u.1 - right {
                continue;
            }
            let line = [
                wall.behind(at, height + 0.1, -0.4),
                wall.behind(at + 0.16, height + 0.1, -0.4),
                wall.behind(at + 0.16, height + 1.5, 3.5),
                wall.behind(at, height + 1.5, 3.5),
            ];
            painter.flat(&line, super::raster::lit(shade(tiles, 0.84), light), 0.45);
        }
    }
    painter.panel(wall, (u.0 - 0.2, u.1 + 0.2), (height, height + 0.22), shade(tiles, 0.9));
    painter.panel(wall, (u.0 - 0.1, u.1 + 0.1), (height - 0.28, height), shade(STONE, 0.95));
    painter.panel(wall, (u.0 - 0.1, u.1 + 0.1), (height - 0.6, height - 0.28), shade(STONE, 0.62));
}

fn church(painter: &mut Painter<'_>, wall: Wall, u: (f32, f32)) {
    let middle = (u.0 + u.1) / 2.0;
    let [brick, marble] = painter.mood.tower_colours;
    let nave = middle - 2.7..=middle + 2.7;
    let outline = [
        (u.0, 0.0),
        (u.1, 0.0),
        (u.1, 6.6),
        (*nave.end(), 8.4),
        (*nave.end(), 10.6),
        (middle, 12.6),
        (*nave.start(), 10.6),
        (*nave.start(), 8.4),
        (u.0, 6.6),
    ];
    painter.on_wall(wall, &outline, marble);
    for band in 0..17 {
        let v = 0.35 + band as f32 * 0.6;
        let u = if v > 6.4 { (*nave.start(), *nave.end()) } else { u };
        painter.panel(wall, u, (v, v + 0.2), super::raster::mix(marble, brick, 0.55));
    }
    for place in [-3.6f32, 0.0, 3.6] {
        let (half, top) = if place == 0.0 { (1.25, 4.9) } else { (0.7, 3.4) };
        let c = middle + place;
        painter.on_wall(wall, &arch((c - half - 0.35, c + half + 0.35), (0.0, top + 0.35)), shade(marble, 0.92));
        painter.on_wall(wall, &arch((c - half - 0.12, c + half + 0.12), (0.0, top + 0.1)), shade(brick, 0.8));
        painter.on_wall(wall, &arch((c - half, c + half), (0.0, top)), [84.0, 60.0, 44.0]);
        painter.panel(wall, (c - 0.03, c + 0.03), (0.0, top - half), [50.0, 38.0, 32.0]);
    }
    rose(painter, wall, middle, 7.9);
    for (a, b) in [
        ((u.0 - 0.1, 6.6), (*nave.start(), 8.4)),
        ((*nave.start() - 0.1, 10.6), (middle, 12.6)),
        ((middle, 12.6), (*nave.end() + 0.1, 10.6)),
        ((*nave.end(), 8.4), (u.1 + 0.1, 6.6)),
    ] {
        painter.on_wall(wall, &[a, b, (b.0, b.1 + 0.32), (a.0, a.1 + 0.32)], shade(brick, 0.82));
    }
}

fn rose(painter: &mut Painter<'_>, wall: Wall, u: f32, v: f32) {
    let disc = |r: f32| -> Vec<(f32, f32)> { ellipse([u, v], r, r).iter().map(|p| (p[0], p[1])).collect() };
    painter.on_wall(wall, &disc(1.75), [196.0, 180.0, 160.0]);
    painter.on_wall(wall, &disc(1.5), [58.0, 62.0, 80.0]);
    for spoke in 0..12 {
        let (sin, cos) = (spoke as f32 / 12.0 * std::f32::consts::TAU).sin_cos();
        let bar = super::raster::limb([u + 0.3 * sin, v + 0.3 * cos], [u + 1.5 * sin, v + 1.5 * cos], 0.06, 0.07);
        painter.on_wall(wall, &bar.iter().map(|p| (p[0], p[1])).collect::<Vec<_>>(), [226.0, 214.0, 194.0]);
    }
    painter.on_wall(wall, &disc(0.4), [214.0, 196.0, 172.0]);
}
