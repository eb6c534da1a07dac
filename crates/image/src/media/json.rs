//! JSON that is passed on as it is: kept as text, and parsed only where a value is needed.
//!
//! A parsed value takes up to 70 times as much memory as its text. So the fields of a line stay text on their
//! way through the program, and all images of a line share it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::Arc;

use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor,
};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// A JSON value as compact text. Clones share the text.
#[derive(Clone)]
pub struct Json(Arc<RawValue>);

impl Json {
    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.get()
    }

    /// Parses the text. Costs up to 70 times its length in memory.
    #[must_use]
    pub fn to_value(&self) -> Value {
        serde_json::from_str(self.text()).unwrap_or_default()
    }

    /// The value, unless it is a list or an object.
    pub(crate) fn scalar(&self) -> Option<Value> {
        (!self.is_list() && !self.is_object()).then(|| self.to_value())
    }

    /// The value, if it is text.
    #[must_use]
    pub fn to_text(&self) -> Option<String> {
        serde_json::from_str(self.text()).ok()
    }

    /// Whether it is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.text() == "null"
    }

    /// Whether it is a list.
    #[must_use]
    pub fn is_list(&self) -> bool {
        self.text().starts_with('[')
    }

    /// Whether it is an object.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.text().starts_with('{')
    }

    /// The depth of nesting: 0 for a scalar, 1 for a flat list or object.
    #[must_use]
    pub fn depth(&self) -> usize {
        let (mut depth, mut max, mut in_text, mut is_escaped) = (0usize, 0, false, false);
        for byte in self.text().bytes() {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' if in_text => is_escaped = true,
                b'"' => in_text = !in_text,
                b'[' | b'{' if !in_text => {
                    depth += 1;
                    max = depth.max(max);
                }
                b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        max
    }

    /// The entries of a list. `None` if it is no list.
    #[must_use]
    pub fn entries(&self) -> Option<Vec<Self>> {
        if self.is_list() { serde_json::from_str(self.text()).ok() } else { None }
    }

    /// The fields of an object. `None` if it is no object. If a field occurs twice, the last value counts.
    #[must_use]
    pub fn fields(&self) -> Option<JsonFields> {
        if self.is_object() { serde_json::from_str(self.text()).ok() } else { None }
    }

    /// Calls `each` with the text of each entry of a list. Returns their number, or `None` if it is no list.
    pub(crate) fn for_each_entry(&self, each: impl FnMut(&str)) -> Option<usize> {
        if !self.is_list() {
            return None;
        }
        serde_json::Deserializer::from_str(self.text()).deserialize_seq(EachEntry(each)).ok()
    }

    /// Calls `each` with the name and the text of each field of an object. Returns their number, or `None` if it
    /// is no object.
    pub fn for_each_field(&self, each: impl FnMut(String, &str)) -> Option<usize> {
        if !self.is_object() {
            return None;
        }
        serde_json::Deserializer::from_str(self.text()).deserialize_map(EachField(each)).ok()
    }

    /// The raw value, to deserialize from.
    pub(crate) fn raw(&self) -> &RawValue {
        &self.0
    }

    /// Takes compact JSON text.
    fn of_text(text: Vec<u8>) -> Result<Self, serde_json::Error> {
        let text = String::from_utf8(text).map_err(serde_json::Error::custom)?;
        Ok(Self(RawValue::from_string(text)?.into()))
    }
}

impl From<&Value> for Json {
    fn from(value: &Value) -> Self {
        let raw = serde_json::value::to_raw_value(value);
        Self(raw.expect("a value has text keys and finite numbers").into())
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        Self::from(&value)
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::from(Value::from(text))
    }
}

impl FromIterator<Json> for Json {
    /// Makes a list.
    fn from_iter<I: IntoIterator<Item = Self>>(entries: I) -> Self {
        let mut text = "[".to_owned();
        for (i, entry) in entries.into_iter().enumerate() {
            text.push_str(if i > 0 { "," } else { "" });
            text.push_str(entry.text());
        }
        text.push(']');
        Self::of_text(text.into_bytes()).expect("a list of JSON values")
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.text() == other.text()
    }
}

