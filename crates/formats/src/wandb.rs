//! The JSON that wandb records for images: the value of a history row, the entry of an artifact, the
//! class labels in a run's config.
//!
//! The constants and class methods of `wandb.Image` are in [`safelight_image::wandb`]. `docs/wandb.md`
//! lists where Safelight differs from wandb, and why.
//!
//! Source: `docs/spec/image.md` C.6, C.7, D and G.

use std::io;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest, Md5};
use serde_json::{Map, Value, json};

use crate::python;
use safelight_image::media::{Class, CommittedImage, Json, MediaEntry, MediaKey};
use safelight_image::wandb::{ARTIFACT_TYPE, all_boxes, all_captions, all_masks};

/// Returns the value that `wandb.log` records for the images of one key and step. `None` if no entry is an
/// image.
///
/// One image is an `image-file`; several, or one with `as_list`, are `images/separated`. Paths are
/// relative to the run's folder.
#[must_use]
pub fn logged(entries: &[MediaEntry], as_list: bool) -> Option<Value> {
    let images: Vec<(&MediaEntry, &CommittedImage)> = images(entries).collect();
    match *images.as_slice() {
        [] => None,
        [(entry, image)] if !as_list => Some(image_file(entry, image)),
        [(_, first), ..] => {
            let mut object = json!({
                "_type": "images/separated",
                "width": first.file.width,
                "height": first.file.height,
                "format": first.file.file_type.extension(),
                "count": images.len(),
                "filenames": images.iter().map(|(_, image)| &image.file.path).collect::<Vec<_>>(),
            });
            let optional = [
                ("captions", all_captions(entries)),
                ("all_masks", all_masks(entries)),
                ("all_boxes", all_boxes(entries)),
            ];
            for (name, value) in optional {
                if let Some(value) = value {
                    object[name] = value;
                }
            }
            Some(object)
        }
    }
}

fn images(entries: &[MediaEntry]) -> impl Iterator<Item = (&MediaEntry, &CommittedImage)> {
    entries.iter().filter_map(|entry| Some((entry, entry.as_image()?)))
}

/// The JSON of one image: D.1.
fn image_file(entry: &MediaEntry, image: &CommittedImage) -> Value {
    let (file, one) = (&image.file, std::slice::from_ref(entry));
    let mut object = Map::new();
    object.insert("_type".to_owned(), ARTIFACT_TYPE.into());
    object.insert("sha256".to_owned(), file.sha256.to_string().into());
    object.insert("size".to_owned(), file.size.into());
    object.insert("path".to_owned(), file.path.clone().into());
    object.insert("format".to_owned(), file.file_type.extension().into());
    object.insert("width".to_owned(), file.width.into());
    object.insert("height".to_owned(), file.height.into());
    add_description(&mut object, entry);
    let sets = [("boxes", all_boxes(one)), ("masks", all_masks(one))];
    for (name, sets) in sets {
        if let Some(Value::Array(sets)) = sets {
            object.extend(sets.into_iter().map(|sets| (name.to_owned(), sets)));
        }
    }
    Value::Object(object)
}

/// Adds caption and grouping. wandb leaves out a grouping that is false in Python, such as 0.
fn add_description(object: &mut Map<String, Value>, entry: &MediaEntry) {
    let optional =
        [("caption", &entry.description.caption), ("grouping", &entry.description.grouping)];
    for (name, value) in optional {
        let value = value.as_ref().map(Json::to_value);
        if let Some(value) = value.filter(|value| name == "caption" || is_truthy(value)) {
            object.insert(name.to_owned(), value);
        }
    }
}

