//! What is known of runs that were listed.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::super::Shared;
use super::super::api::{RunRow, StepNumber, Thumbnail};
use super::super::lists::no_run;
use super::super::problem::Failure;
use crate::locks::lock;
use crate::media::{MediaKey, RunId, Step};
use crate::store::{Extent, Reader, RunSummary, StoreError};

/// The runs whose rows are kept, at most.
const FACTS_MAX: usize = 20_000;

/// The runs of which is kept what they are sorted by, at most.
const HEADS_MAX: usize = 200_000;

/// What a run is called, in lower case.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Its name, or else its id.
    pub(super) name: String,
    /// Its id, name and directory.
    pub(super) text: String,
}

/// What runs are sorted and filtered by, beside their counts. Each part is read when it is first asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Head {
    names: OnceCell<Arc<Names>>,
    step: OnceCell<Option<Step>>,
    changed: OnceCell<Option<Duration>>,
}

impl Head {
    pub(super) fn names(&self, reader: &Reader, run: &RunId) -> Arc<Names> {
        let read = || {
            let id = run.as_str().to_lowercase();
            let Some(info) = reader.run_info(run).ok().flatten() else {
                return Arc::new(Names { name: id.clone(), text: id });
            };
            let name = info.identity.get("name").and_then(Value::as_str).map(str::to_lowercase);
            let source = info.source.to_string_lossy().to_lowercase();
            let text = format!("{id} {} {source}", name.as_deref().unwrap_or_default());
            Arc::new(Names { name: name.unwrap_or(id), text })
        };
        self.names.get_or_init(read).clone()
    }

    pub(super) fn step(&self, reader: &Reader, run: &RunId) -> Result<Option<Step>, StoreError> {
        if let Some(step) = self.step.get() {
            return Ok(*step);
        }
        let step = last_place(reader, run)?.map(|(step, _)| step);
        Ok(*self.step.get_or_init(|| step))
    }

    pub(super) fn changed(&self, reader: &Reader, run: &RunId) -> Option<Duration> {
        *self.changed.get_or_init(|| changed(reader, run))
    }
}

/// What a run's row has beside its counts, as of a line of its journal. Reading it costs more than all the rest.
#[derive(Debug, Clone)]
struct RunFacts {
    extent: Extent,
    source: PathBuf,
    name: Option<String>,
    config: Map<String, Value>,
    last_step: Option<Step>,
    changed: Option<Duration>,
    newest: Option<Thumbnail>,
}

/// What is known of runs that were listed.
#[derive(Debug, Default)]
pub(in crate::gallery) struct KnownRuns {
    facts: Mutex<HashMap<RunId, RunFacts>>,
    heads: Mutex<HashMap<RunId, (Extent, Head)>>,
}

impl KnownRuns {
    fn get(&self, run: &RunId, extent: Extent) -> Option<RunFacts> {
        lock(&self.facts).get(run).filter(|facts| facts.extent == extent).cloned()
    }

    fn put(&self, run: &RunId, facts: RunFacts) {
        put(&self.facts, FACTS_MAX, run, facts);
    }

    /// Reads a part of a run's head, unless it was read at this extent.
    pub(super) fn with_head<T>(
        &self,
        run: &RunId,
        extent: Extent,
        read: impl FnOnce(&Head) -> T,
    ) -> T {
        let known = lock(&self.heads).get(run).filter(|(of, _)| *of == extent).cloned();
        let (_, head) = known.unwrap_or((extent, Head::default()));
        let value = read(&head);
        put(&self.heads, HEADS_MAX, run, (extent, head));
        value
    }

    /// Forgets all runs.
    pub(in crate::gallery) fn clear(&self) {
        *lock(&self.facts) = HashMap::new();
        *lock(&self.heads) = HashMap::new();
    }
}

/// Keeps what is known of a run. All other runs are forgotten first if they are too many.
fn put<T>(known: &Mutex<HashMap<RunId, T>>, n_max: usize, run: &RunId, value: T) {
    let mut known = lock(known);
    if known.len() >= n_max && !known.contains_key(run) {
        known.clear();
    }
    known.insert(run.clone(), value);
}

impl RunFacts {
    fn read(shared: &Shared, run: &RunId, extent: Extent) -> Result<Self, Failure> {
        let reader = &shared.reader;
        let (source, mut identity) = match reader.run_info(run).ok().flatten() {
            Some(info) => (info.source, info.identity),
            None => (PathBuf::new(), Map::new()),
        };
        let name = identity.get("name").and_then(Value::as_str).map(str::to_owned);
        let config = match identity.remove("config") {
            Some(Value::Object(config)) => config,
            _ => Map::new(),
        };
        let last = last_place(reader, run)?;
        let newest = last.as_ref().and_then(|(step, key)| thumbnail(shared, run, key, *step));
        let last_step = last.map(|(step, _)| step);
        let changed = changed(reader, run);
        Ok(Self { extent, source, name, config, last_step, changed, newest })
    }
}

/// The greatest step that has an image or a held item, and the first key that has one there.
fn last_place(reader: &Reader, run: &RunId) -> Result<Option<(Step, MediaKey)>, StoreError> {
    let mut last: Option<(Step, MediaKey)> = None;
    // Keys come in order: of several with this step, the first.
    for key in reader.keys(run)? {
        let Ok(key) = MediaKey::new(key) else { continue };
        let step = reader.step_up_to(run, &key, Step(u64::MAX))?;
        if let Some(step) = step.filter(|step| last.as_ref().is_none_or(|(last, _)| step > last)) {
            last = Some((step, key));
        }
    }
    Ok(last)
}

/// When a run's journal last changed, since the Unix epoch.
fn changed(reader: &Reader, run: &RunId) -> Option<Duration> {
    reader.changed(run)?.duration_since(UNIX_EPOCH).ok()
}

/// The row of a run.
///
/// # Errors
/// If the run is gone, or the index fails.
pub(super) fn row(shared: &Shared, mut summary: RunSummary) -> Result<RunRow, Failure> {
    let run = &summary.run;
    let extent = shared.reader.extent(run)?.ok_or_else(|| no_run(run))?;
    let facts = if let Some(facts) = shared.known_runs.get(run, extent) {
        facts
    } else {
        let facts = RunFacts::read(shared, run, extent)?;
        shared.known_runs.put(run, facts.clone());
        facts
    };
    let RunFacts { extent: _, source, name, config, last_step, changed, newest } = facts;
    summary.source = source;
    let last_step = last_step.map(|step| StepNumber(step.0));
    let changed = changed.map(|since| since.as_secs_f64());
    Ok(RunRow { summary, name, config, last_step, changed, newest })
}

/// Where the first image of a step is.
fn thumbnail(shared: &Shared, run: &RunId, key: &MediaKey, step: Step) -> Option<Thumbnail> {
    let mut entries = shared.reader.at_step(run, key, step).filter_map(Result::ok);
    entries.find_map(|entry| {
        let image = entry.as_image().filter(|image| !image.pruned)?;
        Some(Thumbnail {
            key: key.as_str().to_owned(),
            step: StepNumber(step.0),
            index: image.id.index,
            sha20: image.file.sha256.to_string()[..20].to_owned(),
            width: image.file.width,
            height: image.file.height,
        })
    })
}
