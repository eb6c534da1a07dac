//! Calls in a pickle: those that make tensors, arrays and containers give such a value, any other gives an
//! object. Nothing is called.

use std::sync::Arc;

use super::machine::Machine;
use super::names::Global;
use super::{ArrayElements, ArrayParts, ArrayType, Dict, Id, Object, Value, malformed};
use crate::decode::DecodeError;
use crate::decode::torch::{NamedStorage, View};
use crate::tensor::{DType, Shape};

impl Machine<'_> {
    /// Performs a call: `callee(*args)`.
    pub(super) fn call(&mut self, callee: Id, args: Id) -> Result<(), DecodeError> {
        let (callee, args) = match (&self.values[callee], &self.values[args]) {
            (Value::Global(callee), Value::Tuple(args)) => (callee.clone(), args.clone()),
            (Value::Global(_), _) => return Err(malformed("a call without a tuple of arguments")),
            _ => {
                self.push_object("a call of an object".into(), vec![callee, args]);
                return Ok(());
            }
        };
        self.call_global(&callee, &args);
        Ok(())
    }

    /// Pushes the result of a call of a name.
    fn call_global(&mut self, callee: &Global, args: &[Id]) {
        let value = match (callee, args) {
            (Global::OrderedDict, []) => Value::Dict(Box::default()),
            (Global::OrderedDict, &[pairs]) if let Some(dict) = self.dict_of_pairs(pairs) => dict,
            // The factory is a type or a function.
            (Global::DefaultDict, &[factory])
                if matches!(self.values[factory], Value::Global(_) | Value::None) =>
            {
                Value::Dict(Box::default())
            }
            (Global::Set, []) => Value::Set(Vec::new()),
            (Global::Set, &[items]) if let Value::List(items) = &self.values[items] => {
                Value::Set(items.clone())
            }
            (Global::Size, &[axes]) => return self.push_same(axes),
            (Global::Tensor, &[storage, first, axes, strides, ref rest @ ..]) => {
                self.tensor([storage, first, axes, strides], None, rest.get(2).copied())
            }
            (Global::TensorV3, &[storage, first, axes, strides, _, _, dtype, ref rest @ ..]) => {
                match self.values[dtype] {
                    Value::Global(Global::DType(dtype)) => {
                        let parts = [storage, first, axes, strides];
                        self.tensor(parts, Some(dtype), rest.first().copied())
                    }
                    _ => unreadable("a tensor of a dtype that makes no picture"),
                }
            }
            (Global::Parameter, &[inner, ref rest @ ..]) => {
                let state = rest.get(2).copied();
                return self.push_tensor_with_state("torch.nn.Parameter".into(), inner, state);
            }
            (Global::FromType, &[function, class, inner, ref rest @ ..]) => {
                return self.call_from_type(function, class, inner, rest.first().copied());
            }
            (Global::DeviceTensor, &[inner, ref rest @ ..]) => {
                if self.is_of_dtype(inner, rest.first().copied()) {
                    return self.push_same(inner);
                }
                unreadable("a tensor that is converted from another type; save t.cpu()")
            }
            (Global::OtherTensor(what), _) => unreadable(what),
            (
                Global::Tensor
                | Global::TensorV3
                | Global::Parameter
                | Global::FromType
                | Global::DeviceTensor,
                _,
            ) => malformed_tensor("a tensor with the wrong arguments"),
            (Global::Array, &[class, ..])
                if matches!(self.values[class], Value::Global(Global::ArrayClass)) =>
            {
                Value::Array(None)
            }
            (Global::ArrayType, &[kind, ..]) if let Value::Text(kind, _) = &self.values[kind] => {
                let array_type = ArrayType { kind: kind.clone(), order: '|', is_structured: false };
                Value::ArrayType(Box::new(array_type))
            }
            (Global::Encode, &[text, encoding])
                if let Some(bytes) = self.latin1(text, encoding) =>
            {
                bytes
            }
            (callee, args) => {
                let name = callee.name().into();
                return self.push_object(name, args.to_vec());
            }
        };
        self.push(value);
    }

    /// Pushes the tensor that is a subclass of `class`: `function(*args)` with the attributes `state`.
    fn call_from_type(&mut self, function: Id, class: Id, args: Id, state: Option<Id>) {
        let name: Arc<str> = match &self.values[class] {
            Value::Global(class) => class.name().into(),
            _ => "a subclass of torch.Tensor".into(),
        };
        let (Value::Global(function), Value::Tuple(args)) =
            (&self.values[function], &self.values[args])
        else {
            return self.push(unreadable(&format!("a tensor that {name} makes, which is not run")));
        };
        match (function.clone(), args.clone()) {
            (Global::FromType, _) => {
                self.push(malformed_tensor("a tensor with the wrong arguments"));
            }
            (Global::Other(function), args) => {
                let what = unreadable(&format!("a tensor that {function} makes, which is not run"));
                let tensor = self.add(what);
                // A tensor among the arguments is accounted for, too.
                let parts = args.into_iter().chain(state).collect();
                let object = Object { name, tensor: Some(tensor), parts, ..Object::default() };
                self.push(Value::Object(Box::new(object)));
            }
            (function, args) => {
                self.call_global(&function, &args);
                let Some(tensor) = self.pop_pushed() else { return };
                self.push_tensor_with_state(name, tensor, state);
            }
        }
    }

    /// Pushes a tensor that has attributes.
    fn push_tensor_with_state(&mut self, name: Arc<str>, tensor: Id, state: Option<Id>) {
        let Some(state) = state.filter(|&state| !self.is_empty(state)) else {
            return self.push_same(tensor);
        };
        let object = Object { name, tensor: Some(tensor), parts: vec![state], ..Object::default() };
        self.push(Value::Object(Box::new(object)));
    }

    /// Whether a state sets no attribute.
    fn is_empty(&self, state: Id) -> bool {
        match &self.values[state] {
            Value::None => true,
            Value::Dict(dict) => dict.entries.is_empty() && dict.attributes.is_none(),
            Value::Tuple(parts) => parts.iter().all(|&part| {
                matches!(&self.values[part], Value::None)
                    || matches!(&self.values[part], Value::Dict(dict) if dict.entries.is_empty())
            }),
            _ => false,
        }
    }

    /// Sets the state of a value.
    pub(super) fn build(&mut self, id: Id, state: Id) {
        let (array, array_type) = (self.array_parts(state), self.array_order(state));
        match &mut self.values[id] {
            Value::Dict(dict) if dict.attributes.is_none() => dict.attributes = Some(state),
            Value::Object(object) => object.parts.push(state),
            value @ Value::Array(None) => *value = array,
            Value::ArrayType(of_array) => match array_type {
                Some((order, is_structured)) => {
                    (of_array.order, of_array.is_structured) = (order, is_structured);
                }
                None => of_array.is_structured = true,
            },
            value @ (Value::Tensor(_) | Value::Array(_)) => {
                *value = unreadable("a tensor that the pickle changes after it was made");
            }
            _ => self.has_dropped = true,
        }
    }

    /// Makes a tensor that is a view of a storage. `metadata` may change its values.
    fn tensor(&self, parts: [Id; 4], dtype: Option<DType>, metadata: Option<Id>) -> Value {
        let is_lazy = metadata.is_some_and(|metadata| match &self.values[metadata] {
            Value::Dict(dict) => !dict.entries.is_empty(),
            _ => false,
        });
        if is_lazy {
            return unreadable(
                "a tensor that is conjugated or negated only by a flag; save t.resolve_conj().resolve_neg()",
            );
        }
        match self.view(parts, dtype) {
            Ok(view) => Value::Tensor(Box::new(view)),
            Err(error) => Value::Unreadable(Box::new(error)),
        }
    }

    fn view(&self, parts: [Id; 4], dtype: Option<DType>) -> Result<View, DecodeError> {
        let [storage, first, axes, strides] = parts.map(|id| &self.values[id]);
        let storage = match storage {
            Value::Storage(storage) => storage,
            Value::Object(object) => {
                let what = format!("a tensor that depends on {}, which is not run", object.name);
                return Err(DecodeError::Unsupported(what));
            }
            _ => return Err(malformed("a tensor without a storage")),
        };
        let dtype = dtype.or(storage.dtype);
        let dtype = dtype.ok_or_else(|| malformed("a tensor without a dtype"))?;
        match (whole(first), self.axes(axes), self.axes(strides)) {
            (Some(first), Some(axes), Some(strides)) => {
                Ok(View { storage: (**storage).clone(), dtype, first, axes, strides })
            }
            _ => Err(malformed(
                "a tensor's offset, size or strides are not whole numbers of at least 0",
            )),
        }
    }

    fn axes(&self, value: &Value) -> Option<Vec<u64>> {
        match value {
            Value::Tuple(values) | Value::List(values) if values.len() <= Shape::MAX_RANK => {
                values.iter().map(|&id| whole(&self.values[id])).collect()
            }
            _ => None,
        }
    }

    /// Reads a persistent id: `('storage', type, key, location, number of elements)`.
    pub(super) fn storage(&self, id: Id) -> Value {
        let other =
            |name: &str| Value::Object(Box::new(Object { name: name.into(), ..Object::default() }));
        let Value::Tuple(parts) = &self.values[id] else { return other("a persistent id") };
        let &[kind, class, key, _, n_elements] = parts.as_slice() else {
            return other("a persistent id");
        };
        match [kind, class, key, n_elements].map(|id| &self.values[id]) {
            [Value::Text(kind, _), Value::Global(class), Value::Text(key, _), n_elements]
                if &**kind == "storage" =>
            {
                let (Global::Storage(dtype), Some(n_elements)) = (class, whole(n_elements)) else {
                    return other(&format!("a storage of {}", class.name()));
                };
                let storage = NamedStorage { key: key.clone(), dtype: *dtype, n_elements };
                Value::Storage(Box::new(storage))
            }
            _ => other("a persistent id"),
        }
    }

    /// Whether a tensor has this type.
    fn is_of_dtype(&self, tensor: Id, dtype: Option<Id>) -> bool {
        let Some(Value::Global(Global::DType(dtype))) = dtype.map(|dtype| &self.values[dtype])
        else {
            return false;
        };
        match &self.values[tensor] {
            Value::Tensor(view) => view.dtype == *dtype,
            Value::Array(Some(array)) => {
                let known = crate::decode::npy::element_type(&array.descr, None);
                known.is_ok_and(|(known, _)| known == *dtype)
            }
            _ => false,
        }
    }

    /// Reads the state of a `NumPy` array: `(version, shape, dtype, is_fortran, bytes)`.
    fn array_parts(&self, state: Id) -> Value {
        let Value::Tuple(parts) = &self.values[state] else {
            return malformed_tensor("a NumPy array without its parts");
        };
        let &[_, axes, array_type, fortran_order, elements] = parts.as_slice() else {
            return malformed_tensor("a NumPy array without its parts");
        };
        let parts = [axes, array_type, fortran_order].map(|id| &self.values[id]);
        let [axes, Value::ArrayType(array_type), Value::Bool(fortran_order)] = parts else {
            return malformed_tensor("a NumPy array without its type");
        };
        let Some(axes) = self.axes(axes) else {
            return malformed_tensor("a NumPy array of a wrong shape");
        };
        let elements = match &self.values[elements] {
            Value::Bytes(range) => Some((range, false, range.len())),
            Value::Latin1(range) => {
                let text = self.bytes_at(range);
                let is_first = |byte: &&u8| **byte & 0xc0 != 0x80;
                Some((range, true, text.iter().filter(is_first).count()))
            }
            _ => None,
        };
        let elements = elements.map(|(range, is_latin1, n_bytes)| ArrayElements {
            range: range.clone(),
            is_latin1,
            n_bytes: n_bytes as u64,
        });
        let descr = if array_type.is_structured {
            "V".to_owned()
        } else {
            format!("{}{}", array_type.order, array_type.kind)
        };
        let fortran_order = *fortran_order;
        Value::Array(Some(Box::new(ArrayParts { axes, descr, fortran_order, elements })))
    }

    /// Reads the state of a `NumPy` type: `(version, order, subtype, names, fields, …)`. Returns its byte
    /// order, and whether it has parts.
    fn array_order(&self, state: Id) -> Option<(char, bool)> {
        let Value::Tuple(parts) = &self.values[state] else { return None };
        let &[_, order, subtype, names, ..] = parts.as_slice() else { return None };
        let Value::Text(order, _) = &self.values[order] else { return None };
        let is_set = |id: Id| !matches!(self.values[id], Value::None);
        Some((order.chars().next()?, is_set(subtype) || is_set(names)))
    }

    /// The bytes that `_codecs.encode(text, "latin1")` gives.
    fn latin1(&self, text: Id, encoding: Id) -> Option<Value> {
        let (Value::Text(text, at), Value::Text(encoding, _)) =
            (&self.values[text], &self.values[encoding])
        else {
            return None;
        };
        let is_latin1 = matches!(&**encoding, "latin1" | "latin-1");
        let range = *at..*at + text.len();
        // The text is as it lies in the pickle, unless it was not valid UTF-8.
        let is_same = self.bytes_at(&range) == text.as_bytes();
        let is_narrow = text.chars().all(|c| u32::from(c) <= 0xff);
        (is_latin1 && is_same && is_narrow).then_some(Value::Latin1(range))
    }
}

impl Dict {
    /// Whether the dict has neither entries nor attributes.
    pub(in crate::decode::torch) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.attributes.is_none()
    }
}

/// Returns a whole number of at least 0.
fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

fn unreadable(what: &str) -> Value {
    Value::Unreadable(Box::new(DecodeError::Unsupported(what.to_owned())))
}

fn malformed_tensor(what: &str) -> Value {
    Value::Unreadable(Box::new(malformed(what)))
}
