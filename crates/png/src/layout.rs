//! The layout of a picture in a PNG file.

use crate::EncodeError;
use crate::palette::Palette;
use crate::picture::{ColorType, Picture};

/// Longest row, in bytes: a chunk of the file holds less than 2 GiB.
const ROW_BYTES_MAX: usize = 1 << 29;

/// The layout of a picture in the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) color_type: u8,
    pub(crate) bit_depth: u8,
    /// Bytes of a row in memory.
    pub(crate) sample_bytes: usize,
    /// Bytes of a row in the file, without its filter byte.
    pub(crate) row_bytes: usize,
    /// Distance to the pixel on the left for filters, in bytes.
    pub(crate) pixel_bytes: usize,
    is_black_or_white: bool,
}

impl Layout {
    /// Returns the layout of a picture.
    ///
    /// # Errors
    /// If the number of samples contradicts width and height, or a row is too long.
    pub(crate) fn new(picture: Picture<'_>) -> Result<Self, EncodeError> {
        let Picture { color_type, width, height, samples } = picture;
        let is_black_or_white = color_type == ColorType::Bit;
        let pixel_bytes = color_type.pixel_bytes();
        let wrong = EncodeError::WrongLength { got: samples.len(), width, height, pixel_bytes };
        let (Ok(width), Ok(height)) = (usize::try_from(width), usize::try_from(height)) else {
            return Err(wrong);
        };
        let sample_bytes = width.checked_mul(pixel_bytes).ok_or(wrong)?;
        if samples.is_empty() || Some(samples.len()) != sample_bytes.checked_mul(height) {
            return Err(wrong);
        }
        if sample_bytes > ROW_BYTES_MAX {
            return Err(EncodeError::TooLong { got: sample_bytes, max: ROW_BYTES_MAX });
        }
        // The numbers of the PNG specification, table 11.1.
        let (color_type, bit_depth) = match color_type {
            ColorType::Bit => (0, 1),
            ColorType::Gray => (0, 8),
            ColorType::Gray16 => (0, 16),
            ColorType::Rgb => (2, 8),
            ColorType::GrayAlpha => (4, 8),
            ColorType::Rgba => (6, 8),
        };
        let row_bytes = if is_black_or_white { width.div_ceil(8) } else { sample_bytes };
        Ok(Self { color_type, bit_depth, sample_bytes, row_bytes, pixel_bytes, is_black_or_white })
    }

    /// Returns the layout of the picture with indexed colours, one byte a pixel in memory.
    pub(crate) fn indexed(self, palette: &Palette) -> Self {
        let sample_bytes = self.sample_bytes / self.pixel_bytes;
        let bit_depth = palette.bit_depth();
        let row_bytes = sample_bytes.div_ceil(8 / usize::from(bit_depth));
        Self { color_type: 3, bit_depth, sample_bytes, row_bytes, pixel_bytes: 1, ..self }
    }

    /// Converts samples to a row of the file, not filtered.
    pub(crate) fn fill_row(&self, samples: &[u8], row: &mut [u8]) {
        match self.bit_depth {
            // PNG's samples are big-endian.
            16 => {
                let samples = samples.as_chunks::<2>().0;
                for (place, &[low, high]) in row.as_chunks_mut::<2>().0.iter_mut().zip(samples) {
                    *place = [high, low];
                }
            }
            8 => row.copy_from_slice(samples),
            n_bits => {
                // Several pixels in a byte, the first one highest.
                let per_byte = usize::from(8 / n_bits);
                for (byte, pixels) in row.iter_mut().zip(samples.chunks(per_byte)) {
                    let mut shift = 8;
                    *byte = pixels.iter().fold(0, |byte, &pixel| {
                        shift -= n_bits;
                        let bits = if self.is_black_or_white { u8::from(pixel > 0) } else { pixel };
                        byte | bits << shift
                    });
                }
            }
        }
    }
}
