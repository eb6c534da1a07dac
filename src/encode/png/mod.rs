//! Pixels → a PNG file. Pure.
//!
//! Each row is filtered by the filter that leaves the least; the filtered rows become literals and runs
//! of zeros under a prefix code of their own for every segment of rows. That is nearly as small as what a
//! search for matches makes of photographs, and many times as fast.

mod chunk;
mod deflate;
mod filter;
mod header;
mod huffman;
mod layout;
mod matches;
mod noise;
mod palette;
mod segments;
mod spans;
mod symbols;

use std::io;

use self::chunk::Chunk;
use self::layout::Layout;
use self::palette::Palette;
use self::segments::Segments;
use super::PixelsRef;
use crate::media::Compression;
use crate::simd::bits::Packing;

/// Makes PNG files, and keeps what memory that takes from one to the next.
#[derive(Debug)]
pub(super) struct PngEncoder {
    palette: Palette,
    segments: Segments,
}

impl PngEncoder {
    pub(super) fn new(packing: Packing) -> Self {
        Self { palette: Palette::default(), segments: Segments::new(packing) }
    }

    /// Appends the file to `out`; one of indexed colours where that is asked for and they are few.
    ///
    /// # Errors
    /// If the samples are not as many as the sides ask, or a row is longer than PNG can hold.
    pub(super) fn encode(
        &mut self,
        pixels: PixelsRef<'_>,
        compression: Compression,
        may_be_indexed: bool,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let mut layout = Layout::new(pixels)?;
        let mut samples = pixels.samples;
        let is_indexed = may_be_indexed && self.palette.find(pixels);
        if is_indexed {
            layout = layout.indexed(&self.palette);
            samples = &self.palette.indices;
        }
        out.extend_from_slice(b"\x89PNG\r\n\x1a\n");
        let header = Chunk::begin(*b"IHDR", out);
        out.extend_from_slice(&pixels.width.to_be_bytes());
        out.extend_from_slice(&pixels.height.to_be_bytes());
        // No other compression and filters are known; not interlaced.
        out.extend_from_slice(&[layout.bit_depth, layout.color_type, 0, 0, 0]);
        header.end(out)?;
        if is_indexed {
            let colors = Chunk::begin(*b"PLTE", out);
            out.extend(self.palette.colors.iter().flat_map(|color| &color[..3]));
            colors.end(out)?;
            if self.palette.alphas().next().is_some() {
                let alphas = Chunk::begin(*b"tRNS", out);
                out.extend(self.palette.alphas());
                alphas.end(out)?;
            }
        }
        self.segments.write(samples, &layout, compression, out)?;
        Chunk::begin(*b"IEND", out).end(out)
    }
}

#[cfg(test)]
mod decoders;
#[cfg(test)]
mod tests;
