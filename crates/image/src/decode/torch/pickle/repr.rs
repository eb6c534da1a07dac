//! Texts for values of a pickle: the text of a dict's key, and what a value is.

use super::{Id, Pickle, Value};
use crate::media::NAME_BYTES_MAX;

/// The longest text for a key, in bytes: longer ones are cut.
const TEXT_BYTES_MAX: usize = NAME_BYTES_MAX + 1;

/// The deepest nesting of a key that is written out.
const KEY_DEPTH_MAX: usize = 8;

impl Pickle<'_> {
    /// Returns the text of a dict's key: a text itself, and what Python's `repr` gives for another value.
    ///
    /// A text of more than [`NAME_BYTES_MAX`] bytes is cut, but is still longer than that.
    pub(in crate::decode::torch) fn key_text(&self, key: Id) -> String {
        let mut text = String::new();
        match self.get(key) {
            Value::Text(key, _) => text.push_str(&key[..key.floor_char_boundary(TEXT_BYTES_MAX)]),
            _ => self.write_repr(key, 0, &mut text),
        }
        text
    }

    fn write_repr(&self, id: Id, depth: usize, text: &mut String) {
        if depth > KEY_DEPTH_MAX || text.len() >= TEXT_BYTES_MAX {
            text.push('…');
            return;
        }
        match self.get(id) {
            Value::None => text.push_str("None"),
            Value::Bool(true) => text.push_str("True"),
            Value::Bool(false) => text.push_str("False"),
            Value::Int(number) => text.push_str(&number.to_string()),
            Value::Float(number) => text.push_str(&float_repr(*number)),
            Value::Text(part, _) => {
                let part = &part[..part.floor_char_boundary(TEXT_BYTES_MAX)];
                let quote = if part.contains('\'') && !part.contains('"') { '"' } else { '\'' };
                text.push(quote);
                for c in part.chars() {
                    match c {
                        '\\' => text.push_str("\\\\"),
                        '\n' => text.push_str("\\n"),
                        c if c == quote => text.extend(['\\', c]),
                        c => text.push(c),
                    }
                }
                text.push(quote);
            }
            Value::Tuple(parts) => {
                text.push('(');
                for (i, &part) in parts.iter().enumerate() {
                    if i > 0 {
                        text.push_str(", ");
                    }
                    if text.len() >= TEXT_BYTES_MAX {
                        break;
                    }
                    self.write_repr(part, depth + 1, text);
                }
                text.push_str(if parts.len() == 1 { ",)" } else { ")" });
            }
            Value::Bytes(range) | Value::Latin1(range) => {
                let bytes = self.bytes.get(range.clone()).unwrap_or_default();
                let bytes = &bytes[..bytes.len().min(TEXT_BYTES_MAX)];
                let is_latin1 = matches!(self.get(id), Value::Latin1(_));
                let narrow = |c: char| u8::try_from(u32::from(c)).unwrap_or(b'?');
                let bytes = if is_latin1 {
                    String::from_utf8_lossy(bytes).chars().map(narrow).collect()
                } else {
                    bytes.to_vec()
                };
                text.extend(["b'", &bytes.escape_ascii().to_string(), "'"]);
            }
            Value::Global(global) => text.push_str(&global.name()),
            Value::Object(object) => {
                // Objects of one type differ in their parts, which a text must show.
                text.extend([&*object.name, "("]);
                for (i, &part) in object.parts.iter().enumerate() {
                    if i > 0 {
                        text.push_str(", ");
                    }
                    if text.len() >= TEXT_BYTES_MAX {
                        break;
                    }
                    self.write_repr(part, depth + 1, text);
                }
                text.push(')');
            }
            _ => text.extend(["<", &self.kind_of(id), ">"]),
        }
    }

    /// Says what a value is, for people.
    pub(in crate::decode::torch) fn kind_of(&self, id: Id) -> String {
        match self.get(id) {
            Value::None => "None".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Int(_) | Value::LongInt => "int".to_owned(),
            Value::Float(_) => "float".to_owned(),
            Value::Text(..) => "text".to_owned(),
            Value::Bytes(_) | Value::Latin1(_) => "bytes".to_owned(),
            Value::Tuple(_) => "tuple".to_owned(),
            Value::List(_) => "list".to_owned(),
            Value::Set(_) => "set".to_owned(),
            Value::Dict(_) => "dict".to_owned(),
            Value::Global(global) => global.name().into_owned(),
            Value::Storage(_) => "storage without a tensor".to_owned(),
            Value::Tensor(_) | Value::Unreadable(_) => "tensor".to_owned(),
            Value::Array(_) => "NumPy array".to_owned(),
            Value::ArrayType(_) => "numpy.dtype".to_owned(),
            Value::Object(object) => object.name.to_string(),
        }
    }
}

/// Writes a float as Python's `repr` does, except for the form of exponents.
fn float_repr(number: f64) -> String {
    if number.is_nan() {
        "nan".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "inf".to_owned() } else { "-inf".to_owned() }
    } else {
        format!("{number:?}")
    }
}
