//! The headers of image files.
//!
//! Image files are kept unchanged, so their pixels are not decoded. Only their size is read, and their
//! [end] is looked for if the format has one, to notice files that are still being written.

mod end;
mod tiff;

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use imagesize::ImageError;

use super::{DecodeError, ReadAt};
use crate::media::{ColorMode, FileType};

/// The header of an image file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PictureHeader {
    /// File type.
    pub file_type: FileType,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// The mode, if it is known and Safelight has it.
    pub mode: Option<ColorMode>,
    /// Length of the file, in bytes.
    pub n_bytes: u64,
}

/// Reads the header of an image file. Returns `None` if `start`, the first bytes, are not those of one.
///
/// # Errors
/// `Unfinished` if the end of the file is missing, `Malformed` if the header is damaged, `OverLimit` if the
/// header of a JPEG is longer than `header_bytes_max`.
pub(super) fn header(
    dump: &impl ReadAt,
    start: &[u8],
    header_bytes_max: u64,
) -> Result<Option<PictureHeader>, DecodeError> {
    let Some(file_type) = kind(start) else { return Ok(None) };
    let name = file_type.extension();
    let (width, height) = match file_type {
        FileType::Jpg | FileType::Jpeg => end::jpeg(dump, header_bytes_max)?,
        FileType::Bmp => bmp_size(dump)?,
        _ => {
            check_end(dump, file_type, header_bytes_max)?;
            let from = BufReader::new(Cursor { dump, at: 0 });
            let size = imagesize::reader_size(from).map_err(|error| of_size(error, name))?;
            let side = |side: usize| u64::try_from(side).unwrap_or(u64::MAX);
            (side(size.width), side(size.height))
        }
    };
    let side = |side: u64| u32::try_from(side).ok().filter(|&side| side > 0);
    let (Some(width), Some(height)) = (side(width), side(height)) else {
        return Err(DecodeError::Malformed(format!("{name} of {width} × {height} pixels")));
    };
    let mode = if file_type == FileType::Png { png_mode(dump)? } else { None };
    Ok(Some(PictureHeader { file_type, width, height, mode, n_bytes: dump.n_bytes() }))
}

fn of_size(error: ImageError, name: &str) -> DecodeError {
    match error {
        ImageError::IoError(error) => match error.kind() {
            io::ErrorKind::UnexpectedEof => unfinished(),
            // The header points outside of the file.
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                DecodeError::Malformed(format!("{name}: {error}"))
            }
            _ => error.into(),
        },
        error => DecodeError::Malformed(format!("{name}: {error}")),
    }
}

fn unfinished() -> DecodeError {
    DecodeError::Unfinished("an image file without its end")
}

/// Reads `N` bytes. `Unfinished` if they are missing.
fn bytes_at<const N: usize>(dump: &impl ReadAt, offset: u64) -> Result<[u8; N], DecodeError> {
    let mut bytes = [0; N];
    match dump.read_exact_at(&mut bytes, offset) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(unfinished()),
        result => Ok(result.map(|()| bytes)?),
    }
}

/// Returns width and height of a BMP file. A negative height means that rows begin at the top.
fn bmp_size(dump: &impl ReadAt) -> Result<(u64, u64), DecodeError> {
    let number = |at| Ok::<_, DecodeError>(u32::from_le_bytes(bytes_at(dump, at)?));
    if dump.n_bytes() < u64::from(number(2)?) {
        return Err(unfinished());
    }
    if number(14)? == 12 {
        let [w0, w1, h0, h1] = bytes_at(dump, 18)?;
        let side = |low, high| u64::from(u16::from_le_bytes([low, high]));
        return Ok((side(w0, w1), side(h0, h1)));
    }
    let height = number(22)?.cast_signed().unsigned_abs();
    Ok((number(18)?.into(), height.into()))
}

/// Returns the mode for the bit depth and colour type of a PNG file.
fn png_mode(dump: &impl ReadAt) -> io::Result<Option<ColorMode>> {
    const PLACE: u64 = 24;
    let mut depth_and_color = [0; 2];
    dump.read_exact_at(&mut depth_and_color, PLACE)?;
    Ok(match depth_and_color {
        [1, 0] => Some(ColorMode::Bit),
        [8, 0] => Some(ColorMode::L),
        [16, 0] => Some(ColorMode::I16),
        [8, 2] => Some(ColorMode::Rgb),
        [8, 4] => Some(ColorMode::La),
        [8, 6] => Some(ColorMode::Rgba),
        _ => None,
    })
}

