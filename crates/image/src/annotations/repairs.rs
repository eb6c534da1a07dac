//! What was wrong with annotations, and what was done about it.

use super::field_path::AnnotationError;
use crate::media::shortened;

/// Warnings in words of one image's annotations. The others are counted.
const WARNINGS_MAX: usize = 10;

/// The length at which a warning is cut, in characters: names in it come from the job.
const WARNING_CHARS_MAX: usize = 300;

/// Warnings about one image's annotations: the first in words, the others counted.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Repairs {
    warnings: Vec<String>,
    n_more: usize,
    /// The first invalid value.
    first: Option<AnnotationError>,
}

impl Repairs {
    /// Notes an invalid value, and what was done about it: `box dropped`.
    pub(super) fn done(&mut self, error: AnnotationError, what: &str) {
        self.odd(|| format!("{error}; {what}"));
        self.first.get_or_insert(error);
    }

    /// Notes a value that is odd, and is kept.
    pub(super) fn odd(&mut self, warning: impl FnOnce() -> String) {
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(shortened(warning(), WARNING_CHARS_MAX));
        } else {
            self.n_more += 1;
        }
    }

    /// Returns the first invalid value.
    pub(super) fn first(self) -> Option<AnnotationError> {
        self.first
    }

    /// Returns the warnings. The last one counts those that are not in words.
    pub(super) fn into_warnings(mut self) -> Vec<String> {
        if self.n_more > 0 {
            self.warnings.push(format!("and {} more warnings about annotations", self.n_more));
        }
        self.warnings
    }
}
