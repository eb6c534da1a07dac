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
/// An array that is cut off has an error of its own. Bytes after the last array that are no array are a tensor
/// without a name whose header is an error.
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
        if !is_array(dump, at)? {
            left_over = Some(no_array(dump, at)?);
            break;
        }
        let array = match array_at(dump, at, options) {
            Err(error @ DecodeError::Io(_)) => return Err(error),
            // Where a damaged array ends is unknown.
            Err(error) => Array { tensor: NamedTensor::new(None, Err(error)), end: None },
            Ok(array) => array,
        };
        tensors.push(array.tensor);
        end = array.end;
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

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A kind of array that `np.save` writes.
    #[derive(Debug, Clone, Copy)]
    enum Kind {
        Picture(usize),
        Label,
        Text,
        Objects,
        Structure,
    }

    fn kinds() -> impl Strategy<Value = Vec<Kind>> {
        let kind = prop_oneof![
            (0..9usize).prop_map(Kind::Picture),
            Just(Kind::Label),
            Just(Kind::Text),
            Just(Kind::Objects),
            Just(Kind::Structure),
        ];
        vec(kind, 0..6)
    }

    /// The header of an array of this kind, and its elements.
    fn array(kind: Kind) -> Vec<u8> {
        let (descr, shape, elements) = match kind {
            Kind::Picture(n) => ("'|u1'", format!("({n}, 3)"), vec![7; 3 * n]),
            Kind::Label => ("'<i8'", "()".to_owned(), vec![0; 8]),
            Kind::Text => ("'<U3'", "(2, 1)".to_owned(), vec![0; 24]),
            // A list of the text "\x93NUMPY.", which is no array, and None.
            Kind::Objects => {
                ("'|O'", "(2,)".to_owned(), b"\x80\x02]q\0(X\x08\0\0\0\xc2\x93NUMPY.Ne.".into())
            }
            Kind::Structure => {
                ("[('r', '<f4'), ('xy', '|u1', (3,))]", "(2, 1)".to_owned(), vec![1; 14])
            }
        };
        let header = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n");
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend(u16::try_from(header.len()).expect("a short header").to_le_bytes());
        [file, header.into_bytes(), elements].concat()
    }

    fn tensors(file: &[u8]) -> Result<Vec<NamedTensor>, DecodeError> {
        let options = DecodeOptions { header_bytes_max: 1 << 16, ..DecodeOptions::default() };
        match contents(&file, &options)? {
            Contents::Tensors { tensors, .. } => Ok(tensors),
            Contents::Picture(picture) => panic!("{picture:?}"),
        }
    }

    /// Checks that `tensor` is the array of this kind that ends at `end`.
    fn check(kind: Kind, tensor: &NamedTensor, end: usize) {
        match (kind, &tensor.header) {
            (Kind::Picture(n), Ok(header)) => {
                let want = Storage::plain((end - 3 * n) as u64, 3 * n as u64);
                assert_eq!((&header.storage, &tensor.no_picture), (&want, &None));
            }
            (Kind::Label, Ok(_)) | (Kind::Text | Kind::Objects, Err(_)) => {
                assert!(tensor.is_no_picture(), "{tensor:?}");
            }
            (Kind::Structure, Err(_)) => assert!(!tensor.is_no_picture(), "{tensor:?}"),
            _ => panic!("{kind:?}: {tensor:?}"),
        }
    }

    proptest! {
        #[test]
        fn each_array_is_found_and_what_follows_is_named(kinds in kinds(), tail in vec(any::<u8>(), 0..40)) {
            prop_assume!(!MAGIC.starts_with(&tail[..tail.len().min(MAGIC.len())]) || tail.is_empty());
            let kinds = [vec![Kind::Picture(5)], kinds].concat();
            let arrays: Vec<Vec<u8>> = kinds.iter().map(|kind| array(*kind)).collect();
            let got = tensors(&[arrays.concat(), tail.clone()].concat()).expect("arrays");
            let n_arrays = got.len() - usize::from(!tail.is_empty());
            assert_eq!(n_arrays, kinds.len());
            let mut end = 0;
            for (i, (kind, tensor)) in kinds.iter().zip(&got).enumerate() {
                end += arrays[i].len();
                check(*kind, tensor, end);
                let name = (n_arrays > 1).then(|| i.to_string());
                assert_eq!(tensor.name, name);
            }
            if let Some(rest) = got.get(n_arrays) {
                let error = rest.header.as_ref().expect_err("no array").to_string();
                assert!(error.contains(&format!("{} bytes from byte {end} on", tail.len())), "{error}");
                assert!(rest.name.is_none() && !rest.is_no_picture());
            }
        }

        #[test]
        fn a_file_that_is_cut_anywhere_waits_for_the_array_that_is_cut(kinds in kinds(), at in any::<usize>()) {
            let kinds = [vec![Kind::Picture(5)], kinds].concat();
            let arrays: Vec<Vec<u8>> = kinds.iter().map(|kind| array(*kind)).collect();
            let file = arrays.concat();
            let cut = at % file.len();
            let n_whole = arrays.iter().scan(0, |end, array| { *end += array.len(); Some(*end) })
                .filter(|end| *end <= cut).count();
            // Objects without their end are refused, because only unpickling could find it.
            let is_cut_in_objects = matches!(kinds[n_whole], Kind::Objects);
            let is_whole = arrays[..n_whole].concat().len() == cut;
            match tensors(&file[..cut]) {
                Err(error) => assert!(n_whole == 0 && matches!(error, DecodeError::Truncated { .. }), "{error}"),
                Ok(got) if is_whole => assert_eq!(got.len(), n_whole),
                Ok(got) => {
                    assert_eq!(got.len(), n_whole + 1);
                    let last = &got[n_whole];
                    let waits = matches!(last.header, Err(DecodeError::Truncated { .. }));
                    assert!(waits || is_cut_in_objects, "{last:?}");
                    assert!(!last.is_no_picture(), "{last:?}");
                }
            }
        }
    }
}
