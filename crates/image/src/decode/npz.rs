//! `NumPy`'s npz: a zip file of npy files.
//!
//! Source: `numpy/lib/_npyio_impl.py`, `NumPy` 2.4.

use std::collections::BTreeMap;
use std::io;

use super::npy::{self, ArrayHeader};
use super::storage::inflate_start;
use super::zip::{self, Directory, Member};
use super::{Contents, DecodeError, DecodeOptions, NamedTensor, ReadAt, Skipped};
use crate::tensor::{Encoding, TensorHeader, Writer};

/// Returns the arrays of an npz file, named without their `.npy`. Members that are no npy files are skipped.
///
/// # Errors
/// If reading fails. An array that is damaged has an error of its own.
pub(super) fn contents(
    dump: &impl ReadAt,
    directory: &Directory,
    options: &DecodeOptions,
) -> Result<Contents, DecodeError> {
    let (mut tensors, mut others) =
        (Vec::with_capacity(directory.members.len()), Skipped::default());
    for member in &directory.members {
        let named = member.name.strip_suffix(".npy");
        let (is_named, name) = (named.is_some(), named.unwrap_or(&member.name).to_owned());
        match array(dump, member, options) {
            Err(DecodeError::Io(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
                return Err(DecodeError::Io(error));
            }
            Err(_) if !is_named && !begins_as_npy(dump, member) => {
                others.add(&name, "no npy file");
            }
            Ok((header, no_picture)) => {
                tensors.push(NamedTensor { name: Some(name), header, no_picture });
            }
            Err(error) => tensors.push(NamedTensor::new(Some(name), Err(error))),
        }
    }
    let unread = zip::other_bytes(dump, directory)?.map(str::to_owned);
    let metadata = BTreeMap::new();
    Ok(Contents::Tensors { writer: Writer::NumPy, tensors, metadata, others, unread })
}

/// Whether a member begins as an npy file does. A damaged one may be one.
fn begins_as_npy(dump: &impl ReadAt, member: &Member) -> bool {
    let n = member.storage.n_bytes.min(npy::MAGIC.len() as u64);
    match inflate_start(dump, &member.storage, n) {
        Ok(start) => !start.is_empty() && npy::MAGIC.starts_with(&start),
        Err(_) => true,
    }
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

/// Reads the header of one array, and says what it is if it is plainly no picture. The member must be exactly
/// as long as the header says: a longer one is damaged or a zip bomb.
fn array(
    dump: &impl ReadAt,
    member: &Member,
    options: &DecodeOptions,
) -> Result<(Result<TensorHeader, DecodeError>, Option<String>), DecodeError> {
    /// Nearly all headers are shorter.
    const START_BYTES: u64 = 1024;
    let storage = member.storage.clone();
    let start = |n: u64| {
        let bytes = inflate_start(dump, &storage, n.min(storage.n_bytes))?;
        ArrayHeader::read(&Start { bytes, n_bytes: storage.n_bytes }, options)
    };
    let header = match start(START_BYTES) {
        Err(DecodeError::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            start(options.header_bytes_max.saturating_add(12))
        }
        parsed => parsed,
    };
    let too_short = |got: u64, want: u64| {
        DecodeError::Malformed(format!("npy of {got} bytes, its header needs {want}"))
    };
    let header = header.map_err(|error| match error {
        // The zip file is complete, so no more bytes will come.
        DecodeError::Truncated { got, want } => too_short(got, want),
        error => error,
    })?;
    let element_type = header.element_type(options.dtype);
    let n_bytes = match &element_type {
        Ok(element_type) => Some(element_type.n_bytes),
        Err(_) => header.n_bytes(),
    };
    if let Some(n_bytes) = n_bytes {
        let (got, want) = (storage.n_bytes, header.data_offset + n_bytes);
        if got != want {
            return Err(too_short(got, want));
        }
    }
    let is_plausible = storage.encoding != Encoding::Deflated
        // Deflate expands a byte to 1032 at most.
        || storage.n_bytes / 1040 <= storage.n_stored;
    if !is_plausible {
        let what = format!(
            "npy of {} bytes from {} compressed ones, more than deflate can expand",
            storage.n_bytes, storage.n_stored
        );
        return Err(DecodeError::Malformed(what));
    }
    let no_picture = header.no_picture();
    let tensor = element_type.and_then(|element_type| {
        let first = header.data_offset;
        header.tensor(element_type, storage, first)
    });
    Ok((tensor, no_picture))
}
