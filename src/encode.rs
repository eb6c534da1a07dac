//! Pixels → the bytes of a media file. Pure. The one module that names the `image` crate.

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::imageops;
use image::{ExtendedColorType, ImageBuffer, ImageEncoder, Pixel};

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

/// The encoder refused: a picture that no plan should have let through.
#[derive(Debug, thiserror::Error)]
#[error("cannot encode {width} × {height} {mode} as png: {source}")]
pub struct EncodeError {
    mode: ColorMode,
    width: u32,
    height: u32,
    source: image::ImageError,
}

/// Encodes a picture as PNG: fast compression, the filter chosen row by row.
///
/// # Errors
/// If the encoder refuses.
pub fn encode(pixels: Pixels) -> Result<EncodedImage, EncodeError> {
    let Pixels { mode, width, height, bytes: samples } = pixels;
    let (color, samples) = match mode {
        ColorMode::L => (ExtendedColorType::L8, samples),
        ColorMode::La => (ExtendedColorType::La8, samples),
        ColorMode::Rgb => (ExtendedColorType::Rgb8, samples),
        ColorMode::Rgba => (ExtendedColorType::Rgba8, samples),
        ColorMode::I16 => (ExtendedColorType::L16, native_endian(samples)),
    };
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive)
        .write_image(&samples, width, height, color)
        .map_err(|source| EncodeError { mode, width, height, source })?;
    let sha256 = Sha256::of(&bytes);
    Ok(EncodedImage { file_type: FileType::Png, mode, width, height, bytes, sha256 })
}

/// Little-endian 16-bit samples in this machine's order, which the encoder wants.
fn native_endian(mut samples: Vec<u8>) -> Vec<u8> {
    if cfg!(target_endian = "big") {
        samples.as_chunks_mut::<2>().0.iter_mut().for_each(|sample| sample.reverse());
    }
    samples
}

/// The most bytes that an encoded picture takes: the samples, a filter byte a row, and what PNG and
/// stored deflate blocks add.
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
        // Such samples hold 0..255 only, so that their low bytes are the picture.
        ColorMode::I16 => {
            let low = pixels.bytes.as_chunks::<2>().0.iter().map(|sample| sample[0]).collect();
            let gray = Pixels { mode: ColorMode::L, bytes: low, ..pixels };
            resize::<image::Luma<u8>>(gray, width, height)
                .into_iter()
                .flat_map(|v| [v, 0])
                .collect()
        }
    };
    Pixels { mode, width, height, bytes }
}

fn resize<P: Pixel<Subpixel = u8> + 'static>(pixels: Pixels, width: u32, height: u32) -> Vec<u8> {
    let picture: Option<ImageBuffer<P, Vec<u8>>> =
        ImageBuffer::from_raw(pixels.width, pixels.height, pixels.bytes);
    picture.map_or_else(Vec::new, |picture| {
        imageops::resize(&picture, width, height, imageops::FilterType::Triangle).into_raw()
    })
}

/// Decodes a media file that [`encode`] made: mode's name, width, height, samples as in [`Pixels`].
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

    #[test]
    fn what_is_encoded_comes_back() {
        for mode in [ColorMode::L, ColorMode::La, ColorMode::Rgb, ColorMode::Rgba, ColorMode::I16] {
            let n = 5 * 7 * mode.pixel_size();
            let bytes = (0..n).map(|i| u8::try_from(i * 37 % 251).unwrap_or(0)).collect();
            let pixels = Pixels { mode, width: 5, height: 7, bytes };
            let encoded = encode(pixels.clone()).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(decode(&encoded.bytes), pixels);
            assert!(encoded.bytes.len() as u64 <= encoded_bytes_max(n as u64, 7));
        }
    }

    #[test]
    fn a_smaller_picture_is_the_mean_of_the_larger() {
        for mode in [ColorMode::L, ColorMode::I16] {
            let sample = |v: u8| {
                if mode == ColorMode::L { vec![v] } else { vec![v, 0] }
            };
            let bytes = (0..64).flat_map(|i| sample(if i % 2 == 0 { 0 } else { 200 })).collect();
            let small = downscale(Pixels { mode, width: 64, height: 1, bytes }, 4, 1);
            assert_eq!((small.width, small.height), (4, 1));
            for value in small.bytes.chunks(mode.pixel_size()).map(|sample| sample[0]) {
                assert!((90..=110).contains(&value), "{value}");
            }
        }
    }
}
