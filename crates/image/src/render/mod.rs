//! Renders: a plan and a storage → the file of an image. Pure: bytes come through [`ReadAt`].
//!
//! A storage is read in chunks. Each chunk is measured and converted while it is in the processor's cache.
//! Memory holds one picture at a time, not its dump.
//!
//! Images of one tensor may [share a rule](TensorPlan::shares_rule), which depends on the values of all of
//! them. A caller that makes all of them passes the extent that it knows so far, and renders an image again
//! if the extent of all leads to [another rule](TensorPlan::rule). So each image is nearly always read once.
//! A caller that makes some of them measures the others first, with [`Renderer::measure`].

mod mask;
mod source;
mod values;
#[cfg(test)]
mod tests;

use std::io;

pub use self::mask::{MaskError, RenderedMask, render_mask};
use self::source::{Axis, Buffers, Source, Target, View};
pub use self::values::value_warnings;
use crate::convert::{
    Conversion, Decision, Depth, Elements, Extent, LayoutError, Pixels, Sample, Scan, Wish, color,
    interleave, mode,
};
use crate::decode::ReadAt;
use crate::encode::{self, EncodeError, EncodedImage, Encoder};
use crate::media::{ColorMode, Provenance, Sha256, Stats};
use crate::plan::{ImagePlan, TensorPlan};
use crate::tensor::TensorHeader;

/// An image, and how it was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    /// The media file.
    pub image: EncodedImage,
    /// The rule and the statistics of the values.
    pub provenance: Provenance,
    /// What else was seen of the values.
    pub values: ValuesSeen,
}

/// What was seen of the values of an image, beside their statistics.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ValuesSeen {
    /// The extent of the finite values.
    pub extent: Option<Extent>,
    /// The number of different samples, if there are few although there are many different values.
    pub n_few_levels: Option<u8>,
}

/// Why a planned image could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The dump could not be read.
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
    /// The picture could not be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The values show that the axes were guessed wrongly.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// The bytes of a chunk that are measured and then converted, before the next ones. They fit the
/// processor's nearest cache.
const BLOCK_BYTES: usize = 16 << 10;

/// Buffers up to this size, in bytes, are reused for the next image. Larger ones belong to the memory budget
/// of one image, and are freed with it.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// Makes images one after the other, with the same buffers.
#[derive(Debug, Default)]
pub struct Renderer {
    buffers: Buffers,
    samples: Samples<u8>,
    encoder: Encoder,
    file: Vec<u8>,
}

/// The samples of a picture, and a buffer for the same samples in another order.
#[derive(Debug, Default)]
struct Samples<S> {
    pixels: Vec<S>,
    planes: Vec<S>,
}

