//! The requests and answers of the control API as types. Pure.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ingest::IngestStatus;
use crate::media::{MediaId, MediaKey, NameError, RunId};
use crate::store::{
    Filter, KeysBelow, LeftOutRun, MediaStatus, MissingName, RejectedItems, RunSummary,
    StateFilter, nearest_steps,
};
use crate::sync::TargetStatus;

/// Path of the question which daemon answers.
pub const DAEMON_PATH: &str = "/v1/daemon";
/// Path of the status.
pub const STATUS_PATH: &str = "/v1/status";
/// Path of the items.
pub const ITEMS_PATH: &str = "/v1/items";
/// Path of the question which name of a query does not exist.
pub const MISSING_PATH: &str = "/v1/missing";
/// Path of the health.
pub const HEALTH_PATH: &str = "/v1/health";
/// Path of the metrics.
pub const METRICS_PATH: &str = "/metrics";
/// Path of a reload.
pub const RELOAD_PATH: &str = "/v1/reload";
/// Path of a prune.
pub const PRUNE_PATH: &str = "/v1/prune";
/// Path of a delivery to targets.
pub const SYNC_PATH: &str = "/v1/sync";
/// Path of a release.
pub const RELEASE_PATH: &str = "/v1/release";

/// Path of a repair of media files.
pub const REPAIR_PATH: &str = "/v1/repair";

/// Path of the request for the gallery's place, and a login.
pub const GALLERY_PATH: &str = "/v1/gallery";

/// The header of a page of items that says where the list goes on. The last page has none.
pub const AFTER_HEADER: &str = "safelight-after";

/// The daemon that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// The version of the program.
    pub version: String,
    /// The process id.
    pub pid: u32,
    /// The store's directory.
    pub store: PathBuf,
}

/// Where the daemon serves its gallery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GalleryPlace {
    /// As `gallery.listen` has it, with the port that was bound. `None` if it serves none.
    pub listen: Option<String>,
    /// A code that logs a browser in, once, within a minute: `/?login=CODE`. `None` if there is no login.
    pub code: Option<String>,
}

/// Whether the daemon works as it should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// Whether the initial scan is complete.
    pub ready: bool,
    /// Whether `reasons` is empty.
    pub healthy: bool,
    /// What is wrong, one sentence each, the most important first. Of many causes of one kind, a few are named and the
    /// others counted.
    pub reasons: Vec<String>,
}

/// The state of a store, and of the daemon that holds it.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The version of the program that answers.
    pub version: String,
    /// Process id of the daemon, if one runs.
    pub pid: Option<u32>,
    /// The store's directory.
    pub store: PathBuf,
    /// Number of images, in all runs.
    pub image: u64,
    /// Number of held images.
    pub held: u64,
    /// Number of rejected lines and dumps.
    pub rejected: u64,
    /// The rejected items among them that are tried again, if there are any.
    #[serde(default)]
    pub waiting: Option<RejectedItems>,
    /// The rejected items among them that are not tried again, if there are any.
    #[serde(default)]
    pub rejected_for_good: Option<RejectedItems>,
    /// What is known of the media files: those that are missing or damaged.
    #[serde(default)]
    pub media: MediaStatus,
    /// Runs that are left out, because their files in the store fail.
    #[serde(default)]
    pub left_out: Vec<LeftOutRun>,
    /// Each run.
    pub runs: Vec<RunSummary>,
    /// What the daemon's engine does, if a daemon runs.
    pub ingest: Option<IngestStatus>,
    /// Each target.
    #[serde(default)]
    pub targets: Vec<TargetStatus>,
}

impl Status {
    /// The status of a store with these runs. `daemon` is its process id and the state of its engine. `rejected` has the
    /// items that are tried again, and those that are not.
    #[must_use]
    pub fn new(
        store: PathBuf,
        runs: Vec<RunSummary>,
        daemon: Option<(u32, IngestStatus)>,
        targets: Vec<TargetStatus>,
        rejected: [Option<RejectedItems>; 2],
    ) -> Self {
        let sum = |count: fn(&RunSummary) -> u64| runs.iter().map(count).sum();
        let (pid, ingest) = daemon.unzip();
        let [waiting, rejected_for_good] = rejected;
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid,
            store,
            image: sum(|run| run.image),
            held: sum(|run| run.held),
            rejected: sum(|run| run.rejected),
            waiting,
            rejected_for_good,
            media: MediaStatus::default(),
            left_out: Vec::new(),
            runs,
            ingest,
            targets,
        }
    }
}

