//! Frames of a scene and their ground truth.
//!
//! Belongs here: laying moving things over the still background, light on them, sensor noise,
//! the strip, and the truth of each frame.
//! Does not belong here: the background's content, the schedule, shapes.
//! Invariant: frame n depends on the parameters and n alone; only its truth looks back one frame.

use std::collections::BTreeSet;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::figure::{self, Pose};
use super::mood::Mood;
use super::paint::{Canvas, Painter};
use super::planes::{self, Rect, Sensor};
use super::raster::{self, Point, fill};
use super::schedule::{self, Actor};
use super::truth::{self, Kind, Truth, TruthBox, TruthFrame};
use super::view::View;
use super::{Light, SCENE_VERSION, SceneParams, ground, palazzo, sky, tower};
use crate::strip::{self, Mark};

/// One frame, valid until the next is rendered.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Index in the loop.
    pub index: u32,
    /// I420, planes without padding.
    pub main: &'a [u8],
    /// The sub-stream's frame, when this index has one.
    pub sub: Option<&'a [u8]>,
}

/// Renders a scene frame by frame.
#[derive(Debug)]
pub struct Renderer {
    params: SceneParams,
    view: View,
    mood: Mood,
    still: Canvas,
    still_planes: Vec<u8>,
    actors: Vec<Actor>,
    sensor: Sensor,
    pixels: Vec<[u8; 3]>,
    main: Vec<u8>,
    sub: Vec<u8>,
    /// Frame (plus one) in which a moving thing last covered a pixel.
    stamps: Vec<u32>,
    shadow: Vec<f32>,
    before: Touched,
    truth: Truth,
}

/// Cells touched in one frame.
#[derive(Debug, Clone, Default)]
struct Touched {
    bodies: BTreeSet<u16>,
    either: BTreeSet<u16>,
}

/// Share of a cell's pixels below which a thing only grazes it.
const GRAZE: f32 = 0.012;

impl Renderer {
    /// Paints the background.
    pub fn new(params: &SceneParams) -> Renderer {
        let (width, height) = (params.main_width as usize, params.main_height as usize);
        let view = View::new(params.main_width, params.main_height);
        let seed = params.seed ^ (u64::from(params.number) << 48);
        let mood = Mood::new(seed, params.light);
        let mut still = Canvas::new(width, height);
        let mut painter = Painter { canvas: &mut still, view, mood: &mood };
        sky::paint(&mut painter);
        tower::paint(&mut painter);
        ground::paint(&mut painter);
        palazzo::paint(&mut painter);
        ground::furnish(&mut painter);
        if params.light == Light::Night {
            infrared(&mut painter);
        }
        let mut still_planes = vec![0; width * height * 3 / 2];
        planes::from_rgb(&still.pixels, width, height, Rect::whole(width, height), &mut still_planes);
        let mut strip_cells = Vec::new();
        if params.strip {
            strip_cells = strip::cells(width, height);
            planes::bleach(&mut still_planes, width, height, strip::area(width, height));
        }
        Renderer {
            view,
            actors: schedule::plan(seed, params.loop_s(), params.activity, params.light, &view),
            sensor: Sensor::new(seed, params.light, width, height),
            pixels: still.pixels.clone(),
            main: still_planes.clone(),
            sub: vec![0; (params.sub_width * params.sub_height * 3 / 2) as usize],
            stamps: vec![0; width * height],
            shadow: vec![0.0; width * height],
            before: Touched::default(),
            truth: Truth {
                version: SCENE_VERSION,
                number: params.number,
                fps: params.main_fps,
                sub_every: params.sub_every,
                width: params.main_width,
                height: params.main_height,
                strip_cells,
                frames: Vec::new(),
            },
            params: params.clone(),
            mood,
            still,
            still_planes,
        }
    }

