//! The memory that the lines of all logs take while they wait to be handled.
//!
//! A log that goes over the budget gives its lines back after its turn. They are read again.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::lines::RawLine;

/// Memory of all lines that wait, at most.
const BYTES_MAX: usize = 64 << 20;

/// One budget for all logs of the process.
static N_BYTES: AtomicUsize = AtomicUsize::new(0);

/// The memory that the waiting lines of one log take.
#[derive(Debug, Default)]
pub(super) struct Buffered(usize);

impl Buffered {
    pub(super) fn add(&mut self, line: &RawLine) {
        let n = n_bytes(line);
        self.0 += n;
        N_BYTES.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn remove(&mut self, line: &RawLine) {
        let n = n_bytes(line).min(self.0);
        self.0 -= n;
        N_BYTES.fetch_sub(n, Ordering::Relaxed);
    }

    pub(super) fn clear(&mut self) {
        N_BYTES.fetch_sub(std::mem::take(&mut self.0), Ordering::Relaxed);
    }
}

impl Drop for Buffered {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Whether the waiting lines of all logs take more than the budget.
pub(super) fn is_over_budget() -> bool {
    N_BYTES.load(Ordering::Relaxed) > BYTES_MAX
}

fn n_bytes(line: &RawLine) -> usize {
    size_of::<RawLine>() + line.bytes.capacity()
}
