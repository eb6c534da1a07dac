//! The report of a release: what was released, and what stays held and why. Pure.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::{Limits, OverDimension};
use crate::media::{MediaKey, RunId};

/// Different reasons that are counted for each key. All others count as one.
const REASONS_MAX: usize = 16;
const OTHER_REASONS: &str = "for other reasons";

/// What a release did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Images that were released.
    pub released: u64,
    /// Images that stay held because of a limit.
    pub held: u64,
    /// Rejected items that still wait.
    #[serde(default)]
    pub waiting: u64,
    /// Images that the limits admit but that could not be made. They stay held, or are rejected for good.
    pub failed: u64,
    /// The limits that decided.
    pub limits: Admitting,
    /// Each run and key that had held images or waiting items.
    pub keys: Vec<KeyReport>,
}

/// The limits that decide whether an image is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Admitting {
    /// `limits.max_items`.
    pub max_items: u32,
    /// `limits.max_dimension`.
    pub max_dimension: u32,
    /// `limits.over_dimension`.
    #[schemars(with = "String")]
    pub over_dimension: OverDimension,
}

impl From<&Limits> for Admitting {
    fn from(limits: &Limits) -> Self {
        let Limits { max_items, max_dimension, over_dimension, .. } = *limits;
        Self { max_items, max_dimension, over_dimension }
    }
}

/// What a release did with the images of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyReport {
    /// The run.
    #[schemars(with = "String")]
    pub run: RunId,
    /// The key. A waiting line may have none that can be read.
    #[schemars(with = "Option<String>")]
    pub key: Option<MediaKey>,
    /// Images that were released.
    pub released: u64,
    /// Images that stay held, by the limit that is the reason.
    pub held: BTreeMap<String, u64>,
    /// Rejected items that still wait, by reason.
    #[serde(default)]
    pub waiting: BTreeMap<String, u64>,
    /// Images that stay held though the limits admit them, and items that are rejected for good, by reason.
    pub failed: BTreeMap<String, u64>,
}

impl Report {
    pub(super) fn new(limits: &Limits) -> Self {
        let limits = limits.into();
        Self { released: 0, held: 0, waiting: 0, failed: 0, limits, keys: Vec::new() }
    }

    pub(super) fn released(&mut self, run: &RunId, key: &MediaKey) {
        self.released += 1;
        self.of(run, Some(key)).released += 1;
    }

    pub(super) fn held(&mut self, run: &RunId, key: &MediaKey, reason: &str, n: u64) {
        self.held += n;
        count(&mut self.of(run, Some(key)).held, reason, n);
    }

    pub(super) fn waiting(&mut self, run: &RunId, key: Option<&MediaKey>, reason: &str) {
        self.waiting += 1;
        count(&mut self.of(run, key).waiting, reason, 1);
    }

    pub(super) fn failed(&mut self, run: &RunId, key: Option<&MediaKey>, reason: &str, n: u64) {
        self.failed += n;
        count(&mut self.of(run, key).failed, reason, n);
    }

    /// Sorts the report by run and key.
    pub(super) fn in_order(mut self) -> Self {
        self.keys.sort_by(|a, b| (&a.run, &a.key).cmp(&(&b.run, &b.key)));
        self
    }

    /// The report of a key. Searched from the end, since a late result belongs to a recent key.
    fn of(&mut self, run: &RunId, key: Option<&MediaKey>) -> &mut KeyReport {
        let known = self.keys.iter().rposition(|of| (&of.run, of.key.as_ref()) == (run, key));
        let at = known.unwrap_or_else(|| {
            let (run, key) = (run.clone(), key.cloned());
            let [held, waiting, failed] = [const { BTreeMap::new() }; 3];
            self.keys.push(KeyReport { run, key, released: 0, held, waiting, failed });
            self.keys.len() - 1
        });
        &mut self.keys[at]
    }
}

fn count(reasons: &mut BTreeMap<String, u64>, reason: &str, n: u64) {
    let has_room = reasons.contains_key(reason) || reasons.len() < REASONS_MAX;
    let reason = if has_room { reason } else { OTHER_REASONS };
    *reasons.entry(reason.to_owned()).or_default() += n;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_and_too_many_of_them_are_one() {
        let mut report = Report::new(&Limits::default());
        let run = RunId::new("run").expect("a run");
        let keys = ["a", "b"].map(|key| MediaKey::new(key).expect("a key"));
        report.released(&run, &keys[0]);
        report.held(&run, &keys[1], "max_items", 3);
        (0..20).for_each(|n| report.failed(&run, Some(&keys[0]), &format!("{n}"), 2));
        report.released(&run, &keys[0]);
        report.waiting(&run, None, "missing");
        assert_eq!((report.released, report.held, report.failed), (2, 3, 40));
        assert_eq!(report.waiting, 1);
        assert_eq!(report.keys.len(), 3);
        let failed = &report.keys[0].failed;
        assert_eq!((failed.len(), failed[OTHER_REASONS]), (REASONS_MAX + 1, 8));
    }
}
