//! `/api/v1/info`, `runs`, `keys`, `steps` and `at`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::UNIX_EPOCH;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use globset::{Glob, GlobMatcher};
use serde_json::{Map, Value};

use super::answer::{DependsOn, json};
use super::api::{At, Cell, Info, RunRow, StepNumber, Steps, Thumbnail};
use super::cursor::Cursor;
use super::limits::LIMITS;
use super::params::{Params, media_key, run_id};
use super::problem::Failure;
use super::{Gallery, Shared};
use crate::locks::lock;
use crate::media::{Colormap, MediaEntry, MediaKey, RunId, State as ItemState, Step};
use crate::store::{Extent, RunSummary};

/// The segments in an answer of `steps`.
const SEGMENTS_MAX: usize = 20_000;

/// The runs in a request to `runs` or `at`.
const RUNS_MAX: usize = 64;

pub(super) fn routes() -> Router<Gallery> {
    Router::new()
        .route("/api/v1/info", get(info))
        .route("/api/v1/runs", get(runs))
        .route("/api/v1/keys", get(keys))
        .route("/api/v1/steps", get(steps))
        .route("/api/v1/at", get(at))
}

/// An item as all answers have it.
pub(super) fn item_json(run: &RunId, entry: &MediaEntry) -> Value {
    let mut item = entry.to_json(run);
    if let Some(step) = entry.step() {
        item["step"] = serde_json::to_value(StepNumber(step.0)).unwrap_or_default();
    }
    item
}

/// The failure of a request for a run that does not exist.
pub(super) fn no_run(run: &RunId) -> Failure {
    Failure::not_found(format!("the store has no run {run:?}", run = run.as_str()))
}

async fn info(
    State(gallery): State<Gallery>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    params.finish()?;
    let make = |shared: &Shared| {
        let name = |map: &Colormap| serde_json::to_value(map).ok()?.as_str().map(str::to_owned);
        Ok(Info {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            store: shared.reader.root().to_owned(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            boot: shared.boot.clone(),
            as_of: shared.as_of,
            dumps: shared.config.dumps,
            colormaps: Colormap::ALL.iter().filter_map(name).collect(),
            limits: LIMITS,
        })
    };
    json(&gallery, &headers, DependsOn::Runs(Vec::new()), make).await
}

async fn runs(
    State(gallery): State<Gallery>,
    mut params: Params,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let wanted: Vec<RunId> =
        params.all("run").iter().map(|run| run_id(run)).collect::<Result<_, _>>()?;
    params.finish()?;
    if wanted.len() > RUNS_MAX {
        let n = wanted.len();
        let detail = format!("got {n} values of \"run\", want at most {RUNS_MAX}, or none for all");
        return Err(Failure::bad_parameter(detail));
    }
    let on = if wanted.is_empty() { DependsOn::All } else { DependsOn::Runs(wanted.clone()) };
    let make = move |shared: &Shared| {
        let runs = if wanted.is_empty() {
            shared.reader.run_counts()?
        } else {
            // One that is not there has no row.
            let runs = wanted.iter().map(|run| shared.reader.counts_of(run));
            runs.filter_map(Result::transpose).collect::<Result<_, _>>()?
        };
        let runs = runs.into_iter();
        runs.map(|summary| run_row(shared, summary)).collect::<Result<Vec<RunRow>, Failure>>()
    };
    json(&gallery, &headers, on, make).await
}

/// What a run's row has beside its counts, as of a line of its journal. Reading it costs more than all the rest.
#[derive(Debug, Clone)]
struct RunFacts {
    extent: Extent,
    source: PathBuf,
    name: Option<String>,
    config: Map<String, Value>,
    last_step: Option<Step>,
    changed: Option<f64>,
    newest: Option<Thumbnail>,
}

/// The runs that are kept, at most.
const FACTS_MAX: usize = 20_000;

/// What is known of runs that were listed.
#[derive(Debug, Default)]
pub(super) struct KnownRuns(Mutex<HashMap<RunId, RunFacts>>);

impl KnownRuns {
    fn get(&self, run: &RunId, extent: Extent) -> Option<RunFacts> {
        lock(&self.0).get(run).filter(|facts| facts.extent == extent).cloned()
    }

    fn put(&self, run: &RunId, facts: RunFacts) {
        let mut known = lock(&self.0);
        if known.len() >= FACTS_MAX {
            known.clear();
        }
        known.insert(run.clone(), facts);
    }

    /// Forgets all runs.
    pub(super) fn clear(&self) {
        *lock(&self.0) = HashMap::new();
    }
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
        let mut last: Option<(Step, MediaKey)> = None;
        for key in reader.keys(run)? {
            let Ok(key) = MediaKey::new(key) else { continue };
            let step = reader.step_up_to(run, &key, Step(u64::MAX))?;
            // Keys come in order: of several with this step, the first.
            if let Some(step) =
                step.filter(|step| last.as_ref().is_none_or(|(last, _)| step > last))
            {
                last = Some((step, key));
            }
        }
        let newest = last.as_ref().and_then(|(step, key)| thumbnail(shared, run, key, *step));
        let last_step = last.map(|(step, _)| step);
        let changed = reader.changed(run).and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let changed = changed.map(|since| since.as_secs_f64());
        Ok(Self { extent, source, name, config, last_step, changed, newest })
    }
}

