//! Detects noise, which no filter and no code makes smaller.

use alloc::vec::Vec;

use crate::filter::{LANES, RESIDUAL_MAX, Rows};
use crate::layout::Layout;

/// Smallest picture, in bytes, that is checked. Filtering a smaller one costs little.
const SAMPLES_MIN: usize = 16 << 10;

/// Approximate bytes of rows that are checked.
const LOOKED_AT: usize = 16 << 10;

/// 256 times the mean distance of a residual from 0, for noise.
const NOISE: u64 = {
    let (max, mut n, mut sum) = (RESIDUAL_MAX as u64, 1, 0);
    while n < 256 {
        let distance = if n < 128 { n } else { 256 - n };
        sum += if distance < max { distance } else { max };
        n += 1;
    }
    sum
};

/// Whether some rows, which stand for all, are noise: all bytes are about equally frequent, and so are the
/// residuals of every filter.
///
/// `rows` and `filtered` are scratch space. A picture that is not noise usually shows it in the first row.
pub(crate) fn is_noise(
    samples: &[u8],
    layout: &Layout,
    rows: &mut Rows,
    filtered: &mut Vec<u8>,
) -> bool {
    if samples.len() < SAMPLES_MIN {
        return false;
    }
    let row_bytes = layout.row_bytes;
    let n_rows = samples.len() / layout.sample_bytes;
    let step = (n_rows / (LOOKED_AT / row_bytes).max(4)).max(1);
    let mut counts = [0u64; 256];
    filtered.resize(row_bytes.next_multiple_of(LANES), 0);
    let (mut n, mut residuals) = (0, 0);
    for i in (step / 2..n_rows).step_by(step) {
        let row = |i: usize| &samples[i * layout.sample_bytes..][..layout.sample_bytes];
        rows.begin(row_bytes);
        if i > 0 {
            layout.fill_row(row(i - 1), rows.next(row_bytes));
        }
        let here = rows.next(row_bytes);
        layout.fill_row(row(i), here);
        here.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
        n += row_bytes as u64;
        let least = rows.residuals(layout.pixel_bytes, filtered).into_iter().min().unwrap_or(0);
        residuals += u64::from(least);
        // 4 % less than noise. Fewer than 1024 bytes are not significant.
        if n >= 1024 && residuals * 256 * 25 < n * NOISE * 24 {
            return false;
        }
    }
    // Two bytes of noise are equal with a chance of 1 in 256, plus the effect of the sample size. 5 % more
    // are tolerated.
    let n_equal: u64 = counts.iter().map(|n| n * n).sum();
    n_equal * 256 <= n * n + n * n / 20 + 256 * n
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::{ColorType, Picture};

    #[test]
    fn only_noise_is_noise() {
        let mut state = 1u32;
        let mut random = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        let mut check =
            |what: &str, mode: ColorType, side: u32, sample: &dyn Fn(usize, u8) -> u8, want| {
                let n = side as usize * side as usize * mode.pixel_bytes();
                let samples: Vec<u8> = (0..n).map(|i| sample(i, random())).collect();
                let pixels =
                    Picture { color_type: mode, width: side, height: side, samples: &samples };
                let layout = Layout::new(pixels).expect("a layout");
                assert_eq!(
                    is_noise(&samples, &layout, &mut Rows::default(), &mut Vec::new()),
                    want,
                    "{what} {mode:?} {side}"
                );
            };
        for mode in [ColorType::Gray, ColorType::Rgb, ColorType::Gray16, ColorType::Rgba] {
            check("noise", mode, 256, &|_, noise| noise, true);
            check("small noise", mode, 40, &|_, noise| noise, false);
            check("few values", mode, 256, &|_, noise| noise & 0xf0, false);
            check("seven bits", mode, 256, &|_, noise| noise / 2, false);
            check("flat", mode, 256, &|_, _| 7, false);
            // All bytes are equally frequent, but each follows from the one before.
            check("gradient", mode, 256, &|i, _| i.wrapping_mul(77).to_le_bytes()[0], false);
            let middle = 128 * 256 * mode.pixel_bytes();
            check("half", mode, 256, &|i, noise| if i < middle { noise } else { 7 }, false);
        }
    }
}
