//! The images of one step as records.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::record::{FileEntry, FileList, HistoryRow, KeyedValue, RowStep};
use crate::wandb::{class_labels_config, logged};
use safelight_image::media::{MediaEntry, MediaId, MediaKey, Step};

/// The longest row that the client uploads, in bytes of its JSON. It skips a longer one.
pub const ROW_BYTES_MAX: usize = 10_383_360;

/// Names that a row, the summary or the config reserves.
const OWN_NAMES: [&str; 4] = ["_step", "_timestamp", "_runtime", "_wandb"];

/// Returns whether W&B reserves a key's name.
#[must_use]
pub fn is_taken(key: &MediaKey) -> bool {
    OWN_NAMES.contains(&key.as_str())
}

/// The images of one step.
#[derive(Debug)]
pub struct Row {
    /// The step.
    pub step: Step,
    /// When the last image was logged, in seconds since the Unix epoch.
    pub time: f64,
    /// The value of each key.
    pub values: BTreeMap<MediaKey, Value>,
    /// Class names, by their place in the config.
    pub labels: BTreeMap<LabelPlace, Value>,
    /// All files of the images, named as in the values.
    pub files: BTreeSet<String>,
}

/// The place of a layer's class names in the config: the kind of layer, then key and layer.
pub type LabelPlace = (String, String);

impl Row {
    /// Makes the row of a step's images, which may be in any order.
    pub fn of<'a>(
        step: Step,
        images: impl IntoIterator<Item = (&'a MediaId, &'a MediaEntry, f64)>,
    ) -> Self {
        let mut row = Self {
            step,
            time: f64::MIN,
            values: BTreeMap::new(),
            labels: BTreeMap::new(),
            files: BTreeSet::new(),
        };
        let mut series: BTreeMap<&MediaKey, BTreeMap<u32, MediaEntry>> = BTreeMap::new();
        for (id, entry, time) in images {
            row.time = row.time.max(time);
            row.files.extend(entry.paths());
            series.entry(&id.key).or_default().insert(id.index, entry.clone());
        }
        for (key, entries) in series {
            let entries: Vec<MediaEntry> = entries.into_values().collect();
            if let Some(value) = logged(&entries, entries.len() > 1) {
                row.values.insert(key.clone(), value);
            }
            let config = class_labels_config(key, &entries);
            let kinds = config.get("_wandb").and_then(Value::as_object);
            for (kind, sets) in kinds.into_iter().flatten() {
                for (place, labels) in sets.as_object().into_iter().flatten() {
                    row.labels.insert((kind.clone(), place.clone()), labels.clone());
                }
            }
        }
        row
    }

    /// Returns the record that lists the files to upload.
    #[must_use]
    pub fn file_list(&self) -> FileList {
        let entry = |path: &String| FileEntry { path: path.clone(), policy: 0, kind: 2 };
        FileList { files: self.files.iter().map(entry).collect() }
    }

    /// Returns the values of the summary. They are whole, so that they replace the earlier ones.
    #[must_use]
    pub fn summary(&self) -> Vec<KeyedValue> {
        self.values.iter().map(|(key, value)| KeyedValue::flat(key.as_str(), value)).collect()
    }

    /// Returns the values of a row, one for each leaf: the library writes them so, and its terminal viewer expects it.
    #[must_use]
    pub fn items(&self) -> Vec<KeyedValue> {
        let mut items = Vec::new();
        for (key, value) in &self.values {
            add_leaves(&mut vec![key.as_str()], value, &mut items);
        }
        items
    }

    /// Returns a row of its own, in a run that began at `start` (seconds since the Unix epoch).
    #[must_use]
    pub fn history(&self, start: f64) -> HistoryRow {
        let own = self.own_values(start);
        let mut item: Vec<KeyedValue> =
            own.iter().map(|(name, value)| KeyedValue::nested(&[name], value)).collect();
        item.extend(self.items());
        HistoryRow { item, step: Some(RowStep { num: self.step_number() }) }
    }

    /// Returns the values that W&B adds to each row, in a run that began at `start`.
    #[must_use]
    pub fn own_values(&self, start: f64) -> [(&'static str, Value); 3] {
        let runtime = (self.time - start).max(0.0);
        [
            ("_step", json!(self.step_number())),
            ("_timestamp", json!(self.time)),
            ("_runtime", json!(runtime)),
        ]
    }

    fn step_number(&self) -> i64 {
        i64::try_from(self.step.0).unwrap_or(i64::MAX)
    }
}

