//! The store: media files, journals and the index, and *when* they become durable.
//!
//! ```text
//! STORE/
//!   lock                                    names the process that holds the store
//!   ballast                                 8 MiB in reserve for a full disk
//!   tmp/                                    media files before their commit
//!   runs/<run id>/run.json                  identity, source directory
//!   runs/<run id>/journal/00000001.jsonl    the truth
//!   runs/<run id>/media/images/…            media files
//!   scrub.json                              how far media files were read again; derived
//!   cache/thumbs/                           thumbnails of the gallery, which writes nothing else; derived
//!   index/                                  sled; derived
//!   index.<n>/                              replaces `index` at the next start
//!   index.bad.<time>/                       a damaged index; the last two are kept
//! ```
//!
//! Only `Writer::commit` decides durability:
//!
//! 1. it syncs media files, renames them to names that end in their digests, and syncs their
//!    directories;
//! 2. it appends the group's journal lines and syncs the journal. A source's cursor is in the same
//!    batch as the items that were made of the source. **This is the commit**;
//! 3. it updates the index in one sled transaction, together with the journal offset that the index
//!    reflects;
//! 4. only then it returns.
//!
//! A crash before 2 leaves only stray files. A crash after 2 loses nothing: opening a store applies to
//! the index the journal lines that it lacks.
//!
//! | module | its one job |
//! | --- | --- |
//! | `commit` | a commit, and its journal lines |
//! | `findings` | media files that were found missing or damaged |
//! | `index` | where the journal has each item: a sled tree, rebuilt from the journals |
//! | `journal` | the items of a run, and how far each source was read |
//! | `left_out` | runs whose files in the store fail |
//! | `lock` | one process at a time holds a store |
//! | `media_check` | whether a media file is the one that was journaled |
//! | `media_dir` | stages and publishes media files |
//! | `missing` | which name of a query does not exist, and the nearest ones that do |
//! | `named_files` | which media files items still name: only others may be removed |
//! | `reader`, `writer` | queries; commits |
//! | `request` | requests to the writer's thread |
//! | `run_file` | the identity of a run, and the directory that it comes from |
//! | `scrub` | reads all media files, slowly |
//! | `space` | free space on the disk, and a reserve of it |

mod commit;
mod error;
pub(crate) mod findings;
mod index;
pub(crate) mod journal;
mod left_out;
pub mod lock;
pub(crate) mod media_check;
pub(crate) mod media_dir;
mod missing;
mod named_files;
mod reader;
mod request;
mod run_file;
pub(crate) mod scrub;
pub(crate) mod space;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use self::commit::Commit;
pub use self::error::StoreError;
pub use self::findings::{DamagedMedia, MediaStatus};
pub(crate) use self::index::{DumpRow, LineRow, WaitingItem};
pub use self::left_out::LeftOutRun;
use self::lock::{Holder, Lock};
pub use self::missing::KeysBelow;
pub(crate) use self::missing::{MissingName, nearest_steps};
pub(crate) use self::named_files::NamedFiles;
pub(crate) use self::reader::{Extent, ListPage, ListPlace, PageLimits, Selected, Standing};
pub use self::reader::{Filter, Reader, RejectedExample, RejectedItems, RunSummary, StateFilter};
pub(crate) use self::request::{Change, Removed, Request, Requests};
pub use self::run_file::RunInfo;
pub(crate) use self::writer::{ImageToPrune, Writer};
use crate::durable::Disk;
use crate::media::RunId;

/// The version of the layout above. A store of a newer version is not opened.
const FORMAT: u32 = 1;

/// Opens a store, creating it if needed, and brings the index up to date with the journals.
///
/// # Errors
/// If another process holds the store for longer than `patience`, the store is of a newer version, or
/// the disk fails. A damaged index is no error: it is rebuilt.
pub(crate) fn open(
    root: &Path,
    me: &Holder,
    patience: Duration,
) -> Result<(Writer, Reader), StoreError> {
    open_on(Disk::default(), root, me, patience)
}

/// Creates a store for one process in an empty folder. Nothing in it is durable.
///
/// # Errors
/// If the disk fails.
pub(crate) fn open_scratch(root: &Path, me: &Holder) -> Result<(Writer, Reader), StoreError> {
    open_on(Disk::scratch(), root, me, Duration::ZERO)
}

/// Opens a store on a disk that tests can watch.
fn open_on(
    disk: Disk,
    root: &Path,
    me: &Holder,
    patience: Duration,
) -> Result<(Writer, Reader), StoreError> {
    let writer = Writer::open(disk, root, me, patience)?;
    let reader = writer.reader();
    Ok((writer, reader))
}

fn take_lock(root: &Path, me: &Holder, patience: Duration) -> Result<Lock, StoreError> {
    let taken = Lock::take(root, me, patience);
    let taken = taken.map_err(|source| StoreError::File { path: root.join("lock"), source })?;
    taken.ok_or_else(|| StoreError::Held {
        path: root.to_owned(),
        holder: lock::holder(root).unwrap_or_default(),
    })
}

/// Removes the index, so that the next [`open`] builds it from the journals.
///
/// # Errors
/// If another process holds the store, or the disk fails.
pub(crate) fn remove_index(root: &Path, me: &Holder, patience: Duration) -> Result<(), StoreError> {
    let _lock = take_lock(root, me, patience)?;
    Ok(index::remove_all(root)?)
}

pub(crate) fn run_folder(root: &Path, run: &RunId) -> PathBuf {
    root.join("runs").join(run.folder())
}
