//! `NumPy`'s npz: a zip file of npy files.
//!
//! Source: `numpy/lib/_npyio_impl.py`, `NumPy` 2.4.

use std::collections::BTreeMap;
use std::io;

use super::storage::inflate_start;
use super::zip::Member;
use super::{Contents, DecodeError, DecodeOptions, NamedTensor, ReadAt, npy};
use crate::tensor::{Encoding, TensorHeader, Writer};

/// Returns the arrays of an npz file, named without their `.npy`.
///
/// # Errors
/// If reading fails. An array that is damaged has an error of its own.
pub(super) fn contents(
    dump: &impl ReadAt,
    members: &[Member],
    options: &DecodeOptions,
) -> Result<Contents, DecodeError> {
    let mut tensors = Vec::with_capacity(members.len());
    for member in members {
        let name = member.name.strip_suffix(".npy").unwrap_or(&member.name).to_owned();
        let header = match header(dump, member, options) {
            Err(DecodeError::Io(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
                return Err(DecodeError::Io(error));
            }
            header => header,
        };
        tensors.push(NamedTensor { name: Some(name), header });
    }
    Ok(Contents::Tensors { writer: Writer::NumPy, tensors, metadata: BTreeMap::new() })
}

/// The first bytes of a member, with the length of the whole member.
struct Start {
    bytes: Vec<u8>,
    n_bytes: u64,
}

impl ReadAt for Start {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.bytes.as_slice().read_exact_at(buffer, offset)
    }

    fn n_bytes(&self) -> u64 {
        self.n_bytes
    }
}

/// Reads the header of one array. The member must be exactly as long as the header says: a longer one is
/// damaged or a zip bomb.
fn header(
    dump: &impl ReadAt,
    member: &Member,
    options: &DecodeOptions,
) -> Result<TensorHeader, DecodeError> {
    /// Nearly all headers are shorter.
    const START_BYTES: u64 = 1024;
    let storage = member.storage.clone();
    let start = |n: u64| {
        let bytes = inflate_start(dump, &storage, n.min(storage.n_bytes))?;
        npy::parse(&Start { bytes, n_bytes: storage.n_bytes }, options)
    };
    let npy = match start(START_BYTES) {
        Err(DecodeError::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            start(options.header_bytes_max.saturating_add(12))
        }
        parsed => parsed,
    };
    let npy = npy.map_err(|error| match error {
        // The zip file is complete, so no more bytes will come.
        DecodeError::Truncated { got, want } => {
            DecodeError::Malformed(format!("npy of {got} bytes, its header needs {want}"))
        }
        error => error,
    })?;
    let (got, want) = (storage.n_bytes, npy.data_offset + npy.n_bytes);
    if got != want {
        let what = format!("npy of {got} bytes, its header needs {want}");
        return Err(DecodeError::Malformed(what));
    }
    let is_plausible = storage.encoding != Encoding::Deflated
        // Deflate expands a byte to 1032 at most.
        || storage.n_bytes / 1040 <= storage.n_stored;
    if !is_plausible {
        let what = format!(
            "npy of {got} bytes from {} compressed ones, more than deflate can expand",
            storage.n_stored
        );
        return Err(DecodeError::Malformed(what));
    }
    let npy::Npy { dtype, byte_order, shape, strides, data_offset, .. } = npy;
    TensorHeader::new(dtype, byte_order, shape, strides, storage, data_offset)
        .map_err(|_| DecodeError::Malformed("npy shape is too large".to_owned()))
}