/// Query of a delivery.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncQuery {
    /// Names of the targets, separated by commas. Empty means all.
    #[serde(default)]
    pub targets: String,
    /// Whether parked items are retried as well.
    #[serde(default)]
    pub retry: bool,
}

impl SyncQuery {
    /// The names of the targets; none means all.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let names = self.targets.split(',').filter(|name| !name.is_empty());
        names.map(str::to_owned).collect()
    }
}

/// Query of a prune.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PruneQuery {
    /// Whether to remove what the rules select, or only to report it.
    pub apply: bool,
}

/// Query of a list: all conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemsQuery {
    /// Only this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Only this key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The first step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_step: Option<u64>,
    /// The last step, inclusive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_step: Option<u64>,
    /// Only this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<StateFilter>,
    /// The answer is a page of at most this number of items, instead of the whole list. A page also ends after 128 KiB,
    /// or after a second, and may be empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<NonZeroUsize>,
    /// The list goes on where a page ended: the value of that page's header [`AFTER_HEADER`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl ItemsQuery {
    /// All items of a key.
    #[must_use]
    pub fn of_key(run: &str, key: &str) -> Self {
        Self { run: Some(run.to_owned()), key: Some(key.to_owned()), ..Self::default() }
    }

    /// The last step that a key can have. As a rule it does not exist, and the step before it is the key's newest one.
    #[must_use]
    pub fn of_newest_step(run: &str, key: &str) -> Self {
        let newest = Some(u64::MAX);
        Self { first_step: newest, last_step: newest, ..Self::of_key(run, key) }
    }
}

/// Which name of a query does not exist.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The name and the nearest ones that exist, as a sentence; `None` if all names exist.
    pub reason: Option<String>,
    /// If the query names one step, which does not exist: the last step before it with an image or a held item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_before: Option<u64>,
    /// The first such step after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_after: Option<u64>,
    /// If the query names a key that does not exist: the keys below it.
    #[serde(default)]
    pub keys_below: KeysBelow,
}

impl Missing {
    /// Why nothing matches these queries of one run, of which `missing` says what is missing. `None` if the names of a
    /// query exist.
    #[must_use]
    pub fn of_all(queries: &[ItemsQuery], missing: &[Self]) -> Option<String> {
        let reasons: Vec<&String> =
            missing.iter().map(|missing| missing.reason.as_ref()).collect::<Option<_>>()?;
        let ([first, _, ..], [_, _, ..]) = (queries, &reasons[..]) else {
            return reasons.first().map(|reason| (*reason).clone());
        };
        let run = first.run.as_deref().unwrap_or_default();
        let step = first.first_step.unwrap_or_default();
        let before = missing.iter().filter_map(|missing| missing.step_before).max();
        let after = missing.iter().filter_map(|missing| missing.step_after).min();
        let (n, nearest) = (queries.len(), nearest_steps(before, after));
        Some(format!("run {run:?} has nothing under any of the {n} keys at step {step}: {nearest}"))
    }
}

impl From<MissingName> for Missing {
    fn from(missing: MissingName) -> Self {
        let [step_before, step_after] = missing.steps_around();
        Self {
            reason: Some(missing.to_string()),
            step_before,
            step_after,
            keys_below: missing.keys_below(),
        }
    }
}

/// Query of a release: the held items for which all conditions hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseQuery {
    /// Only this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Only this key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The first step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_step: Option<u64>,
    /// The last step, inclusive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_step: Option<u64>,
    /// Whether to wait for the running release instead of starting one.
    #[serde(default)]
    pub goes_on: bool,
}

/// The body of a repair: the images whose missing and damaged files are made again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepairQuery {
    /// The run.
    pub run: RunId,
    /// Its images.
    pub images: Vec<MediaId>,
}

impl TryFrom<ReleaseQuery> for Filter {
    type Error = NameError;

    fn try_from(query: ReleaseQuery) -> Result<Self, NameError> {
        let ReleaseQuery { run, key, first_step, last_step, goes_on: _ } = query;
        let state = Some(StateFilter::Held);
        ItemsQuery { run, key, first_step, last_step, state, ..ItemsQuery::default() }.try_into()
    }
}

impl TryFrom<ItemsQuery> for Filter {
    type Error = NameError;

    fn try_from(query: ItemsQuery) -> Result<Self, NameError> {
        let ItemsQuery { run, key, first_step, last_step, state, limit: _, after: _ } = query;
        let steps = (first_step.is_some() || last_step.is_some())
            .then(|| (first_step.unwrap_or(0), last_step.unwrap_or(u64::MAX)));
        Ok(Self {
            run: run.map(RunId::new).transpose()?,
            key: key.map(MediaKey::new).transpose()?,
            steps,
            state,
        })
    }
}