impl Renderer {
    /// Makes one image of a tensor from the tensor's [storage](crate::decode::storage).
    ///
    /// `batch` is the extent of all images if they [share a rule](TensorPlan::shares_rule), as far as it is
    /// known. [`check_alpha`] must then be called with that of all of them.
    ///
    /// # Errors
    /// If the storage can't be read, the picture can't be encoded, or the second of two signed channels
    /// would be taken for alpha without a word of the record.
    pub fn render(
        &mut self,
        storage: &impl ReadAt,
        tensor: &TensorPlan,
        image: &ImagePlan,
        batch: Option<Extent>,
    ) -> Result<Rendered, RenderError> {
        let Made { pixels, provenance, values } =
            self.pixels(storage, tensor, image.image_idx, image.downscale, batch)?;
        if !tensor.shares_rule() {
            check_alpha(tensor, values.extent)?;
        }
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
            provenance,
            values,
        })
    }

    /// Reuses the memory of an encoded file for the next one.
    pub fn take_back(&mut self, file: Vec<u8>) {
        if file.capacity() <= KEPT_BYTES_MAX {
            self.file = file;
        }
    }

    /// Measures the values of images of a tensor.
    ///
    /// # Errors
    /// If the storage can't be read.
    pub fn measure(
        &mut self,
        storage: &impl ReadAt,
        tensor: &TensorPlan,
        images: impl IntoIterator<Item = u64>,
    ) -> io::Result<Option<Extent>> {
        let mut extent = None;
        for image_idx in images {
            let mut maker = Maker::new(storage, tensor, image_idx, None, &mut self.buffers);
            extent = Extent::join(extent, maker.extent()?);
        }
        Ok(extent)
    }

    /// Makes the pixels of one image.
    fn pixels(
        &mut self,
        storage: &impl ReadAt,
        tensor: &TensorPlan,
        image_idx: u64,
        downscale: Option<(u32, u32)>,
        batch: Option<Extent>,
    ) -> io::Result<Made> {
        let mut maker = Maker::new(storage, tensor, image_idx, batch, &mut self.buffers);
        let mut n_few_levels = None;
        let (bytes, conversion, (stats, extent)) = match tensor.wish.depth {
            Depth::Eight => {
                let (conversion, seen) = maker.samples(&mut self.samples)?;
                n_few_levels = maker.few_levels(&self.samples.pixels, &seen.0)?;
                let samples = std::mem::take(&mut self.samples.pixels);
                (maker.pixels(samples, &conversion, &seen.0)?, conversion, seen)
            }
            Depth::Sixteen => {
                let mut samples = Samples::<u16>::default();
                let (conversion, seen) = maker.samples(&mut samples)?;
                let n_channels = tensor.natural_mode().n_channels();
                (mode::gray_16(&samples.pixels, n_channels), conversion, seen)
            }
        };
        // The plan has checked each side: `limits.pixels_max` is far below `u32::MAX`.
        let side = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let (width, height) = (side(tensor.width), side(tensor.height));
        // Only PNG has black and white. In other file types it is gray with two values.
        let is_gray =
            tensor.mode == ColorMode::Bit && !tensor.encoding.file_type.holds(ColorMode::Bit);
        let mode = if is_gray { ColorMode::L } else { tensor.mode };
        let mut pixels = Pixels { mode, width, height, bytes };
        if let Some((width, height)) = downscale {
            pixels = encode::downscale(pixels, width, height);
        }
        let provenance = Provenance {
            profile: tensor.wish.profile,
            rule: conversion.rule(),
            range: tensor.wish.range,
            colormap: tensor.colormap,
            format: tensor.reading.format,
            format_guessed: tensor.reading.guessed,
            stats,
        };
        Ok(Made { pixels, provenance, values: ValuesSeen { extent, n_few_levels } })
    }
}

/// The pixels of an image, and how they were made.
struct Made {
    pixels: Pixels,
    provenance: Provenance,
    values: ValuesSeen,
}

/// Checks the values of images whose second channel would be taken for alpha though the record does not say
/// so.
///
/// # Errors
/// If they are signed.
pub fn check_alpha(tensor: &TensorPlan, extent: Option<Extent>) -> Result<(), LayoutError> {
    if tensor.guesses_alpha && extent.is_some_and(|extent| extent.is_signed()) {
        return Err(LayoutError::signed_alpha(&tensor.header.shape, tensor.reading.format));
    }
    Ok(())
}

/// Makes the pixels of one image of a tensor from the tensor's storage. If images share a rule, measures the
/// others too.
///
/// # Errors
/// If the storage can't be read.
pub fn pixels_from_tensor(
    storage: &impl ReadAt,
    tensor: &TensorPlan,
    image: &ImagePlan,
) -> io::Result<(Pixels, Provenance)> {
    pixels_of(storage, tensor, image.image_idx, image.downscale)
}

/// Makes the pixels of the image `image_idx` of a tensor, from 0 to [`TensorPlan::n_images`] − 1, at
/// full size. If images share a rule, measures the others too.
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
    pixels_of(storage, tensor, image_idx, None)
}

