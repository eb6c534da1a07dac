//! Follows one media log: new lines as they come, over renames, truncation and restarts.
//!
//! A log is told by device and inode *and* by its content: a digest of its first bytes and one of
//! the last line that was read. The inode alone is reused, and the name alone moves on at a
//! rotation.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

use super::lines::{LineSplitter, RawLine};
use crate::store::journal::{Fingerprint, LogCursor};

/// How much of a log's beginning tells it from another.
const HEAD_BYTES: u64 = 1024;

/// How much of the last line that was read tells whether it is still there.
const TAIL_BYTES: usize = 256;

/// Within this time a file may change twice and show it once.
const CLOCK_TICK: Duration = Duration::from_secs(2);

/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;

/// A media log that is being followed.
#[derive(Debug)]
pub(crate) struct Tail {
    /// Relative to the run directory; changes when the log is renamed.
    pub(crate) path: String,
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    file: File,
    line_bytes_max: u64,
    splitter: LineSplitter,
    /// The first bytes, up to [`HEAD_BYTES`].
    head: Vec<u8>,
    /// The last bytes that were read, to notice when the log was written anew.
    last: Vec<u8>,
    lines: VecDeque<RawLine>,
    acted: Acted,
    is_given_up: bool,
    /// Whether the store has no cursor of it.
    is_unknown: bool,
    /// The beginning that the store was told of before anything was read.
    told_head: Option<Fingerprint>,
    /// Why it can't be read at the moment.
    pub(crate) trouble: Option<String>,
    /// When the file was changed last, by its own word, and when that was seen.
    ctime: Option<(i64, i64)>,
    touched: Option<Instant>,
    /// Up to where the log had come by when: oldest first.
    growth: VecDeque<(u64, Instant)>,
}

/// Where a log stands after the last line that was acted on.
#[derive(Debug)]
struct Acted {
    offset: u64,
    number: u64,
    /// The last bytes before `offset`.
    last: Vec<u8>,
}

/// What [`Tail::poll`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Polled {
    /// Bytes read.
    pub(crate) n_bytes: u64,
    /// The log was cut off or written anew, and is read from its start.
    pub(crate) restarted: bool,
    /// No name leads to the file any more, and all of it was read.
    pub(crate) is_gone: bool,
}

impl Tail {
    /// Follows `file` from where `cursor` left it, else from its start.
    ///
    /// # Errors
    /// If the file can't be read.
    pub(crate) fn open(
        file: File,
        path: String,
        cursor: Option<&LogCursor>,
        line_bytes_max: u64,
    ) -> io::Result<Self> {
        let meta = file.metadata()?;
        let (offset, number) = cursor.map_or((0, 0), |cursor| (cursor.offset, cursor.line));
        let mut tail = Self {
            path,
            dev: meta.dev(),
            ino: meta.ino(),
            file,
            line_bytes_max,
            splitter: LineSplitter::new(line_bytes_max, offset, number),
            head: Vec::new(),
            last: Vec::new(),
            lines: VecDeque::new(),
            acted: Acted { offset, number, last: Vec::new() },
            is_given_up: false,
            is_unknown: cursor.is_none(),
            told_head: None,
            trouble: None,
            ctime: None,
            touched: None,
            growth: VecDeque::new(),
        };
        tail.head = read_range(&tail.file, 0, offset.min(HEAD_BYTES))?;
        let n_last = offset.min(TAIL_BYTES as u64);
        tail.last = read_range(&tail.file, offset - n_last, n_last)?;
        tail.acted.last.clone_from(&tail.last);
        Ok(tail)
    }

    /// Whether `file` still begins as it did, and has the line that was read last, where it was.
    pub(crate) fn matches(file: &File, cursor: &LogCursor) -> bool {
        let is = |offset: u64, want: &Fingerprint| {
            read_range(file, offset, want.n_bytes)
                .is_ok_and(|bytes| Fingerprint::of(&bytes) == *want)
        };
        cursor.head.n_bytes > 0
            && is(0, &cursor.head)
            && cursor.offset.checked_sub(cursor.tail.n_bytes).is_some_and(|at| is(at, &cursor.tail))
    }

    /// Whether a cursor is of the file that is followed.
    pub(crate) fn is_of(&self, cursor: &LogCursor) -> bool {
        (self.dev, self.ino) == (cursor.dev, cursor.ino) && Self::matches(&self.file, cursor)
    }

    /// Reads what was added, up to a chunk.
    ///
    /// # Errors
    /// If the file can't be read.
    pub(crate) fn poll(&mut self, now: Instant) -> io::Result<Polled> {
        let mut polled = Polled::default();
        if self.is_given_up {
            return Ok(polled);
        }
        let meta = self.file.metadata()?;
        let ctime = (meta.ctime(), meta.ctime_nsec());
        if self.ctime.replace(ctime) != Some(ctime) {
            self.touched = Some(now);
        }
        // What is written in the same tick of the clock leaves the time as it is.
        let is_touched = self.touched.is_some_and(|at| now.duration_since(at) <= CLOCK_TICK);
        let length = self.splitter.offset();
        if length > 0 && (meta.len() != length || is_touched) && !self.is_as_read(meta.len()) {
            polled.restarted = true;
            self.is_unknown = true;
            self.splitter = LineSplitter::new(self.line_bytes_max, 0, 0);
            self.acted = Acted { offset: 0, number: 0, last: Vec::new() };
            self.head.clear();
            self.last.clear();
            self.growth.clear();
        }
        let offset = self.splitter.offset();
        let n_unread = usize::try_from(meta.len().saturating_sub(offset)).unwrap_or(READ_BYTES);
        let mut chunk = vec![0; READ_BYTES.min(n_unread)];
        let mut n = self.file.read_at(&mut chunk, offset)?;
        if n > 0 && !self.is_as_read(self.file.metadata()?.len()) {
            // It was written anew just now: the next look sees that.
            self.touched = Some(now);
            return Ok(polled);
        }
        if offset + n as u64 >= meta.len() {
            // Zero bytes at the end are bytes that are not there yet.
            n -= chunk[..n].iter().rev().take_while(|byte| **byte == 0).count();
        }
        let chunk = &chunk[..n];
        if n > 0 {
            let n_head =
                usize::try_from(HEAD_BYTES).unwrap_or(0).saturating_sub(self.head.len()).min(n);
            self.head.extend(&chunk[..n_head]);
            // It may have been written anew between the two.
            let is_as_told = self.told_head.take().is_none_or(|told| {
                let n_told = usize::try_from(told.n_bytes).unwrap_or(usize::MAX);
                self.head.get(..n_told).is_some_and(|head| Fingerprint::of(head) == told)
            });
            self.is_unknown |= !is_as_told;
            self.last.extend(chunk);
            self.last.drain(..self.last.len().saturating_sub(TAIL_BYTES));
            self.splitter.push(chunk, &mut self.lines);
            self.note_growth(now);
        }
        polled.n_bytes = n as u64;
        polled.is_gone = meta.nlink() == 0 && n == 0 && self.lines.is_empty();
        Ok(polled)
    }

