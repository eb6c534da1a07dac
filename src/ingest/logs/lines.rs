//! Splits the bytes of a log into whole lines, wherever the bytes were cut. Pure.

use std::collections::VecDeque;

use crate::media::{LineDigest, LineHasher};

/// A whole line of a log, without its newline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawLine {
    /// The bytes. A line that is too long has only its first [`HEAD_BYTES`].
    pub(crate) bytes: Vec<u8>,
    /// The length of the line in the log.
    pub(crate) n_bytes: u64,
    /// Whether the line is longer than the limit.
    pub(crate) is_too_long: bool,
    /// The offset after the newline.
    pub(crate) end: u64,
    /// The line's number, from 1.
    pub(crate) number: u64,
    /// Of the whole line.
    pub(crate) digest: LineDigest,
    /// Of the log up to and including the line.
    pub(crate) content: Option<LineDigest>,
}

/// Bytes of a line that is too long, for its error message.
const HEAD_BYTES: usize = 256;

/// Splits a log into lines. A line without its newline is not complete.
#[derive(Debug)]
pub(crate) struct LineSplitter {
    line_bytes_max: u64,
    /// The bytes of a line without its newline.
    begun: Vec<u8>,
    /// The length of that line, which may be more than is in `begun`.
    n_begun: u64,
    /// Of that line, once it is longer than the limit.
    hasher: Option<LineHasher>,
    /// Bytes that were seen, from the start of the log.
    offset: u64,
    /// Lines that were seen, from the start of the log.
    number: u64,
    /// The digest of these lines. `None` if it is not known what they were.
    content: Option<LineDigest>,
}

impl LineSplitter {
    /// Makes a splitter that expects the start of a log.
    pub(crate) fn at_start(line_bytes_max: u64) -> Self {
        Self::new(line_bytes_max, 0, 0, Some(LineDigest::of(b"")))
    }

    /// Makes a splitter that expects the byte at `offset` next, after `number` lines with the digest
    /// `content`.
    pub(crate) fn new(
        line_bytes_max: u64,
        offset: u64,
        number: u64,
        content: Option<LineDigest>,
    ) -> Self {
        let (begun, n_begun, hasher) = (Vec::new(), 0, None);
        Self { line_bytes_max, begun, n_begun, hasher, offset, number, content }
    }

    /// Bytes that were seen, from the start of the log.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes of a line without its newline.
    pub(crate) fn n_begun(&self) -> u64 {
        self.n_begun
    }

    /// Bytes of that line that are kept in memory.
    pub(crate) fn n_kept(&self) -> usize {
        self.begun.len()
    }

    /// Whether the line without its newline is longer than the limit.
    pub(crate) fn is_too_long(&self) -> bool {
        self.n_begun > self.line_bytes_max
    }

    /// Forgets the bytes of a line without its newline. They must come again.
    pub(crate) fn forget_begun(&mut self) {
        self.offset -= self.n_begun;
        (self.begun, self.n_begun, self.hasher) = (Vec::new(), 0, None);
    }

    /// Passes over zero bytes before a line.
    pub(crate) fn skip_zeros(&mut self, n: u64) {
        debug_assert_eq!(self.n_begun, 0, "zero bytes within a line are of it");
        self.offset += n;
    }

    /// Adds the lines that the next bytes complete to `lines`.
    pub(crate) fn push(&mut self, bytes: &[u8], lines: &mut VecDeque<RawLine>) {
        let mut rest = bytes;
        while let Some(at) = memchr::memchr(b'\n', rest) {
            lines.push_back(self.end_line(&rest[..at]));
            rest = &rest[at + 1..];
        }
        self.push_begun(rest);
    }

    /// Adds the lines that the next bytes complete to `lines`, until there are `n_max`. Of empty lines in a row
    /// only the last one is kept. Returns how many of the bytes were used.
    pub(crate) fn push_some(
        &mut self,
        bytes: &[u8],
        lines: &mut VecDeque<RawLine>,
        n_max: usize,
    ) -> usize {
        let mut rest = bytes;
        while let Some(at) = memchr::memchr(b'\n', rest) {
            let line = self.end_line(&rest[..at]);
            rest = &rest[at + 1..];
            match lines.back_mut() {
                Some(last) if last.n_bytes == 0 && line.n_bytes == 0 => *last = line,
                _ => lines.push_back(line),
            }
            if lines.len() >= n_max {
                return bytes.len() - rest.len();
            }
        }
        self.push_begun(rest);
        bytes.len()
    }

