//! JSON schemas of the sections' types: what they share.

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema, json_schema};
use serde::de::value::Error;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde_json::Value;

/// The schema of a type, without references and without `null`, which TOML does not have.
pub(super) fn of<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    RecursiveTransform(tidy).transform(&mut schema);
    schema
}

fn tidy(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    if object.get("default").is_some_and(|default| default.is_null() || default.is_object()) {
        object.remove("default");
    }
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = &types[..] {
            object["type"] = only.clone();
        }
    }
    if let Some(Value::Array(any)) = object.get_mut("anyOf") {
        any.retain(|schema| schema["type"] != "null");
        if let [only] = &any[..] {
            let only = only.clone();
            object.remove("anyOf");
            if let Value::Object(only) = only {
                only.into_iter().for_each(|(name, value)| {
                    object.entry(name).or_insert(value);
                });
            }
        }
    }
    let format = object.remove("format");
    if format.is_some_and(|format| format == "uint32") && !object.contains_key("maximum") {
        object.insert("maximum".to_owned(), u32::MAX.into());
    }
    let text = object.get("description").and_then(Value::as_str);
    if let Some(text) = text {
        let on_one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let paragraphs: Vec<String> = text.split("\n\n").map(on_one_line).collect();
        object.insert("description".to_owned(), paragraphs.join("\n\n").into());
    }
}

/// Adds the properties of one object schema to another.
pub(super) fn add_properties(to: &mut Value, from: &Schema) {
    let from = from.get("properties").and_then(Value::as_object);
    if let (Some(from), Some(to)) = (from, to["properties"].as_object_mut()) {
        to.extend(from.clone());
    }
}

/// A text that is one of some words.
pub(super) fn one_of(words: &[&str]) -> Schema {
    json_schema!({ "type": "string", "enum": words })
}

/// The names of a struct's fields, as serde reads them.
pub(super) fn field_names<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut names: &[&str] = &[];
    // The answer is in `names`: the deserializer has no value to give.
    drop(T::deserialize(FieldNames(&mut names)));
    names
}

/// A deserializer that notes the names of the fields that are wanted, and then fails.
struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("no value"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
