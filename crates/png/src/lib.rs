//! A fast PNG encoder.
//!
//! ```text
//!            ┌ filter each row ┐
//! samples ─▶ │ find zeros and  │ ─▶ prefix codes ─▶ bits ─▶ IDAT chunks
//!            └ copies          ┘    for a segment of rows
//! ```
//!
//! Each row gets the filter with the smallest residuals. The filtered rows are parted into literals and runs
//! of zeros, with prefix codes of their own for every segment of rows. For photographs, the result is nearly
//! as small as with a search for copies, and many times as fast. In flat pictures, such as label maps, the
//! encoder searches for copies as well.
//!
//! | module | its one job |
//! | --- | --- |
//! | `picture` | [`Picture`] and [`ColorType`]: samples in memory |
//! | `layout`, `palette` | the layout in the file: bit depth, row bytes, indexed colours |
//! | `filter`, `noise` | rows → residuals; pictures that no filter makes smaller |
//! | `spans`, `matches`, `symbols` | residuals → literals, runs and copies, and their frequencies |
//! | `huffman`, `header`, `deflate` | symbols → prefix codes → bits |
//! | `segments`, `chunk` | rows → the file's chunks, with their checksums |
//! | `kernels` | vector instructions, each beside a scalar twin with the same result: all unsafe code |
//!
//! # Invariants
//!
//! - The crate is pure: bytes in, bytes out. Its `clippy.toml` refuses files, sockets, clocks and threads.
//! - The same picture and settings give the same file on every processor.
//! - A file is at most [`encoded_bytes_max`] bytes long, whatever the picture.
//! - The crate needs `alloc`, but not `std`. The feature `std`, which is on by default, chooses the best
//!   instructions of the processor at run time.
//!
//! # Examples
//!
//! ```
//! use safelight_png::{ColorType, Encoder, Picture, Settings};
//!
//! let samples = [0, 85, 170, 255];
//! let picture = Picture { color_type: ColorType::Gray, width: 2, height: 2, samples: &samples };
//! let mut file = Vec::new();
//! Encoder::new().encode(picture, Settings::default(), &mut file)?;
//! assert!(file.starts_with(b"\x89PNG"));
//! # Ok::<(), safelight_png::EncodeError>(())
//! ```

#![cfg_attr(not(test), no_std)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

use alloc::vec::Vec;

mod picture;
mod layout;
mod palette;
mod kernels;
mod filter;
mod noise;
mod spans;
mod matches;
mod symbols;
mod huffman;
mod header;
mod deflate;
mod chunk;
mod segments;

use self::chunk::Chunk;
use self::kernels::bits::Packing;
use self::layout::Layout;
use self::palette::Palette;
pub use self::picture::{ColorType, Picture};
use self::segments::Segments;

/// Whether time or size matters more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Time.
    #[default]
    Fast,
    /// Size.
    Small,
}

/// How to encode a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// Whether time or size matters more.
    pub compression: Compression,
    /// Whether a picture of at most 256 colours is written with indexed colours.
    pub palette: bool,
}

/// A picture that PNG cannot hold, or whose samples do not match its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A side has length 0, or the number of samples contradicts width and height.
    #[error("got {got} bytes of samples for {width} × {height} pixels of {pixel_bytes} bytes")]
    WrongLength {
        /// Bytes of samples.
        got: usize,
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
        /// Bytes of one pixel.
        pixel_bytes: usize,
    },
    /// A row, or a chunk, is longer than PNG allows.
    #[error("got {got} bytes in one piece, want at most {max}")]
    TooLong {
        /// Bytes of the row or chunk.
        got: usize,
        /// Most bytes allowed.
        max: usize,
    },
}

/// Makes PNG files and reuses its buffers from one picture to the next. Use one for each thread.
#[derive(Debug)]
pub struct Encoder {
    palette: Palette,
    segments: Segments,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// Returns an encoder with the best code for this processor.
    #[must_use]
    pub fn new() -> Self {
        Self::with_packing(Packing::best())
    }

    /// Returns an encoder that uses no vector instructions to pack bits. It makes the same files as
    /// [`Self::new`].
    #[must_use]
    pub fn scalar() -> Self {
        Self::with_packing(Packing::Scalar)
    }

    fn with_packing(packing: Packing) -> Self {
        Self { palette: Palette::default(), segments: Segments::new(packing) }
    }

    /// Appends the file of a picture to `out`.
    ///
    /// # Errors
    /// If a side has length 0, the number of samples contradicts width and height, or a row is longer than
    /// PNG allows. `out` may then end in a part of a file.
    pub fn encode(
        &mut self,
        picture: Picture<'_>,
        settings: Settings,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let mut layout = Layout::new(picture)?;
        let mut samples = picture.samples;
        let is_indexed = settings.palette && self.palette.find(picture);
        if is_indexed {
            layout = layout.indexed(&self.palette);
            samples = &self.palette.indices;
        }
        out.extend_from_slice(b"\x89PNG\r\n\x1a\n");
        let header = Chunk::begin(*b"IHDR", out);
        out.extend_from_slice(&picture.width.to_be_bytes());
        out.extend_from_slice(&picture.height.to_be_bytes());
        // Compression method 0, filter method 0, not interlaced. There are no other methods.
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
        self.segments.write(samples, &layout, settings.compression, out)?;
        Chunk::begin(*b"IEND", out).end(out)
    }
}

/// Smallest picture, in bytes, in which [`Compression::Fast`] searches for copies.
const SEARCHED_BYTES_MIN: usize = 32 << 10;

/// Returns the most memory in bytes that the search for copies takes, in addition to samples and file.
#[must_use]
pub const fn search_bytes(compression: Compression, n_sample_bytes: u64) -> u64 {
    match compression {
        Compression::Small => 8 << 20,
        Compression::Fast if n_sample_bytes < SEARCHED_BYTES_MIN as u64 => 0,
        Compression::Fast => 1 << 20,
    }
}

/// Returns the length in bytes of the largest possible file: the samples, a filter byte for each row, and
/// the overhead of PNG and of stored deflate blocks.
#[must_use]
pub const fn encoded_bytes_max(n_sample_bytes: u64, height: u64) -> u64 {
    let raw = n_sample_bytes.saturating_add(height);
    raw.saturating_add(raw / 8).saturating_add(4096)
}

/// Tests the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
mod decoders;
#[cfg(test)]
mod tests;
