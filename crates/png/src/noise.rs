//! Whether rows are noise, which no filter and no code makes smaller.

use crate::filter::{RESIDUAL_MAX, Rows};
use crate::layout::Layout;

/// Fewer bytes of samples are not looked at: to filter them costs little.
const SAMPLES_MIN: usize = 16 << 10;

/// About so many bytes of rows are looked at.
const LOOKED_AT: usize = 16 << 10;

/// Of noise, 256 times the mean distance of a residual from 0.
const NOISE: u64 = {
    let (max, mut n, mut sum) = (RESIDUAL_MAX as u64, 1, 0);
    while n < 256 {
        let distance = if n < 128 { n } else { 256 - n };
        sum += if distance < max { distance } else { max };
        n += 1;
    }
    sum
};

/// Whether some rows, which stand for all, are noise: all bytes are about as frequent, and so are all
/// residuals, whatever the filter. `rows` is for its own use. Of a picture that is not noise it looks at
/// one row.
pub(crate) fn is_noise(samples: &[u8], layout: &Layout, rows: &mut Rows) -> bool {
    if samples.len() < SAMPLES_MIN {
        return false;
    }
    let row_bytes = layout.row_bytes;
    let n_rows = samples.len() / layout.sample_bytes;
    let step = (n_rows / (LOOKED_AT / row_bytes).max(4)).max(1);
    let mut counts = [0u64; 256];
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
        let least = rows.residuals(layout.pixel_bytes).into_iter().min().unwrap_or(0);
        residuals += u64::from(least);
        // Noise, but for a twenty-fifth. Of few bytes chance tells more than what they are.
        if n >= 1024 && residuals * 256 * 25 < n * NOISE * 24 {
            return false;
        }
    }
    // The chance that two bytes are equal: 1 in 256, and what the sample adds; here 5 % more.
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
                    is_noise(&samples, &layout, &mut Rows::default()),
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
            // Every byte is as frequent, but one tells the next.
            check("gradient", mode, 256, &|i, _| i.wrapping_mul(77).to_le_bytes()[0], false);
            let middle = 128 * 256 * mode.pixel_bytes();
            check("half", mode, 256, &|i, noise| if i < middle { noise } else { 7 }, false);
        }
    }
}
