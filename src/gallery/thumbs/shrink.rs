//! Makes a picture smaller, row by row. Pure.
//!
//! Each new pixel is the mean of the area that it covers, where pixels at the edge count by their covered part. The
//! sums are of whole numbers, so that the result is the same on every machine. Colours count by their alpha.

use crate::convert::Pixels;
use crate::media::ColorMode;

/// The greatest longest side of a new picture. The product of a sample and a weight then has 32 bits.
pub(super) const SIDE_MAX: u32 = 256;

/// A picture that becomes smaller while its rows come in.
///
/// In units of a source pixel divided by the new side, a source pixel is as long as the new side, and a new pixel is
/// as long as the old side. All lengths are whole numbers then.
pub(super) struct Shrink {
    mode: ColorMode,
    from: (u32, u32),
    to: (u32, u32),
    /// The weighted sums of the rows that the current new row covers so far.
    sums: Vec<u64>,
    /// How much of the current new row is covered.
    covered: u32,
    bytes: Vec<u8>,
}

/// The size of a picture whose longest side becomes `longest`. A smaller picture keeps its size.
pub(super) fn size_within((width, height): (u32, u32), longest: u32) -> (u32, u32) {
    let side = u64::from(width.max(height).max(1));
    let longest = u64::from(longest).min(side);
    let scaled = |length: u32| {
        let scaled = (u64::from(length) * longest + side / 2) / side;
        u32::try_from(scaled).unwrap_or(u32::MAX).max(1)
    };
    (scaled(width), scaled(height))
}

/// The bytes of memory that the sums of a row of this many samples take.
pub(super) const fn sum_bytes(n_samples: u64) -> u64 {
    n_samples.saturating_mul(8)
}

impl Shrink {
    /// Makes a picture of `from` pixels, width and height, so small that its longest side is `longest`. The mode is
    /// one of 8 bits.
    pub(super) fn new(mode: ColorMode, from: (u32, u32), longest: u32) -> Self {
        let to = size_within(from, longest.min(SIDE_MAX));
        let n_samples = from.0 as usize * mode.n_channels();
        Self { mode, from, to, sums: vec![0; n_samples], covered: 0, bytes: Vec::new() }
    }

    /// Adds the next row.
    pub(super) fn row(&mut self, samples: &[u8]) {
        let mut left = self.to.1;
        while left > 0 {
            let weight = left.min(self.from.1 - self.covered);
            match self.mode {
                ColorMode::La => add_with_alpha::<2>(&mut self.sums, samples, weight),
                ColorMode::Rgba => add_with_alpha::<4>(&mut self.sums, samples, weight),
                _ => add(&mut self.sums, samples, weight),
            }
            left -= weight;
            self.covered += weight;
            if self.covered == self.from.1 {
                match self.mode.n_channels() {
                    1 => self.end_row::<1>(),
                    2 => self.end_row::<2>(),
                    3 => self.end_row::<3>(),
                    _ => self.end_row::<4>(),
                }
                self.sums.fill(0);
                self.covered = 0;
            }
        }
    }

    /// Returns the new picture. Rows that did not come are black.
    pub(super) fn finish(mut self) -> Pixels {
        let (width, height) = self.to;
        self.bytes.resize(width as usize * height as usize * self.mode.n_channels(), 0);
        Pixels { mode: self.mode, width, height, bytes: self.bytes }
    }

    /// Ends a new row: sums up the columns of each new pixel.
    fn end_row<const N: usize>(&mut self) {
        let total = u64::from(self.from.0) * u64::from(self.from.1);
        let mut sum = [0; N];
        let mut covered = 0;
        for pixel in self.sums.as_chunks::<N>().0 {
            let mut left = self.to.0;
            while left > 0 {
                let weight = left.min(self.from.0 - covered);
                for (sum, sample) in sum.iter_mut().zip(pixel) {
                    *sum += sample * u64::from(weight);
                }
                left -= weight;
                covered += weight;
                if covered == self.from.0 {
                    self.bytes.extend_from_slice(&mean(sum, total, self.mode.has_alpha()));
                    (sum, covered) = ([0; N], 0);
                }
            }
        }
    }
}

/// The mean of a pixel's sums. With alpha, colours are sums of their products with alpha.
fn mean<const N: usize>(sums: [u64; N], total: u64, has_alpha: bool) -> [u8; N] {
    let alpha = sums[N - 1];
    let mut channel = 0;
    sums.map(|sum| {
        channel += 1;
        let by = if has_alpha && channel < N { alpha } else { total };
        u8::try_from((sum + by / 2).checked_div(by).unwrap_or(0)).unwrap_or(u8::MAX)
    })
}

fn add(sums: &mut [u64], samples: &[u8], weight: u32) {
    for (sum, &sample) in sums.iter_mut().zip(samples) {
        *sum += u64::from(u32::from(sample) * weight);
    }
}

