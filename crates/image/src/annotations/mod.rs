//! Classes, boxes and masks of an image: the arguments of `wandb.Image` with these names.
//!
//! A value that is invalid never costs the picture. It is repaired if its meaning is plain (a number
//! written as text), else dropped by itself: the score, the box, the label, the mask. A warning names the
//! field, the index, what was got, what was wanted, and what was done. A number that is whole counts as a
//! whole number, whether it is written `1` or `1.0`. Odd values, such as a box beyond the picture, are kept
//! with a warning. What W&B accepts is kept as it is.
//!
//! Source: `docs/spec/image.md` C; wandb `sdk/data_types/helper_types/`.

mod boxes;
mod classes;
mod masks;
mod field_path;
mod repairs;
mod files;

pub(crate) use self::boxes::BOXES_MAX;
pub use self::boxes::BoxSet;
pub(crate) use self::classes::CLASSES_MAX;
pub use self::classes::{class_set, generated_labels};
pub use self::field_path::AnnotationError;
use self::field_path::FieldPath;
pub use self::files::{load_files, names_file};
pub use self::masks::{MaskData, MaskSpec, mask_dumps};
use self::repairs::Repairs;
use crate::media::{Json, JsonFields};

/// Most sets of boxes, and most masks, of one image.
pub(crate) const SETS_MAX: usize = 64;

/// The classes, boxes and masks of one image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImageAnnotations {
    /// The explicit `classes`, a list of [`Class`](crate::media::Class). `None` if there are none.
    pub classes: Option<Json>,
    /// Sets of boxes, in the order given.
    pub boxes: Vec<BoxSet>,
    /// Masks, in the order given.
    pub masks: Vec<MaskSpec>,
    /// Warnings about values that are odd, repaired or dropped: the first ten in words, the others counted.
    pub warnings: Vec<String>,
}

