//! The stack machine that a pickle is a program for.
//!
//! Each opcode makes at most one value, and no value is copied whole, so the length of the pickle bounds
//! the memory.

use std::collections::HashMap;
use std::sync::Arc;

use super::names::{self, Global};
use super::{Id, Pickle, Value, malformed};
use crate::decode::DecodeError;
use crate::decode::torch::{NamedStorage, View};
use crate::tensor::{DType, Shape};

/// Most values of a pickle. A tensor takes about thirty.
const VALUES_MAX: usize = 1 << 20;

#[derive(Default)]
pub(super) struct Machine<'a> {
    rest: &'a [u8],
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack at its marks, in rising order.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    /// Whether a value was dropped that a reader may want.
    has_ignored: bool,
}

impl<'a> Machine<'a> {
    pub(super) fn new(pickle: &'a [u8]) -> Self {
        Self { rest: pickle, ..Self::default() }
    }

    /// Runs the whole pickle.
    ///
    /// # Errors
    /// `Unsupported` for an opcode or a name that no tensor needs, `OverLimit` above [`VALUES_MAX`]
    /// values, else `Malformed`.
    pub(super) fn run(mut self) -> Result<Pickle, DecodeError> {
        loop {
            if self.values.len().max(self.memo.len()) > VALUES_MAX {
                let what = format!("a pickle of more than {VALUES_MAX} values");
                return Err(DecodeError::OverLimit(what));
            }
            if let Some(root) = self.step()? {
                let is_rest = !self.rest.is_empty() || !self.stack.is_empty();
                let has_ignored = self.has_ignored || is_rest;
                return Ok(Pickle { values: self.values, root, has_ignored });
            }
        }
    }

