//! Reads a pickle of tensors, lists and dicts into plain values. Nothing is imported or called.
//!
//! A pickle is a program for a stack machine. Of its opcodes those are known that `torch.save` writes
//! for tensors, plain values and containers of them; of the names that it may call, those that make
//! tensors, which are acted out on values of ours. Everything else is an error. Each opcode makes at
//! most one value, and no value is copied whole, so that the pickle's length bounds the memory.
//!
//! Source: Python's `pickletools`; `torch/_weights_only_unpickler.py`.

use std::collections::HashMap;
use std::sync::Arc;

use super::{NamedStorage, View};
use crate::decode::DecodeError;
use crate::tensor::{DType, Shape};

/// The most values of a pickle. A tensor takes some thirty.
const VALUES_MAX: usize = 1 << 20;

/// The place of a value in its [`Pickle`].
pub(super) type Id = usize;

/// What a pickle holds.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Int(i64),
    Text(Arc<str>),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A name that may be called, or stands for a type.
    Global(Global),
    Storage(Box<NamedStorage>),
    Tensor(Box<View>),
    /// A value that no tensor depends on: a float, `None`, a device.
    Other,
}

/// The names that are known.
#[derive(Debug, Clone, Copy)]
pub(super) enum Global {
    OrderedDict,
    /// `_rebuild_tensor(storage, offset, size, stride)`, and v2, which has more that doesn't matter.
    Tensor,
    /// `_rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype)`.
    TensorV3,
    /// `_rebuild_parameter(tensor, requires_grad, hooks)`.
    Parameter,
    /// `torch.Size(axes)`.
    Size,
    /// A storage of elements of this type; of bytes.
    Storage(Option<DType>),
    DType(DType),
    /// Something that makes a value of no interest.
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
    /// `Unsupported` if it names what isn't known, else `Malformed`.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut machine = Machine { rest: bytes, ..Machine::default() };
        loop {
            if machine.values.len().max(machine.memo.len()) > VALUES_MAX {
                let what = format!("a pickle of more than {VALUES_MAX} values");
                return Err(DecodeError::OverLimit(what));
            }
            if let Some(root) = machine.step()? {
                let is_rest = !machine.rest.is_empty() || !machine.stack.is_empty();
                let has_ignored = machine.has_ignored || is_rest;
                return Ok(Self { values: machine.values, root, has_ignored });
            }
        }
    }

    pub(super) fn root(&self) -> Id {
        self.root
    }

    pub(super) fn get(&self, id: Id) -> &Value {
        &self.values[id]
    }

    /// Whether it has values that the root does not lead to: a state that is set, bytes after its end.
    pub(super) fn has_ignored(&self) -> bool {
        self.has_ignored
    }
}

#[derive(Default)]
struct Machine<'a> {
    rest: &'a [u8],
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Where in the stack the marks stand.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    /// Whether values were dropped that a reader may want.
    has_ignored: bool,
}

fn malformed(what: &str) -> DecodeError {
    DecodeError::Malformed(format!("pickle: {what}"))
}

impl<'a> Machine<'a> {
    /// Does one opcode. Returns the value that the pickle ends with, once it does.
    fn step(&mut self) -> Result<Option<Id>, DecodeError> {
        let opcode = self.take(1)?[0];
        match opcode {
            // PROTO; FRAME, which tells nothing that is needed.
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
                let global = global(&module, &name)?;
                self.push(Value::Global(global));
            }
            0x93 => {
                let (name, module) = (self.pop_text()?, self.pop_text()?);
                let global = global(&module, &name)?;
                self.push(Value::Global(global));
            }
            // REDUCE, BUILD, BINPERSID.
            b'R' => self.reduce()?,
            b'b' => {
                // A state that is set on a dict: the `_metadata` of torch's state dicts.
                self.has_ignored = true;
                self.pop()?;
                let id = self.top()?;
                if !matches!(self.values[id], Value::Dict(_)) {
                    return Err(malformed("sets the state of what is no dict"));
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
        // Nothing below a mark may be reached.
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

    /// A number of any length, of which no tensor needs more than 8 bytes.
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
        // Python writes lone surrogates in a way of its own.
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
            _ => return Err(malformed("appends to what is no list")),
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
            _ => return Err(malformed("sets items of what is no dict")),
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
        let id = self.memo.get(&place).ok_or_else(|| malformed("gets what was never put"))?;
        self.stack.push(*id);
        Ok(())
    }

    /// Acts out a call.
    fn reduce(&mut self) -> Result<(), DecodeError> {
        let (args, callee) = (self.pop()?, self.pop()?);
        let (Value::Global(callee), Value::Tuple(args)) =
            (&self.values[callee], &self.values[args])
        else {
            return Err(malformed("calls what can't be called"));
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
            _ => return Err(malformed("calls with the wrong arguments")),
        };
        self.push(value);
        Ok(())
    }

    /// Whether what is said of a tensor beside its view changes its values.
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
            _ => {
                Err(malformed("a tensor's offset, size or strides are no whole numbers from 0 on"))
            }
        }
    }

    /// `('storage', type, key, location, number of elements)`
    fn storage(&mut self) -> Result<(), DecodeError> {
        let id = self.pop()?;
        let wrong = || malformed("a persistent id that names no storage");
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

fn global(module: &str, name: &str) -> Result<Global, DecodeError> {
    let known = match (module, name) {
        ("collections", "OrderedDict") => Some(Global::OrderedDict),
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Some(Global::Tensor),
        ("torch._utils", "_rebuild_tensor_v3") => Some(Global::TensorV3),
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
            Some(Global::Parameter)
        }
        ("torch", "Size") => Some(Global::Size),
        ("torch", "device") | ("_codecs", "encode") | ("__builtin__" | "builtins", "bytes") => {
            Some(Global::Other)
        }
        ("torch" | "torch.storage", "UntypedStorage" | "_UntypedStorage") => {
            Some(Global::Storage(None))
        }
        ("torch", name) => match name.strip_suffix("Storage") {
            Some(kind) => storage_type(kind).map(|dtype| Global::Storage(Some(dtype))),
            None => dtype(name),
        },
        _ => None,
    };
    known.ok_or_else(|| {
        let shown: String = format!("{module}.{name}").chars().take(80).collect();
        let what = format!("a pickle that names {shown}, which no tensor needs and is never run");
        DecodeError::Unsupported(what)
    })
}

fn storage_type(kind: &str) -> Option<DType> {
    Some(match kind {
        "Bool" => DType::Bool,
        "Byte" => DType::U8,
        "Char" => DType::I8,
        "Short" => DType::I16,
        "Int" => DType::I32,
        "Long" => DType::I64,
        "Half" => DType::F16,
        "BFloat16" => DType::BF16,
        "Float" => DType::F32,
        "Double" => DType::F64,
        "ComplexFloat" => DType::Complex64,
        "ComplexDouble" => DType::Complex128,
        _ => return None,
    })
}

/// torch's own names of types, of which those without a picture may stand beside tensors.
fn dtype(name: &str) -> Option<Global> {
    const NO_PICTURE: [&str; 7] = [
        "complex32",
        "float4_e2m1fn_x2",
        "qint8",
        "quint8",
        "qint32",
        "strided",
        "preserve_format",
    ];
    let is_known = NO_PICTURE.contains(&name);
    DType::from_name(name).map(Global::DType).or(is_known.then_some(Global::Other))
}
