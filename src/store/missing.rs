//! Which name of a query does not exist, and the nearest ones that do.

use serde::{Deserialize, Serialize};

use super::{Filter, Reader, StoreError};
use crate::media::{MediaKey, RunId, Step};

/// Keys of rejected items that are compared with a key that does not exist.
const REJECTED_MAX: usize = 100_000;

/// Keys below a name that are listed.
const BELOW_MAX: usize = 10_000;

/// A name that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MissingName {
    /// The store has no such run.
    #[error("no run {got:?} in the store: {}", advice(nearest.as_deref(), "the store has no runs"))]
    Run { got: String, nearest: Option<String> },
    /// The run has no items of this key.
    #[error("run {run:?} has no key {got:?}: {}", advice(nearest.as_deref(), "it has no keys"))]
    Key { run: String, got: String, nearest: Option<String>, below: KeysBelow },
    /// The key has no items at this step.
    #[error("run {run:?} has nothing under key {key:?} at step {got}: {}", nearest_steps(*before, *after))]
    Step { run: String, key: String, got: u64, before: Option<u64>, after: Option<u64> },
}

/// The keys below a name that is no key: `val/pred` and `val/target` below `val`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KeysBelow {
    /// The first 10,000 of them, in order.
    pub keys: Vec<String>,
    /// How many there are.
    pub n: u64,
}

impl KeysBelow {
    /// Those of `keys`, which are in order, that lie below `name`.
    fn of(name: &str, keys: &[String]) -> Self {
        let prefix = format!("{}/", name.trim_end_matches('/'));
        let below = keys.iter().filter(|key| key.starts_with(&prefix));
        let n = below.clone().count() as u64;
        Self { keys: below.take(BELOW_MAX).cloned().collect(), n }
    }
}

impl MissingName {
    /// The keys below the missing one.
    pub(crate) fn keys_below(&self) -> KeysBelow {
        match self {
            Self::Key { below, .. } => below.clone(),
            Self::Run { .. } | Self::Step { .. } => KeysBelow::default(),
        }
    }

    /// The last step before the missing one; `None` if there is none, or another name is missing.
    pub(crate) fn step_before(&self) -> Option<u64> {
        self.steps_around()[0]
    }

    /// The nearest steps before and after the missing one.
    pub(crate) fn steps_around(&self) -> [Option<u64>; 2] {
        match self {
            Self::Step { before, after, .. } => [*before, *after],
            Self::Run { .. } | Self::Key { .. } => [None; 2],
        }
    }
}

fn advice(nearest: Option<&str>, none: &str) -> String {
    nearest.map_or_else(|| none.to_owned(), |near| format!("did you mean {near:?}?"))
}

/// Names the nearest steps.
pub(crate) fn nearest_steps(before: Option<u64>, after: Option<u64>) -> String {
    match (before, after) {
        (Some(before), Some(after)) => format!("the nearest steps are {before} and {after}"),
        (Some(only), None) | (None, Some(only)) => format!("the nearest step is {only}"),
        (None, None) => "it has no other step".to_owned(),
    }
}

impl Reader {
    /// Finds the first name of a filter that does not exist: its run, its key, or its step if it names only one.
    ///
    /// # Errors
    /// If the index fails.
    pub(crate) fn missing_name(&self, filter: &Filter) -> Result<Option<MissingName>, StoreError> {
        let Some(run) = &filter.run else { return Ok(None) };
        let known = self.runs()?;
        if known.iter().all(|summary| summary.run != *run) {
            let names = known.iter().map(|summary| summary.run.as_str());
            let nearest = nearest(names, run.as_str());
            return Ok(Some(MissingName::Run { got: run.as_str().to_owned(), nearest }));
        }
        let Some(key) = &filter.key else { return Ok(None) };
        let of_key = Filter { run: Some(run.clone()), key: Some(key.clone()), ..Filter::default() };
        if !self.has_any(&of_key)? {
            return self.missing_key(run, key).map(Some);
        }
        let Some((first, last)) = filter.steps else { return Ok(None) };
        if first != last || self.has_any(&Filter { steps: filter.steps, ..of_key })? {
            return Ok(None);
        }
        let [before, after] = self.steps_around(run, key, Step(first))?;
        let (run, key) = (run.as_str().to_owned(), key.as_str().to_owned());
        Ok(Some(MissingName::Step { run, key, got: first, before, after }))
    }

    fn missing_key(&self, run: &RunId, key: &MediaKey) -> Result<MissingName, StoreError> {
        let mut keys = self.keys(run)?;
        let rejected = Filter {
            run: Some(run.clone()),
            state: Some(super::StateFilter::Rejected),
            ..Filter::default()
        };
        for item in self.items(&rejected)?.take(REJECTED_MAX) {
            keys.extend(item?.1.key().map(|key| key.as_str().to_owned()));
        }
        keys.sort_unstable();
        keys.dedup();
        let below = KeysBelow::of(key.as_str(), &keys);
        let nearest = nearest(keys.iter().map(String::as_str), key.as_str());
        let (run, got) = (run.as_str().to_owned(), key.as_str().to_owned());
        Ok(MissingName::Key { run, got, nearest, below })
    }

    fn has_any(&self, filter: &Filter) -> Result<bool, StoreError> {
        self.items(filter)?.next().transpose().map(|item| item.is_some())
    }
}

/// The name that differs least; of several, the first one.
fn nearest<'a>(names: impl Iterator<Item = &'a str>, got: &str) -> Option<String> {
    // A part of a name is near, however much is left out.
    let distance = |name: &str| {
        let is_part = name.contains(got) || got.contains(name);
        (!is_part, strsim::damerau_levenshtein(name, got))
    };
    names.min_by_key(|name| distance(name)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_below_a_name_are_those_of_its_folder() {
        let keys = ["val", "val/a", "val/b/c", "valid/a"].map(str::to_owned);
        for name in ["val", "val/"] {
            let below = KeysBelow::of(name, &keys);
            assert_eq!((below.n, below.keys.join(" ").as_str()), (2, "val/a val/b/c"));
        }
        assert_eq!(KeysBelow::of("va", &keys), KeysBelow::default());
    }

    #[test]
    fn the_nearest_name_is_one_typo_away_or_a_part_of_the_name() {
        let nearest =
            |got: &str| nearest(["val/pred", "train/input", "val/target"].into_iter(), got);
        assert_eq!(nearest("val/prde").as_deref(), Some("val/pred"));
        assert_eq!(nearest("input").as_deref(), Some("train/input"));
        assert_eq!(nearest("Val/target").as_deref(), Some("val/target"));
    }
}
