//! Classes, boxes and masks of an image: the arguments of `wandb.Image` with these names.
//!
//! An error names the field, the index, what was got and what was wanted. A number that is whole counts as
//! a whole number, whether it is written `1` or `1.0`. Odd values, such as a box beyond the picture, are
//! kept with a warning.
//!
//! Source: `docs/spec/image.md` C; wandb `sdk/data_types/helper_types/`.

mod boxes;
mod classes;
mod masks;
mod field_path;
mod files;

use serde_json::{Map, Value};

pub use self::boxes::BoxSet;
pub use self::classes::{class_set, generated_labels};
pub use self::field_path::AnnotationError;
use self::field_path::FieldPath;
pub use self::files::{load_files, names_file};
pub use self::masks::{MaskData, MaskSpec, mask_dumps};
use crate::media::Class;

/// Most sets of boxes, and most masks, of one image.
const SETS_MAX: usize = 64;

/// The classes, boxes and masks of one image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImageAnnotations {
    /// The explicit `classes`.
    pub classes: Vec<Class>,
    /// Sets of boxes, in the order given.
    pub boxes: Vec<BoxSet>,
    /// Masks, in the order given.
    pub masks: Vec<MaskSpec>,
    /// Warnings about odd values.
    pub warnings: Vec<String>,
}

