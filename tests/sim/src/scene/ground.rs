//! The ground of the piazza and what stands on it.
//!
//! Belongs here: paving, the street with its crossing, shadows of buildings, street furniture.
//! Does not belong here: houses (`palazzo`).
//! Invariant: furniture has depth, the ground has none.

use super::mood::Centrepiece;
use super::paint::Painter;
use super::palazzo::{ROW_Z, SIDE_X, SIDE_Z};
use super::raster::{self, Point, Rgb, hash, lit, mix, noise, shade};
use super::view::{Spot, Wall};

/// The street, nearer and farther kerb.
const STREET_Z: (f32, f32) = (25.8, 32.4);
const MARBLE: Rgb = [224.0, 214.0, 196.0];
const IRON: Rgb = [52.0, 54.0, 58.0];

/// Paving and shadows.
pub fn paint(painter: &mut Painter<'_>) {
    let (width, height) = (painter.canvas.width, painter.canvas.height);
    let top = painter.view.horizon() as usize;
    for y in top..height {
        for x in 0..width {
            // Four samples: cobbles are finer than pixels in the distance.
            let mut sum = [0.0; 3];
            let mut seen = 0.0;
            for (dx, dy) in [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)] {
                if let Some((gx, gz)) = painter.view.ground(x as f32 + dx, y as f32 + dy) {
                    let colour = paving(painter, gx, gz);
                    sum = std::array::from_fn(|channel| sum[channel] + colour[channel]);
                    seen += 1.0;
                }
            }
            if seen > 0.0 {
                let colour = lit(shade(sum, 1.0 / seen), painter.mood.sun);
                painter.canvas.pixels[y * width + x] = colour.map(|channel| channel as u8);
            }
        }
    }
    if painter.mood.casts() {
        let (run_x, run_z) = painter.mood.cast;
        let side = painter.mood.side;
        let height = 10.4;
        painter.cast(&[
            (side * SIDE_X, SIDE_Z),
            (side * SIDE_X + run_x * height, SIDE_Z + run_z * height),
            (side * SIDE_X + run_x * height, ROW_Z + 3.0),
            (side * SIDE_X, ROW_Z + 3.0),
        ]);
    }
}

fn paving(painter: &Painter<'_>, x: f32, z: f32) -> Rgb {
    let grain = painter.mood.grain;
    let wear = noise(x / 5.0, z / 4.0, grain) - 0.5;
    let fade = (1.0 - z / 38.0).clamp(0.0, 1.0);
    if (STREET_Z.0..STREET_Z.1).contains(&z) {
        let rough = hash((x * 14.0) as i32, (z * 10.0) as i32, grain) - 0.5;
        let track = [27.4 - 0.7, 27.4 + 0.7, 30.6 - 0.7, 30.6 + 0.7].iter().any(|wheel| (z - wheel).abs() < 0.28);
        let asphalt = shade([104.0, 103.0, 104.0], if track { 0.92 } else { 1.0 });
        let kerb = (z - STREET_Z.0).min(STREET_Z.1 - z) < 0.3;
        let zebra = (painter.mood.centre_x * 0.5 - x).abs() < 2.0 && (z * 1.05).rem_euclid(1.0) < 0.5;
        let base = if kerb {
            [176.0, 170.0, 160.0]
        } else if zebra {
            [206.0, 204.0, 198.0]
        } else {
            asphalt
        };
        return shade(base, 1.0 + 0.12 * wear + 0.1 * rough * fade);
    }
    let band = |value: f32| (value.rem_euclid(6.0) - 3.0).abs() > 2.72;
    if band(x + 3.0) || band(z + 0.2) {
        let slab = hash((x * 0.9).floor() as i32, (z * 0.9).floor() as i32, grain) - 0.5;
        return shade(MARBLE, 0.9 + 0.07 * slab + 0.1 * wear);
    }
    // Sampietrini laid in arcs: rows bend with a period of 1.5 m.
    let bend = z + 0.16 * ((x / 1.5).fract().abs() * std::f32::consts::PI).sin();
    let row = (bend / 0.19).floor();
    let column = ((x + 0.1 * row.rem_euclid(2.0)) / 0.2).floor();
    let stone = hash(column as i32, row as i32, grain) - 0.5;
    let joint = (bend / 0.19).fract().abs() < 0.14 || ((x + 0.1 * row.rem_euclid(2.0)) / 0.2).rem_euclid(1.0) < 0.12;
    let tone = mix(painter.mood.paving, [196.0, 150.0, 128.0], 0.25 * (stone + 0.5));
    let cut = if joint { 1.0 - 0.3 * fade } else { 1.0 };
    shade(tone, cut * (1.0 + 0.24 * stone * (0.25 + fade) + 0.2 * wear) * 0.86)
}

