//! `safelight.json`: the id of a run, and what its job says of it.

use std::io::Read;

use serde_json::{Map, Value};

use crate::limits::IDENTITY_BYTES_MAX;
use crate::media::Json;
use crate::record::{DEPTH_MAX, parse_json};
use crate::run_dir::{ReadFailure, RunDir};
use crate::store::journal::Stamp;

/// The file that gives a run directory its id.
pub(crate) const IDENTITY_FILE: &str = "safelight.json";

/// The longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads `safelight.json`, and its stamp if the file is there.
///
/// # Errors
/// If the file cannot be read or is not one JSON object. The error is for people. A field that is nested too
/// deep is dropped, and so are the longest ones beyond [`IDENTITY_BYTES_MAX`].
pub(super) fn read_identity(dir: &RunDir) -> Result<(Map<String, Value>, Option<Stamp>), String> {
    let problem = |what: String| format!("{}: {what}", dir.path().join(IDENTITY_FILE).display());
    let file = match dir.open_file(IDENTITY_FILE) {
        Ok(file) => file,
        Err(ReadFailure::Wait(_)) if dir.stat(IDENTITY_FILE).is_none() => {
            return Ok((Map::new(), None));
        }
        Err(failure) => {
            return Err(format!("{}: {}", dir.path().display(), failure.reason()));
        }
    };
    let stamp = file.stamp();
    if stamp.size > FILE_BYTES_MAX {
        return Err(problem(format!("{} bytes, want at most {FILE_BYTES_MAX}", stamp.size)));
    }
    let mut text = Vec::new();
    file.into_file()
        .take(FILE_BYTES_MAX)
        .read_to_end(&mut text)
        .map_err(|error| problem(error.to_string()))?;
    let want = |found: String| problem(format!("{found}; want one JSON object"));
    let fields = parse_json(&text).map_err(|error| want(error.to_string()))?.fields();
    let fields = fields.ok_or_else(|| want("another value".to_owned()))?;
    let ignored = |field: &str, error: String| {
        let path = dir.path().join(IDENTITY_FILE);
        tracing::warn!(path = %path.display(), field, error, "field of a run ignored");
    };
    let mut kept = Vec::new();
    for (name, value) in fields {
        if value.depth() <= DEPTH_MAX {
            kept.push((name, value));
        } else {
            ignored(&name, format!("nested deeper than {DEPTH_MAX} levels"));
        }
    }
    // Before the fields are parsed, which takes many times their length.
    for (name, n_bytes) in remove_longest(&mut kept) {
        let max = IDENTITY_BYTES_MAX;
        ignored(&name, format!("{n_bytes} bytes, all fields may have {max} together"));
    }
    let identity = kept.into_iter().map(|(name, value)| (name, value.to_value()));
    Ok((identity.collect(), Some(stamp)))
}

/// Removes the longest fields until all together have at most [`IDENTITY_BYTES_MAX`]. The id stays. Returns the
/// names and lengths of those removed.
fn remove_longest(fields: &mut Vec<(String, Json)>) -> Vec<(String, usize)> {
    let length = |(name, value): &(String, Json)| name.len() + value.text().len();
    let max = usize::try_from(IDENTITY_BYTES_MAX).unwrap_or(usize::MAX);
    let mut rest: usize = fields.iter().map(length).sum();
    let mut lengths: Vec<usize> =
        fields.iter().filter(|(name, _)| name != "id").map(length).collect();
    lengths.sort_unstable();
    // The length from which on fields are removed.
    let mut removed_from = usize::MAX;
    while rest > max
        && let Some(longest) = lengths.pop()
    {
        rest -= longest;
        removed_from = longest;
    }
    let mut removed = Vec::new();
    fields.retain(|field| {
        let is_kept = field.0 == "id" || length(field) < removed_from;
        if !is_kept {
            removed.push((field.0.clone(), length(field)));
        }
        is_kept
    });
    removed
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_longest_fields_beyond_the_limit_are_removed() {
        let long = |n: usize| Json::from(json!("x".repeat(n)));
        let fields =
            [("id", long(9)), ("config", long(70_000)), ("name", long(5)), ("tags", long(40_000))];
        let mut fields: Vec<_> =
            fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        assert_eq!(remove_longest(&mut fields), [("config".to_owned(), 70_008)]);
        assert_eq!(remove_longest(&mut fields), []);
        let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["id", "name", "tags"]);
    }
}
