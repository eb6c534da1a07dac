//! Counts and examples of what is passed over in a run, or in a watched directory.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::findings::{EXAMPLES_MAX, FolderFindings};
use super::kind::{KINDS, PassedOverKind};
use super::survey::join;
use crate::media::RunId;

/// The longest path of an example, in characters.
const PATH_CHARS_MAX: usize = 300;

/// What is passed over for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PassedOver {
    /// The reason.
    pub kind: PassedOverKind,
    /// How many there are.
    pub n: u64,
    /// What to do about it.
    pub advice: String,
    /// A few of them.
    pub examples: Vec<PassedOverExample>,
}

/// Something that is passed over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct PassedOverExample {
    /// Its path. Of a run: relative to the run directory. Of a watched directory: relative to that directory.
    /// Bytes that are not UTF-8 are escaped.
    pub path: String,
    /// What is special about it: a link's target, an error, or what to do. May be empty.
    pub note: String,
}

/// What is passed over in one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunPassedOver {
    /// The run.
    #[schemars(with = "String")]
    pub run: RunId,
    /// By reason.
    pub passed_over: Vec<PassedOver>,
}

/// What is passed over in a watched directory, and in the runs there.
#[derive(Debug, Clone, Default)]
pub(crate) struct PassedOverInRuns {
    /// In the directory and all runs.
    pub(crate) in_all: Vec<PassedOver>,
    /// In single runs.
    pub(crate) in_each: Arc<Vec<RunPassedOver>>,
    /// Runs without a media log and a dump.
    pub(crate) n_without_input: u64,
    /// Some of their paths.
    pub(crate) without_input: Vec<String>,
    /// Folders within the patterns that cannot be listed.
    pub(crate) unlisted: Vec<String>,
}

/// Reads and writes what is shared as if it were not.
pub(crate) mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<T: Serialize, S: Serializer>(
        values: &Arc<Vec<T>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        values.as_ref().serialize(to)
    }

    pub(crate) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Arc<Vec<T>>, D::Error> {
        Vec::deserialize(from).map(Arc::new)
    }
}

/// Counts and examples, by kind.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Summary {
    counts: [u64; KINDS.len()],
    /// The first few of each kind, by their place among those of their folder, so that several folders are shown.
    examples: [Vec<(usize, PassedOverExample)>; KINDS.len()],
    /// Folders within the patterns that cannot be listed, and the first few with their errors.
    n_unlisted_input: u64,
    unlisted_input: Vec<(String, String)>,
}

impl Summary {
    /// Whether nothing is passed over.
    pub(crate) fn is_empty(&self) -> bool {
        self.counts == [0; KINDS.len()]
    }

    /// The folders within the patterns that cannot be listed: a few, and how many more.
    pub(crate) fn unlisted_input(&self) -> Vec<String> {
        let sentence = |(path, error): &(String, String)| match path.as_str() {
            "." => format!("the directory cannot be listed: {error}"),
            path => format!("{path} cannot be listed: {error}"),
        };
        let mut texts: Vec<String> = self.unlisted_input.iter().map(sentence).collect();
        let n_more = self.n_unlisted_input - texts.len() as u64;
        if n_more > 0 {
            texts.push(format!("{n_more} more folders cannot be listed"));
        }
        texts
    }

    /// Adds a folder within the patterns that cannot be listed. Folders are added in order.
    pub(crate) fn add_unlisted_input(&mut self, folder: &str, error: &str) {
        let path = if folder.is_empty() { "." } else { folder };
        self.n_unlisted_input += 1;
        if self.unlisted_input.len() < EXAMPLES_MAX {
            self.unlisted_input.push((path.to_owned(), error.to_owned()));
        }
        self.add_one(PassedOverKind::Unlisted, path, error);
    }

    /// Adds what is passed over in a folder. Its dumps count only if `has_dumps`.
    pub(super) fn add(&mut self, folder: &str, findings: &FolderFindings, has_dumps: bool) {
        let counts = |kind: PassedOverKind| has_dumps || !kind.is_of_dump();
        for kind in KINDS.into_iter().filter(|kind| counts(*kind)) {
            self.counts[kind as usize] += findings.count(kind);
        }
        let mut rank = 0;
        let mut before = None;
        for (kind, name, note) in findings.examples() {
            rank = if before.is_some_and(|(of, _)| of == kind) { rank + 1 } else { 0 };
            // One example of an advice is enough for a folder.
            let is_same = before.replace((kind, note)) == Some((kind, note)) && kind.is_of_dump();
            if counts(kind) && !is_same {
                self.add_example(kind, rank, &join(folder, name), note);
            }
        }
    }

    /// Adds something that lies in a watched directory, outside of its runs.
    pub(crate) fn add_one(&mut self, kind: PassedOverKind, path: &str, note: &str) {
        self.counts[kind as usize] += 1;
        self.add_example(kind, 0, path, note);
    }

    /// Adds what is passed over in a run whose directory has this path.
    pub(crate) fn add_run(&mut self, path: &str, run: &Self) {
        self.n_unlisted_input += run.n_unlisted_input;
        for (folder, error) in &run.unlisted_input {
            if self.unlisted_input.len() < EXAMPLES_MAX {
                let folder = if folder == "." { path.to_owned() } else { join(path, folder) };
                self.unlisted_input.push((folder, error.clone()));
            }
        }
        for (count, n) in self.counts.iter_mut().zip(run.counts) {
            *count += n;
        }
        for (kind, examples) in KINDS.into_iter().zip(&run.examples) {
            for (rank, (_, example)) in examples.iter().enumerate() {
                self.add_example(kind, rank, &join(path, &example.path), &example.note);
            }
        }
    }

    fn add_example(&mut self, kind: PassedOverKind, rank: usize, path: &str, note: &str) {
        let examples = &mut self.examples[kind as usize];
        let is_before = |(at, example): &(usize, PassedOverExample)| {
            (*at, example.path.as_str()) < (rank, path)
        };
        let at = examples.partition_point(is_before);
        if at < EXAMPLES_MAX {
            let short = |text: &str| text.chars().take(PATH_CHARS_MAX).collect();
            let example = PassedOverExample { path: short(path), note: short(note) };
            examples.insert(at, (rank, example));
            examples.truncate(EXAMPLES_MAX);
        }
    }

    /// As it is shown: the kinds that there are.
    pub(crate) fn to_list(&self) -> Vec<PassedOver> {
        let kinds = KINDS.into_iter().filter(|kind| self.counts[*kind as usize] > 0);
        kinds
            .map(|kind| PassedOver {
                kind,
                n: self.counts[kind as usize],
                advice: kind.advice(),
                examples: self.examples[kind as usize].iter().map(|(_, one)| one.clone()).collect(),
            })
            .collect()
    }
}
