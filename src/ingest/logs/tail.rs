//! Follows one media log: reads new lines, through renames, truncations and restarts.
//!
//! A log is identified by device and inode *and* by its content: digests of its first bytes and of the last
//! line that was read. An inode alone may be used again for another file, and a name alone moves on to
//! another file when logs are rotated.

use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

use super::lines::{LineSplitter, RawLine};
use crate::media::{LineDigest, Session};
use crate::store::journal::{Fingerprint, LogCursor, ReadLine};

/// Bytes at the start of a log that identify it.
const HEAD_BYTES: u64 = 1024;

/// Bytes at the end of the last line that was read, to check that the line is still there.
const TAIL_BYTES: usize = 256;

/// Two changes within this time may leave the same change time.
const CLOCK_TICK: Duration = Duration::from_secs(2);

/// Bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;

/// A media log that is being followed.
#[derive(Debug)]
pub(crate) struct Tail {
    /// The path relative to the run directory. It changes when the log is renamed.
    pub(crate) path: String,
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    file: File,
    line_bytes_max: u64,
    splitter: LineSplitter,
    /// The first bytes, up to [`HEAD_BYTES`].
    head: Vec<u8>,
    /// The last bytes that were read, to notice when the log was rewritten.
    last: Vec<u8>,
    /// Lines that were read and wait to be handled.
    lines: VecDeque<RawLine>,
    handled: Handled,
    /// Tells the log from others, and from what it was before it was truncated or rewritten.
    generation: u32,
    /// Who wrote the next line. A job that goes on after its log was truncated is the same.
    session: Option<Session>,
    /// Whether it was logged that lines of the log were read before.
    pub(crate) has_logged_repeats: bool,
    is_given_up: bool,
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
    /// Whether the file has no name any more and was read to its end.
    pub(crate) is_gone: bool,
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
            line_bytes_max,
            splitter: LineSplitter::new(line_bytes_max, offset, number, content),
            head: Vec::new(),
            last: Vec::new(),
            lines: VecDeque::new(),
            handled,
            generation: cursor.and_then(|cursor| cursor.generation).unwrap_or_else(new_generation),
            session: cursor.and_then(|cursor| cursor.session.clone()),
            has_logged_repeats: false,
            is_given_up: false,
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

    /// Whether `file` begins as the log of `cursor` did, and has the last line that was read at its place.
    pub(crate) fn matches(file: &File, cursor: &LogCursor) -> bool {
        let is = |offset: u64, want: &Fingerprint| {
            read_range(file, offset, want.n_bytes)
                .is_ok_and(|bytes| Fingerprint::of(&bytes) == *want)
        };
        cursor.head.n_bytes > 0
            && is(0, &cursor.head)
            && cursor.offset.checked_sub(cursor.tail.n_bytes).is_some_and(|at| is(at, &cursor.tail))
    }

    /// Whether `file`, which matches, has all lines that were read before the cursor. Reads them only if
    /// `file` is another file or was written to since.
    pub(crate) fn has_lines_of(file: &File, cursor: &LogCursor) -> io::Result<bool> {
        let meta = file.metadata()?;
        let is_same = (cursor.dev, cursor.ino) == (meta.dev(), meta.ino())
            && cursor.mtime_ns == Some(mtime_ns(&meta));
        if is_same || cursor.content.is_none() {
            return Ok(true);
        }
        Ok(content_before(file, cursor.offset)? == cursor.content)
    }

    /// Whether a cursor is that of this log.
    pub(crate) fn is_of(&self, cursor: &LogCursor) -> bool {
        (self.dev, self.ino) == (cursor.dev, cursor.ino) && Self::matches(&self.file, cursor)
    }

