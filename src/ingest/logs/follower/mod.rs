//! Follows the logs of one run directory, through renames, copies and truncations.
//!
//! | module | its one job |
//! | --- | --- |
//! | `at_rest` | closes logs that are quiet, and finds out which of them have changed |
//! | `files` | where the files of logs are, and the cursors of logs whose files are gone |

mod at_rest;
mod files;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

pub(crate) use self::at_rest::{n_open_logs, open_logs_max};
use self::files::{leads_to, lies_beside, retire, without_file};
use super::content::{has_lines_of, matches};
use super::cursors::Cursors;
use super::resting::RestingLog;
use super::tail::{EmptyBytes, Tail};
use crate::ingest::run_files::RunFiles;
use crate::media::RunId;
use crate::run_dir::{ReadFailure, stamp_of};
use crate::store::journal::LogCursor;

/// Device and inode of a file.
type FileId = (u64, u64);

/// The logs of one run directory: those that are followed, and the cursors of all that are known.
///
/// A log that was read to its end and is quiet is closed. It is opened again and read on from its cursor when
/// it looks different, as after a restart.
#[derive(Debug, Default)]
pub(crate) struct LogFollower {
    tails: Vec<Tail>,
    /// The cursors of all logs that the store knows, and of those that are closed.
    cursors: Cursors,
    resting: HashMap<FileId, RestingLog>,
    look_at_resting: Option<Instant>,
    /// Logs that wait until another one is closed, in the order in which they were found.
    queued: VecDeque<String>,
    is_queued: HashSet<String>,
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
    /// The log whose turn is next, if not all logs had a turn.
    pub(crate) first_to_read: usize,
}

/// What a look at one log found.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LogLook {
    /// Whether anything was read.
    pub(crate) has_read: bool,
    /// Whether what was read makes no line.
    pub(crate) is_empty: bool,
}

impl LogFollower {
    /// Sets the cursors that the store has for the run's logs.
    pub(crate) fn set_cursors(&mut self, cursors: Vec<LogCursor>) {
        self.cursors = Cursors::new(cursors);
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
        !self.postponed.is_empty() || !self.queued.is_empty()
    }

    /// Whether logs wait until another one is closed.
    pub(crate) fn has_queued(&self) -> bool {
        !self.queued.is_empty()
    }

    /// Whether there are no logs.
    pub(crate) fn is_empty(&self) -> bool {
        self.tails.is_empty() && self.resting.is_empty() && !self.has_postponed()
    }

    /// The closed logs that end in a line without its newline, each with the length of that line.
    pub(crate) fn begun_at_rest(&self) -> impl Iterator<Item = (&str, u64)> {
        let begun = self.resting.values().filter(|log| log.n_begun > 0);
        begun.map(|log| (log.path.as_str(), log.n_begun))
    }

