//! Pixels → the bytes of a media file. Pure. The one module that names the codecs.

use std::io;

use image::codecs::bmp::BmpEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPEncoder;
use image::imageops;
use image::{ExtendedColorType, ImageBuffer, ImageEncoder, Pixel, Primitive};

use crate::convert::Pixels;
use crate::media::{ColorMode, FileType, Sha256};

/// A media file in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedImage {
    /// How it is encoded.
    pub file_type: FileType,
    /// The kind of picture.
    pub mode: ColorMode,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// The file.
    pub bytes: Vec<u8>,
    /// Its digest.
    pub sha256: Sha256,
}

/// How to encode a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    /// The file type; one that [is made](FileType::is_made).
    pub file_type: FileType,
    /// Of JPEG, 1 to 100.
    pub quality: u8,
}

/// JPEG's quality where none is named: Pillow's.
pub const QUALITY: u8 = 75;

impl Default for Encoding {
    fn default() -> Self {
        Self { file_type: FileType::Png, quality: QUALITY }
    }
}

/// The encoder refused: a picture that no plan should have let through.
#[derive(Debug, thiserror::Error)]
#[error("cannot encode {width} × {height} {mode} as {file_type}: {source}")]
pub struct EncodeError {
    file_type: FileType,
    mode: ColorMode,
    width: u32,
    height: u32,
    source: io::Error,
}

/// Encodes a picture: PNG with fast compression, the filter chosen row by row; WebP without loss.
///
/// # Errors
/// If the file type can't hold the picture.
pub fn encode(pixels: Pixels, encoding: Encoding) -> Result<EncodedImage, EncodeError> {
    let Pixels { mode, width, height, bytes: samples } = pixels;
    let Encoding { file_type, quality } = encoding;
    let mut bytes = Vec::new();
    let result = match file_type {
        FileType::Png => png(&mut bytes, mode, width, height, samples),
        FileType::Jpg | FileType::Jpeg => {
            other(JpegEncoder::new_with_quality(&mut bytes, quality), mode, width, height, &samples)
        }
        FileType::Bmp => other(BmpEncoder::new(&mut bytes), mode, width, height, &samples),
        FileType::Webp => {
            other(WebPEncoder::new_lossless(&mut bytes), mode, width, height, &samples)
        }
        FileType::Gif | FileType::Tiff => Err(io::ErrorKind::Unsupported.into()),
    };
    result.map_err(|source| EncodeError { file_type, mode, width, height, source })?;
    let sha256 = Sha256::of(&bytes);
    Ok(EncodedImage { file_type, mode, width, height, bytes, sha256 })
}

fn png(
    bytes: &mut Vec<u8>,
    mode: ColorMode,
    width: u32,
    height: u32,
    samples: Vec<u8>,
) -> io::Result<()> {
    let (color, depth, samples) = match mode {
        ColorMode::Bit => {
            let row = usize::try_from(width).map_err(io::Error::other)?;
            (png::ColorType::Grayscale, png::BitDepth::One, packed_bits(&samples, row))
        }
        ColorMode::L => (png::ColorType::Grayscale, png::BitDepth::Eight, samples),
        ColorMode::La => (png::ColorType::GrayscaleAlpha, png::BitDepth::Eight, samples),
        ColorMode::Rgb => (png::ColorType::Rgb, png::BitDepth::Eight, samples),
        ColorMode::Rgba => (png::ColorType::Rgba, png::BitDepth::Eight, samples),
        // PNG's samples are big-endian.
        ColorMode::I16 => {
            let swapped = samples.as_chunks::<2>().0.iter().flat_map(|&[low, high]| [high, low]);
            (png::ColorType::Grayscale, png::BitDepth::Sixteen, swapped.collect())
        }
    };
    let mut encoder = png::Encoder::new(bytes, width, height);
    encoder.set_color(color);
    encoder.set_depth(depth);
    encoder.set_compression(png::Compression::Fast);
    encoder.set_filter(png::Filter::Adaptive);
    encoder.write_header()?.write_image_data(&samples)?;
    Ok(())
}

