//! Text beside a dump that may belong to the job: the metadata of a safetensors file, and `STEM.json`.
//!
//! A field counts only if it is valid. An invalid one gives a warning, and never costs the image. The
//! metadata key `safelight` is ours, so its one JSON object is read as strictly as a line.

use std::collections::BTreeMap;
use std::iter;

use super::data::RAW_FIELDS;
use super::fields::{DEPTH_MAX, Fields, json, parse_fields};
use super::non_finite::without_position;
use super::pattern::DumpPath;
use super::{ANNOTATION_FIELDS, ImageOptions, MediaRecord, RecordError};
use crate::annotations;
use crate::media::{Json, JsonFields, shortened};
use serde::de::value::MapDeserializer;

/// The metadata key whose text is a record.
const OURS: &str = "safelight";

/// Longest warning about a field, in characters.
const WARNING_CHARS_MAX: usize = 200;

impl MediaRecord {
    /// Fills in fields from the metadata of the dump. Fields that the record has stay.
    ///
    /// The text of the key `safelight` is a JSON object with the fields of a line. Any other key counts if
    /// it has the name of a field, and a valid value; its text is the value. A `format` in lower case, such
    /// as `pt`, is ignored: other programs name the file's writer there. With `says_place`, the record's
    /// key, step and index are kept even if the metadata have others.
    ///
    /// # Errors
    /// If the text of `safelight` is not valid.
    pub fn add_metadata(
        &mut self,
        metadata: &BTreeMap<String, String>,
        says_place: bool,
    ) -> Result<(), RecordError> {
        const TEXTS: [&str; 8] =
            ["key", "caption", "profile", "mode", "file_type", "colormap", "alpha", "format"];
        let ours = metadata.get(OURS).map(|text| parse_fields(text.as_bytes())).transpose();
        let ours = ours.map_err(|error| RecordError {
            message: format!("the dump's metadata: {OURS}: {}", error.message),
            ..error
        })?;
        let is_field = |name: &str, text: &str| match name {
            "format" => text.bytes().all(|letter| letter.is_ascii_uppercase()),
            "key" | "step" | "index" | "caption" | "grouping" | "time" => true,
            name => ANNOTATION_FIELDS.contains(&name) || ImageOptions::FIELDS.contains(&name),
        };
        let given = metadata.iter().filter(|(name, text)| is_field(name, text));
        let given = given.map(|(name, text)| {
            let value = match serde_json::from_str::<Json>(text) {
                Ok(value) if !TEXTS.contains(&name.as_str()) => value,
                _ => text.as_str().into(),
            };
            (name.clone(), value)
        });
        let foreign = valid_fields(given.collect(), "the dump's metadata");
        let mut fields = ours.unwrap_or_default().over(foreign);
        let description = fields.take_description();
        if !says_place {
            self.key = fields.key.unwrap_or_else(|| self.key.clone());
            self.step = fields.step.unwrap_or(self.step);
            self.index = self.index.or(fields.index);
        }
        self.options = self.options.over(fields.options);
        self.description = std::mem::take(&mut self.description).over(description);
        self.warnings.extend(fields.warnings);
        Ok(())
    }
}

/// Reads `STEM.json` beside a dump whose path gives its key and step.
///
/// Its valid fields count as those of a [sidecar](super::parse_sidecar). The description of raw bytes
/// counts only for a dump that has no header, and text that is no JSON object has no fields.
#[must_use]
pub fn parse_foreign_sidecar(text: &[u8], path: &DumpPath) -> MediaRecord {
    let mut record = MediaRecord::of_path(path);
    let given = match json::<Json>(text).map(|(given, _)| given.fields()) {
        Ok(Some(given)) => given,
        Ok(None) => {
            record.warnings.push("the JSON file beside it is not an object".to_owned());
            return record;
        }
        Err(error) => {
            record.warnings.push(warning("the JSON file beside it", &error.to_string()));
            return record;
        }
    };
    let mut fields = valid_fields(given, "the JSON file beside it");
    let is_raw = [".bin", ".raw"].iter().any(|ending| path.path.ends_with(ending));
    let mut data = fields.data.take().unwrap_or_default();
    for name in RAW_FIELDS {
        let value = fields.extra.get(name).filter(|_| is_raw);
        match value.map(|value| data.set(name, value)) {
            None => {}
            Some(Ok(())) => drop(fields.extra.remove(name)),
            Some(Err(problem)) => {
                fields.warnings.push(warning("the JSON file beside it", &problem));
            }
        }
    }
    data.path = Some(path.path.clone());
    match data.finish() {
        Ok(data) => record.data = data,
        Err(problem) => fields.warnings.push(warning("the JSON file beside it", &problem)),
    }
    record.description = fields.take_description();
    record.key = fields.key.unwrap_or(record.key);
    record.step = fields.step.unwrap_or(record.step);
    record.index = fields.index.or(record.index);
    record.options = fields.options;
    record.warnings = fields.warnings;
    record
}

fn warning(place: &str, problem: &str) -> String {
    shortened(format!("{place}: {problem}; ignored"), WARNING_CHARS_MAX)
}

