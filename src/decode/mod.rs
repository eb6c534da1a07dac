//! Dump bytes → tensor headers, then elements. Pure: bytes come through [`ReadAt`].
//!
//! A dump is bytes from anyone. It is parsed, never executed, mapped or believed: sizes are
//! checked before memory is taken, and a header says nothing that the file's length doesn't back.

pub mod npy;

use std::io;

use crate::tensor::{DType, TensorHeader};

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
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The dump ends before what it promises; its writer may not be done. Wait.
    #[error("truncated: got {got} bytes, want {want}")]
    Truncated {
        /// Bytes that are there.
        got: u64,
        /// Bytes that the header asks for, as far as it could be read.
        want: u64,
    },
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
    Io(#[from] io::Error),
}

/// What to protect the process from, and what the record adds to the dump.
#[derive(Debug, Clone, Copy)]
pub struct DecodeOptions {
    /// The longest header to read, in bytes.
    pub header_bytes_max: u64,
    /// The type of elements that the dump itself leaves unnamed (`NumPy`'s void types).
    pub dtype: Option<DType>,
}

/// Reads the header of the one tensor of a dump.
///
/// # Errors
/// See [`DecodeError`].
pub fn header(dump: &impl ReadAt, options: DecodeOptions) -> Result<TensorHeader, DecodeError> {
    let mut magic = [0; npy::MAGIC.len()];
    let n = dump.n_bytes().min(magic.len() as u64);
    let start = &mut magic[..usize::try_from(n).unwrap_or(0)];
    dump.read_exact_at(start, 0)?;
    if npy::MAGIC.starts_with(start) {
        return npy::header(dump, options);
    }
    Err(match start {
        [b'P', b'K', 3 | 5, ..] => {
            DecodeError::Unsupported("a zip file (npz or torch); want npy".to_owned())
        }
        [0x80, 2..=5, ..] => {
            DecodeError::Unsupported("a pickle, which could run code; want npy".to_owned())
        }
        _ => DecodeError::Malformed(format!(
            "not a dump: begins with {}, want npy's \\x93NUMPY",
            start.escape_ascii()
        )),
    })
}