    /// Renders a frame. Its truth is kept when frames come in order from 0.
    pub fn render(&mut self, index: u32) -> Frame<'_> {
        let (width, height) = (self.still.width, self.still.height);
        let t = f64::from(index) / f64::from(self.params.main_fps);
        self.main.copy_from_slice(&self.still_planes);
        let mut touched = Touched::default();
        let mut boxes = Vec::new();
        let mut dirty = Vec::new();
        for (actor, place, gone) in self.present(t) {
            let mut area = Rect::EMPTY;
            if self.mood.casts() {
                area = area.joined(self.cast_shadow(&actor, place, gone, &mut touched));
            } else if actor.kind == Kind::Car {
                area = area.joined(self.headlights(&actor, place, &mut touched));
            }
            let body = self.body(&actor, place, gone, index, &mut touched);
            boxes.extend(body.and_then(|rect| truth_box(&actor, rect, width, height)));
            dirty.push(area.joined(body.unwrap_or(Rect::EMPTY)));
        }
        for rect in &dirty {
            planes::from_rgb(&self.pixels, width, height, *rect, &mut self.main);
        }
        for rect in &dirty {
            rect.copy_rows(width, &self.still.pixels, &mut self.pixels);
        }
        self.sensor.expose(&mut self.main[..width * height], width, index);
        let with_sub = index.is_multiple_of(self.params.sub_every);
        if with_sub {
            self.sub_frame(index / self.params.sub_every);
        }
        if self.params.strip {
            let mark = Mark { camera: self.params.number, frame: index };
            strip::draw(&mut self.main, width, width, height, mark);
        }
        self.note(index, t, boxes, touched);
        Frame { index, main: &self.main, sub: with_sub.then_some(&self.sub[..]) }
    }

    /// The truth of the frame rendered last, when frames came in order from 0.
    pub fn last_truth(&self) -> Option<&TruthFrame> {
        self.truth.frames.last()
    }

    /// The truth of the frames rendered in order so far.
    pub fn into_truth(self) -> Truth {
        self.truth
    }

    /// Who is there, farthest first.
    fn present(&self, t: f64) -> Vec<(Actor, (f32, f32), f32)> {
        let mut present: Vec<_> = self
            .actors
            .iter()
            .filter_map(|actor| actor.at(t).map(|(place, gone)| (actor.clone(), place, gone)))
            .collect();
        present.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
        present
    }

    fn pose(&self, actor: &Actor, gone: f32) -> Pose {
        let [(x0, z0), (x1, z1)] = actor.path;
        let length = actor.length().max(0.01);
        Pose {
            kind: actor.kind,
            heading: ((x1 - x0) / length, (z1 - z0) / length),
            gone,
            style: actor.style,
            night: self.mood.night,
        }
    }

    /// Paints a thing; the rectangle of its visible pixels.
    fn body(
        &mut self,
        actor: &Actor,
        (x, z): (f32, f32),
        gone: f32,
        index: u32,
        touched: &mut Touched,
    ) -> Option<Rect> {
        let (width, height) = (self.still.width, self.still.height);
        let light = self.light_at(x, z);
        let mut visible = Rect::EMPTY;
        let mut counts = std::collections::BTreeMap::<u16, u32>::new();
        let parts = figure::parts(&self.pose(actor, gone));
        let night = self.mood.night;
        let (pixels, stamps, depth) = (&mut self.pixels, &mut self.stamps, &self.still.depth);
        for part in parts {
            let points: Vec<Point> =
                part.spots.iter().map(|&[dx, y, dz]| self.view.project([x + dx, y, z + dz])).collect();
            let colour = match (part.glows, night) {
                (true, _) => part.colour,
                (false, true) => raster::lit([grey(part.colour); 3], light),
                (false, false) => raster::lit(part.colour, light),
            };
            fill(&points, width, height, |px, py, coverage| {
                let at = py * width + px;
                if depth[at] < z {
                    return;
                }
                raster::blend(&mut pixels[at], colour, coverage);
                visible.include(px, py);
                if coverage > 0.4 && stamps[at] != index + 1 {
                    stamps[at] = index + 1;
                    *counts.entry(cell(px, py, width, height)).or_default() += 1;
                }
            });
        }
        let enough = ((width * height) as f32 / (truth::COLUMNS * truth::ROWS) as f32 * GRAZE).max(2.0);
        for (cell, count) in counts {
            if count as f32 >= enough {
                touched.bodies.insert(cell)
            } else {
                touched.either.insert(cell)
            };
        }
        (!visible.is_empty()).then_some(visible)
    }

    /// Light on a thing standing at a place.
    fn light_at(&self, x: f32, z: f32) -> raster::Rgb {
        let [px, py] = self.view.project([x, 0.0, z]);
        if self.mood.night {
            return [lamp(&self.view, px, py - self.view.scale(z), z); 3];
        }
        let column = (px.max(0.0) as usize).min(self.still.width - 1);
        let row = (py.max(0.0) as usize).min(self.still.height - 1);
        if self.still.sunlit[row * self.still.width + column] > 0.5 { self.mood.sun } else { self.mood.ambient }
    }

    fn cast_shadow(&mut self, actor: &Actor, (x, z): (f32, f32), gone: f32, touched: &mut Touched) -> Rect {
        let (width, height) = (self.still.width, self.still.height);
        let (run_x, run_z) = self.mood.cast;
        let mut area = Rect::EMPTY;
        for part in figure::parts(&self.pose(actor, gone)) {
            let points: Vec<Point> = part
                .spots
                .iter()
                .map(|&[dx, y, dz]| self.view.project([x + dx + y * run_x, 0.0, z + dz + y * run_z]))
                .collect();
            let shadow = &mut self.shadow;
            fill(&points, width, height, |px, py, coverage| {
                let mark = &mut shadow[py * width + px];
                *mark = mark.max(coverage);
                area.include(px, py);
            });
        }
        for py in area.rows() {
            for px in area.columns() {
                let at = py * width + px;
                let share = std::mem::take(&mut self.shadow[at]) * self.still.sunlit[at];
                if share > 0.0 && self.still.depth[at].is_infinite() {
                    let dark = raster::lit(self.pixels[at].map(f32::from), self.mood.shadow);
                    raster::blend(&mut self.pixels[at], dark, share);
                    touched.either.insert(cell(px, py, width, height));
                }
            }
        }
        area
    }

    /// The beam of a car on the ground before it.
    fn headlights(&mut self, actor: &Actor, (x, z): (f32, f32), touched: &mut Touched) -> Rect {
        let (width, height) = (self.still.width, self.still.height);
        let ahead = (actor.path[1].0 - actor.path[0].0).signum();
        let (centre, reach, wide) = (x + ahead * 5.6, 4.2, 1.5);
        let outline: Vec<Point> = raster::ellipse([centre, z], reach, wide)
            .iter()
            .map(|&[gx, gz]| self.view.project([gx, 0.0, gz]))
            .collect();
        let mut area = Rect::EMPTY;
        let view = self.view;
        let (pixels, depth) = (&mut self.pixels, &self.still.depth);
        fill(&outline, width, height, |px, py, coverage| {
            let at = py * width + px;
            let Some((gx, gz)) = view.ground(px as f32 + 0.5, py as f32 + 0.5) else {
                return;
            };
            if depth[at] < gz {
                return;
            }
            let away = ((gx - centre) / reach).hypot((gz - z) / wide);
            let near = 1.0 - 0.5 * ((gx - centre) * ahead / reach + 1.0).clamp(0.0, 2.0) * 0.5;
            let added = 105.0 * coverage * near * (1.0 - away).clamp(0.0, 1.0);
            pixels[at] = pixels[at].map(|value| (f32::from(value) + added).min(255.0) as u8);
            area.include(px, py);
            touched.either.insert(cell(px, py, width, height));
        });
        area
    }

    fn sub_frame(&mut self, index: u32) {
        let from = (self.still.width, self.still.height);
        let to = (self.params.sub_width as usize, self.params.sub_height as usize);
        planes::shrink(&self.main, from, &mut self.sub, to);
        if self.params.strip {
            let mark = Mark { camera: self.params.number, frame: index };
            strip::draw(&mut self.sub, to.0, to.0, to.1, mark);
        }
    }

    fn note(&mut self, index: u32, t: f64, boxes: Vec<TruthBox>, touched: Touched) {
        let cells: BTreeSet<u16> = touched.bodies.union(&self.before.bodies).copied().collect();
        let grazed = touched.either.union(&self.before.either);
        let either = grazed.filter(|cell| !cells.contains(cell)).copied().collect();
        if index as usize == self.truth.frames.len() {
            let cells = cells.into_iter().collect();
            self.truth.frames.push(TruthFrame { frame: index, t, boxes, cells, either });
        }
        self.before = touched;
    }
}

