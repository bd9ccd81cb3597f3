//! Pictures made small: each pixel is the mean of the whole pixels it covers. Pure.

/// One component of a picture in memory, 8 bits or more a sample.
pub(super) struct Component<'a> {
    pub bytes: &'a [u8],
    pub stride: usize,
    /// From one sample to the next, bytes.
    pub step: usize,
    pub width: usize,
    pub height: usize,
    /// Bits beyond 8 of a sample of 2 bytes, little-endian; 0: samples are bytes.
    pub extra_bits: u32,
}

/// Which samples each small one covers: first, and behind the last.
fn spans(from: usize, to: usize) -> Vec<(usize, usize)> {
    let begin = |n: usize| n * from / to.max(1);
    (0..to).map(|n| (begin(n), begin(n + 1).max(begin(n) + 1).min(from.max(1)))).collect()
}

/// Appends `width` x `height` samples to `out`, row by row. Samples that are not there count as 0.
pub(super) fn shrink(from: &Component<'_>, width: usize, height: usize, out: &mut Vec<u8>) {
    if from.step == 1 && from.extra_bits == 0 && from.width == 2 * width && from.height == 2 * height {
        return halve(from, width, height, out);
    }
    let (columns, rows) = (spans(from.width, width), spans(from.height, height));
    let mut sums = vec![0u32; width];
    for (top, bottom) in rows {
        sums.fill(0);
        for y in top..bottom {
            let row = from.bytes.get(y * from.stride..).unwrap_or(&[]);
            for (sum, &(left, right)) in sums.iter_mut().zip(&columns) {
                *sum += (left..right).map(|x| sample(row, x * from.step, from.extra_bits)).sum::<u32>();
            }
        }
        let mean = |(sum, &(left, right)): (&u32, &(usize, usize))| {
            let count = ((right - left) * (bottom - top)).max(1) as u32;
            ((sum + count / 2) / count).min(255) as u8
        };
        out.extend(sums.iter().zip(&columns).map(mean));
    }
}

fn sample(row: &[u8], at: usize, extra_bits: u32) -> u32 {
    let low = row.get(at).copied().unwrap_or(0);
    if extra_bits == 0 {
        return u32::from(low);
    }
    u32::from(u16::from_le_bytes([low, row.get(at + 1).copied().unwrap_or(0)])) >> extra_bits
}

/// The usual case, 640x360 to 320x180.
fn halve(from: &Component<'_>, width: usize, height: usize, out: &mut Vec<u8>) {
    for y in 0..height {
        let row = |y: usize| from.bytes.get(y * from.stride..y * from.stride + 2 * width).unwrap_or(&[]);
        let (upper, lower) = (row(2 * y).as_chunks::<2>().0, row(2 * y + 1).as_chunks::<2>().0);
        let begun = out.len();
        let mean = |(above, below): (&[u8; 2], &[u8; 2])| {
            let sum = u16::from(above[0]) + u16::from(above[1]) + u16::from(below[0]) + u16::from(below[1]);
            ((sum + 2) >> 2) as u8
        };
        out.extend(upper.iter().zip(lower).map(mean));
        out.resize(begun + width, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(bytes: &[u8], width: usize, height: usize) -> Component<'_> {
        Component { bytes, stride: width, step: 1, width, height, extra_bits: 0 }
    }

    fn small(from: &Component<'_>, width: usize, height: usize) -> Vec<u8> {
        let mut out = Vec::new();
        shrink(from, width, height, &mut out);
        out
    }

    #[test]
    fn a_pixel_is_the_mean_of_those_it_covers() {
        let bytes = [0, 4, 10, 20, 8, 0, 30, 40];
        assert_eq!(small(&plain(&bytes, 4, 2), 2, 1), [3, 25]);
        assert_eq!(small(&plain(&bytes, 4, 2), 4, 2), bytes);
        assert_eq!(small(&plain(&[7, 9, 11], 3, 1), 2, 1), [7, 10]);
    }

    #[test]
    fn interleaved_chroma_and_ten_bits_are_read_as_they_lie() {
        let interleaved = [1, 100, 3, 100, 5, 100, 7, 100];
        let cb = Component { step: 2, stride: 4, ..plain(&interleaved, 2, 2) };
        assert_eq!(small(&cb, 1, 1), [4]);
        let ten: Vec<u8> = [400u16, 408].iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let luma = Component { step: 2, stride: 4, extra_bits: 2, ..plain(&ten, 2, 1) };
        assert_eq!(small(&luma, 1, 1), [101]);
    }

    proptest! {
        #[test]
        fn the_quick_way_for_half_the_size_gives_the_same(
            width in 1usize..20, height in 1usize..12, pad in 0usize..5, seed: u8
        ) {
            let stride = 2 * width + pad;
            let bytes: Vec<u8> = (0..stride * 2 * height).map(|n| (n as u8).wrapping_mul(37) ^ seed).collect();
            let whole = Component { stride, ..plain(&bytes, 2 * width, 2 * height) };
            let twice: Vec<u8> = bytes.iter().flat_map(|byte| [*byte, 0]).collect();
            let spread = Component { stride: 2 * stride, step: 2, ..plain(&twice, 2 * width, 2 * height) };
            prop_assert_eq!(small(&whole, width, height), small(&spread, width, height));
        }

        #[test]
        fn any_size_gives_as_many_pixels_as_asked_for_from_whatever_is_there(
            from in (0usize..40, 0usize..40), to in (1usize..40, 1usize..40), there in 0usize..400, step in 1usize..3
        ) {
            let bytes = vec![200; there];
            let component = Component { step, stride: from.0 * step, ..plain(&bytes, from.0, from.1) };
            prop_assert_eq!(small(&component, to.0, to.1).len(), to.0 * to.1);
        }
    }
}
