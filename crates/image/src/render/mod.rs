//! Renders: a plan and a storage → the file of an image. Pure: bytes come through [`ReadAt`].
//!
//! A storage is read in chunks. Each chunk is measured and converted while it is in the processor's cache.
//! Memory holds one picture at a time, not its dump.
//!
//! Images of one tensor may [share a rule](TensorPlan::shares_rule), which depends on the values of all of
//! them. A caller that makes all of them passes the extent that it knows so far, and renders an image again
//! if the extent of all leads to [another rule](TensorPlan::rule). So each image is nearly always read once.
//! A caller that makes some of them measures the others first, with [`Renderer::measure`].

mod all;
mod develop;
mod maker;
mod mask;
mod numbers;
mod source;
mod values;
#[cfg(test)]
mod tests;

use std::io;

pub use self::all::{render_all, settled};
pub use self::develop::{Develop, cropped, develop, drawn, fitted};
use self::maker::Maker;
pub use self::mask::{MaskError, RenderedMask, render_mask};
pub use self::numbers::{each_value, values_of};
use self::source::{Axis, Buffers, View};
pub use self::values::value_warnings;
use crate::convert::{Depth, Extent, LayoutError, Pixels, mode};
use crate::decode::ReadAt;
use crate::encode::{self, EncodeError, EncodedImage, Encoder};
use crate::media::{ColorMode, Provenance, Sha256};
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

/// The samples of a picture, and a buffer for the same samples in another [`Order`].
#[derive(Debug, Default)]
struct Samples<S> {
    pixels: Vec<S>,
    other: Vec<S>,
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
        let is_large = samples.len().max(self.samples.other.len()) > KEPT_BYTES_MAX;
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

/// The length of a side of a planned image. The plan has checked it: `limits.pixels_max` is far below `u32::MAX`.
fn side(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
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

/// Makes the pixels of one image of a tensor, as [`full_size_pixels`] does, but measures no other image.
///
/// `batch` is the extent of all images if they [share a rule](TensorPlan::shares_rule). `downscale` are width and
/// height to scale the image down to.
///
/// # Errors
/// If the storage can't be read.
pub fn pixels_in_batch(
    storage: &impl ReadAt,
    tensor: &TensorPlan,
    image_idx: u64,
    downscale: Option<(u32, u32)>,
    batch: Option<Extent>,
) -> io::Result<(Pixels, Provenance)> {
    let made = Renderer::default().pixels(storage, tensor, image_idx, downscale, batch)?;
    Ok((made.pixels, made.provenance))
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

/// The order in which samples are made. It follows the order of the elements in the storage, in which they are read in
/// long runs; afterwards the samples are put into the order of pixels. That is faster than storing each one at its
/// final place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Order {
    /// Channel after channel. Else the channels of a pixel are together.
    is_planar: bool,
    /// Column after column, as in Fortran order. Else row after row.
    is_transposed: bool,
}

impl Order {
    /// Row after row, the channels of a pixel together.
    const OF_PIXELS: Self = Self { is_planar: false, is_transposed: false };

    /// Returns the order of a tensor's elements. The pictures of a contact sheet are made at their final places.
    fn of(tensor: &TensorPlan) -> Self {
        let stride = |axis: Option<usize>| axis.map_or(0, |axis| tensor.header.strides[axis]);
        let [_, rows, columns, channels] = tensor.reading.axes.map(stride);
        if tensor.sheet.is_some() {
            return Self::OF_PIXELS;
        }
        Self {
            is_planar: tensor.reading.n_channels > 1 && channels > rows.max(columns),
            is_transposed: tensor.width.min(tensor.height) > 1 && columns > rows,
        }
    }

    /// The distances between neighbours along rows, columns and channels.
    fn steps(self, tensor: &TensorPlan) -> [u64; 3] {
        let (width, height) = (tensor.width, tensor.height);
        let channel = if self.is_planar { width * height } else { 1 };
        let pixel = if self.is_planar { 1 } else { tensor.reading.n_channels };
        if self.is_transposed {
            [pixel, height * pixel, channel]
        } else {
            [width * pixel, pixel, channel]
        }
    }
}

/// Returns the views of a tensor that make one image: one, or one for each picture of a contact sheet. `steps` are the
/// distances in the destination between neighbours along rows, columns and channels.
fn views(tensor: &TensorPlan, image_idx: u64, steps: [u64; 3]) -> Vec<View> {
    let reading = &tensor.reading;
    let n_channels = reading.n_channels;
    let row = tensor.width * n_channels;
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
