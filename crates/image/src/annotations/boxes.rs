//! Bounding boxes.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::classes::{generated_labels, read_labels_of};
use super::field_path::{AnnotationError, FieldPath};
use super::repairs::Repairs;
use crate::media::Json;

/// Most boxes of one set.
pub(crate) const BOXES_MAX: usize = 100_000;

const POSITION: &str = "an object with minX, maxX, minY and maxY, or middle, width and height";

/// One set of boxes.
#[derive(Debug, Clone, PartialEq)]
pub struct BoxSet {
    /// Name of the set.
    pub name: String,
    /// The JSON file that trackers read: `box_data` and, if given, `class_labels`. Compact and in UTF-8, as
    /// wandb writes it since 0.27.
    pub file: Arc<[u8]>,
    /// The labels given, else generated ones, as an object. `None` if there are none.
    pub class_labels: Option<Json>,
    /// Whether any box has its position in pixels.
    pub has_pixels: bool,
}

/// Reads one set of boxes. Drops invalid boxes and labels.
///
/// # Errors
/// If it has no list of boxes.
pub(super) fn read(
    name: &str,
    set: &Json,
    place: &FieldPath<'_>,
    picture: (u64, u64),
    repairs: &mut Repairs,
) -> Result<BoxSet, AnnotationError> {
    let Some(set) = set.fields() else {
        return Err(place.error_at(set.text(), "an object with box_data"));
    };
    let labels = read_labels_of(&set, place, repairs);
    let place = place.field("box_data");
    let boxes = set.get("box_data").ok_or_else(|| place.missing("a list of boxes"))?;
    let (mut file, mut ids) = (br#"{"box_data":["#.to_vec(), Vec::new());
    let (mut n_read, mut has_pixels, mut is_first) = (0, false, true);
    let n_boxes = boxes.for_each_entry(|text| {
        n_read += 1;
        if n_read > BOXES_MAX {
            return;
        }
        let place = place.index(n_read - 1);
        let given = place.entry(text);
        let read = given.and_then(|given| read_box(&given, &place, labels.is_some(), repairs));
        let (read, id) = match read {
            Ok(read) => read,
            Err(error) => return repairs.done(error, "box dropped"),
        };
        if let Some(odd) = oddity(&read, picture) {
            repairs.odd(|| format!("{place}: {odd}"));
        }
        has_pixels |= is_in_pixels(&read);
        file.extend(if is_first { &b""[..] } else { b"," });
        file.extend(Value::Object(read).to_string().into_bytes());
        is_first = false;
        ids.extend(id);
    });
    let n_boxes = n_boxes.ok_or_else(|| place.error_at(boxes.text(), "a list of boxes"))?;
    if n_boxes > BOXES_MAX {
        let error = place.over(&format!("{n_boxes} boxes"), &BOXES_MAX.to_string());
        repairs.done(error, "the rest dropped");
    }
    file.push(b']');
    if let Some(labels) = &labels {
        file.extend(br#","class_labels":"#);
        file.extend(labels.text().as_bytes());
    }
    file.push(b'}');
    let class_labels = match labels {
        Some(labels) => Some(labels).filter(|labels| labels.text() != "{}"),
        None => generated_labels(ids),
    };
    Ok(BoxSet { name: name.to_owned(), file: file.into(), class_labels, has_pixels })
}

/// Returns a box as it is written to the file, and its class id. Unknown fields are kept. Without a valid
/// position there is no box; a class, caption or score that is invalid is dropped by itself.
fn read_box(
    given: &Value,
    place: &FieldPath<'_>,
    has_labels: bool,
    repairs: &mut Repairs,
) -> Result<(Map<String, Value>, Option<i64>), AnnotationError> {
    let Value::Object(given) = given else { return Err(place.error(given, "a box, an object")) };
    let mut read = given.clone();
    check_position(read.get_mut("position"), &place.field("position"), repairs)?;
    let class_id = place.field("class_id");
    let id = match given.get("class_id") {
        None if has_labels => Ok(None),
        None => Err(class_id.missing("a whole number, or class_labels beside box_data")),
        Some(value) => class_id.whole_or_text(value, repairs).map(Some),
    };
    let id = id.unwrap_or_else(|error| {
        repairs.done(error, "box kept without a class");
        None
    });
    match id {
        Some(id) => drop(read.insert("class_id".to_owned(), id.into())),
        None => drop(read.shift_remove("class_id")),
    }
    let caption = place.field("box_caption");
    match given.get("box_caption").map(|value| (value, caption.named(value, repairs))) {
        None => {}
        Some((_, Ok(text))) => drop(read.insert("box_caption".to_owned(), text.into())),
        Some((value, Err(error))) => {
            if !value.is_null() {
                repairs.done(error, "caption dropped");
            }
            read.shift_remove("box_caption");
        }
    }
    match read.get_mut("scores") {
        None => {}
        Some(Value::Object(scores)) => check_scores(scores, &place.field("scores"), repairs),
        Some(other) => {
            if !other.is_null() {
                let error = place.field("scores").error(other, "an object of numbers by name");
                repairs.done(error, "scores dropped");
            }
            read.shift_remove("scores");
        }
    }
    Ok((read, id))
}

/// Drops the scores that are no finite numbers.
fn check_scores(scores: &mut Map<String, Value>, place: &FieldPath<'_>, repairs: &mut Repairs) {
    let is_valid = |score: &Value| score.is_boolean() || score.as_f64().is_some();
    let invalid = scores.iter().filter(|(_, score)| !is_valid(score));
    let names: Vec<String> = invalid.map(|(name, _)| name.clone()).collect();
    for name in &names {
        if let Err(error) = place.number_in(scores, name, repairs) {
            repairs.done(error, "score dropped");
            scores.shift_remove(name);
        }
    }
}

fn check_position(
    position: Option<&mut Value>,
    place: &FieldPath<'_>,
    repairs: &mut Repairs,
) -> Result<(), AnnotationError> {
    let position = match position {
        None => return Err(place.missing(POSITION)),
        Some(Value::Object(position)) => position,
        Some(other) => return Err(place.error(other, POSITION)),
    };
    let numbers: &[&str] = if let Some(middle) = position.get("middle") {
        let place = place.field("middle");
        match middle.as_array().map(Vec::as_slice) {
            Some([x, y]) => {
                place.index(0).number(x)?;
                place.index(1).number(y)?;
            }
            _ => return Err(place.error(middle, "two numbers")),
        }
        &["width", "height"]
    } else {
        &["minX", "maxX", "minY", "maxY"]
    };
    for name in numbers {
        place.number_in(position, name, repairs)?;
    }
    Ok(())
}

fn is_in_pixels(given: &Map<String, Value>) -> bool {
    given.get("domain").and_then(Value::as_str) == Some("pixel")
}

/// Returns what is odd about a box, if anything.
fn oddity(given: &Map<String, Value>, (width, height): (u64, u64)) -> Option<String> {
    let position = given.get("position")?;
    let number = |name: &str| position[name].as_f64();
    let [min_x, max_x, min_y, max_y] = if let Some(middle) = position.get("middle") {
        let (x, y) = (middle[0].as_f64()?, middle[1].as_f64()?);
        let (half_width, half_height) = (number("width")? / 2.0, number("height")? / 2.0);
        for (name, half) in [("width", half_width), ("height", half_height)] {
            if half < 0.0 {
                return Some(format!("{name} {} is negative", half * 2.0));
            }
        }
        [x - half_width, x + half_width, y - half_height, y + half_height]
    } else {
        [number("minX")?, number("maxX")?, number("minY")?, number("maxY")?]
    };
    for (axis, min, max) in [("X", min_x, max_x), ("Y", min_y, max_y)] {
        if min > max {
            return Some(format!("min{axis} {min} is greater than max{axis} {max}"));
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "sides are far below 2^53")]
    let (right, bottom, what) = if is_in_pixels(given) {
        (width as f64, height as f64, format!("the picture of {width} × {height} pixels"))
    } else {
        let what = "the picture (fractions 0 to 1; domain \"pixel\" would mean pixels)";
        (1.0, 1.0, what.to_owned())
    };
    // Rounding errors are not odd.
    let slack = 1e-6 * right.max(bottom);
    let is_within = |value: f64, max: f64| (-slack..=max + slack).contains(&value);
    let is_inside = is_within(min_x, right)
        && is_within(max_x, right)
        && is_within(min_y, bottom)
        && is_within(max_y, bottom);
    (!is_inside).then(|| format!("reaches beyond {what}"))
}
