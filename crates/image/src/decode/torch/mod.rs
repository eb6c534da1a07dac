//! torch's zip format, which `torch.save` writes since 1.6.
//!
//! | member | contents |
//! | --- | --- |
//! | `NAME/data.pkl` | a pickle of the saved value, which refers to storages by their key |
//! | `NAME/data/KEY` | the bytes of one storage |
//! | `NAME/byteorder` | `little` or `big`; little if it is missing |
//!
//! The pickle is parsed, never run. A tensor is a view of a storage: an offset, a shape and strides, all in
//! elements. Views may leave gaps, overlap, or repeat elements.
//!
//! Source: `torch/serialization.py` and `torch/_utils.py`, torch 1.13 to 2.9.

mod pickle;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use self::pickle::{Id, Pickle, Value};
use super::zip::{self, Member};
use super::{Contents, DecodeError, DecodeOptions, NamedTensor, ReadAt, TENSORS_MAX};
use crate::media::NAME_BYTES_MAX;
use crate::tensor::{ByteOrder, DType, Shape, Storage, TensorHeader, Writer};

/// Deepest nesting of lists and dicts.
const DEPTH_MAX: usize = 32;

/// Most values that are visited in the search for tensors. A value is visited once for each place where it
/// occurs.
const VISITS_MAX: usize = 1 << 20;

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
/// the tensor, joined by slashes.
///
/// # Errors
/// If the pickle refers to anything that no tensor needs, or a tensor reaches outside of its storage.
pub(super) fn contents(
    dump: &impl ReadAt,
    members: &[Member],
    options: &DecodeOptions,
) -> Result<Contents, DecodeError> {
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
    let pickle = Pickle::read(&zip::read(dump, data, options)?)?;
    let tensors = Finder::find(&pickle)?.found.into_iter().map(|(name, tensor)| {
        let member = format!("{prefix}data/{}", tensor.storage.key);
        let member = by_name
            .get(member.as_str())
            .ok_or_else(|| malformed(&format!("storage {:?} is missing", tensor.storage.key)))?;
        // If torch is set to leave out checksums, it writes 0.
        let crc32 = member.storage.crc32.filter(|&crc32| crc32 != 0);
        let storage = Storage { crc32, ..member.storage.clone() };
        let header = header(tensor, storage, byte_order).map_err(|error| match error {
            DecodeError::Malformed(what) => {
                malformed(&format!("{:?}: {what}", name.as_deref().unwrap_or("tensor")))
            }
            error => error,
        })?;
        Ok(NamedTensor { name, header: Ok(header) })
    });
    let tensors = tensors.collect::<Result<Vec<_>, DecodeError>>()?;
    Ok(Contents::Tensors { writer: Writer::Torch, tensors, metadata: BTreeMap::new() })
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

/// What a file holds that [`contents`] passes over; none if all of it is in the tensors.
///
/// # Errors
/// As [`contents`].
pub(super) fn unread(
    dump: &impl ReadAt,
    members: &[Member],
    options: &DecodeOptions,
) -> Result<Option<&'static str>, DecodeError> {
    let data = members.iter().find(|member| is_pickle(&member.name));
    let data = data.ok_or_else(|| malformed("no data.pkl"))?;
    let prefix = data.name.trim_end_matches("data.pkl");
    let pickle = Pickle::read(&zip::read(dump, data, options)?)?;
    let Finder { found, has_others, .. } = Finder::find(&pickle)?;
    if has_others || pickle.has_ignored() {
        return Ok(Some("values that are no tensors, or have no name"));
    }
    let storages: HashSet<&str> = found.iter().map(|(_, view)| &*view.storage.key).collect();
    let is_known = |member: &Member| {
        member.name.strip_prefix(prefix).is_some_and(|name| {
            OTHER_MEMBERS.contains(&name)
                || name.strip_prefix("data/").is_some_and(|key| storages.contains(key))
        })
    };
    Ok((!members.iter().all(is_known)).then_some("members that no tensor needs"))
}

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
    let malformed = |what: String| DecodeError::Malformed(what);
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

struct Finder<'a> {
    pickle: &'a Pickle,
    n_visits: usize,
    found: Vec<(Option<String>, &'a View)>,
    /// Whether it met values that are no tensors and hold none.
    has_others: bool,
}

impl<'a> Finder<'a> {
    fn find(pickle: &'a Pickle) -> Result<Self, DecodeError> {
        let mut finder = Self { pickle, n_visits: 0, found: Vec::new(), has_others: false };
        finder.visit(pickle.root(), &mut Vec::new())?;
        Ok(finder)
    }

    fn visit(&mut self, id: Id, path: &mut Vec<String>) -> Result<(), DecodeError> {
        self.n_visits += 1;
        if self.n_visits > VISITS_MAX || path.len() > DEPTH_MAX {
            let what = format!(
                "values nested more than {DEPTH_MAX} deep, or more than {VISITS_MAX} values"
            );
            return Err(DecodeError::OverLimit(what));
        }
        match self.pickle.get(id) {
            Value::Tensor(view) => {
                if self.found.len() == TENSORS_MAX {
                    let what = format!("more than {TENSORS_MAX} tensors");
                    return Err(DecodeError::OverLimit(what));
                }
                let name = (!path.is_empty()).then(|| path.join("/"));
                if name.as_ref().is_some_and(|name| name.len() > NAME_BYTES_MAX) {
                    let what = format!("a tensor's name of more than {NAME_BYTES_MAX} bytes");
                    return Err(DecodeError::OverLimit(what));
                }
                self.found.push((name, view));
            }
            Value::Tuple(values) | Value::List(values) => {
                for (i, &value) in values.iter().enumerate() {
                    path.push(i.to_string());
                    self.visit(value, path)?;
                    path.pop();
                }
            }
            Value::Dict(entries) => {
                for &(key, value) in entries {
                    path.push(match self.pickle.get(key) {
                        Value::Text(text) if text.len() > NAME_BYTES_MAX => {
                            let got = text.len();
                            let what = format!("a key of {got} bytes, want {NAME_BYTES_MAX}");
                            return Err(DecodeError::OverLimit(what));
                        }
                        Value::Text(text) => text.to_string(),
                        Value::Int(number) => number.to_string(),
                        _ => {
                            self.has_others = true;
                            continue;
                        }
                    });
                    self.visit(value, path)?;
                    path.pop();
                }
            }
            _ => self.has_others = true,
        }
        Ok(())
    }
}
