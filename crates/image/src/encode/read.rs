//! A media file → pixels, for thumbnails and overlays.

use std::io::Cursor;

use image::error::{LimitError, LimitErrorKind};
use image::{DynamicImage, ImageReader, Limits};

use crate::convert::Pixels;
use crate::media::ColorMode;
use crate::tensor::DType;
use crate::values::Values;

/// A media file that cannot be decoded: damaged, or an image file of a job in an unknown variant.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the picture: {0}")]
pub struct ReadError(#[from] image::ImageError);

/// Decodes a media file of at most `pixels_max` pixels.
///
/// Returns RGBA if the file has alpha, else RGB, of 8 bits. Of an animation, returns the first picture.
///
/// # Errors
/// If the file is damaged, of an unknown type, or has more pixels.
pub fn read(bytes: &[u8], pixels_max: u64) -> Result<Pixels, ReadError> {
    let picture = decoded(bytes, pixels_max)?;
    let (width, height) = (picture.width(), picture.height());
    let (mode, bytes) = if picture.color().has_alpha() {
        (ColorMode::Rgba, picture.into_rgba8().into_raw())
    } else {
        (ColorMode::Rgb, picture.into_rgb8().into_raw())
    };
    Ok(Pixels { mode, width, height, bytes })
}

/// Decodes a media file of at most `pixels_max` pixels to its samples: of 16 bits if the file has such, else of 8 bits.
///
/// # Errors
/// As [`read`].
pub fn read_samples(bytes: &[u8], pixels_max: u64) -> Result<Values, ReadError> {
    let picture = decoded(bytes, pixels_max)?;
    let wide = |samples: Vec<u16>| samples.into_iter().flat_map(u16::to_le_bytes).collect();
    let size = [picture.height() as usize, picture.width() as usize];
    let (dtype, n_channels, bytes) = match picture {
        DynamicImage::ImageLuma8(it) => (DType::U8, 1, it.into_raw()),
        DynamicImage::ImageLumaA8(it) => (DType::U8, 2, it.into_raw()),
        DynamicImage::ImageRgb8(it) => (DType::U8, 3, it.into_raw()),
        DynamicImage::ImageRgba8(it) => (DType::U8, 4, it.into_raw()),
        DynamicImage::ImageLuma16(it) => (DType::U16, 1, wide(it.into_raw())),
        DynamicImage::ImageLumaA16(it) => (DType::U16, 2, wide(it.into_raw())),
        DynamicImage::ImageRgb16(it) => (DType::U16, 3, wide(it.into_raw())),
        DynamicImage::ImageRgba16(it) => (DType::U16, 4, wide(it.into_raw())),
        other => (DType::U8, 4, other.into_rgba8().into_raw()),
    };
    let values = Values::new(dtype, [size[0], size[1], n_channels], bytes);
    values.ok_or_else(|| {
        ReadError(image::ImageError::Limits(LimitError::from_kind(LimitErrorKind::DimensionError)))
    })
}

/// Decodes the file of a mask. Returns its width, its height, and the class id of each pixel, row by row.
///
/// The class id is the gray value of 8 or 16 bits, or the red value of a mask in colour.
///
/// # Errors
/// As [`read`].
pub fn read_class_ids(bytes: &[u8], pixels_max: u64) -> Result<(u32, u32, Vec<u16>), ReadError> {
    let picture = decoded(bytes, pixels_max)?;
    let (width, height) = (picture.width(), picture.height());
    let ids = match picture {
        DynamicImage::ImageLuma8(gray) => gray.into_raw().into_iter().map(u16::from).collect(),
        DynamicImage::ImageLuma16(gray) => gray.into_raw(),
        colored => colored.into_rgb8().pixels().map(|pixel| pixel.0[0].into()).collect(),
    };
    Ok((width, height, ids))
}

fn decoded(bytes: &[u8], pixels_max: u64) -> Result<DynamicImage, ReadError> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let mut reader = reader.map_err(image::ImageError::IoError)?;
    let mut limits = Limits::default();
    // A pixel takes at most four channels of 16 bits.
    limits.max_alloc = Some(pixels_max.saturating_mul(8).saturating_add(1 << 20));
    reader.limits(limits);
    Ok(reader.decode()?)
}

#[cfg(test)]
mod tests {
    use super::super::{Encoding, encode};
    use super::*;
    use crate::media::FileType;

    #[test]
    fn what_was_encoded_is_read() {
        for (mode, read_as) in [(ColorMode::L, ColorMode::Rgb), (ColorMode::Rgba, ColorMode::Rgba)]
        {
            for file_type in [FileType::Png, FileType::Bmp, FileType::Webp] {
                let n = 20 * mode.pixel_size();
                let bytes: Vec<u8> = (0..n).map(|i| u8::try_from(i * 3).unwrap_or(0)).collect();
                let pixels = Pixels { mode, width: 5, height: 4, bytes };
                let file = encode(&pixels, Encoding { file_type, ..Encoding::default() });
                let got = read(&file.expect("a file").bytes, 20).expect("a picture");
                assert_eq!((got.mode, got.width, got.height), (read_as, 5, 4), "{file_type}");
                let of_pixel = read_as.pixel_size() / mode.pixel_size();
                let first: Vec<u8> = got.bytes.iter().step_by(of_pixel).copied().collect();
                assert_eq!(first, pixels.bytes, "{file_type}");
            }
        }
    }

    #[test]
    fn what_is_no_picture_or_too_large_is_an_error() {
        for bytes in [&b""[..], b"\x89PNG\r\n\x1a\n", b"text"] {
            assert!(read(bytes, 1 << 20).is_err(), "{bytes:?}");
        }
        let (width, height) = (1000, 1000);
        let large = Pixels { mode: ColorMode::Rgb, width, height, bytes: vec![7; 3_000_000] };
        let file = encode(&large, Encoding::default()).expect("a file");
        assert!(read(&file.bytes, 1 << 10).is_err());
        assert!(read(&file.bytes, 1_000_000).is_ok());
    }

    #[test]
    fn samples_are_read_as_they_are() {
        for mode in [ColorMode::L, ColorMode::La, ColorMode::Rgb, ColorMode::Rgba, ColorMode::I16] {
            let n = 20 * mode.pixel_size();
            let bytes: Vec<u8> = (0..n).map(|i| u8::try_from(i * 3).unwrap_or(0)).collect();
            let pixels = Pixels { mode, width: 5, height: 4, bytes };
            let file = encode(&pixels, Encoding::default()).expect("a file");
            let got = read_samples(&file.bytes, 20).expect("a picture");
            assert_eq!(Some(got), Values::of_pixels(pixels), "{mode}");
        }
        assert!(read_samples(b"text", 1 << 20).is_err());
    }

    #[test]
    fn class_ids_are_read_as_they_are() {
        let narrow = Pixels { mode: ColorMode::L, width: 3, height: 1, bytes: vec![0, 7, 255] };
        let wide = [0u16, 256, 65535].into_iter().flat_map(u16::to_le_bytes).collect();
        let wide = Pixels { mode: ColorMode::I16, width: 3, height: 1, bytes: wide };
        for (pixels, want) in [(narrow, vec![0, 7, 255]), (wide, vec![0, 256, 65535])] {
            let file = encode(&pixels, Encoding::default()).expect("a file");
            assert_eq!(read_class_ids(&file.bytes, 3).expect("a mask"), (3, 1, want));
        }
    }
}
