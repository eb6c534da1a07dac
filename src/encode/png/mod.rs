//! Pixels → a PNG file. Pure.
//!
//! Each row is filtered by the filter that leaves the least; the filtered rows become literals and runs
//! of zeros under a prefix code of their own for every [`SEGMENT_BYTES`], whose symbols are counted in a
//! part of them. That is nearly as small as what a search for matches makes of photographs, and eighty
//! times as fast.

mod deflate;
mod filter;
mod huffman;
mod spans;

use std::io;

use self::deflate::Deflate;
use self::filter::{Filter, LANES, Rows};
use super::PixelsRef;
use crate::media::ColorMode;
use crate::simd::bits::Packing;

/// About how many bytes of filtered rows have a prefix code of their own.
const SEGMENT_BYTES: usize = 192 << 10;

/// Makes PNG files, and keeps what memory that takes from one to the next.
#[derive(Debug)]
pub(super) struct PngEncoder {
    rows: Rows,
    filtered: Vec<u8>,
    deflate: Deflate,
}

impl PngEncoder {
    pub(super) fn new(packing: Packing) -> Self {
        Self { rows: Rows::default(), filtered: Vec::new(), deflate: Deflate::new(packing) }
    }

    /// Appends the file to `out`.
    ///
    /// # Errors
    /// If the samples are not as many as the sides ask, or a row is longer than PNG can hold.
    pub(super) fn encode(&mut self, pixels: PixelsRef<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        let layout = Layout::new(pixels)?;
        let PixelsRef { samples, .. } = pixels;
        out.extend_from_slice(b"\x89PNG\r\n\x1a\n");
        layout.write_header(pixels, out);
        let row_bytes = layout.row_bytes;
        let n_rows = samples.len() / layout.sample_bytes;
        let n_segments = (n_rows * (1 + row_bytes)).div_ceil(SEGMENT_BYTES);
        let segment_rows = n_rows.div_ceil(n_segments);
        self.rows.begin(row_bytes);
        let mut adler = simd_adler32::Adler32::new();
        let mut rest = samples;
        let mut is_first = true;
        while !rest.is_empty() {
            let n = rest.len().min(segment_rows * layout.sample_bytes);
            let (segment, after) = rest.split_at(n);
            rest = after;
            self.filter_rows(segment, &layout);
            let filtered = &self.filtered[..segment.len() / layout.sample_bytes * (1 + row_bytes)];
            adler.write(filtered);
            let idat = Chunk::begin(*b"IDAT", out);
            if is_first {
                self.deflate.begin(out);
                is_first = false;
            }
            // Rows that lie together: one in so many may have something in common, in pictures that
            // were scaled up, or are interlaced.
            self.deflate.block(filtered, 4 * (1 + row_bytes), rest.is_empty(), out);
            if rest.is_empty() {
                self.deflate.end(adler.finish(), out);
            }
            idat.end(out)?;
        }
        Chunk::begin(*b"IEND", out).end(out)
    }

    /// Filters the next rows into `filtered`, each behind its filter's number.
    fn filter_rows(&mut self, samples: &[u8], layout: &Layout) {
        let (row_bytes, pixel_bytes) = (layout.row_bytes, layout.pixel_bytes);
        let n_rows = samples.len() / layout.sample_bytes;
        // Filters write whole groups of lanes.
        self.filtered.resize(n_rows * (1 + row_bytes) + LANES, 0);
        let mut start = 0;
        for samples in samples.chunks_exact(layout.sample_bytes) {
            layout.fill_row(samples, self.rows.next(row_bytes));
            let filter = if layout.is_filtered {
                let residuals = self.rows.residuals(pixel_bytes);
                let filters = [Filter::Paeth, Filter::Sub, Filter::Up, Filter::Average];
                let residual = |filter: Filter| residuals[filter as usize - 1];
                filters.into_iter().min_by_key(|&filter| residual(filter)).unwrap_or(Filter::Paeth)
            } else {
                Filter::None
            };
            self.filtered[start] = filter as u8;
            start += 1;
            let end = start + row_bytes.next_multiple_of(LANES);
            self.rows.filter(filter, pixel_bytes, &mut self.filtered[start..end]);
            start += row_bytes;
        }
    }
}

/// The longest row that is written: a chunk of the file holds less than 2 GiB.
const ROW_BYTES_MAX: usize = 1 << 30;

/// How a picture lies in the file.
struct Layout {
    color_type: u8,
    bit_depth: u8,
    /// Bytes of a row as it is given.
    sample_bytes: usize,
    /// Bytes of a row in the file, without its filter's number.
    row_bytes: usize,
    /// What a filter takes as a pixel to the left.
    pixel_bytes: usize,
    is_filtered: bool,
    mode: ColorMode,
}

impl Layout {
    fn new(pixels: PixelsRef<'_>) -> io::Result<Self> {
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
        if samples.is_empty() || Some(samples.len()) != sample_bytes.checked_mul(height) {
            return Err(refused());
        }
        if sample_bytes > ROW_BYTES_MAX {
            return Err(refused());
        }
        let row_bytes = if mode == ColorMode::Bit { width.div_ceil(8) } else { sample_bytes };
        let is_filtered = mode != ColorMode::Bit;
        Ok(Self { color_type, bit_depth, sample_bytes, row_bytes, pixel_bytes, is_filtered, mode })
    }

    fn write_header(&self, pixels: PixelsRef<'_>, out: &mut Vec<u8>) {
        let header = Chunk::begin(*b"IHDR", out);
        out.extend_from_slice(&pixels.width.to_be_bytes());
        out.extend_from_slice(&pixels.height.to_be_bytes());
        // No other compression and filters are known; not interlaced.
        out.extend_from_slice(&[self.bit_depth, self.color_type, 0, 0, 0]);
        header.end(out).unwrap_or_default();
    }

    /// Samples → a row as it is in the file before it is filtered.
    fn fill_row(&self, samples: &[u8], row: &mut [u8]) {
        match self.mode {
            ColorMode::Bit => {
                for (byte, pixels) in row.iter_mut().zip(samples.chunks(8)) {
                    let bits = pixels.iter().enumerate();
                    *byte = bits.fold(0, |byte, (i, &pixel)| byte | u8::from(pixel > 0) << (7 - i));
                }
            }
            // PNG's samples are big-endian.
            ColorMode::I16 => {
                let samples = samples.as_chunks::<2>().0;
                for (place, &[low, high]) in row.as_chunks_mut::<2>().0.iter_mut().zip(samples) {
                    *place = [high, low];
                }
            }
            _ => row.copy_from_slice(samples),
        }
    }
}

/// A part of a PNG file that is being written.
struct Chunk {
    start: usize,
}

impl Chunk {
    fn begin(name: [u8; 4], out: &mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&name);
        Self { start }
    }

    /// Fills in the length, and appends the checksum.
    fn end(self, out: &mut Vec<u8>) -> io::Result<()> {
        let n = out.len() - self.start - 8;
        let n = i32::try_from(n).map_err(|_| io::ErrorKind::InvalidInput)?;
        out[self.start..self.start + 4].copy_from_slice(&n.to_be_bytes());
        let crc = crc32fast::hash(&out[self.start + 4..]);
        out.extend_from_slice(&crc.to_be_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
