//! A gallery of what boxes have delivered to an object store: reads the runs that requests name.
//!
//! A run is read when a request names it first. A request waits some seconds for a run that is read, and is then answered
//! from what is there. The rest of the run comes as changes do, by `events`.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use tokio::time::{interval, timeout};

use super::Gallery;
use super::limits::RUNS_ASKED_MAX;
use super::params::Params;
use super::problem::Failure;
use super::work::Workers;
use crate::fleet::{Damages, Fleet, FleetError, FleetRun};
use crate::locks::lock;
use crate::media::RunId;

/// Threads that read manifests. Each reads one run.
const READING_THREADS: usize = 4;

/// How long a request waits for a run that is read.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// How often new manifests of a run are looked for: with each look, the object store gets one request.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How often the runs of all boxes are listed: with each list, the object store gets a request for each box.
const LIST_EVERY: Duration = Duration::from_mins(5);

/// How long new manifests of a run are looked for after a request named it, while any page is open.
const ASKED_MAX: Duration = Duration::from_mins(10);

/// A fleet, and the threads that read it.
pub(super) struct FleetReader {
    fleet: Arc<Fleet>,
    workers: Workers,
    /// When a request named each run last.
    asked: Mutex<BTreeMap<RunId, Instant>>,
}

impl FleetReader {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the system has none.
    pub(super) fn start(fleet: Arc<Fleet>) -> io::Result<Self> {
        let workers = Workers::start("fleet read", READING_THREADS)?;
        Ok(Self { fleet, workers, asked: Mutex::default() })
    }

    pub(super) fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// Reads the new manifests of a run, unless they were looked for lately.
    ///
    /// # Errors
    /// If the object store fails. It is no error if there is no such run.
    async fn read(&self, run: RunId) -> Result<(), Failure> {
        if self.fleet.is_fresh(&run, LOOK_EVERY) {
            return Ok(());
        }
        let fleet = self.fleet.clone();
        let read = move || match fleet.read_run(&run, LOOK_EVERY, |_, _| {}) {
            Ok(Damages { n_new: n, first, .. }) => {
                if n > 0 {
                    let last = first.last().map(String::as_str);
                    tracing::warn!(run = %run, n, last, "lines or manifests of a run cannot be read");
                }
                Ok(())
            }
            // The answer says so.
            Err(FleetError::NoRun { .. }) => Ok(()),
            Err(error) => {
                tracing::warn!(run = %run, %error, "the manifests of a run cannot be read");
                // What was read before is shown.
                let has_items = fleet.reader().has_items(&run).unwrap_or(false);
                if has_items { Ok(()) } else { Err(error.into()) }
            }
        };
        self.workers.run(read).await
    }

    /// Notes that a request named these runs. Those that do not exist are not looked for again.
    fn note_asked(&self, mut runs: Vec<RunId>) {
        runs.retain(|run| self.fleet.is_fresh(run, ASKED_MAX));
        let now = Instant::now();
        lock(&self.asked).extend(runs.into_iter().map(|run| (run, now)));
    }

    /// The runs that requests named lately.
    fn asked_lately(&self) -> Vec<RunId> {
        let mut asked = lock(&self.asked);
        asked.retain(|_, at| at.elapsed() < ASKED_MAX);
        asked.keys().cloned().collect()
    }
}

/// Passes on a request when the runs that it names are read.
pub(super) async fn read_named_runs(
    State(gallery): State<Gallery>,
    request: Request,
    next: Next,
) -> Response {
    if let Some(reader) = &gallery.0.fleet {
        let runs = named_runs(request.uri().query());
        let reads = runs.iter().map(|run| reader.read(run.clone()));
        // A run that takes longer is read to its end all the same.
        for read in timeout(WAIT_MAX, join_all(reads)).await.unwrap_or_default() {
            if let Err(failure) = read {
                return failure.into_response();
            }
        }
        reader.note_asked(runs);
    }
    next.run(request).await
}

/// The runs in a query: those of `run`, and of the places in `a` and `b`. What is no run of a fleet is left out.
fn named_runs(query: Option<&str>) -> Vec<RunId> {
    let Ok(mut params) = Params::of_query(query) else { return Vec::new() };
    let mut names = params.all("run");
    for place in [params.all("a"), params.all("b")].concat() {
        if let Ok(mut place) = Params::of_query(Some(&place)) {
            names.append(&mut place.all("run"));
        }
    }
    let mut runs: Vec<RunId> = names.into_iter().filter_map(|name| RunId::new(name).ok()).collect();
    runs.sort_unstable();
    runs.dedup();
    runs.retain(|run| FleetRun::of_id(run).is_some());
    runs.truncate(RUNS_ASKED_MAX);
    runs
}

/// Looks for new manifests of the runs that pages show, and for new runs, while any page is open. For ever.
pub(super) async fn follow(gallery: Gallery) {
    let Some(reader) = &gallery.0.fleet else { return std::future::pending().await };
    let mut ticks = interval(LOOK_EVERY);
    loop {
        ticks.tick().await;
        if !gallery.0.streams.is_any_open() {
            continue;
        }
        let fleet = reader.fleet.clone();
        let list = move || Ok(fleet.list(LIST_EVERY).map(drop)?);
        if let Err(failure) = reader.workers.run(list).await {
            let reason = &failure.problem().detail;
            tracing::warn!(reason, "the runs of the boxes cannot be listed");
        }
        for run in reader.asked_lately() {
            // It is logged where it fails.
            drop(reader.read(run).await);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runs_of_a_query_are_found_wherever_they_stand() {
        for (query, want) in [
            ("run=b%2Fr&run=a%2Fr&run=b%2Fr&key=k", &["a/r", "b/r"][..]),
            ("a=run%3Da%252Fr%26key%3Dk%26step%3D3&b=run%3Db%252Fr", &["a/r", "b/r"]),
            // These are none of a fleet.
            ("run=r&run=..%2Fr&run=", &[]),
            ("%", &[]),
        ] {
            let runs = named_runs(Some(query));
            let got: Vec<&str> = runs.iter().map(RunId::as_str).collect();
            assert_eq!(got, want, "{query}");
        }
    }
}
