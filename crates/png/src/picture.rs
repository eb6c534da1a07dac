//! Samples in memory.

/// The colour type and bit depth of a picture, and how its samples lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColorType {
    /// Black and white, one byte a pixel: 0 is black, any other value is white. The file has 1 bit.
    Bit,
    /// Gray, 8 bits.
    Gray,
    /// Gray, 16 bits, little-endian.
    Gray16,
    /// Gray and alpha, 8 bits each.
    GrayAlpha,
    /// Red, green, blue, 8 bits each.
    Rgb,
    /// Red, green, blue, alpha, 8 bits each. Alpha is not premultiplied.
    Rgba,
}

impl ColorType {
    /// Returns the bytes of one pixel in memory: 1 to 4.
    #[must_use]
    pub const fn pixel_bytes(self) -> usize {
        match self {
            Self::Bit | Self::Gray => 1,
            Self::Gray16 | Self::GrayAlpha => 2,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }
}

/// A picture that lies in the caller's memory.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    /// What a pixel is.
    pub color_type: ColorType,
    /// Columns, at least 1.
    pub width: u32,
    /// Rows, at least 1.
    pub height: u32,
    /// Rows from the top, pixels from the left, no padding: height × width ×
    /// [`ColorType::pixel_bytes`] bytes.
    pub samples: &'a [u8],
}
