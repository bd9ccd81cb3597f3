//! The canvas of what never moves.
//!
//! Belongs here: a picture with, for each pixel, how far away it is and whether the sun reaches
//! it; painting pieces of the world on it.
//! Does not belong here: what is built there (`sky`, `ground`, `palazzo`, `tower`).
//! Invariant: painted from far to near; depth is finite only where something can stand in front
//! of a moving thing.

use super::mood::Mood;
use super::raster::{self, Point, Rgb, fill};
use super::view::{Spot, View, Wall};

/// The static picture.
#[derive(Debug, Clone)]
pub struct Canvas {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// Colours, rows from the top.
    pub pixels: Vec<[u8; 3]>,
    /// Metres to what is painted; infinite for sky and ground, which hide nobody.
    pub depth: Vec<f32>,
    /// 1 where the sun reaches the ground, 0 in the shade of a building.
    pub sunlit: Vec<f32>,
}

impl Canvas {
    /// An empty picture.
    pub fn new(width: usize, height: usize) -> Canvas {
        let size = width * height;
        Canvas { width, height, pixels: vec![[0; 3]; size], depth: vec![f32::INFINITY; size], sunlit: vec![1.0; size] }
    }
}

/// Paints pieces of the world, lit by the mood.
#[derive(Debug)]
pub struct Painter<'a> {
    /// What is painted on.
    pub canvas: &'a mut Canvas,
    /// Where points fall.
    pub view: View,
    /// Light and colours.
    pub mood: &'a Mood,
}

impl Painter<'_> {
    /// Fills a picture polygon, each pixel its own colour.
    pub fn textured(
        &mut self,
        points: &[Point],
        alpha: f32,
        depth: impl Fn(f32) -> f32,
        colour: impl Fn(usize, usize) -> Rgb,
    ) {
        let canvas = &mut *self.canvas;
        fill(points, canvas.width, canvas.height, |x, y, coverage| {
            let index = y * canvas.width + x;
            raster::blend(&mut canvas.pixels[index], colour(x, y), coverage * alpha);
            if coverage > 0.5 && alpha > 0.5 {
                canvas.depth[index] = depth(x as f32 + 0.5);
            }
        });
    }

    /// A flat polygon of points in the world, one colour, no light applied.
    pub fn flat(&mut self, spots: &[Spot], colour: Rgb, alpha: f32) {
        let points: Vec<Point> = spots.iter().map(|&spot| self.view.project(spot)).collect();
        let depth = spots.iter().map(|spot| spot[2]).sum::<f32>() / spots.len().max(1) as f32;
        self.textured(&points, alpha, |_| depth, |_, _| colour);
    }

    /// A piece of a wall given by (u, v) corners, lit as that wall is.
    pub fn on_wall(&mut self, wall: Wall, corners: &[(f32, f32)], colour: Rgb) {
        let light = self.mood.wall_light(wall);
        self.wall_colour(wall, corners, raster::lit(colour, light));
    }

    /// A piece of a wall in a colour as it is.
    pub fn wall_colour(&mut self, wall: Wall, corners: &[(f32, f32)], colour: Rgb) {
        let points: Vec<Point> = corners.iter().map(|&(u, v)| self.view.project(wall.at(u, v))).collect();
        let view = self.view;
        let depth = move |px: f32| match wall {
            Wall::Facing { z } => z,
            Wall::Receding { x } => view.wall_depth(x, px),
        };
        self.textured(&points, 1.0, depth, |_, _| colour);
    }

    /// A wall's surface with speckled plaster and a darker foot.
    pub fn plaster(&mut self, wall: Wall, u: (f32, f32), v: (f32, f32), colour: Rgb, seed: u32) {
        let light = self.mood.wall_light(wall);
        let points: Vec<Point> = rectangle(u, v).iter().map(|&(u, v)| self.view.project(wall.at(u, v))).collect();
        let view = self.view;
        let depth = move |px: f32| match wall {
            Wall::Facing { z } => z,
            Wall::Receding { x } => view.wall_depth(x, px),
        };
        let base = raster::lit(colour, light);
        let grain = view.width / 1280.0;
        let foot = view.project(wall.at(u.0, v.0))[1];
        let reach = view.scale(40.0) * 2.2;
        self.textured(&points, 1.0, depth, |x, y| {
            let (fx, fy) = (x as f32 / grain, y as f32 / grain);
            let stain = raster::clouds(fx / 46.0, fy / 30.0, seed) - 0.5;
            let speck = raster::hash((fx / 1.5) as i32, (fy / 1.5) as i32, seed) - 0.5;
            let damp = 1.0 - 0.16 * (1.0 - (foot - y as f32).abs() / reach).clamp(0.0, 1.0);
            raster::shade(base, damp * (1.0 + 0.16 * stain + 0.05 * speck))
        });
    }

    /// A rectangle on a wall.
    pub fn panel(&mut self, wall: Wall, u: (f32, f32), v: (f32, f32), colour: Rgb) {
        self.on_wall(wall, &rectangle(u, v), colour);
    }

    /// Darkens the ground inside a polygon of (x, z) and marks it as shaded.
    pub fn cast(&mut self, outline: &[(f32, f32)]) {
        let points: Vec<Point> = outline.iter().map(|&(x, z)| self.view.project([x, 0.0, z])).collect();
        let tint = self.mood.shadow;
        let canvas = &mut *self.canvas;
        fill(&points, canvas.width, canvas.height, |x, y, coverage| {
            let index = y * canvas.width + x;
            // Only ground is painted so far where depth is infinite.
            if canvas.depth[index].is_infinite() && canvas.sunlit[index] > 0.5 {
                let shaded = raster::lit(canvas.pixels[index].map(f32::from), tint);
                raster::blend(&mut canvas.pixels[index], shaded, coverage);
                if coverage > 0.6 {
                    canvas.sunlit[index] = 0.0;
                }
            }
        });
    }

    /// A soft round light added to the picture.
    pub fn glow(&mut self, centre: Point, radius: f32, colour: Rgb, strength: f32) {
        let canvas = &mut *self.canvas;
        fill(&raster::ellipse(centre, radius, radius), canvas.width, canvas.height, |x, y, _| {
            let away = (x as f32 - centre[0]).hypot(y as f32 - centre[1]) / radius;
            let share = strength * (1.0 - away).clamp(0.0, 1.0).powi(2);
            let pixel = &mut canvas.pixels[y * canvas.width + x];
            for (channel, value) in pixel.iter_mut().zip(colour) {
                *channel = (f32::from(*channel) + value * share).min(255.0) as u8;
            }
        });
    }
}

/// Corners of a rectangle.
pub fn rectangle(u: (f32, f32), v: (f32, f32)) -> [(f32, f32); 4] {
    [(u.0, v.0), (u.1, v.0), (u.1, v.1), (u.0, v.1)]
}

/// Corners of an opening with a round head: `v.1` is the crown.
pub fn arch(u: (f32, f32), v: (f32, f32)) -> Vec<(f32, f32)> {
    const STEPS: usize = 12;
    let radius = (u.1 - u.0) / 2.0;
    let middle = (u.0 + u.1) / 2.0;
    // A receding wall may run either way along u; the height of the head is the same.
    let spring = v.1 - radius.abs();
    let mut corners = vec![(u.0, v.0), (u.1, v.0)];
    for step in 0..=STEPS {
        let (sin, cos) = (step as f32 / STEPS as f32 * std::f32::consts::PI).sin_cos();
        corners.push((middle + radius * cos, spring + radius.abs() * sin));
    }
    corners
}
