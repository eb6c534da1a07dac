//! The end of a TIFF file, found by walking its directories.
//!
//! | bytes | contents |
//! | --- | --- |
//! | 2 | `II` for little-endian numbers, `MM` for big-endian ones |
//! | 2 | 42, or 43 for `BigTIFF` |
//! | 4 (`BigTIFF`: 4 more before it, and 8) | the offset of the first directory |
//!
//! A directory lists fields, which may lie anywhere in the file, and the offset of the next directory. Two
//! fields list the offsets and the lengths of the strips or tiles.
//!
//! Source: TIFF 6.0, sections 2 and 15; the `BigTIFF` design.

use super::end::Window;
use super::unfinished;
use crate::decode::{DecodeError, ReadAt};

/// Most directories of a file: its pages.
const DIRECTORIES_MAX: usize = 4096;

/// Fields with the offsets of strips and tiles, each followed by the one with their lengths.
const PIECES: [(u64, u64); 2] = [(273, 279), (324, 325)];

/// A TIFF file.
struct Tiff<'a, R> {
    window: Window<'a, R>,
    n_bytes: u64,
    is_big_endian: bool,
    /// Bytes of an offset: 4, or 8 in a `BigTIFF`.
    offset_bytes: usize,
    /// Bytes of directories and fields that may still be read.
    n_left: u64,
}

/// The values of a field.
#[derive(Debug, Clone, Copy)]
struct Field {
    tag: u64,
    at: u64,
    count: u64,
    /// Bytes of a value.
    size: u64,
}

/// Walks the directories of a TIFF file, and checks that all that they point to is in the file.
///
/// # Errors
/// `Unfinished` if a part is missing; `OverLimit` if the directories and fields are longer than
/// `header_bytes_max`.
pub(super) fn check(dump: &impl ReadAt, header_bytes_max: u64) -> Result<(), DecodeError> {
    let mut window = Window::new(dump);
    let start: [u8; 4] = window.array(0)?;
    let is_big_endian = start.starts_with(b"MM");
    let offset_bytes = if start.contains(&43) { 8 } else { 4 };
    let n_bytes = dump.n_bytes();
    let mut tiff = Tiff { window, n_bytes, is_big_endian, offset_bytes, n_left: header_bytes_max };
    let mut at = tiff.number(offset_bytes as u64, offset_bytes)?;
    if at == 0 {
        // A file system gives zeros for bytes that are not written yet.
        return Err(unfinished());
    }
    for _ in 0..DIRECTORIES_MAX {
        if at == 0 {
            break;
        }
        at = tiff.check_directory(at)?;
    }
    Ok(())
}

impl<R: ReadAt> Tiff<'_, R> {
    /// Reads a number of 2, 4 or 8 bytes.
    fn number(&mut self, at: u64, n: usize) -> Result<u64, DecodeError> {
        let bytes: [u8; 8] = match n {
            8 => self.window.array(at)?,
            n => {
                let mut bytes = [0; 8];
                bytes[..n].copy_from_slice(&self.window.from(at, n)?[..n]);
                if self.is_big_endian {
                    bytes[..n].reverse();
                }
                return Ok(u64::from_le_bytes(bytes));
            }
        };
        let is_big = self.is_big_endian;
        Ok(if is_big { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }

    /// Pays for bytes that are read.
    fn pay(&mut self, n: u64) -> Result<(), DecodeError> {
        let left = self.n_left.checked_sub(n);
        self.n_left = left.ok_or_else(|| {
            DecodeError::OverLimit(
                "tiff directories are longer than limits.header_bytes_max".to_owned(),
            )
        })?;
        Ok(())
    }

    /// Whether these bytes are in the file.
    fn want(&self, at: u64, n: u64) -> Result<(), DecodeError> {
        let is_there = at.checked_add(n).is_some_and(|end| end <= self.n_bytes);
        if is_there { Ok(()) } else { Err(unfinished()) }
    }

    /// Checks what a directory points to. Returns the offset of the next one; 0 for none.
    fn check_directory(&mut self, at: u64) -> Result<u64, DecodeError> {
        let (n_count, n_field) = if self.offset_bytes == 8 { (8, 20) } else { (2, 12) };
        let n_fields = self.number(at, n_count)?;
        let first = at.saturating_add(n_count as u64);
        let length = n_fields.saturating_mul(n_field);
        self.want(first, length.saturating_add(self.offset_bytes as u64))?;
        self.pay(length)?;
        let mut pieces = [[None; 2]; 2];
        for i in 0..n_fields {
            let field = self.field(first + i * n_field)?;
            for (i, (offsets, lengths)) in PIECES.into_iter().enumerate() {
                if field.tag == offsets {
                    pieces[i][0] = Some(field);
                } else if field.tag == lengths {
                    pieces[i][1] = Some(field);
                }
            }
        }
        for of_kind in pieces {
            if let [Some(offsets), Some(lengths)] = of_kind {
                self.check_pieces(offsets, lengths)?;
            }
        }
        self.number(first + length, self.offset_bytes)
    }

    /// Reads where the values of a field are.
    fn field(&mut self, at: u64) -> Result<Field, DecodeError> {
        let (tag, kind) = (self.number(at, 2)?, self.number(at + 2, 2)?);
        let count = self.number(at + 4, self.offset_bytes)?;
        let size = match kind {
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            5 | 10 | 12 | 16..=18 => 8,
            _ => 1,
        };
        let inline = at + 4 + self.offset_bytes as u64;
        let n = count.saturating_mul(size);
        if n <= self.offset_bytes as u64 {
            return Ok(Field { tag, at: inline, count, size });
        }
        let at = self.number(inline, self.offset_bytes)?;
        self.want(at, n)?;
        Ok(Field { tag, at, count, size })
    }

    /// Checks that strips or tiles are in the file.
    fn check_pieces(&mut self, offsets: Field, lengths: Field) -> Result<(), DecodeError> {
        let n = offsets.count.min(lengths.count);
        self.pay(n.saturating_mul(offsets.size + lengths.size))?;
        for i in 0..n {
            let mut value = |field: Field| {
                let size = usize::try_from(field.size).unwrap_or(1);
                self.number(field.at + i * field.size, size)
            };
            let (at, length) = (value(offsets)?, value(lengths)?);
            self.want(at, length)?;
        }
        Ok(())
    }
}
