//! The bytes of a dump → the headers of its tensors, then the bytes of one tensor at a time.
//!
//! [`contents`] reads the headers only, however large the dump. [`storage`] then reads the byte range in
//! which the elements of one tensor lie. Bytes come through [`ReadAt`].
//!
//! A dump is not trusted. It is parsed, never executed or mapped into memory. Sizes are checked before
//! memory is allocated, and a header cannot promise more bytes than the file has.

mod npy;
mod npz;
mod picture;
mod raw;
mod safetensors;
pub mod storage;
mod torch;
mod unread;
mod zip;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

pub use self::picture::PictureHeader;
pub use self::unread::unread;
use crate::tensor::{ByteOrder, DType, Shape, TensorHeader, Writer};

/// Bytes that can be read at any offset, such as an open dump.
pub trait ReadAt {
    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// Of kind `UnexpectedEof` if the bytes end before `buffer` is full; any other kind if reading fails.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Returns the number of bytes.
    fn n_bytes(&self) -> u64;
}

impl ReadAt for &[u8] {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buffer.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn n_bytes(&self) -> u64 {
        self.len() as u64
    }
}

/// A dump that cannot be decoded. Each variant says what the caller can do next.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DecodeError {
    /// The dump is shorter than its header promises; the writer may not be done. Wait.
    #[error("truncated: got {got} bytes, want {want}")]
    Truncated {
        /// Bytes of the dump.
        got: u64,
        /// Bytes that the dump must have at least, by the part of the header that could be read.
        want: u64,
    },
    /// The dump lacks its end; the writer may not be done. Wait.
    #[error("truncated: {0}")]
    Unfinished(&'static str),
    /// The dump is damaged, and more bytes would not help. Reject.
    #[error("malformed: {0}")]
    Malformed(String),
    /// The dump is valid, but Safelight cannot make a picture of it. Reject.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// The dump is over a limit that protects this process. Reject.
    #[error("over a limit: {0}")]
    OverLimit(String),
    /// Reading failed. Wait.
    #[error("cannot read: {0}")]
    Io(Arc<io::Error>),
}

impl From<io::Error> for DecodeError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

/// Limits of decoding, and what the record says about the dump.
#[derive(Debug, Clone, Default)]
pub struct DecodeOptions {
    /// Longest header, in bytes.
    pub header_bytes_max: u64,
    /// Largest storage after decoding, in bytes.
    pub storage_bytes_max: u64,
    /// Element type, for dumps that do not name it: raw bytes and `NumPy`'s void types.
    pub dtype: Option<DType>,
    /// Layout of raw bytes. If given, the dump is read as raw bytes, whatever its first bytes are.
    pub raw: Option<RawLayout>,
}

/// The layout of raw bytes, as a record describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawLayout {
    /// Lengths of the axes.
    pub shape: Shape,
    /// Offset of the first element, in bytes. If `None`, the file must hold the elements and nothing else.
    pub offset: Option<u64>,
    /// Byte order of the elements.
    pub byte_order: ByteOrder,
}

/// The contents of a dump.
#[derive(Debug, Clone)]
pub enum Contents {
    /// Tensors, in the order of the dump.
    Tensors {
        /// The library that wrote the dump.
        writer: Writer,
        /// The tensors. Each has a header or an error of its own.
        tensors: Vec<NamedTensor>,
        /// The metadata in a safetensors header: texts by name.
        metadata: BTreeMap<String, String>,
    },
    /// An image file.
    Picture(PictureHeader),
}

/// One tensor of a dump.
#[derive(Debug, Clone)]
pub struct NamedTensor {
    /// Its name. `None` if the format holds one unnamed tensor.
    pub name: Option<String>,
    /// Its header, or why the tensor cannot be read.
    pub header: Result<TensorHeader, DecodeError>,
}

/// Most tensors of a dump, and most members of a zip file.
pub const TENSORS_MAX: usize = 4096;

/// Reads the headers of a dump, not its elements.
///
/// The format is recognized by the first bytes: npy, npz, safetensors, torch's zip format, or an image file.
///
/// # Errors
/// If the dump is not complete, damaged, of a format that Safelight does not read, or over a limit. See
/// [`DecodeError`].
pub fn contents(dump: &impl ReadAt, options: &DecodeOptions) -> Result<Contents, DecodeError> {
    let one = |writer, header| {
        let tensors = vec![NamedTensor { name: None, header: Ok(header) }];
        Contents::Tensors { writer, tensors, metadata: BTreeMap::new() }
    };
    if let Some(layout) = &options.raw {
        return Ok(one(Writer::NumPy, raw::header(dump, layout, options)?));
    }
    let mut magic = [0; 16];
    let n = dump.n_bytes().min(magic.len() as u64);
    let start = &mut magic[..usize::try_from(n).unwrap_or(0)];
    dump.read_exact_at(start, 0)?;
    match start {
        [] => Err(DecodeError::Truncated { got: 0, want: 8 }),
        // Too few bytes to recognize the format.
        _ if n < 12 && !npy::MAGIC.starts_with(start) && !start.starts_with(npy::MAGIC) => {
            Err(DecodeError::Unfinished("fewer bytes than any dump has"))
        }
        _ if npy::MAGIC.starts_with(start) || start.starts_with(npy::MAGIC) => {
            Ok(one(Writer::NumPy, npy::header(dump, options)?))
        }
        [b'P', b'K', 3 | 5, ..] => {
            let members = zip::members(dump, options)?;
            if torch::is_archive(&members) {
                torch::contents(dump, &members, options)
            } else {
                npz::contents(dump, &members, options)
            }
        }
        [0x80, 2..=5, ..] => Err(torch::legacy(start)),
        [_, _, _, _, _, _, _, _, b'{', ..] => safetensors::contents(dump, options),
        _ => match picture::header(dump, start, options.header_bytes_max)? {
            Some(picture) => Ok(Contents::Picture(picture)),
            None => Err(DecodeError::Malformed(format!(
                "not a dump: begins with {}, want npy, npz, safetensors, torch or an image file",
                start[..start.len().min(8)].escape_ascii()
            ))),
        },
    }
}
