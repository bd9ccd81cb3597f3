//! Anti-aliased polygons.
//!
//! Belongs here: coverage of polygons, colours and their mixing, point lists of simple shapes.
//! Does not belong here: what the shapes mean.
//! Invariant: pure arithmetic in a fixed order, so a picture depends on its inputs alone.

/// Picture position, pixels.
pub type Point = [f32; 2];
/// Colour, 0 to 255 each.
pub type Rgb = [f32; 3];

const SUBLINES: usize = 4;

/// Calls `paint(x, y, coverage)` for each pixel of a polygon (even-odd rule), coverage 0 to 1.
pub fn fill(points: &[Point], width: usize, height: usize, mut paint: impl FnMut(usize, usize, f32)) {
    let Some((left, right, top, bottom)) = bounds(points, width, height) else {
        return;
    };
    let mut row = vec![0f32; right - left];
    let mut crossings: Vec<f32> = Vec::with_capacity(16);
    for y in top..bottom {
        row.fill(0.0);
        for subline in 0..SUBLINES {
            let at = y as f32 + (subline as f32 + 0.5) / SUBLINES as f32;
            cross(points, at, &mut crossings);
            for pair in crossings.chunks_exact(2) {
                cover(&mut row, pair[0] - left as f32, pair[1] - left as f32);
            }
        }
        for (offset, &sum) in row.iter().enumerate() {
            if sum > 0.004 {
                paint(left + offset, y, sum.min(1.0));
            }
        }
    }
}

/// Pixel bounds (left, right, top, bottom; right and bottom excluded) within a picture.
pub fn bounds(points: &[Point], width: usize, height: usize) -> Option<(usize, usize, usize, usize)> {
    let fold =
        |axis: usize, pick: fn(f32, f32) -> f32, from: f32| points.iter().map(|point| point[axis]).fold(from, pick);
    let left = fold(0, f32::min, f32::INFINITY).floor().max(0.0) as usize;
    let top = fold(1, f32::min, f32::INFINITY).floor().max(0.0) as usize;
    let right = (fold(0, f32::max, f32::NEG_INFINITY).ceil().max(0.0) as usize).min(width);
    let bottom = (fold(1, f32::max, f32::NEG_INFINITY).ceil().max(0.0) as usize).min(height);
    (left < right && top < bottom).then_some((left, right, top, bottom))
}

fn cross(points: &[Point], at: f32, crossings: &mut Vec<f32>) {
    crossings.clear();
    let mut from = points[points.len() - 1];
    for &to in points {
        if (from[1] <= at) != (to[1] <= at) {
            crossings.push(from[0] + (at - from[1]) / (to[1] - from[1]) * (to[0] - from[0]));
        }
        from = to;
    }
    crossings.sort_unstable_by(f32::total_cmp);
}

fn cover(row: &mut [f32], from: f32, to: f32) {
    const WEIGHT: f32 = 1.0 / SUBLINES as f32;
    let from = from.max(0.0);
    let to = to.min(row.len() as f32);
    if to <= from {
        return;
    }
    let (first, last) = (from as usize, (to.ceil() as usize).min(row.len()) - 1);
    if first == last {
        row[first] += (to - from) * WEIGHT;
        return;
    }
    row[first] += (first as f32 + 1.0 - from) * WEIGHT;
    for cell in &mut row[first + 1..last] {
        *cell += WEIGHT;
    }
    row[last] += (to - last as f32) * WEIGHT;
}

/// Lays a colour over a pixel.
pub fn blend(pixel: &mut [u8; 3], colour: Rgb, alpha: f32) {
    for (channel, value) in pixel.iter_mut().zip(colour) {
        let old = f32::from(*channel);
        *channel = (old + (value - old) * alpha + 0.5) as u8;
    }
}

/// `a` at 0, `b` at 1.
pub fn mix(a: Rgb, b: Rgb, share: f32) -> Rgb {
    let share = share.clamp(0.0, 1.0);
    std::array::from_fn(|channel| a[channel] + (b[channel] - a[channel]) * share)
}

/// A colour times a light, kept in range.
pub fn lit(colour: Rgb, light: Rgb) -> Rgb {
    std::array::from_fn(|channel| (colour[channel] * light[channel]).clamp(0.0, 255.0))
}

