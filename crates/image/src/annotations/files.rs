//! Annotations in JSON files beside the dump, for those that are too large for a line.
//!
//! | in the line | what the file holds |
//! | --- | --- |
//! | `"classes": {"path": FILE}` | the list of classes |
//! | `"boxes": {"path": FILE}`, `"masks": {"path": FILE}` | the sets by name; for a batch, a list with those of each image |
//! | `"boxes": [{"path": FILE}, null, …]`, the same of `masks` | the sets of one image of a batch |
//! | `"boxes": {"gt": {"path": FILE, …}}` | one set: an object with `box_data`, or the list that is its `box_data` |
//!
//! A set of boxes or a mask that is itself named `path` is an object, never a text. An object of sets that
//! names a file has no other field. A single mask has no such form: its `path` is that of a mask file. What
//! a file holds names no further file.

use serde_json::{Map, Value};

use crate::media::{Description, shortened};

/// Longest warning about a file, in characters.
const WARNING_CHARS_MAX: usize = 300;

/// Most files of one record with a warning each. The rest share one.
const WARNINGS_MAX: usize = 8;

/// Returns the file that stands for all of a field, or for the sets of one image.
fn file_of_field(value: &Value) -> Option<&str> {
    let fields = value.as_object().filter(|fields| fields.len() == 1)?;
    fields.get("path")?.as_str()
}

/// Returns the file that stands for one set of boxes.
fn file_of_set(set: &Value) -> Option<&str> {
    let fields = set.as_object().filter(|fields| !fields.contains_key("box_data"))?;
    fields.get("path")?.as_str()
}

/// Whether the value of an annotation field names a file of annotations.
#[must_use]
pub fn names_file(field: &str, value: &Value) -> bool {
    let of_image = |value: &Value| {
        file_of_field(value).is_some()
            || field == "boxes"
                && value
                    .as_object()
                    .is_some_and(|sets| sets.values().any(|set| file_of_set(set).is_some()))
    };
    match value {
        Value::Array(images) if field != "classes" => images.iter().any(of_image),
        value => of_image(value),
    }
}

/// Replaces each file that the annotations name by what it holds, which `read` returns. What was given
/// before stays in [`Description::loaded`].
///
/// If `read` returns a problem instead, that annotation is dropped. Returns the warnings about these.
///
/// # Errors
/// The first error of `read`. The description is then unchanged.
pub fn load_files<E>(
    description: &mut Description,
    mut read: impl FnMut(&str) -> Result<Result<Value, String>, E>,
) -> Result<Vec<String>, E> {
    let (mut annotations, mut warnings) = (Map::new(), Vec::new());
    for (field, value) in &description.annotations {
        if !names_file(field, value) {
            continue;
        }
        let mut loader = Loader { read: &mut read, warnings: &mut warnings };
        let value = match value {
            Value::Array(images) if field != "classes" => {
                let images = images.iter().enumerate();
                let images = images.map(|(i, value)| {
                    let loaded = loader.image(field, value, &format!("{field}[{i}]"))?;
                    Ok(loaded.unwrap_or(Value::Null))
                });
                Some(Value::Array(images.collect::<Result<_, E>>()?))
            }
            value => loader.image(field, value, field)?,
        };
        annotations.insert(field.clone(), value.unwrap_or(Value::Null));
    }
    for (field, value) in annotations {
        let slot = description.annotations.get_mut(&field);
        let given = slot.map(|slot| std::mem::replace(slot, value));
        description.loaded.extend(given.map(|given| (field, given)));
    }
    description.annotations.retain(|_, value| !value.is_null());
    if warnings.len() > WARNINGS_MAX {
        let n = warnings.len() - WARNINGS_MAX;
        warnings.truncate(WARNINGS_MAX);
        warnings.push(format!("{n} more files of annotations are ignored"));
    }
    Ok(warnings)
}

struct Loader<'a, R> {
    read: &'a mut R,
    warnings: &'a mut Vec<String>,
}

