//! Makes thumbnails: decodes a picture, makes it smaller and encodes it. Pure but for reading the file.

use std::collections::HashSet;
use std::io::{BufRead, Seek};

use png::{BitDepth, ColorType, Decoder, DecodingError, Transformations};

use super::shrink::{Shrink, sum_bytes};
use crate::convert::Pixels;
use crate::encode::{self, Encoding, PixelsRef};
use crate::media::{ColorMode, FileType};

/// The most pixels of a PNG, which is decoded row by row.
const PNG_PIXELS_MAX: u64 = 1 << 30;

/// The most pixels of another picture, which is decoded as a whole.
pub(super) const PIXELS_MAX: u64 = 32_000_000;

/// The quality of a JPEG.
const QUALITY: u8 = 80;

/// A PNG of few colours is never too large at this many bytes.
const SMALL_BYTES: usize = 4 << 10;

/// Why a thumbnail cannot be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum MakeError {
    #[error("the picture cannot be decoded: {0}")]
    Unreadable(String),
    #[error("it takes {needed} bytes of memory, at most {allowed} are allowed")]
    Memory { needed: u64, allowed: u64 },
    #[error("got {got} pixels, want at most {want}")]
    Pixels { got: u64, want: u64 },
}

impl From<DecodingError> for MakeError {
    fn from(error: DecodingError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// An encoded thumbnail.
pub(super) struct Made {
    pub(super) file_type: FileType,
    pub(super) bytes: Vec<u8>,
}

/// Makes a thumbnail of a PNG. `bytes_max` limits the memory, beside that of the file.
///
/// # Errors
/// If the PNG is damaged, or has too many pixels.
pub(super) fn of_png<R: BufRead + Seek>(
    file: R,
    longest: u32,
    bytes_max: u64,
) -> Result<Option<Made>, MakeError> {
    let limit = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    let mut decoder = Decoder::new_with_limits(file, png::Limits { bytes: limit });
    // To 8 bits, as a browser does; palettes to colours; a transparent colour to alpha.
    decoder.set_transformations(Transformations::normalize_to_color8());
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let info = decoder.read_header_info()?;
    let (width, height) = info.size();
    if info.interlaced {
        return Ok(None);
    }
    let n_pixels = u64::from(width) * u64::from(height);
    check_pixels(n_pixels, PNG_PIXELS_MAX)?;
    // Sums, and two rows of at most 4 samples of 16 bits with the decoder.
    let n_samples = u64::from(width) * 4;
    check_memory(sum_bytes(n_samples) + n_samples * 4, bytes_max)?;
    let mut reader = decoder.read_info()?;
    let (color, depth) = reader.output_color_type();
    if depth != BitDepth::Eight {
        return Err(MakeError::Unreadable(format!("got {depth:?}, want 8 bits")));
    }
    let mode = match color {
        ColorType::Grayscale => ColorMode::L,
        ColorType::GrayscaleAlpha => ColorMode::La,
        ColorType::Rgb => ColorMode::Rgb,
        ColorType::Rgba => ColorMode::Rgba,
        ColorType::Indexed => {
            return Err(MakeError::Unreadable("got a palette, want colours".to_owned()));
        }
    };
    let mut shrink = Shrink::new(mode, (width, height), longest);
    while let Some(row) = reader.next_row()? {
        shrink.row(row.data());
    }
    encoded(shrink.finish()).map(Some)
}

/// Makes a thumbnail of a picture of any kind that is in memory. `bytes_max` limits the memory beside that of the file.
///
/// # Errors
/// If the picture is damaged, of an unknown kind, or too large.
pub(super) fn of_any(file: &[u8], longest: u32, bytes_max: u64) -> Result<Made, MakeError> {
    // `read` allows 8 bytes for a pixel. Nearly all pictures have 3 or 4.
    let pixels_max = bytes_max.min(PIXELS_MAX * 4) / 8;
    let pixels = encode::read(file, pixels_max);
    let Pixels { mode, width, height, bytes } =
        pixels.map_err(|error| MakeError::Unreadable(error.to_string()))?;
    let mut shrink = Shrink::new(mode, (width, height), longest);
    let n_row = width as usize * mode.n_channels();
    if n_row > 0 {
        bytes.chunks_exact(n_row).for_each(|row| shrink.row(row));
    }
    encoded(shrink.finish())
}

/// Checks that a picture has at most `want` pixels.
pub(super) fn check_pixels(got: u64, want: u64) -> Result<(), MakeError> {
    if got <= want { Ok(()) } else { Err(MakeError::Pixels { got, want }) }
}

/// Checks that memory of `needed` bytes may be used.
pub(super) fn check_memory(needed: u64, allowed: u64) -> Result<(), MakeError> {
    if needed <= allowed { Ok(()) } else { Err(MakeError::Memory { needed, allowed }) }
}

/// Encodes a small picture: as PNG if it has alpha or few colours, else as JPEG.
fn encoded(pixels: Pixels) -> Result<Made, MakeError> {
    let pixels = without_full_alpha(pixels);
    let png = if pixels.mode.has_alpha() || has_few_colors(&pixels) {
        let png = written(&pixels, FileType::Png)?;
        if pixels.mode.has_alpha() || png.bytes.len() <= SMALL_BYTES {
            return Ok(png);
        }
        Some(png)
    } else {
        None
    };
    let jpeg = written(&pixels, FileType::Jpeg)?;
    // Gray photographs have few colours, but are no drawings.
    Ok(png.filter(|png| png.bytes.len() <= 2 * jpeg.bytes.len()).unwrap_or(jpeg))
}

fn written(pixels: &Pixels, file_type: FileType) -> Result<Made, MakeError> {
    let mut bytes = Vec::new();
    let encoding = Encoding { file_type, quality: QUALITY, palette: true, ..Encoding::default() };
    let result = encode::Encoder::new().encode(PixelsRef::from(pixels), encoding, &mut bytes);
    result.map_err(|error| MakeError::Unreadable(error.to_string()))?;
    Ok(Made { file_type, bytes })
}

/// Removes alpha if all of it is opaque.
fn without_full_alpha(pixels: Pixels) -> Pixels {
    let Pixels { mode, width, height, bytes } = pixels;
    let n = mode.n_channels();
    if !mode.has_alpha() || bytes.chunks_exact(n).any(|pixel| pixel[n - 1] != u8::MAX) {
        return Pixels { mode, width, height, bytes };
    }
    let bytes = bytes.chunks_exact(n).flat_map(|pixel| &pixel[..n - 1]).copied().collect();
    Pixels { mode: mode.opaque(), width, height, bytes }
}

/// Whether a picture has at most 256 colours.
fn has_few_colors(pixels: &Pixels) -> bool {
    let n = pixels.mode.n_channels();
    let mut seen = HashSet::new();
    let mut last = &[][..];
    for pixel in pixels.bytes.chunks_exact(n) {
        if pixel != last && seen.insert(pixel) && seen.len() > 256 {
            return false;
        }
        last = pixel;
    }
    true
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use super::super::tests::chunk;
    use super::*;
    use crate::encode::encode;

    const MEMORY: u64 = 128 << 20;

    /// A picture like a photograph: smooth, with many colours.
    fn photograph(mode: ColorMode, width: u32, height: u32) -> Pixels {
        let mut bytes = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let wave = |k: u32| u8::try_from((x * k + y * (7 - k) + x * y / 97) / 3 % 256);
                bytes.extend((1..).take(mode.n_channels()).map(|k| wave(k).unwrap_or(0)));
            }
        }
        Pixels { mode, width, height, bytes }
    }