impl PartialEq<Value> for Json {
    fn eq(&self, other: &Value) -> bool {
        self.to_value() == *other
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut text = Vec::new();
        from.deserialize_any(TextWriter(&mut text))?;
        Self::of_text(text).map_err(D::Error::custom)
    }
}

/// Writes a value as compact text while it is read, so that no value is made of it.
struct TextWriter<'a>(&'a mut Vec<u8>);

impl TextWriter<'_> {
    fn write<E: de::Error>(self, value: &(impl Serialize + ?Sized)) -> Result<(), E> {
        serde_json::to_writer(self.0, value).map_err(E::custom)
    }
}

impl<'de> DeserializeSeed<'de> for TextWriter<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TextWriter<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.write(&value)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<(), E> {
        self.write(&number)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<(), E> {
        self.write(&number)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<(), E> {
        self.write(&number)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        self.write(text)
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.0.extend(b"null");
        Ok(())
    }

    fn visit_none<E: de::Error>(self) -> Result<(), E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        self.0.push(b'[');
        let mut end = self.0.len();
        while entries.next_element_seed(TextWriter(&mut *self.0))?.is_some() {
            // The comma is removed behind the last entry.
            end = self.0.len();
            self.0.push(b',');
        }
        self.0.truncate(end);
        self.0.push(b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        self.0.push(b'{');
        let mut end = self.0.len();
        while fields.next_key_seed(TextWriter(&mut *self.0))?.is_some() {
            self.0.push(b':');
            fields.next_value_seed(TextWriter(&mut *self.0))?;
            end = self.0.len();
            self.0.push(b',');
        }
        self.0.truncate(end);
        self.0.push(b'}');
        Ok(())
    }
}

/// Visits the entries of a list.
struct EachEntry<F>(F);

impl<'de, F: FnMut(&str)> Visitor<'de> for EachEntry<F> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut entries: A) -> Result<usize, A::Error> {
        let mut n = 0;
        while let Some(entry) = entries.next_element::<&RawValue>()? {
            (self.0)(entry.get());
            n += 1;
        }
        Ok(n)
    }
}

/// Visits the fields of an object.
struct EachField<F>(F);

impl<'de, F: FnMut(String, &str)> Visitor<'de> for EachField<F> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<usize, A::Error> {
        let mut n = 0;
        while let Some((name, value)) = fields.next_entry::<String, &RawValue>()? {
            (self.0)(name, value.get());
            n += 1;
        }
        Ok(n)
    }
}

/// Fields of a JSON object, in their order, each value as text.
///
/// Finding a field takes time in proportion to their number.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JsonFields(Vec<(String, Json)>);

impl JsonFields {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their number.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The value of a field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.iter().find(|(of, _)| *of == name).map(|(_, value)| value)
    }

    /// Sets a field. One that is there keeps its place.
    pub fn insert(&mut self, name: &str, value: impl Into<Json>) {
        match self.0.iter_mut().find(|(of, _)| of == name) {
            Some((_, slot)) => *slot = value.into(),
            None => self.push(name.to_owned(), value.into()),
        }
    }

    /// Adds a field. [`Self::merge_repeated`] must be called if it may be there.
    pub(crate) fn push(&mut self, name: String, value: Json) {
        self.0.push((name, value));
    }

    /// Removes a field.
    pub fn remove(&mut self, name: &str) -> Option<Json> {
        let at = self.0.iter().position(|(of, _)| of == name)?;
        Some(self.0.remove(at).1)
    }

    /// The fields, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    pub(crate) fn retain(&mut self, mut is_kept: impl FnMut(&str, &Json) -> bool) {
        self.0.retain(|(name, value)| is_kept(name, value));
    }

    /// Gives each field that occurs several times its last value, at its first place.
    pub(crate) fn merge_repeated(&mut self) {
        let mut places: HashMap<String, usize> = HashMap::with_capacity(self.0.len());
        let mut merged: Vec<(String, Json)> = Vec::with_capacity(self.0.len());
        for (name, value) in std::mem::take(&mut self.0) {
            match places.entry(name) {
                Entry::Occupied(place) => merged[*place.get()].1 = value,
                Entry::Vacant(place) => {
                    merged.push((place.key().clone(), value));
                    place.insert(merged.len() - 1);
                }
            }
        }
        self.0 = merged;
    }

    /// The object of these fields.
    ///
    /// # Panics
    /// Never: text keys and JSON values make an object.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let mut text = Vec::new();
        let written = serde_json::to_writer(&mut text, self);
        let json = written.and_then(|()| Json::of_text(text));
        json.expect("text keys and JSON values make an object")
    }

    /// The object of these fields, if there are any.
    pub(crate) fn into_object(self) -> Option<Json> {
        (!self.is_empty()).then(|| self.to_json())
    }

    /// The length of the text of all names and values, in bytes.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.text().len() + 4).sum()
    }
}

