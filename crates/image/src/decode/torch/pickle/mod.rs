//! Reads a pickle of tensors, containers and objects into plain values. Nothing is imported or called.
//!
//! A pickle is a program for a stack machine. A call of a name that makes tensors or containers gives such
//! a [`Value`]. A call of any other name gives an [`Object`], which keeps the arguments of the call: a tensor
//! may be among them. A tensor that depends on a value that only a call could make is
//! [`Value::Unreadable`].
//!
//! Source: Python's `pickletools`; `torch/_weights_only_unpickler.py`.

mod calls;
mod machine;
mod names;
mod opcodes;
mod repr;

use std::ops::Range;
use std::sync::Arc;

use self::machine::Machine;
use self::names::Global;
pub(in crate::decode) use self::opcodes::length;
use super::{NamedStorage, View};
use crate::decode::DecodeError;

/// Index of a value in its [`Pickle`].
pub(super) type Id = usize;

/// A value of a pickle.
#[derive(Debug, Clone)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// A whole number of more than 64 bits.
    LongInt,
    Float(f64),
    /// A text, and where it lies in the pickle.
    Text(Arc<str>, usize),
    /// The range of the pickle that holds the bytes.
    Bytes(Range<usize>),
    /// Bytes that are written as a text of the characters U+0000 to U+00FF, and where it lies.
    Latin1(Range<usize>),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Set(Vec<Id>),
    Dict(Box<Dict>),
    /// A function or a type.
    Global(Global),
    Storage(Box<NamedStorage>),
    Tensor(Box<View>),
    /// An array of `NumPy`. `None` until its parts are set.
    Array(Option<Box<ArrayParts>>),
    /// An element type of `NumPy`.
    ArrayType(Box<ArrayType>),
    /// A tensor or an array that cannot be read, and why.
    Unreadable(Box<DecodeError>),
    /// Anything else.
    Object(Box<Object>),
}

/// A dict.
#[derive(Debug, Clone, Default)]
pub(super) struct Dict {
    pub(super) entries: Vec<(Id, Id)>,
    /// Its attributes: torch's state dicts have `_metadata`.
    pub(super) attributes: Option<Id>,
}

/// A value that only the program that wrote it could make, or a tensor with attributes.
#[derive(Debug, Clone, Default)]
pub(super) struct Object {
    /// What it is, such as `argparse.Namespace`.
    pub(super) name: Arc<str>,
    /// The tensor that it is.
    pub(super) tensor: Option<Id>,
    /// Its arguments and attributes.
    pub(super) parts: Vec<Id>,
    /// Its items, if it is a list.
    pub(super) items: Vec<Id>,
    /// Its entries, if it is a dict.
    pub(super) entries: Vec<(Id, Id)>,
}

/// The parts of an array of `NumPy`.
#[derive(Debug, Clone)]
pub(super) struct ArrayParts {
    pub(super) axes: Vec<u64>,
    /// Its element type, such as `<f4`.
    pub(super) descr: String,
    pub(super) fortran_order: bool,
    /// The range of the pickle with its elements. `None` if they are Python objects.
    pub(super) elements: Option<ArrayElements>,
}

/// Where the elements of an array lie.
#[derive(Debug, Clone)]
pub(super) struct ArrayElements {
    pub(super) range: Range<usize>,
    /// Whether each byte is a character of a UTF-8 text.
    pub(super) is_latin1: bool,
    /// Bytes of the elements.
    pub(super) n_bytes: u64,
}

/// An element type of `NumPy`.
#[derive(Debug, Clone)]
pub(super) struct ArrayType {
    /// Kind and size, such as `f4`.
    pub(super) kind: Arc<str>,
    /// `<`, `>`, `|` or `=`.
    pub(super) order: char,
    /// Whether it has named parts.
    pub(super) is_structured: bool,
}

/// The values of a pickle.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    /// The pickle itself.
    bytes: &'a [u8],
    values: Vec<Value>,
    root: Id,
    unread: Option<&'static str>,
}

impl<'a> Pickle<'a> {
    /// Reads a pickle of protocols 0 to 5.
    ///
    /// # Errors
    /// `Unsupported` for an unknown opcode, `OverLimit` if there are too many values, else `Malformed`.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        Machine::new(bytes).run()
    }

    pub(super) fn root(&self) -> Id {
        self.root
    }

    pub(super) fn get(&self, id: Id) -> &Value {
        &self.values[id]
    }

    /// Names what the pickle holds that the root does not lead to.
    pub(super) fn unread(&self) -> Option<&'static str> {
        self.unread
    }
}

fn malformed(what: &str) -> DecodeError {
    DecodeError::Malformed(format!("pickle: {what}"))
}