    /// Ends a line, of which these are the last bytes.
    fn end_line(&mut self, bytes: &[u8]) -> RawLine {
        self.push_begun(bytes);
        self.offset += 1;
        self.number += 1;
        let is_too_long = self.is_too_long();
        let bytes = std::mem::take(&mut self.begun);
        let n_bytes = std::mem::take(&mut self.n_begun);
        let digest = match self.hasher.take() {
            Some(hasher) => hasher.digest(),
            None => LineDigest::of(&bytes),
        };
        self.content = self.content.map(|before| digest.by(before.as_bytes()));
        RawLine {
            bytes,
            n_bytes,
            is_too_long,
            end: self.offset,
            number: self.number,
            digest,
            content: self.content,
        }
    }

    fn push_begun(&mut self, bytes: &[u8]) {
        self.offset += bytes.len() as u64;
        // Zero bytes before a line are a hole: the log was truncated, and its writer kept its offset.
        let n_zero = bytes.iter().take_while(|byte| **byte == 0).count();
        let bytes = if self.n_begun == 0 { &bytes[n_zero..] } else { bytes };
        let n = bytes.len() as u64;
        self.n_begun += n;
        if self.n_begun <= self.line_bytes_max {
            self.begun.extend(bytes);
        } else {
            let hasher = self.hasher.get_or_insert_with(|| {
                let mut hasher = LineHasher::default();
                hasher.update(&self.begun);
                hasher
            });
            hasher.update(bytes);
            let missing = HEAD_BYTES.saturating_sub(self.begun.len()).min(bytes.len());
            self.begun.extend(&bytes[..missing]);
            self.begun.truncate(HEAD_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(parts: &[&[u8]], max: u64) -> Vec<RawLine> {
        let (mut splitter, mut lines) = (LineSplitter::at_start(max), VecDeque::new());
        parts.iter().for_each(|part| splitter.push(part, &mut lines));
        lines.into()
    }

    #[test]
    fn a_long_line_is_passed_over_and_the_next_is_read() {
        let long = vec![b'x'; 1000];
        let lines = split(&[b"a\n", &long, b"\nb\nc"], 100);
        let seen: Vec<_> = lines
            .iter()
            .map(|l| (l.bytes.len(), l.n_bytes, l.is_too_long, l.end, l.number))
            .collect();
        assert_eq!(seen, [(1, 1, false, 2, 1), (256, 1000, true, 1003, 2), (1, 1, false, 1005, 3)]);
        assert_eq!(lines[1].digest, LineDigest::of(&long));
    }

    #[test]
    fn zero_bytes_before_a_line_are_not_of_it() {
        // The first line after a truncation was rejected if its writer went on where it was.
        let lines = split(&[b"a\n\0\0", b"\0b\0c\n\0\n"], 100);
        let seen: Vec<_> = lines.iter().map(|line| (&*line.bytes, line.end)).collect();
        assert_eq!(seen, [(&b"a"[..], 2), (b"b\0c", 9), (b"", 11)]);
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_makes_no_difference(
            text in "[ab\n\0]{0,60}",
            cuts in proptest::collection::vec(0usize..60, 0..6),
            max in 1u64..8,
        ) {
            let text = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let parts: Vec<&[u8]> = cuts.windows(2).map(|w| &text[w[0]..w[1]]).collect();
            prop_assert_eq!(split(&parts, max), split(&[text], max));
        }

        #[test]
        fn of_empty_lines_in_a_row_the_last_is_kept(
            text in "[ab\n\0]{0,60}",
            n_max in 1usize..6,
            cut in 1usize..60,
        ) {
            let text = text.as_bytes();
            let mut want = split(&[text], 100);
            for i in (1..want.len()).rev() {
                if want[i].n_bytes == 0 && want[i - 1].n_bytes == 0 {
                    want.remove(i - 1);
                }
            }
            let (mut splitter, mut got) = (LineSplitter::at_start(100), Vec::<RawLine>::new());
            let mut rest = text;
            while !rest.is_empty() {
                let mut lines = VecDeque::new();
                let part = &rest[..cut.min(rest.len())];
                rest = &rest[splitter.push_some(part, &mut lines, n_max)..];
                prop_assert!(lines.len() <= n_max);
                for line in lines {
                    if line.n_bytes == 0 && got.last().is_some_and(|last| last.n_bytes == 0) {
                        got.pop();
                    }
                    got.push(line);
                }
            }
            prop_assert_eq!(got, want);
        }

        #[test]
        fn a_line_without_its_newline_can_come_again(text in "[ab\0]{0,30}", more in "[ab\n\0]{0,30}") {
            let (mut splitter, mut lines) = (LineSplitter::at_start(20), VecDeque::new());
            splitter.push(text.as_bytes(), &mut lines);
            splitter.forget_begun();
            let whole = format!("{text}{more}");
            let from = usize::try_from(splitter.offset()).expect("an offset");
            splitter.push(&whole.as_bytes()[from..], &mut lines);
            prop_assert_eq!(Vec::from(lines), split(&[whole.as_bytes()], 20));
        }
    }
}
