//! How two pictures differ, and how often values occur. Computed in f64.
//!
//! *A* is the reference. Values that are not finite in both pictures are left out and counted. The peak is the greatest
//! difference that is possible; a caller knows it from the rule of *A*.
//!
//! | module | its one job |
//! | --- | --- |
//! | `error` | mean squared and mean absolute error, the greatest difference, PSNR |
//! | `ssim` | structural similarity |
//! | `map` | a difference for each pixel |
//! | `histogram` | how often values occur |

mod error;
mod histogram;
mod map;
mod ssim;
#[cfg(test)]
mod tests;

pub use self::error::{Comparison, Differences, compare};
pub use self::histogram::{ChannelCounts, Extremes, Histogram};
pub use self::map::{DifferenceMap, MapKind, difference_map};
use crate::values::Values;

/// Two pictures that cannot be compared: they have another size or number of channels. Nothing is resampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the reference has {} × {} pixels of {} channels, the other picture {} × {} of {}",
    a[1], a[0], a[2], b[1], b[0], b[2]
)]
pub struct Mismatch {
    /// Height, width and channels of the reference.
    pub a: [usize; 3],
    /// Height, width and channels of the other picture.
    pub b: [usize; 3],
}

/// Checks that two pictures have the same size.
fn same_size(a: &Values, b: &Values) -> Result<[usize; 3], Mismatch> {
    let (a, b) = (a.size(), b.size());
    if a == b { Ok(a) } else { Err(Mismatch { a, b }) }
}

/// A row of one channel of both pictures.
#[derive(Debug, Default)]
struct RowPair {
    a: Vec<f64>,
    b: Vec<f64>,
}

impl RowPair {
    fn read(&mut self, a: &Values, b: &Values, y: usize, channel: usize) {
        a.row(y, channel, &mut self.a);
        b.row(y, channel, &mut self.b);
    }

    fn pairs(&self) -> impl Iterator<Item = (f64, f64)> {
        self.a.iter().copied().zip(self.b.iter().copied())
    }
}
