//! Classes and their labels.

use serde_json::{Map, Value};

use super::field_path::{AnnotationError, FieldPath};
use super::repairs::Repairs;
use super::{BoxSet, ImageAnnotations};
use crate::media::{Class, ClassLabels};

/// Most classes of an image, and most labels of a set.
pub(crate) const CLASSES_MAX: usize = 65_536;

/// Reads `classes`: a list of objects with an `id`, which is a whole number or text, and a `name`. Drops
/// invalid classes.
pub(super) fn read(value: &Value, place: &FieldPath<'_>, repairs: &mut Repairs) -> Vec<Class> {
    let list = match value {
        Value::Null => return Vec::new(),
        Value::Array(list) => list,
        other => {
            repairs.done(place.error(other, "a list of {\"id\": …, \"name\": …}"), "dropped");
            return Vec::new();
        }
    };
    if list.len() > CLASSES_MAX {
        let error = place.over(&format!("{} classes", list.len()), &CLASSES_MAX.to_string());
        repairs.done(error, "the rest dropped");
    }
    let mut classes = Vec::new();
    for (i, class) in list.iter().take(CLASSES_MAX).enumerate() {
        match read_class(class, &place.index(i), repairs) {
            Ok(class) => classes.push(class),
            Err(error) => repairs.done(error, "class dropped"),
        }
    }
    classes
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

/// Reads `class_labels`: names by class id. The ids are texts, because keys in JSON are. Drops invalid
/// labels.
///
/// # Errors
/// If they are no object.
fn read_labels(
    value: &Value,
    place: &FieldPath<'_>,
    repairs: &mut Repairs,
) -> Result<ClassLabels, AnnotationError> {
    let Value::Object(given) = value else {
        return Err(place.error(value, "an object of names by class id"));
    };
    if given.len() > CLASSES_MAX {
        let error = place.over(&format!("{} labels", given.len()), &CLASSES_MAX.to_string());
        repairs.done(error, "the rest dropped");
    }
    let mut labels = Map::new();
    for (id, name) in given.iter().take(CLASSES_MAX) {
        // Python writes a key that is a float as "1.0".
        let number = id.strip_suffix(".0").unwrap_or(id).parse::<i64>();
        let number =
            number.map_err(|_| place.problem(format!("got key {id:?}, want a whole number")));
        let label = number.and_then(|number| Ok((number, place.field(id).named(name, repairs)?)));
        match label {
            Ok((number, name)) => drop(labels.insert(number.to_string(), name.into())),
            Err(error) => repairs.done(error, "label dropped"),
        }
    }
    Ok(labels)
}

/// Reads the `class_labels` of a set, if it has any. Drops them if they are no object.
pub(super) fn read_labels_of(
    set: &Map<String, Value>,
    place: &FieldPath<'_>,
    repairs: &mut Repairs,
) -> Option<ClassLabels> {
    let given = set.get("class_labels").filter(|given| !given.is_null())?;
    match read_labels(given, &place.field("class_labels"), repairs) {
        Ok(labels) => Some(labels),
        Err(error) => {
            repairs.done(error, "labels dropped");
            None
        }
    }
}

/// Returns the labels of a set without labels: `class_<id>` for each id, in rising order.
#[must_use]
pub fn generated_labels(ids: impl IntoIterator<Item = i64>) -> ClassLabels {
    let ids: std::collections::BTreeSet<i64> = ids.into_iter().collect();
    ids.into_iter().map(|id| (id.to_string(), format!("class_{id}").into())).collect()
}

/// Returns the classes of an image: the labels of its boxes, then of its masks, then its own classes. If
/// an id occurs again, its later name counts (`docs/spec/image.md` C.3).
#[must_use]
pub fn class_set<'a>(
    annotations: &'a ImageAnnotations,
    mask_labels: impl Iterator<Item = &'a ClassLabels>,
) -> Vec<Class> {
    let labels = annotations.boxes.iter().map(|BoxSet { class_labels, .. }| class_labels);
    let labelled = labels.chain(mask_labels).flatten().map(|(id, name)| {
        let id = id.parse::<i64>().map_or_else(|_| id.as_str().into(), Value::from);
        (id, name.as_str().unwrap_or_default())
    });
    let own = annotations.classes.iter().map(|class| (class.id.clone(), class.name.as_str()));
    let mut classes: Vec<Class> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for (id, name) in labelled.chain(own) {
        let place = *places.entry(id.to_string()).or_insert(classes.len());
        match classes.get_mut(place) {
            Some(class) => name.clone_into(&mut class.name),
            None => classes.push(Class { id, name: name.to_owned() }),
        }
    }
    classes
}