/// Returns the item of the config that sets class names.
#[must_use]
pub fn label_item((kind, place): &LabelPlace, labels: &Value) -> KeyedValue {
    KeyedValue::nested(&["_wandb", kind, place], labels)
}

/// Returns the most bytes that an image adds to the JSON of its row.
#[must_use]
pub fn n_row_bytes(id: &MediaId, entry: &MediaEntry) -> usize {
    let value = logged(std::slice::from_ref(entry), false);
    // A list of one image has names that one image has not.
    let n_bytes = value.map_or(0, |value| value.to_string().len());
    n_bytes + id.key.as_str().len() + 200
}

/// Adds an item for each leaf. Lists are leaves.
fn add_leaves<'a>(path: &mut Vec<&'a str>, value: &'a Value, items: &mut Vec<KeyedValue>) {
    let Value::Object(fields) = value else {
        return items.push(KeyedValue::nested(path, value));
    };
    for (name, value) in fields {
        path.push(name);
        add_leaves(path, value, items);
        path.pop();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use safelight_image::media::{
        Annotation, Description, FileType, Layers, MediaFile, Sha256, Source,
    };

    #[must_use]
    pub(crate) fn image(key: &str, step: u64, index: u32, caption: &str) -> (MediaId, MediaEntry) {
        let id = MediaId { key: MediaKey::new(key).expect("a key"), step: Step(step), index };
        let file = MediaFile {
            path: format!("media/images/{key}_{step}_{index}.png"),
            file_type: FileType::Png,
            mode: None,
            width: 4,
            height: 3,
            size: 70,
            sha256: Sha256::of(b""),
            downscaled_from: None,
        };
        let layer = Annotation {
            path: format!("media/images/mask/{key}_{step}_{index}.mask.png"),
            sha256: Sha256::of(b"m"),
            size: 9,
            class_labels: Some(json!({"1": "car"}).into()),
            source: None,
        };
        let layers = Layers { masks: [("gt".to_owned(), layer)].into(), ..Layers::default() };
        let description = Description {
            caption: (!caption.is_empty()).then(|| caption.into()),
            ..Description::default()
        };
        let entry =
            MediaEntry::image(id.clone(), file, None, layers, description, Source::default());
        (id, entry)
    }

    #[must_use]
    pub(crate) fn row(step: u64, images: &[(MediaId, MediaEntry)]) -> Row {
        Row::of(Step(step), images.iter().map(|(id, entry)| (id, entry, 1000.5)))
    }

    #[test]
    fn a_step_is_one_row_of_leaves() {
        let row = row(7, &[image("b/c", 7, 1, ""), image("b/c", 7, 0, "x"), image("a", 7, 0, "")]);
        let history = row.history(1000.0);
        let at = |path: &[&str]| {
            let found = history.item.iter().find(|item| item.nested_key == path);
            found.map(|item| item.value_json.as_str())
        };
        assert_eq!(history.step(), Some(7));
        assert_eq!((at(&["_step"]), at(&["_runtime"])), (Some("7"), Some("0.5")));
        assert_eq!(at(&["_timestamp"]), Some("1000.5"));
        assert_eq!(at(&["a", "_type"]), Some("\"image-file\""));
        assert_eq!(at(&["a", "masks", "gt", "size"]), Some("9"));
        assert_eq!(at(&["b/c", "_type"]), Some("\"images/separated\""));
        assert_eq!(at(&["b/c", "captions"]), Some("[\"x\",null]"));
        let files = at(&["b/c", "filenames"]).unwrap_or_default();
        assert!(files.starts_with("[\"media/images/b/c_7_0.png\""), "{files}");
        assert_eq!(row.file_list().files.len(), 6);
        assert_eq!(row.summary().len(), 2);
        let place = ("mask/class_labels".to_owned(), "b/c_wandb_delimeter_gt".to_owned());
        let item = label_item(&place, &row.labels[&place]);
        assert_eq!(item.nested_key, ["_wandb", &place.0, &place.1]);
        assert!(item.value_json.ends_with("\"value\":{\"1\":\"car\"}}"), "{}", item.value_json);
    }

    #[test]
    fn an_image_adds_no_more_than_is_reckoned() {
        let images = [image("k", 1, 0, "caption"), image("k", 1, 1, "another")];
        let whole: usize = images.iter().map(|(id, entry)| n_row_bytes(id, entry)).sum();
        let json: usize =
            row(1, &images).values.values().map(|value| value.to_string().len()).sum();
        assert!(json <= whole, "{json} {whole}");
    }
}
