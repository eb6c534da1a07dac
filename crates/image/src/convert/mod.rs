//! Tensor → pixels.
//!
//! ```text
//!  shape ────▶ layout ─▶ Reading: which axis is which
//!  elements ─▶ Scan ─▶ Scan::decide ─▶ Conversion ─▶ samples ─▶ colour, mode ─▶ Pixels
//! ```
//!
//! The steps can be called one by one, chunk by chunk, for tensors that do not fit in memory:
//!
//! ```
//! use safelight_image::convert::{Decision, Elements, Scan, Wish};
//! use safelight_image::tensor::{ByteOrder, DType};
//!
//! let elements = Elements { dtype: DType::U16, byte_order: ByteOrder::Big };
//! let (mut first, mut second) = ([0, 7, 0, 200], [1, 44]);
//! let mut scan = Scan::new(elements);
//! scan.see(&mut first);
//! scan.see(&mut second);
//! let Decision::Convert(conversion) = scan.decide(Wish::default()) else {
//!     unreachable!("only profile wandb-0.10 needs another pass")
//! };
//! let mut samples = [0u8; 3];
//! conversion.convert(&first, &mut samples[..2]);
//! conversion.convert(&second, &mut samples[2..]);
//! // Whole numbers are clipped, never scaled.
//! assert_eq!(samples, [7, 200, 255]);
//! ```

pub(crate) mod layout;
mod element;
mod complex;
mod float8;
mod sample;
mod widened;
mod sums;
mod scan;
mod stretch;
mod map;
mod conversion;
mod measure;
mod rule;
mod planes;
mod numbers;
pub(crate) mod mode;
pub(crate) mod color;
pub(crate) mod mask;
#[cfg(test)]
mod tests;

pub use self::conversion::Conversion;
pub use self::layout::{LayoutError, Reading};
pub use self::mask::ClassIdError;
pub use self::measure::Measure;
pub use self::mode::ModeError;
pub use self::numbers::shown_as;
pub(crate) use self::numbers::{numbers, numbers_apart, show};
pub use self::planes::{interleave, transpose};
pub use self::rule::{Decision, Depth, Wish};
pub use self::sample::Sample;
pub(crate) use self::scan::normalized;
pub use self::scan::{Elements, Extent, Scan};
use crate::media::ColorMode;

/// A picture in memory. No side has length 0.
///
/// Rows run from the top, pixels from the left, and the channels of a pixel lie together. Samples have 8
/// bits. In mode `I;16` they have 16, little-endian; in mode `1` they are 0 or 255.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    /// The kind of picture.
    pub mode: ColorMode,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `height` × `width` × [`ColorMode::pixel_size`] bytes.
    pub bytes: Vec<u8>,
}
