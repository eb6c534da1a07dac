//! The tensors that a pickle's result leads to, and everything else that it leads to.

use std::collections::HashSet;

use super::pickle::{Id, Pickle, Value};
use crate::decode::skipped::Skipped;
use crate::decode::{DecodeError, TENSORS_MAX};
use crate::media::NAME_BYTES_MAX;

/// Deepest nesting of containers and objects.
const DEPTH_MAX: usize = 64;

/// Most values that are visited in the search for tensors. A container with a tensor is visited once for
/// each place where it occurs.
const VISITS_MAX: usize = 1 << 20;

/// What the result of a pickle leads to.
pub(super) struct Found<'a> {
    /// Tensors and arrays. A name has the keys of dicts and the indices in lists that lead to the tensor,
    /// joined by slashes.
    pub(super) tensors: Vec<(Option<String>, FoundTensor<'a>)>,
    /// Values that hold no tensor. Of a container without any tensor, only the container counts.
    pub(super) others: Skipped,
}

/// A tensor or an array.
pub(super) enum FoundTensor<'a> {
    /// A value of the pickle that is one.
    Value(&'a Value),
    /// One that may be there but was not looked for, or whose name is too long.
    Refused(DecodeError),
}

struct Search<'a> {
    pickle: &'a Pickle<'a>,
    n_visits: usize,
    found: Found<'a>,
    /// The containers that lead to the value that is visited.
    above: Vec<Id>,
    path: Vec<String>,
    /// Containers that hold no tensor.
    without: HashSet<Id>,
}

/// Searches the result of a pickle.
///
/// # Errors
/// `OverLimit` if it holds too many tensors or values.
pub(super) fn search<'a>(pickle: &'a Pickle<'a>) -> Result<Found<'a>, DecodeError> {
    let found = Found { tensors: Vec::new(), others: Skipped::default() };
    let (above, path, without) = (Vec::new(), Vec::new(), HashSet::new());
    let mut search = Search { pickle, n_visits: 0, found, above, path, without };
    let root = pickle.root();
    if !search.visit(root)? && children(pickle, pickle.get(root)).is_empty() {
        search.add_other(root);
    }
    Ok(search.found)
}

/// How a value leads to a value within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PathStep {
    /// The inner value has the name of the outer one.
    Same,
    Index(usize),
    /// The value of this key of a dict.
    Key(Id),
    /// A key of a dict itself.
    WithinKey,
    /// Attributes of a dict or a tensor.
    Attributes,
}

/// The values within a value. The attributes of an object are named as its arguments and items are.
fn children(pickle: &Pickle<'_>, value: &Value) -> Vec<(PathStep, Id)> {
    let indexed = |values: &[Id]| {
        values.iter().enumerate().map(|(i, &id)| (PathStep::Index(i), id)).collect::<Vec<_>>()
    };
    let keyed = |entries: &[(Id, Id)]| {
        let both = |&(key, value)| [(PathStep::WithinKey, key), (PathStep::Key(key), value)];
        entries.iter().flat_map(both).collect::<Vec<_>>()
    };
    match value {
        Value::Tuple(values) | Value::List(values) | Value::Set(values) => indexed(values),
        Value::Dict(dict) => {
            let attributes = dict.attributes.map(|id| (PathStep::Attributes, id));
            keyed(&dict.entries).into_iter().chain(attributes).collect()
        }
        Value::Object(object) => {
            let tensor = object.tensor.map(|id| (PathStep::Same, id));
            let is_tensor = tensor.is_some();
            let parts = indexed(&object.parts).into_iter();
            // The entries of a dict of attributes have names of their own.
            let step_to = |id: Id, step| match pickle.get(id) {
                _ if is_tensor => PathStep::Attributes,
                Value::Dict(_) => PathStep::Same,
                _ => step,
            };
            let parts = parts.map(|(step, id)| (step_to(id, step), id));
            let items = indexed(&object.items);
            tensor.into_iter().chain(parts).chain(items).chain(keyed(&object.entries)).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether a value is an empty container.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Tuple(values) | Value::List(values) | Value::Set(values) => values.is_empty(),
        Value::Dict(dict) => dict.is_empty(),
        _ => false,
    }
}

impl<'a> Search<'a> {
    /// Visits a value. Returns whether it holds a tensor.
    fn visit(&mut self, id: Id) -> Result<bool, DecodeError> {
        self.n_visits += 1;
        if self.n_visits > VISITS_MAX {
            let what = format!("more than {VISITS_MAX} values");
            return Err(DecodeError::OverLimit(what));
        }
        let pickle = self.pickle;
        let value = pickle.get(id);
        if matches!(value, Value::Tensor(_) | Value::Array(_) | Value::Unreadable(_)) {
            self.add_tensor(FoundTensor::Value(value))?;
            return Ok(true);
        }
        // A container that holds itself has nothing new at the second place.
        if self.without.contains(&id) || self.above.contains(&id) {
            return Ok(false);
        }
        let children = children(pickle, value);
        if !children.is_empty() && self.above.len() >= DEPTH_MAX {
            let what = format!("values nested more than {DEPTH_MAX} deep");
            self.add_tensor(FoundTensor::Refused(DecodeError::OverLimit(what)))?;
            return Ok(true);
        }
        self.above.push(id);
        let holds_tensor = self.visit_children(children)?;
        self.above.pop();
        if !holds_tensor {
            self.without.insert(id);
        }
        Ok(holds_tensor)
    }

    /// Visits the values within a value. If one of them holds a tensor, the others are counted. The values
    /// within the root are counted in any case.
    fn visit_children(&mut self, children: Vec<(PathStep, Id)>) -> Result<bool, DecodeError> {
        let (mut holds_tensor, mut others) = (false, Vec::new());
        for (step, id) in children {
            let n_path = self.path.len();
            self.enter(step);
            let is_tensor = self.visit(id)?;
            self.path.truncate(n_path);
            holds_tensor |= is_tensor;
            if !is_tensor && step != PathStep::WithinKey && !is_nothing(self.pickle.get(id)) {
                others.push((step, id));
            }
        }
        let is_root = self.above.len() == 1;
        for (step, id) in others.into_iter().filter(|_| holds_tensor || is_root) {
            let n_path = self.path.len();
            self.enter(step);
            self.add_other(id);
            self.path.truncate(n_path);
        }
        Ok(holds_tensor)
    }

    fn enter(&mut self, step: PathStep) {
        self.path.extend(match step {
            PathStep::Same => None,
            PathStep::Index(i) => Some(i.to_string()),
            PathStep::Key(key) => Some(self.pickle.key_text(key)),
            PathStep::WithinKey => Some("key".to_owned()),
            PathStep::Attributes => Some("attributes".to_owned()),
        });
    }

    fn add_other(&mut self, id: Id) {
        let what = self.pickle.kind_of(id);
        self.found.others.add(&self.path.join("/"), &what);
    }

    fn add_tensor(&mut self, tensor: FoundTensor<'a>) -> Result<(), DecodeError> {
        if self.found.tensors.len() == TENSORS_MAX {
            let what = format!("more than {TENSORS_MAX} tensors");
            return Err(DecodeError::OverLimit(what));
        }
        let name = (!self.path.is_empty()).then(|| self.path.join("/"));
        let tensor = match &name {
            Some(name) if name.len() > NAME_BYTES_MAX => {
                let what = format!("a tensor's name of more than {NAME_BYTES_MAX} bytes");
                FoundTensor::Refused(DecodeError::OverLimit(what))
            }
            _ => tensor,
        };
        self.found.tensors.push((name, tensor));
        Ok(())
    }
}