fn cell(x: usize, y: usize, width: usize, height: usize) -> u16 {
    (y * truth::ROWS / height * truth::COLUMNS + x * truth::COLUMNS / width) as u16
}

fn truth_box(actor: &Actor, rect: Rect, width: usize, height: usize) -> Option<TruthBox> {
    let (columns, rows) = (rect.columns(), rect.rows());
    (!columns.is_empty()).then(|| TruthBox {
        id: actor.id,
        kind: actor.kind,
        x: columns.start as f32 / width as f32,
        y: rows.start as f32 / height as f32,
        w: columns.len() as f32 / width as f32,
        h: rows.len() as f32 / height as f32,
    })
}

/// Brightness in the near infrared, where cloth and foliage are brighter than to the eye.
fn grey([r, g, b]: raster::Rgb) -> f32 {
    0.42 * r + 0.4 * g + 0.18 * b
}

/// Strength of the camera's infrared lamp on a surface: falls with distance, dark in the corners.
fn lamp(view: &View, px: f32, py: f32, z: f32) -> f32 {
    let (dx, dy) = (px / view.width - 0.5, py / view.height - 0.56);
    let vignette = (1.12 - 1.9 * (dx * dx + 0.8 * dy * dy)).clamp(0.12, 1.0);
    let fall = 1.0 / (1.0 + (z / 34.0).powi(2));
    (1.22 * vignette * fall).min(1.0)
}