    fn file(pixels: &Pixels, file_type: FileType) -> Vec<u8> {
        encode(pixels, Encoding { file_type, quality: 95, ..Encoding::default() })
            .expect("a file")
            .bytes
    }

    fn size_of(made: &Made) -> (u32, u32) {
        let pixels = encode::read(&made.bytes, 1 << 20).expect("a picture");
        (pixels.width, pixels.height)
    }

    #[test]
    fn photographs_become_jpegs_whatever_they_were() {
        let pixels = photograph(ColorMode::Rgb, 640, 480);
        let png = of_png(Cursor::new(file(&pixels, FileType::Png)), 128, MEMORY);
        let png = png.expect("a picture").expect("not interlaced");
        assert_eq!((png.file_type, size_of(&png)), (FileType::Jpeg, (128, 96)));
        for file_type in [FileType::Jpg, FileType::Bmp, FileType::Webp, FileType::Png] {
            let made = of_any(&file(&pixels, file_type), 128, MEMORY).expect("a picture");
            assert_eq!(
                (made.file_type, size_of(&made)),
                (FileType::Jpeg, (128, 96)),
                "{file_type}"
            );
            if file_type != FileType::Jpg {
                assert_eq!(made.bytes, png.bytes, "{file_type}");
            }
        }
    }

