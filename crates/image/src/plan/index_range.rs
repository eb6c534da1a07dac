//! The indices of the images that one dump made at a key and step.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// The indices that a version of a dump has at its key and step. A newer version takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexRange {
    /// The first index.
    pub first: u32,
    /// The number of indices.
    pub n: u32,
}

impl IndexRange {
    /// The indices, in order.
    #[must_use]
    pub fn indices(self) -> Range<u32> {
        self.first..self.first.saturating_add(self.n)
    }

    /// Whether `index` is in the range.
    #[must_use]
    pub fn contains(self, index: u32) -> bool {
        self.indices().contains(&index)
    }
}
