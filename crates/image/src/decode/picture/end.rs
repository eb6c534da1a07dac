//! The end of an image file, found by walking its parts.
//!
//! | file | parts | last part |
//! | --- | --- | --- |
//! | PNG | chunks: length, type, data, checksum | `IEND` |
//! | GIF | blocks, whose data are sub-blocks of at most 255 bytes | the trailer `;` |
//! | JPEG | segments, and after each start of scan the coded data | the marker EOI |
//!
//! Bytes behind the last part belong to nobody. They are kept, because an image file is copied unchanged.

use std::io;

use super::unfinished;
use crate::decode::{DecodeError, ReadAt};

/// Bytes that are read at once. Most parts are shorter.
const WINDOW_BYTES: usize = 16 << 10;

/// A dump whose bytes are read in windows.
pub(super) struct Window<'a, R> {
    dump: &'a R,
    first: u64,
    bytes: Vec<u8>,
}

impl<'a, R: ReadAt> Window<'a, R> {
    pub(super) fn new(dump: &'a R) -> Self {
        Self { dump, first: 0, bytes: Vec::new() }
    }

    /// Returns the bytes from `at` to the end of a window: at least `n`, which is at most
    /// [`WINDOW_BYTES`].
    ///
    /// # Errors
    /// `Unfinished` if the dump has fewer bytes.
    pub(super) fn from(&mut self, at: u64, n: usize) -> Result<&[u8], DecodeError> {
        let has = |first: u64, bytes: &[u8]| {
            let skipped = usize::try_from(at.checked_sub(first)?).ok()?;
            Some(skipped).filter(|skipped| bytes.len().saturating_sub(*skipped) >= n.max(1))
        };
        if let Some(skipped) = has(self.first, &self.bytes) {
            return Ok(&self.bytes[skipped..]);
        }
        let left = self.dump.n_bytes().saturating_sub(at);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(WINDOW_BYTES);
        if length < n.max(1) {
            return Err(unfinished());
        }
        self.bytes.resize(length, 0);
        self.first = at;
        match self.dump.read_exact_at(&mut self.bytes, at) {
            // The file became shorter.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.bytes.clear();
                Err(unfinished())
            }
            result => Ok(result.map(|()| self.bytes.as_slice())?),
        }
    }

    pub(super) fn array<const N: usize>(&mut self, at: u64) -> Result<[u8; N], DecodeError> {
        self.from(at, N)?.first_chunk().copied().ok_or_else(unfinished)
    }

    /// Returns the place of the first byte `byte` from `at` on.
    fn find(&mut self, byte: u8, mut at: u64) -> Result<u64, DecodeError> {
        loop {
            let bytes = self.from(at, 1)?;
            if let Some(i) = bytes.iter().position(|&other| other == byte) {
                return Ok(at + i as u64);
            }
            at += bytes.len() as u64;
        }
    }
}

/// Walks the chunks of a PNG file to its end.
///
/// # Errors
/// `Unfinished` if a part is missing or not written yet; `Malformed` if there is no chunk where one must be.
///
/// Source: PNG specification, third edition, 5.3.
pub(super) fn png(dump: &impl ReadAt) -> Result<u64, DecodeError> {
    const LENGTH_MAX: u32 = (1 << 31) - 1;
    let (mut file, mut at) = (Window::new(dump), 8);
    loop {
        let [l3, l2, l1, l0, name @ ..]: [u8; 8] = file.array(at)?;
        let length = u32::from_be_bytes([l3, l2, l1, l0]);
        match name {
            // A file system gives zeros for bytes that are not written yet.
            [0, 0, 0, 0] if length == 0 => return Err(unfinished()),
            _ if length <= LENGTH_MAX && name.iter().all(u8::is_ascii_alphabetic) => {}
            _ => return Err(DecodeError::Malformed(format!("png: no chunk at byte {at}"))),
        }
        at += 12 + u64::from(length);
        if at > dump.n_bytes() {
            return Err(unfinished());
        }
        if name == *b"IEND" {
            return Ok(at);
        }
    }
}

/// Walks the blocks of a GIF file to its end. Skips bytes between blocks, as Pillow does.
///
/// # Errors
/// `Unfinished` if a part is missing.
///
/// Source: `GIF89a` specification, sections 15 to 27.
pub(super) fn gif(dump: &impl ReadAt) -> Result<u64, DecodeError> {
    let mut file = Window::new(dump);
    let colors = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3 * (2u64 << (flags & 7)) };
    let [flags] = file.array(10)?;
    let mut at = 13 + colors(flags);
    loop {
        let [introducer] = file.array(at)?;
        at += match introducer {
            b';' => return Ok(at + 1),
            b',' => {
                let [flags] = file.array(at + 9)?;
                // The code size stands before the sub-blocks.
                10 + colors(flags) + 1
            }
            b'!' => 2,
            _ => {
                at += 1;
                continue;
            }
        };
        loop {
            let [length] = file.array(at)?;
            at += 1 + u64::from(length);
            if length == 0 {
                break;
            }
        }
    }
}

