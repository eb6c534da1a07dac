//! Open files: how many the process may have, and the shares of those who keep files open.
//!
//! A share is far below the limit, so that the store, the sockets and the dumps in the pipeline always
//! find descriptors.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Resource, getrlimit, setrlimit};

/// A limit that is assumed where the system has none.
const UNLIMITED: usize = 1 << 20;

static LIMIT: LazyLock<usize> = LazyLock::new(|| {
    let soft = getrlimit(Resource::Nofile).current;
    soft.map_or(UNLIMITED, |n| usize::try_from(n).unwrap_or(UNLIMITED))
});

/// Run directories and other users of descriptors that are kept open at a time, at most.
pub(crate) fn share(part: usize, max: usize) -> usize {
    (*LIMIT / part).clamp(8, max)
}

/// Raises the soft limit of open files to the hard one. Call it before the first file is opened.
pub(crate) fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// Counts files that are open, and allows no more than a number.
#[derive(Debug)]
pub(crate) struct OpenCount {
    n: AtomicUsize,
}

/// One file of an [`OpenCount`]. Dropping it makes room for another one.
#[derive(Debug)]
pub(crate) struct OpenGuard(&'static OpenCount);

impl OpenCount {
    /// Nothing is open.
    pub(crate) const fn new() -> Self {
        Self { n: AtomicUsize::new(0) }
    }

    /// Counts a file that is open now.
    pub(crate) fn add(&'static self) -> OpenGuard {
        self.n.fetch_add(1, Ordering::Relaxed);
        OpenGuard(self)
    }

    /// The number of open files.
    pub(crate) fn n(&self) -> usize {
        self.n.load(Ordering::Relaxed)
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.n.fetch_sub(1, Ordering::Relaxed);
    }
}
