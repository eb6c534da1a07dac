//! Dump bytes → what a dump holds, then one tensor's bytes at a time. Pure: bytes come through
//! [`ReadAt`].
//!
//! Two steps: [`contents`] reads headers only, however large the dump; [`storage`] opens the stretch
//! of it where one tensor's elements lie. A dump is bytes from anyone. It is parsed, never executed,
//! mapped or believed: sizes are checked before memory is taken, and a header says nothing that the
//! file's length doesn't back.

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

/// Bytes that can be read at any place, such as an open dump.
pub trait ReadAt {
    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// Of kind `UnexpectedEof` if the bytes end before `buffer` is full, else as reading fails.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// How many bytes there are.
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

/// Why a dump can't be decoded. The variants say what its reader can do next.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DecodeError {
    /// The dump ends before what it promises; its writer may not be done. Wait.
    #[error("truncated: got {got} bytes, want {want}")]
    Truncated {
        /// Bytes that are there.
        got: u64,
        /// Bytes that the header asks for, as far as it could be read.
        want: u64,
    },
    /// The dump lacks its end; its writer may not be done. Wait.
    #[error("truncated: {0}")]
    Unfinished(&'static str),
    /// The bytes are wrong, and more of them would not help. Reject.
    #[error("malformed: {0}")]
    Malformed(String),
    /// Valid, but no picture can be made of it here. Reject.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// More than this process may be made to hold. Reject.
    #[error("over a limit: {0}")]
    OverLimit(String),
    /// The reading failed. Wait.
    #[error("cannot read: {0}")]
    Io(Arc<io::Error>),
}

impl From<io::Error> for DecodeError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

/// What to protect the process from, and what the record adds to the dump.
#[derive(Debug, Clone, Default)]
pub struct DecodeOptions {
    /// The longest header to read, in bytes.
    pub header_bytes_max: u64,
    /// The most bytes that one storage may have once it is decoded.
    pub storage_bytes_max: u64,
    /// The type of elements that the dump itself leaves unnamed (`NumPy`'s void types, raw bytes).
    pub dtype: Option<DType>,
    /// The rest of what describes raw bytes.
    pub raw: Option<RawLayout>,
}

/// What a record says of raw bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawLayout {
    /// Lengths of the axes.
    pub shape: Shape,
    /// Where the first element begins; 0 if not said, and then nothing may follow the elements.
    pub offset: Option<u64>,
    /// Their byte order.
    pub byte_order: ByteOrder,
}

/// What a dump holds.
#[derive(Debug, Clone)]
pub enum Contents {
    /// Tensors, in the order in which they stand in the dump.
    Tensors {
        /// Who wrote them.
        writer: Writer,
        /// Each of them, or why it can't be read though others can.
        tensors: Vec<NamedTensor>,
        /// What a safetensors header says beside.
        metadata: BTreeMap<String, String>,
    },
    /// A picture that is encoded already.
    Picture(PictureHeader),
}

/// One tensor of a dump.
#[derive(Debug, Clone)]
pub struct NamedTensor {
    /// Its name; none where the dump can hold one only.
    pub name: Option<String>,
    /// Its header, or why it can't be read.
    pub header: Result<TensorHeader, DecodeError>,
}

/// The most tensors of one dump that are looked at, and the most members of a zip file.
pub const TENSORS_MAX: usize = 4096;

/// Reads what a dump holds: its headers, not its elements.
///
/// # Errors
/// See [`DecodeError`].
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
        // Too few bytes to tell what it will be.
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
