//! Follows one media log: reads new lines, through renames, truncations and restarts.
//!
//! A log is identified by device and inode *and* by its content: digests of its first bytes and of the last
//! line that was read. An inode alone may be used again for another file, and a name alone moves on to
//! another file when logs are rotated.
//!
//! | module | its one job |
//! | --- | --- |
//! | `reading` | reads what was appended, and notices when the log was truncated or rewritten |
//! | `empty` | bytes that hold no line |

mod empty;
mod reading;

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

pub(crate) use self::empty::EmptyBytes;
use super::buffers::Buffered;
use super::content::{HEAD_BYTES, READ_BYTES, matches, mtime_ns, read_range};
use super::lines::{LineSplitter, RawLine};
use super::resting::RestingLog;
use crate::descriptors::{OpenCount, OpenGuard};
use crate::media::{LineDigest, Session};
use crate::store::journal::{Fingerprint, LogCursor, ReadLine};

/// Bytes at the end of the last line that was read, to check that the line is still there.
const TAIL_BYTES: usize = 256;

/// Two changes within this time may leave the same change time.
const CLOCK_TICK: Duration = Duration::from_secs(2);

/// A line without its newline keeps no more bytes than this in memory between two looks. A longer one is read
/// again when its newline is there.
const BEGUN_KEPT_MAX: usize = 4096;

/// How long a log must not change before it is closed.
const QUIET: Duration = Duration::from_mins(1);

/// Logs that are open.
pub(super) static OPEN_LOGS: OpenCount = OpenCount::new();

/// A media log that is being followed.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Tail {
    /// The path relative to the run directory. It changes when the log is renamed.
    pub(crate) path: String,
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    file: File,
    _open: OpenGuard,
    line_bytes_max: u64,
    splitter: LineSplitter,
    /// The end of what was read. The splitter is behind it if a line without its newline is not kept.
    seen: u64,
    /// The end of lines that were read and given back.
    given_back: u64,
    /// The file's length when it was read last.
    length: u64,
    /// The first bytes, up to [`HEAD_BYTES`].
    head: Vec<u8>,
    /// The fingerprint of the first [`HEAD_BYTES`], once it was asked for.
    head_print: OnceCell<Fingerprint>,
    /// The last bytes that were read, to notice when the log was rewritten.
    last: Vec<u8>,
    /// Lines that were read and wait to be handled.
    lines: VecDeque<RawLine>,
    buffered: Buffered,
    handled: Handled,
    /// Bytes that hold no line: empty lines and zero bytes since the last line that was more.
    empty: EmptyBytes,
    /// Tells the log from others, and from what it was before it was truncated or rewritten.
    generation: u32,
    /// Who wrote the next line. A job that goes on after its log was truncated is the same.
    session: Option<Session>,
    /// Whether it was logged that lines of the log were read before.
    pub(crate) has_logged_repeats: bool,
    is_given_up: bool,
    /// Whether the file has no name any more and was read to its end.
    is_gone: bool,
    /// Whether the store has no cursor of this log.
    is_unknown: bool,
    /// The first bytes in the cursor that the store got before anything was read.
    stored_head: Option<Fingerprint>,
    /// Why the log cannot be read now.
    pub(crate) error: Option<String>,
    /// The file's change time.
    ctime: Option<(i64, i64)>,
    /// The file's modification time before it was read last.
    mtime_ns: i64,
    /// When the change time was seen to change.
    touched: Option<Instant>,
    /// Lengths of the log, and when it was seen to have them, oldest first.
    growth: VecDeque<(u64, Instant)>,
}

/// The end of the last line that was handled.
#[derive(Debug)]
struct Handled {
    offset: u64,
    number: u64,
    /// The last bytes before `offset`.
    last: Vec<u8>,
    /// The digest of all lines before `offset`. `None` if it is not known what they were.
    content: Option<LineDigest>,
}

impl Handled {
    fn nothing() -> Self {
        Self { offset: 0, number: 0, last: Vec::new(), content: Some(LineDigest::of(b"")) }
    }
}

/// What [`Tail::poll`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Polled {
    /// Bytes that were read.
    pub(crate) n_bytes: u64,
    /// Whether the log was truncated or rewritten, and is read from its start.
    pub(crate) restarted: bool,
    /// Whether what was read was empty lines, zero bytes or the rest of a line that is too long.
    pub(crate) is_empty: bool,
}

