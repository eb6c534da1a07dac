//! The byte range of a dump in which the elements of a tensor lie.
//!
//! A storage that is not encoded is read in place ([`plain`]). Any other is decoded as a whole first
//! ([`decode`]), into memory or a temporary file of the caller.

use std::io::{self, Read, Write};

use flate2::read::DeflateDecoder;

use super::{DecodeError, ReadAt};
use crate::tensor::{Encoding, Storage};

/// A storage that is not encoded, read in place.
#[derive(Debug)]
pub struct Plain<'a, R> {
    dump: &'a R,
    storage: &'a Storage,
}

impl<R: ReadAt> ReadAt for Plain<'_, R> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.storage.n_bytes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.dump.read_exact_at(buffer, self.storage.offset + offset)
    }

    fn n_bytes(&self) -> u64 {
        self.storage.n_bytes
    }
}

/// Opens a storage that is not encoded. Returns `None` if it must be [decoded](decode) first.
#[must_use]
pub fn plain<'a, R: ReadAt>(dump: &'a R, storage: &'a Storage) -> Option<Plain<'a, R>> {
    (storage.encoding == Encoding::Plain).then_some(Plain { dump, storage })
}

/// A byte range of a dump, read in order.
struct Stretch<'a, R> {
    dump: &'a R,
    at: u64,
    end: u64,
}

impl<R: ReadAt> Read for Stretch<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        self.dump.read_exact_at(&mut buffer[..n], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

fn stretch<'a, R: ReadAt>(dump: &'a R, storage: &Storage) -> io::BufReader<Stretch<'a, R>> {
    let end = storage.offset.saturating_add(storage.n_stored);
    io::BufReader::with_capacity(64 << 10, Stretch { dump, at: storage.offset, end })
}

/// Returns the first `n` bytes of a storage, decoded.
///
/// # Errors
/// `Malformed` if the storage is damaged or shorter; `Io` if reading fails.
pub(super) fn inflate_start(
    dump: &impl ReadAt,
    storage: &Storage,
    n: u64,
) -> Result<Vec<u8>, DecodeError> {
    let n = usize::try_from(n).map_err(io::Error::other)?;
    let mut bytes = vec![0; n];
    match storage.encoding {
        Encoding::Plain => dump.read_exact_at(&mut bytes, storage.offset)?,
        _ => DeflateDecoder::new(stretch(dump, storage)).read_exact(&mut bytes).map_err(wrong)?,
    }
    Ok(bytes)
}

/// Decodes a storage, writes it to `to`, and checks its length and checksum. Never writes more than
/// [`Storage::n_bytes`] bytes.
///
/// # Errors
/// `Malformed` if length or checksum are wrong; `Io` if reading or writing fails. `to` may then have got a
/// part of the bytes.
pub fn decode(
    dump: &impl ReadAt,
    storage: &Storage,
    to: &mut impl Write,
) -> Result<(), DecodeError> {
    let from = stretch(dump, storage);
    let n_bytes = match storage.encoding {
        Encoding::Plain => pump(from, storage, to),
        Encoding::Deflated => pump(DeflateDecoder::new(from), storage, to),
        Encoding::Packed { exponent, mantissa } => {
            pump(Unpacked { from, exponent, mantissa, bits: 0, n_bits: 0 }, storage, to)
        }
        Encoding::Latin1 => pump(Narrowed { from }, storage, to),
    }?;
    if n_bytes == storage.n_bytes {
        return Ok(());
    }
    let want = storage.n_bytes;
    Err(DecodeError::Malformed(format!("got {n_bytes} bytes, the dump promises {want}")))
}

/// Checks the checksum of a storage that is not encoded, if there is one.
///
/// # Errors
/// As [`decode`].
pub fn verify(dump: &impl ReadAt, storage: &Storage) -> Result<(), DecodeError> {
    match storage.crc32 {
        Some(_) => decode(dump, storage, &mut io::sink()),
        None => Ok(()),
    }
}

