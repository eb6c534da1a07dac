//! The job's description of a batch, split over its images.

use serde_json::Value;

use crate::limits::Limits;
use crate::media::{Description, Json, JsonFields};
use crate::words::counted;

/// An upper bound for the descriptions of all images of one dump together, in bytes. One line may be
/// repeated for each of its images.
pub const DESCRIPTIONS_BYTES_MAX: usize = 64 << 20;

/// The most bytes of descriptions of one dump under these limits: at most an eighth of the memory.
#[must_use]
pub fn descriptions_bytes_max(limits: &Limits) -> usize {
    usize::try_from(limits.memory_bytes_max / 8).unwrap_or(usize::MAX).min(DESCRIPTIONS_BYTES_MAX)
}

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
/// If the descriptions are longer than `n_bytes_max`, classes, boxes and masks are dropped; if that is not
/// enough, so is everything else. All images share the text of a field that is the same for all.
pub(super) fn split(given: &Description, n: usize, n_bytes_max: usize) -> Descriptions {
    let mut common = given.clone();
    let mut lists: Vec<(&str, Vec<Json>)> = Vec::new();
    let mut warnings = Vec::new();
    let mut split_field = |name: &'static str, value: Option<Json>, may_be_list: bool| {
        let Some(values) = value.as_ref().and_then(Json::entries) else { return value };
        if values.len() != n && may_be_list {
            return value;
        }
        warnings.extend(mismatch(name, values.len(), n));
        lists.push((name, values));
        None
    };
    let is_one = n == 1;
    common.caption = split_field("caption", common.caption.take(), is_one);
    common.grouping = split_field("grouping", common.grouping.take(), is_one);
    let mut loaded_lists: Vec<(&str, Vec<Json>)> = Vec::new();
    for name in ["boxes", "masks"] {
        let value = common.annotations.remove(name);
        if let Some(value) = split_field(name, value, false) {
            common.annotations.insert(name, value);
        }
        // A list whose entries name files has an entry for each image, too.
        let Some(value) = common.loaded.remove(name) else { continue };
        match value.entries() {
            Some(values) => loaded_lists.push((name, values)),
            None => common.loaded.insert(name, value),
        }
    }
    let null = Json::from(Value::Null);
    for (_, values) in lists.iter_mut().chain(&mut loaded_lists) {
        values.resize(n, null.clone());
    }
    let length = |common: &Description, lists: &[(&str, Vec<Json>)]| {
        let in_lists = lists.iter().flat_map(|(_, values)| values);
        let n_in_lists: usize = in_lists.map(|value| value.text().len()).sum();
        common.n_bytes().saturating_mul(n).saturating_add(n_in_lists)
    };
    let mut n_bytes = length(&common, &lists);
    let has_annotations = |(name, _): &(&str, Vec<Json>)| matches!(*name, "boxes" | "masks");
    if n_bytes > n_bytes_max {
        let got = n_bytes;
        common.annotations = JsonFields::default();
        common.loaded = JsonFields::default();
        loaded_lists.clear();
        lists.retain(|list| !has_annotations(list));
        n_bytes = length(&common, &lists);
        let what = if n_bytes > n_bytes_max {
            (common, lists) = (Description { time: common.time, ..Description::default() }, vec![]);
            n_bytes = length(&common, &lists);
            "caption, grouping, classes, boxes, masks and other fields"
        } else {
            "classes, boxes and masks"
        };
        warnings.push(format!(
            "{what} dropped: {got} bytes for {n} images, want {n_bytes_max} bytes at most"
        ));
    }
    let mut each = vec![common; n];
    for (name, values) in lists {
        for (description, value) in each.iter_mut().zip(values) {
            match name {
                "caption" => description.caption = Some(value).filter(|value| !value.is_null()),
                "grouping" => description.grouping = Some(value).filter(|value| !value.is_null()),
                _ if value.is_null() => {}
                _ => description.annotations.insert(name, value),
            }
        }
    }
    for (name, values) in loaded_lists {
        for (description, value) in each.iter_mut().zip(values) {
            description.loaded.insert(name, value);
        }
    }
    Descriptions { each, n_bytes, warnings }
}

/// Says what becomes of a list that has another number of entries than there are images. Lists without
/// entries are usual for an image alone.
fn mismatch(name: &str, got: usize, n: usize) -> Option<String> {
    let images = counted(n as u64, "image");
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
