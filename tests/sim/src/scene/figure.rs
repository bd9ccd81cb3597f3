//! People, bicycles and cars as coloured polygons.
//!
//! Belongs here: their shape at one moment of their movement, in metres around their feet.
//! Does not belong here: where they go (`schedule`), painting them (`render`).
//! Invariant: pure; first part farthest, last part nearest.

use std::f32::consts::{PI, TAU};

use super::raster::{Point, Rgb, ellipse, hash, limb, shade};
use super::truth::Kind;

/// A polygon: (right, up, away from the lens) around the ground point.
#[derive(Debug, Clone)]
pub struct Part {
    /// Corners.
    pub spots: Vec<[f32; 3]>,
    /// Colour before light.
    pub colour: Rgb,
    /// Shines by itself: no light or shade applied.
    pub glows: bool,
}

/// A thing at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Pose {
    /// What it is.
    pub kind: Kind,
    /// Direction of movement on the ground: (x, z), unit length.
    pub heading: (f32, f32),
    /// Metres gone.
    pub gone: f32,
    /// Seed of looks.
    pub style: u32,
    /// Lights on.
    pub night: bool,
}

/// The thing's polygons, farthest first.
pub fn parts(pose: &Pose) -> Vec<Part> {
    let mut sketch = Sketch { parts: Vec::with_capacity(40), forward: pose.heading.0, depth: 0.0 };
    match pose.kind {
        Kind::Person => person(&mut sketch, pose),
        Kind::Bicycle => bicycle(&mut sketch, pose),
        Kind::Car => car(&mut sketch, pose),
    }
    sketch.parts
}

struct Sketch {
    parts: Vec<Part>,
    /// Right per metre forward: foreshortens what moves towards the lens.
    forward: f32,
    depth: f32,
}

impl Sketch {
    fn add(&mut self, points: &[Point], colour: Rgb) {
        let depth = self.depth;
        let spots = points.iter().map(|&[x, y]| [x, y, depth]).collect();
        self.parts.push(Part { spots, colour, glows: false });
    }

    fn spots(&mut self, spots: Vec<[f32; 3]>, colour: Rgb) {
        self.parts.push(Part { spots, colour, glows: false });
    }

    fn shine(&mut self, points: &[Point], colour: Rgb) {
        self.add(points, colour);
        if let Some(part) = self.parts.last_mut() {
            part.glows = true;
        }
    }

    fn limb(&mut self, a: Point, b: Point, from: f32, to: f32, colour: Rgb) {
        self.add(&limb(a, b, from, to), colour);
    }
}

const COATS: [Rgb; 10] = [
    [156.0, 42.0, 46.0],
    [40.0, 62.0, 104.0],
    [212.0, 204.0, 190.0],
    [58.0, 86.0, 66.0],
    [198.0, 148.0, 58.0],
    [54.0, 52.0, 58.0],
    [126.0, 84.0, 128.0],
    [96.0, 142.0, 170.0],
    [226.0, 226.0, 222.0],
    [184.0, 94.0, 62.0],
];
const TROUSERS: [Rgb; 5] =
    [[46.0, 54.0, 78.0], [38.0, 38.0, 42.0], [120.0, 104.0, 84.0], [82.0, 86.0, 92.0], [70.0, 58.0, 48.0]];
const SKINS: [Rgb; 4] = [[226.0, 184.0, 156.0], [204.0, 158.0, 126.0], [148.0, 104.0, 78.0], [236.0, 200.0, 176.0]];
const HAIR: [Rgb; 5] =
    [[48.0, 36.0, 30.0], [92.0, 64.0, 42.0], [30.0, 28.0, 28.0], [172.0, 140.0, 90.0], [168.0, 166.0, 164.0]];

fn choose<T: Copy>(from: &[T], style: u32, salt: i32) -> T {
    from[((hash(salt, 3, style) * from.len() as f32) as usize).min(from.len() - 1)]
}

