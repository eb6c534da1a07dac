//! A plan and a storage → the files of an image. Pure: bytes come through [`ReadAt`].
//!
//! A storage is read in chunks, each of which is seen and converted while it is in the processor's
//! cache. What is in memory at once is one picture, not its dump.

mod mask;
mod source;

use std::io;

pub use self::mask::{MaskError, RenderedMask, render_mask};
use self::source::{Axis, Buffers, Source, Target, View};
use crate::convert::{
    Conversion, Decision, Depth, Elements, Pixels, Sample, Scan, color, interleave, mode,
};
use crate::decode::ReadAt;
use crate::encode::{self, EncodeError, EncodedImage, Encoder};
use crate::media::{ColorMode, Provenance, Sha256, Stats};
use crate::plan::{ImagePlan, TensorPlan};
use crate::tensor::TensorHeader;

/// An image and how it was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    /// The media file.
    pub image: EncodedImage,
    /// The rule and the statistics.
    pub making: Provenance,
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

/// How many bytes of a chunk are seen and converted before the next: they stay in the processor's
/// nearest cache meanwhile.
const BLOCK_BYTES: usize = 16 << 10;

/// Buffers up to this size, in bytes, are kept for the next image; larger ones count against the budget of
/// the image that needs them, and go with it.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// Makes images, one after the other, in the same buffers.
#[derive(Debug, Default)]
pub struct Renderer {
    buffers: Buffers,
    samples: Samples<u8>,
    encoder: Encoder,
    file: Vec<u8>,
}

/// The samples of a picture, and room for as many in another order.
#[derive(Debug, Default)]
struct Samples<S> {
    pixels: Vec<S>,
    planes: Vec<S>,
}

impl Renderer {
    /// Makes one image of a tensor, whose [storage](crate::decode::storage) is given.
    ///
    /// # Errors
    /// If the storage can't be read, or the encoder refuses.
    pub fn render(
        &mut self,
        storage: &impl ReadAt,
        tensor: &TensorPlan,
        image: &ImagePlan,
    ) -> Result<Rendered, RenderError> {
        let (pixels, making) = self.pixels(storage, tensor, image.image_idx, image.downscale)?;
        let mut bytes = std::mem::take(&mut self.file);
        bytes.clear();
        self.encoder.encode((&pixels).into(), tensor.encoding, &mut bytes)?;
        let Pixels { mode, width, height, bytes: samples } = pixels;
        let is_large = samples.len().max(self.samples.planes.len()) > KEPT_BYTES_MAX;
        self.samples.pixels = samples;
        if is_large {
            *self = Self::default();
        }
        let (file_type, sha256) = (tensor.encoding.file_type, Sha256::of(&bytes));
        Ok(Rendered {
            image: EncodedImage { file_type, mode, width, height, bytes, sha256 },
            making,
        })
    }

    /// Takes back the memory of a file that was written.
    pub fn take_back(&mut self, file: Vec<u8>) {
        if file.capacity() <= KEPT_BYTES_MAX {
            self.file = file;
        }
    }

    /// Makes the pixels of one image.
    fn pixels(
        &mut self,
        storage: &impl ReadAt,
        tensor: &TensorPlan,
        image_idx: u64,
        downscale: Option<(u32, u32)>,
    ) -> io::Result<(Pixels, Provenance)> {
        let elements =
            Elements { dtype: tensor.header.dtype, byte_order: tensor.header.byte_order };
        let mut maker = Maker {
            source: Source::new(storage, elements, &mut self.buffers),
            views: views(tensor, image_idx),
            tensor,
            elements,
        };
        let (bytes, conversion, stats) = match tensor.wish.depth {
            Depth::Eight => {
                let (conversion, stats) = maker.samples(&mut self.samples)?;
                let samples = std::mem::take(&mut self.samples.pixels);
                (maker.pixels(samples, &conversion, &stats)?, conversion, stats)
            }
            Depth::Sixteen => {
                let mut samples = Samples::<u16>::default();
                let (conversion, stats) = maker.samples(&mut samples)?;
                let n_channels = tensor.natural_mode().n_channels();
                (mode::gray_16(&samples.pixels, n_channels), conversion, stats)
            }
        };
        // The plan let no side through that doesn't fit: `limits.pixels_max` is far below.
        let side = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let (width, height) = (side(tensor.width), side(tensor.height));
        // Only PNG has black and white: elsewhere it is gray that happens to have two values.
        let is_gray =
            tensor.mode == ColorMode::Bit && !tensor.encoding.file_type.holds(ColorMode::Bit);
        let mode = if is_gray { ColorMode::L } else { tensor.mode };
        let mut pixels = Pixels { mode, width, height, bytes };
        if let Some((width, height)) = downscale {
            pixels = encode::downscale(pixels, width, height);
        }
        let making = Provenance {
            profile: tensor.wish.profile,
            rule: conversion.rule(),
            range: tensor.wish.range,
            colormap: tensor.colormap,
            format: tensor.reading.format,
            format_guessed: tensor.reading.guessed,
            stats,
        };
        Ok((pixels, making))
    }
}

