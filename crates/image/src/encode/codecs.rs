//! The file types that the crate `image` writes: JPEG, BMP and WebP.

use std::io;

use image::codecs::bmp::BmpEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};

use super::PixelsRef;
use crate::media::ColorMode;

/// Appends a JPEG of this quality, 1 to 100.
///
/// # Errors
/// If JPEG cannot hold the picture.
pub(super) fn jpeg(pixels: PixelsRef<'_>, quality: u8, out: &mut Vec<u8>) -> io::Result<()> {
    write(JpegEncoder::new_with_quality(out, quality), pixels)
}

/// Appends a BMP.
///
/// # Errors
/// If BMP cannot hold the picture.
pub(super) fn bmp(pixels: PixelsRef<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    write(BmpEncoder::new(out), pixels)
}

/// Appends a lossless WebP.
///
/// # Errors
/// If WebP cannot hold the picture.
pub(super) fn webp(pixels: PixelsRef<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    write(WebPEncoder::new_lossless(out), pixels)
}

fn write(encoder: impl ImageEncoder, pixels: PixelsRef<'_>) -> io::Result<()> {
    let PixelsRef { mode, width, height, samples } = pixels;
    let color = match mode {
        ColorMode::L => ExtendedColorType::L8,
        ColorMode::Rgb => ExtendedColorType::Rgb8,
        ColorMode::Rgba => ExtendedColorType::Rgba8,
        ColorMode::Bit | ColorMode::La | ColorMode::I16 => {
            return Err(io::ErrorKind::Unsupported.into());
        }
    };
    encoder.write_image(samples, width, height, color).map_err(io::Error::other)
}
