//! What goes over the socket. Pure.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ingest::IngestStatus;
use crate::media::{MediaKey, NameError, RunId, State};
use crate::store::{Filter, RunSummary};
use crate::sync::TargetView;

/// Where the status is.
pub const STATUS_PATH: &str = "/v1/status";
/// Where the items are.
pub const ITEMS_PATH: &str = "/v1/items";
/// Where the configuration is read again.
pub const RELOAD_PATH: &str = "/v1/reload";

/// Where the health is.
pub const HEALTH_PATH: &str = "/v1/health";
/// Where media and dumps are removed.
pub const PRUNE_PATH: &str = "/v1/prune";
/// Where targets are told to look at once.
pub const SYNC_PATH: &str = "/v1/sync";
/// Where what was held back is released.
pub const RELEASE_PATH: &str = "/v1/release";
/// Where the metrics are.
pub const METRICS_PATH: &str = "/metrics";

/// Whether the daemon does what it is there for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Whether everything was looked at once since the start.
    pub ready: bool,
    /// Whether nothing is wrong.
    pub healthy: bool,
    /// What is wrong.
    pub reasons: Vec<String>,
}

impl Health {
    /// Judges by what the daemon does, and the threads that get on no more.
    #[must_use]
    pub fn new(view: &IngestStatus, stalled: &[String], dead_targets: &[String]) -> Self {
        let mut reasons: Vec<String> =
            stalled.iter().map(|thread| format!("thread {thread} is stalled")).collect();
        reasons.extend(view.trouble.iter().map(|trouble| format!("cannot write: {trouble}")));
        reasons.extend(view.problems.iter().cloned());
        for root in &view.watching {
            let broken = root.broken.iter().map(|why| format!("{}: {why}", root.path.display()));
            reasons.extend(broken);
        }
        reasons.extend(
            dead_targets
                .iter()
                .map(|target| format!("target {target} is delivered to no more: its thread died")),
        );
        if !view.is_ready {
            reasons.push("not everything was looked at since the start".to_owned());
        }
        Self { ready: view.is_ready, healthy: reasons.is_empty(), reasons }
    }
}

/// The state of a store, and of the daemon that holds it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// The daemon's process; none if there is no daemon.
    pub pid: Option<u32>,
    /// The store.
    pub store: PathBuf,
    /// Images kept, in all runs.
    pub image: u64,
    /// Images held back.
    pub held: u64,
    /// Lines and dumps rejected.
    pub rejected: u64,
    /// Each run.
    pub runs: Vec<RunSummary>,
    /// What the daemon does at the moment.
    pub ingest: Option<IngestStatus>,
    /// Each target.
    #[serde(default)]
    pub targets: Vec<TargetView>,
}

impl Status {
    /// The status of a store with these runs.
    #[must_use]
    pub fn new(
        store: PathBuf,
        runs: Vec<RunSummary>,
        ingest: Option<IngestStatus>,
        targets: Vec<TargetView>,
    ) -> Self {
        let sum = |count: fn(&RunSummary) -> u64| runs.iter().map(count).sum();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: ingest.as_ref().map(|_| std::process::id()),
            store,
            image: sum(|run| run.image),
            held: sum(|run| run.held),
            rejected: sum(|run| run.rejected),
            runs,
            ingest,
            targets,
        }
    }
}

/// Which targets are to look at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncQuery {
    /// Their names, with commas between them; all if there is none.
    #[serde(default)]
    pub targets: String,
    /// Whether what is set aside is tried as well.
    #[serde(default)]
    pub retry: bool,
}

impl SyncQuery {
    /// The names.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let names = self.targets.split(',').filter(|name| !name.is_empty());
        names.map(str::to_owned).collect()
    }
}

/// Whether to remove what retention says, or only to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PruneQuery {
    /// Whether to remove it.
    pub apply: bool,
}

/// Which items to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemsQuery {
    /// Of this run only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Of this key only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// From this step on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_step: Option<u64>,
    /// Up to this step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_step: Option<u64>,
    /// In this state only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
}

/// What is to be released.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseQuery {
    /// Of this run only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Of this key only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// From this step on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_step: Option<u64>,
    /// Up to this step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_step: Option<u64>,
    /// Whether what is asked for is the answer to a request that was not done in time.
    #[serde(default)]
    pub goes_on: bool,
}

impl TryFrom<ReleaseQuery> for Filter {
    type Error = NameError;

    fn try_from(query: ReleaseQuery) -> Result<Self, NameError> {
        let ReleaseQuery { run, key, first_step, last_step, goes_on: _ } = query;
        ItemsQuery { run, key, first_step, last_step, state: Some(State::Held) }.try_into()
    }
}

impl TryFrom<ItemsQuery> for Filter {
    type Error = NameError;

    fn try_from(query: ItemsQuery) -> Result<Self, NameError> {
        let ItemsQuery { run, key, first_step, last_step, state } = query;
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
