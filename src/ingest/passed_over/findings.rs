//! What was passed over in one folder: counts, and a few examples.

use super::kind::{KINDS, PassedOverKind};

/// Examples of each kind that are kept.
pub(super) const EXAMPLES_MAX: usize = 3;

/// Files of one folder that are looked into because they may be media logs.
const LOGS_MAX: usize = 4;

/// Files of one folder that are compared with the sidecars beside them.
const ANNOTATIONS_MAX: u32 = 256;

/// Folders outside of the patterns that are kept of one folder.
pub(super) const OUTSIDE_MAX: usize = 256;

/// The first few of many values, in order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FirstOf<T> {
    max: usize,
    first: Vec<T>,
    n: usize,
}

impl<T: Ord> FirstOf<T> {
    pub(super) fn new(max: usize) -> Self {
        Self { max, first: Vec::new(), n: 0 }
    }

    /// Counts a value. Returns whether it is among the first ones.
    fn add(&mut self, value: T) -> bool {
        self.n += 1;
        let at = self.first.partition_point(|before| *before < value);
        if at < self.max {
            self.first.insert(at, value);
            self.first.truncate(self.max);
        }
        at < self.max
    }
}

/// What was passed over in one folder.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FolderFindings {
    counts: [u32; KINDS.len()],
    /// Names in the folder, each with a note.
    examples: Vec<(PassedOverKind, String, String)>,
    /// Files that may be media logs outside of the patterns.
    pub(super) logs: FirstOf<String>,
    /// Folders that no pattern reaches.
    pub(super) outside: FirstOf<String>,
    /// Files beside dumps that their sidecars name.
    n_annotations: u32,
}

impl Default for FolderFindings {
    fn default() -> Self {
        Self {
            counts: [0; KINDS.len()],
            examples: Vec::new(),
            logs: FirstOf::new(LOGS_MAX),
            outside: FirstOf::new(OUTSIDE_MAX),
            n_annotations: 0,
        }
    }
}

impl FolderFindings {
    /// Notes something of this name. `note` is called only for an example that is kept.
    pub(crate) fn add(&mut self, kind: PassedOverKind, name: &str, note: impl FnOnce() -> String) {
        self.counts[kind as usize] += 1;
        let of_kind = |example: &&(PassedOverKind, String, String)| example.0 == kind;
        let n = self.examples.iter().filter(of_kind).count();
        let last = self.examples.iter().rposition(|example| example.0 == kind);
        if n >= EXAMPLES_MAX
            && let Some(last) = last
        {
            if self.examples[last].1.as_str() <= name {
                return;
            }
            self.examples.remove(last);
        }
        let example = (kind, name.to_owned(), note());
        let at = self.examples.partition_point(|before| *before < example);
        self.examples.insert(at, example);
    }

    /// Notes a file that may be a media log.
    pub(crate) fn add_log(&mut self, name: &str) {
        self.logs.add(name.to_owned());
    }

    /// Notes a folder that no pattern reaches.
    pub(crate) fn add_outside(&mut self, name: &str) {
        self.outside.add(name.to_owned());
    }

    /// Adds what another listing of the same folder found.
    pub(super) fn merge(&mut self, other: &Self) {
        for (kind, n) in KINDS.into_iter().zip(other.counts) {
            let n_shown = other.examples().filter(|example| example.0 == kind).count();
            // Each example counts itself.
            self.counts[kind as usize] += n - u32::try_from(n_shown).unwrap_or(n);
        }
        for (kind, name, note) in other.examples() {
            self.add(kind, name, || note.to_owned());
        }
    }

    /// Whether there may be dumps among what was noted.
    pub(super) fn has_dumps(&self) -> bool {
        KINDS.into_iter().any(|kind| kind.is_of_dump() && self.count(kind) > 0)
    }

    /// Whether a dump's annotations may be taken for what lies beside it: many did, and nothing else was found.
    pub(super) fn has_only_annotations(&self) -> bool {
        self.n_annotations > ANNOTATIONS_MAX && self.count(PassedOverKind::Dump) == 0
    }

    /// Notes that a file is an annotation of a dump.
    pub(super) fn note_annotation(&mut self) {
        self.n_annotations += 1;
    }

    /// Whether nothing was noted.
    pub(crate) fn is_empty(&self) -> bool {
        self.counts == [0; KINDS.len()] && self.logs.n == 0 && self.outside.n == 0
    }

    /// Keeps only the counts.
    pub(crate) fn drop_examples(&mut self) {
        self.examples = Vec::new();
    }

    pub(super) fn count(&self, kind: PassedOverKind) -> u64 {
        self.counts[kind as usize].into()
    }

    pub(super) fn examples(&self) -> impl Iterator<Item = (PassedOverKind, &str, &str)> {
        self.examples.iter().map(|(kind, name, note)| (*kind, name.as_str(), note.as_str()))
    }
}

impl FirstOf<String> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.first.iter().map(String::as_str)
    }

    /// The number of values that are not among the first ones.
    pub(super) fn n_more(&self) -> usize {
        self.n - self.first.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn examples_are_the_first_names_whatever_the_order_of_the_listing(
            names in proptest::collection::hash_set("[a-z]{1,3}", 0..40),
            kinds in proptest::collection::vec(0..KINDS.len(), 40),
        ) {
            let mut findings = FolderFindings::default();
            let added: Vec<(usize, &String)> = kinds.into_iter().zip(&names).collect();
            for (kind, name) in &added {
                findings.add(KINDS[*kind], name, || format!("note of {name}"));
            }
            for (i, kind) in KINDS.into_iter().enumerate() {
                let mut want: Vec<&String> =
                    added.iter().filter(|(of, _)| *of == i).map(|(_, name)| *name).collect();
                want.sort();
                prop_assert_eq!(findings.count(kind), want.len() as u64);
                let got: Vec<&str> =
                    findings.examples().filter(|example| example.0 == kind).map(|e| e.1).collect();
                let first: Vec<&str> =
                    want.into_iter().take(EXAMPLES_MAX).map(String::as_str).collect();
                prop_assert_eq!(got, first);
            }
        }
    }
}