/// Makes the pixels of one image of a tensor, whose storage is given.
///
/// # Errors
/// If the storage can't be read.
pub fn pixels_from_tensor(
    storage: &impl ReadAt,
    tensor: &TensorPlan,
    image: &ImagePlan,
) -> io::Result<(Pixels, Provenance)> {
    Renderer::default().pixels(storage, tensor, image.image_idx, image.downscale)
}

/// Makes the pixels of the image `image_idx` of a tensor, from 0 to [`TensorPlan::n_images`] − 1, at
/// full size.
///
/// `storage` holds the tensor's elements: see [`crate::decode::storage`].
///
/// # Errors
/// If reading from `storage` fails.
pub fn full_size_pixels(
    storage: &impl ReadAt,
    tensor: &TensorPlan,
    image_idx: u64,
) -> io::Result<(Pixels, Provenance)> {
    Renderer::default().pixels(storage, tensor, image_idx, None)
}

/// Whether the samples are made channel after channel, as the elements lie, and interleaved then: that is
/// faster than putting each in its place.
fn is_planar(tensor: &TensorPlan) -> bool {
    let stride = |axis: Option<usize>| axis.map_or(0, |axis| tensor.header.strides[axis]);
    let [_, rows, columns, channels] = tensor.reading.axes.map(stride);
    tensor.sheet.is_none() && tensor.reading.n_channels > 1 && channels > rows.max(columns)
}

/// The views of a tensor that make one image: one, or one for each picture of a contact sheet.
fn views(tensor: &TensorPlan, image_idx: u64) -> Vec<View> {
    let reading = &tensor.reading;
    let n_channels = reading.n_channels;
    let row = tensor.width * n_channels;
    let steps = if is_planar(tensor) {
        [tensor.width, 1, tensor.width * tensor.height]
    } else {
        [row, n_channels, 1]
    };
    let view = |picture: u64, to: u64| view(&tensor.header, reading.axes, picture, to, steps);
    let Some(sheet) = tensor.sheet else { return vec![view(image_idx, 0)] };
    let cell = |picture: u64| {
        let (row_idx, column_idx) = (picture / sheet.n_columns, picture % sheet.n_columns);
        let top = sheet.padding + row_idx * (reading.height + sheet.padding);
        let left = sheet.padding + column_idx * (reading.width + sheet.padding);
        view(picture, top * row + left * n_channels)
    };
    (0..reading.n_images).map(cell).collect()
}

/// The view of one picture: rows, columns and channels, which go `steps` apart.
fn view(
    header: &TensorHeader,
    axes: [Option<usize>; 4],
    picture: u64,
    to: u64,
    steps: [u64; 3],
) -> View {
    let stride = |axis: Option<usize>| axis.map_or(0, |axis| header.strides[axis]);
    let length = |axis: Option<usize>| axis.map_or(1, |axis| header.shape.axes()[axis]);
    let [pictures, rest @ ..] = axes;
    let size = header.dtype.size() as u64;
    let axes = rest.into_iter().zip(steps);
    View {
        first: header.first + picture * stride(pictures) * size,
        to,
        axes: axes
            .map(|(axis, to)| Axis { length: length(axis), from: stride(axis), to })
            .collect(),
    }
}

/// The rule that the values of the first chunk lead to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Guess {
    /// Nothing was seen yet.
    None,
    Rule(Conversion),
    /// Later values lead to another, or a rule needs to see all values first.
    Wrong,
}

impl Guess {
    fn of(decision: &Decision) -> Self {
        match decision {
            Decision::Convert(conversion) => Self::Rule(*conversion),
            Decision::Measure(_) => Self::Wrong,
        }
    }
}

/// Where converted samples go.
struct Converted<'a, S> {
    samples: &'a mut [S],
    /// A chunk's samples that do not lie side by side in the picture.
    apart: Vec<S>,
}

impl<S: Sample> Converted<'_, S> {
    /// Converts a chunk that `scan` has seen. Returns how many values were clipped.
    fn add(&mut self, rule: &Conversion, scan: &Scan, target: Target, chunk: &[u8]) -> u64 {
        let Target { first, step } = target;
        let n = chunk.len() / rule.dtype().size();
        if step == 1 {
            rule.convert(chunk, &mut self.samples[first..first + n]);
        } else {
            self.apart.resize(n, S::default());
            rule.convert(chunk, &mut self.apart);
            let to = self.samples[first..].iter_mut().step_by(step);
            to.zip(&self.apart).for_each(|(to, &sample)| *to = sample);
        }
        // As long as nothing lay outside, nothing was clipped.
        if scan.is_clipped_by(rule) { rule.count_clipped(chunk) } else { 0 }
    }
}

/// The passes over an image's elements: nearly always one.
struct Maker<'a, R> {
    source: Source<'a, R>,
    views: Vec<View>,
    tensor: &'a TensorPlan,
    elements: Elements,
}