/// Returns the file type that the first bytes are a signature of.
fn kind(start: &[u8]) -> Option<FileType> {
    Some(match start {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => FileType::Png,
        [0xff, 0xd8, 0xff, ..] => FileType::Jpg,
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => FileType::Gif,
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => FileType::Webp,
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => FileType::Tiff,
        // Two letters are a weak signature. The length of the second header makes it stronger.
        [b'B', b'M', ..]
            if matches!(start.get(14), None | Some(12 | 40 | 52 | 56 | 64 | 108 | 124)) =>
        {
            FileType::Bmp
        }
        _ => return None,
    })
}

/// Checks that the file has its end. Bytes behind it are ignored.
fn check_end(
    dump: &impl ReadAt,
    file_type: FileType,
    header_bytes_max: u64,
) -> Result<(), DecodeError> {
    match file_type {
        FileType::Png => end::png(dump).map(drop),
        FileType::Gif => end::gif(dump).map(drop),
        FileType::Tiff => tiff::check(dump, header_bytes_max),
        FileType::Webp => {
            let n = u64::from(u32::from_le_bytes(bytes_at(dump, 4)?)) + 8;
            if dump.n_bytes() >= n { Ok(()) } else { Err(unfinished()) }
        }
        _ => Ok(()),
    }
}

/// A dump, read in order.
struct Cursor<'a, R> {
    dump: &'a R,
    at: u64,
}

impl<R: ReadAt> Read for Cursor<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.dump.n_bytes().saturating_sub(self.at).min(buffer.len() as u64);
        let n = usize::try_from(n).unwrap_or(0);
        self.dump.read_exact_at(&mut buffer[..n], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl<R: ReadAt> Seek for Cursor<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.dump.n_bytes().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(file: &[u8]) -> String {
        match header(&file, &file[..file.len().min(16)], 1 << 20) {
            Ok(Some(PictureHeader { file_type, width, height, .. })) => {
                format!("{file_type} {width} × {height}")
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_jpeg_ends_after_its_picture_not_after_its_thumbnail() {
        let mut file = b"\xff\xd8\xff\xe1\x00\x0eExif\x00\x00thumb\xff".to_vec();
        // The end of the thumbnail, within the first segment.
        file[17] = 0xff;
        file.extend(b"\xff\xc0\x00\x0b\x08\x00\x07\x00\x05\x01\x01\x11\x00");
        file.extend(b"\xff\xda\x00\x02data");
        assert!(described(&file).contains("without its end"), "{}", described(&file));
        file.extend(b"\xff\xd9");
        assert_eq!(described(&file), "jpg 5 × 7");
        assert!(described(b"\xff\xd8\xff\xfe\x00\x02\x00\x00").contains("Malformed"));
        assert!(described(b"\xff\xd8\xff").contains("without its end"));
    }

    #[test]
    fn a_bmp_may_begin_at_the_top() {
        let mut file = b"BM".to_vec();
        file.extend([26u32, 0, 26, 40, 5].iter().flat_map(|n| n.to_le_bytes()));
        file.extend((-7i32).to_le_bytes());
        assert_eq!(described(&file), "bmp 5 × 7");
        assert!(described(&file[..20]).contains("without its end"));
    }

    #[test]
    fn a_cut_file_waits_and_bytes_after_the_end_are_ignored() {
        macro_rules! picture {
            ($name:literal) => {
                ($name, include_bytes!(concat!("../../../../../fuzz/pictures/", $name)).as_slice())
            };
        }
        for (name, file) in [
            picture!("big.tiff"),
            picture!("bigtiff.tiff"),
            picture!("little.tiff"),
            picture!("lossless.webp"),
            picture!("lossy.webp"),
            picture!("exif.webp"),
            picture!("rgb.bmp"),
            picture!("rgb.jpg"),
            picture!("progressive.jpg"),
            picture!("gray-16.png"),
            picture!("gray.gif"),
        ] {
            let whole = described(file);
            assert!(whole.contains(" × "), "{name}: {whole}");
            for tail in [vec![0; 100_000], b"II*\0".to_vec(), file[..20].to_vec()] {
                assert_eq!(described(&[file, &*tail].concat()), whole, "{name}");
            }
            // The first bytes say what the file is.
            for n_cut in 16..file.len() {
                let cut = described(&file[..n_cut]);
                assert!(cut.contains("without its end"), "{name} of {n_cut}: {cut}");
            }
        }
    }

    #[test]
    fn headers_that_point_nowhere_are_malformed() {
        let tiff = [b"II*\0".as_slice(), &[0xff; 60]].concat();
        assert!(
            described(&tiff).contains("Malformed") || described(&tiff).contains("Unfinished"),
            "{}",
            described(&tiff)
        );
        let webp = [b"RIFF\x10\0\0\0WEBPVP8?".as_slice(), &[0; 40]].concat();
        assert!(described(&webp).contains("Malformed"), "{}", described(&webp));
    }
}
