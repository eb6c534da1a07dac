//! Follows the logs of one run directory, through renames, copies and truncations.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::time::{Duration, Instant};

use super::Tail;
use crate::ingest::run_files::RunFiles;
use crate::media::RunId;
use crate::run_dir::ReadFailure;
use crate::store::journal::{Fingerprint, LogCursor};

/// The pause between two attempts to follow a log.
const RETRY: Duration = Duration::from_millis(500);

/// The logs of one run directory: those that are followed, and the cursors of all that are known.
#[derive(Debug, Default)]
pub(crate) struct LogFollower {
    tails: Vec<Tail>,
    /// The cursors of all logs that the store knows.
    cursors: Vec<LogCursor>,
    /// Logs that cannot be followed yet, and why. The reason is empty for a log that must wait until the
    /// log that had its name before is read to its end.
    postponed: BTreeMap<String, String>,
    /// Those of them that the machine fails to read, and why.
    unreadable: BTreeMap<String, String>,
    retry_at: Option<Instant>,
    /// Cursors that the store must learn. Without them, a log that is renamed before its first line is
    /// handled would not be known as a log, and a new file with the inode of a removed log would be
    /// taken for that log.
    to_store: Vec<LogCursor>,
    /// Whether the inodes of the stored cursors were compared with the files in the run directory.
    has_checked_inodes: bool,
}

/// What a look at all logs found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PollResult {
    /// Whether lines wait to be handled.
    pub(crate) has_lines: bool,
    /// Whether anything was read.
    pub(crate) has_read: bool,
}

impl LogFollower {
    /// Sets the cursors that the store has for the run's logs.
    pub(crate) fn set_cursors(&mut self, cursors: Vec<LogCursor>) {
        self.cursors = cursors;
    }

    /// The logs that are followed.
    pub(crate) fn tails(&self) -> &[Tail] {
        &self.tails
    }

    /// The logs that are followed, to handle their lines.
    pub(crate) fn tails_mut(&mut self) -> &mut [Tail] {
        &mut self.tails
    }

    /// Whether logs wait to be followed.
    pub(crate) fn has_postponed(&self) -> bool {
        !self.postponed.is_empty()
    }

    /// The logs that the machine fails to read, and why. Links and special files are passed over instead.
    pub(crate) fn unreadable(&self) -> impl Iterator<Item = (&str, &str)> {
        let followed =
            self.tails.iter().filter_map(|tail| Some((&tail.path, tail.error.as_ref()?)));
        self.unreadable.iter().chain(followed).map(|(path, why)| (path.as_str(), why.as_str()))
    }

    /// Whether a file with this inode is or was a log, under any name.
    pub(crate) fn knows_inode(&self, ino: u64) -> bool {
        self.cursors.iter().any(|cursor| cursor.ino == ino && cursor.head.n_bytes > 0)
            || self.tails.iter().any(|tail| tail.ino == ino)
    }

    /// Follows a log from its cursor, unless it is followed already. Postpones a log that cannot be
    /// followed now. Returns the number of unread lines if `count` is set.
    pub(crate) fn follow(
        &mut self,
        run: &RunId,
        files: &RunFiles,
        path: &str,
        line_bytes_max: u64,
        count: bool,
    ) -> u64 {
        let stamp = files.dir().stat(path);
        if !files.is_log(path) && !stamp.is_some_and(|stamp| self.knows_inode(stamp.ino)) {
            self.postponed.remove(path);
            return 0;
        }
        self.unreadable.remove(path);
        match self.try_to_follow(run, files, path, line_bytes_max, count) {
            Ok(Some(n_lines)) => {
                self.postponed.remove(path);
                n_lines
            }
            Ok(None) => {
                self.postponed.insert(path.to_owned(), String::new());
                0
            }
            // The log was removed.
            Err(ReadFailure::Wait(_)) => {
                self.postponed.remove(path);
                0
            }
            Err(failure) => {
                let may_be_readable = matches!(failure, ReadFailure::Retry(_));
                let error = failure.reason();
                if files.is_log(path) && self.postponed.get(path) != Some(&error) {
                    tracing::warn!(%run, %error, "log is not followed");
                }
                if may_be_readable {
                    self.unreadable.insert(path.to_owned(), error.clone());
                }
                self.postponed.insert(path.to_owned(), error);
                0
            }
        }
    }

