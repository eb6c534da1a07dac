//! A plan and a dump → an encoded image. Pure: bytes come through [`ReadAt`].
//!
//! A dump in C order is read in chunks, twice: once to see its values, once to convert them. What
//! is in memory at once is one picture, not its dump.

use std::io;

use crate::convert::range::{Conversion, Decision, Elements, Scan};
use crate::convert::{Pixels, mode};
use crate::decode::ReadAt;
use crate::encode::{self, EncodeError, EncodedImage};
use crate::media::Making;
use crate::plan::{CHUNK_BYTES, ImagePlan, TensorPlan};
use crate::tensor::MemoryOrder;

/// An image and how it was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    /// The media file.
    pub image: EncodedImage,
    /// The rule and the statistics.
    pub making: Making,
}

/// Why an image that was planned could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The dump could not be read.
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
    /// The picture could not be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Makes one image of a tensor.
///
/// # Errors
/// If the dump can't be read any more, or the encoder refuses.
pub fn render(
    dump: &impl ReadAt,
    tensor: &TensorPlan,
    image: &ImagePlan,
) -> Result<Rendered, RenderError> {
    let (pixels, making) = pixels_from_tensor(dump, tensor, image)?;
    Ok(Rendered { image: encode::encode(pixels)?, making })
}

/// Makes the pixels of one image of a tensor.
///
/// # Errors
/// If the dump can't be read any more.
pub fn pixels_from_tensor(
    dump: &impl ReadAt,
    tensor: &TensorPlan,
    image: &ImagePlan,
) -> io::Result<(Pixels, Making)> {
    let mut source = Source::open(dump, tensor, image.image_idx)?;
    let mut scan = Scan::new(source.elements);
    source.each_chunk(|_, chunk| scan.see(chunk))?;
    let conversion = match scan.decide(tensor.profile, tensor.range) {
        Decision::Convert(conversion) => conversion,
        Decision::Measure(mut measure) => {
            source.each_chunk(|_, chunk| measure.see(chunk))?;
            measure.decide()
        }
    };
    let samples = samples(&mut source, tensor, &conversion)?;

    let natural = tensor.natural_mode();
    let reading = &tensor.reading;
    // The plan let no side through that doesn't fit: `limits.pixels_max` is far below.
    let side = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let (width, height) = (side(reading.width), side(reading.height));
    let mut pixels = Pixels {
        mode: tensor.mode,
        width,
        height,
        bytes: mode::convert(samples, natural, tensor.mode),
    };
    if let Some((width, height)) = image.downscale {
        pixels = encode::downscale(pixels, width, height);
    }
    let making = Making {
        profile: tensor.profile,
        rule: conversion.rule(),
        range: tensor.range,
        format: reading.format,
        format_guessed: reading.guessed,
        stats: scan.stats(),
    };
    Ok((pixels, making))
}

/// One byte for each element, the channels of a pixel together.
fn samples(
    source: &mut Source<'_, impl ReadAt>,
    tensor: &TensorPlan,
    conversion: &Conversion,
) -> io::Result<Vec<u8>> {
    let reading = &tensor.reading;
    let n_channels = tensor.natural_mode().n_channels();
    let mut samples = vec![0; usize_of(reading.n_elements())?];
    let n_pixels = samples.len() / n_channels;
    let elements = source.elements;
    let size = elements.dtype.size();
    let mut converted = Vec::new();
    let planar = reading.channels_first() && n_channels > 1;
    source.each_chunk(|first, chunk| {
        conversion.prepare(chunk, elements.byte_order);
        let n = chunk.len() / size;
        if !planar {
            conversion.convert(chunk, &mut samples[first..first + n]);
            return;
        }
        converted.resize(n, 0);
        conversion.convert(chunk, &mut converted);
        // A chunk may end one channel's plane and begin the next.
        let mut at = first;
        let mut rest = converted.as_slice();
        while !rest.is_empty() {
            let (channel, pixel) = (at / n_pixels, at % n_pixels);
            let (run, after) = rest.split_at(rest.len().min(n_pixels - pixel));
            let to = samples[pixel * n_channels + channel..].iter_mut().step_by(n_channels);
            to.zip(run).for_each(|(to, &byte)| *to = byte);
            at += run.len();
            rest = after;
        }
    })?;
    Ok(samples)
}