/// Returns the class labels of boxes and masks that logging these images under `key` adds to the run's
/// config. Empty if there are no labels.
///
/// If two images have a set of the same name, the labels of the later image count.
#[must_use]
pub fn class_labels_config(key: &MediaKey, entries: &[MediaEntry]) -> Map<String, Value> {
    let mut config = Map::new();
    for (_, image) in images(entries) {
        let kinds = [
            ("bounding_box/class_labels", &image.layers.boxes),
            ("mask/class_labels", &image.layers.masks),
        ];
        for (kind, sets) in kinds {
            for (name, set) in sets.iter().filter(|(_, set)| set.class_labels.is_some()) {
                // Spelled "delimeter" in wandb, too.
                let id = format!("{key}_wandb_delimeter_{name}");
                let labels = json!({"type": kind, "key": id, "value": set.class_labels});
                let of_kind = config.entry(kind).or_insert_with(|| Map::new().into());
                of_kind[id] = labels;
            }
        }
    }
    if config.is_empty() { config } else { Map::from_iter([("_wandb".to_owned(), config.into())]) }
}

/// An image in a W&B artifact: the file `NAME.image-file.json` and the files that it names.
#[derive(Debug, Clone, PartialEq)]
pub struct Artifact {
    /// The contents of the JSON file.
    pub value: Value,
    /// The other files: path within the artifact, and contents.
    pub files: Vec<(String, Vec<u8>)>,
}

impl Artifact {
    /// Returns the text of the JSON file, formatted as wandb formats it.
    #[must_use]
    pub fn text(&self) -> String {
        python::json(&self.value)
    }
}

/// Why an image has no artifact form.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// A media file could not be read.
    #[error("{path}: {source}")]
    Read {
        /// Relative to the run's folder.
        path: String,
        /// Why reading failed.
        source: io::Error,
    },
    /// wandb requires classes if there are boxes or masks.
    #[error("boxes or masks without any class: an artifact needs class labels")]
    NoClasses,
    /// A file of boxes was changed since it was written: it is no JSON object with `box_data`.
    #[error("{path}: not a file of boxes")]
    Boxes {
        /// Relative to the run's folder.
        path: String,
    },
}

/// Returns the artifact form of an image. `None` if `entry` is not an image.
///
/// `read` returns the contents of a media file; its argument is the path relative to the run's folder.
///
/// # Errors
/// If a file cannot be read, or there are boxes or masks but no classes.
pub fn artifact(
    entry: &MediaEntry,
    mut read: impl FnMut(&str) -> io::Result<Vec<u8>>,
) -> Result<Option<Artifact>, ArtifactError> {
    let Some(CommittedImage { file, provenance, layers, .. }) = entry.as_image() else {
        return Ok(None);
    };
    let mut read = |path: &str| {
        read(path).map_err(|source| ArtifactError::Read { path: path.to_owned(), source })
    };
    let mut files = Vec::new();
    let bytes = read(&file.path)?;
    let path = if provenance.is_some() {
        format!("media/images/{}.{}", short_md5(&bytes), file.file_type)
    } else {
        // A file that was kept unchanged keeps its name.
        let name = entry.source.path.rsplit('/').next().unwrap_or_default();
        format!("media/images/{}/{name}", &file.sha256.to_string()[..20])
    };
    let mut object = Map::new();
    object.insert("_type".to_owned(), ARTIFACT_TYPE.into());
    object.insert("path".to_owned(), path.clone().into());
    object.insert("sha256".to_owned(), file.sha256.to_string().into());
    object.insert("format".to_owned(), file.file_type.extension().into());
    object.insert("width".to_owned(), file.width.into());
    object.insert("height".to_owned(), file.height.into());
    files.push((path, bytes));
    add_description(&mut object, entry);

    if layers.classes.is_some() {
        let (path, text) = classes_file(&layers.class_list());
        let digest = BASE64_STANDARD.encode(Md5::digest(&text));
        let classes = json!({"type": "classes-file", "path": path, "digest": digest});
        object.insert("classes".to_owned(), classes);
        files.push((path, text.into_bytes()));
    } else if !(layers.boxes.is_empty() && layers.masks.is_empty()) {
        return Err(ArtifactError::NoClasses);
    }
    let mut boxes = Map::new();
    for (name, set) in &layers.boxes {
        let set_file: Option<Map<String, Value>> = serde_json::from_slice(&read(&set.path)?).ok();
        let box_data = set_file.and_then(|mut file| file.remove("box_data"));
        let box_data = box_data.ok_or_else(|| ArtifactError::Boxes { path: set.path.clone() })?;
        boxes.insert(name.clone(), box_data);
    }
    let mut masks = Map::new();
    for (name, mask) in &layers.masks {
        let bytes = read(&mask.path)?;
        let path = format!("media/images/mask/{}.mask.png", short_md5(&bytes));
        let value = json!({"_type": "mask", "path": path, "sha256": mask.sha256});
        masks.insert(name.clone(), value);
        files.push((path, bytes));
    }
    for (name, sets) in [("boxes", boxes), ("masks", masks)] {
        if !sets.is_empty() {
            object.insert(name.to_owned(), sets.into());
        }
    }
    Ok(Some(Artifact { value: Value::Object(object), files }))
}