/// Furniture, far to near.
pub fn furnish(painter: &mut Painter<'_>) {
    let side = painter.mood.side;
    for table in 0..4 {
        parasol(painter, -side * (5.5 + 2.9 * table as f32), 43.5, table);
    }
    centrepiece(painter);
    for tree in 0..3 {
        potted_tree(painter, side * (SIDE_X - 1.6), 35.5 + 4.0 * (2 - tree) as f32);
    }
    for post in -8i32..=8 {
        bollard(painter, post as f32 * 2.6 + 0.9, STREET_Z.1 + 0.5);
    }
    for x in [-13.0f32, 13.0] {
        lamp(painter, x, STREET_Z.1 + 0.8);
    }
    for post in -7i32..=7 {
        bollard(painter, post as f32 * 2.6 + 0.3, STREET_Z.0 - 0.5);
    }
    bench(painter, side * 7.0, 24.0);
    bench(painter, side * 10.4, 24.0);
}

fn on_ground(painter: &mut Painter<'_>, x: f32, z: f32, half: f32, height: f32) {
    if !painter.mood.casts() {
        return;
    }
    let (run_x, run_z) = painter.mood.cast;
    let (ex, ez) = (x + run_x * height, z + run_z * height);
    let length = run_x.hypot(run_z).max(0.01);
    let (across_x, across_z) = (-run_z / length * half, run_x / length * half);
    painter.cast(&[
        (x - across_x, z - across_z),
        (x + across_x, z + across_z),
        (ex + across_x, ez + across_z),
        (ex - across_x, ez - across_z),
    ]);
}

fn oval(x: f32, y: f32, z: f32, radius: f32) -> Vec<Spot> {
    raster::ellipse([x, z], radius, radius).iter().map(|point| [point[0], y, point[1]]).collect()
}

/// A round body between two heights.
fn drum(painter: &mut Painter<'_>, (x, z): (f32, f32), radius: (f32, f32), v: (f32, f32), colour: Rgb) {
    let light = painter.mood.sun;
    let wall = Wall::Facing { z: z - radius.0.min(radius.1) * 0.5 };
    const SLICES: usize = 12;
    for slice in 0..SLICES {
        let edge = |step: usize| (step as f32 / SLICES as f32 * std::f32::consts::PI).cos();
        let (a, b) = (edge(slice), edge(slice + 1));
        let facing = (a + b) / 2.0 * -painter.mood.side;
        let tone = lit(shade(colour, 0.86 - 0.24 * facing), light);
        let corners =
            [(x + radius.0 * a, v.0), (x + radius.0 * b, v.0), (x + radius.1 * b, v.1), (x + radius.1 * a, v.1)];
        painter.wall_colour(wall, &corners, tone);
    }
}

fn centrepiece(painter: &mut Painter<'_>) {
    let (x, z) = (painter.mood.centre_x, 38.0);
    on_ground(painter, x, z, 0.7, 5.0);
    let sun = painter.mood.sun;
    match painter.mood.centrepiece {
        Centrepiece::Fountain => {
            painter.flat(&oval(x, 0.02, z, 3.5), lit(shade(MARBLE, 0.8), sun), 1.0);
            drum(painter, (x, z), (2.9, 3.0), (0.0, 0.8), MARBLE);
            painter.flat(&oval(x, 0.8, z, 3.0), lit(MARBLE, sun), 1.0);
            painter.flat(&oval(x, 0.8, z, 2.65), lit([104.0, 148.0, 156.0], sun), 1.0);
            painter.flat(&oval(x - 0.5, 0.81, z - 0.4, 1.3), lit([138.0, 178.0, 184.0], sun), 0.6);
            drum(painter, (x, z), (0.5, 0.35), (0.6, 2.3), MARBLE);
            drum(painter, (x, z), (0.3, 1.35), (2.1, 2.7), MARBLE);
            painter.flat(&oval(x, 2.7, z, 1.35), lit([128.0, 168.0, 174.0], sun), 1.0);
            drum(painter, (x, z), (0.25, 0.2), (2.7, 3.7), MARBLE);
            drum(painter, (x, z), (0.42, 0.05), (3.7, 4.5), MARBLE);
        }
        Centrepiece::Statue => {
            drum(painter, (x, z), (1.9, 1.9), (0.0, 0.35), shade(MARBLE, 0.92));
            drum(painter, (x, z), (1.4, 1.4), (0.35, 0.7), MARBLE);
            drum(painter, (x, z), (0.85, 0.75), (0.7, 2.7), MARBLE);
            drum(painter, (x, z), (1.05, 1.05), (2.6, 2.85), MARBLE);
            let bronze = [84.0, 104.0, 90.0];
            drum(painter, (x, z), (0.42, 0.3), (2.85, 4.0), bronze);
            drum(painter, (x, z), (0.34, 0.5), (3.9, 4.8), bronze);
            drum(painter, (x, z), (0.2, 0.2), (4.8, 5.25), bronze);
            let wall = Wall::Facing { z: z - 0.3 };
            painter.on_wall(wall, &[(x + 0.3, 4.7), (x + 1.0, 5.3), (x + 1.1, 5.15), (x + 0.45, 4.4)], bronze);
        }
        Centrepiece::Obelisk => {
            drum(painter, (x, z), (2.2, 2.2), (0.0, 0.3), shade(MARBLE, 0.9));
            drum(painter, (x, z), (1.1, 1.0), (0.3, 1.9), MARBLE);
            drum(painter, (x, z), (0.72, 0.4), (1.9, 7.6), [198.0, 164.0, 138.0]);
            drum(painter, (x, z), (0.4, 0.02), (7.6, 8.3), [210.0, 176.0, 148.0]);
        }
    }
}