/// Samples of 0 and 255, eight to a byte, each row from a byte on.
fn packed_bits(samples: &[u8], width: usize) -> Vec<u8> {
    let byte = |pixels: &[u8]| {
        let bits = pixels.iter().enumerate();
        bits.fold(0, |byte, (i, &sample)| byte | u8::from(sample > 0) << (7 - i))
    };
    samples.chunks_exact(width).flat_map(|row| row.chunks(8).map(byte)).collect()
}

fn other(
    encoder: impl ImageEncoder,
    mode: ColorMode,
    width: u32,
    height: u32,
    samples: &[u8],
) -> io::Result<()> {
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

/// The most bytes that an encoded picture takes: the samples, a filter byte a row, and what PNG and
/// stored deflate blocks add. (A JPEG of noise at quality 100 takes less, as do the others.)
#[must_use]
pub const fn encoded_bytes_max(n_sample_bytes: u64, height: u64) -> u64 {
    let raw = n_sample_bytes.saturating_add(height);
    raw.saturating_add(raw / 8).saturating_add(4096)
}

/// Scales a picture down to `width` × `height`, each new pixel the weighted mean of those that it
/// covers (a triangle filter).
#[must_use]
pub fn downscale(pixels: Pixels, width: u32, height: u32) -> Pixels {
    let mode = pixels.mode;
    let bytes = match mode {
        ColorMode::L => resize::<image::Luma<u8>>(pixels, width, height),
        ColorMode::La => resize::<image::LumaA<u8>>(pixels, width, height),
        ColorMode::Rgb => resize::<image::Rgb<u8>>(pixels, width, height),
        ColorMode::Rgba => resize::<image::Rgba<u8>>(pixels, width, height),
        ColorMode::Bit => {
            let threshold = |gray: u8| if gray > 127 { 255 } else { 0 };
            let gray = resize::<image::Luma<u8>>(pixels, width, height);
            gray.into_iter().map(threshold).collect()
        }
        ColorMode::I16 => {
            let samples = pixels.bytes.as_chunks::<2>().0.iter().copied().map(u16::from_le_bytes);
            let samples = samples.collect();
            let small =
                resized::<image::Luma<u16>>((pixels.width, pixels.height, samples), width, height);
            small.into_iter().flat_map(u16::to_le_bytes).collect()
        }
    };
    Pixels { mode, width, height, bytes }
}

fn resize<P: Pixel<Subpixel = u8> + 'static>(pixels: Pixels, width: u32, height: u32) -> Vec<u8> {
    resized::<P>((pixels.width, pixels.height, pixels.bytes), width, height)
}

fn resized<P: Pixel + 'static>(
    (from_width, from_height, samples): (u32, u32, Vec<P::Subpixel>),
    width: u32,
    height: u32,
) -> Vec<P::Subpixel>
where
    P::Subpixel: Primitive + 'static,
{
    let picture: Option<ImageBuffer<P, _>> =
        ImageBuffer::from_raw(from_width, from_height, samples);
    picture.map_or_else(Vec::new, |picture| {
        imageops::resize(&picture, width, height, imageops::FilterType::Triangle).into_raw()
    })
}