impl<R: ReadAt> Maker<'_, R> {
    /// Makes one sample of each element, the channels of a pixel together (0 between the pictures of a
    /// sheet), whatever `samples` holds. Returns the rule and the values' statistics.
    ///
    /// The rule depends on all values, but those of the first chunk nearly always lead to the same: so
    /// the rest is converted as it is seen, and all of it again only where the rule turns out to be
    /// another.
    fn samples<S: Sample>(&mut self, samples: &mut Samples<S>) -> io::Result<(Conversion, Stats)> {
        let tensor = self.tensor;
        let n = tensor.width * tensor.height * tensor.reading.n_channels;
        let n = usize::try_from(n).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let Samples { pixels, planes } = samples;
        let is_planar = is_planar(tensor);
        let made = if is_planar { &mut *planes } else { &mut *pixels };
        if tensor.sheet.is_some() {
            made.clear();
        }
        made.resize(n, S::default());
        let mut scan = Scan::new(self.elements);
        let mut guess = Guess::None;
        let mut n_clipped = 0;
        let mut converted = Converted { samples: made, apart: Vec::new() };
        for view in &self.views {
            self.source.each_chunk(view, |target, chunk| {
                if guess == Guess::None {
                    scan.see(chunk);
                    guess = Guess::of(&scan.decide(tensor.wish));
                    if let Guess::Rule(rule) = &guess {
                        n_clipped += converted.add(rule, &scan, target, chunk);
                    }
                    return io::Result::Ok(());
                }
                let mut target = target;
                for block in chunk.chunks_mut(BLOCK_BYTES) {
                    scan.see(block);
                    if let Guess::Rule(rule) = &guess {
                        n_clipped += converted.add(rule, &scan, target, block);
                    }
                    target.first += block.len() / tensor.header.dtype.size() * target.step;
                }
                if Guess::of(&scan.decide(tensor.wish)) != guess {
                    guess = Guess::Wrong;
                }
                io::Result::Ok(())
            })?;
        }
        let conversion = match scan.decide(tensor.wish) {
            Decision::Convert(conversion) => conversion,
            Decision::Measure(mut measure) => {
                for view in &self.views {
                    self.source.each_chunk(view, |_, chunk| {
                        measure.see(chunk);
                        io::Result::Ok(())
                    })?;
                }
                measure.decide()
            }
        };
        if guess != Guess::Rule(conversion) {
            n_clipped = 0;
            for view in &self.views {
                self.source.each_chunk(view, |target, chunk| {
                    conversion.prepare(chunk, tensor.header.byte_order);
                    n_clipped += converted.add(&conversion, &scan, target, chunk);
                    io::Result::Ok(())
                })?;
            }
        }
        let stats = Stats { clipped: scan.share(n_clipped), ..scan.stats() };
        if is_planar {
            let n_channels = usize::try_from(tensor.reading.n_channels).unwrap_or(1);
            pixels.resize(n, S::default());
            interleave(planes, n_channels, pixels);
        }
        Ok((conversion, stats))
    }

    /// The bytes of the picture in its mode, by way of colours that the data doesn't have.
    fn pixels(
        &mut self,
        mut samples: Vec<u8>,
        conversion: &Conversion,
        stats: &Stats,
    ) -> io::Result<Vec<u8>> {
        let tensor = self.tensor;
        let mut mode_now = tensor.natural_mode();
        let width = usize::try_from(tensor.width).map_err(|_| io::ErrorKind::OutOfMemory)?;
        if let Some(map) = tensor.colormap {
            (samples, mode_now) = (color::mapped(&samples, map), ColorMode::Rgb);
        }
        if let Some(nan_color) = tensor.nan_color {
            let colored = if mode_now.has_alpha() { ColorMode::Rgba } else { ColorMode::Rgb };
            (samples, mode_now) = (mode::convert(samples, mode_now, colored, width), colored);
            if stats.nan > 0 {
                color::mark(
                    &mut samples,
                    colored.n_channels(),
                    &self.nan_pixels(conversion)?,
                    nan_color,
                );
            }
        }
        if tensor.drops_alpha {
            samples = mode::convert(samples, mode_now, mode_now.opaque(), width);
            mode_now = mode_now.opaque();
        }
        if let Some(background) = tensor.background {
            samples = color::composited(&samples, mode_now.n_channels(), background);
            mode_now = mode_now.opaque();
        }
        Ok(mode::convert(samples, mode_now, tensor.mode, width))
    }

    /// Which pixels are NaN in any channel.
    fn nan_pixels(&mut self, conversion: &Conversion) -> io::Result<Vec<bool>> {
        let tensor = self.tensor;
        let n_pixels = usize::try_from(tensor.width * tensor.height);
        let mut is_nan = vec![false; n_pixels.map_err(|_| io::ErrorKind::OutOfMemory)?];
        let n_channels = tensor.natural_mode().n_channels();
        for view in &self.views {
            self.source.each_chunk(view, |Target { first, step }, chunk| {
                conversion.prepare(chunk, tensor.header.byte_order);
                conversion.each_nan(chunk, |i, is| {
                    is_nan[(first + i * step) / n_channels] |= is;
                });
                io::Result::Ok(())
            })?;
        }
        Ok(is_nan)
    }
}