fn run_row(shared: &Shared, mut summary: RunSummary) -> Result<RunRow, Failure> {
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

async fn keys(
    State(gallery): State<Gallery>,
    mut params: Params,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let run = params.run()?;
    params.finish()?;
    let on = DependsOn::Runs(vec![run.clone()]);
    let make = move |shared: &Shared| {
        let rows = shared.catalogue.see(&shared.reader, &run, |steps| {
            steps.keys.iter().map(|(key, steps)| steps.row(key)).collect::<Vec<_>>()
        })?;
        rows.ok_or_else(|| no_run(&run))
    };
    json(&gallery, &headers, on, make).await
}

async fn steps(
    State(gallery): State<Gallery>,
    mut params: Params,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let (run, key) = (params.run()?, media_key(&params.one("key")?)?);
    let cursor = params.optional("cursor")?;
    params.finish()?;
    let from = match cursor.as_deref().map(|text| (text, Cursor::from_text(text))) {
        None => 0,
        Some((_, Ok(Cursor::Steps(step)))) => step,
        Some((text, _)) => return Err(Cursor::failure(text)),
    };
    let on = DependsOn::Runs(vec![run.clone()]);
    let make = move |shared: &Shared| {
        let found = shared.catalogue.see(&shared.reader, &run, |steps| {
            let steps = steps.keys.get(key.as_str())?;
            Some(steps.segments.from(from, SEGMENTS_MAX))
        })?;
        let found = found.ok_or_else(|| no_run(&run))?;
        let (segments, next) = found.ok_or_else(|| {
            Failure::not_found(format!("run {:?} has no key {:?}", run.as_str(), key.as_str()))
        })?;
        Ok(Steps { segments, next: next.map(|step| Cursor::Steps(step).to_text()) })
    };
    json(&gallery, &headers, on, make).await
}

/// What a request to `at` asks for.
struct AtQuery {
    runs: Vec<RunId>,
    keys: Vec<(String, Option<GlobMatcher>)>,
    /// `None` for the last one.
    step: Option<u64>,
    limit: usize,
    after: Option<(String, String)>,
}

impl AtQuery {
    fn new(mut params: Params) -> Result<Self, Failure> {
        let runs: Vec<RunId> =
            params.all("run").iter().map(|run| run_id(run)).collect::<Result<_, _>>()?;
        if runs.is_empty() || runs.len() > RUNS_MAX {
            let n = runs.len();
            return Err(Failure::bad_parameter(format!(
                "got {n} values of \"run\", want 1 to {RUNS_MAX}"
            )));
        }
        // A key with brackets is a glob that does not match itself.
        let key = |text: String| {
            let glob = Glob::new(&text).ok().map(|glob| glob.compile_matcher());
            (text, glob)
        };
        let keys = params.all("key").into_iter().map(key).collect();
        let step = match params.optional("step")?.as_deref() {
            None | Some("last") => None,
            Some(text) => Some(text.parse().map_err(|_| {
                Failure::bad_parameter(format!("got {text:?} as \"step\", want a step or last"))
            })?),
        };
        let limit = params.number("limit", 1..=LIMITS.at_items_max)?;
        let cursor = params.optional("cursor")?;
        params.finish()?;
        let after = match cursor.as_deref().map(|text| (text, Cursor::from_text(text))) {
            None => None,
            Some((_, Ok(Cursor::At(run, key)))) => Some((run, key)),
            Some((text, _)) => return Err(Cursor::failure(text)),
        };
        let limit = limit.unwrap_or(LIMITS.at_items_max) as usize;
        Ok(Self { runs, keys, step, limit, after })
    }

    fn wants(&self, key: &str) -> bool {
        self.keys.is_empty()
            || self.keys.iter().any(|(text, glob)| {
                text == key || glob.as_ref().is_some_and(|glob| glob.is_match(key))
            })
    }

    /// What each run and key shows.
    fn answer(&self, shared: &Shared) -> Result<At, Failure> {
        let reader = &shared.reader;
        let (mut cells, mut greatest, mut n_items, mut next) = (Vec::new(), None, 0, None);
        let mut is_before = self.after.is_some();
        let up_to = Step(self.step.unwrap_or(u64::MAX));
        for run in &self.runs {
            if reader.extent(run)?.is_none() {
                return Err(no_run(run));
            }
            for name in reader.keys(run)?.into_iter().filter(|key| self.wants(key)) {
                let Ok(key) = MediaKey::new(&*name) else { continue };
                let Some(first) = reader.step_from(run, &key, Step(0))? else { continue };
                let step =
                    if first > up_to { None } else { reader.step_up_to(run, &key, up_to)? };
                greatest = greatest.max(step);
                if is_before {
                    let here = (run.as_str(), &*name);
                    let after = self.after.as_ref().map(|(run, key)| (&**run, &**key));
                    is_before = after != Some(here);
                    continue;
                }
                if next.is_some() {
                    continue;
                }
                let mut items = Vec::new();
                if let Some(step) = step {
                    for entry in reader.at_step(run, &key, step) {
                        let entry = entry?;
                        if entry.state() != ItemState::Rejected && items.len() < self.limit {
                            items.push(item_json(run, &entry));
                        }
                    }
                }
                n_items += items.len();
                if n_items > self.limit && !cells.is_empty() {
                    let Cell { run, key, .. } = &cells[cells.len() - 1];
                    next = Some(Cursor::At(run.clone(), key.clone()).to_text());
                    continue;
                }
                cells.push(Cell {
                    run: run.as_str().to_owned(),
                    key: name,
                    step: step.map(|step| StepNumber(step.0)),
                    first: StepNumber(first.0),
                    items,
                });
            }
        }
        let step = self.step.or(greatest.map(|step| step.0)).map(StepNumber);
        Ok(At { step, cells, next })
    }
}

async fn at(
    State(gallery): State<Gallery>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let query = AtQuery::new(params)?;
    let on = DependsOn::Runs(query.runs.clone());
    json(&gallery, &headers, on, move |shared| query.answer(shared)).await
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TestFile, TestStore, get};
    use crate::media::FileType;

    #[tokio::test]
    async fn some_runs_can_be_listed_alone() {
        let mut store = TestStore::new();
        let gallery = store.gallery();
        let all = get(&gallery, "/api/v1/runs", &[]).await;
        assert_eq!(all.json(), serde_json::json!([]));
        store.image(("k", 1, 0), TestFile::new(FileType::Png, b"x", (28, 28)));
        let all = get(&gallery, "/api/v1/runs", &[]).await.json();
        assert_eq!(all[0]["run"], "a/run");
        let one = "/api/v1/runs?run=none&run=a%2Frun";
        let got = get(&gallery, one, &[]).await;
        assert_eq!(got.json(), all);
        let etag = got.header("etag").to_owned();
        let again = async || get(&gallery, one, &[("if-none-match", &etag)]).await.status.as_u16();
        assert_eq!(again().await, 304);
        store.image(("k", 2, 0), TestFile::new(FileType::Png, b"y", (28, 28)));
        assert_eq!(again().await, 200);
        assert_eq!(get(&gallery, "/api/v1/runs?run=none", &[]).await.json(), serde_json::json!([]));
        let many = format!("/api/v1/runs?{}", ["run=a"; 65].join("&"));
        let detail = get(&gallery, &many, &[]).await.json()["detail"].clone();
        assert_eq!(detail, "got 65 values of \"run\", want at most 64, or none for all");
    }
}
