//! Bytes of a log that hold no line.

use std::time::Instant;

/// Bytes of a log that hold no line.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EmptyBytes {
    /// Empty lines and zero bytes that were passed over.
    pub(super) passed: u64,
    /// Zero bytes at the end.
    pub(super) at_end: u64,
    /// Since when there are many.
    since: Option<Instant>,
}

impl EmptyBytes {
    /// Fewer are no matter for people.
    const MANY: u64 = 1 << 20;

    pub(super) fn set(&mut self, passed: u64, at_end: u64, now: Instant) {
        (self.passed, self.at_end) = (passed, at_end);
        self.since = (passed + at_end >= Self::MANY).then_some(self.since.unwrap_or(now));
    }

    /// How many there are and since when, if there are many.
    pub(crate) fn many(&self) -> Option<(u64, Instant)> {
        Some((self.passed + self.at_end, self.since?))
    }
}