fn pump(from: impl Read, storage: &Storage, to: &mut impl Write) -> Result<u64, DecodeError> {
    // Reads one byte more, to notice a storage that is too long.
    let mut from = from.take(storage.n_bytes.saturating_add(1));
    let (mut crc, mut n_bytes) = (crc32fast::Hasher::new(), 0u64);
    let mut chunk = vec![0; 64 << 10];
    loop {
        let n = from.read(&mut chunk).map_err(wrong)?;
        if n == 0 {
            break;
        }
        n_bytes += n as u64;
        if n_bytes > storage.n_bytes {
            let want = storage.n_bytes;
            let what = format!("more bytes than the {want} that the dump promises");
            return Err(DecodeError::Malformed(what));
        }
        crc.update(&chunk[..n]);
        to.write_all(&chunk[..n])?;
    }
    let got = crc.finalize();
    match storage.crc32 {
        Some(want) if want != got && n_bytes == storage.n_bytes => Err(DecodeError::Malformed(
            format!("checksum: got {got:08x}, the dump says {want:08x}"),
        )),
        _ => Ok(n_bytes),
    }
}

/// Converts an error of a decoder. `InvalidInput` and `InvalidData` mean damaged bytes: reading a file gives
/// other kinds.
fn wrong(error: io::Error) -> DecodeError {
    match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
            DecodeError::Malformed(format!("deflate: {error}"))
        }
        io::ErrorKind::UnexpectedEof => {
            DecodeError::Malformed("fewer bytes than the dump promises".to_owned())
        }
        _ => error.into(),
    }
}

/// The bytes that a text of the characters U+0000 to U+00FF stands for.
struct Narrowed<R> {
    from: R,
}

impl<R: Read> Read for Narrowed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut n = 0;
        for to in buffer {
            let mut byte = [0];
            if self.from.read(&mut byte)? == 0 {
                break;
            }
            *to = match byte[0] {
                byte @ ..0x80 => byte,
                // The first of two bytes has the two highest bits of the character.
                first @ (0xc2 | 0xc3) => {
                    self.from.read_exact(&mut byte)?;
                    first << 6 | byte[0] & 0x3f
                }
                _ => return Err(io::ErrorKind::InvalidData.into()),
            };
            n += 1;
        }
        Ok(n)
    }
}

/// Packed floats of fewer than 8 bits, read as `float8_e4m3fn`, one a byte.
struct Unpacked<R> {
    from: R,
    exponent: u8,
    mantissa: u8,
    bits: u32,
    n_bits: u8,
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let width = 1 + self.exponent + self.mantissa;
        let mut n = 0;
        for to in buffer {
            if self.n_bits < width {
                let mut byte = [0];
                if self.from.read(&mut byte)? == 0 {
                    break;
                }
                self.bits |= u32::from(byte[0]) << self.n_bits;
                self.n_bits += 8;
            }
            let [low, ..] = self.bits.to_le_bytes();
            *to = widen(low & ((1 << width) - 1), self.exponent, self.mantissa);
            self.bits >>= width;
            self.n_bits -= width;
            n += 1;
        }
        Ok(n)
    }
}

/// Converts a small float to the `float8_e4m3fn` of the same value.
fn widen(bits: u8, exponent: u8, mantissa: u8) -> u8 {
    let sign = bits >> (exponent + mantissa) << 7;
    let field = bits >> mantissa & ((1 << exponent) - 1);
    let mut fraction = (bits & ((1 << mantissa) - 1)) << (3 - mantissa);
    let bias = (1 << (exponent - 1)) - 1;
    if field > 0 {
        return sign | (field + 7 - bias) << 3 | fraction;
    }
    if fraction == 0 {
        return sign;
    }
    // Subnormal in the small type, but normal in the wide one.
    let mut field = 8 - bias;
    while fraction & 8 == 0 {
        fraction <<= 1;
        field -= 1;
    }
    sign | field << 3 | (fraction & 7)
}
