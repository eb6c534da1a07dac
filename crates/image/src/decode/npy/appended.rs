//! The arrays of an npy file: one, or several that `np.save` appended to one open file.

use std::collections::BTreeMap;
use std::io;

use super::{ArrayHeader, MAGIC};
use crate::decode::skipped::Skipped;
use crate::decode::{
    Contents, DecodeError, DecodeOptions, NamedTensor, ReadAt, TENSORS_MAX, torch,
};
use crate::tensor::{Storage, Writer};

/// The bytes of a dump from an offset on.
struct Rest<'a, R> {
    dump: &'a R,
    at: u64,
}

impl<R: ReadAt> ReadAt for Rest<'_, R> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.dump.read_exact_at(buffer, self.at + offset)
    }

    fn n_bytes(&self) -> u64 {
        self.dump.n_bytes().saturating_sub(self.at)
    }
}

/// An array of a file.
struct Array {
    tensor: NamedTensor,
    /// Where it ends. `None` if only unpickling could say it.
    end: Option<u64>,
}

/// Returns the arrays of an npy file. If there are several, each is named by its number, from 0.
///
/// What follows the last array is a tensor without a name whose header is an error: an array that is cut
/// off, or bytes that are no array.
///
/// # Errors
/// If the first array is cut off, or is the only one and cannot be read.
pub(in crate::decode) fn contents(
    dump: &impl ReadAt,
    options: &DecodeOptions,
) -> Result<Contents, DecodeError> {
    let n_bytes = dump.n_bytes();
    let Array { tensor, mut end } = array_at(dump, 0, options)?;
    if end.is_none_or(|end| end == n_bytes) {
        tensor.header.as_ref().map_err(Clone::clone)?;
    }
    let (mut tensors, mut left_over) = (vec![tensor], None);
    while let Some(at) = end.filter(|&end| end < n_bytes) {
        if tensors.len() == TENSORS_MAX {
            let what = format!("npy file of more than {TENSORS_MAX} arrays");
            return Err(DecodeError::OverLimit(what));
        }
        let next = if is_array(dump, at)? {
            array_at(dump, at, options)
        } else {
            Err(no_array(dump, at)?)
        };
        match next {
            Ok(array) => {
                tensors.push(array.tensor);
                end = array.end;
            }
            Err(error @ DecodeError::Io(_)) => return Err(error),
            Err(error) => {
                left_over = Some(error);
                break;
            }
        }
    }
    if tensors.len() > 1 {
        for (i, tensor) in tensors.iter_mut().enumerate() {
            tensor.name = Some(i.to_string());
        }
    }
    tensors.extend(left_over.map(|error| NamedTensor::new(None, Err(error))));
    let (metadata, others, unread) = (BTreeMap::new(), Skipped::default(), None);
    Ok(Contents::Tensors { writer: Writer::NumPy, tensors, metadata, others, unread })
}

/// Whether the bytes at an offset are the start of an array, which may be cut off.
fn is_array(dump: &impl ReadAt, at: u64) -> io::Result<bool> {
    let start = start_of(dump, at)?;
    let n = start.len().min(MAGIC.len());
    Ok(MAGIC.starts_with(&start[..n]))
}

/// Reads a few bytes at an offset.
fn start_of(dump: &impl ReadAt, at: u64) -> io::Result<Vec<u8>> {
    const START_BYTES: u64 = 16;
    let n = dump.n_bytes().saturating_sub(at).min(START_BYTES);
    let mut start = vec![0; usize::try_from(n).unwrap_or(0)];
    dump.read_exact_at(&mut start, at)?;
    Ok(start)
}

/// Describes bytes after the last array.
fn no_array(dump: &impl ReadAt, at: u64) -> io::Result<DecodeError> {
    let (start, n) = (start_of(dump, at)?, dump.n_bytes().saturating_sub(at));
    let what = if start.iter().all(|byte| *byte == 0) {
        "zeros; the file may have been made longer in advance".to_owned()
    } else {
        format!("begins with {}; want another array of np.save, or nothing", start.escape_ascii())
    };
    Ok(DecodeError::Malformed(format!("npy: {n} bytes from byte {at} on are no array ({what})")))
}

/// Reads the header of the array at an offset, and finds its end.
///
/// # Errors
/// `Truncated` if the file ends within the array.
fn array_at(dump: &impl ReadAt, at: u64, options: &DecodeOptions) -> Result<Array, DecodeError> {
    let rest = Rest { dump, at };
    let header = ArrayHeader::read(&rest, options).map_err(|error| match error {
        DecodeError::Truncated { got, want } => {
            DecodeError::Truncated { got: at + got, want: at.saturating_add(want) }
        }
        error => error,
    })?;
    let element_type = header.element_type(options.dtype);
    let n_bytes = match &element_type {
        Ok(element_type) => Some(element_type.n_bytes),
        // Wrong for every reader.
        Err(error @ DecodeError::Malformed(_)) => return Err(error.clone()),
        Err(_) => match header.n_bytes() {
            None => pickled_bytes(&rest, header.data_offset, options)?,
            n_bytes => n_bytes,
        },
    };
    let data_offset = at + header.data_offset;
    let end = n_bytes.map(|n_bytes| data_offset.saturating_add(n_bytes));
    let got = dump.n_bytes();
    if let Some(want) = end.filter(|&end| got < end) {
        return Err(DecodeError::Truncated { got, want });
    }
    // What follows objects without an end may be a picture.
    let no_picture = header.no_picture().filter(|_| end.is_some());
    let header = element_type.and_then(|element_type| {
        let storage = Storage::plain(data_offset, element_type.n_bytes);
        header.tensor(element_type, storage, 0)
    });
    Ok(Array { tensor: NamedTensor { name: None, header, no_picture }, end })
}

/// Returns the length of the pickle in which an array of objects lies. It is parsed, never run. `None` if its
/// end is not found within `header_bytes_max` bytes.
fn pickled_bytes(
    rest: &impl ReadAt,
    offset: u64,
    options: &DecodeOptions,
) -> io::Result<Option<u64>> {
    let n = rest.n_bytes().saturating_sub(offset).min(options.header_bytes_max);
    let mut bytes = vec![0; usize::try_from(n).unwrap_or(0)];
    rest.read_exact_at(&mut bytes, offset)?;
    Ok(torch::pickle_length(&bytes).ok().map(|n| n as u64))
}
