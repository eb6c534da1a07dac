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

use crate::media::{Description, Json, JsonFields, shortened};

/// Longest warning about a file, in characters.
const WARNING_CHARS_MAX: usize = 300;

/// Most files of one record with a warning each. The rest share one.
const WARNINGS_MAX: usize = 8;

/// Returns the file that stands for all of a field, or for the sets of one image.
fn file_of_field(fields: &JsonFields) -> Option<String> {
    if fields.len() == 1 { fields.get("path")?.to_text() } else { None }
}

/// Returns the file that stands for one set of boxes.
fn file_of_set(set: &JsonFields) -> Option<String> {
    if set.get("box_data").is_none() { set.get("path")?.to_text() } else { None }
}

/// Whether the value of an annotation field names a file of annotations.
#[must_use]
pub fn names_file(field: &str, value: &Json) -> bool {
    // Most values have no field `path` at all.
    if !value.text().contains("\"path\"") {
        return false;
    }
    let of_set = |set: Json| set.fields().is_some_and(|set| file_of_set(&set).is_some());
    let of_image = |value: &Json| {
        let Some(fields) = value.fields() else { return false };
        file_of_field(&fields).is_some()
            || field == "boxes" && fields.into_iter().any(|(_, set)| of_set(set))
    };
    match value.entries() {
        Some(images) if field != "classes" => images.iter().any(of_image),
        _ => of_image(value),
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
    mut read: impl FnMut(&str) -> Result<Result<Json, String>, E>,
) -> Result<Vec<String>, E> {
    let (mut annotations, mut warnings) = (Vec::new(), Vec::new());
    for (field, value) in description.annotations.iter() {
        if !names_file(field, value) {
            continue;
        }
        let mut loader = Loader { read: &mut read, warnings: &mut warnings };
        let loaded = match value.entries() {
            Some(images) if field != "classes" => {
                let images = images.into_iter().enumerate();
                let images = images.map(|(i, value)| {
                    let loaded = loader.image(field, value, &format!("{field}[{i}]"))?;
                    Ok(loaded.unwrap_or_else(null))
                });
                Some(images.collect::<Result<Json, E>>()?)
            }
            _ => loader.image(field, value.clone(), field)?,
        };
        annotations.push((field.to_owned(), value.clone(), loaded.unwrap_or_else(null)));
    }
    for (field, given, value) in annotations {
        description.annotations.insert(&field, value);
        description.loaded.insert(&field, given);
    }
    description.annotations.retain(|_, value| !value.is_null());
    if warnings.len() > WARNINGS_MAX {
        let n = warnings.len() - WARNINGS_MAX;
        warnings.truncate(WARNINGS_MAX);
        warnings.push(format!("{n} more files of annotations are ignored"));
    }
    Ok(warnings)
}

fn null() -> Json {
    serde_json::Value::Null.into()
}

struct Loader<'a, R> {
    read: &'a mut R,
    warnings: &'a mut Vec<String>,
}

impl<E, R: FnMut(&str) -> Result<Result<Json, String>, E>> Loader<'_, R> {
    /// Loads the field, or the sets of one image.
    fn image(&mut self, field: &str, value: Json, place: &str) -> Result<Option<Json>, E> {
        let Some(sets) = value.fields() else { return Ok(Some(value)) };
        if let Some(file) = file_of_field(&sets) {
            return self.file(&file, place);
        }
        let mut loaded = JsonFields::default();
        for (name, set) in sets {
            let fields = set.fields().filter(|_| field == "boxes").unwrap_or_default();
            let set = match file_of_set(&fields) {
                Some(file) => self.set(&file, fields, &format!("{place}.{name}"))?,
                None => Some(set),
            };
            if let Some(set) = set {
                loaded.push(name, set);
            }
        }
        Ok(Some(loaded.to_json()))
    }

    /// Loads one set of boxes. Fields that stand beside `path` win over those in the file.
    fn set(&mut self, file: &str, given: JsonFields, place: &str) -> Result<Option<Json>, E> {
        let Some(held) = self.file(file, place)? else { return Ok(None) };
        let mut set = match held.fields() {
            Some(set) => set,
            None if held.is_list() => JsonFields::from_iter([("box_data".to_owned(), held)]),
            None => {
                let got = shortened(held.text().chars().take(65).collect(), 64);
                self.warn(format!("{place}: {file:?} holds {got}, want an object with box_data"));
                return Ok(None);
            }
        };
        for (name, value) in given.into_iter().filter(|(name, _)| name != "path") {
            set.push(name, value);
        }
        set.merge_repeated();
        Ok(Some(set.to_json()))
    }

    fn file(&mut self, file: &str, place: &str) -> Result<Option<Json>, E> {
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
    use serde_json::{Value, json};

    use super::*;

    fn described(annotations: &Value) -> Description {
        let annotations = Json::from(annotations).fields().unwrap_or_default();
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
            assert_eq!(description.annotations, want);
            assert_eq!(description.loaded, given);
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
            assert_eq!(description.annotations, given);
            assert!(description.loaded.is_empty() && warnings.is_empty(), "{given}");
        }
    }

    #[test]
    fn a_bad_file_costs_its_annotation() {
        let given = json!({"classes": {"path": "x"}, "boxes": {"a": {"path": "y"}, "b": 1, "c": {"path": "7"}}});
        let (description, warnings) = load(&given);
        assert_eq!(description.annotations, json!({"boxes": {"b": 1}}));
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
            prop_assert_eq!(description.annotations, json!({"boxes": sets}));
            prop_assert!(warnings.is_empty());
        }
    }
}
