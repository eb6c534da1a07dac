//! Reads a pickle of tensors, lists and dicts into plain values. Nothing is imported or called.
//!
//! A pickle is a program for a stack machine. Known are the opcodes that `torch.save` writes for tensors,
//! plain values and containers of them, and the names that make tensors. A call of such a name makes a
//! [`Value`]. Everything else is an error.
//!
//! Source: Python's `pickletools`; `torch/_weights_only_unpickler.py`.

mod machine;
mod names;

use std::sync::Arc;

use self::machine::Machine;
use self::names::Global;
use super::{NamedStorage, View};
use crate::decode::DecodeError;

/// Index of a value in its [`Pickle`].
pub(super) type Id = usize;

/// A value of a pickle.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Int(i64),
    Text(Arc<str>),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A function or a type.
    Global(Global),
    Storage(Box<NamedStorage>),
    Tensor(Box<View>),
    /// A value that no tensor depends on: a float, `None`, a device.
    Other,
}

/// The values of a pickle.
#[derive(Debug)]
pub(super) struct Pickle {
    values: Vec<Value>,
    root: Id,
    has_ignored: bool,
}

impl Pickle {
    /// Reads a pickle of protocols 2 to 5.
    ///
    /// # Errors
    /// `Unsupported` for an opcode or a name that no tensor needs, `OverLimit` if there are too many
    /// values, else `Malformed`.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        Machine::new(bytes).run()
    }

    pub(super) fn root(&self) -> Id {
        self.root
    }

    pub(super) fn get(&self, id: Id) -> &Value {
        &self.values[id]
    }

    /// Whether there are values that the root does not lead to: attributes of a dict, or bytes after the
    /// end.
    pub(super) fn has_ignored(&self) -> bool {
        self.has_ignored
    }
}

fn malformed(what: &str) -> DecodeError {
    DecodeError::Malformed(format!("pickle: {what}"))
}
