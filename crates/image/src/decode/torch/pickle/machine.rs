//! The stack machine that a pickle is a program for.
//!
//! Each opcode makes at most one value, and no value is copied whole, so the length of the pickle bounds
//! the memory.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::names::Global;
use super::opcodes::{Opcode, Opcodes, little_endian};
use super::{Dict, Id, Object, Pickle, Value, malformed};
use crate::decode::DecodeError;

/// Most values of a pickle. A tensor takes about thirty.
const VALUES_MAX: usize = 1 << 20;

pub(super) struct Machine<'a> {
    pickle: &'a [u8],
    pub(super) values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack at its marks, in rising order.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    /// Whether a value was dropped that a reader may want.
    pub(super) has_dropped: bool,
}

impl<'a> Machine<'a> {
    pub(super) fn new(pickle: &'a [u8]) -> Self {
        let (values, stack, marks) = (Vec::new(), Vec::new(), Vec::new());
        Self { pickle, values, stack, marks, memo: HashMap::new(), has_dropped: false }
    }

    /// Runs the whole pickle.
    ///
    /// # Errors
    /// `Unsupported` for an unknown opcode, `OverLimit` above [`VALUES_MAX`] values, else `Malformed`.
    pub(super) fn run(mut self) -> Result<Pickle<'a>, DecodeError> {
        let mut opcodes = Opcodes::new(self.pickle);
        loop {
            if self.values.len().max(self.memo.len()) > VALUES_MAX {
                let what = format!("a pickle of more than {VALUES_MAX} values");
                return Err(DecodeError::OverLimit(what));
            }
            let opcode = opcodes.next()?;
            if opcode.code == b'.' {
                let root = self.pop()?;
                let unread = if opcodes.n_read() < self.pickle.len() {
                    Some("bytes after the end of its pickle")
                } else if self.has_dropped || !self.stack.is_empty() {
                    Some("values that nothing in its pickle refers to")
                } else {
                    None
                };
                return Ok(Pickle { bytes: self.pickle, values: self.values, root, unread });
            }
            self.step(opcode)?;
        }
    }

    /// Executes one opcode.
    fn step(&mut self, opcode: Opcode<'a>) -> Result<(), DecodeError> {
        let Opcode { code, argument, at } = opcode;
        match code {
            // PROTO; FRAME, a length that is not needed; READONLY_BUFFER.
            0x80 => match argument {
                [0..=5] => {}
                _ => return Err(malformed(&format!("protocol {argument:?}, want 0 to 5"))),
            },
            0x95 | 0x98 => {}
            b'(' => self.marks.push(self.stack.len()),
            // POP, POP_MARK, DUP.
            b'0' if self.marks.last() == Some(&self.stack.len()) => drop(self.marks.pop()),
            b'0' => {
                let id = self.pop()?;
                self.drop_values(&[id]);
            }
            b'1' => {
                let ids = self.pop_mark()?;
                self.drop_values(&ids);
            }
            b'2' => {
                let id = self.top()?;
                self.stack.push(id);
            }
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' | b'K' | b'M' | 0x8a | 0x8b | b'I' | b'L' | b'G' | b'F' => {
                self.push(number(code, argument)?);
            }
            // BINUNICODE, SHORT_BINUNICODE, BINUNICODE8; UNICODE and STRING, whose escapes stay.
            b'X' | 0x8c | 0x8d | b'V' => self.push(text(argument, at)),
            b'S' => {
                let inner = argument.get(1..argument.len().saturating_sub(1)).unwrap_or_default();
                self.push(text(inner, at + 1));
            }
            // BINBYTES, SHORT_BINBYTES, BINBYTES8, BYTEARRAY8, BINSTRING, SHORT_BINSTRING.
            b'B' | b'C' | 0x8e | 0x96 | b'T' | b'U' => {
                self.push(Value::Bytes(at..at + argument.len()));
            }
            b')' => self.push(Value::Tuple(Vec::new())),
            b't' => {
                let values = self.pop_mark()?;
                self.push(Value::Tuple(values));
            }
            0x85..=0x87 => self.tuple(usize::from(code - 0x84))?,
            b']' => self.push(Value::List(Vec::new())),
            b'l' => {
                let values = self.pop_mark()?;
                self.push(Value::List(values));
            }
            // EMPTY_SET, ADDITEMS, FROZENSET.
            0x8f => self.push(Value::Set(Vec::new())),
            0x91 => {
                let values = self.pop_mark()?;
                self.push(Value::Set(values));
            }
            // APPEND, APPENDS, ADDITEMS.
            b'a' => {
                let value = self.pop()?;
                self.append(&[value])?;
            }
            b'e' | 0x90 => {
                let values = self.pop_mark()?;
                self.append(&values)?;
            }
            b'}' => self.push(Value::Dict(Box::default())),
            b'd' => {
                let values = self.pop_mark()?;
                self.push(Value::Dict(Box::default()));
                self.set(&values)?;
            }
            // SETITEM, SETITEMS.
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(&[key, value])?;
            }
            b'u' => {
                let values = self.pop_mark()?;
                self.set(&values)?;
            }
            // PUT, BINPUT, LONG_BINPUT, MEMOIZE.
            b'p' | b'q' | b'r' | 0x94 => {
                let place = match code {
                    0x94 => self.memo.len() as u64,
                    _ => place(code, argument)?,
                };
                let id = self.top()?;
                self.memo.insert(place, id);
            }
            // GET, BINGET, LONG_BINGET.
            b'g' | b'h' | b'j' => {
                let known = self.memo.get(&place(code, argument)?).copied();
                let id = known.ok_or_else(|| malformed("a memo that was never put"))?;
                self.stack.push(id);
            }
            _ => self.step_object(opcode)?,
        }
        Ok(())
    }

    /// Executes an opcode that makes or changes an object. Nothing is imported or called.
    fn step_object(&mut self, opcode: Opcode<'a>) -> Result<(), DecodeError> {
        let Opcode { code, argument, .. } = opcode;
        match code {
            // GLOBAL, STACK_GLOBAL.
            b'c' => {
                let global = global_of_lines(argument)?;
                self.push(Value::Global(global));
            }
            0x93 => {
                let (name, module) = (self.pop_text()?, self.pop_text()?);
                self.push(Value::Global(Global::of(&module, &name)));
            }
            // REDUCE and NEWOBJ, NEWOBJ_EX.
            b'R' | 0x81 => {
                let (args, callee) = (self.pop()?, self.pop()?);
                self.call(callee, args)?;
            }
            0x92 => {
                let (kwargs, args, class) = (self.pop()?, self.pop()?, self.pop()?);
                let name = self.name_of(class);
                self.push_object(name, vec![args, kwargs]);
            }
            // INST, OBJ: the arguments lie above a mark.
            b'i' => {
                let parts = self.pop_mark()?;
                let global = global_of_lines(argument)?;
                self.push_object(global.name().into(), parts);
            }
            b'o' => {
                let mut parts = self.pop_mark()?.into_iter();
                let class = parts.next().ok_or_else(|| malformed("OBJ without a class"))?;
                let name = self.name_of(class);
                self.push_object(name, parts.collect());
            }
            b'b' => {
                let (state, id) = (self.pop()?, self.top()?);
                self.build(id, state);
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id);
                self.push(storage);
            }
            b'P' => self.push_object("a persistent id".into(), Vec::new()),
            0x82..=0x84 => self.push_object("an extension of copyreg".into(), Vec::new()),
            0x97 => self.push_object("a buffer outside of the pickle".into(), Vec::new()),
            _ => {
                let what = format!("a pickle with the unknown opcode {code:#04x}");
                return Err(DecodeError::Unsupported(what));
            }
        }
        Ok(())
    }

    pub(super) fn push(&mut self, value: Value) {
        let id = self.add(value);
        self.stack.push(id);
    }

    /// Pushes a value again.
    pub(super) fn push_same(&mut self, id: Id) {
        self.stack.push(id);
    }

    /// Takes back the value that was pushed last.
    pub(super) fn pop_pushed(&mut self) -> Option<Id> {
        self.stack.pop()
    }

    /// The bytes of the pickle in a range.
    pub(super) fn bytes_at(&self, range: &Range<usize>) -> &'a [u8] {
        self.pickle.get(range.clone()).unwrap_or_default()
    }

    /// Adds a value that is not on the stack.
    pub(super) fn add(&mut self, value: Value) -> Id {
        self.values.push(value);
        self.values.len() - 1
    }

    pub(super) fn push_object(&mut self, name: Arc<str>, parts: Vec<Id>) {
        let object = Object { name, parts, ..Object::default() };
        self.push(Value::Object(Box::new(object)));
    }

    /// The name of a class, or what it is instead.
    fn name_of(&self, class: Id) -> Arc<str> {
        match &self.values[class] {
            Value::Global(global) => global.name().into(),
            _ => "an object of a class without a name".into(),
        }
    }

    /// Notes dropped values, unless they could hold no tensor.
    fn drop_values(&mut self, ids: &[Id]) {
        // Pickles drop the parts of a tuple that contains itself.
        let is_plain = |id: &Id| {
            matches!(
                self.values[*id],
                Value::None
                    | Value::Bool(_)
                    | Value::Int(_)
                    | Value::LongInt
                    | Value::Float(_)
                    | Value::Global(_)
            )
        };
        self.has_dropped |= !ids.iter().all(is_plain);
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
            Value::Text(text, _) => Ok(text.clone()),
            _ => Err(malformed("a name is not text")),
        }
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
            Value::List(list) | Value::Set(list) => list.extend(values),
            Value::Object(object) => object.items.extend(values),
            _ => return Err(malformed("APPEND to a value that is not a list")),
        }
        Ok(())
    }

    fn set(&mut self, values: &[Id]) -> Result<(), DecodeError> {
        let dict = self.top()?;
        let (pairs, rest) = values.as_chunks::<2>();
        let entries = match &mut self.values[dict] {
            Value::Dict(dict) if rest.is_empty() => &mut dict.entries,
            Value::Object(object) if rest.is_empty() => &mut object.entries,
            _ => {
                return Err(malformed(
                    "SETITEMS on a value that is not a dict, or with a key without a value",
                ));
            }
        };
        entries.extend(pairs.iter().map(|&[key, value]| (key, value)));
        Ok(())
    }

    /// Makes a dict of a list or tuple of pairs, if it is one.
    pub(super) fn dict_of_pairs(&self, pairs: Id) -> Option<Value> {
        let (Value::List(pairs) | Value::Tuple(pairs)) = &self.values[pairs] else { return None };
        let pair = |id: &Id| match &self.values[*id] {
            Value::Tuple(pair) | Value::List(pair) => {
                <[Id; 2]>::try_from(pair.as_slice()).ok().map(<(Id, Id)>::from)
            }
            _ => None,
        };
        let entries = pairs.iter().map(pair).collect::<Option<_>>()?;
        Some(Value::Dict(Box::new(Dict { entries, attributes: None })))
    }
}