impl<E, R: FnMut(&str) -> Result<Result<Value, String>, E>> Loader<'_, R> {
    /// Loads the field, or the sets of one image.
    fn image(&mut self, field: &str, value: &Value, place: &str) -> Result<Option<Value>, E> {
        if let Some(file) = file_of_field(value) {
            return self.file(file, place);
        }
        let Value::Object(sets) = value else { return Ok(Some(value.clone())) };
        let mut loaded = Map::new();
        for (name, set) in sets {
            let set = match file_of_set(set).filter(|_| field == "boxes") {
                Some(file) => self.set(file, set, &format!("{place}.{name}"))?,
                None => Some(set.clone()),
            };
            loaded.extend(set.map(|set| (name.clone(), set)));
        }
        Ok(Some(Value::Object(loaded)))
    }

    /// Loads one set of boxes. Fields that stand beside `path` win over those in the file.
    fn set(&mut self, file: &str, given: &Value, place: &str) -> Result<Option<Value>, E> {
        let mut set = match self.file(file, place)? {
            Some(Value::Array(boxes)) => Map::from_iter([("box_data".to_owned(), boxes.into())]),
            Some(Value::Object(set)) => set,
            Some(other) => {
                let got = shortened(other.to_string(), 64);
                self.warn(format!("{place}: {file:?} holds {got}, want an object with box_data"));
                return Ok(None);
            }
            None => return Ok(None),
        };
        let beside = given.as_object().into_iter().flatten().filter(|(name, _)| *name != "path");
        set.extend(beside.map(|(name, value)| (name.clone(), value.clone())));
        Ok(Some(Value::Object(set)))
    }

    fn file(&mut self, file: &str, place: &str) -> Result<Option<Value>, E> {
        let problem = match (self.read)(file)? {
            Ok(value) => return Ok(Some(value)),
            Err(problem) => problem,
        };
        self.warn(format!("{place}: {problem}"));
        Ok(None)
    }

    fn warn(&mut self, problem: String) {
        self.warnings.push(format!("{}; ignored", shortened(problem, WARNING_CHARS_MAX)));
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn described(annotations: &Value) -> Description {
        let annotations = annotations.as_object().cloned().unwrap_or_default();
        Description { annotations, ..Description::default() }
    }

    /// Loads from files whose names are their JSON.
    fn load(annotations: &Value) -> (Description, Vec<String>) {
        let mut description = described(annotations);
        let read = |file: &str| -> Result<_, Infallible> {
            Ok(serde_json::from_str(file).map_err(|_| format!("{file:?} is no JSON")))
        };
        let Ok(warnings) = load_files(&mut description, read);
        (description, warnings)
    }

    #[test]
    fn each_place_may_name_a_file() {
        let check = |given: Value, want: Value| {
            let (description, warnings) = load(&given);
            assert_eq!(Value::Object(description.annotations), want);
            assert_eq!(Value::Object(description.loaded), given);
            assert_eq!(warnings, [""; 0]);
        };
        let set = json!({"box_data": [1], "class_labels": {"1": "a"}});
        check(json!({"classes": {"path": "[1, 2]"}}), json!({"classes": [1, 2]}));
        check(json!({"boxes": {"path": r#"{"gt": 1}"#}}), json!({"boxes": {"gt": 1}}));
        check(json!({"boxes": {"path": "[null, {}]"}}), json!({"boxes": [null, {}]}));
        check(json!({"masks": {"path": "[null]"}}), json!({"masks": [null]}));
        check(json!({"boxes": [null, {"path": "{}"}]}), json!({"boxes": [null, {}]}));
        check(json!({"boxes": {"gt": {"path": set.to_string()}}}), json!({"boxes": {"gt": set}}));
        check(
            json!({"boxes": [{"a": {"path": "[1]", "class_labels": {"1": "a"}}, "b": 7}]}),
            json!({"boxes": [{"a": set, "b": 7}]}),
        );
    }

    #[test]
    fn sets_and_mask_files_are_no_files_of_annotations() {
        for given in [
            json!({"boxes": {"path": {"box_data": []}}}),
            json!({"boxes": {"gt": {"box_data": [], "path": "kept"}}}),
            json!({"masks": {"gt": {"path": "m.png"}, "path": {"mask_data": "m.npy"}}}),
            json!({"masks": [{"gt": {"path": "m.png"}}, null]}),
            json!({"classes": [{"path": "x"}], "boxes": "none"}),
        ] {
            let (description, warnings) = load(&given);
            assert_eq!(Value::Object(description.annotations), given);
            assert!(description.loaded.is_empty() && warnings.is_empty(), "{given}");
        }
    }

    #[test]
    fn a_bad_file_costs_its_annotation() {
        let given = json!({"classes": {"path": "x"}, "boxes": {"a": {"path": "y"}, "b": 1, "c": {"path": "7"}}});
        let (description, warnings) = load(&given);
        assert_eq!(Value::Object(description.annotations), json!({"boxes": {"b": 1}}));
        let want = [
            r#"classes: "x" is no JSON; ignored"#,
            r#"boxes.a: "y" is no JSON; ignored"#,
            r#"boxes.c: "7" holds 7, want an object with box_data; ignored"#,
        ];
        assert_eq!(warnings, want);
        let (_, warnings) = load(&json!({"boxes": vec![json!({"path": "x"}); 20]}));
        assert_eq!(warnings.len(), WARNINGS_MAX + 1, "{warnings:?}");
    }

    proptest! {
        #[test]
        fn a_file_gives_what_its_text_in_the_line_would(
            boxes in proptest::collection::vec(proptest::option::of(0u8..9), 1..4),
            how in 0u8..3,
        ) {
            let sets: Vec<Value> = boxes.iter().map(|n| n.map_or(Value::Null, |n| json!({"gt": {"box_data": vec![1; n.into()]}}))).collect();
            let file = |value: &Value| json!({"path": value.to_string()});
            let beside = match how {
                0 => file(&json!(sets)),
                1 => sets.iter().map(file).collect(),
                _ => sets.iter().map(|sets| {
                    sets.get("gt").map_or(Value::Null, |set| json!({"gt": file(set)}))
                }).collect(),
            };
            let (description, warnings) = load(&json!({"boxes": beside}));
            prop_assert_eq!(Value::Object(description.annotations), json!({"boxes": sets}));
            prop_assert!(warnings.is_empty());
        }
    }
}