fn person(sketch: &mut Sketch, pose: &Pose) {
    let style = pose.style;
    let size = 0.93 + 0.13 * hash(1, 1, style);
    let (coat, cloth) = (choose(&COATS, style, 1), choose(&TROUSERS, style, 2));
    let (skin, hair) = (choose(&SKINS, style, 3), choose(&HAIR, style, 4));
    let skirt = hash(5, 5, style) > 0.7;
    let long_coat = !skirt && hash(6, 6, style) > 0.6;
    // A stride of 1.4 m is two steps.
    let phase = pose.gone / (1.4 * size) * TAU;
    let f = sketch.forward;
    let side = pose.heading.1.abs().max(0.25);
    let hip = 0.9 + 0.025 * (2.0 * phase).cos();
    let at = |x: f32, y: f32| [x * size, y * size];
    let swing_legs = |sketch: &mut Sketch, offset: f32, tone: f32| {
        let swing = 0.52 * (phase + offset).sin();
        let bend = 0.75 * (phase + offset + 1.9).sin().max(0.0);
        let hip_x = 0.085 * side * offset_sign(offset);
        let knee = [hip_x + 0.44 * swing.sin() * f, hip - 0.44 * swing.cos()];
        let low = swing - bend;
        let ankle = [knee[0] + 0.42 * low.sin() * f, knee[1] - 0.42 * low.cos()];
        let colour = shade(if skirt { skin } else { cloth }, tone);
        sketch.limb(at(hip_x, hip), at(knee[0], knee[1]), 0.088 * size, 0.07 * size, colour);
        sketch.limb(at(knee[0], knee[1]), at(ankle[0], ankle[1]), 0.068 * size, 0.048 * size, colour);
        let toe = [ankle[0] + 0.17 * f + 0.02 * hip_x, ankle[1] - 0.03];
        sketch.limb(
            at(ankle[0], ankle[1] - 0.02),
            at(toe[0], toe[1]),
            0.045 * size,
            0.035 * size,
            shade([40.0, 34.0, 32.0], tone),
        );
    };
    let swing_arm = |sketch: &mut Sketch, offset: f32, tone: f32| {
        let swing = 0.42 * (phase + offset).sin();
        let x = 0.2 * side * offset_sign(offset);
        let elbow = [x + 0.29 * swing.sin() * f, 1.4 - 0.29 * swing.cos()];
        let fore = swing + 0.3;
        let hand = [elbow[0] + 0.26 * fore.sin() * f, elbow[1] - 0.26 * fore.cos()];
        sketch.limb(at(x, 1.41), at(elbow[0], elbow[1]), 0.062 * size, 0.052 * size, shade(coat, tone));
        sketch.limb(at(elbow[0], elbow[1]), at(hand[0], hand[1]), 0.05 * size, 0.042 * size, shade(coat, tone));
        sketch.add(&ellipse(at(hand[0], hand[1]), 0.048 * size, 0.05 * size), shade(skin, tone));
    };
    swing_arm(sketch, 0.0, 0.74);
    swing_legs(sketch, PI, 0.78);
    swing_legs(sketch, 0.0, 1.0);
    let wide = 0.135 + 0.085 * side;
    let hem = if skirt {
        0.52
    } else if long_coat {
        0.62
    } else {
        0.84
    };
    let flare = if skirt { 0.07 } else { 0.02 };
    let sway = 0.04 * phase.sin() * f;
    let torso = [
        at(-wide * 0.55, 1.49),
        at(wide * 0.55, 1.49),
        at(wide, 1.4),
        at(wide * 0.82, 1.05),
        at(wide * 0.9 + flare + sway, hem),
        at(-wide * 0.9 - flare + sway, hem),
        at(-wide * 0.82, 1.05),
        at(-wide, 1.4),
    ];
    sketch.add(&torso, coat);
    let dark = [torso[0], at(-wide * 0.1, 1.49), at(-wide * 0.2, hem), torso[5], torso[6], torso[7]];
    sketch.add(&dark, shade(coat, 0.84));
    if skirt {
        let waist = [
            at(wide * 0.84, 1.0),
            at(wide * 0.95 + flare + sway, hem),
            at(-wide * 0.95 - flare + sway, hem),
            at(-wide * 0.84, 1.0),
        ];
        sketch.add(&waist, shade(cloth, 1.15));
    }
    head(sketch, pose, [0.02 * f, 1.63], size, skin, hair);
    if hash(7, 7, style) > 0.55 {
        let bag = choose(&COATS, style, 8);
        let x = -0.16 * f - 0.1 * side;
        sketch.limb(at(x * 0.3, 1.46), at(x, 1.0), 0.018, 0.018, shade(bag, 0.6));
        sketch.add(&[at(x - 0.13, 1.02), at(x + 0.13, 1.02), at(x + 0.15, 0.74), at(x - 0.15, 0.74)], bag);
    }
    swing_arm(sketch, PI, 1.06);
}

