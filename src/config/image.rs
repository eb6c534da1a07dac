//! `[image]`: how images are made.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::{Value, json};

use super::patterns::NamePattern;
use crate::media::MediaKey;
use crate::record::ImageOptions;

/// `[image]`: any of the [`ImageOptions`], and rules for some keys.
#[derive(Debug, Default)]
pub struct ImageSection {
    /// The options of all keys.
    pub options: ImageOptions,
    /// The rules.
    pub rule: Vec<RuleSection>,
}

/// `[[image.rule]]`: a pattern of keys, and any of the [`ImageOptions`].
#[derive(Debug)]
pub struct RuleSection {
    /// The keys of the rule.
    pub key: NamePattern,
    /// Their options.
    pub options: ImageOptions,
}

/// How images are made, by key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImageRules {
    base: ImageOptions,
    rules: Vec<(NamePattern, ImageOptions)>,
}

impl ImageRules {
    /// The options of a key. Each field comes from the last rule that matches and sets it.
    #[must_use]
    pub fn options(&self, key: &MediaKey) -> ImageOptions {
        let matching = self.rules.iter().filter(|(pattern, _)| pattern.is_match(key.as_str()));
        matching.fold(self.base, |options, (_, rule)| rule.over(options))
    }
}

impl From<ImageSection> for ImageRules {
    fn from(section: ImageSection) -> Self {
        let rules = section.rule.into_iter().map(|RuleSection { key, options }| (key, options));
        Self { base: section.options, rules: rules.collect() }
    }
}

impl<'de> Deserialize<'de> for ImageSection {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (options, rule) = from.deserialize_map(OptionsAnd("rule", PhantomData))?;
        Ok(Self { options, rule: rule.unwrap_or_default() })
    }
}

impl<'de> Deserialize<'de> for RuleSection {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (options, key) = from.deserialize_map(OptionsAnd("key", PhantomData))?;
        Ok(Self { key: key.ok_or_else(|| de::Error::missing_field("key"))?, options })
    }
}

/// Reads a table of image options and one more field.
struct OptionsAnd<T>(&'static str, PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OptionsAnd<T> {
    type Value = (ImageOptions, Option<T>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a table of image options and {}", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut options, mut other) = (ImageOptions::default(), None);
        while let Some(name) = map.next_key::<String>()? {
            if name == self.0 {
                other = Some(map.next_value()?);
            } else if !options.read_field(&name, &mut map)? {
                let known = ImageOptions::FIELDS.iter().chain([&self.0]);
                let known: Vec<String> = known.map(|known| format!("`{known}`")).collect();
                let known = known.join(", ");
                let problem = format!("unknown field `{name}`, expected one of {known}");
                return Err(de::Error::custom(problem));
            }
        }
        Ok((options, other))
    }
}

/// The schema of each option's value, by the option's name, with its default or an example.
fn option_values() -> [(&'static str, Value); 14] {
    let words = |words: &[&str], default: &str| json!({ "type": "string", "enum": words, "default": default, "x-set": true });
    let example = |words: &[&str], example: &str| json!({ "type": "string", "enum": words, "examples": [example] });
    let color = |example: &str| json!({ "type": "string", "pattern": "^#[0-9A-Fa-f]{6}$", "examples": [example] });
    let grid = json!({
        "type": "object",
        "properties": {
            "nrow": { "type": "integer", "minimum": 1, "maximum": u32::MAX, "default": 8 },
            "padding": { "type": "integer", "minimum": 0, "maximum": 1024, "default": 2 },
        },
        "additionalProperties": false,
    });
    let colormaps = [
        "gray",
        "viridis",
        "magma",
        "inferno",
        "plasma",
        "cividis",
        "turbo",
        "cubehelix",
        "blues",
        "greens",
        "greys",
        "oranges",
        "purples",
        "reds",
        "spectral",
        "rdbu",
        "rdylbu",
        "rdylgn",
        "piyg",
        "prgn",
        "brbg",
        "puor",
    ];
    [
        ("profile", words(&["auto", "wandb-0.10", "wandb-0.20", "wandb-0.29"], "auto")),
        (
            "range",
            json!({
                "type": "array", "items": { "type": "number" }, "minItems": 2, "maxItems": 2,
                "examples": [[0.0, 80.0]],
            }),
        ),
        ("format", example(&["HW", "HWC", "CHW", "NHW", "NHWC", "NCHW"], "HW")),
        ("mode", example(&["L", "LA", "RGB", "RGBA", "1", "I;16"], "RGB")),
        ("file_type", words(&["png", "jpg", "jpeg", "bmp", "webp"], "png")),
        ("quality", json!({ "type": "integer", "minimum": 1, "maximum": 100, "examples": [90] })),
        ("compression", words(&["fast", "small"], "fast")),
        ("palette", json!({ "type": "boolean", "default": false, "x-set": true })),
        ("colormap", example(&colormaps, "turbo")),
        ("nan_color", color("#ff00ff")),
        ("alpha", example(&["keep", "drop", "composite"], "composite")),
        ("background", color("#ffffff")),
        (
            "downscale",
            json!({ "type": "integer", "minimum": 1, "maximum": u32::MAX, "examples": [1024] }),
        ),
        (
            "grid",
            json!({
                "anyOf": [{ "type": "boolean" }, grid],
                "examples": [{ "nrow": 8, "padding": 2 }],
            }),
        ),
    ]
}

/// The properties of all options. Of a rule, none has a default: it sets only what it says.
fn option_properties(is_rule: bool) -> serde_json::Map<String, Value> {
    let values = option_values();
    let property = |&(name, doc): &(&str, &str)| {
        let value = values.iter().find(|(of, _)| *of == name);
        let mut value = value.map_or(Value::Bool(true), |(_, value)| value.clone());
        if let Some(value) = value.as_object_mut() {
            // As rustdoc has it: brackets are escaped, so that they are no link.
            value.insert("description".to_owned(), doc.replace('\\', "").into());
            if is_rule {
                value.remove("x-set");
                if let Some(default) = value.remove("default") {
                    value.insert("examples".to_owned(), json!([default]));
                }
            }
        }
        (name.to_owned(), value)
    };
    ImageOptions::DOCS.iter().map(property).collect()
}

impl JsonSchema for ImageSection {
    fn schema_name() -> Cow<'static, str> {
        "Image".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut properties = option_properties(false);
        let rules = json!({
            "type": "array",
            "items": RuleSection::json_schema(generator),
            "description": "Options of some keys. Any number of these. The last rule that matches and sets an option \
                            wins; a log line wins over all rules. Each option of `[image]` may stand in a rule.",
        });
        properties.insert("rule".to_owned(), rules);
        json_schema!({
            "type": "object",
            "description": "How images are made. All options may also stand in a rule.",
            "properties": properties,
            "additionalProperties": false,
        })
    }
}

impl JsonSchema for RuleSection {
    fn schema_name() -> Cow<'static, str> {
        "Rule".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let key = json!({
            "type": "string",
            "description": "The keys of the rule. `*` stands for any characters, slashes too.",
            "examples": ["depth/*"],
        });
        let mut properties = serde_json::Map::from_iter([("key".to_owned(), key)]);
        properties.extend(option_properties(true));
        json_schema!({
            "type": "object",
            "properties": properties,
            "required": ["key"],
            "additionalProperties": false,
        })
    }
}
