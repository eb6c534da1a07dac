//! A difference for each pixel of two pictures.

use super::ssim::Ssim;
use super::{Mismatch, RowPair, same_size};
use crate::values::Values;

/// What a map of differences shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapKind {
    /// |a − b|.
    Absolute,
    /// b − a.
    Signed,
    /// |a − b| ÷ (|a| + peak ÷ 100), as tev's relative absolute error with its ε of 0.01 for a peak of 1.
    Relative,
    /// (a − b)².
    Squared,
    /// Structural similarity of the window around the pixel, with mirrored edges.
    Ssim,
}

impl MapKind {
    /// All kinds.
    pub const ALL: [Self; 5] =
        [Self::Absolute, Self::Signed, Self::Relative, Self::Squared, Self::Ssim];

    /// Returns the name: `absolute`, `signed`, `relative`, `squared` or `ssim`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Absolute => "absolute",
            Self::Signed => "signed",
            Self::Relative => "relative",
            Self::Squared => "squared",
            Self::Ssim => "ssim",
        }
    }
}

/// A difference for each pixel.
#[derive(Debug, Clone, PartialEq)]
pub struct DifferenceMap {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Row by row, the mean over the channels. NaN where a channel is not finite in both pictures; of
    /// [`MapKind::Ssim`], where the window holds such a value. A map is there to be drawn, and f32 is half the memory:
    /// a mean beyond its range is its greatest or least value.
    pub values: Vec<f32>,
}

/// Computes a map. `None` if the pictures are too small for the windows of [`MapKind::Ssim`], or `peak` is not
/// positive.
///
/// # Errors
/// If the pictures have another size or number of channels.
pub fn difference_map(
    a: &Values,
    b: &Values,
    kind: MapKind,
    peak: f64,
) -> Result<Option<DifferenceMap>, Mismatch> {
    let [height, width, n_channels] = same_size(a, b)?;
    let mut values = vec![0.0; height * width];
    #[expect(clippy::cast_precision_loss, reason = "a handful of channels")]
    let share = 1.0 / n_channels as f64;
    let mut rows = RowPair::default();
    for channel in 0..n_channels {
        if kind == MapKind::Ssim {
            let Some(ssim) = Ssim::new(a, b, channel, peak, true) else { return Ok(None) };
            ssim.each_row(0..height, |y, similarity, has_other| {
                let to = values[y * width..].iter_mut().zip(similarity).zip(has_other);
                for ((to, similarity), has_other) in to {
                    *to += if *has_other { f32::NAN } else { narrow(similarity * share) };
                }
            });
            continue;
        }
        for y in 0..height {
            rows.read(a, b, y, channel);
            for (to, (a, b)) in values[y * width..].iter_mut().zip(rows.pairs()) {
                let is_finite = a.is_finite() && b.is_finite();
                let difference = match kind {
                    _ if !is_finite => f64::NAN,
                    MapKind::Absolute | MapKind::Ssim => (a - b).abs(),
                    MapKind::Signed => b - a,
                    MapKind::Relative if a == b => 0.0,
                    MapKind::Relative => (a - b).abs() / (a.abs() + peak / 100.0),
                    MapKind::Squared => (a - b) * (a - b),
                };
                *to = (*to + narrow(difference * share)).clamp(f32::MIN, f32::MAX);
            }
        }
    }
    Ok(Some(DifferenceMap { width, height, values }))
}

/// The nearest finite value of f32. NaN stays NaN.
#[expect(clippy::cast_possible_truncation, reason = "it is within the range")]
fn narrow(value: f64) -> f32 {
    value.clamp(f32::MIN.into(), f32::MAX.into()) as f32
}

impl DifferenceMap {
    /// The least and the greatest finite value. `None` if no value is finite.
    #[must_use]
    pub fn extent(&self) -> Option<(f64, f64)> {
        let finite = self.values.iter().map(|&value| f64::from(value));
        let finite = finite.filter(|value| value.is_finite());
        finite.fold(None, |ends, value| {
            let (min, max) = ends.unwrap_or((value, value));
            Some((f64::min(min, value), f64::max(max, value)))
        })
    }
}