/// Turns an evenly lit picture into one by infrared light: no colour, lamp, lit rooms, lanterns.
fn infrared(painter: &mut Painter<'_>) {
    let view = painter.view;
    let width = painter.canvas.width;
    let lanterns = ground::lanterns(painter);
    for at in 0..painter.canvas.pixels.len() {
        let (px, py) = ((at % width) as f32 + 0.5, (at / width) as f32 + 0.5);
        let depth = painter.canvas.depth[at];
        let distance = if depth.is_finite() { Some(depth) } else { view.ground(px, py).map(|(_, z)| z) };
        let grey = grey(painter.canvas.pixels[at].map(f32::from));
        let lit = match distance {
            Some(_) if grey > 241.0 => 232.0,
            Some(z) => 9.0 + grey * lamp(&view, px, py, z),
            None => grey,
        };
        painter.canvas.pixels[at] = [lit as u8; 3];
    }
    let unit = view.scale(33.0);
    for centre in lanterns {
        painter.glow(centre, unit * 3.4, [120.0; 3], 0.75);
        painter.glow(centre, unit * 0.55, [255.0; 3], 1.0);
    }
    for x in [-13.0f32, 13.0] {
        pool(painter, x);
    }
}

/// The light of a street lamp on the ground.
fn pool(painter: &mut Painter<'_>, x: f32) {
    let (z, radius) = (33.2, 5.0);
    let view = painter.view;
    let points: Vec<Point> =
        raster::ellipse([x, z], radius, radius).iter().map(|&[gx, gz]| view.project([gx, 0.0, gz])).collect();
    let canvas = &mut *painter.canvas;
    fill(&points, canvas.width, canvas.height, |px, py, _| {
        let at = py * canvas.width + px;
        let Some((gx, gz)) = view.ground(px as f32 + 0.5, py as f32 + 0.5) else {
            return;
        };
        let away = ((gx - x).hypot(gz - z) / radius).min(1.0);
        let gain = 1.0 + 1.5 * (1.0 - away).powi(2);
        canvas.pixels[at] =
            canvas.pixels[at].map(|value| (f32::from(value) * gain + 10.0 * (1.0 - away)).min(255.0) as u8);
    });
}

/// The seed of a frame's noise, apart from every other use of the scene's seed.
pub(super) fn frame_rng(seed: u64, index: u32) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x0153_e5e5_0015_e000);
    rng.set_stream(u64::from(index) + 1);
    // The first word of neighbouring streams is as independent as any other; drawn to be spent.
    let _: u32 = rng.random();
    rng
}
