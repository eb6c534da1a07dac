//! Where the files of logs are, and the cursors of logs whose files are gone.

use std::fs;
use std::os::unix::fs::DirEntryExt;

use super::FileId;
use crate::ingest::logs::content::matches;
use crate::ingest::logs::cursors::Cursors;
use crate::ingest::logs::tail::Tail;
use crate::ingest::run_files::RunFiles;
use crate::store::journal::{Fingerprint, LogCursor};

/// Whether a path leads to this file.
pub(super) fn leads_to(files: &RunFiles, path: &str, id: FileId) -> bool {
    files.dir().look(path).is_some_and(|(dev, stamp)| (dev, stamp.ino) == id)
}

/// The path of the file with this inode in the folder of `path`.
pub(super) fn beside(files: &RunFiles, path: &str, ino: u64) -> Option<String> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let entries = fs::read_dir(files.dir().path().join(folder)).into_iter().flatten().flatten();
    let mut same = entries.filter(|entry| entry.ino() == ino);
    same.find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        Some(if folder.is_empty() { name } else { format!("{folder}/{name}") })
    })
}

/// Whether the file of a cursor lies in the folder of `path`, under another name.
pub(super) fn lies_beside(
    files: &RunFiles,
    path: &str,
    cursor: &LogCursor,
    file_id: FileId,
) -> bool {
    if cursor.dev != file_id.0 || cursor.ino == file_id.1 {
        return false;
    }
    let beside = beside(files, path, cursor.ino);
    let file = beside.and_then(|beside| files.dir().open_file(&beside).ok());
    file.is_some_and(|file| matches(&file.into_file(), cursor))
}

/// Replaces the cursor of a log whose file is gone. Another file of that name may be the same log, since
/// rsync and editors write a new file and rename it: its content decides. A file that gets the inode is
/// not the same log.
pub(super) fn retire(cursors: &mut Cursors, to_store: &mut Vec<LogCursor>, gone: &Tail) {
    cursors.remove((gone.dev, gone.ino));
    let by_content = gone.cursor().map(|cursor| cursors.set_by_content(cursor));
    if gone.is_known() {
        to_store.extend(by_content);
        to_store.push(without_file(gone.dev, gone.ino));
    }
}

/// Makes an empty cursor that replaces the one of an inode: no known log has this inode now.
pub(super) fn without_file(dev: u64, ino: u64) -> LogCursor {
    let nothing = Fingerprint::of(b"");
    LogCursor {
        path: String::new(),
        dev,
        ino,
        offset: 0,
        line: 0,
        head: nothing.clone(),
        tail: nothing,
        content: None,
        mtime_ns: None,
        generation: None,
        session: None,
        read: None,
    }
}
