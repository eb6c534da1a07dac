//! Paths of fields within annotations, for errors.

use std::fmt;

use serde_json::{Map, Number, Value};

use super::repairs::Repairs;

/// The longest text of a box, a class, a label or a field of a mask, in bytes. Each is parsed by itself, so that
/// the memory for it stays small.
const ENTRY_BYTES_MAX: usize = 64 << 10;

/// An invalid annotation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct AnnotationError {
    /// `boxes.pred.box_data[3].position.minX`
    place: String,
    /// What was got, and what was wanted.
    problem: String,
}

/// The path of a field, written `boxes.pred.box_data[3]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldPath<'a> {
    above: Option<&'a Self>,
    part: Part<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Part<'a> {
    Root,
    Field(&'a str),
    Index(usize),
}

impl<'a> FieldPath<'a> {
    pub(super) const fn root() -> Self {
        Self { above: None, part: Part::Root }
    }

    pub(super) const fn field(&'a self, name: &'a str) -> Self {
        Self { above: Some(self), part: Part::Field(name) }
    }

    pub(super) const fn index(&'a self, index: usize) -> Self {
        Self { above: Some(self), part: Part::Index(index) }
    }

    pub(super) fn problem(&self, problem: String) -> AnnotationError {
        AnnotationError { place: self.to_string(), problem }
    }

    pub(super) fn error(&self, got: &Value, want: &str) -> AnnotationError {
        self.error_at(&got.to_string(), want)
    }

    /// The error about a value with this text.
    pub(super) fn error_at(&self, got: &str, want: &str) -> AnnotationError {
        let shown: String = got.chars().take(64).collect();
        let cut = if shown.len() < got.len() { "…" } else { "" };
        self.problem(format!("got {shown}{cut}, want {want}"))
    }

    /// Parses the value of one entry, such as a box.
    ///
    /// # Errors
    /// If it is longer than [`ENTRY_BYTES_MAX`].
    pub(super) fn entry(&self, text: &str) -> Result<Value, AnnotationError> {
        if text.len() > ENTRY_BYTES_MAX {
            return Err(self.over(&format!("{} bytes", text.len()), &ENTRY_BYTES_MAX.to_string()));
        }
        serde_json::from_str(text).map_err(|error| self.problem(error.to_string()))
    }

    pub(super) fn missing(&self, want: &str) -> AnnotationError {
        self.problem(format!("missing, want {want}"))
    }

    pub(super) fn over(&self, got: &str, max: &str) -> AnnotationError {
        self.problem(format!("got {got}, want at most {max}"))
    }

    /// Returns a finite number. Trackers read JSON, which has no others.
    ///
    /// # Errors
    /// If the value is not a number, or is NaN or infinite.
    pub(super) fn number(&self, value: &Value) -> Result<f64, AnnotationError> {
        match value {
            Value::String(text) if matches!(text.as_str(), "NaN" | "Infinity" | "-Infinity") => {
                Err(self.error(value, "a finite number"))
            }
            value => value.as_f64().ok_or_else(|| self.error(value, "a number")),
        }
    }

    /// Returns a whole number, which may be written as a float or a bool.
    ///
    /// # Errors
    /// If the value is not a whole number.
    pub(super) fn whole(&self, value: &Value) -> Result<i64, AnnotationError> {
        /// Up to 2⁵³, floats represent all whole numbers.
        const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
        let number = match value {
            Value::Bool(value) => Some(i64::from(*value)),
            Value::Number(number) => number.as_i64().or_else(|| {
                let float = number.as_f64()?;
                #[expect(clippy::cast_possible_truncation, reason = "whole, and within the range")]
                (float.fract() == 0.0 && float.abs() <= EXACT_MAX).then_some(float as i64)
            }),
            _ => None,
        };
        number.ok_or_else(|| self.error(value, "a whole number"))
    }

    /// Returns a whole number, also one that is written as text.
    ///
    /// # Errors
    /// If the value is neither.
    pub(super) fn whole_or_text(
        &self,
        value: &Value,
        repairs: &mut Repairs,
    ) -> Result<i64, AnnotationError> {
        let error = match self.whole(value) {
            Err(error) => error,
            number => return number,
        };
        match value.as_str().map(|text| text.trim().parse::<i64>()) {
            Some(Ok(number)) => {
                repairs.done(error, &format!("taken as {number}"));
                Ok(number)
            }
            _ => Err(error),
        }
    }

    /// Checks a field that must be a finite number. A number that is written as text is replaced by the
    /// number.
    ///
    /// # Errors
    /// If the field is missing, or is no such number.
    pub(super) fn number_in(
        &self,
        fields: &mut Map<String, Value>,
        name: &str,
        repairs: &mut Repairs,
    ) -> Result<(), AnnotationError> {
        let place = self.field(name);
        let value = fields.get_mut(name).ok_or_else(|| place.missing("a number"))?;
        let Err(error) = place.number(value) else { return Ok(()) };
        let parsed = value.as_str().and_then(|text| text.trim().parse::<f64>().ok());
        match parsed.and_then(Number::from_f64) {
            Some(number) => {
                repairs.done(error, &format!("taken as {number}"));
                *value = number.into();
                Ok(())
            }
            None => Err(error),
        }
    }

    /// Returns a text. A number or bool is taken for its text.
    ///
    /// # Errors
    /// If the value is neither.
    pub(super) fn named(
        &self,
        value: &Value,
        repairs: &mut Repairs,
    ) -> Result<String, AnnotationError> {
        match value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(_) | Value::Bool(_) => {
                let text = value.to_string();
                repairs.done(self.error(value, "text"), &format!("taken as \"{text}\""));
                Ok(text)
            }
            other => Err(self.error(other, "text")),
        }
    }

    pub(super) fn text<'v>(&self, value: &'v Value) -> Result<&'v str, AnnotationError> {
        value.as_str().ok_or_else(|| self.error(value, "text"))
    }
}

impl fmt::Display for FieldPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(above) = self.above else { return Ok(()) };
        above.fmt(f)?;
        match self.part {
            Part::Root => Ok(()),
            Part::Field(name) if above.above.is_none() => f.write_str(name),
            Part::Field(name) => write!(f, ".{name}"),
            Part::Index(index) => write!(f, "[{index}]"),
        }
    }
}
