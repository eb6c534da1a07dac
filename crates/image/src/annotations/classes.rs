//! Classes and their labels.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::ImageAnnotations;
use super::field_path::{AnnotationError, FieldPath};
use super::repairs::Repairs;
use crate::media::{Class, ClassLabels, Json, JsonFields};

/// Most classes of an image, and most labels of a set.
pub(crate) const CLASSES_MAX: usize = 65_536;

/// Reads `classes`: a list of objects with an `id`, which is a whole number or text, and a `name`. Drops
/// invalid classes. Returns a list of [`Class`].
pub(super) fn read(value: &Json, place: &FieldPath<'_>, repairs: &mut Repairs) -> Option<Json> {
    if value.is_null() {
        return None;
    }
    let (mut classes, mut n_read) = (Vec::new(), 0);
    let n = value.for_each_entry(|text| {
        n_read += 1;
        if n_read > CLASSES_MAX {
            return;
        }
        let place = place.index(n_read - 1);
        match place.entry(text).and_then(|class| read_class(&class, &place, repairs)) {
            Ok(class) => classes.push(class),
            Err(error) => repairs.done(error, "class dropped"),
        }
    });
    match n {
        None => {
            let error = place.error_at(value.text(), "a list of {\"id\": …, \"name\": …}");
            repairs.done(error, "dropped");
        }
        Some(n) if n > CLASSES_MAX => {
            let error = place.over(&format!("{n} classes"), &CLASSES_MAX.to_string());
            repairs.done(error, "the rest dropped");
        }
        Some(_) => {}
    }
    list_of(&classes)
}

/// The list of classes, if there are any.
fn list_of(classes: &[Class]) -> Option<Json> {
    let list = serde_json::to_string(classes).ok().filter(|_| !classes.is_empty())?;
    serde_json::from_str(&list).ok()
}

fn read_class(
    class: &Value,
    place: &FieldPath<'_>,
    repairs: &mut Repairs,
) -> Result<Class, AnnotationError> {
    let Value::Object(class) = class else {
        return Err(place.error(class, "{\"id\": …, \"name\": …}"));
    };
    let id = place.field("id");
    let id = match class.get("id") {
        None => return Err(id.missing("a whole number or text")),
        Some(Value::String(text)) => text.clone().into(),
        Some(value) => id.whole(value)?.into(),
    };
    let name = place.field("name");
    let name = name.named(class.get("name").ok_or_else(|| name.missing("text"))?, repairs)?;
    Ok(Class { id, name })
}

/// Reads `class_labels`: an object of names by class id. The ids are texts, because keys in JSON are. Drops
/// invalid labels.
///
/// # Errors
/// If they are no object.
fn read_labels(
    value: &Json,
    place: &FieldPath<'_>,
    repairs: &mut Repairs,
) -> Result<Json, AnnotationError> {
    let (mut labels, mut n_read) = (ClassLabels::new(), 0);
    let n = value.for_each_field(|id, text| {
        n_read += 1;
        if n_read > CLASSES_MAX {
            return;
        }
        // Python writes a key that is a float as "1.0".
        let number = id.strip_suffix(".0").unwrap_or(&id).parse::<i64>();
        let number =
            number.map_err(|_| place.problem(format!("got key {id:?}, want a whole number")));
        let of_id = place.field(&id);
        let mut name = |text: &str| of_id.named(&of_id.entry(text)?, repairs);
        match number.and_then(|number| Ok((number, name(text)?))) {
            Ok((number, name)) => drop(labels.insert(number.to_string(), name.into())),
            Err(error) => repairs.done(error, "label dropped"),
        }
    });
    let n = n.ok_or_else(|| place.error_at(value.text(), "an object of names by class id"))?;
    if n > CLASSES_MAX {
        let error = place.over(&format!("{n} labels"), &CLASSES_MAX.to_string());
        repairs.done(error, "the rest dropped");
    }
    Ok(Value::Object(labels).into())
}

/// Reads the `class_labels` of a set, if it has any: an object. Drops them if they are none.
pub(super) fn read_labels_of(
    set: &JsonFields,
    place: &FieldPath<'_>,
    repairs: &mut Repairs,
) -> Option<Json> {
    let given = set.get("class_labels").filter(|given| !given.is_null())?;
    match read_labels(given, &place.field("class_labels"), repairs) {
        Ok(labels) => Some(labels),
        Err(error) => {
            repairs.done(error, "labels dropped");
            None
        }
    }
}

/// Returns the labels of a set without labels, an object: `class_<id>` for each id, in rising order.
#[must_use]
pub fn generated_labels(ids: impl IntoIterator<Item = i64>) -> Option<Json> {
    let ids: BTreeSet<i64> = ids.into_iter().collect();
    let label = |id: i64| (id.to_string(), Value::from(format!("class_{id}")));
    let labels: ClassLabels = ids.into_iter().map(label).collect();
    (!labels.is_empty()).then(|| Value::Object(labels).into())
}

/// Returns the classes of an image, a list of [`Class`]: the labels of its boxes, then of its masks, then its
/// own classes, at most 65,536. If an id occurs again, its later name counts (`docs/spec/image.md` C.3).
#[must_use]
pub fn class_set<'a>(
    annotations: &'a ImageAnnotations,
    mask_labels: impl Iterator<Item = &'a Json>,
) -> Option<Json> {
    let mut classes: Vec<Class> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut add = |Class { id, name }: Class| {
        let n = classes.len();
        match places.entry(id.to_string()) {
            Entry::Occupied(place) => classes[*place.get()].name = name,
            Entry::Vacant(place) if n < CLASSES_MAX => {
                place.insert(n);
                classes.push(Class { id, name });
            }
            Entry::Vacant(_) => {}
        }
    };
    let of_boxes = annotations.boxes.iter().filter_map(|set| set.class_labels.as_ref());
    for labels in of_boxes.chain(mask_labels) {
        labels.for_each_field(|id, name| {
            let id = id.parse::<i64>().map_or_else(|_| id.as_str().into(), Value::from);
            add(Class { id, name: serde_json::from_str(name).unwrap_or_default() });
        });
    }
    if let Some(own) = &annotations.classes {
        own.for_each_entry(|class| {
            if let Ok(class) = serde_json::from_str(class) {
                add(class);
            }
        });
    }
    list_of(&classes)
}
