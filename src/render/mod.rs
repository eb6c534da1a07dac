//! A plan and a storage → the files of an image. Pure: bytes come through [`ReadAt`].
//!
//! A storage is read in chunks, twice: once to see the values, once to convert them. What is in
//! memory at once is one picture, not its dump.

mod mask;
mod source;

use std::io;

pub use self::mask::{MaskError, RenderedMask, render_mask};
use self::source::{Axis, Source, Target, View};
use crate::convert::range::{Conversion, Decision, Depth};
use crate::convert::scan::{Elements, Scan};
use crate::convert::{Pixels, Sample, color, mode};
use crate::decode::ReadAt;
use crate::encode::{self, EncodeError, EncodedImage};
use crate::media::{ColorMode, Making, Stats};
use crate::plan::{ImagePlan, TensorPlan};
use crate::tensor::TensorHeader;

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

/// Makes one image of a tensor, whose [storage](crate::decode::storage) is given.
///
/// # Errors
/// If the storage can't be read, or the encoder refuses.
pub fn render(
    storage: &impl ReadAt,
    tensor: &TensorPlan,
    image: &ImagePlan,
) -> Result<Rendered, RenderError> {
    let (pixels, making) = pixels_from_tensor(storage, tensor, image)?;
    Ok(Rendered { image: encode::encode(pixels, tensor.encoding)?, making })
}

/// Makes the pixels of one image of a tensor, whose storage is given.
///
/// # Errors
/// If the storage can't be read.
pub fn pixels_from_tensor(
    storage: &impl ReadAt,
    tensor: &TensorPlan,
    image: &ImagePlan,
) -> io::Result<(Pixels, Making)> {
    let views = views(tensor, image.image_idx);
    let elements = Elements { dtype: tensor.header.dtype, byte_order: tensor.header.byte_order };
    let mut source = Source::new(storage, elements);
    let mut see_all = |see: &mut dyn FnMut(&mut [u8])| {
        views.iter().try_for_each(|view| {
            source.each_chunk(view, |_, chunk| {
                see(chunk);
                io::Result::Ok(())
            })
        })
    };
    let mut scan = Scan::new(elements);
    see_all(&mut |chunk| scan.see(chunk))?;
    let conversion = match scan.decide(tensor.wish) {
        Decision::Convert(conversion) => conversion,
        Decision::Measure(mut measure) => {
            see_all(&mut |chunk| measure.see(chunk))?;
            measure.decide()
        }
    };
    let mut stats = scan.stats();
    let mut maker = Maker {
        source,
        views,
        tensor,
        conversion: &conversion,
        counts_clipped: scan.is_clipped_by(&conversion),
        n_clipped: 0,
    };
    // The plan let no side through that doesn't fit: `limits.pixels_max` is far below.
    let side = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let (width, height) = (side(tensor.width), side(tensor.height));
    let bytes = match tensor.wish.depth {
        Depth::Eight => maker.pixels(&stats)?,
        Depth::Sixteen => {
            mode::gray_16(&maker.samples::<u16>()?, tensor.natural_mode().n_channels())
        }
    };
    stats.clipped = scan.share(maker.n_clipped);
    // Only PNG has black and white: elsewhere it is gray that happens to have two values.
    let is_gray = tensor.mode == ColorMode::Bit && !tensor.encoding.file_type.holds(ColorMode::Bit);
    let mode = if is_gray { ColorMode::L } else { tensor.mode };
    let mut pixels = Pixels { mode, width, height, bytes };
    if let Some((width, height)) = image.downscale {
        pixels = encode::downscale(pixels, width, height);
    }
    let making = Making {
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

/// The views of a tensor that make one image: one, or one for each picture of a contact sheet.
fn views(tensor: &TensorPlan, image_idx: u64) -> Vec<View> {
    let reading = &tensor.reading;
    let n_channels = reading.n_channels;
    let row = tensor.width * n_channels;
    let view = |picture: u64, to: u64| {
        view(&tensor.header, reading.axes, picture, to, [row, n_channels, 1])
    };
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

/// The second pass over an image's elements.
struct Maker<'a, R> {
    source: Source<'a, R>,
    views: Vec<View>,
    tensor: &'a TensorPlan,
    conversion: &'a Conversion,
    counts_clipped: bool,
    n_clipped: u64,
}

impl<R: ReadAt> Maker<'_, R> {
    /// One sample for each element, the channels of a pixel together; 0 between the pictures of a
    /// sheet.
    fn samples<S: Sample>(&mut self) -> io::Result<Vec<S>> {
        let tensor = self.tensor;
        let n = tensor.width * tensor.height * tensor.reading.n_channels;
        let n = usize::try_from(n).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut samples = vec![S::default(); n];
        let (conversion, counts) = (self.conversion, self.counts_clipped);
        let mut converted = Vec::new();
        let mut n_clipped = 0;
        for view in &self.views {
            self.source.each_chunk(view, |Target { first, step }, chunk| {
                conversion.prepare(chunk, tensor.header.byte_order);
                if counts {
                    n_clipped += conversion.count_clipped(chunk);
                }
                let n = chunk.len() / tensor.header.dtype.size();
                if step == 1 {
                    conversion.convert(chunk, &mut samples[first..first + n]);
                } else {
                    converted.resize(n, S::default());
                    conversion.convert(chunk, &mut converted);
                    let to = samples[first..].iter_mut().step_by(step);
                    to.zip(&converted).for_each(|(to, &sample)| *to = sample);
                }
                io::Result::Ok(())
            })?;
        }
        self.n_clipped = n_clipped;
        Ok(samples)
    }

    /// The bytes of the picture in its mode, by way of colours that the data doesn't have.
    fn pixels(&mut self, stats: &Stats) -> io::Result<Vec<u8>> {
        let tensor = self.tensor;
        let (mut samples, mut mode_now) = (self.samples::<u8>()?, tensor.natural_mode());
        let width = usize::try_from(tensor.width).map_err(|_| io::ErrorKind::OutOfMemory)?;
        if let Some(map) = tensor.colormap {
            (samples, mode_now) = (color::mapped(&samples, map), ColorMode::Rgb);
        }
        if let Some(nan_color) = tensor.nan_color {
            let colored = if mode_now.has_alpha() { ColorMode::Rgba } else { ColorMode::Rgb };
            (samples, mode_now) = (mode::convert(samples, mode_now, colored, width), colored);
            if stats.nan > 0 {
                color::mark(&mut samples, colored.n_channels(), &self.nan_pixels()?, nan_color);
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
    fn nan_pixels(&mut self) -> io::Result<Vec<bool>> {
        let tensor = self.tensor;
        let n_pixels = usize::try_from(tensor.width * tensor.height);
        let mut is_nan = vec![false; n_pixels.map_err(|_| io::ErrorKind::OutOfMemory)?];
        let n_channels = tensor.natural_mode().n_channels();
        let conversion = self.conversion;
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