fn add_with_alpha<const N: usize>(sums: &mut [u64], samples: &[u8], weight: u32) {
    for (sums, pixel) in sums.as_chunks_mut::<N>().0.iter_mut().zip(samples.as_chunks::<N>().0) {
        let alpha = u32::from(pixel[N - 1]);
        for (sum, &sample) in sums[..N - 1].iter_mut().zip(pixel) {
            *sum += u64::from(u32::from(sample) * alpha * weight);
        }
        sums[N - 1] += u64::from(alpha * weight);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const MODES: [ColorMode; 4] = [ColorMode::L, ColorMode::La, ColorMode::Rgb, ColorMode::Rgba];

    fn shrunk(mode: ColorMode, width: u32, bytes: &[u8], longest: u32) -> Pixels {
        let n_row = width as usize * mode.n_channels();
        let height = u32::try_from(bytes.len() / n_row).expect("a height");
        let mut shrink = Shrink::new(mode, (width, height), longest);
        bytes.chunks_exact(n_row).for_each(|row| shrink.row(row));
        shrink.finish()
    }

    #[test]
    fn the_longest_side_is_the_one_asked_for() {
        for (from, longest, want) in [
            ((512, 512), 128, (128, 128)),
            ((1000, 10), 128, (128, 1)),
            ((3, 100_000), 256, (1, 256)),
            ((640, 480), 256, (256, 192)),
            ((28, 28), 128, (28, 28)),
            ((129, 129), 128, (128, 128)),
            ((0, 0), 128, (1, 1)),
        ] {
            assert_eq!(size_within(from, longest), want, "{from:?}");
        }
    }

    #[test]
    fn a_pixel_is_the_mean_of_the_area_it_covers() {
        // 2 × 2 pixels of 2 × 2.
        let bytes = [0, 100, 8, 8, 200, 100, 8, 9, 1, 1, 255, 255, 2, 2, 255, 255];
        let got = shrunk(ColorMode::L, 4, &bytes, 2);
        assert_eq!((got.width, got.height, got.bytes), (2, 2, vec![100, 8, 2, 255]));
        // 3 columns on 2: the middle one counts half for each.
        let got = shrunk(ColorMode::L, 3, &[0, 90, 240], 2);
        assert_eq!((got.width, got.height, got.bytes), (2, 1, vec![30, 190]));
        // The same for rows, with three channels.
        let got = shrunk(ColorMode::Rgb, 1, &[0, 3, 6, 90, 3, 6, 240, 3, 6], 2);
        assert_eq!(got.bytes, [30, 3, 6, 190, 3, 6]);
    }

    #[test]
    fn colours_count_by_their_alpha() {
        // Red that is opaque, and green that cannot be seen.
        let got = shrunk(ColorMode::Rgba, 2, &[255, 0, 0, 255, 0, 255, 0, 0], 1);
        assert_eq!(got.bytes, [255, 0, 0, 128]);
        let got = shrunk(ColorMode::La, 2, &[100, 0, 200, 0], 1);
        assert_eq!(got.bytes, [0, 0]);
        let got = shrunk(ColorMode::La, 2, &[100, 100, 200, 200], 1);
        assert_eq!(got.bytes, [167, 150]);
    }

    #[test]
    fn the_greatest_sums_fit() {
        let row = vec![255; 30_000 * 4];
        let mut shrink = Shrink::new(ColorMode::Rgba, (30_000, 256), 256);
        (0..256).for_each(|_| shrink.row(&row));
        assert!(shrink.finish().bytes.iter().all(|&sample| sample == 255));
    }

    proptest! {
        /// A plain computation with fractions gives the same.
        #[test]
        fn it_equals_the_mean_by_fractions(
            (width, height) in (1usize..20, 1usize..20),
            longest in 1u32..12,
            seed in vec(any::<u8>(), 400),
        ) {
            let bytes = &seed[..width * height];
            let got = shrunk(ColorMode::L, u32::try_from(width)?, bytes, longest);
            let (new_width, new_height) = (got.width as usize, got.height as usize);
            // The part of source pixel `i` of `n` within new pixel `j` of `m`.
            let part = |i: usize, n: usize, j: usize, m: usize| {
                let (low, high) = ((i * m).max(j * n), ((i + 1) * m).min((j + 1) * n));
                high.saturating_sub(low)
            };
            for y in 0..new_height {
                for x in 0..new_width {
                    let mut sum = 0;
                    for (i, &sample) in bytes.iter().enumerate() {
                        let weight = part(i % width, width, x, new_width)
                            * part(i / width, height, y, new_height);
                        sum += weight * usize::from(sample);
                    }
                    let want = (sum + width * height / 2) / (width * height);
                    prop_assert_eq!(usize::from(got.bytes[y * new_width + x]), want);
                }
            }
        }

        #[test]
        fn one_colour_stays_and_a_small_picture_is_kept(
            (width, height) in (1u32..300, 1u32..300),
            longest in 1u32..257,
            color in any::<[u8; 4]>(),
            mode in 0usize..4,
        ) {
            let mode = MODES[mode];
            let mut color = color[..mode.n_channels()].to_vec();
            if mode.has_alpha() {
                let last = color.len() - 1;
                color[last] |= 1;
            }
            let bytes = color.repeat((width * height) as usize);
            let got = shrunk(mode, width, &bytes, longest);
            prop_assert!(got.bytes.chunks(color.len()).all(|pixel| pixel == color));
            prop_assert_eq!((got.width, got.height), size_within((width, height), longest));
        }
    }
}