    /// Reads what was appended, up to a chunk.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn poll(&mut self, now: Instant) -> io::Result<Polled> {
        let mut polled = Polled::default();
        if self.is_given_up {
            return Ok(polled);
        }
        let meta = self.file.metadata()?;
        let ctime = (meta.ctime(), meta.ctime_nsec());
        let before = self.ctime.replace(ctime);
        if before != Some(ctime) {
            self.touched = Some(now);
        }
        let mtime_before = std::mem::replace(&mut self.mtime_ns, mtime_ns(&meta));
        // A write in the same tick of the clock leaves the change time as it is.
        let is_touched = self.touched.is_some_and(|at| now.duration_since(at) <= CLOCK_TICK);
        let length = self.splitter.offset();
        // It was written to, and is as long as before.
        let is_rewritten = before.is_some()
            && mtime_before != self.mtime_ns
            && meta.len() == length
            && self.handled.content.is_some()
            && content_before(&self.file, self.handled.offset)? != self.handled.content;
        let is_other = (meta.len() != length || is_touched) && !self.is_as_read(meta.len());
        if length > 0 && (is_other || is_rewritten) {
            polled.restarted = true;
            self.is_unknown = true;
            self.generation = new_generation();
            self.has_logged_repeats = false;
            self.splitter = LineSplitter::at_start(self.line_bytes_max);
            self.handled = Handled::nothing();
            self.head.clear();
            self.last.clear();
            self.growth.clear();
        }
        let offset = self.splitter.offset();
        let n_unread = usize::try_from(meta.len().saturating_sub(offset)).unwrap_or(READ_BYTES);
        let mut chunk = vec![0; READ_BYTES.min(n_unread)];
        let mut n = self.file.read_at(&mut chunk, offset)?;
        if n > 0 && !self.is_as_read(self.file.metadata()?.len()) {
            // The log was rewritten during this call. The next call handles that.
            self.touched = Some(now);
            return Ok(polled);
        }
        if offset + n as u64 >= meta.len() {
            // Zero bytes at the end are bytes that were not written yet.
            n -= chunk[..n].iter().rev().take_while(|byte| **byte == 0).count();
        }
        let chunk = &chunk[..n];
        if n > 0 {
            let n_head =
                usize::try_from(HEAD_BYTES).unwrap_or(0).saturating_sub(self.head.len()).min(n);
            self.head.extend(&chunk[..n_head]);
            // The log may have been rewritten since the store got its cursor.
            let is_as_stored = self.stored_head.take().is_none_or(|stored| {
                let n_stored = usize::try_from(stored.n_bytes).unwrap_or(usize::MAX);
                self.head.get(..n_stored).is_some_and(|head| Fingerprint::of(head) == stored)
            });
            self.is_unknown |= !is_as_stored;
            self.last.extend(chunk);
            self.last.drain(..self.last.len().saturating_sub(TAIL_BYTES));
            self.splitter.push(chunk, &mut self.lines);
            self.note_growth(now);
        }
        polled.n_bytes = n as u64;
        polled.is_gone = meta.nlink() == 0 && n == 0 && self.lines.is_empty();
        Ok(polled)
    }

    /// Whether the file, of this length, still has the first and the last bytes that were read.
    fn is_as_read(&self, length: u64) -> bool {
        let offset = self.splitter.offset();
        let is = |at: u64, want: &[u8]| {
            read_range(&self.file, at, want.len() as u64).is_ok_and(|bytes| bytes == want)
        };
        length >= offset && is(0, &self.head) && is(offset - self.last.len() as u64, &self.last)
    }

    /// Notes the current length of the log.
    pub(crate) fn note_growth(&mut self, now: Instant) {
        const MARKS_MAX: usize = 64;
        let length = self.file.metadata().map_or(0, |meta| meta.len()).max(self.splitter.offset());
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
        self.is_given_up = true;
    }

    /// Whether the file has no name any more.
    pub(crate) fn is_unlinked(&self) -> bool {
        self.file.metadata().is_ok_and(|meta| meta.nlink() == 0)
    }

    /// Whether all of the file was read and handled.
    pub(crate) fn is_drained(&self) -> bool {
        let length = self.file.metadata().map_or(0, |meta| meta.len());
        // The file may have been rewritten before it lost its name.
        self.lines.is_empty() && self.splitter.offset() == length && self.is_as_read(length)
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
        Fingerprint::of(&self.head[..n])
    }

    /// Bytes that were not handled yet: unread ones, and lines that wait.
    pub(crate) fn n_behind(&self) -> u64 {
        let length = self.file.metadata().map_or(0, |meta| meta.len());
        let unread = length.saturating_sub(self.splitter.offset());
        unread + self.lines.iter().map(|line| line.n_bytes + 1).sum::<u64>()
    }

    /// Bytes at the end of the log that are a line without its newline.
    pub(crate) fn n_begun(&self) -> u64 {
        self.splitter.n_begun()
    }

    /// Counts the lines that were not read yet.
    pub(crate) fn count_unread_lines(&self) -> io::Result<u64> {
        let (mut offset, mut n_lines) = (self.splitter.offset(), 0u64);
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

fn mtime_ns(meta: &Metadata) -> i64 {
    meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec())
}

/// Returns the digest of all lines of a log before `offset`, where a line ends. `None` if none does.
fn content_before(file: &File, offset: u64) -> io::Result<Option<LineDigest>> {
    let mut splitter = LineSplitter::at_start(HEAD_BYTES);
    let mut lines = VecDeque::new();
    let mut content = Some(LineDigest::of(b""));
    let mut chunk = vec![0; READ_BYTES];
    while splitter.offset() < offset {
        let rest = usize::try_from(offset - splitter.offset()).unwrap_or(READ_BYTES);
        let n = file.read_at(&mut chunk[..READ_BYTES.min(rest)], splitter.offset())?;
        if n == 0 {
            return Ok(None);
        }
        splitter.push(&chunk[..n], &mut lines);
        content = lines.drain(..).next_back().map_or(content, |last| last.content);
    }
    Ok(content.filter(|_| splitter.n_begun() == 0))
}

fn read_range(file: &File, offset: u64, n: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(n.min(HEAD_BYTES)).unwrap_or(0)];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
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
        assert!(Tail::matches(&File::open(&path).expect("the log"), &cursor));
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
            assert!(!Tail::matches(&File::open(&path).expect("the log"), cursor), "{text:?}");
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
        assert!(!tail.poll(Instant::now()).expect("a poll").is_gone);
        tail.pop();
        assert!(tail.poll(Instant::now()).expect("a poll").is_gone);
    }
}
