//! The machine-readable strip: camera number and frame counter in black and white blocks.
//!
//! Belongs here: its layout, drawing it into a luma plane and reading it back.
//! Does not belong here: decoding video (`decode`), what the numbers mean to a test.
//! Invariant: a strip is read as the number that was drawn or not at all; a CRC-16 and a sync
//! pattern stand between noise and a wrong number.
//!
//! Two rows of 32 blocks in the bottom left corner: 8 sync, 16 camera, 24 frame, 16 CRC bits,
//! most significant first. A block is 1/45 of the height and never under 8 pixels, so that it
//! covers a transform block at 360 lines.

/// What a strip says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mark {
    /// Camera number of the configuration.
    pub camera: u16,
    /// Frame index within the loop, modulo 2^24.
    pub frame: u32,
}

/// An 8-bit luma plane.
#[derive(Debug, Clone, Copy)]
pub struct Luma<'a> {
    /// Rows of `stride` bytes.
    pub samples: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
    /// Visible pixels in a row.
    pub width: usize,
    /// Visible rows.
    pub height: usize,
}

const COLUMNS: usize = 32;
const ROWS: usize = 2;
const SYNC: u8 = 0b1011_0010;
const FRAME_BITS: u32 = 24;
/// Inside studio range, away from the rails so that ringing is not clipped.
const BLACK: u8 = 32;
const WHITE: u8 = 208;
/// Below this distance of the sync levels a picture holds no strip.
const LEAST_CONTRAST: f32 = 60.0;
const LINES_PER_BLOCK: f32 = 45.0;
const LEAST_BLOCK: f32 = 8.0;

/// Narrowest picture that holds a strip.
pub const LEAST_WIDTH: u32 = (COLUMNS as u32) * (LEAST_BLOCK as u32);

fn block(height: usize) -> f32 {
    (height as f32 / LINES_PER_BLOCK).max(LEAST_BLOCK)
}

/// Pixel rectangle of the whole strip: x, y, width, height.
pub fn area(width: usize, height: usize) -> (usize, usize, usize, usize) {
    let side = block(height);
    let strip_height = (side * ROWS as f32).round() as usize;
    let strip_width = (side * COLUMNS as f32).round() as usize;
    (0, height.saturating_sub(strip_height), strip_width.min(width), strip_height.min(height))
}

/// Cells of the 32x18 grid that the strip touches; they change on every frame and say nothing
/// about the scene.
pub fn cells(width: usize, height: usize) -> Vec<u16> {
    let (x, y, w, h) = area(width, height);
    let columns = (x * 32 / width)..=((x + w - 1) * 32 / width).min(31);
    let rows = (y * 18 / height)..=((y + h - 1) * 18 / height).min(17);
    rows.flat_map(|row| columns.clone().map(move |column| (row * 32 + column) as u16)).collect()
}

/// CRC-16/CCITT-FALSE over the five payload bytes.
fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |mut crc, &byte| {
        crc ^= u16::from(byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 };
        }
        crc
    })
}

fn bits(mark: Mark) -> u64 {
    let payload = (u64::from(mark.camera) << FRAME_BITS) | u64::from(mark.frame & ((1 << FRAME_BITS) - 1));
    let checksum = crc(&payload.to_be_bytes()[3..]);
    (u64::from(SYNC) << 56) | (payload << 16) | u64::from(checksum)
}

/// Draws a strip into a luma plane of rows of `stride` bytes. Pictures narrower than
/// [`LEAST_WIDTH`] get a cut strip, which reads as none.
pub fn draw(samples: &mut [u8], stride: usize, width: usize, height: usize, mark: Mark) {
    let side = block(height);
    let (_, top, _, strip_height) = area(width, height);
    let word = bits(mark);
    for y in 0..strip_height {
        let row = ((y as f32 + 0.5) / side) as usize;
        for x in 0..((side * COLUMNS as f32).round() as usize).min(width) {
            let column = ((x as f32 + 0.5) / side) as usize;
            let index = (row.min(ROWS - 1) * COLUMNS + column.min(COLUMNS - 1)) as u32;
            let set = (word >> (63 - index)) & 1 == 1;
            samples[(top + y) * stride + x] = if set { WHITE } else { BLACK };
        }
    }
}

