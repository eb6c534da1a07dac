//! `/api/v1/info`, `keys`, `steps` and `at`.

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use globset::{Glob, GlobMatcher};
use serde_json::Value;

use super::answer::{DependsOn, json};
use super::api::{At, Cell, Info, StepNumber, Steps};
use super::cursor::Cursor;
use super::limits::{LIMITS, RUNS_ASKED_MAX};
use super::params::{Params, media_key, run_id};
use super::problem::Failure;
use super::{Gallery, Shared};
use crate::media::{Colormap, MediaEntry, MediaKey, RunId, State as ItemState, Step};

/// The segments in an answer of `steps`.
const SEGMENTS_MAX: usize = 20_000;

pub(super) fn routes() -> Router<Gallery> {
    Router::new()
        .route("/api/v1/info", get(info))
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
            store: shared
                .fleet()
                .map_or(shared.reader.root(), |fleet| fleet.url().as_ref())
                .to_owned(),
            fleet: shared.fleet().is_some(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            boot: shared.boot.clone(),
            as_of: shared.as_of,
            dumps: shared.config.dumps && shared.fleet().is_none(),
            colormaps: Colormap::ALL.iter().filter_map(name).collect(),
            limits: LIMITS,
        })
    };
    json(&gallery, &headers, DependsOn::Runs(Vec::new()), make).await
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
    let from = Cursor::take(&mut params, |cursor| match cursor {
        Cursor::Steps(step) => Some(step),
        _ => None,
    })?;
    let from = from.unwrap_or(0);
    params.finish()?;
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
        if runs.is_empty() || runs.len() > RUNS_ASKED_MAX {
            let n = runs.len();
            return Err(Failure::bad_parameter(format!(
                "got {n} values of \"run\", want 1 to {RUNS_ASKED_MAX}"
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
        let after = Cursor::take(&mut params, |cursor| match cursor {
            Cursor::At(run, key) => Some((run, key)),
            _ => None,
        })?;
        params.finish()?;
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
