//! The fields of a line or a sidecar.

use std::collections::HashSet;
use std::fmt;

use super::data::DataFields;
use super::lenient::{self, SURROGATES, Whole, cut_deep, replace_surrogates};
use super::non_finite::{quote_non_finite, record_error, without_position};
use super::{ANNOTATION_FIELDS, ImageOptions, RecordError};
use crate::media::{Description, Json, JsonFields, MediaKey, Step};
use serde::Deserialize;
use serde::de::{self, DeserializeOwned, Deserializer, MapAccess, Visitor};

/// The fields of a line, in any order, each at most once.
#[derive(Default)]
pub(super) struct Fields {
    pub(super) key: Option<MediaKey>,
    pub(super) step: Option<Step>,
    pub(super) index: Option<u32>,
    pub(super) data: Option<DataFields>,
    pub(super) options: ImageOptions,
    /// Without `extra`, which is in the field of that name.
    pub(super) description: Description,
    /// All other fields.
    pub(super) extra: JsonFields,
    pub(super) commit: Option<Step>,
    pub(super) finish: bool,
    /// What was repaired or dropped.
    pub(super) warnings: Vec<String>,
}

/// Parses the fields of a line or a sidecar.
pub(super) fn parse_fields(text: &[u8]) -> Result<Fields, RecordError> {
    let (mut fields, has_surrogates) = json::<Fields>(text)?;
    if has_surrogates {
        fields.warnings.push(SURROGATES.to_owned());
    }
    Ok(fields)
}

/// Parses JSON that may contain bare NaN and infinities, huge numbers, lone surrogates and deep nesting.
/// Returns whether surrogates were replaced.
pub(super) fn json<T: DeserializeOwned>(text: &[u8]) -> Result<(T, bool), RecordError> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let text = std::str::from_utf8(text).map_err(|error| {
        let RecordError { line, column, .. } =
            RecordError::at_end(&text[..=error.valid_up_to()], String::new());
        RecordError { line, column, message: "not UTF-8 text".to_owned() }
    })?;
    serde_json::from_str(text).map(|value| (value, false)).or_else(|_| {
        let Repaired { text, places, has_surrogates } = repaired(text);
        serde_json::from_str(&text)
            .map(|value| (value, has_surrogates))
            .map_err(|error| record_error(&error, &text, &places))
    })
}

/// JSON that Python wrote, as JSON that `serde_json` reads.
pub(super) struct Repaired {
    pub(super) text: String,
    /// The ends of the words that were quoted.
    places: Vec<usize>,
    has_surrogates: bool,
}

/// Repairs numbers, lone surrogates and deep nesting.
pub(super) fn repaired(text: &str) -> Repaired {
    let (quoted, places) = quote_non_finite(text);
    let replaced = replace_surrogates(&quoted);
    let has_surrogates = replaced.is_some();
    let text = replaced.unwrap_or(quoted);
    Repaired { text: cut_deep(&text).unwrap_or(text), places, has_surrogates }
}

impl Fields {
    /// Reads the next value of `map` into the field `name`. If that fails, no field is changed.
    pub(super) fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: String,
        map: &mut A,
    ) -> Result<(), A::Error> {
        let description = &mut self.description;
        match name.as_str() {
            "key" => self.key = Some(field(map, &name)?),
            "step" => self.step = Some(Step(field::<A, Whole<u64>>(map, &name)?.0)),
            "index" => {
                let index: Option<Whole<u32>> = field(map, &name)?;
                self.index = index.map(|Whole(index)| index);
            }
            "data" => self.data = Some(field(map, &name)?),
            "commit" => self.commit = Some(Step(field::<A, Whole<u64>>(map, &name)?.0)),
            "finish" => self.finish = field(map, &name)?,
            "caption" => description.caption = field(map, &name)?,
            "grouping" => description.grouping = field(map, &name)?,
            "time" => {
                let time: Json = field(map, &name)?;
                description.time = time.scalar().as_ref().and_then(lenient::time);
                if description.time.is_none() && !time.is_null() {
                    let got: String = time.text().chars().take(64).collect();
                    let want = "want seconds since 1970, of a date from 2000 to 2100";
                    self.warnings.push(format!("time dropped: got {got}, {want}"));
                }
            }
            _ if ANNOTATION_FIELDS.contains(&name.as_str()) => {
                let value: Json = field(map, &name)?;
                if !value.is_null() {
                    description.annotations.insert(&name, value);
                }
            }
            _ => {
                let read = self.options.read_field(&name, map);
                if !read.map_err(|error| named(&name, &error))? {
                    self.extra.push(name, map.next_value()?);
                }
            }
        }
        Ok(())
    }

    /// Merges two sets of fields: those that are missing are taken from `base`.
    pub(super) fn over(self, base: Self) -> Self {
        Self {
            key: self.key.or(base.key),
            step: self.step.or(base.step),
            index: self.index.or(base.index),
            data: self.data.or(base.data),
            options: self.options.over(base.options),
            description: self.description.over(base.description),
            // The last value of a field counts.
            extra: if base.extra.is_empty() {
                self.extra
            } else {
                self.extra.clone().into_iter().chain(base.extra).chain(self.extra).collect()
            },
            commit: self.commit.or(base.commit),
            finish: self.finish || base.finish,
            warnings: [self.warnings, base.warnings].concat(),
        }
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(FieldsVisitor)
    }
}

/// Fields that decide which image it is. With the options, they must occur once.
const IMAGE_FIELDS: [&str; 6] = ["key", "step", "index", "data", "commit", "finish"];

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object that describes an image")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        let mut seen = HashSet::new();
        let mut twice = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                if IMAGE_FIELDS.contains(&name.as_str())
                    || ImageOptions::FIELDS.contains(&name.as_str())
                {
                    return Err(de::Error::custom(format!("{name} occurs twice")));
                }
                fields.description.annotations.remove(&name);
                twice.push(name.clone());
            }
            fields.read(name, &mut map)?;
        }
        if !twice.is_empty() {
            fields.extra.merge_repeated();
        }
        let problem = "occur twice, the last value counts";
        fields.warnings.extend(lenient::of_fields(&twice, problem));
        let deep = fields.take_deep();
        let problem = format!("dropped: nested deeper than {DEPTH_MAX} levels");
        fields.warnings.extend(lenient::of_fields(&deep, &problem));
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

impl Fields {
    /// The description, with all other fields.
    pub(super) fn take_description(&mut self) -> Description {
        let extra = std::mem::take(&mut self.extra).into_object();
        Description { extra, ..std::mem::take(&mut self.description) }
    }

    /// Removes the fields that are nested too deep to be kept. Returns their names.
    fn take_deep(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        let Self { description: Description { caption, grouping, annotations, .. }, extra, .. } =
            self;
        for (name, value) in [("caption", caption), ("grouping", grouping)] {
            if value.take_if(|value| value.depth() > DEPTH_MAX).is_some() {
                names.push(name.to_owned());
            }
        }
        for fields in [annotations, extra] {
            fields.retain(|name, value| {
                let is_kept = value.depth() <= DEPTH_MAX;
                if !is_kept {
                    names.push(name.to_owned());
                }
                is_kept
            });
        }
        names
    }
}

/// Deepest nesting of a field that is kept with an image. `serde_json` reads at most 128 levels, and
/// the journal wraps the fields in some.
pub const DEPTH_MAX: usize = 64;