fn offset_sign(offset: f32) -> f32 {
    if offset > 1.0 { 1.0 } else { -1.0 }
}

fn head(sketch: &mut Sketch, pose: &Pose, centre: Point, size: f32, skin: Rgb, hair: Rgb) {
    let at = |x: f32, y: f32| [(centre[0] + x) * size, (centre[1] + y) * size];
    let f = sketch.forward;
    sketch.limb(at(0.0, -0.18), at(0.0, -0.06), 0.05 * size, 0.05 * size, shade(skin, 0.85));
    sketch.add(&ellipse(at(0.0, 0.0), 0.092 * size, 0.122 * size), skin);
    // Hair sits away from the face; seen from behind it covers the head.
    let behind = if pose.heading.1 > 0.4 { 0.0 } else { -0.045 * f };
    let low = if pose.heading.1 > 0.4 { 0.0 } else { 0.055 };
    sketch.add(&ellipse(at(behind, low), 0.1 * size, if low > 0.0 { 0.085 } else { 0.12 } * size), hair);
    if hash(9, 9, pose.style) > 0.75 {
        let hat = choose(&COATS, pose.style, 10);
        sketch.add(
            &[at(-0.15, 0.07), at(0.15, 0.07), at(0.1, 0.11), at(0.08, 0.19), at(-0.08, 0.19), at(-0.1, 0.11)],
            hat,
        );
    }
}

fn bicycle(sketch: &mut Sketch, pose: &Pose) {
    const RADIUS: f32 = 0.34;
    let f = if pose.heading.0 < 0.0 { -1.0 } else { 1.0 };
    let at = |x: f32, y: f32| [x * f, y];
    let frame = choose(&COATS, pose.style, 11);
    let (coat, cloth) = (choose(&COATS, pose.style, 1), choose(&TROUSERS, pose.style, 2));
    let (skin, hair) = (choose(&SKINS, pose.style, 3), choose(&HAIR, pose.style, 4));
    let crank = pose.gone / 0.9;
    let hip = [-0.16, 1.0];
    leg(sketch, f, hip, crank + PI, shade(cloth, 0.75));
    for x in [-0.53f32, 0.53] {
        wheel(sketch, at(x, RADIUS), RADIUS, pose.gone / RADIUS * f);
    }
    let (rear, front) = (at(-0.53, RADIUS), at(0.53, RADIUS));
    let (bottom, seat, head_tube) = (at(-0.08, 0.3), at(-0.2, 0.82), at(0.4, 0.84));
    for (a, b) in
        [(rear, bottom), (rear, seat), (bottom, seat), (bottom, head_tube), (seat, head_tube), (head_tube, front)]
    {
        sketch.limb(a, b, 0.022, 0.022, frame);
    }
    sketch.limb(at(-0.3, 0.93), at(-0.08, 0.93), 0.035, 0.02, [36.0, 32.0, 30.0]);
    sketch.limb(head_tube, at(0.36, 1.04), 0.018, 0.018, [150.0; 3]);
    sketch.limb(at(0.36, 1.04), at(0.5, 1.02), 0.02, 0.02, [40.0; 3]);
    sketch.add(&[at(0.46, 0.98), at(0.72, 0.98), at(0.68, 0.76), at(0.5, 0.76)], [150.0, 116.0, 74.0]);
    leg(sketch, f, hip, crank, cloth);
    let torso = [at(-0.3, 0.98), at(-0.02, 0.94), at(0.2, 1.38), at(0.1, 1.5), at(-0.06, 1.46)];
    sketch.add(&torso, coat);
    sketch.add(&[torso[0], at(-0.2, 0.97), at(0.0, 1.47), torso[4]], shade(coat, 0.82));
    sketch.limb(at(0.1, 1.4), at(0.26, 1.16), 0.055, 0.048, shade(coat, 1.06));
    sketch.limb(at(0.26, 1.16), at(0.46, 1.05), 0.046, 0.04, shade(coat, 1.06));
    let mut upright = Sketch { parts: Vec::new(), forward: f, depth: 0.0 };
    head(&mut upright, pose, [0.14 * f, 1.64], 1.0, skin, hair);
    sketch.parts.append(&mut upright.parts);
    if pose.night {
        sketch.shine(&ellipse(at(0.5, 0.88), 0.06, 0.06), [255.0; 3]);
    }
}