fn usize_of(n: u64) -> io::Result<usize> {
    usize::try_from(n).map_err(|_| io::ErrorKind::OutOfMemory.into())
}

/// The elements of one image, in C order.
struct Source<'a, R> {
    dump: &'a R,
    elements: Elements,
    /// Where they lie in the dump, if they lie in order there.
    offset: u64,
    n_bytes: usize,
    /// The elements themselves, if they had to be put in order.
    ordered: Option<Vec<u8>>,
    chunk: Vec<u8>,
}

impl<'a, R: ReadAt> Source<'a, R> {
    fn open(dump: &'a R, tensor: &TensorPlan, image_idx: u64) -> io::Result<Self> {
        let header = &tensor.header;
        let elements = Elements { dtype: header.dtype, byte_order: header.byte_order };
        let n_elements = tensor.reading.n_elements();
        let n_bytes = n_elements * elements.dtype.size() as u64;
        let mut source = Self {
            dump,
            elements,
            offset: header.data_offset + image_idx * n_bytes,
            n_bytes: usize_of(n_bytes)?,
            ordered: None,
            chunk: Vec::new(),
        };
        if header.memory_order == MemoryOrder::Fortran {
            source.offset = header.data_offset;
            let first = image_idx * n_elements;
            source.ordered = Some(source.put_in_order(header.shape.axes(), first)?);
        }
        Ok(source)
    }

    /// Reads all of a Fortran-order tensor and picks the elements whose place in C order is `first`
    /// or one of those after it that belong to the image.
    fn put_in_order(&mut self, axes: &[u64], first: u64) -> io::Result<Vec<u8>> {
        let size = self.elements.dtype.size();
        let mut c_strides = vec![1; axes.len()];
        for i in (1..axes.len()).rev() {
            c_strides[i - 1] = c_strides[i] * axes[i];
        }
        let mut ordered = vec![0; self.n_bytes];
        let n_all = usize_of(axes.iter().product::<u64>())? * size;
        let (mut place, mut c_index) = (vec![0u64; axes.len()], 0u64);
        read_chunks(self.dump, self.offset, n_all, size, &mut self.chunk, |_, chunk| {
            for element in chunk.chunks_exact(size) {
                let to = c_index
                    .checked_sub(first)
                    .and_then(|n| usize::try_from(n).ok())
                    .map(|n| n * size);
                if let Some(to) = to.and_then(|to| ordered.get_mut(to..to + size)) {
                    to.copy_from_slice(element);
                }
                // The next place in Fortran order: the first axis runs fastest.
                for ((at, &length), &stride) in place.iter_mut().zip(axes).zip(&c_strides) {
                    *at += 1;
                    c_index += stride;
                    if *at < length {
                        break;
                    }
                    c_index -= stride * length;
                    *at = 0;
                }
            }
        })?;
        Ok(ordered)
    }

    /// Hands out the elements in chunks of whole ones, each with its first element's number, in
    /// their form in the dump.
    fn each_chunk(&mut self, mut see: impl FnMut(usize, &mut [u8])) -> io::Result<()> {
        let size = self.elements.dtype.size();
        if let Some(ordered) = &self.ordered {
            for (i, part) in ordered.chunks(CHUNK_BYTES).enumerate() {
                self.chunk.clear();
                self.chunk.extend(part);
                see(i * (CHUNK_BYTES / size), &mut self.chunk);
            }
            return Ok(());
        }
        read_chunks(self.dump, self.offset, self.n_bytes, size, &mut self.chunk, see)
    }
}

/// Reads `n_bytes` from `offset` on, in chunks of whole elements of `size` bytes.
fn read_chunks(
    dump: &impl ReadAt,
    offset: u64,
    n_bytes: usize,
    size: usize,
    chunk: &mut Vec<u8>,
    mut see: impl FnMut(usize, &mut [u8]),
) -> io::Result<()> {
    // Every element's size divides this.
    const { assert!(CHUNK_BYTES.is_multiple_of(16)) }
    let mut at = 0;
    while at < n_bytes {
        chunk.resize(CHUNK_BYTES.min(n_bytes - at), 0);
        dump.read_exact_at(chunk, offset + at as u64)?;
        see(at / size, chunk);
        at += chunk.len();
    }
    Ok(())
}