impl ImageAnnotations {
    /// Whether there are no classes, boxes, masks and warnings.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Reads the `classes`, `boxes` and `masks` given with one image of `width` × `height` pixels.
///
/// Drops what is invalid, each value by itself, with a warning.
#[must_use]
pub fn read(given: &JsonFields, width: u64, height: u64) -> ImageAnnotations {
    let mut repairs = Repairs::default();
    let read = read_with(given, (width, height), &mut repairs);
    ImageAnnotations { warnings: repairs.into_warnings(), ..read }
}

/// Checks the `classes`, `boxes` and `masks` given with one image.
///
/// # Errors
/// The first invalid value. Odd values are valid.
pub fn check(given: &JsonFields) -> Result<(), AnnotationError> {
    let mut repairs = Repairs::default();
    read_with(given, (1, 1), &mut repairs);
    repairs.first().map_or(Ok(()), Err)
}

fn read_with(given: &JsonFields, picture: (u64, u64), repairs: &mut Repairs) -> ImageAnnotations {
    let mut annotations = ImageAnnotations::default();
    let place = FieldPath::root();
    if let Some(value) = given.get("classes") {
        annotations.classes = classes::read(value, &place.field("classes"), repairs);
    }
    if let Some(value) = given.get("boxes") {
        let place = place.field("boxes");
        for (name, set) in sets(value, &place, repairs) {
            match boxes::read(&name, &set, &place.field(&name), picture, repairs) {
                Ok(set) => annotations.boxes.push(set),
                Err(error) => repairs.done(error, "set dropped"),
            }
        }
    }
    if let Some(value) = given.get("masks") {
        let place = place.field("masks");
        for (name, set) in sets(value, &place, repairs) {
            match masks::read(&name, &set, &place.field(&name), repairs) {
                Ok(mask) => annotations.masks.push(mask),
                Err(error) => repairs.done(error, "mask dropped"),
            }
        }
    }
    annotations
}

/// Returns the sets of a field by name. `null` means no sets.
fn sets(
    value: &Json,
    place: &FieldPath<'_>,
    repairs: &mut Repairs,
) -> impl Iterator<Item = (String, Json)> + use<> {
    let sets = value.fields();
    match &sets {
        None if value.is_null() => {}
        None => {
            let error = place.error_at(value.text(), "an object of sets by name");
            repairs.done(error, "dropped");
        }
        Some(sets) if sets.len() > SETS_MAX => {
            let error = place.over(&format!("{} sets", sets.len()), &SETS_MAX.to_string());
            repairs.done(error, "the rest dropped");
        }
        Some(_) => {}
    }
    sets.into_iter().flatten().take(SETS_MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;

    fn fields(given: &Value) -> JsonFields {
        Json::from(given).fields().unwrap_or_default()
    }

    fn read_json(given: &Value) -> ImageAnnotations {
        read(&fields(given), 100, 50)
    }

    fn a_box() -> Value {
        json!({"position": {"minX": 0.1, "maxX": 0.5, "minY": 0.2, "maxY": 0.75}, "class_id": 1})
    }

    /// The boxes that were written to the file of the first set.
    fn boxes_of(read: &ImageAnnotations) -> Vec<Value> {
        let file: Value = serde_json::from_slice(&read.boxes[0].file).expect("a file");
        file["box_data"].as_array().cloned().expect("boxes")
    }

    /// A field of the fourth of five boxes is replaced. Returns that box, if it is kept.
    fn check_box(field: &str, value: &Value, want: &str) -> Option<Value> {
        let good = a_box();
        let mut bad = good.clone();
        *bad.pointer_mut(&format!("/{}", field.replace('.', "/"))).expect("a field") =
            value.clone();
        let given = json!({"boxes": {"pred": {"box_data": [good, good, good, bad, good]}}});
        let read = read_json(&given);
        assert_eq!(read.warnings, [format!("boxes.pred.box_data[3].{want}")]);
        let mut boxes = boxes_of(&read);
        let changed = (boxes.len() == 5).then(|| boxes.remove(3));
        assert_eq!(boxes, vec![good; 4], "the other boxes stay");
        changed
    }

    #[test]
    fn a_bad_box_is_dropped_by_itself() {
        let check = |field: &str, value: Value, want: &str| {
            assert_eq!(check_box(field, &value, want), None);
        };
        check("position.minX", json!("a"), "position.minX: got \"a\", want a number; box dropped");
        check(
            "position.minX",
            json!("NaN"),
            "position.minX: got \"NaN\", want a finite number; box dropped",
        );
        check(
            "position",
            json!([1]),
            "position: got [1], want an object with minX, maxX, minY and maxY, or middle, width and height; box dropped",
        );
    }

    #[test]
    fn a_bad_class_or_number_of_a_box_is_repaired_or_dropped() {
        let check = |field: &str, value: Value, want: &str, changed: Value| {
            assert_eq!(check_box(field, &value, want), Some(changed), "{field}");
        };
        let mut without_class = a_box();
        without_class.as_object_mut().expect("a box").remove("class_id");
        let what = "class_id: got 1.5, want a whole number; box kept without a class";
        check("class_id", json!(1.5), what, without_class);
        check(
            "class_id",
            json!("1"),
            "class_id: got \"1\", want a whole number; taken as 1",
            a_box(),
        );
        let what = "position.minX: got \"0.1\", want a number; taken as 0.1";
        check("position.minX", json!("0.1"), what, a_box());

        let with = |name: &str, value: Value| {
            let mut given = a_box();
            given[name] = value;
            let read = read_json(&json!({"boxes": {"p": {"box_data": [given]}}}));
            (boxes_of(&read).remove(0), read.warnings)
        };
        let scores = json!({"conf": "high", "iou": 0.5, "text": "0.25", "nan": "NaN"});
        let (got, warnings) = with("scores", scores);
        assert_eq!(got["scores"], json!({"iou": 0.5, "text": 0.25}));
        let place = "boxes.p.box_data[0].scores";
        let want = [
            format!("{place}.conf: got \"high\", want a number; score dropped"),
            format!("{place}.text: got \"0.25\", want a number; taken as 0.25"),
            format!("{place}.nan: got \"NaN\", want a finite number; score dropped"),
        ];
        assert_eq!(warnings, want);
        let (got, warnings) = with("scores", json!(0.9));
        assert_eq!((got, warnings.len()), (a_box(), 1));
        let (got, warnings) = with("box_caption", json!(7));
        assert_eq!((&got["box_caption"], warnings.len()), (&json!("7"), 1));
        let (got, warnings) = with("box_caption", json!(["a"]));
        assert_eq!((got, warnings.len()), (a_box(), 1));
    }

    #[test]
    fn other_invalid_annotations_are_dropped_with_a_warning() {
        let check = |given: Value, want: &str| {
            let read = read_json(&given);
            assert_eq!(read.warnings, [want], "{given}");
            let first =
                super::check(&fields(&given)).map_err(|error| error.to_string()).expect_err(want);
            assert!(want.starts_with(&first), "{first}");
        };
        check(json!({"boxes": []}), "boxes: got [], want an object of sets by name; dropped");
        check(
            json!({"boxes": {"p": {}}}),
            "boxes.p.box_data: missing, want a list of boxes; set dropped",
        );
        check(
            json!({"boxes": {"p": {"box_data": [{"class_id": 1}]}}}),
            "boxes.p.box_data[0].position: missing, want an object with minX, maxX, minY and maxY, or middle, width and height; box dropped",
        );
        check(
            json!({"boxes": {"p": {"box_data": [], "class_labels": {"a": "b"}}}}),
            "boxes.p.class_labels: got key \"a\", want a whole number; label dropped",
        );
        check(
            json!({"boxes": {"p": {"box_data": [], "class_labels": {"1": 2}}}}),
            "boxes.p.class_labels.1: got 2, want text; taken as \"2\"",
        );
        check(
            json!({"boxes": {"p": {"box_data": [{"position": {"middle": [0.5, 0.5], "width": 1, "height": 1}}]}}}),
            "boxes.p.box_data[0].class_id: missing, want a whole number, or class_labels beside box_data; box kept without a class",
        );
        check(
            json!({"boxes": {"p": {"box_data": [{"position": {"middle": [1], "width": 1, "height": 1}, "class_id": 1}]}}}),
            "boxes.p.box_data[0].position.middle: got [1], want two numbers; box dropped",
        );
        check(
            json!({"classes": [{"id": 1}]}),
            "classes[0].name: missing, want text; class dropped",
        );
        check(
            json!({"classes": {"1": "a"}}),
            "classes: got {\"1\":\"a\"}, want a list of {\"id\": …, \"name\": …}; dropped",
        );
        check(
            json!({"masks": {"gt": {}}}),
            "masks.gt: got {}, want mask_data (a dump) or path (a mask file); mask dropped",
        );
        check(
            json!({"masks": {"gt": {"mask_data": 7}}}),
            "masks.gt.mask_data: invalid type: integer `7`, expected the path of a dump, or an object with it; mask dropped",
        );
    }

    #[test]
    fn warnings_are_few_and_count_the_rest() {
        let bad = json!({"class_id": 1});
        let given = json!({"boxes": {"p": {"box_data": vec![bad; 1000]}}});
        let warnings = read_json(&given).warnings;
        assert_eq!(warnings.len(), 11);
        assert_eq!(warnings[10], "and 990 more warnings about annotations");
        let name = "n".repeat(1 << 16);
        let warnings = read_json(&json!({"boxes": {name: 1}})).warnings;
        assert!(warnings[0].chars().count() <= 301, "{}", warnings[0].len());
        let sets: Map<String, Value> =
            (0..100).map(|i| (i.to_string(), json!({"box_data": []}))).collect();
        let read = read_json(&json!({"boxes": sets}));
        let want = ["boxes: got 100 sets, want at most 64; the rest dropped"];
        assert_eq!(
            (read.boxes.len(), read.warnings.as_slice()),
            (64, &want.map(str::to_owned)[..])
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
        let read = read_json(&given);
        let want = concat!(
            r#"{"box_data":[{"position":{"minX":0.1,"maxX":0.5,"minY":0.2,"maxY":0.75},"class_id":1,"#,
            r#""box_caption":"café","scores":{"conf":0.91},"mine":[1]},"#,
            r#"{"position":{"middle":[4,3],"width":2,"height":2},"domain":"pixel","class_id":7}],"#,
            r#""class_labels":{"1":"car"}}"#,
        );
        assert_eq!(String::from_utf8_lossy(&read.boxes[0].file), want);
        assert_eq!(read.boxes[0].class_labels, Some(json!({"1": "car"}).into()));
        assert!(read.warnings.is_empty(), "{:?}", read.warnings);
    }

    #[test]
    fn labels_are_generated_where_none_are_given() {
        let one = |class_id: i64| json!({"position": {"minX": 0, "maxX": 1, "minY": 0, "maxY": 1}, "class_id": class_id});
        let given = json!({"boxes": {"p": {"box_data": [one(7), one(-2), one(7)]}}});
        let read = read_json(&given);
        let labels = read.boxes[0].class_labels.as_ref().map(Json::text);
        assert_eq!(labels, Some(r#"{"-2":"class_-2","7":"class_7"}"#));
        assert!(!String::from_utf8_lossy(&read.boxes[0].file).contains("class_labels"));
    }

    #[test]
    fn an_entry_that_is_too_long_is_dropped_by_itself() {
        let long = json!(vec![json!([]); 40_000]);
        let mut big = a_box();
        big["mine"] = long.clone();
        let labels = json!({"1": "a", "2": long});
        let mask = json!({"mask_data": "m.npy", "one_hot": long});
        let read = read_json(
            &json!({"boxes": {"p": {"box_data": [a_box(), big], "class_labels": labels}},
            "masks": {"m": mask}, "classes": [{"id": 1, "name": "a"}, long]}),
        );
        let want = [
            "classes[1]: got 120001 bytes, want at most 65536; class dropped",
            "boxes.p.class_labels.2: got 120001 bytes, want at most 65536; label dropped",
            "boxes.p.box_data[1]: got 120081 bytes, want at most 65536; box dropped",
            "masks.m.one_hot: got 120001 bytes, want at most 65536; mask dropped",
        ];
        assert_eq!(read.warnings, want);
        assert_eq!(boxes_of(&read), [a_box()]);
    }

    #[test]
    fn odd_boxes_are_kept_and_warned_about() {
        let given = json!({"boxes": {"p": {"box_data": [
            {"position": {"minX": 0.5, "maxX": 0.1, "minY": 0.2, "maxY": 0.75}, "class_id": 1},
            {"position": {"minX": 0.5, "maxX": 12, "minY": 0.2, "maxY": 0.75}, "class_id": 1},
            {"position": {"minX": 0.5, "maxX": 12, "minY": 0, "maxY": 51}, "class_id": 1, "domain": "pixel"},
            {"position": {"middle": [0.5, 0.5], "width": -1, "height": 0.1}, "class_id": 1},
        ]}}});
        let read = read_json(&given);
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
        let read = read_json(&given);
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