/// A leg from the hip to a pedal, the knee found from both lengths.
fn leg(sketch: &mut Sketch, f: f32, hip: Point, crank: f32, colour: Rgb) {
    const BONE: f32 = 0.44;
    let foot = [-0.08 + 0.17 * crank.sin(), 0.34 - 0.17 * crank.cos()];
    let span = [foot[0] - hip[0], foot[1] - hip[1]];
    let length = span[0].hypot(span[1]).min(2.0 * BONE - 0.01);
    let out = (BONE * BONE - length * length / 4.0).sqrt();
    let knee = [hip[0] + span[0] / 2.0 - span[1] / length * out, hip[1] + span[1] / 2.0 + span[0] / length * out];
    let at = |p: Point| [p[0] * f, p[1]];
    sketch.limb(at(hip), at(knee), 0.085, 0.065, colour);
    sketch.limb(at(knee), at(foot), 0.06, 0.045, colour);
    sketch.limb(
        at([foot[0] - 0.06, foot[1] - 0.02]),
        at([foot[0] + 0.14, foot[1] - 0.03]),
        0.04,
        0.03,
        [44.0, 38.0, 36.0],
    );
}

fn wheel(sketch: &mut Sketch, centre: Point, radius: f32, turn: f32) {
    for spoke in 0..5 {
        let (sin, cos) = (-turn + spoke as f32 / 5.0 * PI).sin_cos();
        let reach = radius * 0.93;
        let a = [centre[0] + reach * cos, centre[1] + reach * sin];
        let b = [centre[0] - reach * cos, centre[1] - reach * sin];
        sketch.limb(a, b, 0.008, 0.008, [176.0; 3]);
    }
    // Even-odd: the inner circle cuts the outer one, joined by a seam without width.
    let mut ring = ellipse(centre, radius, radius);
    ring.push(ring[0]);
    let inner = ellipse(centre, radius * 0.86, radius * 0.86);
    ring.extend_from_slice(&inner);
    ring.push(inner[0]);
    sketch.add(&ring, [38.0, 38.0, 40.0]);
}

const PAINTS: [Rgb; 7] = [
    [226.0, 228.0, 230.0],
    [58.0, 62.0, 70.0],
    [168.0, 34.0, 36.0],
    [44.0, 78.0, 132.0],
    [164.0, 170.0, 176.0],
    [206.0, 186.0, 92.0],
    [70.0, 104.0, 88.0],
];

