//! Mean squared and mean absolute error, the greatest difference, PSNR; and all figures together.

use super::ssim::Ssim;
use super::{Mismatch, RowPair, same_size};
use crate::values::Values;

/// How two pictures differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Over all channels. Its structural similarity is the mean of those of the channels.
    pub whole: Differences,
    /// For each channel.
    pub channels: Vec<Differences>,
}

/// How two pictures, or one channel of them, differ. A figure that f64 cannot hold is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Differences {
    /// Mean squared error.
    pub mse: Option<f64>,
    /// Mean absolute error.
    pub mae: Option<f64>,
    /// The greatest absolute difference.
    pub max: Option<f64>,
    /// Column, row and channel of the first pixel with that difference.
    pub at: Option<[usize; 3]>,
    /// Peak signal-to-noise ratio in decibels. `None` if all values are equal.
    pub psnr: Option<f64>,
    /// Mean structural similarity: see [`compare`]. `None` if a side is shorter than 11 pixels.
    pub ssim: Option<f64>,
    /// Values that are finite in both pictures.
    pub n_finite: u64,
    /// The other values.
    pub n_other: u64,
}

/// Computes how `b` differs from `a`.
///
/// Structural similarity is that of scikit-image with Gaussian weights: σ 1.5, a window of 11 × 11 pixels, population
/// covariance, `peak` as data range. A window that holds a value that is not finite in both pictures counts for
/// nothing: the mean is that of the other windows. Other figures leave out such values alone.
///
/// # Errors
/// If the pictures have another size or number of channels.
///
/// Source: scikit-image 0.26, `metrics.structural_similarity` with `gaussian_weights=True`, `sigma=1.5`,
/// `use_sample_covariance=False`, and `metrics.peak_signal_noise_ratio`.
pub fn compare(a: &Values, b: &Values, peak: f64) -> Result<Comparison, Mismatch> {
    let [height, _, n_channels] = same_size(a, b)?;
    let mut channels = Vec::with_capacity(n_channels);
    let mut whole = Sums::default();
    let mut rows = RowPair::default();
    for channel in 0..n_channels {
        let mut sums = Sums::default();
        for y in 0..height {
            rows.read(a, b, y, channel);
            sums.see(&rows, y, channel);
        }
        whole.add(&sums);
        let ssim = Ssim::new(a, b, channel, peak, sums.n_other > 0);
        channels.push(Differences { ssim: ssim.and_then(Ssim::mean), ..sums.differences(peak) });
    }
    let ssim: Option<f64> = channels.iter().map(|channel| channel.ssim).sum();
    #[expect(clippy::cast_precision_loss, reason = "a handful of channels")]
    let ssim = ssim.map(|sum| sum / n_channels as f64);
    Ok(Comparison { whole: Differences { ssim, ..whole.differences(peak) }, channels })
}

/// Sums over the values that are finite in both pictures.
#[derive(Debug, Default)]
struct Sums {
    squares: f64,
    absolutes: f64,
    max: Option<(f64, [usize; 3])>,
    n_finite: u64,
    n_other: u64,
}

impl Sums {
    fn see(&mut self, rows: &RowPair, y: usize, channel: usize) {
        // Each row has sums of its own, so that little is lost to rounding.
        let (mut squares, mut absolutes) = (0.0, 0.0);
        for (x, (a, b)) in rows.pairs().enumerate() {
            if !(a.is_finite() && b.is_finite()) {
                self.n_other += 1;
                continue;
            }
            let difference = (a - b).abs();
            squares += difference * difference;
            absolutes += difference;
            self.n_finite += 1;
            if self.max.is_none_or(|(max, _)| difference > max) {
                self.max = Some((difference, [x, y, channel]));
            }
        }
        self.squares += squares;
        self.absolutes += absolutes;
    }

    fn add(&mut self, other: &Self) {
        self.squares += other.squares;
        self.absolutes += other.absolutes;
        self.n_finite += other.n_finite;
        self.n_other += other.n_other;
        if let Some(of_other) = other.max
            && self.max.is_none_or(|(max, _)| of_other.0 > max)
        {
            self.max = Some(of_other);
        }
    }

    fn differences(&self, peak: f64) -> Differences {
        let finite = |value: &f64| value.is_finite();
        #[expect(clippy::cast_precision_loss, reason = "figures are f64")]
        let mean = |sum: f64| Some(sum / self.n_finite as f64).filter(finite);
        let mse = mean(self.squares);
        let psnr = mse.map(|mse| 10.0 * (peak * peak / mse).log10());
        Differences {
            mse,
            mae: mean(self.absolutes),
            max: self.max.map(|(max, _)| max).filter(finite),
            at: self.max.map(|(_, at)| at),
            psnr: psnr.filter(finite),
            ssim: None,
            n_finite: self.n_finite,
            n_other: self.n_other,
        }
    }
}
