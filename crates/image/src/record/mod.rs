//! What a job says of its images: a line of a media log, a sidecar, or a dump's path. Pure.

mod data;
mod options;
pub mod pattern;

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use self::data::DataFields;
pub use self::data::DataRef;
pub use self::options::{Alpha, Grid, GridOption, ImageOptions};
use crate::media::{Description, MediaKey, Step};

/// A number, or one of the three that JSON has no numbers for, as text (see [`parse_line`]).
struct Number(f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "want a number")]
        enum Given {
            Float(f64),
            Text(String),
        }
        match Given::deserialize(from)? {
            Given::Float(number) => Ok(Self(number)),
            Given::Text(text) => match text.as_str() {
                "NaN" => Ok(Self(f64::NAN)),
                "Infinity" => Ok(Self(f64::INFINITY)),
                "-Infinity" => Ok(Self(f64::NEG_INFINITY)),
                _ => Err(de::Error::custom("want a number")),
            },
        }
    }
}

/// The fields that say what lies on an image: [`Description::annotations`].
pub(crate) const ANNOTATION_FIELDS: [&str; 3] = ["classes", "boxes", "masks"];

/// One description of an image, or of a batch of them.
#[derive(Debug, Clone, PartialEq)]
pub struct MediaRecord {
    /// The series that the image belongs to.
    pub key: MediaKey,
    /// The training step.
    pub step: Step,
    /// Its place in the step; the next free one if not said.
    pub index: Option<u32>,
    /// The tensor.
    pub data: DataRef,
    /// How to make the image.
    pub options: ImageOptions,
    /// What to carry along.
    pub description: Description,
}

/// A line of a media log.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// An image or a batch.
    Media(Box<MediaRecord>),
    /// The step is complete.
    Commit(Step),
    /// The run is over.
    Finish,
}

/// Why a line, or a sidecar, is no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}column {column}: {message}", if *line > 1 { format!("line {line}, ") } else { String::new() })]
pub struct RecordError {
    /// The line of a sidecar, from 1.
    pub line: usize,
    /// The byte of the line where it shows, from 1; for a missing field, the line's last.
    pub column: usize,
    /// What was got and what was wanted.
    pub message: String,
}

impl RecordError {
    /// An error about what the whole text lacks.
    fn at_end(text: &[u8], message: String) -> Self {
        let last = text.rsplit(|&byte| byte == b'\n').next().map_or(0, <[u8]>::len);
        let line = text.split(|&byte| byte == b'\n').count();
        Self { line, column: last.max(1), message }
    }
}

/// Reads a line of a media log, without its newline.
///
/// Python's bare `NaN`, `Infinity` and `-Infinity` are taken: as numbers where a number is wanted,
/// elsewhere as the texts `"NaN"`, `"Infinity"` and `"-Infinity"`, since JSON has nothing better.
///
/// # Errors
/// If it isn't one JSON object, a field has another type than it should, or `key`, `step` or `data`
/// is missing from a description.
pub fn parse_line(line: &[u8]) -> Result<Line, RecordError> {
    let fields = parse_fields(line)?;
    let missing = |field: &str, want: &str| {
        RecordError::at_end(line, format!("{field} is missing: want {want}"))
    };
    if fields.data.is_some() && (fields.finish || fields.commit.is_some()) {
        let message = "data stands beside commit or finish: want a line for each".to_owned();
        return Err(RecordError::at_end(line, message));
    }
    if fields.finish {
        return Ok(Line::Finish);
    }
    if let Some(step) = fields.commit {
        return Ok(Line::Commit(step));
    }
    Ok(Line::Media(Box::new(MediaRecord {
        key: fields
            .key
            .ok_or_else(|| missing("key", "the name of a series, such as \"val/pred\""))?,
        step: fields.step.ok_or_else(|| missing("step", "the training step, a whole number"))?,
        index: fields.index,
        data: fields
            .data
            .ok_or_else(|| missing("data", "the path of a dump"))?
            .finish()
            .map_err(|problem| RecordError::at_end(line, format!("data: {problem}")))?,
        options: fields.options,
        description: fields.description,
    })))
}