/// A colour times a number.
pub fn shade(colour: Rgb, factor: f32) -> Rgb {
    lit(colour, [factor; 3])
}

/// An ellipse as a polygon.
pub fn ellipse(centre: Point, rx: f32, ry: f32) -> Vec<Point> {
    const CORNERS: usize = 28;
    (0..CORNERS)
        .map(|corner| {
            let (sin, cos) = (corner as f32 / CORNERS as f32 * std::f32::consts::TAU).sin_cos();
            [centre[0] + rx * cos, centre[1] + ry * sin]
        })
        .collect()
}

/// A limb from `a` to `b`, half as wide as `from` and `to` say at its ends.
pub fn limb(a: Point, b: Point, from: f32, to: f32) -> Vec<Point> {
    let along = [b[0] - a[0], b[1] - a[1]];
    let length = (along[0] * along[0] + along[1] * along[1]).sqrt().max(1e-5);
    let [ux, uy] = [along[0] / length, along[1] / length];
    let side = |p: Point, w: f32, out: f32| {
        let end = [p[0] + ux * w * 0.5 * out, p[1] + uy * w * 0.5 * out];
        (end, [p[0] - uy * w, p[1] + ux * w], [p[0] + uy * w, p[1] - ux * w])
    };
    let (a_end, a_left, a_right) = side(a, from, -1.6);
    let (b_end, b_left, b_right) = side(b, to, 1.6);
    vec![a_left, a_end, a_right, b_right, b_end, b_left]
}

/// Smooth noise in 0 to 1 with a period of one unit.
pub fn noise(x: f32, y: f32, seed: u32) -> f32 {
    let (cell_x, cell_y) = (x.floor(), y.floor());
    let ease = |t: f32| t * t * (3.0 - 2.0 * t);
    let (tx, ty) = (ease(x - cell_x), ease(y - cell_y));
    let corner = |dx: f32, dy: f32| hash((cell_x + dx) as i32, (cell_y + dy) as i32, seed);
    let top = corner(0.0, 0.0) + (corner(1.0, 0.0) - corner(0.0, 0.0)) * tx;
    let bottom = corner(0.0, 1.0) + (corner(1.0, 1.0) - corner(0.0, 1.0)) * tx;
    top + (bottom - top) * ty
}

/// Four octaves of [`noise`], 0 to 1.
pub fn clouds(x: f32, y: f32, seed: u32) -> f32 {
    (0..4u32)
        .map(|octave| {
            let scale = (1 << octave) as f32;
            noise(x * scale, y * scale, seed + octave) / scale
        })
        .sum::<f32>()
        / 1.875
}

/// A number in 0 to 1 for a place in a grid.
pub fn hash(x: i32, y: i32, seed: u32) -> f32 {
    let mut value =
        (x as u32).wrapping_mul(0x9e37_79b1) ^ (y as u32).wrapping_mul(0x85eb_ca77) ^ seed.wrapping_mul(0xc2b2_ae3d);
    value ^= value >> 15;
    value = value.wrapping_mul(0x2c1b_3c6d);
    value ^= value >> 12;
    value = value.wrapping_mul(0x297a_2d39);
    value ^= value >> 15;
    (value >> 8) as f32 / (1 << 24) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coverage_adds_up_to_the_area() {
        let square = [[2.25, 2.25], [7.75, 2.25], [7.75, 9.75], [2.25, 9.75]];
        let mut sum = 0.0;
        fill(&square, 16, 16, |_, _, coverage| sum += coverage);
        assert!((sum - 5.5 * 7.5).abs() < 0.5, "{sum}");
    }

    #[test]
    fn nothing_is_painted_outside_the_picture() {
        let huge = [[-50.0, -50.0], [90.0, -50.0], [90.0, 90.0], [-50.0, 90.0]];
        let mut count = 0;
        fill(&huge, 16, 9, |x, y, _| {
            assert!(x < 16 && y < 9);
            count += 1;
        });
        assert_eq!(count, 16 * 9);
        fill(&[[20.0, 20.0], [30.0, 20.0], [25.0, 30.0]], 16, 9, |_, _, _| panic!("outside"));
    }
}