/// The first 20 hex digits of the MD5 digest.
fn short_md5(bytes: &[u8]) -> String {
    hex(&Md5::digest(bytes)[..10])
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// Returns the path and the text of the file that lists an image's classes. The path contains the MD5 of
/// the list in the form that Python's `repr` gives it.
fn classes_file(classes: &[Class]) -> (String, String) {
    let list: Vec<Value> =
        classes.iter().map(|class| json!({"id": class.id, "name": class.name})).collect();
    let printed = python::repr(&Value::Array(list.clone()));
    let digest = hex(&Md5::digest(printed));
    let path = format!("media/classes/{digest}_cls.classes.json");
    (path, python::json(&json!({"_type": "classes", "class_set": list})))
}

/// Whether a value is true in Python.
fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safelight_image::media::{
        Annotation, ColorMode, DataFormat, Description, Fate, FileType, Layers, MediaFile, MediaId,
        Profile, Provenance, Rule, Sha256, Source, Stats, Step,
    };

    fn entry(index: u32, caption: Value, grouping: Value) -> MediaEntry {
        let some = |value: Value| Some(value).filter(|value| !value.is_null());
        let file = MediaFile {
            path: format!("media/images/k_1_{index}.png"),
            file_type: FileType::Png,
            mode: Some(ColorMode::L),
            width: 5,
            height: 4,
            size: 70,
            sha256: Sha256::of(b""),
            downscaled_from: None,
        };
        let provenance = Provenance {
            profile: Profile::Auto,
            rule: Rule::None,
            range: None,
            colormap: None,
            format: DataFormat::Hw,
            format_guessed: false,
            stats: Stats::default(),
        };
        let description = Description {
            caption: some(caption).map(Json::from),
            grouping: some(grouping).map(Json::from),
            ..Description::default()
        };
        let key = MediaKey::new("k").unwrap_or_else(|error| panic!("{error}"));
        MediaEntry::image(
            MediaId { key, step: Step(1), index },
            file,
            Some(provenance),
            Layers::default(),
            description,
            Source::default(),
        )
    }

    #[test]
    fn one_image_is_an_image_file() {
        let want = json!({
            "_type": "image-file", "sha256": Sha256::of(b"").to_string(), "size": 70,
            "path": "media/images/k_1_0.png", "format": "png", "width": 5, "height": 4, "caption": "", "grouping": 2,
        });
        assert_eq!(logged(&[entry(0, json!(""), json!(2))], false), Some(want));
        let zero = logged(&[entry(0, Value::Null, json!(0))], false).unwrap_or_default();
        assert_eq!((zero.get("caption"), zero.get("grouping")), (None, None));
        assert_eq!(logged(&[], false), None);
    }

    #[test]
    fn several_are_a_list_that_keeps_its_captions() {
        let list =
            logged(&[entry(0, Value::Null, Value::Null), entry(1, json!("b"), Value::Null)], false);
        let want = json!({
            "_type": "images/separated", "width": 5, "height": 4, "format": "png", "count": 2,
            "filenames": ["media/images/k_1_0.png", "media/images/k_1_1.png"], "captions": [null, "b"],
        });
        assert_eq!(list, Some(want));
    }

    fn annotation(path: &str, labels: &Value) -> Annotation {
        Annotation {
            path: path.to_owned(),
            sha256: Sha256::of(path.as_bytes()),
            size: 7,
            class_labels: Some(labels.clone().into()),
            source: None,
        }
    }

    fn layers(entry: &mut MediaEntry) -> &mut Layers {
        let Fate::Image(image) = &mut entry.fate else { panic!("not an image") };
        &mut image.layers
    }

    #[test]
    fn boxes_and_masks_are_named_by_their_files() {
        let mut with = entry(1, Value::Null, Value::Null);
        layers(&mut with)
            .boxes
            .insert("pred".to_owned(), annotation("b.json", &json!({"1": "car"})));
        layers(&mut with).masks.insert("gt".to_owned(), annotation("m.png", &json!({"0": "road"})));
        let boxes = json!({"pred": {"_type": "boxes2D", "sha256": Sha256::of(b"b.json"), "size": 7, "path": "b.json"}});
        let masks = json!({"gt": {"_type": "mask", "sha256": Sha256::of(b"m.png"), "size": 7, "path": "m.png"}});
        let one = logged(std::slice::from_ref(&with), false).unwrap_or_default();
        assert_eq!((&one["boxes"], &one["masks"]), (&boxes, &masks));
        let both = [entry(0, Value::Null, Value::Null), with];
        let list = logged(&both, false).unwrap_or_default();
        assert_eq!(
            (&list["all_boxes"], &list["all_masks"]),
            (&json!([null, boxes]), &json!([null, masks]))
        );
        let key = MediaKey::new("val/pred").unwrap_or_else(|error| panic!("{error}"));
        let want = json!({"_wandb": {
            "bounding_box/class_labels": {"val/pred_wandb_delimeter_pred":
                {"type": "bounding_box/class_labels", "key": "val/pred_wandb_delimeter_pred", "value": {"1": "car"}}},
            "mask/class_labels": {"val/pred_wandb_delimeter_gt":
                {"type": "mask/class_labels", "key": "val/pred_wandb_delimeter_gt", "value": {"0": "road"}}}}});
        assert_eq!(Value::Object(class_labels_config(&key, &both)), want);
        assert!(class_labels_config(&key, &both[..1]).is_empty());
    }

    #[test]
    fn the_artifact_form_is_that_of_the_specification() {
        let mut image = entry(0, json!("epoch 3"), json!(2));
        let class = |id: u64, name: &str| Class { id: id.into(), name: name.to_owned() };
        // The order of the example in G.
        layers(&mut image).classes = Some(
            json!([class(1, "car"), class(7, "bus"), class(0, "road"), class(200, "sky")]).into(),
        );
        layers(&mut image).boxes.insert("pred".to_owned(), annotation("b.json", &json!({})));
        layers(&mut image).masks.insert("gt".to_owned(), annotation("m.png", &json!({})));
        let read = |path: &str| {
            Ok(if path == "b.json" {
                br#"{"box_data":[{"class_id":1}]}"#.to_vec()
            } else {
                b"x".to_vec()
            })
        };
        let artifact =
            artifact(&image, read).ok().flatten().unwrap_or_else(|| panic!("no artifact"));
        let value = &artifact.value;
        let want = json!({
            "digest": "B5w4rkMQ+cCTCWqusFj89g==", "type": "classes-file",
            "path": "media/classes/89764f0c552caf1ccf99e51dbb14f309_cls.classes.json",
        });
        assert_eq!(value["classes"], want);
        assert_eq!(value["path"], "media/images/9dd4e461268c8034f5c8.png");
        assert_eq!(value["boxes"], json!({"pred": [{"class_id": 1}]}));
        assert_eq!(value["masks"]["gt"]["path"], "media/images/mask/9dd4e461268c8034f5c8.mask.png");
        assert!(value.get("size").is_none());
        assert!(artifact.text().starts_with(
            r#"{"_type": "image-file", "boxes": {"pred": [{"class_id": 1}]}, "caption": "#
        ));
        assert_eq!(artifact.files.len(), 3);
        let (path, _) = classes_file(&[class(0, "person")]);
        assert_eq!(path, "media/classes/65347c6442e21b09b198d62e080e46ce_cls.classes.json");
    }
}
