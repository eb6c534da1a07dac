//! How a picture lies in a PNG file.

use std::io;

use super::palette::Palette;
use crate::encode::PixelsRef;
use crate::media::ColorMode;

/// The longest row that is written: a chunk of the file holds less than 2 GiB.
const ROW_BYTES_MAX: usize = 1 << 29;

/// How a picture lies in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) color_type: u8,
    pub(super) bit_depth: u8,
    /// Bytes of a row as it is given.
    pub(super) sample_bytes: usize,
    /// Bytes of a row in the file, without its filter's number.
    pub(super) row_bytes: usize,
    /// What a filter takes as a pixel to the left.
    pub(super) pixel_bytes: usize,
    is_black_or_white: bool,
}

impl Layout {
    /// The layout of a picture.
    ///
    /// # Errors
    /// If the samples are not as many as the sides ask, or a row is too long.
    pub(super) fn new(pixels: PixelsRef<'_>) -> io::Result<Self> {
        let PixelsRef { mode, width, height, samples } = pixels;
        let (color_type, bit_depth) = match mode {
            ColorMode::Bit => (0, 1),
            ColorMode::L => (0, 8),
            ColorMode::I16 => (0, 16),
            ColorMode::Rgb => (2, 8),
            ColorMode::La => (4, 8),
            ColorMode::Rgba => (6, 8),
        };
        let refused = || io::Error::from(io::ErrorKind::InvalidInput);
        let pixel_bytes = mode.pixel_size();
        let width = usize::try_from(width).map_err(|_| refused())?;
        let sample_bytes = width.checked_mul(pixel_bytes).ok_or_else(refused)?;
        let height = usize::try_from(height).map_err(|_| refused())?;
        if samples.is_empty()
            || Some(samples.len()) != sample_bytes.checked_mul(height)
            || sample_bytes > ROW_BYTES_MAX
        {
            return Err(refused());
        }
        let is_black_or_white = mode == ColorMode::Bit;
        let row_bytes = if is_black_or_white { width.div_ceil(8) } else { sample_bytes };
        Ok(Self { color_type, bit_depth, sample_bytes, row_bytes, pixel_bytes, is_black_or_white })
    }

    /// The layout of the same picture as places in a palette, a byte for each pixel.
    pub(super) fn indexed(self, palette: &Palette) -> Self {
        let sample_bytes = self.sample_bytes / self.pixel_bytes;
        let bit_depth = palette.bit_depth();
        let row_bytes = sample_bytes.div_ceil(8 / usize::from(bit_depth));
        Self { color_type: 3, bit_depth, sample_bytes, row_bytes, pixel_bytes: 1, ..self }
    }

    /// Samples → a row as it is in the file before it is filtered.
    pub(super) fn fill_row(&self, samples: &[u8], row: &mut [u8]) {
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
                // Several to a byte, the first one highest.
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