fn car(sketch: &mut Sketch, pose: &Pose) {
    const HALF: f32 = 0.84;
    let f = if pose.heading.0 < 0.0 { -1.0 } else { 1.0 };
    let body = choose(&PAINTS, pose.style, 1);
    let van = hash(3, 1, pose.style) > 0.75;
    // Rear to front along the roof: forward, up, and whether that piece is glass.
    let contour: &[(f32, f32, bool)] = if van {
        &[
            (-2.3, 0.3, false),
            (-2.3, 1.95, false),
            (1.0, 2.0, false),
            (1.75, 1.2, true),
            (2.25, 1.0, false),
            (2.3, 0.3, false),
        ]
    } else {
        &[
            (-1.9, 0.3, false),
            (-1.95, 0.9, false),
            (-1.6, 1.42, true),
            (-0.2, 1.48, false),
            (0.75, 1.0, true),
            (1.75, 0.86, false),
            (1.9, 0.3, false),
        ]
    };
    let glass = [70.0, 82.0, 94.0];
    let under = [(-1.8, 0.18), (1.8, 0.18)].map(|(x, y): (f32, f32)| [x * f, y]);
    sketch.spots(
        vec![
            [under[0][0], 0.02, -HALF],
            [under[1][0], 0.02, -HALF],
            [under[1][0], 0.02, HALF],
            [under[0][0], 0.02, HALF],
        ],
        [30.0; 3],
    );
    for pair in contour.windows(2) {
        let [(u0, v0, _), (u1, v1, is_glass)] = [pair[0], pair[1]];
        let steep = (v1 - v0).abs() / (u1 - u0).hypot(v1 - v0);
        let colour = if is_glass { shade(glass, 1.25) } else { shade(body, 1.12 - 0.32 * steep) };
        let quad = vec![[u0 * f, v0, -HALF], [u1 * f, v1, -HALF], [u1 * f, v1, HALF], [u0 * f, v0, HALF]];
        sketch.spots(quad, colour);
    }
    sketch.depth = -HALF;
    let outline: Vec<Point> = contour.iter().map(|&(u, v, _)| [u * f, v]).collect();
    sketch.add(&outline, shade(body, 0.88));
    let at = |x: f32, y: f32| [x * f, y];
    sketch.add(&[at(-1.9, 0.3), at(1.9, 0.3), at(1.9, 0.42), at(-1.9, 0.42)], shade(body, 0.55));
    if van {
        sketch.add(&[at(0.55, 1.2), at(1.55, 1.2), at(0.95, 1.82), at(0.55, 1.82)], glass);
        sketch.add(&[at(-2.25, 0.95), at(2.25, 0.95), at(2.25, 1.05), at(-2.25, 1.05)], shade(body, 0.7));
    } else {
        sketch.add(&[at(-1.5, 0.98), at(-0.5, 0.98), at(-0.5, 1.39), at(-1.42, 1.34)], glass);
        sketch.add(&[at(-0.42, 0.98), at(0.58, 0.98), at(-0.18, 1.4), at(-0.42, 1.4)], glass);
        sketch.limb(at(-0.46, 0.44), at(-0.46, 0.95), 0.012, 0.012, shade(body, 0.6));
    }
    for x in [-1.2f32, 1.2] {
        sketch.add(&ellipse(at(x, 0.36), 0.4, 0.4), shade(body, 0.45));
        sketch.add(&ellipse(at(x, 0.32), 0.32, 0.32), [34.0, 34.0, 36.0]);
        sketch.add(&ellipse(at(x, 0.32), 0.19, 0.19), [158.0, 160.0, 164.0]);
        for spoke in 0..2 {
            let (sin, cos) = (-pose.gone / 0.32 * f + spoke as f32 * PI / 2.0).sin_cos();
            let centre = at(x, 0.32);
            sketch.limb(
                [centre[0] - 0.18 * cos, centre[1] - 0.18 * sin],
                [centre[0] + 0.18 * cos, centre[1] + 0.18 * sin],
                0.03,
                0.03,
                [90.0; 3],
            );
        }
    }
    let lamps = [(1.8f32, 0.72f32, [255.0, 250.0, 228.0]), (-1.9, 0.78, [190.0, 40.0, 34.0])];
    for (x, y, colour) in lamps {
        let shape = [at(x - 0.1, y - 0.09), at(x + 0.08, y - 0.09), at(x + 0.06, y + 0.09), at(x - 0.1, y + 0.07)];
        if pose.night && x > 0.0 {
            sketch.shine(&shape, [255.0; 3]);
        } else {
            sketch.add(&shape, colour);
        }
    }
}
