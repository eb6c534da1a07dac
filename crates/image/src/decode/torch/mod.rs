//! torch's zip format, which `torch.save` writes since 1.6.
//!
//! | member | contents |
//! | --- | --- |
//! | `NAME/data.pkl` | a pickle of the saved value, which refers to storages by their key |
//! | `NAME/data/KEY` | the bytes of one storage |
//! | `NAME/byteorder` | `little` or `big`; little if it is missing |
//!
//! The pickle is parsed, never run. A tensor is a view of a storage: an offset, a shape and strides, all in
//! elements. Views may leave gaps, overlap, or repeat elements. An array of `NumPy` lies in the pickle itself.
//! A value that only a call could make is an entry without a picture.
//!
//! Source: `torch/serialization.py` and `torch/_utils.py`, torch 1.13 to 2.9.

mod pickle;
mod search;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

pub(super) use self::pickle::length as pickle_length;
use self::pickle::{ArrayParts, Pickle, Value};
use self::search::{FoundTensor, search};
use super::npy::ArrayHeader;
use super::zip::{self, Directory, Member};
use super::{Contents, DecodeError, DecodeOptions, NamedTensor, ReadAt};
use crate::tensor::{ByteOrder, DType, Encoding, Shape, Storage, TensorHeader, Writer};

/// Whether these are the members of a torch file.
pub(super) fn is_archive(members: &[Member]) -> bool {
    members.iter().any(|member| is_pickle(&member.name))
}

fn is_pickle(name: &str) -> bool {
    name == "data.pkl" || name.ends_with("/data.pkl")
}

