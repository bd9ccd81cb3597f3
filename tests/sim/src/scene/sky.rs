//! Sky, hills and far roofs.
//!
//! Belongs here: what lies behind the piazza.
//! Does not belong here: the piazza.
//! Invariant: painted first, without depth.

use super::paint::Painter;
use super::raster::{Point, clouds, mix, noise, shade};

/// Paints everything above and behind.
pub fn paint(painter: &mut Painter<'_>) {
    let (width, height) = (painter.canvas.width, painter.canvas.height);
    let horizon = painter.view.horizon();
    let [top, bottom] = painter.mood.sky;
    let share = painter.mood.clouds;
    let grain = painter.mood.grain;
    let scale = 1280.0 / width as f32;
    for y in 0..height {
        let up = (y as f32 / horizon).min(1.0);
        let base = mix(top, bottom, up.powf(1.3));
        for x in 0..width {
            let mut colour = base;
            if share > 0.0 && up < 1.0 {
                let (fx, fy) = (x as f32 * scale, y as f32 * scale);
                // Clouds flatten towards the horizon.
                let stretch = 1.0 / (1.25 - up);
                let density = clouds(fx / 330.0, fy * stretch / 120.0, grain);
                let cloud = ((density - 0.72 + 0.3 * share) * 3.2).clamp(0.0, 1.0);
                let under = clouds(fx / 330.0, (fy * stretch + 16.0) / 120.0, grain);
                let white = shade(mix([252.0; 3], bottom, 0.25), 1.0 - 0.22 * (under * 1.3 - 0.3).clamp(0.0, 1.0));
                colour = mix(colour, white, cloud * 0.85);
            }
            painter.canvas.pixels[y * width + x] = colour.map(|channel| channel as u8);
        }
    }
    hills(painter);
}

fn hills(painter: &mut Painter<'_>) {
    let (width, height) = (painter.canvas.width, painter.canvas.height as f32);
    let horizon = painter.view.horizon();
    let haze = painter.mood.sky[1];
    let near = if painter.mood.night { [30.0; 3] } else { [86.0, 112.0, 92.0] };
    for (layer, share, rise) in [(0u32, 0.25, 0.15), (1, 0.45, 0.1)] {
        let mut outline: Vec<Point> = vec![[width as f32, height], [0.0, height]];
        for step in 0..=64 {
            let at = step as f32 / 64.0;
            let bump = noise(at * 3.0 + layer as f32 * 7.0, 0.5, painter.mood.grain ^ 77)
                + 0.3 * noise(at * 13.0, layer as f32, painter.mood.grain);
            outline.push([at * width as f32, horizon - height * rise * bump]);
        }
        let colour = mix(haze, near, share);
        painter.textured(&outline, 1.0, |_| f32::INFINITY, |_, _| colour);
    }
}