/// Reads the fields that are valid. Each other one gives a warning.
fn valid_fields(given: JsonFields, place: &str) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in given {
        if matches!(name.as_str(), "commit" | "finish") {
            continue;
        }
        let read = if value.depth() > DEPTH_MAX {
            Err(format!("{name}: nested deeper than {DEPTH_MAX} levels"))
        } else {
            check_annotation(&name, &value).and_then(|()| {
                let mut entry = MapDeserializer::new(iter::once(((), value.raw())));
                let read = serde::de::MapAccess::next_key::<()>(&mut entry)
                    .and_then(|_| fields.read(name, &mut entry));
                read.map_err(|error: serde_json::Error| {
                    without_position(&error.to_string()).to_owned()
                })
            })
        };
        if let Err(problem) = read {
            fields.warnings.push(warning(place, &problem));
        }
    }
    fields
}

/// Checks that a value is an annotation, or a list with those of each image, if `name` is that of one.
fn check_annotation(name: &str, value: &Json) -> Result<(), String> {
    if !ANNOTATION_FIELDS.contains(&name) || value.is_null() {
        return Ok(());
    }
    if annotations::names_file(name, value) {
        return Err(format!("{name}: names a file, which only a line or FILE.EXT.json may"));
    }
    let check = |value: &Json| {
        let given = JsonFields::from_iter([(name.to_owned(), value.clone())]);
        annotations::check(&given).map_err(|error| error.to_string())
    };
    match value.entries() {
        Some(values) if name != "classes" => values.iter().try_for_each(check),
        _ => check(value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::media::{ColorMode, MediaKey, Step};
    use crate::tensor::DType;

    fn path(path: &str) -> DumpPath {
        let key = MediaKey::new("coco").expect("a key");
        DumpPath { path: path.to_owned(), key, step: Step(1), index: None }
    }

    fn with_metadata(metadata: &Value) -> Result<MediaRecord, String> {
        let texts = metadata.as_object().expect("an object").iter();
        let text = |value: &Value| value.as_str().map_or(value.to_string(), str::to_owned);
        let texts = texts.map(|(name, value)| (name.clone(), text(value)));
        let mut record = MediaRecord::of_path(&path("dumps/coco/1.safetensors"));
        record
            .add_metadata(&texts.collect(), false)
            .map(|()| record)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn metadata_of_others_cost_no_image() {
        let given = json!({"format": "pt", "mode": "eval", "step": "last", "boxes": "none", "index": -1,
            "caption": "kept", "downscale": "64", "time": "yesterday"});
        let record = with_metadata(&given).expect("a record");
        assert_eq!(record.description.caption, Some(json!("kept").into()));
        assert_eq!((record.step, record.options.downscale), (Step(1), Some(64)));
        assert_eq!((record.options.mode, record.options.format), (None, None));
        assert!(record.description.annotations.is_empty());
        let names: Vec<_> = ["boxes: ", "index: ", "mode: ", "step: ", "time"].into();
        assert_eq!(record.warnings.len(), names.len(), "{:?}", record.warnings);
        for name in names {
            let of_it = record.warnings.iter().filter(|warning| warning.contains(name));
            assert_eq!(of_it.count(), 1, "{name}: {:?}", record.warnings);
        }
    }

    #[test]
    fn our_own_metadata_are_strict_and_win() {
        let given = json!({"mode": "eval", "caption": "theirs", "step": "7",
            "safelight": {"caption": "ours", "mode": "L", "step": 9, "loss": 0.5}});
        let record = with_metadata(&given).expect("a record");
        assert_eq!(record.description.caption, Some(json!("ours").into()));
        assert_eq!((record.step, record.options.mode), (Step(9), Some(ColorMode::L)));
        assert_eq!(record.description.extra, Some(json!({"loss": 0.5}).into()));
        let error = with_metadata(&json!({"safelight": {"mode": "eval"}})).unwrap_err();
        assert!(error.contains("safelight: mode"), "{error}");
    }

    #[test]
    fn a_coco_list_beside_a_dump_costs_no_image() {
        let npy = path("dumps/coco/1.npy");
        let list = br#"[{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 0.9}]"#;
        for text in [&list[..], b"", b"{\"caption\": ", b"\xff", b"7", b"train 1 2"] {
            let record = parse_foreign_sidecar(text, &npy);
            assert_eq!(record.warnings.len(), 1, "{:?}", record.warnings);
            assert_eq!(MediaRecord { warnings: Vec::new(), ..record }, MediaRecord::of_path(&npy));
        }
    }

    #[test]
    fn valid_fields_of_a_json_file_count_and_others_are_kept() {
        let text = json!({"caption": "c", "mode": "eval", "shape": [24, 32], "dtype": "uint8", "step": 4.0,
            "commit": "a3f9", "finish": "no", "masks": ["m.png"], "weather": {"rain": true}});
        let text = text.to_string();
        let record = parse_foreign_sidecar(text.as_bytes(), &path("dumps/coco/1.npy"));
        assert_eq!((record.step, &record.description.caption), (Step(4), &Some(json!("c").into())));
        assert_eq!((record.data.dtype, &record.data.raw), (None, &None), "the npy file has them");
        let extra = |record: &MediaRecord| record.description.extra.as_ref().and_then(Json::fields);
        let fields = extra(&record).expect("fields");
        assert_eq!(fields.get("weather"), Some(&json!({"rain": true}).into()));
        assert_eq!(record.warnings.len(), 2, "mode, masks: {:?}", record.warnings);
        let record = parse_foreign_sidecar(text.as_bytes(), &path("dumps/coco/1.bin"));
        assert_eq!(record.data.dtype, Some(DType::U8));
        assert!(record.data.raw.is_some());
        assert!(extra(&record).expect("fields").get("shape").is_none());
    }
}