    /// The paths of the logs, also of those that are closed.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        let resting = self.resting.values().map(|log| log.path.as_str());
        self.tails.iter().map(|tail| tail.path.as_str()).chain(resting)
    }

    /// The logs with many bytes that hold no line.
    pub(crate) fn empty(&self) -> impl Iterator<Item = (&str, EmptyBytes)> {
        let resting = self.resting.values().map(|log| (log.path.as_str(), log.empty));
        let tails = self.tails.iter().map(|tail| (tail.path.as_str(), tail.empty()));
        tails.chain(resting).filter(|(_, empty)| empty.many().is_some())
    }

    /// The logs that the machine fails to read, and why. Links and special files are passed over instead.
    pub(crate) fn unreadable(&self) -> impl Iterator<Item = (&str, &str)> {
        let followed =
            self.tails.iter().filter_map(|tail| Some((&tail.path, tail.error.as_ref()?)));
        self.unreadable.iter().chain(followed).map(|(path, why)| (path.as_str(), why.as_str()))
    }

    /// Whether a file with this inode is or was a log, under any name.
    pub(crate) fn knows_inode(&self, ino: u64) -> bool {
        self.cursors.with_ino(ino).iter().any(|cursor| cursor.head.n_bytes > 0)
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
        let look = files.dir().look(path);
        if !files.is_log(path) && !look.is_some_and(|(_, stamp)| self.knows_inode(stamp.ino)) {
            self.postponed.remove(path);
            return 0;
        }
        if let Some((dev, stamp)) = look
            && let Some(resting) = self.resting.get(&(dev, stamp.ino))
            && resting.is_unchanged(stamp)
            && (resting.path == path || leads_to(files, &resting.path, (dev, stamp.ino)))
        {
            self.postponed.remove(path);
            return 0;
        }
        let is_followed = look.is_some_and(|(dev, stamp)| {
            self.tails.iter().any(|tail| (tail.dev, tail.ino) == (dev, stamp.ino))
        });
        if look.is_some() && !is_followed && !self.has_room() {
            if self.is_queued.insert(path.to_owned()) {
                self.queued.push_back(path.to_owned());
            }
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
            if tail.path != path && !leads_to(files, &tail.path, (dev, ino)) {
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
                self.note_name(files, &file, path, (dev, ino));
                return Ok(None);
            }
            let old = self.tails.swap_remove(replaced);
            retire(&mut self.cursors, &mut self.to_store, &old);
        }
        let mut cursor = self.cursor_of(files, &file, path, (dev, ino)).cloned();
        // A file with two names is one log, under the name that it has had.
        let path = match &cursor {
            Some(known) if (known.dev, known.ino) == (dev, ino) && known.path != path => {
                if leads_to(files, &known.path, (dev, ino)) {
                    known.path.clone()
                } else {
                    path.to_owned()
                }
            }
            _ => path.to_owned(),
        };
        let path = path.as_str();
        let resting = self.resting.get(&(dev, ino));
        // A log that was closed and has grown is compared as an open one is: by its ends.
        let has_grown = resting.is_some_and(|resting| resting.has_grown(meta.len()));
        if let Some(known) = &cursor
            && files.is_log(path)
            && !has_grown
            && !has_lines_of(&file, known).map_err(unreadable)?
        {
            tracing::info!(%run, path, "log was rewritten, it is read from its start");
            cursor = None;
        }
        if !files.is_log(path) && cursor.is_none() {
            return Ok(Some(0));
        }
        let tail = Tail::open(file, path.to_owned(), cursor.as_ref(), line_bytes_max);
        let mut tail = tail.map_err(unreadable)?;
        if self.resting.remove(&(dev, ino)).is_some_and(|log| log.has_stamp(stamp_of(&meta))) {
            tail.set_unchanged();
        }
        if cursor.is_none() {
            // The same file was truncated or written anew: its job goes on, without a word.
            let known = self.cursors.get((dev, ino)).filter(|known| known.path == path);
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

    /// Notes the new name of a known log that must wait: a copy of the log may take its place before then, and is
    /// told by that name.
    fn note_name(&mut self, files: &RunFiles, file: &File, path: &str, id: FileId) {
        if let Some(known) = self.cursors.get(id).cloned()
            && known.path != path
            && matches(file, &known)
            && !leads_to(files, &known.path, id)
        {
            self.move_cursor(&known, LogCursor { path: path.to_owned(), ..known.clone() });
        }
    }

    /// Turns all other cursors with the inode of this log into cursors by content: they are of logs that
    /// are gone, and that may come back under their names.
    fn free_inode(&mut self, id: FileId, own: Option<&LogCursor>) {
        let is_gone = |cursor: &LogCursor| Some(cursor) != own && !cursor.path.is_empty();
        if self.cursors.get(id).is_some_and(is_gone)
            && let Some(gone) = self.cursors.remove(id)
        {
            let by_content = self.cursors.set_by_content(gone);
            // A log that is empty has no cursor yet that would take the place of the old one.
            self.to_store.extend([by_content, without_file(id.0, id.1)]);
        }
    }

    /// Replaces the cursor of a log that has another name or file than the store knows. If the file is
    /// another one, the old file is gone, and a new file may get its inode.
    fn move_cursor(&mut self, before: &LogCursor, now: LogCursor) {
        if *before == now {
            return;
        }
        let id = (before.dev, before.ino);
        self.cursors.remove_this(before);
        self.cursors.set(now.clone());
        if id != (now.dev, now.ino) {
            self.resting.remove(&id);
        }
        let is_gone = id != (now.dev, now.ino)
            && before.dev != 0
            && self.tails.iter().all(|tail| (tail.dev, tail.ino) != id);
        self.to_store.push(now);
        self.to_store.extend(is_gone.then(|| without_file(before.dev, before.ino)));
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
        file_id: FileId,
    ) -> Option<&LogCursor> {
        let id = |cursor: &LogCursor| (cursor.dev, cursor.ino);
        // Inodes are soon used again: a cursor that does not match is that of another file.
        let same_file = self.cursors.get(file_id).filter(|cursor| matches(file, cursor));
        if same_file.is_some() {
            return same_file;
        }
        let same_name = |cursor: &&LogCursor| {
            let is_followed = self.tails.iter().any(|tail| tail.is_of(cursor))
                || self
                    .resting
                    .get(&id(cursor))
                    .is_some_and(|log| leads_to(files, &log.path, id(cursor)));
            matches(file, cursor) && !is_followed && !lies_beside(files, path, cursor, file_id)
        };
        let same_name = self.cursors.with_path(path).filter(same_name);
        same_name.max_by_key(|cursor| (cursor.offset, cursor.dev, cursor.ino))
    }

    /// Begins a look at the logs. `is_all_listed` says whether every folder of the run was listed.
    pub(crate) fn begin_look(&mut self, files: &RunFiles, is_all_listed: bool) {
        if is_all_listed {
            self.check_inodes(files);
        }
    }

    /// Reads on in the log with this number, unless lines of it wait to be handled.
    pub(crate) fn look_at(&mut self, run: &RunId, i: usize, now: Instant) -> LogLook {
        let Self { tails, to_store, .. } = self;
        let Some(tail) = tails.get_mut(i) else { return LogLook::default() };
        // Lines that were read are handled before more is read. A line waits from the time when it was
        // written, not from when it is read.
        if tail.front().is_some() {
            tail.note_growth(now);
            return LogLook::default();
        }
        let is_again = tail.has_given_back();
        match tail.poll(now) {
            Ok(polled) => {
                if polled.restarted {
                    tracing::info!(%run, path = tail.path, "log was truncated or rewritten, it is read from its start");
                }
                if tail.error.take().is_some() {
                    tracing::info!(%run, path = tail.path, "log can be read again");
                }
                to_store.extend(if polled.n_bytes > 0 { tail.start() } else { None });
                LogLook { has_read: polled.n_bytes > 0 && !is_again, is_empty: polled.is_empty }
            }
            Err(error) => {
                let error = error.to_string();
                if tail.error.as_ref() != Some(&error) {
                    tracing::warn!(%run, error, path = tail.path, "cannot read log, will retry");
                    tail.error = Some(error);
                }
                LogLook::default()
            }
        }
    }

    /// Ends a look: forgets the logs that are gone, and closes those that are quiet.
    pub(crate) fn end_look(&mut self, now: Instant) {
        let Self { tails, cursors, to_store, retry_at, .. } = self;
        tails.retain(|tail| {
            if tail.is_gone() {
                retire(cursors, to_store, tail);
                *retry_at = None;
            }
            !tail.is_gone()
        });
        self.rest(now, false);
    }

    /// Compares the stored cursors with the files, once all folders were listed and all logs are followed.
    /// The cursor of a log that is gone loses its inode, which another file may get soon.
    fn check_inodes(&mut self, files: &RunFiles) {
        if self.has_checked_inodes || self.has_postponed() {
            return;
        }
        self.has_checked_inodes = true;
        // A log that was renamed between the listing and the look at the found files is not followed under
        // its new name yet: only its inode says that it is a log.
        let is_here = |cursor: &LogCursor| {
            cursor.dev == 0
                || cursor.path.is_empty()
                || self.resting.contains_key(&(cursor.dev, cursor.ino))
                || self.tails.iter().any(|tail| tail.is_of(cursor))
                || lies_beside(files, &cursor.path, cursor, (cursor.dev, 0))
        };
        let mut gone: Vec<LogCursor> =
            self.cursors.iter().filter(|cursor| !is_here(cursor)).cloned().collect();
        gone.sort_by_key(|cursor| (cursor.dev, cursor.ino));
        for cursor in gone {
            let id = (cursor.dev, cursor.ino);
            let is_taken = self.tails.iter().any(|tail| (tail.dev, tail.ino) == id);
            self.cursors.remove(id);
            let without_file = (!is_taken).then(|| without_file(id.0, id.1));
            self.to_store.push(self.cursors.set_by_content(cursor));
            self.to_store.extend(without_file);
        }
    }

    /// Returns the cursors that the store must learn.
    pub(crate) fn take_to_store(&mut self) -> Vec<LogCursor> {
        std::mem::take(&mut self.to_store)
    }
}
