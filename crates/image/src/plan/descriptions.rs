//! The job's description of a batch, split over its images.

use serde_json::Value;

use crate::media::Description;

/// An upper bound for the descriptions of all images of one dump together, in bytes. One line may be
/// repeated for each of its images.
pub const DESCRIPTIONS_BYTES_MAX: usize = 64 << 20;

/// The descriptions of the images of one record.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Descriptions {
    /// One for each image.
    pub(super) each: Vec<Description>,
    /// Their length in bytes all together.
    pub(super) n_bytes: usize,
    /// What was repaired or dropped. Each image has these warnings.
    pub(super) warnings: Vec<String>,
}

/// Splits a description over `n` images.
///
/// A caption, grouping, boxes or masks that are a list give one value to each image, in order. If the list
/// is too short, the last images have none; if it is too long, the rest is dropped. The caption and the
/// grouping of a single image may be lists themselves. Every other field is the same for all.
///
/// If the descriptions are longer than [`DESCRIPTIONS_BYTES_MAX`], classes, boxes and masks are dropped; if
/// that is not enough, so is everything else.
pub(super) fn split(given: &Description, n: usize) -> Descriptions {
    let mut common = given.clone();
    let mut lists: Vec<(&str, Vec<Value>)> = Vec::new();
    let mut warnings = Vec::new();
    let mut split_field = |name: &'static str, value: Option<Value>, may_be_list: bool| match value
    {
        Some(Value::Array(values)) if values.len() == n || !may_be_list => {
            warnings.extend(mismatch(name, values.len(), n));
            lists.push((name, values));
            None
        }
        value => value,
    };
    let is_one = n == 1;
    common.caption = split_field("caption", common.caption.take(), is_one);
    common.grouping = split_field("grouping", common.grouping.take(), is_one);
    let mut loaded_lists: Vec<(&str, Vec<Value>)> = Vec::new();
    for name in ["boxes", "masks"] {
        let value = common.annotations.shift_remove(name);
        if let Some(value) = split_field(name, value, false) {
            common.annotations.insert(name.to_owned(), value);
        }
        // A list whose entries name files has an entry for each image, too.
        match common.loaded.shift_remove(name) {
            Some(Value::Array(mut values)) => {
                values.resize(n, Value::Null);
                loaded_lists.push((name, values));
            }
            Some(value) => drop(common.loaded.insert(name.to_owned(), value)),
            None => {}
        }
    }
    lists.iter_mut().for_each(|(_, values)| values.resize(n, Value::Null));
    let length = |common: &Description, lists: &[(&str, Vec<Value>)]| {
        let n_bytes = serde_json::to_string(common).map_or(0, |text| text.len());
        let in_lists = lists.iter().flat_map(|(_, values)| values);
        let n_in_lists: usize = in_lists.map(|value| value.to_string().len()).sum();
        n_bytes.saturating_mul(n).saturating_add(n_in_lists)
    };
    let mut n_bytes = length(&common, &lists);
    let has_annotations = |(name, _): &(&str, Vec<Value>)| matches!(*name, "boxes" | "masks");
    if n_bytes > DESCRIPTIONS_BYTES_MAX {
        let got = n_bytes;
        common.annotations.clear();
        common.loaded.clear();
        loaded_lists.clear();
        lists.retain(|list| !has_annotations(list));
        n_bytes = length(&common, &lists);
        let what = if n_bytes > DESCRIPTIONS_BYTES_MAX {
            (common, lists) = (Description { time: common.time, ..Description::default() }, vec![]);
            n_bytes = length(&common, &lists);
            "caption, grouping, classes, boxes, masks and other fields"
        } else {
            "classes, boxes and masks"
        };
        warnings.push(format!(
            "{what} dropped: {got} bytes for {n} images, want {DESCRIPTIONS_BYTES_MAX} bytes at most"
        ));
    }
    let mut each = vec![common; n];
    for (name, values) in lists {
        for (description, value) in each.iter_mut().zip(values) {
            match name {
                "caption" => description.caption = Some(value).filter(|value| !value.is_null()),
                "grouping" => description.grouping = Some(value).filter(|value| !value.is_null()),
                _ if value.is_null() => {}
                _ => drop(description.annotations.insert(name.to_owned(), value)),
            }
        }
    }
    for (name, values) in loaded_lists {
        for (description, value) in each.iter_mut().zip(values) {
            description.loaded.insert(name.to_owned(), value);
        }
    }
    Descriptions { each, n_bytes, warnings }
}

/// Says what becomes of a list that has another number of entries than there are images. Lists without
/// entries are usual for an image alone.
fn mismatch(name: &str, got: usize, n: usize) -> Option<String> {
    let images = if n == 1 { "1 image".to_owned() } else { format!("{n} images") };
    let entries = if got == 1 { "1 entry".to_owned() } else { format!("{got} entries") };
    match got {
        _ if got > n => Some(format!("{name} has {entries} for {images}; the rest dropped")),
        0 if n == 1 => None,
        _ if got < n => {
            let left = n - got;
            let rest = if left == 1 { "has".to_owned() } else { format!("{left} have") };
            Some(format!("{name} has {entries} for {images}; the last {rest} none"))
        }
        _ => None,
    }
}
