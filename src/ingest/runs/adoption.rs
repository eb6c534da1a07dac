//! Whether a directory may continue a run whose items came from another directory.
//!
//! A run directory may be moved or copied to another disk. Another directory may also claim the id of a run whose
//! directory is gone, by accident or not: its images would replace those of that run. The content decides.

use crate::ingest::logs::is_log_of;
use crate::ingest::runs::{NotOpened, RunReader};
use crate::media::MediaEntry;
use crate::run_dir::RunDir;
use crate::store::{Reader, StoreError};

/// Items and dumps that are compared, at most.
const ITEMS_MAX: usize = 4096;
const DUMPS_MAX: u32 = 16;

/// Checks that a run has no items from another directory, or that this directory has content that was read there: a
/// log up to the line that was read last, or dumps with the same digest.
///
/// # Errors
/// If the run's id is taken, or the store cannot be read.
pub(crate) fn check_adoption(run: &RunReader, reader: &Reader) -> Result<(), NotOpened> {
    let id = run.id();
    let Some(known) = reader.run_info(id)? else { return Ok(()) };
    if known.source == run.info.source || !reader.has_items(id)? || is_same_run(run, reader)? {
        return Ok(());
    }
    Err(NotOpened::IdTaken(format!(
        "{}: the run id {id} is taken: the store has items of that run from {}, which is gone, and no log and no dump \
         here shows that this is the same run; give this directory another \"id\" in safelight.json",
        run.path().display(),
        known.source.display(),
    )))
}

fn is_same_run(run: &RunReader, reader: &Reader) -> Result<bool, StoreError> {
    let dir = run.files.dir();
    let has_log = reader.logs(run.id())?.iter().any(|cursor| {
        let file = dir.open_file(&cursor.path);
        cursor.offset > 0 && file.is_ok_and(|file| is_log_of(&file.into_file(), cursor))
    });
    let (mut n_same, mut n_other) = (0, 0);
    let mut last = None;
    for item in reader.placed(run.id()).take(ITEMS_MAX) {
        let (_, entry) = item?;
        if last.as_ref() == Some(&entry.source.path) || n_same + n_other >= DUMPS_MAX {
            continue;
        }
        match has_dump_of(dir, &entry) {
            Some(true) => n_same += 1,
            Some(false) => n_other += 1,
            None => {}
        }
        last = Some(entry.source.path);
    }
    Ok(n_same >= n_other && (has_log || n_same > 0))
}

/// Whether the dump of an item is as it was when it was read. `None` if it is gone or unknown.
fn has_dump_of(dir: &RunDir, entry: &MediaEntry) -> Option<bool> {
    let digest = entry.source.digest()?;
    dir.look(&entry.source.path)?;
    let file = dir.open_file(&entry.source.path).ok()?;
    let found = file.digest(digest.kind()).ok()?;
    file.give_back_cache();
    Some(found == digest)
}