    /// Executes one opcode. Returns the pickle's result at `STOP`.
    fn step(&mut self) -> Result<Option<Id>, DecodeError> {
        let opcode = self.take(1)?[0];
        match opcode {
            // PROTO; FRAME, a length that is not needed.
            0x80 => match self.take(1)?[0] {
                0..=5 => {}
                protocol => return Err(malformed(&format!("protocol {protocol}, want 2 to 5"))),
            },
            0x95 => drop(self.take(8)?),
            b'.' => return self.pop().map(Some),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                self.has_ignored = true;
                self.pop()?;
            }
            // NONE, NEWTRUE, NEWFALSE, BINFLOAT.
            b'N' | 0x88 | 0x89 => self.push(Value::Other),
            b'G' => {
                self.take(8)?;
                self.push(Value::Other);
            }
            // BININT, BININT1, BININT2, LONG1.
            b'J' => {
                let number = self.take(4)?.first_chunk().copied().map_or(0, i32::from_le_bytes);
                self.push(Value::Int(number.into()));
            }
            b'K' => self.int(1)?,
            b'M' => self.int(2)?,
            0x8a => self.long()?,
            // BINUNICODE, SHORT_BINUNICODE, BINUNICODE8.
            b'X' => self.text(4)?,
            0x8c => self.text(1)?,
            0x8d => self.text(8)?,
            // BINBYTES, SHORT_BINBYTES, BINSTRING, SHORT_BINSTRING.
            b'B' | b'T' => self.bytes(4)?,
            b'C' | b'U' => self.bytes(1)?,
            b')' => self.push(Value::Tuple(Vec::new())),
            b't' => {
                let values = self.pop_mark()?;
                self.push(Value::Tuple(values));
            }
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b']' => self.push(Value::List(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            // APPEND, APPENDS, SETITEM, SETITEMS.
            b'a' => {
                let value = self.pop()?;
                self.append(&[value])?;
            }
            b'e' => {
                let values = self.pop_mark()?;
                self.append(&values)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(&[key, value])?;
            }
            b'u' => {
                let values = self.pop_mark()?;
                self.set(&values)?;
            }
            // BINPUT, LONG_BINPUT, MEMOIZE; BINGET, LONG_BINGET.
            b'q' => self.put(1)?,
            b'r' => self.put(4)?,
            0x94 => {
                let (place, id) = (self.memo.len() as u64, self.top()?);
                self.memo.insert(place, id);
            }
            b'h' => self.get(1)?,
            b'j' => self.get(4)?,
            // GLOBAL, STACK_GLOBAL.
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                let global = names::global(&module, &name)?;
                self.push(Value::Global(global));
            }
            0x93 => {
                let (name, module) = (self.pop_text()?, self.pop_text()?);
                let global = names::global(&module, &name)?;
                self.push(Value::Global(global));
            }
            // REDUCE, BUILD, BINPERSID.
            b'R' => self.reduce()?,
            b'b' => {
                // Sets the attributes of a dict: torch's state dicts have `_metadata`.
                self.has_ignored = true;
                self.pop()?;
                let id = self.top()?;
                if !matches!(self.values[id], Value::Dict(_)) {
                    return Err(malformed("BUILD on a value that is not a dict"));
                }
            }
            b'Q' => self.storage()?,
            _ => {
                let what = format!("a pickle with opcode {opcode:#04x}, which no tensor needs");
                return Err(DecodeError::Unsupported(what));
            }
        }
        Ok(None)
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) =
            self.rest.split_at_checked(n).ok_or_else(|| malformed("ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// A little-endian number of `n` bytes, at most 8.
    fn number(&mut self, n: usize) -> Result<u64, DecodeError> {
        Ok(self.take(n)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn counted(&mut self, n_length: usize) -> Result<&'a [u8], DecodeError> {
        let n = self.number(n_length)?;
        self.take(usize::try_from(n).unwrap_or(usize::MAX))
    }

    fn line(&mut self) -> Result<String, DecodeError> {
        let end = self.rest.iter().position(|&byte| byte == b'\n');
        let line = self.take(end.ok_or_else(|| malformed("ends too early"))?)?;
        self.take(1)?;
        String::from_utf8(line.to_vec()).map_err(|_| malformed("a name is not UTF-8"))
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn top(&self) -> Result<Id, DecodeError> {
        // Values below the last mark are out of reach.
        let floor = self.marks.last().copied().unwrap_or(0);
        let top = self.stack.get(floor..).and_then(<[Id]>::last);
        top.copied().ok_or_else(|| malformed("the stack is empty"))
    }

    fn pop(&mut self) -> Result<Id, DecodeError> {
        let id = self.top()?;
        self.stack.pop();
        Ok(id)
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>, DecodeError> {
        let mark = self.marks.pop().ok_or_else(|| malformed("a mark is missing"))?;
        Ok(self.stack.split_off(mark))
    }

    fn pop_text(&mut self) -> Result<Arc<str>, DecodeError> {
        let id = self.pop()?;
        match &self.values[id] {
            Value::Text(text) => Ok(text.clone()),
            _ => Err(malformed("a name is not text")),
        }
    }

    fn int(&mut self, n: usize) -> Result<(), DecodeError> {
        let number = self.number(n)?;
        self.push(Value::Int(i64::try_from(number).unwrap_or(i64::MAX)));
        Ok(())
    }

    /// Pushes a number of any length. Longer ones than 8 bytes become [`Value::Other`]: no tensor needs
    /// them.
    fn long(&mut self) -> Result<(), DecodeError> {
        let bytes = self.counted(1)?;
        let fill = if bytes.last().is_some_and(|last| last & 0x80 != 0) { 0xff } else { 0 };
        let mut number = [fill; 8];
        let value = match number.get_mut(..bytes.len()) {
            Some(start) => {
                start.copy_from_slice(bytes);
                Value::Int(i64::from_le_bytes(number))
            }
            None => Value::Other,
        };
        self.push(value);
        Ok(())
    }

    fn text(&mut self, n_length: usize) -> Result<(), DecodeError> {
        let bytes = self.counted(n_length)?;
        // Python writes lone surrogates, which are not valid UTF-8.
        self.push(Value::Text(String::from_utf8_lossy(bytes).into()));
        Ok(())
    }

    fn bytes(&mut self, n_length: usize) -> Result<(), DecodeError> {
        self.counted(n_length)?;
        self.push(Value::Other);
        Ok(())
    }

    fn tuple(&mut self, n: usize) -> Result<(), DecodeError> {
        let mut values = (0..n).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        values.reverse();
        self.push(Value::Tuple(values));
        Ok(())
    }

    fn append(&mut self, values: &[Id]) -> Result<(), DecodeError> {
        let list = self.top()?;
        match &mut self.values[list] {
            Value::List(list) => list.extend(values),
            _ => return Err(malformed("APPEND to a value that is not a list")),
        }
        Ok(())
    }

    fn set(&mut self, values: &[Id]) -> Result<(), DecodeError> {
        let dict = self.top()?;
        let (pairs, rest) = values.as_chunks::<2>();
        match &mut self.values[dict] {
            Value::Dict(dict) if rest.is_empty() => {
                dict.extend(pairs.iter().map(|&[key, value]| (key, value)));
            }
            _ => {
                return Err(malformed(
                    "SETITEMS on a value that is not a dict, or with a key without a value",
                ));
            }
        }
        Ok(())
    }

    fn put(&mut self, n: usize) -> Result<(), DecodeError> {
        let place = self.number(n)?;
        let id = self.top()?;
        self.memo.insert(place, id);
        Ok(())
    }

    fn get(&mut self, n: usize) -> Result<(), DecodeError> {
        let place = self.number(n)?;
        let id = self
            .memo
            .get(&place)
            .ok_or_else(|| malformed("BINGET of a memo that was never put"))?;
        self.stack.push(*id);
        Ok(())
    }

    /// Performs a call of a known name.
    fn reduce(&mut self) -> Result<(), DecodeError> {
        let (args, callee) = (self.pop()?, self.pop()?);
        let (Value::Global(callee), Value::Tuple(args)) =
            (&self.values[callee], &self.values[args])
        else {
            return Err(malformed("REDUCE of a value that cannot be called"));
        };
        let value = match (callee, args.as_slice()) {
            (Global::OrderedDict, []) => Value::Dict(Vec::new()),
            (Global::OrderedDict, _) => {
                return Err(malformed("an OrderedDict with arguments"));
            }
            (Global::Tensor, &[_, _, _, _, _, _, metadata, ..]) if self.is_lazy(metadata) => {
                let what = "a tensor that is conjugated or negated only by a flag; save t.resolve_conj().resolve_neg()";
                return Err(DecodeError::Unsupported(what.to_owned()));
            }
            (Global::Tensor, &[storage, first, axes, strides, ..]) => {
                Value::Tensor(Box::new(self.view([storage, first, axes, strides], None)?))
            }
            (Global::TensorV3, &[storage, first, axes, strides, _, _, dtype, ..]) => {
                let Value::Global(Global::DType(dtype)) = self.values[dtype] else {
                    let what = "a tensor of a dtype that makes no picture".to_owned();
                    return Err(DecodeError::Unsupported(what));
                };
                Value::Tensor(Box::new(self.view([storage, first, axes, strides], Some(dtype))?))
            }
            (Global::Parameter, &[inner, ..]) | (Global::Size, &[inner]) => {
                // A fourth argument is a state.
                self.has_ignored |= args.len() > 3;
                self.stack.push(inner);
                return Ok(());
            }
            (Global::Other, _) => Value::Other,
            _ => return Err(malformed("REDUCE with the wrong arguments")),
        };
        self.push(value);
        Ok(())
    }

    /// Whether the metadata of a tensor changes its values: conjugation or negation.
    fn is_lazy(&self, metadata: Id) -> bool {
        matches!(&self.values[metadata], Value::Dict(entries) if !entries.is_empty())
    }

    fn view(&self, parts: [Id; 4], dtype: Option<DType>) -> Result<View, DecodeError> {
        let [storage, first, axes, strides] = parts.map(|id| &self.values[id]);
        let Value::Storage(storage) = storage else {
            return Err(malformed("a tensor without a storage"));
        };
        let dtype = dtype.or(storage.dtype);
        let dtype = dtype.ok_or_else(|| malformed("a tensor without a dtype"))?;
        let number = |value: &Value| match value {
            Value::Int(number) => u64::try_from(*number).ok(),
            _ => None,
        };
        let numbers = |value: &Value| match value {
            Value::Tuple(values) | Value::List(values) if values.len() <= Shape::MAX_RANK => {
                values.iter().map(|&id| number(&self.values[id])).collect::<Option<Vec<_>>>()
            }
            _ => None,
        };
        match (number(first), numbers(axes), numbers(strides)) {
            (Some(first), Some(axes), Some(strides)) => {
                Ok(View { storage: (**storage).clone(), dtype, first, axes, strides })
            }
            _ => Err(malformed(
                "a tensor's offset, size or strides are not whole numbers of at least 0",
            )),
        }
    }

    /// Reads a persistent id: `('storage', type, key, location, number of elements)`.
    fn storage(&mut self) -> Result<(), DecodeError> {
        let id = self.pop()?;
        let wrong = || malformed("BINPERSID of a value that is not a storage");
        let Value::Tuple(parts) = &self.values[id] else { return Err(wrong()) };
        let &[kind, storage, key, _, n_elements] = parts.as_slice() else { return Err(wrong()) };
        match [kind, storage, key, n_elements].map(|id| &self.values[id]) {
            [
                Value::Text(kind),
                Value::Global(Global::Storage(dtype)),
                Value::Text(key),
                Value::Int(n_elements),
            ] if &**kind == "storage" => {
                let n_elements = u64::try_from(*n_elements).map_err(|_| wrong())?;
                let storage = NamedStorage { key: key.clone(), dtype: *dtype, n_elements };
                self.push(Value::Storage(Box::new(storage)));
                Ok(())
            }
            _ => Err(wrong()),
        }
    }
}
