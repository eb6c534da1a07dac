//! `safelight.json`: the id of a run, and what its job says of it.

use std::io::{self, Read};

use serde_json::{Map, Value};

use crate::record::{DEPTH_MAX, depth};
use crate::run_dir::{ReadFailure, RunDir};
use crate::store::journal::Stamp;

/// The file that gives a run directory its id.
pub(crate) const IDENTITY_FILE: &str = "safelight.json";

/// The longest `safelight.json`, in bytes.
const IDENTITY_BYTES_MAX: u64 = 1 << 20;

/// Reads `safelight.json`, and its stamp if the file is there.
///
/// # Errors
/// If the file cannot be read or is not one JSON object. The error is for people.
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
    let text = io::read_to_string(file.into_file().take(IDENTITY_BYTES_MAX))
        .map_err(|error| problem(error.to_string()))?;
    let identity: Map<String, Value> = serde_json::from_str(&text)
        .map_err(|error| problem(format!("{error}; want one JSON object")))?;
    if identity.values().any(|value| depth(value) > DEPTH_MAX) {
        return Err(problem(format!("nested deeper than {DEPTH_MAX} levels")));
    }
    Ok((identity, Some(stamp)))
}