/// Reads a strip; `None` when there is none or when it cannot be trusted.
pub fn read(luma: Luma<'_>) -> Option<Mark> {
    let side = block(luma.height);
    let (_, top, width, _) = area(luma.width, luma.height);
    if width < (side * COLUMNS as f32).round() as usize {
        return None;
    }
    let mut levels = [0f32; 64];
    for (index, level) in levels.iter_mut().enumerate() {
        *level = block_mean(luma, top, side, index % COLUMNS, index / COLUMNS)?;
    }
    let (mut white, mut black) = (0.0, 0.0);
    for (index, level) in levels[..8].iter().enumerate() {
        if (SYNC >> (7 - index)) & 1 == 1 {
            white += level / SYNC.count_ones() as f32;
        } else {
            black += level / SYNC.count_zeros() as f32;
        }
    }
    if white - black < LEAST_CONTRAST {
        return None;
    }
    let threshold = (white + black) / 2.0;
    let word = levels.iter().fold(0u64, |word, &level| (word << 1) | u64::from(level > threshold));
    let payload = (word >> 16) & 0xff_ffff_ffff;
    let mark = Mark { camera: (payload >> FRAME_BITS) as u16, frame: (payload & ((1 << FRAME_BITS) - 1)) as u32 };
    (bits(mark) == word).then_some(mark)
}

/// Mean of the middle of a block: its rim carries the deblocking of its neighbours.
fn block_mean(luma: Luma<'_>, top: usize, side: f32, column: usize, row: usize) -> Option<f32> {
    let span = |index: usize| {
        let from = (index as f32 + 0.25) * side;
        let to = (index as f32 + 0.75) * side;
        (from.round() as usize, (to.round() as usize).max(from.round() as usize + 1))
    };
    let (x0, x1) = span(column);
    let (y0, y1) = span(row);
    let mut sum = 0u32;
    for y in y0..y1 {
        let start = (top + y) * luma.stride;
        for &sample in luma.samples.get(start + x0..start + x1)? {
            sum += u32::from(sample);
        }
    }
    Some(sum as f32 / ((x1 - x0) * (y1 - y0)) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn plane(width: usize, height: usize, mark: Mark) -> Vec<u8> {
        let mut samples = vec![110u8; width * height];
        draw(&mut samples, width, width, height, mark);
        samples
    }

    fn luma(samples: &[u8], width: usize, height: usize) -> Luma<'_> {
        Luma { samples, stride: width, width, height }
    }

    proptest! {
        #[test]
        fn what_is_drawn_is_read(
            camera in any::<u16>(),
            frame in 0u32..(1 << 24),
            size in prop_oneof![
                Just((1280usize, 720usize)), Just((640, 360)), Just((320, 180)),
                Just((1920, 1080)), Just((704, 576)), Just((854, 480)),
            ],
            seed in any::<u64>(),
            amplitude in 0i32..40,
        ) {
            let mark = Mark { camera, frame };
            let mut samples = plane(size.0, size.1, mark);
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            for sample in &mut samples {
                let noise = rng.random_range(-amplitude..=amplitude);
                *sample = (i32::from(*sample) + noise).clamp(0, 255) as u8;
            }
            prop_assert_eq!(read(luma(&samples, size.0, size.1)), Some(mark));
        }

        #[test]
        fn a_flipped_block_is_unreadable(
            camera in any::<u16>(), frame in 0u32..(1 << 24), bit in 0usize..64,
        ) {
            let mark = Mark { camera, frame };
            let mut samples = plane(640, 360, mark);
            let (x, y) = ((bit % COLUMNS) * 8, 344 + (bit / COLUMNS) * 8);
            for row in y..y + 8 {
                for sample in &mut samples[row * 640 + x..row * 640 + x + 8] {
                    *sample = if *sample > 120 { BLACK } else { WHITE };
                }
            }
            prop_assert_eq!(read(luma(&samples, 640, 360)), None);
        }
    }

    #[test]
    fn a_picture_without_a_strip_is_unreadable() {
        let flat = vec![90u8; 640 * 360];
        assert_eq!(read(luma(&flat, 640, 360)), None);
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let noise: Vec<u8> = (0..640 * 360).map(|_| rng.random()).collect();
        assert_eq!(read(luma(&noise, 640, 360)), None);
    }
}
