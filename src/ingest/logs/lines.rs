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

    /// Adds the lines that the next bytes complete to `lines`.
    pub(crate) fn push(&mut self, bytes: &[u8], lines: &mut VecDeque<RawLine>) {
        let mut rest = bytes;
        while let Some(at) = memchr::memchr(b'\n', rest) {
            self.push_begun(&rest[..at]);
            self.offset += 1;
            self.number += 1;
            let is_too_long = self.n_begun > self.line_bytes_max;
            let bytes = std::mem::take(&mut self.begun);
            let n_bytes = std::mem::take(&mut self.n_begun);
            let digest = match self.hasher.take() {
                Some(hasher) => hasher.digest(),
                None => LineDigest::of(&bytes),
            };
            self.content = self.content.map(|before| digest.by(before.as_bytes()));
            lines.push_back(RawLine {
                bytes,
                n_bytes,
                is_too_long,
                end: self.offset,
                number: self.number,
                digest,
                content: self.content,
            });
            rest = &rest[at + 1..];
        }
        self.push_begun(rest);
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
    }
}