impl Tail {
    /// Follows `file` from `cursor`, or from its start.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn open(
        file: File,
        path: String,
        cursor: Option<&LogCursor>,
        line_bytes_max: u64,
    ) -> io::Result<Self> {
        let meta = file.metadata()?;
        let handled = cursor.filter(|cursor| cursor.offset > 0).map(|cursor| Handled {
            offset: cursor.offset,
            number: cursor.line,
            last: Vec::new(),
            content: cursor.content,
        });
        let handled = handled.unwrap_or_else(Handled::nothing);
        let Handled { offset, number, content, .. } = handled;
        let mut tail = Self {
            path,
            dev: meta.dev(),
            ino: meta.ino(),
            file,
            _open: OPEN_LOGS.add(),
            line_bytes_max,
            seen: offset,
            given_back: 0,
            length: meta.len(),
            splitter: LineSplitter::new(line_bytes_max, offset, number, content),
            head: Vec::new(),
            head_print: OnceCell::new(),
            last: Vec::new(),
            lines: VecDeque::new(),
            buffered: Buffered::default(),
            handled,
            empty: EmptyBytes::default(),
            generation: cursor.and_then(|cursor| cursor.generation).unwrap_or_else(new_generation),
            session: cursor.and_then(|cursor| cursor.session.clone()),
            has_logged_repeats: false,
            is_given_up: false,
            is_gone: false,
            is_unknown: cursor.is_none(),
            // Nothing of it was read: only its content can say whether it is the log that the store knows.
            stored_head: cursor
                .filter(|cursor| cursor.offset == 0)
                .map(|cursor| cursor.head.clone()),
            error: None,
            ctime: None,
            mtime_ns: mtime_ns(&meta),
            touched: None,
            growth: VecDeque::new(),
        };
        tail.head = read_range(&tail.file, 0, offset.min(HEAD_BYTES))?;
        let n_last = offset.min(TAIL_BYTES as u64);
        tail.last = read_range(&tail.file, offset - n_last, n_last)?;
        tail.handled.last.clone_from(&tail.last);
        Ok(tail)
    }

    /// Whether a cursor is that of this log.
    pub(crate) fn is_of(&self, cursor: &LogCursor) -> bool {
        (self.dev, self.ino) == (cursor.dev, cursor.ino) && matches(&self.file, cursor)
    }

    /// Closes the log if all of it was read and handled, and nothing changed for a while or `at_once` is set.
    /// Returns its cursor, if its content identifies it.
    pub(super) fn rest(
        &self,
        now: Instant,
        at_once: bool,
    ) -> Option<(Option<LogCursor>, RestingLog)> {
        let is_quiet = self.touched.is_none_or(|at| now.saturating_duration_since(at) >= QUIET);
        let is_read = self.ctime.is_some() && self.lines.is_empty() && self.error.is_none();
        if self.is_given_up || !is_read || !(is_quiet || at_once) {
            return None;
        }
        let meta = self.file.metadata().ok()?;
        let ctime = (meta.ctime(), meta.ctime_nsec());
        // What lies between is zero bytes at the end.
        let is_at_end = self.seen + self.empty.at_end >= meta.len();
        let is_same = self.ctime == Some(ctime) && self.length == meta.len() && meta.nlink() > 0;
        let cursor = self.cursor();
        if !is_same || !is_at_end || self.is_unknown && cursor.is_some() {
            return None;
        }
        let is_fresh = self.touched.is_some_and(|at| now.duration_since(at) <= CLOCK_TICK);
        let path = self.path.clone();
        let resting = RestingLog::new(path, &meta, self.n_begun(), self.empty, is_fresh);
        Some((cursor, resting))
    }

    /// Whether the file, of this length, still has the first and the last bytes that were read.
    fn is_as_read(&self, length: u64) -> bool {
        let offset = self.seen;
        let is = |at: u64, want: &[u8]| {
            read_range(&self.file, at, want.len() as u64).is_ok_and(|bytes| bytes == want)
        };
        length >= offset && is(0, &self.head) && is(offset - self.last.len() as u64, &self.last)
    }

    /// Notes the current length of the log.
    pub(crate) fn note_growth(&mut self, now: Instant) {
        const MARKS_MAX: usize = 64;
        let length = self.file.metadata().map_or(0, |meta| meta.len()).max(self.seen);
        if self.growth.back().is_some_and(|(end, _)| *end >= length) {
            return;
        }
        if self.growth.len() == MARKS_MAX {
            self.growth.remove(MARKS_MAX / 2);
        }
        self.growth.push_back((length, now));
    }

    /// Drops the lines that wait, and reads no more.
    pub(crate) fn give_up(&mut self) {
        self.lines.clear();
        self.buffered.clear();
        self.is_given_up = true;
    }

    /// Whether the file has no name any more and was read to its end.
    pub(super) fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Notes that the file looks as it did when it was read and compared last.
    pub(super) fn set_unchanged(&mut self) {
        let ctime = self.file.metadata().map(|meta| (meta.ctime(), meta.ctime_nsec()));
        self.ctime = ctime.ok();
    }

    /// Whether the file has no name any more.
    pub(crate) fn is_unlinked(&self) -> bool {
        self.file.metadata().is_ok_and(|meta| meta.nlink() == 0)
    }

    /// Whether all of the file was read and handled.
    pub(crate) fn is_drained(&self) -> bool {
        let length = self.file.metadata().map_or(0, |meta| meta.len());
        // The file may have been rewritten before it lost its name.
        self.lines.is_empty() && self.seen == length && self.is_as_read(length)
    }

    /// Returns the cursor of a log that the store does not know, once. `None` while the log has no content
    /// to identify it by.
    pub(crate) fn start(&mut self) -> Option<LogCursor> {
        if !self.is_unknown {
            return None;
        }
        let start = self.cursor();
        self.is_unknown = start.is_none();
        self.stored_head = start.as_ref().map(|start| start.head.clone());
        start
    }

    /// Returns the cursor after the last line that was handled. `None` if the log has no content to identify
    /// it by.
    pub(crate) fn cursor(&self) -> Option<LogCursor> {
        let Handled { offset, number, last, content } = &self.handled;
        let head = if *offset > 0 {
            self.head_fingerprint(*offset)
        } else {
            let length = self.file.metadata().ok()?.len().min(HEAD_BYTES);
            let head = read_range(&self.file, 0, length).ok()?;
            // Zero bytes identify nothing.
            Fingerprint::of(if head.iter().all(|byte| *byte == 0) { b"" } else { &head })
        };
        (head.n_bytes > 0).then(|| LogCursor {
            path: self.path.clone(),
            dev: self.dev,
            ino: self.ino,
            offset: *offset,
            line: *number,
            head,
            tail: Fingerprint::of(last),
            content: *content,
            mtime_ns: Some(self.mtime_ns),
            generation: Some(self.generation),
            session: self.session.clone(),
            read: None,
        })
    }

    /// Whether the store has a cursor of this log.
    pub(crate) fn is_known(&self) -> bool {
        !self.is_unknown
    }

    /// The next line to handle.
    pub(crate) fn front(&self) -> Option<&RawLine> {
        self.lines.front()
    }

    /// Drops the next line: it was handled.
    pub(crate) fn pop(&mut self) {
        if let Some(line) = self.lines.pop_front() {
            self.buffered.remove(&line);
            self.is_unknown = false;
            self.handled = Handled {
                offset: line.end,
                number: line.number,
                last: line.last_bytes(),
                content: line.content,
            };
            while self.growth.front().is_some_and(|(end, _)| *end <= line.end) {
                self.growth.pop_front();
            }
        }
    }

    /// When the next line was first there.
    pub(crate) fn front_since(&self) -> Option<Instant> {
        self.growth.front().map(|(_, at)| *at)
    }

    /// Tells the log from others, and from what it was before it was truncated or rewritten.
    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// Who wrote the next line, if the log says so.
    pub(crate) fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// Sets who wrote the lines after the next one.
    pub(crate) fn set_session(&mut self, session: Option<Session>) {
        self.session = session;
    }

    /// Returns the cursor after `line`. `read` is its content, if it describes items.
    pub(crate) fn cursor_after(&self, line: &RawLine, read: Option<ReadLine>) -> LogCursor {
        LogCursor {
            path: self.path.clone(),
            dev: self.dev,
            ino: self.ino,
            offset: line.end,
            line: line.number,
            head: self.head_fingerprint(line.end),
            tail: Fingerprint::of(&line.last_bytes()),
            content: line.content,
            mtime_ns: Some(self.mtime_ns),
            generation: Some(self.generation),
            session: self.session.clone(),
            read,
        }
    }

    fn head_fingerprint(&self, offset: u64) -> Fingerprint {
        let n = self.head.len().min(usize::try_from(offset).unwrap_or(usize::MAX));
        let print = || Fingerprint::of(&self.head[..n]);
        // Each line has the same one, once the log is long enough.
        if n as u64 == HEAD_BYTES { self.head_print.get_or_init(print).clone() } else { print() }
    }

    /// Bytes that were not handled yet: unread ones, and lines that wait.
    pub(crate) fn n_behind(&self) -> u64 {
        let length = self.file.metadata().map_or(0, |meta| meta.len());
        let unread = length.saturating_sub(self.seen);
        unread + self.lines.iter().map(|line| line.n_bytes + 1).sum::<u64>()
    }

    /// Bytes at the end of the log that are a line without its newline.
    pub(crate) fn n_begun(&self) -> u64 {
        match self.seen - self.splitter.offset() {
            0 => self.splitter.n_begun(),
            n_not_kept => n_not_kept,
        }
    }

    /// Bytes that hold no line.
    pub(crate) fn empty(&self) -> EmptyBytes {
        self.empty
    }

    /// Counts the lines that were not read yet.
    pub(crate) fn count_unread_lines(&self) -> io::Result<u64> {
        let (mut offset, mut n_lines) = (self.seen, 0u64);
        let mut chunk = vec![0; READ_BYTES];
        loop {
            let n = self.file.read_at(&mut chunk, offset)?;
            if n == 0 {
                return Ok(n_lines);
            }
            n_lines += memchr::memchr_iter(b'\n', &chunk[..n]).count() as u64;
            offset += n as u64;
        }
    }
}

