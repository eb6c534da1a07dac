//! The tensors of a dump that a record leads to.

use std::collections::HashSet;

use crate::decode::{Contents, DecodeError, NamedTensor, Skipped};
use crate::media::{MediaKey, Rejection};
use crate::plan::Found;
use crate::run_dir::ReadFailure;

/// A tensor or an image file, and the key of its images.
pub(crate) struct Part {
    pub(crate) key: MediaKey,
    /// The tensor's name in the dump, if it has one.
    pub(crate) tensor: Option<String>,
    /// The tensor, or why it cannot be read.
    pub(crate) found: Result<Found, Rejection>,
}

/// What a record leads to in a dump.
pub(super) struct DumpParts {
    pub(super) parts: Vec<Part>,
    /// Entries that hold no picture.
    pub(super) skipped: Skipped,
    /// Why a tensor cannot be read yet, though the others can.
    pub(super) unfinished: Option<String>,
}

/// Returns the tensor that a record names, or all tensors that may be pictures if it names none. If the dump
/// holds several tensors, the key of each ends in its name.
///
/// # Errors
/// If the dump has no tensor, none of that name, or nothing that may be a picture.
pub(super) fn parts(
    contents: &Contents,
    key: &MediaKey,
    tensor: Option<&str>,
    path: &str,
) -> Result<DumpParts, ReadFailure> {
    let one = |found, tensor: Option<&str>| Part {
        key: key.clone(),
        tensor: tensor.map(str::to_owned),
        found,
    };
    let lone =
        |part| DumpParts { parts: vec![part], skipped: Skipped::default(), unfinished: None };
    let (writer, tensors) = match contents {
        Contents::Picture(picture) if tensor.is_none() => {
            return Ok(lone(one(Ok(Found::Picture(picture.clone())), None)));
        }
        Contents::Picture(_) => {
            let reason = format!("{path:?} is an image file, which has no tensor to name");
            return Err(ReadFailure::Reject(reason));
        }
        Contents::Tensors { writer, tensors, .. } => (*writer, tensors),
    };
    let found = |tensor: &NamedTensor| match &tensor.header {
        Ok(header) => Ok(Found::Tensor(writer, Box::new(header.clone()))),
        Err(error) => Err(ReadFailure::from(error.clone()).about(path).into()),
    };
    if let Some(name) = tensor {
        return match tensors.iter().find(|tensor| tensor.name.as_deref() == Some(name)) {
            Some(tensor) => Ok(lone(one(found(tensor), Some(name)))),
            None => Err(ReadFailure::Reject(no_such_tensor(path, name, tensors))),
        };
    }
    let skipped = contents.skipped();
    if tensors.iter().all(NamedTensor::is_no_picture) {
        return match tensors.as_slice() {
            // What is wrong with it is said when it is planned.
            [tensor] if skipped.n == 1 => Ok(lone(one(found(tensor), tensor.name.as_deref()))),
            _ if skipped.n == 0 => Err(ReadFailure::Reject(format!("{path:?} holds no tensor"))),
            _ => Err(ReadFailure::Reject(format!("{path:?} holds no picture, but {skipped}"))),
        };
    }
    let mut names = HashSet::new();
    let part = |tensor: &NamedTensor| match &tensor.name {
        Some(name) if tensors.len() > 1 => {
            if !names.insert(name.clone()) {
                return one(Err(format!("{path:?} holds two tensors {name:?}").into()), Some(name));
            }
            match MediaKey::new(format!("{key}/{name}")) {
                Ok(key) => Part { key, tensor: Some(name.clone()), found: found(tensor) },
                Err(error) => one(Err(error.to_string().into()), Some(name)),
            }
        }
        name => one(found(tensor), name.as_deref()),
    };
    let pictures = tensors.iter().filter(|tensor| !tensor.is_no_picture());
    let unfinished = pictures.clone().find_map(|tensor| match &tensor.header {
        Err(error @ (DecodeError::Truncated { .. } | DecodeError::Unfinished(_))) => {
            Some(format!("{path:?} {error}"))
        }
        _ => None,
    });
    Ok(DumpParts { parts: pictures.map(part).collect(), skipped, unfinished })
}

/// Says that a dump has no tensor of this name, and which names are close.
pub(super) fn no_such_tensor(path: &str, name: &str, tensors: &[NamedTensor]) -> String {
    const SHOWN: usize = 8;
    let mut names: Vec<&str> = tensors.iter().filter_map(|tensor| tensor.name.as_deref()).collect();
    if names.is_empty() {
        return format!("{path:?} holds one tensor without a name, got {name:?}");
    }
    names.sort_by_key(|known| strsim::damerau_levenshtein(known, name));
    let n_more = names.len().saturating_sub(SHOWN);
    let more = if n_more > 0 { format!(" and {n_more} more") } else { String::new() };
    names.truncate(SHOWN);
    format!("{path:?} holds no tensor {name:?}, but {names:?}{more}")
}
