//! The fields of a line or a sidecar.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::data::DataFields;
use super::non_finite::{Number, quote_non_finite, record_error, without_position};
use super::{ANNOTATION_FIELDS, ImageOptions, RecordError};
use crate::media::{Description, MediaKey, Step};

/// The fields of a line, in any order, each at most once.
#[derive(Default)]
pub(super) struct Fields {
    pub(super) key: Option<MediaKey>,
    pub(super) step: Option<Step>,
    pub(super) index: Option<u32>,
    pub(super) data: Option<DataFields>,
    pub(super) options: ImageOptions,
    pub(super) description: Description,
    pub(super) commit: Option<Step>,
    pub(super) finish: bool,
}

/// Parses the fields of a line or a sidecar.
pub(super) fn parse_fields(text: &[u8]) -> Result<Fields, RecordError> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let text = std::str::from_utf8(text).map_err(|error| {
        let RecordError { line, column, .. } =
            RecordError::at_end(&text[..=error.valid_up_to()], String::new());
        RecordError { line, column, message: "not UTF-8 text".to_owned() }
    })?;
    serde_json::from_str(text).or_else(|error| {
        let (quoted, places) = quote_non_finite(text);
        if places.is_empty() {
            return Err(record_error(&error, text, &[]));
        }
        serde_json::from_str(&quoted).map_err(|error| record_error(&error, &quoted, &places))
    })
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object that describes an image")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        let mut seen = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if seen.insert(name.clone(), Value::Null).is_some() {
                return Err(de::Error::custom(format!("{name} occurs twice")));
            }
            let description = &mut fields.description;
            match name.as_str() {
                "key" => fields.key = Some(field(&mut map, &name)?),
                "step" => fields.step = Some(Step(field(&mut map, &name)?)),
                "index" => fields.index = field(&mut map, &name)?,
                "data" => fields.data = Some(field(&mut map, &name)?),
                "commit" => fields.commit = Some(Step(field(&mut map, &name)?)),
                "finish" => fields.finish = field(&mut map, &name)?,
                "caption" => description.caption = field(&mut map, &name)?,
                "grouping" => description.grouping = field(&mut map, &name)?,
                "time" => {
                    let time: Option<Number> = field(&mut map, &name)?;
                    description.time =
                        time.map(|Number(time)| time).filter(|time| time.is_finite());
                }
                _ if ANNOTATION_FIELDS.contains(&name.as_str()) => {
                    let value: Value = field(&mut map, &name)?;
                    if !value.is_null() {
                        description.annotations.insert(name, value);
                    }
                }
                _ => {
                    let read = fields.options.read_field(&name, &mut map);
                    if !read.map_err(|error| named(&name, &error))? {
                        description.extra.insert(name, map.next_value()?);
                    }
                }
            }
        }
        let Description { caption, grouping, annotations, extra, .. } = &fields.description;
        if caption
            .iter()
            .chain(grouping)
            .chain(annotations.values())
            .chain(extra.values())
            .any(|value| depth(value) > DEPTH_MAX)
        {
            return Err(de::Error::custom(format!("nested deeper than {DEPTH_MAX} levels")));
        }
        Ok(fields)
    }
}

/// Reads the next value of `map`. Errors begin with the field's name.
fn field<'de, A: MapAccess<'de>, T: Deserialize<'de>>(
    map: &mut A,
    name: &str,
) -> Result<T, A::Error> {
    map.next_value().map_err(|error| named(name, &error))
}

fn named<E: de::Error>(name: &str, error: &impl fmt::Display) -> E {
    E::custom(format!("{name}: {}", without_position(&error.to_string())))
}

/// Deepest nesting of a field that is kept with an image. `serde_json` reads at most 128 levels, and
/// the journal wraps the fields in some.
pub const DEPTH_MAX: usize = 64;

/// Returns the depth of nesting: 0 for a scalar, 1 for a flat list or object.
#[must_use]
pub fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