/// Decodes a media file that [`encode`] made; black and white comes back as gray.
#[cfg(test)]
pub(crate) fn decode(bytes: &[u8]) -> Pixels {
    let picture = image::load_from_memory(bytes).unwrap_or_else(|error| panic!("{error}"));
    let mode = match picture.color() {
        image::ColorType::L8 => ColorMode::L,
        image::ColorType::La8 => ColorMode::La,
        image::ColorType::Rgb8 => ColorMode::Rgb,
        image::ColorType::Rgba8 => ColorMode::Rgba,
        image::ColorType::L16 => ColorMode::I16,
        other => panic!("{other:?}"),
    };
    Pixels { mode, width: picture.width(), height: picture.height(), bytes: picture.into_bytes() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels(mode: ColorMode, width: u32, height: u32) -> Pixels {
        let n = (width * height) as usize * mode.pixel_size();
        let bytes = (0..n).map(|i| u8::try_from(i * 37 % 251).unwrap_or(0)).collect();
        Pixels { mode, width, height, bytes }
    }

    #[test]
    fn what_is_encoded_without_loss_comes_back() {
        let modes = [ColorMode::L, ColorMode::La, ColorMode::Rgb, ColorMode::Rgba, ColorMode::I16];
        for file_type in [FileType::Png, FileType::Bmp, FileType::Webp] {
            for mode in modes.into_iter().filter(|&mode| file_type.holds(mode)) {
                let pixels = pixels(mode, 5, 7);
                let n = pixels.bytes.len() as u64;
                let encoding = Encoding { file_type, ..Encoding::default() };
                let encoded =
                    encode(pixels.clone(), encoding).unwrap_or_else(|error| panic!("{error}"));
                let decoded = decode(&encoded.bytes);
                if decoded.mode == mode {
                    assert_eq!(decoded, pixels, "{file_type} {mode}");
                } else {
                    // BMP and WebP have no gray of their own.
                    assert_eq!((mode, decoded.mode), (ColorMode::L, ColorMode::Rgb));
                    let gray: Vec<u8> = decoded.bytes.iter().step_by(3).copied().collect();
                    assert_eq!(gray, pixels.bytes);
                }
                assert!(encoded.bytes.len() as u64 <= encoded_bytes_max(n, 7));
            }
        }
    }

    #[test]
    fn a_jpeg_looks_like_the_picture_and_its_quality_counts() {
        let bytes = (0..64 * 64 * 3).map(|i| u8::try_from(i / 3 % 64 * 4).unwrap_or(0)).collect();
        let ramp = Pixels { mode: ColorMode::Rgb, width: 64, height: 64, bytes };
        let encoded = |quality| {
            let encoding = Encoding { file_type: FileType::Jpg, quality };
            encode(ramp.clone(), encoding).unwrap_or_else(|error| panic!("{error}")).bytes
        };
        let (low, high) = (encoded(10), encoded(95));
        assert!(low.len() < high.len());
        let worst = decode(&high).bytes.iter().zip(&ramp.bytes).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst.is_some_and(|worst| worst < 12), "{worst:?}");
    }

    #[test]
    fn black_and_white_takes_a_bit_a_pixel() {
        let bytes = [255, 0, 255, 255, 0, 0, 0, 0, 255, 0, 255, 0, 0, 0, 0, 0, 0, 0];
        let bits = Pixels { mode: ColorMode::Bit, width: 9, height: 2, bytes: bytes.to_vec() };
        assert_eq!(packed_bits(&bytes, 9), [0b1011_0000, 0b1000_0000, 0b0100_0000, 0]);
        let encoded = encode(bits, Encoding::default()).unwrap_or_else(|error| panic!("{error}"));
        // Width, height, bit depth, colour type.
        assert_eq!(encoded.bytes[16..26], [0, 0, 0, 9, 0, 0, 0, 2, 1, 0]);
        assert_eq!(decode(&encoded.bytes).bytes, bytes);
    }

    #[test]
    fn what_a_file_type_cannot_hold_is_an_error() {
        let encoding = Encoding { file_type: FileType::Jpg, ..Encoding::default() };
        let error = encode(pixels(ColorMode::La, 2, 3), encoding).map(|_| ());
        let error = error.map_err(|error| error.to_string());
        assert!(error.is_err_and(|error| error.contains("cannot encode 2 × 3 LA as jpg")));
    }

    #[test]
    fn a_smaller_picture_is_the_mean_of_the_larger() {
        for mode in [ColorMode::L, ColorMode::I16] {
            let sample = |v: u8| {
                if mode == ColorMode::L { vec![v] } else { vec![0, v] }
            };
            let bytes = (0..64).flat_map(|i| sample(if i % 2 == 0 { 0 } else { 200 })).collect();
            let small = downscale(Pixels { mode, width: 64, height: 1, bytes }, 4, 1);
            assert_eq!((small.width, small.height), (4, 1));
            let high = small.bytes.chunks(mode.pixel_size()).filter_map(|sample| sample.last());
            for value in high {
                assert!((90..=110).contains(value), "{value}");
            }
        }
    }
}