impl IntoIterator for JsonFields {
    type Item = (String, Json);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<(String, Json)> for JsonFields {
    fn from_iter<I: IntoIterator<Item = (String, Json)>>(fields: I) -> Self {
        let mut fields = Self(fields.into_iter().collect());
        fields.merge_repeated();
        fields
    }
}

impl PartialEq<Value> for JsonFields {
    fn eq(&self, other: &Value) -> bool {
        self.to_json() == *other
    }
}

impl Serialize for JsonFields {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        self.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for JsonFields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = JsonFields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonFields, A::Error> {
                let mut fields = JsonFields::default();
                while let Some((name, value)) = map.next_entry()? {
                    fields.push(name, value);
                }
                if fields.len() > 1 {
                    fields.merge_repeated();
                }
                Ok(fields)
            }
        }

        from.deserialize_map(FieldsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn json(text: &str) -> Json {
        serde_json::from_str(text).expect("JSON")
    }

    #[test]
    fn text_is_that_of_the_value() {
        for text in [
            "1.0",
            "1e5",
            "-0",
            "-0.0",
            "18446744073709551616",
            "[ 1 , \"a\\u00e9\\/\\n\" ]",
            "{ }",
            "[]",
            "{\"b\": {\"x\": [null, true, false]}, \"a\": 1e-7}",
            "\"\\ud83d\\ude00\"",
        ] {
            let value: Value = serde_json::from_str(text).expect("JSON");
            assert_eq!(json(text).text(), value.to_string(), "{text}");
            assert_eq!(json(text), value);
            // The other ways of reading and writing.
            let again: Json = serde_json::from_value(value.clone()).expect("a value");
            assert_eq!(again, json(text));
            assert_eq!(serde_json::to_value(&again).expect("a value"), value);
            assert_eq!(serde_json::to_string(&again).expect("text"), value.to_string());
        }
    }

    #[test]
    fn entries_and_fields_are_read_one_level_deep() {
        let list = json("[[1, 2], {\"a\": 3}, null]");
        assert_eq!(list.entries(), Some(vec![json("[1,2]"), json("{\"a\":3}"), json("null")]));
        assert_eq!(list.entries().map(|entries| entries.into_iter().collect()), Some(list.clone()));
        let object = json("{\"b\": 1, \"a\": [], \"b\": 2}");
        let fields = object.fields().expect("an object");
        assert_eq!(fields.to_json().text(), "{\"b\":2,\"a\":[]}");
        assert_eq!((fields.get("b"), fields.len()), (Some(&json("2")), 2));
        assert_eq!((object.entries(), list.fields()), (None, None));
        let (mut texts, mut names) = (Vec::new(), Vec::new());
        assert_eq!(list.for_each_entry(|text| texts.push(text.to_owned())), Some(3));
        assert_eq!(texts, ["[1,2]", "{\"a\":3}", "null"]);
        assert_eq!(object.for_each_field(|name, _| names.push(name)), Some(3));
        assert_eq!(names, ["b", "a", "b"]);
    }

    proptest! {
        #[test]
        fn depth_is_that_of_the_value(n in 0usize..60, text in "[\\[\\]{}\"\\\\a]{0,6}") {
            let value = (0..n).fold(json!(text), |value, i| if i % 2 == 0 { json!([value, 1]) } else { json!({&text: value}) });
            prop_assert_eq!(Json::from(&value).depth(), n);
        }
    }
}
