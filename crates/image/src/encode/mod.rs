//! Pixels → the bytes of a media file, and back.
//!
//! The crate `safelight-png` writes PNG, the crate `image` the other file types. No other module uses them.

mod codecs;
mod downscale;
mod read;

use std::io;

pub use self::downscale::downscale;
pub use self::read::{ReadError, read, read_class_ids, read_samples};
pub(crate) use safelight_png::encoded_bytes_max;

use crate::convert::Pixels;
use crate::media::{ColorMode, Compression, FileType, Sha256};
use safelight_png::{ColorType, Settings};

/// A picture in the caller's memory, laid out like [`Pixels`].
#[derive(Debug, Clone, Copy)]
pub struct PixelsRef<'a> {
    /// The kind of picture.
    pub mode: ColorMode,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `height` × `width` × [`ColorMode::pixel_size`] bytes.
    pub samples: &'a [u8],
}

impl<'a> From<&'a Pixels> for PixelsRef<'a> {
    fn from(pixels: &'a Pixels) -> Self {
        let &Pixels { mode, width, height, ref bytes } = pixels;
        Self { mode, width, height, samples: bytes }
    }
}

impl<'a> PixelsRef<'a> {
    fn as_png(self) -> safelight_png::Picture<'a> {
        let Self { mode, width, height, samples } = self;
        let color_type = match mode {
            ColorMode::Bit => ColorType::Bit,
            ColorMode::L => ColorType::Gray,
            ColorMode::I16 => ColorType::Gray16,
            ColorMode::La => ColorType::GrayAlpha,
            ColorMode::Rgb => ColorType::Rgb,
            ColorMode::Rgba => ColorType::Rgba,
        };
        safelight_png::Picture { color_type, width, height, samples }
    }
}

impl From<Compression> for safelight_png::Compression {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::Fast => Self::Fast,
            Compression::Small => Self::Small,
        }
    }
}

/// A media file in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedImage {
    /// File type.
    pub file_type: FileType,
    /// The kind of picture.
    pub mode: ColorMode,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Contents of the file.
    pub bytes: Vec<u8>,
    /// Digest of `bytes`.
    pub sha256: Sha256,
}

/// How to encode a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    /// File type, one that [can be encoded](FileType::is_made).
    pub file_type: FileType,
    /// Quality of a JPEG, 1 to 100.
    pub quality: u8,
    /// Whether time or size matters more for a PNG.
    pub compression: Compression,
    /// Whether a PNG of at most 256 colours is written with indexed colours.
    pub palette: bool,
}

/// Default quality of a JPEG, as in Pillow.
pub const QUALITY: u8 = 75;

impl Default for Encoding {
    fn default() -> Self {
        Self {
            file_type: FileType::Png,
            quality: QUALITY,
            compression: Compression::Fast,
            palette: false,
        }
    }
}

/// A picture that the file type cannot hold. A plan does not let such pictures through.
#[derive(Debug, thiserror::Error)]
#[error("cannot encode {width} × {height} {mode} as {file_type}: {source}")]
pub struct EncodeError {
    file_type: FileType,
    mode: ColorMode,
    width: u32,
    height: u32,
    source: io::Error,
}

/// Encodes media files and reuses its buffers from one to the next. Use one for each thread.
#[derive(Debug)]
pub struct Encoder {
    png: safelight_png::Encoder,
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
        Self { png: safelight_png::Encoder::new() }
    }

    /// Returns an encoder that uses no vector instructions to pack bits. It makes the same files as
    /// [`Self::new`].
    #[must_use]
    pub fn scalar() -> Self {
        Self { png: safelight_png::Encoder::scalar() }
    }

    /// Encodes a picture and appends the file to `out`. WebP is lossless.
    ///
    /// # Errors
    /// If the file type cannot hold the picture, or the number of samples contradicts width and height.
    /// `out` may then end in a part of a file.
    pub fn encode(
        &mut self,
        pixels: PixelsRef<'_>,
        encoding: Encoding,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let PixelsRef { mode, width, height, .. } = pixels;
        let Encoding { file_type, quality, compression, palette } = encoding;
        let result = match file_type {
            FileType::Png => {
                let settings = Settings { compression: compression.into(), palette };
                self.png.encode(pixels.as_png(), settings, out).map_err(io::Error::other)
            }
            FileType::Jpg | FileType::Jpeg => codecs::jpeg(pixels, quality, out),
            FileType::Bmp => codecs::bmp(pixels, out),
            FileType::Webp => codecs::webp(pixels, out),
            FileType::Gif | FileType::Tiff => Err(io::ErrorKind::Unsupported.into()),
        };
        result.map_err(|source| EncodeError { file_type, mode, width, height, source })
    }
}

/// Encodes one picture. To encode many, use an [`Encoder`].
///
/// # Errors
/// As [`Encoder::encode`].
///
/// # Examples
///
/// ```
/// use safelight_image::encode::{Encoding, encode};
/// use safelight_image::media::ColorMode;
/// use safelight_image::Pixels;
///
/// let pixels = Pixels { mode: ColorMode::L, width: 2, height: 1, bytes: vec![0, 255] };
/// let image = encode(&pixels, Encoding::default())?;
/// assert!(image.bytes.starts_with(b"\x89PNG"));
/// # Ok::<(), safelight_image::encode::EncodeError>(())
/// ```
pub fn encode(pixels: &Pixels, encoding: Encoding) -> Result<EncodedImage, EncodeError> {
    let mut bytes = Vec::new();
    Encoder::new().encode(pixels.into(), encoding, &mut bytes)?;
    let &Pixels { mode, width, height, .. } = pixels;
    let sha256 = Sha256::of(&bytes);
    Ok(EncodedImage { file_type: encoding.file_type, mode, width, height, bytes, sha256 })
}

/// Returns the most memory in bytes that the PNG encoder's search for matches takes, in addition to samples
/// and file.
#[must_use]
pub(crate) const fn search_bytes(compression: Compression, n_sample_bytes: u64) -> u64 {
    let compression = match compression {
        Compression::Fast => safelight_png::Compression::Fast,
        Compression::Small => safelight_png::Compression::Small,
    };
    safelight_png::search_bytes(compression, n_sample_bytes)
}

/// Decodes a media file of [`encode`]. Black and white is returned as gray.
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
                let encoded = encode(&pixels, encoding).unwrap_or_else(|error| panic!("{error}"));
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
            let encoding = Encoding { file_type: FileType::Jpg, quality, ..Encoding::default() };
            encode(&ramp, encoding).unwrap_or_else(|error| panic!("{error}")).bytes
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
        let encoded = encode(&bits, Encoding::default()).unwrap_or_else(|error| panic!("{error}"));
        // Width, height, bit depth, colour type.
        assert_eq!(encoded.bytes[16..26], [0, 0, 0, 9, 0, 0, 0, 2, 1, 0]);
        assert_eq!(decode(&encoded.bytes).bytes, bytes);
    }

    #[test]
    fn what_a_file_type_cannot_hold_is_an_error() {
        let encoding = Encoding { file_type: FileType::Jpg, ..Encoding::default() };
        let error = encode(&pixels(ColorMode::La, 2, 3), encoding).map(|_| ());
        let error = error.map_err(|error| error.to_string());
        assert!(error.is_err_and(|error| error.contains("cannot encode 2 × 3 LA as jpg")));
    }
}
