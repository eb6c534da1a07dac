//! Tensor → pixels. Pure.
//!
//! [`layout`] decides which axis is which, [`range`] makes bytes of values, [`mode`] makes the
//! picture that was asked for of the bytes.

pub mod layout;
pub mod mode;
pub mod range;
mod sample;

use crate::media::ColorMode;

/// A picture in memory: 8-bit samples (16-bit little-endian ones in mode `I;16`), row by row, the
/// channels of a pixel together. No side has length 0.
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
