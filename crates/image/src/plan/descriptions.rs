//! The job's description of a batch, split over its images.

use serde_json::Value;

use super::PlanError;
use crate::media::Description;

/// An upper bound for the descriptions of all images of one dump together, in bytes. One line may be
/// repeated for each of its images.
pub const DESCRIPTIONS_BYTES_MAX: usize = 64 << 20;

/// Returns a description for each of `n` images, and their length in bytes all together.
///
/// A caption, grouping, boxes or masks that are a list of `n` values give one value to each image.
/// Every other field is the same for all.
///
/// # Errors
/// If a list has another length, or the descriptions are longer than [`DESCRIPTIONS_BYTES_MAX`].
pub(super) fn split(given: &Description, n: usize) -> Result<(Vec<Description>, usize), PlanError> {
    let mut common = given.clone();
    let mut lists: Vec<(&str, Vec<Value>)> = Vec::new();
    let mut split_field = |name: &'static str, value: Option<Value>| match value {
        Some(Value::Array(values)) if values.len() == n => {
            lists.push((name, values));
            Ok(None)
        }
        Some(Value::Array(values)) if n > 1 => {
            let problem = format!("{name} has {} entries for {n} images", values.len());
            Err(PlanError::Record(problem))
        }
        value => Ok(value),
    };
    common.caption = split_field("caption", common.caption.take())?;
    common.grouping = split_field("grouping", common.grouping.take())?;
    let mut loaded_lists: Vec<(&str, Vec<Value>)> = Vec::new();
    for name in ["boxes", "masks"] {
        if let Some(value) = split_field(name, common.annotations.shift_remove(name))? {
            common.annotations.insert(name.to_owned(), value);
        }
        // A list whose entries name files has an entry for each image, too.
        match common.loaded.shift_remove(name) {
            Some(Value::Array(values)) if values.len() == n => loaded_lists.push((name, values)),
            Some(value) => drop(common.loaded.insert(name.to_owned(), value)),
            None => {}
        }
    }
    let n_bytes = serde_json::to_string(&common).map_or(0, |text| text.len());
    let in_lists = lists.iter().flat_map(|(_, values)| values);
    let n_in_lists: usize = in_lists.map(|value| value.to_string().len()).sum();
    let n_all = n_bytes.saturating_mul(n).saturating_add(n_in_lists);
    if n_all > DESCRIPTIONS_BYTES_MAX {
        let problem = format!(
            "a description of {n_bytes} bytes for each of {n} images, want {DESCRIPTIONS_BYTES_MAX} bytes at most in all"
        );
        return Err(PlanError::OverLimit(problem));
    }
    let mut each = vec![common; n];
    for (name, values) in lists {
        for (description, value) in each.iter_mut().zip(values) {
            match name {
                "caption" => description.caption = Some(value).filter(|value| !value.is_null()),
                "grouping" => description.grouping = Some(value).filter(|value| !value.is_null()),
                _ => drop(description.annotations.insert(name.to_owned(), value)),
            }
        }
    }
    for (name, values) in loaded_lists {
        for (description, value) in each.iter_mut().zip(values) {
            description.loaded.insert(name.to_owned(), value);
        }
    }
    Ok((each, n_all))
}