    #[test]
    fn few_colours_and_alpha_stay_exact() {
        let mut labels = photograph(ColorMode::Rgb, 512, 512);
        for (i, pixel) in labels.bytes.chunks_exact_mut(3).enumerate() {
            let color = [[200, 30, 30], [30, 200, 30]][i % 512 / 256];
            pixel.copy_from_slice(&color);
        }
        let made = of_png(Cursor::new(file(&labels, FileType::Png)), 256, MEMORY);
        let made = made.expect("a picture").expect("not interlaced");
        // Bit depth 1, palette.
        assert_eq!((made.file_type, &made.bytes[24..26]), (FileType::Png, &[1, 3][..]));
        let mut cut_out = photograph(ColorMode::Rgba, 300, 300);
        let made = |pixels: &Pixels| {
            let made = of_png(Cursor::new(file(pixels, FileType::Png)), 128, MEMORY);
            made.expect("a picture").expect("not interlaced")
        };
        let alpha = made(&cut_out);
        assert_eq!((alpha.file_type, alpha.bytes[25]), (FileType::Png, 6));
        // An alpha that is opaque everywhere is none.
        cut_out.bytes.iter_mut().skip(3).step_by(4).for_each(|alpha| *alpha = 255);
        assert_eq!(made(&cut_out).file_type, FileType::Jpeg);
    }

    #[test]
    fn gray_and_16_bits_look_as_in_a_browser() {
        let gray = photograph(ColorMode::L, 400, 200);
        let wide = gray.bytes.iter().flat_map(|&byte| [0x5a, byte]).collect();
        let wide = Pixels { mode: ColorMode::I16, bytes: wide, ..gray.clone() };
        let made = |pixels: &Pixels| {
            let made = of_png(Cursor::new(file(pixels, FileType::Png)), 128, MEMORY);
            made.expect("a picture").expect("not interlaced").bytes
        };
        assert_eq!(made(&gray), made(&wide));
        let bits = gray.bytes.iter().map(|&byte| if byte > 99 { 255 } else { 0 }).collect();
        let bits = Pixels { mode: ColorMode::Bit, bytes: bits, ..gray };
        assert!(!made(&bits).is_empty());
    }

    #[test]
    fn an_interlaced_picture_is_decoded_as_a_whole() {
        let rows: Vec<u8> = (0..200).map(|x| x / 100 * 200).collect();
        // The passes of Adam7 that have pixels of a single row: the first column and the distance.
        let mut samples = Vec::new();
        for (first, every) in [(0, 8), (4, 8), (2, 4), (1, 2)] {
            samples.push(0);
            samples.extend(rows.iter().skip(first).step_by(every));
        }
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(&samples).expect("memory");
        let header = [&200u32.to_be_bytes()[..], &1u32.to_be_bytes(), &[8, 0, 0, 0, 1]].concat();
        let data = zlib.finish().expect("memory");
        let chunks = [chunk(*b"IHDR", &header), chunk(*b"IDAT", &data), chunk(*b"IEND", b"")];
        let file = [&b"\x89PNG\r\n\x1a\n"[..], &chunks.concat()].concat();
        let rows = of_png(Cursor::new(&file), 128, MEMORY).expect("a picture");
        assert!(rows.is_none());
        let made = of_any(&file, 128, MEMORY).expect("a picture");
        let pixels = encode::read(&made.bytes, 1 << 20).expect("a picture");
        assert_eq!((pixels.width, pixels.height), (128, 1));
        assert_eq!((pixels.bytes[0], pixels.bytes[127 * 3]), (0, 200));
    }

    #[test]
    fn what_is_damaged_or_too_large_is_an_error() {
        let whole = file(&photograph(ColorMode::Rgb, 300, 300), FileType::Png);
        for bytes in [&whole[..whole.len() / 2], &whole[..20], b"<svg onload=alert(1)>", b""] {
            let error = of_png(Cursor::new(bytes), 128, MEMORY).err();
            assert!(matches!(error, Some(MakeError::Unreadable(_))), "{error:?}");
            assert!(matches!(of_any(bytes, 128, MEMORY), Err(MakeError::Unreadable(_))));
        }
        let header = |width: u32, height: u32| {
            let mut bytes = whole.clone();
            bytes[16..20].copy_from_slice(&width.to_be_bytes());
            bytes[20..24].copy_from_slice(&height.to_be_bytes());
            let crc = crc32fast::hash(&bytes[12..29]);
            bytes[29..33].copy_from_slice(&crc.to_be_bytes());
            bytes
        };
        let of = |bytes: Vec<u8>| of_png(Cursor::new(bytes), 128, MEMORY).err();
        assert!(matches!(of(header(1 << 20, 1 << 20)), Some(MakeError::Pixels { .. })));
        assert!(matches!(of(header(1 << 30, 1)), Some(MakeError::Memory { .. })));
        // It says more rows than it has.
        assert!(matches!(of(header(300, 3_000_000)), Some(MakeError::Unreadable(_))));
        let large = file(&photograph(ColorMode::Rgb, 800, 800), FileType::Png);
        assert!(of_any(&large, 128, 10_000).is_err());
    }
}