fn parasol(painter: &mut Painter<'_>, x: f32, z: f32, place: usize) {
    on_ground(painter, x, z, 1.2, 1.6);
    let wall = Wall::Facing { z };
    painter.panel(wall, (x - 0.04, x + 0.04), (0.0, 2.6), [96.0, 80.0, 64.0]);
    painter.panel(wall, (x - 0.45, x + 0.45), (0.72, 0.8), [206.0, 200.0, 190.0]);
    for chair in [-0.8f32, 0.8] {
        painter.panel(wall, (x + chair - 0.2, x + chair + 0.2), (0.4, 0.48), [122.0, 88.0, 60.0]);
        painter.panel(wall, (x + chair * 1.2 - 0.04, x + chair * 1.2 + 0.04), (0.0, 0.95), [122.0, 88.0, 60.0]);
    }
    let cloth = if place.is_multiple_of(2) { [232.0, 224.0, 204.0] } else { [168.0, 62.0, 54.0] };
    painter.on_wall(wall, &[(x - 1.35, 2.1), (x + 1.35, 2.1), (x, 2.85)], cloth);
    painter.on_wall(wall, &[(x - 0.45, 2.1), (x + 0.4, 2.1), (x, 2.85)], shade(cloth, 0.88));
    painter.panel(wall, (x - 1.35, x + 1.35), (1.95, 2.12), shade(cloth, 0.8));
}

fn potted_tree(painter: &mut Painter<'_>, x: f32, z: f32) {
    on_ground(painter, x, z, 0.7, 2.2);
    drum(painter, (x, z), (0.38, 0.5), (0.0, 0.75), [178.0, 98.0, 66.0]);
    let wall = Wall::Facing { z };
    painter.panel(wall, (x - 0.06, x + 0.06), (0.7, 1.6), [92.0, 72.0, 54.0]);
    let light = painter.mood.sun;
    let side = painter.mood.side;
    for leaf in 0..70 {
        let pick = |salt| hash(leaf, salt, painter.mood.grain ^ z as u32);
        let (turn, away) = (pick(1) * std::f32::consts::TAU, pick(2).sqrt() * 0.85);
        let (dx, dy) = (turn.cos() * away, turn.sin() * away);
        let bright = 0.8 + 0.25 * (dx * side + dy) + 0.25 * pick(3);
        let tuft: Vec<(f32, f32)> =
            raster::ellipse([x + dx, 2.25 + dy], 0.2, 0.16).iter().map(|p| (p[0], p[1])).collect();
        painter.wall_colour(wall, &tuft, lit(shade([78.0, 112.0, 62.0], bright), light));
    }
}

fn bollard(painter: &mut Painter<'_>, x: f32, z: f32) {
    on_ground(painter, x, z, 0.1, 0.8);
    drum(painter, (x, z), (0.14, 0.11), (0.0, 0.7), [148.0, 142.0, 134.0]);
    drum(painter, (x, z), (0.15, 0.05), (0.7, 0.85), [166.0, 160.0, 150.0]);
}

fn bench(painter: &mut Painter<'_>, x: f32, z: f32) {
    on_ground(painter, x, z, 0.9, 0.5);
    let wall = Wall::Facing { z };
    for foot in [-0.75f32, 0.65] {
        painter.panel(wall, (x + foot, x + foot + 0.1), (0.0, 0.9), IRON);
    }
    for v in [0.42, 0.62, 0.8] {
        painter.panel(wall, (x - 0.95, x + 0.95), (v, v + 0.1), [134.0, 92.0, 58.0]);
    }
}

/// A wrought iron street lamp with two lanterns.
fn lamp(painter: &mut Painter<'_>, x: f32, z: f32) {
    on_ground(painter, x, z, 0.12, 5.0);
    let wall = Wall::Facing { z };
    drum(painter, (x, z), (0.22, 0.12), (0.0, 0.9), IRON);
    drum(painter, (x, z), (0.07, 0.05), (0.9, 4.9), IRON);
    painter.panel(wall, (x - 0.85, x + 0.85), (4.55, 4.65), IRON);
    for arm in [-0.85f32, 0.85] {
        let c = x + arm;
        painter.on_wall(
            wall,
            &[(c - 0.2, 4.1), (c + 0.2, 4.1), (c + 0.28, 4.6), (c - 0.28, 4.6)],
            [244.0, 236.0, 208.0],
        );
        painter.on_wall(wall, &[(c - 0.34, 4.6), (c + 0.34, 4.6), (c, 4.9)], IRON);
    }
}

/// Where lanterns hang, for their glow by night.
pub fn lanterns(painter: &Painter<'_>) -> Vec<Point> {
    [-13.85f32, -12.15, 12.15, 13.85].iter().map(|&x| painter.view.project([x, 4.35, STREET_Z.1 + 0.8])).collect()
}