    /// Whether the file, of this length, still has what was read: its first bytes, and the last ones.
    fn is_as_read(&self, length: u64) -> bool {
        let offset = self.splitter.offset();
        let is = |at: u64, want: &[u8]| {
            read_range(&self.file, at, want.len() as u64).is_ok_and(|bytes| bytes == want)
        };
        length >= offset && is(0, &self.head) && is(offset - self.last.len() as u64, &self.last)
    }

    /// Notes how long the log is by now.
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

    /// Acts on no more lines.
    pub(crate) fn give_up(&mut self) {
        self.lines.clear();
        self.is_given_up = true;
    }

    /// Whether no name leads to the file any more.
    pub(crate) fn is_unlinked(&self) -> bool {
        self.file.metadata().is_ok_and(|meta| meta.nlink() == 0)
    }

    /// Whether all of the file was read and acted on.
    pub(crate) fn is_drained(&self) -> bool {
        let length = self.file.metadata().map_or(0, |meta| meta.len());
        // It may have been written anew before it lost its name.
        self.lines.is_empty() && self.splitter.offset() == length && self.is_as_read(length)
    }

    /// Where a log stands that the store doesn't know, once; `None` while nothing is there to tell it by.
    pub(crate) fn start(&mut self) -> Option<LogCursor> {
        if !self.is_unknown {
            return None;
        }
        let start = self.cursor();
        self.is_unknown = start.is_none();
        self.told_head = start.as_ref().map(|start| start.head.clone());
        start
    }

    /// Where the log stands after the last line that was acted on; `None` if nothing is there to tell
    /// it by.
    pub(crate) fn cursor(&self) -> Option<LogCursor> {
        let Acted { offset, number, last } = &self.acted;
        let head = if *offset > 0 {
            self.head_fingerprint(*offset)
        } else {
            let length = self.file.metadata().ok()?.len().min(HEAD_BYTES);
            let head = read_range(&self.file, 0, length).ok()?;
            // One hole is like another.
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
        })
    }

    /// Whether the store has a cursor of this file.
    pub(crate) fn is_known(&self) -> bool {
        !self.is_unknown
    }

    /// The next line that was not acted on.
    pub(crate) fn front(&self) -> Option<&RawLine> {
        self.lines.front()
    }

    /// The next line was acted on.
    pub(crate) fn pop(&mut self) {
        if let Some(line) = self.lines.pop_front() {
            self.is_unknown = false;
            self.acted = Acted { offset: line.end, number: line.number, last: line.last_bytes() };
            while self.growth.front().is_some_and(|(end, _)| *end <= line.end) {
                self.growth.pop_front();
            }
        }
    }

    /// When the next line was first seen.
    pub(crate) fn front_since(&self) -> Option<Instant> {
        self.growth.front().map(|(_, at)| *at)
    }

    /// Where the log stands once `line` was acted on.
    pub(crate) fn cursor_after(&self, line: &RawLine) -> LogCursor {
        LogCursor {
            path: self.path.clone(),
            dev: self.dev,
            ino: self.ino,
            offset: line.end,
            line: line.number,
            head: self.head_fingerprint(line.end),
            tail: Fingerprint::of(&line.last_bytes()),
        }
    }

    fn head_fingerprint(&self, offset: u64) -> Fingerprint {
        let n = self.head.len().min(usize::try_from(offset).unwrap_or(usize::MAX));
        Fingerprint::of(&self.head[..n])
    }

    /// How many bytes are not acted on yet: unread, or read and waiting.
    pub(crate) fn n_behind(&self) -> u64 {
        let length = self.file.metadata().map_or(0, |meta| meta.len());
        let unread = length.saturating_sub(self.splitter.offset());
        unread + self.lines.iter().map(|line| line.n_bytes + 1).sum::<u64>()
    }

    /// How many bytes of a line without its newline stand at the end.
    pub(crate) fn n_begun(&self) -> u64 {
        self.splitter.n_begun()
    }

    /// How many newlines are not read yet.
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
    /// The last bytes, newline and all. Of a line that is too long only its newline is at hand.
    fn last_bytes(&self) -> Vec<u8> {
        let bytes = if self.is_too_long { &[] } else { &*self.bytes };
        let mut last = bytes[bytes.len().saturating_sub(TAIL_BYTES - 1)..].to_vec();
        last.push(b'\n');
        last
    }
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
            cursor = Some(tail.cursor_after(line));
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
        // Taken up again from the cursor.
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