/// Walks the segments of a JPEG file to its end. Returns its width and height.
///
/// A thumbnail lies within a segment, so its end is not taken for that of the file.
///
/// # Errors
/// `Unfinished` if a part is missing; `Malformed` if there is no marker where one must be; `OverLimit` if
/// the segments before the picture are longer than `header_bytes_max`.
///
/// Source: ITU-T T.81, annex B.
pub(super) fn jpeg(dump: &impl ReadAt, header_bytes_max: u64) -> Result<(u64, u64), DecodeError> {
    let malformed = |what: &str| DecodeError::Malformed(format!("jpg: {what}"));
    let mut file = Window::new(dump);
    let (mut at, mut size, mut has_scan) = (2, None, false);
    loop {
        if has_scan {
            // Bytes 0xff within coded data are not followed by a marker.
            at = file.find(0xff, at)?;
        } else if at > header_bytes_max {
            let what =
                format!("jpg header of {at} bytes, limits.header_bytes_max is {header_bytes_max}");
            return Err(DecodeError::OverLimit(what));
        }
        let [ff, marker] = file.array(at)?;
        match (ff, marker) {
            (0xff, 0xff) => {
                at += 1;
                continue;
            }
            // Coded data, or a marker without a segment.
            (0xff, 0x00 | 0x01 | 0xd0..=0xd8) if has_scan => {
                at += 2;
                continue;
            }
            (0xff, 0xd9) => break,
            // SOF0 to SOF15, without DHT, JPG and DAC.
            (0xff, 0xc0..=0xcf) if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                let [h1, h0, w1, w0] = file.array(at + 5)?;
                let side = |high, low| u64::from(u16::from_be_bytes([high, low]));
                size = size.or(Some((side(w1, w0), side(h1, h0))));
            }
            (0xff, 0xda) => has_scan = true,
            (0xff, _) => {}
            _ => return Err(malformed("a marker is missing")),
        }
        at += 2 + u64::from(u16::from_be_bytes(file.array(at + 2)?));
    }
    size.filter(|_| has_scan).ok_or_else(|| malformed("no picture before its end"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::convert::Pixels;
    use crate::encode::{Encoding, encode};
    use crate::media::{ColorMode, FileType};

    /// Two frames, a comment and a colour table, 123 pixels high.
    fn gif_file() -> Vec<u8> {
        let mut file = b"GIF89a\x28\0\x7b\0\x80\0\0".to_vec();
        file.extend([0, 0, 0, 255, 255, 255]);
        file.extend(b"!\xfe\x05a;b;c\0");
        for _ in 0..2 {
            file.extend(b",\0\0\0\0\x28\0\x7b\0\x80");
            file.extend([0, 0, 0, 255, 255, 255]);
            file.extend(b"\x02\x03;;;\x02;;\0");
        }
        file.push(b';');
        file
    }

    fn made(file_type: FileType) -> Vec<u8> {
        let bytes = (0..=255).cycle().take(3 * 40 * 30).collect();
        let pixels = Pixels { mode: ColorMode::Rgb, width: 40, height: 30, bytes };
        encode(&pixels, Encoding { file_type, ..Encoding::default() }).expect("a file").bytes
    }

    fn end(file_type: FileType, file: &[u8]) -> Result<(), DecodeError> {
        match file_type {
            FileType::Png => png(&file).map(drop),
            FileType::Gif => gif(&file).map(drop),
            _ => jpeg(&file, 1 << 20).map(drop),
        }
    }

    #[test]
    fn whole_files_end_whatever_follows_and_cut_files_wait() {
        let files = [
            (FileType::Png, made(FileType::Png)),
            (FileType::Gif, gif_file()),
            (FileType::Jpg, made(FileType::Jpg)),
        ];
        for (file_type, file) in files {
            for n_cut in 0..file.len() {
                let got = end(file_type, &file[..n_cut]);
                assert!(
                    matches!(got, Err(DecodeError::Unfinished(_))),
                    "{file_type} of {n_cut}: {got:?}"
                );
            }
            for follows in [&b""[..], &vec![0; 100_000], b"\xff\xd8\xff\xe0", b"GIF", b"IDAT"] {
                let got = end(file_type, &[&file, follows].concat());
                assert!(got.is_ok(), "{file_type}: {got:?}");
            }
        }
    }

    #[test]
    fn an_end_within_a_part_is_not_the_end() {
        let mut png_file =
            b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x05\0\0\0\x07\x08\0\0\0\0....".to_vec();
        png_file.extend(b"\0\0\0\x08tEXtIEND\xae\x42\x60\x82....");
        assert!(matches!(png(&png_file.as_slice()), Err(DecodeError::Unfinished(_))));
        png_file.extend([0; 40]);
        assert!(matches!(png(&png_file.as_slice()), Err(DecodeError::Unfinished(_))));
        let damaged = [&png_file[..png_file.len() - 40], b"\xff\xff\xff\xffIDAT"].concat();
        assert!(matches!(png(&damaged.as_slice()), Err(DecodeError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn no_file_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for start in [&b""[..], b"\xff\xd8\xff\xc0\0\x0b", b"GIF89a\x05\0\x07\0", b"\x89PNG\r\n\x1a\n"] {
                let file = [start, &bytes].concat();
                for file_type in [FileType::Png, FileType::Gif, FileType::Jpg] {
                    drop(end(file_type, &file));
                }
            }
        }
    }
}