/// Reads the two lines of a name.
fn global_of_lines(lines: &[u8]) -> Result<Global, DecodeError> {
    let lines = std::str::from_utf8(lines).map_err(|_| malformed("a name is not UTF-8"))?;
    let (module, name) = lines.split_once('\n').unwrap_or((lines, ""));
    Ok(Global::of(module, name))
}

/// Lone surrogates, which Python writes, are not valid UTF-8 and become U+FFFD.
fn text(bytes: &[u8], at: usize) -> Value {
    Value::Text(String::from_utf8_lossy(bytes).into(), at)
}

/// Reads a place in the memo.
fn place(code: u8, argument: &[u8]) -> Result<u64, DecodeError> {
    if !matches!(code, b'p' | b'g') {
        return Ok(little_endian(argument));
    }
    let line = std::str::from_utf8(argument).ok().and_then(|line| line.trim().parse().ok());
    line.ok_or_else(|| malformed("a place in the memo is not a number"))
}

/// Reads a number.
fn number(code: u8, argument: &[u8]) -> Result<Value, DecodeError> {
    let line = || std::str::from_utf8(argument).unwrap_or_default().trim();
    Ok(match code {
        b'G' => Value::Float(argument.first_chunk().copied().map_or(0.0, f64::from_be_bytes)),
        b'F' => Value::Float(line().parse().map_err(|_| malformed("a float is no number"))?),
        b'I' if line() == "00" => Value::Bool(false),
        b'I' if line() == "01" => Value::Bool(true),
        b'I' | b'L' => line().trim_end_matches('L').parse().map_or(Value::LongInt, Value::Int),
        b'J' => Value::Int(argument.first_chunk().copied().map_or(0, i32::from_le_bytes).into()),
        // LONG1, LONG4: two's complement, of any length.
        0x8a | 0x8b => {
            let fill = if argument.last().is_some_and(|last| last & 0x80 != 0) { 0xff } else { 0 };
            let mut number = [fill; 8];
            match number.get_mut(..argument.len()) {
                Some(start) => {
                    start.copy_from_slice(argument);
                    Value::Int(i64::from_le_bytes(number))
                }
                None => Value::LongInt,
            }
        }
        _ => Value::Int(i64::try_from(little_endian(argument)).unwrap_or(i64::MAX)),
    })
}
