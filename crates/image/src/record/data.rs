//! The dump, or the tensor of a dump, that a record refers to.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::lenient::whole;
use crate::decode::RawLayout;
use crate::media::Json;
use crate::tensor::{ByteOrder, DType, Shape};

/// Names of the fields that describe raw bytes.
pub(super) const RAW_FIELDS: [&str; 4] = ["dtype", "shape", "offset", "byte_order"];

/// The longest text of a list or an object among these fields, in bytes.
const FIELD_BYTES_MAX: usize = 4096;

/// A dump, or one tensor of it. In JSON: a path, or an object with `path` and further fields.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct DataRef {
    /// Path of the dump as written in the record: relative to the run directory, or absolute and within
    /// it.
    pub path: String,
    /// Name of the tensor. `None` for all of the dump.
    pub tensor: Option<String>,
    /// Element type, for dumps that do not contain it.
    pub dtype: Option<DType>,
    /// Layout of raw bytes. If given, the file is read as raw bytes, whatever its first bytes are.
    pub raw: Option<RawLayout>,
}

impl DataRef {
    /// Refers to a whole dump.
    #[must_use]
    pub fn of_path(path: impl Into<String>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }

    /// Parses a path or an object.
    ///
    /// # Errors
    /// What was got and what was wanted.
    pub(crate) fn from_value(value: Value) -> Result<Self, String> {
        let fields = DataFields::deserialize(value);
        fields.map_err(|error: serde_json::Error| error.to_string())?.finish()
    }
}

/// The fields of a [`DataRef`] as written, not yet checked against each other.
#[derive(Debug, Default)]
pub(super) struct DataFields {
    pub(super) path: Option<String>,
    tensor: Option<String>,
    dtype: Option<DType>,
    shape: Option<Shape>,
    offset: Option<u64>,
    byte_order: Option<ByteOrder>,
}

impl DataFields {
    /// Sets the field `name`.
    ///
    /// # Errors
    /// What was got and what was wanted.
    pub(super) fn set(&mut self, name: &str, given: &Json) -> Result<(), String> {
        let wrong = |want: &str| {
            let got: String = given.text().chars().take(64).collect();
            format!("{name}: got {got}, want {want}")
        };
        let is_short = given.text().len() <= FIELD_BYTES_MAX;
        // A list that is too long is no shape.
        let value = given.scalar().or_else(|| is_short.then(|| given.to_value()));
        let value = &value.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        let text = || value.as_str().map(str::to_owned).ok_or_else(|| wrong("text"));
        let numbers = || value.as_array()?.iter().map(whole).collect::<Option<Vec<_>>>();
        match name {
            "path" => self.path = Some(text()?),
            "tensor" if value.is_null() => {}
            "tensor" => self.tensor = Some(text()?),
            "dtype" => {
                let dtype = value.as_str().and_then(DType::from_name);
                let names = || DType::ALL.map(DType::name).join(", ");
                self.dtype = Some(dtype.ok_or_else(|| wrong(&format!("one of {}", names())))?);
            }
            "shape" => {
                let shape = numbers().and_then(Shape::new);
                let want = "a list of at most 32 whole numbers from 0 on";
                self.shape = Some(shape.ok_or_else(|| wrong(want))?);
            }
            "offset" => {
                self.offset = Some(whole(value).ok_or_else(|| wrong("bytes, a whole number"))?);
            }
            "byte_order" => {
                self.byte_order = Some(match value.as_str() {
                    Some("little" | "<") => ByteOrder::Little,
                    Some("big" | ">") => ByteOrder::Big,
                    _ => return Err(wrong("\"little\" or \"big\"")),
                });
            }
            _ => {
                let want = "path, tensor, dtype, shape, offset or byte_order";
                return Err(format!("got {name:?}, want {want}"));
            }
        }
        Ok(())
    }

    /// Checks the fields and returns the reference.
    ///
    /// # Errors
    /// If `path` is missing, or the description of raw bytes is incomplete.
    pub(super) fn finish(self) -> Result<DataRef, String> {
        let Self { path, tensor, dtype, shape, offset, byte_order } = self;
        let path = path.ok_or("path is missing")?;
        let raw = shape.map(|shape| {
            let byte_order = byte_order.unwrap_or(ByteOrder::Little);
            RawLayout { shape, offset, byte_order }
        });
        match (&raw, dtype, tensor.is_some()) {
            (Some(_), None, _) => Err("shape without dtype: want both for raw bytes".to_owned()),
            (Some(_), _, true) => Err("tensor beside shape: raw bytes have no names".to_owned()),
            (None, _, _) if offset.is_some() || byte_order.is_some() => {
                Err("offset or byte_order without shape: want shape and dtype for raw bytes"
                    .to_owned())
            }
            _ => Ok(DataRef { path, tensor, dtype, raw }),
        }
    }
}

impl<'de> Deserialize<'de> for DataFields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(DataVisitor)
    }
}

struct DataVisitor;

impl<'de> Visitor<'de> for DataVisitor {
    type Value = DataFields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the path of a dump, or an object with it")
    }

    fn visit_str<E: de::Error>(self, path: &str) -> Result<DataFields, E> {
        Ok(DataFields { path: Some(path.to_owned()), ..DataFields::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DataFields, A::Error> {
        let mut data = DataFields::default();
        while let Some(name) = map.next_key::<String>()? {
            data.set(&name, &map.next_value()?).map_err(de::Error::custom)?;
        }
        Ok(data)
    }
}
