//! The JSON that `wandb.log` records for images (`spec/image.md` D). Pure.

use serde_json::{Map, Value, json};

use crate::media::{MediaEntry, MediaFile};

/// The value that a tracker would log for images of one key and step: one `image-file`, or a list as
/// `images/separated`; `None` if no image is among the entries.
///
/// Paths are relative to the run's folder. Ours, against the library: a list keeps its captions even
/// if the first image has none. Boxes and masks are not part of it.
#[must_use]
pub fn logged(entries: &[MediaEntry], as_list: bool) -> Option<Value> {
    let images: Vec<(&MediaEntry, &MediaFile)> =
        entries.iter().filter_map(|entry| Some((entry, entry.file.as_ref()?))).collect();
    match *images.as_slice() {
        [] => None,
        [(entry, file)] if !as_list => Some(image_file(entry, file)),
        [(_, first), ..] => {
            let mut object = json!({
                "_type": "images/separated",
                "width": first.width,
                "height": first.height,
                "format": first.file_type.extension(),
                "count": images.len(),
                "filenames": images.iter().map(|(_, file)| &file.path).collect::<Vec<_>>(),
            });
            if let Some(captions) = all_captions(entries) {
                object["captions"] = captions;
            }
            Some(object)
        }
    }
}

/// One image: D.1. A `grouping` that Python takes for false is left out, as there.
fn image_file(entry: &MediaEntry, file: &MediaFile) -> Value {
    let mut object = Map::new();
    object.insert("_type".to_owned(), "image-file".into());
    object.insert("sha256".to_owned(), file.sha256.to_string().into());
    object.insert("size".to_owned(), file.size.into());
    object.insert("path".to_owned(), file.path.clone().into());
    object.insert("format".to_owned(), file.file_type.extension().into());
    object.insert("width".to_owned(), file.width.into());
    object.insert("height".to_owned(), file.height.into());
    let optional =
        [("caption", &entry.description.caption), ("grouping", &entry.description.grouping)];
    for (name, value) in optional {
        if let Some(value) = value.as_ref().filter(|value| name == "caption" || is_truthy(value)) {
            object.insert(name.to_owned(), value.clone());
        }
    }
    Value::Object(object)
}

/// The captions of the images, `null` where one has none; `None` if all have none.
#[must_use]
pub fn all_captions(entries: &[MediaEntry]) -> Option<Value> {
    let images = entries.iter().filter(|entry| entry.file.is_some());
    let captions: Vec<Value> =
        images.map(|entry| entry.description.caption.clone().unwrap_or_default()).collect();
    captions.iter().any(|caption| !caption.is_null()).then_some(Value::Array(captions))
}

/// Whether Python takes a value for true.
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
    use crate::media::{
        ColorMode, DataFormat, Description, FileType, Making, MediaId, MediaKey, Profile, Rule,
        Sha256, Source, Stats, Step,
    };

    fn entry(index: u32, caption: Value, grouping: Value) -> MediaEntry {
        let some = |value: Value| Some(value).filter(|value| !value.is_null());
        let file = MediaFile {
            path: format!("media/images/k_1_{index}.png"),
            file_type: FileType::Png,
            mode: ColorMode::L,
            width: 5,
            height: 4,
            size: 70,
            sha256: Sha256::of(b""),
            downscaled_from: None,
        };
        let making = Making {
            profile: Profile::Auto,
            rule: Rule::None,
            range: None,
            format: DataFormat::Hw,
            format_guessed: false,
            stats: Stats::default(),
        };
        let description = Description {
            caption: some(caption),
            grouping: some(grouping),
            ..Description::default()
        };
        let key = MediaKey::new("k").unwrap_or_else(|error| panic!("{error}"));
        MediaEntry::image(
            MediaId { key, step: Step(1), index },
            file,
            making,
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
}