impl ImageAnnotations {
    /// Whether there are no classes, boxes, masks and warnings.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Parses the `classes`, `boxes` and `masks` given with one image of `width` × `height` pixels.
///
/// # Errors
/// At the first invalid field.
pub fn read(
    given: &Map<String, Value>,
    width: u64,
    height: u64,
) -> Result<ImageAnnotations, AnnotationError> {
    let mut annotations = ImageAnnotations::default();
    let place = FieldPath::root();
    if let Some(value) = given.get("classes") {
        annotations.classes = classes::read(value, &place.field("classes"))?;
    }
    if let Some(value) = given.get("boxes") {
        let place = place.field("boxes");
        for (name, set) in sets(value, &place)? {
            let place = place.field(name);
            let warnings = &mut annotations.warnings;
            annotations.boxes.push(boxes::read(name, set, &place, (width, height), warnings)?);
        }
    }
    if let Some(value) = given.get("masks") {
        let place = place.field("masks");
        for (name, set) in sets(value, &place)? {
            annotations.masks.push(masks::read(name, set, &place.field(name))?);
        }
    }
    Ok(annotations)
}

/// Returns the sets of a field by name. `null` means no sets.
fn sets<'a>(
    value: &'a Value,
    place: &FieldPath<'_>,
) -> Result<impl Iterator<Item = (&'a String, &'a Value)> + use<'a>, AnnotationError> {
    let sets = match value {
        Value::Null => None,
        Value::Object(sets) if sets.len() > SETS_MAX => {
            return Err(place.over(&format!("{} sets", sets.len()), &SETS_MAX.to_string()));
        }
        Value::Object(sets) => Some(sets),
        other => return Err(place.error(other, "an object of sets by name")),
    };
    Ok(sets.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_json(given: &Value) -> Result<ImageAnnotations, String> {
        let given = given.as_object().cloned().unwrap_or_default();
        read(&given, 100, 50).map_err(|error| error.to_string())
    }

    /// The position of the fourth box is replaced.
    fn check_box(field: &str, value: &Value, want: &str) {
        let good = json!({"position": {"minX": 0.1, "maxX": 0.5, "minY": 0.2, "maxY": 0.75}, "class_id": 1});
        let mut bad = good.clone();
        *bad.pointer_mut(&format!("/{}", field.replace('.', "/"))).expect("a field") =
            value.clone();
        let given = json!({"boxes": {"pred": {"box_data": [good, good, good, bad]}}});
        let got = read_json(&given).map_or_else(|error| error, |read| format!("{read:?}"));
        assert_eq!(got, format!("boxes.pred.box_data[3].{want}"));
    }

    #[test]
    fn errors_name_the_field_and_index() {
        check_box("position.minX", &json!("a"), "position.minX: got \"a\", want a number");
        check_box(
            "position.minX",
            &json!("NaN"),
            "position.minX: got \"NaN\", want a finite number",
        );
        check_box(
            "position",
            &json!([1]),
            "position: got [1], want an object with minX, maxX, minY and maxY, or middle, width and height",
        );
        check_box("class_id", &json!(1.5), "class_id: got 1.5, want a whole number");
        check_box("class_id", &json!("1"), "class_id: got \"1\", want a whole number");
        let check = |given: Value, want: &str| {
            let got = read_json(&given).map_or_else(|error| error, |read| format!("{read:?}"));
            assert_eq!(got, want);
        };
        check(json!({"boxes": []}), "boxes: got [], want an object of sets by name");
        check(json!({"boxes": {"p": {}}}), "boxes.p.box_data: missing, want a list of boxes");
        check(
            json!({"boxes": {"p": {"box_data": [{"class_id": 1}]}}}),
            "boxes.p.box_data[0].position: missing, want an object with minX, maxX, minY and maxY, or middle, width and height",
        );
        check(
            json!({"boxes": {"p": {"box_data": [], "class_labels": {"a": "b"}}}}),
            "boxes.p.class_labels: got key \"a\", want a whole number",
        );
        check(
            json!({"boxes": {"p": {"box_data": [], "class_labels": {"1": 2}}}}),
            "boxes.p.class_labels.1: got 2, want text",
        );
        check(
            json!({"boxes": {"p": {"box_data": [{"position": {"middle": [1, 2], "width": 1, "height": 1}}]}}}),
            "boxes.p.box_data[0].class_id: missing, want a whole number, or class_labels beside box_data",
        );
        check(
            json!({"boxes": {"p": {"box_data": [{"position": {"middle": [1], "width": 1, "height": 1}, "class_id": 1}]}}}),
            "boxes.p.box_data[0].position.middle: got [1], want two numbers",
        );
        check(
            json!({"boxes": {"p": {"box_data": [{"position": {"middle": [1, 2], "width": 1, "height": 1}, "class_id": 1,
                "scores": {"conf": "high"}}]}}}),
            "boxes.p.box_data[0].scores.conf: got \"high\", want a number",
        );
        check(json!({"classes": [{"id": 1}]}), "classes[0].name: missing, want text");
        check(
            json!({"classes": {"1": "a"}}),
            "classes: got {\"1\":\"a\"}, want a list of {\"id\": …, \"name\": …}",
        );
        check(
            json!({"masks": {"gt": {}}}),
            "masks.gt: got {}, want mask_data (a dump) or path (a mask file)",
        );
        check(
            json!({"masks": {"gt": {"mask_data": 7}}}),
            "masks.gt.mask_data: invalid type: integer `7`, expected the path of a dump, or an object with it",
        );
    }

    #[test]
    fn whole_numbers_of_any_kind_are_coerced_and_files_written_as_given() {
        let given = json!({"boxes": {"pred": {
            "box_data": [
                {"position": {"minX": 0.1, "maxX": 0.5, "minY": 0.2, "maxY": 0.75}, "class_id": 1.0,
                 "box_caption": "café", "scores": {"conf": 0.91}, "mine": [1]},
                {"position": {"middle": [4, 3], "width": 2, "height": 2}, "domain": "pixel", "class_id": 7},
            ],
            "class_labels": {"1": "car"}}}});
        let read = read_json(&given).unwrap_or_else(|error| panic!("{error}"));
        let want = concat!(
            r#"{"box_data":[{"position":{"minX":0.1,"maxX":0.5,"minY":0.2,"maxY":0.75},"class_id":1,"#,
            r#""box_caption":"café","scores":{"conf":0.91},"mine":[1]},"#,
            r#"{"position":{"middle":[4,3],"width":2,"height":2},"domain":"pixel","class_id":7}],"#,
            r#""class_labels":{"1":"car"}}"#,
        );
        assert_eq!(String::from_utf8_lossy(&read.boxes[0].file), want);
        assert_eq!(Value::Object(read.boxes[0].class_labels.clone()), json!({"1": "car"}));
        assert!(read.warnings.is_empty(), "{:?}", read.warnings);
    }

    #[test]
    fn labels_are_generated_where_none_are_given() {
        let one = |class_id: i64| json!({"position": {"minX": 0, "maxX": 1, "minY": 0, "maxY": 1}, "class_id": class_id});
        let given = json!({"boxes": {"p": {"box_data": [one(7), one(-2), one(7)]}}});
        let read = read_json(&given).unwrap_or_else(|error| panic!("{error}"));
        let labels = Value::Object(read.boxes[0].class_labels.clone());
        assert_eq!(labels.to_string(), r#"{"-2":"class_-2","7":"class_7"}"#);
        assert!(!String::from_utf8_lossy(&read.boxes[0].file).contains("class_labels"));
    }

    #[test]
    fn odd_boxes_are_kept_and_warned_about() {
        let given = json!({"boxes": {"p": {"box_data": [
            {"position": {"minX": 0.5, "maxX": 0.1, "minY": 0.2, "maxY": 0.75}, "class_id": 1},
            {"position": {"minX": 0.5, "maxX": 12, "minY": 0.2, "maxY": 0.75}, "class_id": 1},
            {"position": {"minX": 0.5, "maxX": 12, "minY": 0, "maxY": 51}, "class_id": 1, "domain": "pixel"},
            {"position": {"middle": [0.5, 0.5], "width": -1, "height": 0.1}, "class_id": 1},
        ]}}});
        let read = read_json(&given).unwrap_or_else(|error| panic!("{error}"));
        let want = [
            "boxes.p.box_data[0]: minX 0.5 is greater than maxX 0.1",
            "boxes.p.box_data[1]: reaches beyond the picture (fractions 0 to 1; domain \"pixel\" would mean pixels)",
            "boxes.p.box_data[2]: reaches beyond the picture of 100 × 50 pixels",
            "boxes.p.box_data[3]: width -1 is negative",
        ];
        assert_eq!(read.warnings, want);
    }

    #[test]
    fn masks_name_their_dumps() {
        let given = json!({"masks": {
            "gt": {"mask_data": "tensors/gt.npy", "class_labels": {"0": "road"}},
            "pred": {"mask_data": {"path": "m.npz", "tensor": "a"}, "one_hot": true},
            "file": {"path": "m.png"},
        }});
        let read = read_json(&given).unwrap_or_else(|error| panic!("{error}"));
        let told: Vec<_> = read
            .masks
            .iter()
            .map(|mask| (mask.name.as_str(), mask.data.data().path.as_str(), mask.is_one_hot()))
            .collect();
        let want =
            [("gt", "tensors/gt.npy", false), ("pred", "m.npz", true), ("file", "m.png", false)];
        assert_eq!(told, want);
    }
}