    /// Follows a log, or returns `None` if it must be tried again later.
    fn try_to_follow(
        &mut self,
        run: &RunId,
        files: &RunFiles,
        path: &str,
        line_bytes_max: u64,
        count: bool,
    ) -> Result<Option<u64>, ReadFailure> {
        let unreadable =
            |error: io::Error| ReadFailure::Retry(format!("{path:?} cannot be read: {error}"));
        let file = files.dir().open_file(path)?.into_file();
        let meta = file.metadata().map_err(unreadable)?;
        let (dev, ino) = (meta.dev(), meta.ino());
        if let Some(tail) = self.tails.iter_mut().find(|tail| (tail.dev, tail.ino) == (dev, ino)) {
            if tail.path != path {
                path.clone_into(&mut tail.path);
                self.to_store.extend(tail.cursor());
            }
            return Ok(Some(0));
        }
        while let Some(replaced) =
            self.tails.iter().position(|tail| tail.path == path && tail.is_unlinked())
        {
            // Another file was renamed over it, as rsync and editors do. The rest of the old file comes
            // first.
            if !self.tails[replaced].is_drained() {
                return Ok(None);
            }
            let old = self.tails.swap_remove(replaced);
            retire(&mut self.cursors, &mut self.to_store, &old);
        }
        let mut cursor = self.cursor_of(files, &file, path, (dev, ino)).cloned();
        if let Some(known) = &cursor
            && files.is_log(path)
            && !Tail::has_lines_of(&file, known).map_err(unreadable)?
        {
            tracing::info!(%run, path, "log was rewritten, it is read from its start");
            cursor = None;
        }
        if !files.is_log(path) && cursor.is_none() {
            return Ok(Some(0));
        }
        let tail = Tail::open(file, path.to_owned(), cursor.as_ref(), line_bytes_max);
        let mut tail = tail.map_err(unreadable)?;
        if cursor.is_none() {
            // The same file was truncated or written anew: its job goes on, without a word.
            let is_same =
                |known: &&LogCursor| (known.dev, known.ino, &*known.path) == (dev, ino, path);
            let known = self.cursors.iter().find(is_same);
            tail.set_session(known.and_then(|known| known.session.clone()));
        }
        let n_lines = if count { tail.count_unread_lines().unwrap_or(0) } else { 0 };
        let offset = cursor.as_ref().map_or(0, |cursor| cursor.offset);
        tracing::debug!(%run, offset, path, "log is followed");
        self.free_inode((dev, ino), cursor.as_ref());
        match cursor {
            Some(before) => {
                let now = LogCursor { path: path.to_owned(), dev, ino, ..before.clone() };
                self.move_cursor(&before, now);
            }
            None => self.to_store.extend(tail.start()),
        }
        self.tails.push(tail);
        Ok(Some(n_lines))
    }

    /// Turns all other cursors with the inode of this log into cursors by content: they are of logs that
    /// are gone, and that may come back under their names.
    fn free_inode(&mut self, id: (u64, u64), own: Option<&LogCursor>) {
        let is_gone = |cursor: &mut LogCursor| {
            (cursor.dev, cursor.ino) == id && Some(&*cursor) != own && !cursor.path.is_empty()
        };
        let gone: Vec<LogCursor> = self.cursors.extract_if(.., is_gone).map(by_content).collect();
        self.to_store.extend(gone.clone());
        self.cursors.extend(gone);
    }

    /// Replaces the cursor of a log that has another name or file than the store knows. If the file is
    /// another one, the old file is gone, and a new file may get its inode.
    fn move_cursor(&mut self, before: &LogCursor, now: LogCursor) {
        if *before == now {
            return;
        }
        let id = (before.dev, before.ino);
        self.cursors.retain(|cursor| cursor != before);
        self.cursors.push(now.clone());
        let is_gone = id != (now.dev, now.ino)
            && before.dev != 0
            && self.tails.iter().all(|tail| (tail.dev, tail.ino) != id);
        self.to_store.push(now);
        self.to_store.extend(is_gone.then(|| without_file(before.dev, before.ino)));
    }

    /// Returns the postponed logs if it is time to try them again.
    pub(crate) fn take_retries(&mut self, now: Instant) -> Vec<String> {
        if self.postponed.is_empty() || self.retry_at.is_some_and(|at| at > now) {
            return Vec::new();
        }
        self.retry_at = Some(now + RETRY);
        self.postponed.keys().cloned().collect()
    }

    /// Finds the cursor of the log that this file is. The file must begin as the log did, and have the
    /// line that was read last. Then it is the log with the same inode or, since a copied or newly mounted
    /// run directory has other inodes, the log of the same name. The name does not count if the log's own
    /// file is followed under another name or lies in the same folder.
    fn cursor_of(
        &self,
        files: &RunFiles,
        file: &File,
        path: &str,
        file_id: (u64, u64),
    ) -> Option<&LogCursor> {
        let id = |cursor: &LogCursor| (cursor.dev, cursor.ino);
        // Inodes are soon used again: a cursor that does not match is that of another file.
        let mut matching: Vec<&LogCursor> =
            self.cursors.iter().filter(|cursor| Tail::matches(file, cursor)).collect();
        matching.sort_by_key(|cursor| cursor.offset);
        let same_file = matching.iter().rfind(|cursor| id(cursor) == file_id);
        let same_name = |cursor: &&&LogCursor| {
            let is_followed = self.tails.iter().any(|tail| tail.is_of(cursor));
            cursor.path == path && !is_followed && !lies_beside(files, path, cursor, file_id)
        };
        same_file.or_else(|| matching.iter().rfind(same_name)).copied()
    }