/// Returns the error for a file that is itself a pickle.
pub(super) fn legacy(start: &[u8]) -> DecodeError {
    // torch's magic number behind the protocol: its format before 1.6.
    let is_torch =
        start.get(2..).is_some_and(|rest| rest.starts_with(b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"));
    let what = if is_torch {
        "torch's format from before 1.6; save without _use_new_zipfile_serialization=False"
    } else {
        "a pickle, which could run code; want torch.save's zip format, npy, npz or safetensors"
    };
    DecodeError::Unsupported(what.to_owned())
}

/// Returns the tensors of a torch file. Names are the keys of dicts and the indices in lists that lead to
/// the tensor, joined by slashes. A tensor that cannot be read has an error of its own.
///
/// # Errors
/// If the pickle cannot be parsed, or holds too much.
pub(super) fn contents(
    dump: &impl ReadAt,
    directory: &Directory,
    options: &DecodeOptions,
) -> Result<Contents, DecodeError> {
    let members = &directory.members;
    let by_name: HashMap<&str, &Member> =
        members.iter().map(|member| (member.name.as_str(), member)).collect();
    let Some(data) = members.iter().find(|member| is_pickle(&member.name)) else {
        return Err(malformed("no data.pkl"));
    };
    let prefix = data.name.trim_end_matches("data.pkl");
    if by_name.contains_key(format!("{prefix}constants.pkl").as_str()) {
        let what = "a TorchScript program; want torch.save of tensors";
        return Err(DecodeError::Unsupported(what.to_owned()));
    }
    let byte_order = match by_name.get(format!("{prefix}byteorder").as_str()) {
        None => ByteOrder::Little,
        Some(member) => match zip::read(dump, member, options)?.as_slice() {
            b"little" => ByteOrder::Little,
            b"big" => ByteOrder::Big,
            _ => return Err(malformed("byteorder is neither little nor big")),
        },
    };
    let bytes = zip::read(dump, data, options)?;
    let pickle = Pickle::read(&bytes)?;
    let found = search(&pickle)?;
    let storage_of = |view: &View| {
        let member = by_name.get(format!("{prefix}data/{}", view.storage.key).as_str());
        let key = &view.storage.key;
        let member = member.ok_or_else(|| malformed(&format!("storage {key:?} is missing")))?;
        // If torch is set to leave out checksums, it writes 0.
        let crc32 = member.storage.crc32.filter(|&crc32| crc32 != 0);
        Ok(Storage { crc32, ..member.storage.clone() })
    };
    let mut used = HashSet::new();
    let mut tensors = Vec::with_capacity(found.tensors.len());
    for (name, tensor) in found.tensors {
        let tensor = match tensor {
            FoundTensor::Refused(error) => NamedTensor::new(name, Err(error)),
            FoundTensor::Value(Value::Tensor(view)) => {
                used.insert(&*view.storage.key);
                let header = storage_of(view).and_then(|storage| header(view, storage, byte_order));
                NamedTensor::new(name, header)
            }
            FoundTensor::Value(Value::Array(Some(array))) => self::array(name, array, data),
            FoundTensor::Value(Value::Unreadable(error)) => {
                NamedTensor::new(name, Err((**error).clone()))
            }
            FoundTensor::Value(_) => {
                NamedTensor::new(name, Err(malformed("a NumPy array without its parts")))
            }
        };
        tensors.push(tensor);
    }
    let is_known = |member: &Member| {
        member.name.strip_prefix(prefix).is_some_and(|name| {
            OTHER_MEMBERS.contains(&name)
                || name.strip_prefix("data/").is_some_and(|key| used.contains(key))
        })
    };
    let unread = match zip::other_bytes(dump, directory)?.or(pickle.unread()) {
        Some(what) => Some(what.to_owned()),
        None => members.iter().find(|member| !is_known(member)).map(|member| {
            let name: String = member.name.chars().take(80).collect();
            format!("a member that no tensor needs: {name:?}")
        }),
    };
    let (metadata, others) = (BTreeMap::new(), found.others);
    Ok(Contents::Tensors { writer: Writer::Torch, tensors, metadata, others, unread })
}

/// Returns the array of `NumPy` whose elements lie in the pickle `data`.
fn array(name: Option<String>, array: &ArrayParts, data: &Member) -> NamedTensor {
    let parts = ArrayHeader::new(array.descr.clone(), array.fortran_order, &array.axes, 0);
    let header = match &parts {
        Ok(parts) => array_header(parts, array, data),
        Err(error) => Err(error.clone()),
    };
    let no_picture = parts.ok().and_then(|parts| parts.no_picture());
    NamedTensor { name, header, no_picture }
}

fn array_header(
    parts: &ArrayHeader,
    array: &ArrayParts,
    data: &Member,
) -> Result<TensorHeader, DecodeError> {
    let element_type = parts.element_type(None)?;
    let elements = array.elements.as_ref();
    let elements = elements.ok_or_else(|| malformed("a NumPy array without bytes"))?;
    let (got, want) = (elements.n_bytes, element_type.n_bytes);
    if got != want {
        return Err(malformed(&format!("a NumPy array of {got} bytes, its shape needs {want}")));
    }
    if data.storage.encoding != Encoding::Plain {
        let what = "a NumPy array in a compressed pickle; save a tensor";
        return Err(DecodeError::Unsupported(what.to_owned()));
    }
    let n_stored = elements.range.len() as u64;
    let encoding = if elements.is_latin1 { Encoding::Latin1 } else { Encoding::Plain };
    let offset = data.storage.offset + elements.range.start as u64;
    let storage = Storage { offset, n_stored, n_bytes: want, encoding, crc32: None };
    parts.tensor(element_type, storage, 0)
}

/// Members that torch writes beside the storages.
const OTHER_MEMBERS: [&str; 6] = [
    "data.pkl",
    "byteorder",
    "version",
    ".format_version",
    ".storage_alignment",
    ".data/serialization_id",
];

fn malformed(what: &str) -> DecodeError {
    DecodeError::Malformed(format!("torch: {what}"))
}

/// A storage as a pickle refers to it.
#[derive(Debug, Clone)]
struct NamedStorage {
    /// Key of the member that holds it.
    key: Arc<str>,
    /// Element type. `None` for a storage of bytes.
    dtype: Option<DType>,
    n_elements: u64,
}

/// A tensor as a pickle describes it.
#[derive(Debug, Clone)]
struct View {
    storage: NamedStorage,
    dtype: DType,
    /// In elements.
    first: u64,
    axes: Vec<u64>,
    strides: Vec<u64>,
}

fn header(
    view: &View,
    storage: Storage,
    byte_order: ByteOrder,
) -> Result<TensorHeader, DecodeError> {
    let malformed = |what: String| malformed(&what);
    let size = view.dtype.size() as u64;
    let n_bytes = match view.storage.dtype {
        Some(dtype) => view.storage.n_elements.checked_mul(dtype.size() as u64),
        None => Some(view.storage.n_elements),
    };
    if n_bytes.is_none_or(|n_bytes| n_bytes > storage.n_bytes) {
        let (n, got) = (view.storage.n_elements, storage.n_bytes);
        return Err(malformed(format!("a storage of {n} elements in {got} bytes")));
    }
    let shape = Shape::new(view.axes.clone())
        .filter(|_| view.axes.len() == view.strides.len())
        .ok_or_else(|| malformed(format!("shape {:?} is too large", view.axes)))?;
    let first = view.first.checked_mul(size);
    let first = first.ok_or_else(|| malformed("the offset is too large".to_owned()))?;
    let n_bytes = storage.n_bytes;
    TensorHeader::new(view.dtype, byte_order, shape, view.strides.clone(), storage, first)
        .map_err(|_| malformed(format!("it reaches outside of its storage of {n_bytes} bytes")))
}