/// The key and step of a line that is no record because of something else, where they can be read.
#[must_use]
pub fn place_of(line: &[u8]) -> Option<(MediaKey, Step)> {
    let (quoted, _) = quote_non_finite(std::str::from_utf8(line).ok()?);
    let fields: Map<String, Value> = serde_json::from_str(&quoted).ok()?;
    let key = MediaKey::new(fields.get("key")?.as_str()?).ok()?;
    Some((key, Step(fields.get("step")?.as_u64()?)))
}

/// Reads the sidecar of a dump that speaks for itself: a record that need not say what the path
/// says. Beside a dump of raw bytes it may hold `dtype`, `shape`, `offset` and `byte_order` as fields
/// of its own.
///
/// # Errors
/// As [`parse_line`], but that nothing can be missing.
pub fn parse_sidecar(text: &[u8], path: &pattern::DumpPath) -> Result<MediaRecord, RecordError> {
    let mut fields = parse_fields(text)?;
    let at_end = |message| RecordError::at_end(text, message);
    let mut data = fields.data.take().unwrap_or_default();
    for name in data::RAW_FIELDS {
        if let Some(value) = fields.description.extra.shift_remove(name) {
            data.set(name, &value).map_err(at_end)?;
        }
    }
    data.path = Some(path.path.clone());
    let data = data.finish().map_err(at_end)?;
    Ok(MediaRecord {
        key: fields.key.unwrap_or_else(|| path.key.clone()),
        step: fields.step.unwrap_or(path.step),
        index: fields.index.or(path.index),
        data,
        options: fields.options,
        description: fields.description,
    })
}

impl MediaRecord {
    /// What a dump's path says of it, without a sidecar.
    #[must_use]
    pub fn of_path(path: &pattern::DumpPath) -> Self {
        Self {
            key: path.key.clone(),
            step: path.step,
            index: path.index,
            data: DataRef { path: path.path.clone(), ..DataRef::default() },
            options: ImageOptions::default(),
            description: Description::default(),
        }
    }

    /// Takes up what the dump itself says of its images, where the record says nothing: the fields of
    /// a line, as texts. Fields that a line doesn't have are somebody else's, as is a `format` such as
    /// `pt`, by which other programs tell who wrote the file.
    ///
    /// # Errors
    /// If a field can't be read.
    pub fn add_metadata(
        &mut self,
        metadata: &BTreeMap<String, String>,
        says_place: bool,
    ) -> Result<(), RecordError> {
        const TEXTS: [&str; 8] =
            ["key", "caption", "profile", "mode", "file_type", "colormap", "alpha", "format"];
        let mut line = Map::new();
        for (name, text) in metadata {
            let is_ours = match name.as_str() {
                "format" => text.bytes().all(|letter| letter.is_ascii_uppercase()),
                "key" | "step" | "index" | "caption" | "grouping" | "time" => true,
                name => ANNOTATION_FIELDS.contains(&name) || ImageOptions::FIELDS.contains(&name),
            };
            if is_ours {
                let value = match serde_json::from_str(text) {
                    Ok(value) if !TEXTS.contains(&name.as_str()) => value,
                    _ => Value::String(text.clone()),
                };
                line.insert(name.clone(), value);
            }
        }
        let fields = parse_fields(Value::Object(line).to_string().as_bytes());
        let fields = fields.map_err(|error| RecordError {
            message: format!("the dump's metadata: {}", error.message),
            ..error
        })?;
        if !says_place {
            self.key = fields.key.unwrap_or_else(|| self.key.clone());
            self.step = fields.step.unwrap_or(self.step);
            self.index = self.index.or(fields.index);
        }
        self.options = self.options.over(fields.options);
        let (ours, theirs) = (&mut self.description, fields.description);
        ours.caption = ours.caption.take().or(theirs.caption);
        ours.grouping = ours.grouping.take().or(theirs.grouping);
        ours.time = ours.time.or(theirs.time);
        for (name, value) in theirs.annotations {
            ours.annotations.entry(name).or_insert(value);
        }
        Ok(())
    }
}

