//! Files of annotations beside a dump.

use std::io::Read;

use super::MissingFile;
use crate::annotations::load_files;
use crate::limits::Limits;
use crate::media::Json;
use crate::record::{DEPTH_MAX, MediaRecord, parse_json};
use crate::run_dir::{ReadFailure, RunDir};

/// Loads the annotations that a record keeps in files. A file that cannot be used costs a warning, not
/// the image. Returns the files that were left out because they are missing or cut off.
///
/// # Errors
/// If a file is missing or cut off and `missing_file` says to wait, or it cannot be read now.
pub(super) fn load(
    dir: &RunDir,
    record: &mut MediaRecord,
    missing_file: MissingFile,
    limits: &Limits,
) -> Result<Vec<String>, ReadFailure> {
    let (mut missing, mut rest) = (Vec::new(), limits.annotation_bytes_max);
    let warnings = load_files(&mut record.description, |name| {
        match read(dir, name, limits.annotation_bytes_max, &mut rest) {
            Err(ReadFailure::OverLimit(problem) | ReadFailure::Reject(problem)) => Ok(Err(problem)),
            Err(ReadFailure::Wait(problem)) if missing_file == MissingFile::Drop => {
                missing.push(name.to_owned());
                Ok(Err(problem))
            }
            read => read.map(Ok).map_err(ReadFailure::about_annotations),
        }
    })?;
    record.warnings.extend(warnings);
    Ok(missing)
}

/// Reads one file of at most `rest` bytes, and takes its length from `rest`.
fn read(dir: &RunDir, name: &str, max: u64, rest: &mut u64) -> Result<Json, ReadFailure> {
    let path = dir.relative(name).map_err(ReadFailure::Reject)?;
    let file = dir.open_file(&path)?;
    let n_bytes = file.stamp().size;
    if n_bytes > *rest {
        return Err(ReadFailure::Reject(format!(
            "{path:?} has {n_bytes} bytes, limits.annotation_bytes_max is {max} for all files of a line"
        )));
    }
    let mut text = Vec::new();
    file.into_file()
        .take(n_bytes)
        .read_to_end(&mut text)
        .map_err(|error| ReadFailure::Retry(format!("{path:?} cannot be read: {error}")))?;
    let value = parse_json(&text).map_err(|error| {
        let reason = format!("{path:?}, {error}");
        // The writer may not be done.
        if error.is_cut_off() { ReadFailure::Wait(reason) } else { ReadFailure::Reject(reason) }
    })?;
    if value.depth() > DEPTH_MAX {
        let problem = format!("{path:?}: nested deeper than {DEPTH_MAX} levels");
        return Err(ReadFailure::Reject(problem));
    }
    *rest -= n_bytes;
    Ok(value)
}
