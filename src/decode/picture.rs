//! Image files that are kept as they are: what their headers say. Pure.
//!
//! The bytes are never changed, and not decoded: what a picture shows is its writer's business. Only
//! that the file is whole is checked, as far as its format tells.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use imagesize::ImageError;

use super::{DecodeError, ReadAt};
use crate::media::{ColorMode, FileType};

/// What an image file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PictureHeader {
    /// How it is encoded.
    pub file_type: FileType,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// The kind of picture, where it is one of ours.
    pub mode: Option<ColorMode>,
    /// Bytes of the file.
    pub n_bytes: u64,
}

/// The header of an image file, by its first bytes; `None` if it is none.
///
/// # Errors
/// `Unfinished` if the file's end is missing, `Malformed` if its header makes no sense.
pub(super) fn header(
    dump: &impl ReadAt,
    start: &[u8],
) -> Result<Option<PictureHeader>, DecodeError> {
    let Some(file_type) = kind(start) else { return Ok(None) };
    check_end(dump, file_type)?;
    let name = file_type.extension();
    let from = BufReader::new(Cursor { dump, at: 0 });
    let size = imagesize::reader_size(from).map_err(|error| match error {
        ImageError::IoError(error) => match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                DecodeError::Unfinished("an image file that ends in its header")
            }
            // The header points to places that no file has.
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                DecodeError::Malformed(format!("{name}: {error}"))
            }
            _ => error.into(),
        },
        error => DecodeError::Malformed(format!("{name}: {error}")),
    })?;
    let side = |side: usize| u32::try_from(side).ok().filter(|&side| side > 0);
    let (Some(width), Some(height)) = (side(size.width), side(size.height)) else {
        let (width, height) = (size.width, size.height);
        return Err(DecodeError::Malformed(format!("{name} of {width} × {height} pixels")));
    };
    let mode = if file_type == FileType::Png { png_mode(dump)? } else { None };
    Ok(Some(PictureHeader { file_type, width, height, mode, n_bytes: dump.n_bytes() }))
}

/// The mode that the bit depth and colour type of a PNG file stand for.
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

fn kind(start: &[u8]) -> Option<FileType> {
    Some(match start {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => FileType::Png,
        [0xff, 0xd8, 0xff, ..] => FileType::Jpg,
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => FileType::Gif,
        [b'B', b'M', ..] => FileType::Bmp,
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => FileType::Webp,
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => FileType::Tiff,
        _ => return None,
    })
}

/// Looks for the end that the format has. (GIF files and TIFF files are taken as they come.)
fn check_end(dump: &impl ReadAt, file_type: FileType) -> Result<(), DecodeError> {
    /// A writer may put some bytes of its own after the end.
    const SEARCHED: u64 = 64 << 10;
    let n = dump.n_bytes();
    let last = |want: &[u8]| -> io::Result<bool> {
        let mut bytes = vec![0; usize::try_from(n.min(SEARCHED)).unwrap_or(0)];
        let first = n - bytes.len() as u64;
        dump.read_exact_at(&mut bytes, first)?;
        Ok(bytes.windows(want.len()).any(|bytes| bytes == want))
    };
    let size_at = |offset: u64| -> io::Result<u64> {
        let mut bytes = [0; 4];
        dump.read_exact_at(&mut bytes, offset)?;
        Ok(u32::from_le_bytes(bytes).into())
    };
    let is_whole = match file_type {
        FileType::Png => last(b"IEND\xae\x42\x60\x82")?,
        FileType::Jpg | FileType::Jpeg => last(b"\xff\xd9")?,
        FileType::Webp => n >= size_at(4)? + 8,
        FileType::Bmp => n >= size_at(2)?,
        FileType::Gif | FileType::Tiff => true,
    };
    if is_whole { Ok(()) } else { Err(DecodeError::Unfinished("an image file without its end")) }
}

/// A dump as a file that is read in order.
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
