//! Parses lines of a media log and sidecars.

use std::fmt;

use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::data::RAW_FIELDS;
use super::fields::{Repaired, json, parse_fields, repaired};
use super::lenient;
use super::pattern::DumpPath;
use super::{Line, MediaRecord, RecordError};
use crate::media::{Json, MediaKey, SESSION_BYTES_MAX, Session, Step};

/// Parses a line of a media log, without its newline.
///
/// Accepts the bare `NaN`, `Infinity` and `-Infinity` that Python writes. They are numbers where a number
/// is wanted, else the texts `"NaN"`, `"Infinity"` and `"-Infinity"`. A number too large for a float is a
/// text, too. Fields that are kept with the image are dropped with a warning if they are nested too deep;
/// if one occurs twice, the last value counts.
///
/// # Errors
/// If the line is not one JSON object, a field has the wrong type, a field that decides which image it is
/// or how it is made occurs twice, or a description lacks `key`, `step` or `data`.
///
/// # Examples
///
/// ```
/// use safelight_image::media::Step;
/// use safelight_image::record::{Line, parse_line};
///
/// let line = br#"{"key": "val/pred", "step": 120, "data": "tensors/p.npy", "caption": "epoch 3"}"#;
/// let Line::Media(record) = parse_line(line)? else { unreachable!("it has data") };
/// assert_eq!((record.key.as_str(), record.step), ("val/pred", Step(120)));
/// assert_eq!(record.data.path, "tensors/p.npy");
/// # Ok::<(), safelight_image::record::RecordError>(())
/// ```
pub fn parse_line(line: &[u8]) -> Result<Line, RecordError> {
    let mut fields = parse_fields(line)?;
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
    if fields.data.is_none() && fields.key.is_none() && fields.step.is_none() {
        let extra = &fields.extra;
        if let Some(id) = extra.get("session") {
            let session = session(id, extra.get("rank"));
            return session.map(Line::Session).map_err(|error| RecordError::at_end(line, error));
        }
    }
    let description = fields.take_description();
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
        description,
        warnings: fields.warnings,
    })))
}

/// Reads a session's id and rank.
fn session(id: &Json, rank: Option<&Json>) -> Result<Session, String> {
    let shown = |value: &Json| value.text().chars().take(64).collect::<String>();
    let text = match id.scalar() {
        Some(Value::String(text)) => Some(text),
        Some(Value::Number(number)) if number.is_i64() || number.is_u64() => {
            Some(number.to_string())
        }
        number => number.as_ref().and_then(lenient::whole).map(|number| number.to_string()),
    };
    let text =
        text.filter(|text| (1..=SESSION_BYTES_MAX).contains(&text.len())).ok_or_else(|| {
            let want = "want text of 1 to 256 bytes, or a whole number";
            format!("session: got {}, {want}", shown(id))
        })?;
    let rank = rank.filter(|rank| !rank.is_null()).map_or(Ok(0), |rank| {
        let whole = rank.scalar().as_ref().and_then(lenient::whole);
        let whole = whole.and_then(|rank| u32::try_from(rank).ok());
        let want = format!("want a whole number from 0 to {}", u32::MAX);
        whole.ok_or_else(|| format!("rank: got {}, {want}", shown(rank)))
    })?;
    Ok(Session { id: text, rank })
}

/// Returns the key and step of a line that [`parse_line`] refuses, if they can be read: both must stand
/// before the first error in the text.
#[must_use]
pub fn place_of(line: &[u8]) -> Option<(MediaKey, Step)> {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    let text = std::str::from_utf8(line).or_else(|error| {
        // The bytes before the first one that is not UTF-8.
        std::str::from_utf8(&line[..error.valid_up_to()])
    });
    let Repaired { text: repaired, .. } = repaired(text.ok()?);
    let (mut key, mut step) = (None, None);
    let place = PlaceVisitor { key: &mut key, step: &mut step };
    // The fields before an error are known.
    drop(serde_json::Deserializer::from_str(&repaired).deserialize_map(place));
    Some((key?, step?))
}

/// Collects key and step while the fields of a line are read.
struct PlaceVisitor<'a> {
    key: &'a mut Option<MediaKey>,
    step: &'a mut Option<Step>,
}

impl<'de> Visitor<'de> for PlaceVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "key" => {
                    let key = map.next_value::<Json>()?.to_text();
                    *self.key = key.and_then(|key| MediaKey::new(key).ok());
                }
                "step" => {
                    let step = map.next_value::<Json>()?.scalar();
                    *self.step = step.as_ref().and_then(lenient::whole).map(Step);
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Parses the sidecar of a dump whose path gives its key and step.
///
/// A sidecar is a record in which every field is optional; missing fields are taken from the path. For a
/// dump of raw bytes it may have `dtype`, `shape`, `offset` and `byte_order` at the top level.
///
/// # Errors
/// As [`parse_line`], except that no field can be missing.
pub fn parse_sidecar(text: &[u8], path: &DumpPath) -> Result<MediaRecord, RecordError> {
    let mut fields = parse_fields(text)?;
    let at_end = |message| RecordError::at_end(text, message);
    let mut data = fields.data.take().unwrap_or_default();
    for name in RAW_FIELDS {
        if let Some(value) = fields.extra.remove(name) {
            data.set(name, &value).map_err(at_end)?;
        }
    }
    data.path = Some(path.path.clone());
    let data = data.finish().map_err(at_end)?;
    let description = fields.take_description();
    Ok(MediaRecord {
        key: fields.key.unwrap_or_else(|| path.key.clone()),
        step: fields.step.unwrap_or(path.step),
        index: fields.index.or(path.index),
        data,
        options: fields.options,
        description,
        warnings: fields.warnings,
    })
}

/// Parses any JSON value, as lenient about numbers, texts and nesting as [`parse_line`].
///
/// # Errors
/// If the text is no JSON.
pub fn parse_json(text: &[u8]) -> Result<Json, RecordError> {
    json(text).map(|(value, _)| value)
}
