//! Classes and their labels.

use serde_json::{Map, Value};

use super::field_path::{AnnotationError, FieldPath};
use super::{BoxSet, ImageAnnotations};
use crate::media::{Class, ClassLabels};

/// Most classes of an image, and most labels of a set.
const CLASSES_MAX: usize = 65_536;

/// Parses `classes`: a list of objects with an `id`, which is a whole number or text, and a `name`.
pub(super) fn read(value: &Value, place: &FieldPath<'_>) -> Result<Vec<Class>, AnnotationError> {
    let list = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(list) if list.len() > CLASSES_MAX => {
            return Err(place.over(&format!("{} classes", list.len()), &CLASSES_MAX.to_string()));
        }
        Value::Array(list) => list,
        other => return Err(place.error(other, "a list of {\"id\": …, \"name\": …}")),
    };
    let one = |(i, class): (usize, &Value)| {
        let place = place.index(i);
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
        let name = name.text(class.get("name").ok_or_else(|| name.missing("text"))?)?.to_owned();
        Ok(Class { id, name })
    };
    list.iter().enumerate().map(one).collect()
}

/// Parses `class_labels`: names by class id. The ids are texts, because keys in JSON are.
pub(super) fn read_labels(
    value: &Value,
    place: &FieldPath<'_>,
) -> Result<ClassLabels, AnnotationError> {
    let given = match value {
        Value::Object(labels) if labels.len() > CLASSES_MAX => {
            return Err(place.over(&format!("{} labels", labels.len()), &CLASSES_MAX.to_string()));
        }
        Value::Object(labels) => labels,
        other => return Err(place.error(other, "an object of names by class id")),
    };
    let mut labels = Map::new();
    for (id, name) in given {
        // Python writes a key that is a float as "1.0".
        let number = id.strip_suffix(".0").unwrap_or(id).parse::<i64>();
        let number =
            number.map_err(|_| place.problem(format!("got key {id:?}, want a whole number")))?;
        let name = place.field(id).text(name)?;
        labels.insert(number.to_string(), name.into());
    }
    Ok(labels)
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