impl RawLine {
    /// Whether the line says nothing.
    pub(crate) fn is_blank(&self) -> bool {
        !self.is_too_long && self.bytes.iter().all(u8::is_ascii_whitespace)
    }

    /// Returns the last bytes with the newline. A line that is too long has only its newline left.
    fn last_bytes(&self) -> Vec<u8> {
        let bytes = if self.is_too_long { &[] } else { &*self.bytes };
        let mut last = bytes[bytes.len().saturating_sub(TAIL_BYTES - 1)..].to_vec();
        last.push(b'\n');
        last
    }
}

/// A number that hardly any other log of the run has.
fn new_generation() -> u32 {
    // Each state has random keys of its own.
    let random = RandomState::new().hash_one(0);
    u32::try_from(random >> 32).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;
    use std::path::Path;

    use super::*;

    fn open(path: &Path, cursor: Option<&LogCursor>) -> Tail {
        let file = File::open(path).expect("the log");
        Tail::open(file, "log".to_owned(), cursor, 100).expect("a tail")
    }

    /// All lines that a tail has now, and where it then stands.
    fn drain(tail: &mut Tail) -> (Vec<String>, Option<LogCursor>) {
        let (mut lines, mut cursor) = (Vec::new(), None);
        while tail.poll(Instant::now()).expect("a readable log").n_bytes > 0 {}
        while let Some(line) = tail.front() {
            lines.push(String::from_utf8_lossy(&line.bytes).into_owned());
            cursor = Some(tail.cursor_after(line, None));
            tail.pop();
        }
        (lines, cursor)
    }

    fn append(path: &Path, text: &str) {
        let mut file = OpenOptions::new().append(true).create(true).open(path).expect("the log");
        file.write_all(text.as_bytes()).expect("an append");
    }

    #[test]
    fn lines_come_once_they_have_their_newline() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        append(&path, "one\ntw");
        let mut tail = open(&path, None);
        assert_eq!(drain(&mut tail).0, ["one"]);
        append(&path, "o\nthree\n");
        let (lines, cursor) = drain(&mut tail);
        assert_eq!(lines, ["two", "three"]);
        // Opened again from the cursor.
        append(&path, "four\n");
        let cursor = cursor.expect("a cursor");
        assert_eq!((cursor.offset, cursor.line), (14, 3));
        assert!(matches(&File::open(&path).expect("the log"), &cursor));
        assert_eq!(drain(&mut open(&path, Some(&cursor))).0, ["four"]);
    }

    #[test]
    fn a_log_written_anew_is_read_from_its_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        append(&path, "one\ntwo\n");
        let mut tail = open(&path, None);
        let (_, cursor) = drain(&mut tail);
        // Shorter, as long, longer: the inode stays.
        for text in ["a\n", "uno\ndue\n", "longer than before\nand more\n"] {
            fs::write(&path, text).expect("a truncation");
            let cursor = cursor.as_ref().expect("a cursor");
            assert!(!matches(&File::open(&path).expect("the log"), cursor), "{text:?}");
            assert_eq!(drain(&mut tail).0, text.lines().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_removed_log_is_gone_once_it_was_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        append(&path, "one\n");
        let mut tail = open(&path, None);
        fs::remove_file(&path).expect("a removal");
        let poll_gone = |tail: &mut Tail| {
            tail.poll(Instant::now()).expect("a poll");
            tail.is_gone()
        };
        assert!(!poll_gone(&mut tail));
        tail.pop();
        assert!(poll_gone(&mut tail));
    }
}
