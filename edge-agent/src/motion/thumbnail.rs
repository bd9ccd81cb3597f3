//! The best picture of an event as a JPEG.

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};

/// About 15 KB at 320 pixels of width.
const QUALITY: u8 = 75;
/// A thumbnail is small; a camera's format is not believed beyond this.
const MAX_SIDE: usize = 1024;

/// A plane and its stride.
pub type Plane<'a> = (&'a [u8], usize);

/// Encodes an I420 picture; BT.601 limited range, what cameras' sub-streams carry. `None` when planes are too
/// small for the size.
pub fn jpeg(width: usize, height: usize, luma: Plane, cb: Plane, cr: Plane) -> Option<Vec<u8>> {
    if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE {
        return None;
    }
    let mut rgb = Vec::with_capacity(width * height * 3);
    for row in 0..height {
        for column in 0..width {
            let y = f32::from(*luma.0.get(row * luma.1 + column)?);
            let u = f32::from(*cb.0.get(row / 2 * cb.1 + column / 2)?) - 128.0;
            let v = f32::from(*cr.0.get(row / 2 * cr.1 + column / 2)?) - 128.0;
            let y = 1.164 * (y - 16.0);
            rgb.extend([y + 1.596 * v, y - 0.392 * u - 0.813 * v, y + 2.017 * u].map(|level| level as u8));
        }
    }
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, QUALITY);
    encoder.write_image(&rgb, width as u32, height as u32, ExtendedColorType::Rgb8).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_survive() {
        let (luma, cb, cr) = (vec![81; 32 * 16], vec![90; 16 * 8], vec![240; 16 * 8]);
        let bytes = jpeg(32, 16, (&luma, 32), (&cb, 16), (&cr, 16)).unwrap();
        let picture = image::load_from_memory(&bytes).unwrap().to_rgb8();
        let [r, g, b] = picture.get_pixel(16, 8).0;
        assert!(r > 220 && g < 40 && b < 40, "{r} {g} {b}");
    }

    #[test]
    fn planes_that_are_too_small_give_no_picture() {
        assert_eq!(jpeg(32, 16, (&[0; 32], 32), (&[0; 4], 16), (&[0; 4], 16)), None);
    }
}
