//! Finds lines of a media log by number.

use std::collections::VecDeque;

use super::lines::{LineSplitter, RawLine};
use crate::decode::ReadAt;
use crate::run_dir::{RunDir, RunFile};

/// The offset of one line in this many is remembered.
const MARK_EVERY: u64 = 256;

/// Bytes that are read at once.
const READ_BYTES: u64 = 64 << 10;

/// A media log whose lines are read by number, in any order.
#[derive(Debug)]
pub(crate) struct NumberedLog {
    file: RunFile,
    line_bytes_max: u64,
    /// The offsets after each [`MARK_EVERY`] lines, of the part that was read.
    marks: Vec<u64>,
    splitter: LineSplitter,
    /// Lines that were read ahead.
    ahead: VecDeque<RawLine>,
    /// The number of the next line.
    next: u64,
}

impl NumberedLog {
    /// Opens the log at `path`.
    ///
    /// # Errors
    /// If the log is gone or cannot be opened. The error is for people.
    pub(crate) fn open(dir: &RunDir, path: &str, line_bytes_max: u64) -> Result<Self, String> {
        if dir.stat(path).is_none() {
            return Err("the log that described it is gone".to_owned());
        }
        let file = dir.open_file(path).map_err(|failure| format!("log {}", failure.reason()))?;
        let splitter = LineSplitter::new(line_bytes_max, 0, 0, None);
        let (marks, ahead) = (vec![0], VecDeque::new());
        Ok(Self { file, line_bytes_max, marks, splitter, ahead, next: 1 })
    }

    /// Reads the line of this number, from 1. `None` if there is none.
    ///
    /// # Errors
    /// If the log cannot be read. The error is for people.
    pub(crate) fn line(&mut self, number: u64) -> Result<Option<RawLine>, String> {
        self.go_to(number);
        loop {
            while let Some(line) = self.ahead.pop_front() {
                self.next = line.number + 1;
                if line.number == self.marks.len() as u64 * MARK_EVERY {
                    self.marks.push(line.end);
                }
                if line.number == number {
                    return Ok(Some(line));
                }
            }
            let offset = self.splitter.offset();
            let n = self.file.n_bytes().saturating_sub(offset).min(READ_BYTES);
            if n == 0 {
                return Ok(None);
            }
            let mut chunk = vec![0; usize::try_from(n).unwrap_or(0)];
            let read = self.file.read_exact_at(&mut chunk, offset);
            read.map_err(|error| format!("the log that described it cannot be read: {error}"))?;
            self.splitter.push(&chunk, &mut self.ahead);
        }
    }

    /// Moves to the last mark before a line, unless the line is ahead and no mark is closer.
    fn go_to(&mut self, number: u64) {
        let marks_before = number.saturating_sub(1) / MARK_EVERY;
        let last = self.marks.len() as u64 - 1;
        let mark = marks_before.min(last);
        if self.next <= number && mark * MARK_EVERY < self.next {
            return;
        }
        let offset = usize::try_from(mark).ok().and_then(|i| self.marks.get(i).copied());
        let before = mark * MARK_EVERY;
        self.splitter = LineSplitter::new(self.line_bytes_max, offset.unwrap_or(0), before, None);
        self.ahead.clear();
        self.next = before + 1;
    }
}

impl Drop for NumberedLog {
    fn drop(&mut self) {
        self.file.give_back_cache();
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::fs;

    use super::*;
    use crate::run_dir::ReadOptions;

    #[test]
    fn each_line_is_found_in_any_order() {
        let run = tempfile::tempdir().expect("a folder");
        let mut text = String::new();
        for number in 1..=1000 {
            writeln!(text, "{number} {}", "x".repeat(number % 300)).expect("a line");
        }
        text.push_str("begun");
        fs::write(run.path().join("log"), text).expect("a log");
        let dir = RunDir::open(run.path(), ReadOptions::default()).expect("the run directory");
        let mut log = NumberedLog::open(&dir, "log", 1 << 20).expect("the log");
        let numbers =
            (1..=1000).chain((1..=1000).rev()).chain((1..=1000).map(|n| n * 37 % 1000 + 1));
        for number in numbers.chain([1000, 1, 1000, 257, 256, 256, 512]) {
            let line = log.line(number).expect("a readable log").expect("a line");
            assert_eq!(line.number, number);
            let want = format!("{number} ");
            assert!(line.bytes.starts_with(want.as_bytes()), "{number}: {line:?}");
        }
        assert_eq!(log.line(1001), Ok(None));
        assert_eq!(log.line(0), Ok(None));
        assert!(NumberedLog::open(&dir, "none", 1).is_err_and(|why| why.contains("gone")));
    }
}
