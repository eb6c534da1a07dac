//! Fields from the metadata of a dump itself, such as a safetensors header.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fields::parse_fields;
use super::{ANNOTATION_FIELDS, ImageOptions, MediaRecord, RecordError};

impl MediaRecord {
    /// Fills in fields from the metadata of the dump. Fields that the record has stay.
    ///
    /// Metadata are the fields of a line, as texts. Other names are ignored, and so is a `format` in
    /// lower case, such as `pt`: other programs name the file's writer there. With `says_place`, the
    /// record's key, step and index are kept even if the metadata have others.
    ///
    /// # Errors
    /// If a field has the wrong type.
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