/// How deep the fields that are carried along may be nested. `serde_json` reads no more than
/// 128 levels, and the journal puts some around them.
pub const DEPTH_MAX: usize = 64;

/// How deep a value is nested.
#[must_use]
pub fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn parse_fields(text: &[u8]) -> Result<Fields, RecordError> {
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

/// `error` with the column in the text as it was before [`quote_non_finite`] made `quoted` of it.
fn record_error(error: &serde_json::Error, quoted: &str, places: &[usize]) -> RecordError {
    let (line, column) = (error.line().max(1), error.column().max(1));
    let line_start: usize = quoted.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let on_line = line_start..=line_start + column;
    let n_quotes = places.iter().filter(|place| on_line.contains(place)).count() * 2;
    let message = without_position(&error.to_string()).to_owned();
    RecordError { line, column: column.saturating_sub(n_quotes).max(1), message }
}

/// `serde_json` ends its messages with a place in the text, which we tell in a field of its own.
fn without_position(message: &str) -> &str {
    message.rfind(" at line ").map_or(message, |at| &message[..at])
}

/// Puts quotes around each bare `NaN`, `Infinity` and `-Infinity` outside of texts. Also returns
/// where their ends came to lie.
fn quote_non_finite(text: &str) -> (String, Vec<usize>) {
    let (mut quoted, mut places) = (String::with_capacity(text.len() + 16), Vec::new());
    let (mut in_text, mut rest) = (false, text);
    while let Some(c) = rest.chars().next() {
        let word = ["NaN", "Infinity", "-Infinity"]
            .iter()
            .find(|word| !in_text && rest.starts_with(**word));
        if let Some(word) = word {
            quoted.extend(["\"", word, "\""]);
            places.push(quoted.len());
            rest = &rest[word.len()..];
            continue;
        }
        let mut n = c.len_utf8();
        match c {
            '"' => in_text = !in_text,
            '\\' if in_text => n += rest[1..].chars().next().map_or(0, char::len_utf8),
            _ => {}
        }
        quoted.push_str(&rest[..n]);
        rest = &rest[n..];
    }
    (quoted, places)
}

/// The fields of a line, in any order, each at most once.
#[derive(Default)]
struct Fields {
    key: Option<MediaKey>,
    step: Option<Step>,
    index: Option<u32>,
    data: Option<DataFields>,
    options: ImageOptions,
    description: Description,
    commit: Option<Step>,
    finish: bool,
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
                return Err(de::Error::custom(format!("{name} stands twice")));
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

/// The next value of `map`, whose errors begin with the field's name.
fn field<'de, A: MapAccess<'de>, T: Deserialize<'de>>(
    map: &mut A,
    name: &str,
) -> Result<T, A::Error> {
    map.next_value().map_err(|error| named(name, &error))
}

fn named<E: de::Error>(name: &str, error: &impl fmt::Display) -> E {
    E::custom(format!("{name}: {}", without_position(&error.to_string())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::media::{ColorMode, Compression, DataFormat, FileType, Profile};
    use crate::tensor::DType;

    fn media(line: &str) -> Result<MediaRecord, String> {
        match parse_line(line.as_bytes()) {
            Ok(Line::Media(record)) => Ok(*record),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    fn check_refused(line: &str, want: &str) {
        let got = media(line).map_or_else(|error| error, |record| format!("{record:?}"));
        assert_eq!(got, want);
    }

    #[test]
    fn a_full_line_is_read_and_unknown_fields_kept() {
        let record = media(
            r#"{"key":"val/pred","step":120,"data":"tensors/p.npy","caption":"epoch 3","format":"HWC",
                "mode":"RGB","grouping":2,"range":[-1,1.5],"file_type":"png","time":1763900000.5,"index":4,
                "profile":"wandb-0.20","compression":"small","palette":true,"boxes":{"pred":{"box_data":[]}},"loss":NaN}"#,
        );
        let record = record.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            (record.key.as_str(), record.step, record.index),
            ("val/pred", Step(120), Some(4))
        );
        assert_eq!(record.data.path, "tensors/p.npy");
        let want = ImageOptions {
            profile: Some(Profile::Wandb020),
            range: Some((-1.0, 1.5)),
            format: Some(DataFormat::Hwc),
            mode: Some(ColorMode::Rgb),
            file_type: Some(FileType::Png),
            compression: Some(Compression::Small),
            palette: Some(true),
            ..ImageOptions::default()
        };
        assert_eq!(record.options, want);
        assert_eq!(record.description.caption, Some(json!("epoch 3")));
        assert_eq!(record.description.grouping, Some(json!(2)));
        assert_eq!(record.description.time, Some(1_763_900_000.5));
        assert_eq!(Value::Object(record.description.extra), json!({"loss": "NaN"}));
        let annotations = json!({"boxes": {"pred": {"box_data": []}}});
        assert_eq!(Value::Object(record.description.annotations), annotations);
    }

    #[test]
    fn other_lines_are_read() {
        assert_eq!(parse_line(br#"{"commit":7}"#), Ok(Line::Commit(Step(7))));
        assert_eq!(parse_line(br#"{"finish":true}"#), Ok(Line::Finish));
        let record =
            media(r#"{"key":"a","step":0,"data":{"path":"x.npy","dtype":"bfloat16"},"mode":""}"#);
        assert_eq!(record.map(|r| (r.data.dtype, r.options.mode)), Ok((Some(DType::BF16), None)));
    }

    #[test]
    fn errors_name_field_and_column() {
        check_refused(
            r#"{"key":"a","step":-1,"data":"x"}"#,
            "column 20: step: invalid value: integer `-1`, expected u64",
        );
        check_refused(
            r#"{"key":"a","step":"b","data":"x"}"#,
            "column 21: step: invalid type: string \"b\", expected u64",
        );
        check_refused(
            r#"{"key":"","step":1,"data":"x"}"#,
            "column 9: key: key \"\": want at least one character",
        );
        check_refused(
            r#"{"key":"a","data":"x"}"#,
            "column 22: step is missing: want the training step, a whole number",
        );
        check_refused(r#"{"key":"a","step":1,"step":2}"#, "column 26: step stands twice");
        check_refused(
            r#"{"key":"a","step":1,"mode":"P"}"#,
            "column 31: mode: mode \"P\" needs a palette, which is not made here; want 1, L, LA, RGB, RGBA or I;16",
        );
        check_refused(
            r#"{"range":[1,0]}"#,
            "column 15: range: got [1, 0], want [low, high], finite, low < high",
        );
        check_refused(
            r#"{"x":NaN,"range":[NaN,0]}"#,
            "column 25: range: got [NaN, 0], want [low, high], finite, low < high",
        );
        check_refused(r#"{"key":"a""#, "column 10: EOF while parsing an object");
        check_refused(
            "[1]",
            "column 1: invalid type: sequence, expected an object that describes an image",
        );
        check_refused("", "column 1: EOF while parsing a value");
        check_refused(
            "-Infinity",
            "column 9: invalid type: string \"-Infinity\", expected an object that describes an image",
        );
        check_refused(
            "{\"caption\": NaN,\n \"step\": NaN}",
            "line 2, column 13: step: invalid type: string \"NaN\", expected u64",
        );
        assert_eq!(parse_line(b"{\"key\":\"\xff\"}").map_err(|e| e.column), Err(9));
    }

    proptest! {
        #[test]
        fn no_line_panics(line in proptest::collection::vec(any::<u8>(), 0..80), text in "[{}\\[\\]\":,aNInfity\\\\-]{0,40}") {
            drop(parse_line(&line));
            drop(parse_line(text.as_bytes()));
        }

        #[test]
        fn quoting_leaves_texts_alone(text in "[a-zN\\\\\"é]{0,20}") {
            let json = json!({"caption": text, "other": "NaN, -Infinity"}).to_string();
            prop_assert_eq!(quote_non_finite(&json).0, json);
        }
    }
}