    /// Reads on in all logs. `is_all_listed` says whether every folder of the run was listed.
    pub(crate) fn poll(
        &mut self,
        run: &RunId,
        files: &RunFiles,
        is_all_listed: bool,
        now: Instant,
    ) -> PollResult {
        if is_all_listed {
            self.check_inodes(files);
        }
        let mut has_read = false;
        self.tails.retain_mut(|tail| {
            // Lines that were read are handled before more is read. A line waits from the time when it was
            // written, not from when it is read.
            if tail.front().is_some() {
                tail.note_growth(now);
                return true;
            }
            match tail.poll(now) {
                Ok(polled) => {
                    if polled.restarted {
                        tracing::info!(%run, path = tail.path, "log was truncated or rewritten, it is read from its start");
                    }
                    if tail.error.take().is_some() {
                        tracing::info!(%run, path = tail.path, "log can be read again");
                    }
                    has_read |= polled.n_bytes > 0;
                    self.to_store.extend(if polled.n_bytes > 0 { tail.start() } else { None });
                    if polled.is_gone {
                        retire(&mut self.cursors, &mut self.to_store, tail);
                        self.retry_at = None;
                    }
                    !polled.is_gone
                }
                Err(error) => {
                    let error = error.to_string();
                    if tail.error.as_ref() != Some(&error) {
                        tracing::warn!(%run, error, path = tail.path, "cannot read log, will retry");
                        tail.error = Some(error);
                    }
                    true
                }
            }
        });
        PollResult { has_lines: self.tails.iter().any(|tail| tail.front().is_some()), has_read }
    }

    /// Compares the stored cursors with the files, once all folders were listed and all logs are followed.
    /// The cursor of a log that is gone loses its inode, which another file may get soon.
    fn check_inodes(&mut self, files: &RunFiles) {
        if self.has_checked_inodes || !self.postponed.is_empty() {
            return;
        }
        self.has_checked_inodes = true;
        let cursors = std::mem::take(&mut self.cursors);
        // A log that was renamed between the listing and the look at the found files is not followed under
        // its new name yet: only its inode says that it is a log.
        let is_here = |cursor: &LogCursor| {
            cursor.dev == 0
                || cursor.path.is_empty()
                || self.tails.iter().any(|tail| tail.is_of(cursor))
                || lies_beside(files, &cursor.path, cursor, (cursor.dev, 0))
        };
        let (here, gone): (Vec<_>, Vec<_>) = cursors.into_iter().partition(is_here);
        self.cursors = here;
        for cursor in gone {
            let is_taken =
                self.tails.iter().any(|tail| (tail.dev, tail.ino) == (cursor.dev, cursor.ino));
            let without_file = (!is_taken).then(|| without_file(cursor.dev, cursor.ino));
            let by_content = by_content(cursor);
            self.cursors.push(by_content.clone());
            self.to_store.push(by_content);
            self.to_store.extend(without_file);
        }
    }

    /// Returns the cursors that the store must learn.
    pub(crate) fn take_to_store(&mut self) -> Vec<LogCursor> {
        std::mem::take(&mut self.to_store)
    }
}

/// Whether the file of a cursor lies in the folder of `path`, under another name.
fn lies_beside(files: &RunFiles, path: &str, cursor: &LogCursor, file_id: (u64, u64)) -> bool {
    if cursor.dev != file_id.0 || cursor.ino == file_id.1 {
        return false;
    }
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let entries = fs::read_dir(files.dir().path().join(folder)).into_iter().flatten().flatten();
    entries.filter(|entry| entry.ino() == cursor.ino).any(|entry| {
        let name = entry.file_name();
        let beside = name.to_str().map(|name| match folder {
            "" => name.to_owned(),
            _ => format!("{folder}/{name}"),
        });
        let file = beside.and_then(|beside| files.dir().open_file(&beside).ok());
        file.is_some_and(|file| Tail::matches(&file.into_file(), cursor))
    })
}

/// Replaces the cursor of a log whose file is gone. Another file of that name may be the same log, since
/// rsync and editors write a new file and rename it: its content decides. A file that gets the inode is
/// not the same log.
fn retire(cursors: &mut Vec<LogCursor>, to_store: &mut Vec<LogCursor>, gone: &Tail) {
    let by_content = gone.cursor().map(by_content);
    let id = |cursor: &LogCursor| (cursor.dev, cursor.ino);
    cursors.retain(|cursor| id(cursor) != (gone.dev, gone.ino));
    cursors.retain(|cursor| by_content.as_ref().is_none_or(|new| id(new) != id(cursor)));
    cursors.extend(by_content.clone());
    if gone.is_known() {
        to_store.extend(by_content);
        to_store.push(without_file(gone.dev, gone.ino));
    }
}

/// Makes a cursor that names its log by path and content alone: the store keys cursors by device and
/// inode, so the device is 0, and a hash of the path takes the place of the inode.
fn by_content(cursor: LogCursor) -> LogCursor {
    let mut hasher = DefaultHasher::new();
    cursor.path.hash(&mut hasher);
    LogCursor { dev: 0, ino: hasher.finish(), ..cursor }
}

/// Makes an empty cursor that replaces the one of an inode: no known log has this inode now.
fn without_file(dev: u64, ino: u64) -> LogCursor {
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
