//! Tensor → pixels. Pure.
//!
//! [`layout`] decides which axis is which, [`scan`] sees the values, [`range`] chooses the rule that
//! `kernel` makes samples by, [`mode`] and [`color`] make the picture that was asked for of the
//! samples, [`mask`] makes class ids.

pub mod color;
mod kernel;
pub mod layout;
pub mod mask;
pub mod mode;
pub mod planes;
pub mod range;
pub mod scan;
mod sample;
mod sums;
mod widened;

pub use self::sample::Sample;
use crate::media::ColorMode;

/// A picture in memory: 8-bit samples (16-bit little-endian ones in mode `I;16`; 0 or 255 in mode
/// `1`), row by row, the channels of a pixel together. No side has length 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    /// The kind of picture.
    pub mode: ColorMode,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Height × width × the mode's pixel size.
    pub bytes: Vec<u8>,
}
