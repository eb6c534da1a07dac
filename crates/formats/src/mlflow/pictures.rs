//! A media file → the pictures that `MLflow`'s page shows.

use safelight_image::convert::Pixels;
use safelight_image::encode::{self, EncodeError, Encoding, ReadError};
use safelight_image::media::FileType;

/// The pictures that the page shows of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pictures {
    /// The whole picture as PNG. `None` if the page can show the media file.
    pub whole: Option<Vec<u8>>,
    /// A PNG whose longest side is at most 256. The page does not scale it.
    pub thumbnail: Vec<u8>,
}

/// The most pixels of a picture that gets a thumbnail: 4096 × 4096. Decoded, it takes up to 200 MB.
pub const PIXELS_MAX: u64 = 1 << 24;

/// The longest side of a thumbnail.
const SIDE: u32 = 256;

/// Why no picture can be made.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The file type is not supported, the file is damaged, or the picture is too large.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The encoder failed.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Makes the pictures that the page shows of a media file.
///
/// # Errors
/// If the file type is not supported, the file is damaged, or the picture has too many pixels.
pub fn pictures(file: &[u8], file_type: FileType) -> Result<Pictures, PictureError> {
    let pixels = encode::read(file, PIXELS_MAX)?;
    // The page reads only *.png and *.webp.
    let is_shown = matches!(file_type, FileType::Png | FileType::Webp);
    let png =
        |pixels: &Pixels| encode::encode(pixels, Encoding::default()).map(|image| image.bytes);
    let whole = if is_shown { None } else { Some(png(&pixels)?) };
    Ok(Pictures { whole, thumbnail: png(&thumbnail(pixels))? })
}

/// Returns the picture scaled so that its longest side is about [`SIDE`]. Each pixel of a small picture becomes a
/// square.
fn thumbnail(pixels: Pixels) -> Pixels {
    let (width, height) = (pixels.width, pixels.height);
    let longest = width.max(height).max(1);
    if longest > SIDE {
        let scaled = |side: u32| {
            let side = u64::from(side) * u64::from(SIDE) / u64::from(longest);
            u32::try_from(side).unwrap_or(SIDE).max(1)
        };
        return encode::downscale(pixels, scaled(width), scaled(height));
    }
    enlarged(pixels, (SIDE / longest) as usize)
}

fn enlarged(pixels: Pixels, factor: usize) -> Pixels {
    let Pixels { mode, width, height, bytes } = pixels;
    let size = mode.pixel_size();
    let mut large = Vec::with_capacity(bytes.len() * factor * factor);
    for row in bytes.chunks(width as usize * size) {
        let row: Vec<u8> = row.chunks(size).flat_map(|pixel| pixel.repeat(factor)).collect();
        (0..factor).for_each(|_| large.extend_from_slice(&row));
    }
    let times = u32::try_from(factor).unwrap_or(1);
    Pixels { mode, width: width * times, height: height * times, bytes: large }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safelight_image::media::ColorMode;

    fn made(mode: ColorMode, width: u32, height: u32, file_type: FileType) -> (Pixels, Vec<u8>) {
        let n = width as usize * height as usize * mode.pixel_size();
        let bytes = (0..n).map(|i| u8::try_from(i * 7 % 251).unwrap_or(0)).collect();
        let pixels = Pixels { mode, width, height, bytes };
        let encoding = Encoding { file_type, ..Encoding::default() };
        let file = encode::encode(&pixels, encoding).expect("a file").bytes;
        (pixels, file)
    }

    #[test]
    fn thumbnails_have_a_longest_side_of_about_256() {
        for (width, height, want) in [
            (28, 28, (252, 252)),
            (1, 1, (256, 256)),
            (256, 10, (256, 10)),
            (1024, 512, (256, 128)),
            (300, 1, (256, 1)),
            (1, 300, (1, 256)),
        ] {
            for mode in [ColorMode::L, ColorMode::Rgba] {
                let (_, file) = made(mode, width, height, FileType::Png);
                let got = pictures(&file, FileType::Png).expect("pictures");
                let thumbnail = encode::read(&got.thumbnail, 1 << 20).expect("a picture");
                assert_eq!((thumbnail.width, thumbnail.height), want);
                assert_eq!(got.whole, None);
            }
        }
    }

    #[test]
    fn each_pixel_of_a_small_picture_is_a_square() {
        let bytes = vec![1, 2, 3, 4, 5, 6];
        let pixels = Pixels { mode: ColorMode::Rgb, width: 2, height: 1, bytes };
        let want = [1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6].repeat(2);
        assert_eq!(enlarged(pixels, 2).bytes, want);
    }

    #[test]
    fn what_the_page_cannot_show_is_made_a_png() {
        for file_type in [FileType::Bmp, FileType::Jpg] {
            let (pixels, file) = made(ColorMode::Rgb, 64, 48, file_type);
            let whole = pictures(&file, file_type).expect("pictures").whole.expect("a picture");
            let whole = encode::read(&whole, 1 << 20).expect("a picture");
            assert_eq!((whole.width, whole.height), (64, 48));
            assert!(file_type == FileType::Jpg || whole == pixels);
        }
        let (_, file) = made(ColorMode::Rgb, 64, 48, FileType::Webp);
        assert_eq!(pictures(&file, FileType::Webp).expect("pictures").whole, None);
        assert!(pictures(b"II*\0", FileType::Tiff).is_err());
    }
}