fn pixels_of(
    storage: &impl ReadAt,
    tensor: &TensorPlan,
    image_idx: u64,
    downscale: Option<(u32, u32)>,
) -> io::Result<(Pixels, Provenance)> {
    let mut renderer = Renderer::default();
    let batch = if tensor.shares_rule() {
        renderer.measure(storage, tensor, 0..tensor.n_images())?
    } else {
        None
    };
    let made = renderer.pixels(storage, tensor, image_idx, downscale, batch)?;
    Ok((made.pixels, made.provenance))
}

/// Whether the samples are made channel after channel, in the order of the elements, and interleaved
/// afterwards. That is faster than storing each one at its final place.
fn is_planar(tensor: &TensorPlan) -> bool {
    let stride = |axis: Option<usize>| axis.map_or(0, |axis| tensor.header.strides[axis]);
    let [_, rows, columns, channels] = tensor.reading.axes.map(stride);
    tensor.sheet.is_none() && tensor.reading.n_channels > 1 && channels > rows.max(columns)
}

/// Returns the views of a tensor that make one image: one, or one for each picture of a contact sheet.
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

/// Returns the view of one picture: its rows, columns and channels, which are stored `steps` apart.
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

/// The rule that the values of the first chunk suggest.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Guess {
    /// No chunk was read yet.
    None,
    Rule(Conversion),
    /// Later values lead to another rule, or the rule depends on all values.
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

/// The destination of converted samples.
struct Converted<'a, S> {
    samples: &'a mut [S],
    /// A buffer for the samples of a chunk that are not contiguous in the picture.
    apart: Vec<S>,
}

impl<S: Sample> Converted<'_, S> {
    /// Converts a chunk that `scan` has measured. Returns the number of values that were clipped.
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
        // Counting is needed only if a value was outside the range.
        if scan.is_clipped_by(rule) { rule.count_clipped(chunk) } else { 0 }
    }
}

/// Makes the passes over an image's elements. Nearly always there is one.
struct Maker<'a, R> {
    source: Source<'a, R>,
    views: Vec<View>,
    tensor: &'a TensorPlan,
    elements: Elements,
    wish: Wish,
}

impl<'a, R: ReadAt> Maker<'a, R> {
    fn new(
        storage: &'a R,
        tensor: &'a TensorPlan,
        image_idx: u64,
        batch: Option<Extent>,
        buffers: &'a mut Buffers,
    ) -> Self {
        let elements =
            Elements { dtype: tensor.header.dtype, byte_order: tensor.header.byte_order };
        let batch = batch.filter(|_| tensor.shares_rule());
        Self {
            source: Source::new(storage, elements, buffers),
            views: views(tensor, image_idx),
            tensor,
            elements,
            wish: Wish { batch, ..tensor.wish },
        }
    }

    /// Measures all values.
    fn extent(&mut self) -> io::Result<Option<Extent>> {
        let mut scan = Scan::new(self.elements);
        for view in &self.views {
            self.source.each_chunk(view, |_, chunk| {
                scan.see(chunk);
                io::Result::Ok(())
            })?;
        }
        Ok(scan.extent())
    }

    /// Replaces `samples` by one sample for each element, the channels of a pixel together, and 0 between the
    /// pictures of a sheet. Returns the rule, and the statistics and the extent of the values.
    ///
    /// The rule depends on all values, but the first chunk nearly always leads to the same rule. So each
    /// chunk is converted right after it is measured. If the rule turns out to be another one, everything
    /// is converted again.
    fn samples<S: Sample>(
        &mut self,
        samples: &mut Samples<S>,
    ) -> io::Result<(Conversion, (Stats, Option<Extent>))> {
        let (tensor, wish) = (self.tensor, self.wish);
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
                    guess = Guess::of(&scan.decide(wish));
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
                if Guess::of(&scan.decide(wish)) != guess {
                    guess = Guess::Wrong;
                }
                io::Result::Ok(())
            })?;
        }
        let conversion = match scan.decide(wish) {
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
        Ok((conversion, (stats, scan.extent())))
    }

    /// Converts samples to the picture's mode, after the colormap, the NaN color and the background.
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

    /// Returns for each pixel whether a channel of it is NaN.
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
