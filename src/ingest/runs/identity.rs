//! `safelight.json`: the id of a run, and what its job says of it.

use std::io::Read;

use serde_json::{Map, Value};

use crate::limits::IDENTITY_BYTES_MAX;
use crate::record::{DEPTH_MAX, parse_json};
use crate::run_dir::{ReadFailure, RunDir};
use crate::store::journal::Stamp;

/// The file that gives a run directory its id.
pub(crate) const IDENTITY_FILE: &str = "safelight.json";

/// Reads `safelight.json`, and its stamp if the file is there.
///
/// # Errors
/// If the file cannot be read or is not one JSON object. The error is for people. A field that is nested too
/// deep is dropped.
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
    if stamp.size > IDENTITY_BYTES_MAX {
        return Err(problem(format!("{} bytes, want at most {IDENTITY_BYTES_MAX}", stamp.size)));
    }
    let mut text = Vec::new();
    file.into_file()
        .take(IDENTITY_BYTES_MAX)
        .read_to_end(&mut text)
        .map_err(|error| problem(error.to_string()))?;
    let want = |found: String| problem(format!("{found}; want one JSON object"));
    let fields = parse_json(&text).map_err(|error| want(error.to_string()))?.fields();
    let fields = fields.ok_or_else(|| want("another value".to_owned()))?;
    let mut identity = Map::new();
    for (name, value) in fields {
        if value.depth() <= DEPTH_MAX {
            identity.insert(name, value.to_value());
            continue;
        }
        let path = dir.path().join(IDENTITY_FILE);
        let error = format!("nested deeper than {DEPTH_MAX} levels");
        tracing::warn!(path = %path.display(), field = name, error, "field of a run ignored");
    }
    Ok((identity, Some(stamp)))
}
