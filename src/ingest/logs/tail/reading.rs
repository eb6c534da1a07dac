//! Reads what was appended to a log, and notices when it was truncated or rewritten.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Instant;

use super::{
    BEGUN_KEPT_MAX, CLOCK_TICK, EmptyBytes, Handled, Polled, TAIL_BYTES, Tail, new_generation,
};
use crate::ingest::logs::buffers::is_over_budget;
use crate::ingest::logs::content::{
    HEAD_BYTES, LINES_MAX, READ_BYTES, content_before, mtime_ns, next_written,
};
use crate::ingest::logs::lines::LineSplitter;
use crate::store::journal::Fingerprint;

impl Tail {
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
        let length = self.seen;
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
            self.handled = Handled::nothing();
            self.rewind();
            self.given_back = 0;
            self.growth.clear();
        }
        self.length = meta.len();
        let offset = self.seen;
        let n_unread = usize::try_from(meta.len().saturating_sub(offset)).unwrap_or(READ_BYTES);
        let mut chunk = vec![0; READ_BYTES.min(n_unread)];
        let mut n = self.file.read_at(&mut chunk, offset)?;
        if n > 0 && !self.is_as_read(self.file.metadata()?.len()) {
            // The log was rewritten during this call. The next call handles that.
            self.touched = Some(now);
            return Ok(polled);
        }
        let is_zero = chunk[..n].iter().all(|byte| *byte == 0);
        if n > 0
            && is_zero
            && let Some(n_passed) = self.pass_over_zeros(n as u64, meta.len(), now)
        {
            (polled.n_bytes, polled.is_empty) = (n_passed, n_passed > 0);
            self.is_gone = meta.nlink() == 0 && n_passed == 0;
            return Ok(polled);
        }
        let mut n_zeros = 0;
        if offset + n as u64 >= meta.len() {
            // Zero bytes at the end are bytes that were not written yet.
            n_zeros = chunk[..n].iter().rev().take_while(|byte| **byte == 0).count();
            n -= n_zeros;
        }
        if n > 0 {
            let n_lines = self.lines.len();
            n = self.feed(&chunk[..n])?;
            self.note_read(&chunk[..n]);
            self.note_growth(now);
            let has_text = self.lines.iter().skip(n_lines).any(|line| !line.is_blank());
            polled.is_empty = !has_text && (self.n_begun() == 0 || self.splitter.is_too_long());
            let n_passed = if self.n_begun() == 0 { n as u64 } else { 0 };
            let passed = if has_text { 0 } else { self.empty.passed + n_passed };
            self.empty.set(passed, n_zeros as u64, now);
        }
        polled.n_bytes = n as u64;
        self.is_gone = meta.nlink() == 0 && n == 0 && self.lines.is_empty();
        Ok(polled)
    }

    /// Passes over zero bytes before a line, of which `n` were read: a hole is passed over at once. Zero bytes at the
    /// end of the file stay, because a writer may still replace them. Returns how many were passed over; `None` if
    /// they are of a line.
    fn pass_over_zeros(&mut self, n: u64, length: u64, now: Instant) -> Option<u64> {
        let until = next_written(&self.file, self.seen + n, length);
        if until >= length {
            self.empty.set(self.empty.passed, length - self.seen, now);
            return Some(0);
        }
        if self.n_begun() > 0 {
            return None;
        }
        let n_passed = until - self.seen;
        self.splitter.skip_zeros(n_passed);
        let n_shown = usize::try_from(n_passed).unwrap_or(usize::MAX).min(READ_BYTES);
        self.note_read(&vec![0; n_shown]);
        self.seen = until;
        self.empty.set(self.empty.passed + n_passed, 0, now);
        Some(n_passed)
    }

    /// Splits what was read at the end of what was seen before. Returns how many bytes were used.
    fn feed(&mut self, chunk: &[u8]) -> io::Result<usize> {
        let n_before = self.lines.len();
        let mut n_used = 0;
        if self.splitter.offset() < self.seen {
            // The start of this line is not kept. It is read again once the line ends, or is too long.
            let end = memchr::memchr(b'\n', chunk).map(|at| at + 1);
            n_used = end.unwrap_or(chunk.len());
            let until = self.seen + n_used as u64;
            if end.is_some() || until - self.splitter.offset() > self.line_bytes_max {
                self.split_again(until)?;
            }
        }
        let is_kept = n_used == 0 || self.splitter.offset() == self.seen + n_used as u64;
        if is_kept && self.lines.len() < LINES_MAX {
            n_used += self.splitter.push_some(&chunk[n_used..], &mut self.lines, LINES_MAX);
        }
        for line in self.lines.iter().skip(n_before) {
            self.buffered.add(line);
        }
        if self.splitter.n_kept() > BEGUN_KEPT_MAX {
            self.splitter.forget_begun();
        }
        Ok(n_used)
    }

    /// Reads a line again whose start was not kept.
    fn split_again(&mut self, until: u64) -> io::Result<()> {
        let mut chunk = vec![0; READ_BYTES];
        while self.splitter.offset() < until {
            let offset = self.splitter.offset();
            let n = usize::try_from(until - offset).unwrap_or(READ_BYTES).min(READ_BYTES);
            if let Err(error) = self.file.read_exact_at(&mut chunk[..n], offset) {
                self.splitter.forget_begun();
                return Err(error);
            }
            self.splitter.push_some(&chunk[..n], &mut self.lines, usize::MAX);
        }
        Ok(())
    }

    /// Notes the bytes at the end of what was seen before.
    fn note_read(&mut self, chunk: &[u8]) {
        let n_head = usize::try_from(HEAD_BYTES).unwrap_or(0).saturating_sub(self.head.len());
        self.head.extend(&chunk[..n_head.min(chunk.len())]);
        // The log may have been rewritten since the store got its cursor.
        let is_as_stored = self.stored_head.take().is_none_or(|stored| {
            let n_stored = usize::try_from(stored.n_bytes).unwrap_or(usize::MAX);
            self.head.get(..n_stored).is_some_and(|head| Fingerprint::of(head) == stored)
        });
        self.is_unknown |= !is_as_stored;
        self.last.extend(&chunk[chunk.len().saturating_sub(TAIL_BYTES)..]);
        self.last.drain(..self.last.len().saturating_sub(TAIL_BYTES));
        self.seen += chunk.len() as u64;
    }

    /// Drops the lines that wait and what was read after them. They are read again.
    fn rewind(&mut self) {
        let Handled { offset, number, last, content } = &self.handled;
        if *offset == 0 && !self.is_unknown && self.stored_head.is_none() {
            // The store has a cursor with these bytes.
            self.stored_head = Some(self.head_fingerprint(u64::MAX));
        }
        self.splitter = LineSplitter::new(self.line_bytes_max, *offset, *number, *content);
        self.seen = *offset;
        self.last.clone_from(last);
        self.head.truncate(usize::try_from(*offset).unwrap_or(usize::MAX));
        self.head_print.take();
        self.lines = VecDeque::new();
        self.buffered.clear();
        self.empty = EmptyBytes::default();
    }

    /// Whether lines were given back that were not read again yet.
    pub(crate) fn has_given_back(&self) -> bool {
        self.given_back > self.seen
    }

    /// Gives the lines that wait back if the lines of all logs take too much memory.
    pub(crate) fn keep_to_budget(&mut self) {
        if !self.lines.is_empty() && is_over_budget() && !self.is_given_up {
            self.given_back = self.seen;
            self.rewind();
        }
    }
}
