//! Requests to the object store, each of which blocks its thread.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use object_store::Error;
use object_store::path::Path;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::error::FleetError;
use super::names::{FleetRun, box_folder};
use crate::config::sync::ObjectStoreConfig;
use crate::sinks::http::policy::OBJECT_BYTES_MAX;
use crate::sinks::http::with_causes;
use crate::sinks::object_store::{ListedObject, StoreLocation};

/// Lists of boxes that are asked for at the same time.
const LISTS_AT_ONCE: usize = 16;

/// Manifests, or pictures, that one reader asks for at the same time. Each may take 64 MiB of memory.
pub(crate) const OBJECTS_AT_ONCE: usize = 8;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_mins(2);

/// How long to wait before a request that failed is sent again.
const RETRIES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];

/// An object store.
pub(super) struct Objects {
    url: String,
    location: Arc<StoreLocation>,
    /// Requests are driven by a thread of their own.
    runtime: Handle,
    /// Dropped, it ends the thread.
    _end: oneshot::Sender<()>,
}

/// The name in a `run.json`.
#[derive(Deserialize)]
struct RunName {
    run: String,
}

impl Objects {
    /// Opens the store that a configuration names. Nothing is asked of it.
    ///
    /// # Errors
    /// If it names no store, or the keys cannot be read.
    pub(super) fn open(config: &ObjectStoreConfig) -> Result<Self, FleetError> {
        let location = StoreLocation::open(config);
        let location = location.map_err(|error| FleetError::Location(error.to_string()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = oneshot::channel::<()>();
        let handle = runtime.handle().clone();
        let drive = move || {
            // The sender is dropped, never used.
            runtime.block_on(async { drop(ended.await) });
            runtime.shutdown_background();
        };
        thread::Builder::new().name("objects".to_owned()).spawn(drive)?;
        let (url, location) = (config.url.clone(), Arc::new(location));
        Ok(Self { url, location, runtime: handle, _end: end })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Lists the runs of a box, or of all boxes, in order.
    ///
    /// # Errors
    /// If the store fails, or refuses to list.
    pub(super) fn runs(&self, of_box: Option<&str>) -> Result<Vec<FleetRun>, FleetError> {
        let boxes = match of_box {
            Some(of_box) => box_folder(of_box).into_iter().collect(),
            None => self.wait(folders(self.location.clone(), "runs".to_owned()))?,
        };
        let location = &self.location;
        let runs_of = |of_box: String| {
            let location = location.clone();
            async move {
                let runs = folders(location.clone(), format!("runs/{of_box}")).await?;
                let mut found = Vec::with_capacity(runs.len());
                for run in runs {
                    found.extend(named(&location, &of_box, &run).await?);
                }
                Ok(found)
            }
        };
        let spawned = boxes.into_iter().map(|of_box| self.runtime.spawn(runs_of(of_box)));
        let all = stream::iter(spawned).buffered(LISTS_AT_ONCE).collect::<Vec<_>>();
        let mut runs = Vec::new();
        for of_box in self.runtime.block_on(all) {
            runs.append(&mut joined(of_box)?);
        }
        runs.sort();
        Ok(runs)
    }

    /// Lists the objects that lie directly in a folder and whose names come after `after`, in order.
    ///
    /// # Errors
    /// If the store fails, or refuses to list.
    pub(super) fn objects_after(
        &self,
        folder: &str,
        after: &str,
    ) -> Result<Vec<ListedObject>, FleetError> {
        let (location, folder, after) =
            (self.location.clone(), folder.to_owned(), after.to_owned());
        self.wait(async move {
            let list = || location.objects_after(&folder, &after);
            retried(list).await.map_err(|error| not_listed(&location, &folder, &error))
        })
    }

    /// Reads an object of at most 64 MiB; `None` if it does not exist.
    ///
    /// # Errors
    /// If it is longer, or the store fails.
    pub(super) fn content(&self, name: &str) -> Result<Option<Vec<u8>>, FleetError> {
        self.content_up_to(name, OBJECT_BYTES_MAX)
    }

    /// Reads an object of at most `n_bytes_max` bytes; `None` if it does not exist.
    ///
    /// # Errors
    /// If it is longer, or the store fails.
    pub(super) fn content_up_to(
        &self,
        name: &str,
        n_bytes_max: u64,
    ) -> Result<Option<Vec<u8>>, FleetError> {
        self.wait(content(self.location.clone(), name.to_owned(), n_bytes_max))
    }

    /// Reads objects, some of them ahead. Of each there is the name, and the most bytes that it may have.
    pub(super) fn contents(&self, names: impl Iterator<Item = (String, u64)>) -> Contents<'_> {
        let (names, ahead) = (names.collect(), VecDeque::new());
        let mut contents = Contents { objects: self, names, ahead };
        contents.read_ahead();
        contents
    }

    /// Runs a request, and waits for it.
    fn wait<T: Send + 'static>(
        &self,
        request: impl Future<Output = Result<T, FleetError>> + Send + 'static,
    ) -> Result<T, FleetError> {
        joined(self.runtime.block_on(self.runtime.spawn(request)))
    }
}

/// Objects that are read in order, some of them ahead.
pub(super) struct Contents<'a> {
    objects: &'a Objects,
    names: VecDeque<(String, u64)>,
    ahead: VecDeque<JoinHandle<Result<Option<Vec<u8>>, FleetError>>>,
}

impl Contents<'_> {
    /// Reads the next object; `None` if it does not exist, and at the end.
    ///
    /// # Errors
    /// If it is too long, or the store fails.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, FleetError> {
        let Some(first) = self.ahead.pop_front() else { return Ok(None) };
        let content = joined(self.objects.runtime.block_on(first));
        self.read_ahead();
        content
    }

    fn read_ahead(&mut self) {
        while self.ahead.len() < OBJECTS_AT_ONCE
            && let Some((name, n_bytes_max)) = self.names.pop_front()
        {
            let request = content(self.objects.location.clone(), name, n_bytes_max);
            self.ahead.push_back(self.objects.runtime.spawn(request));
        }
    }
}

impl Drop for Contents<'_> {
    fn drop(&mut self) {
        self.ahead.iter().for_each(JoinHandle::abort);
    }
}

/// The result of a task, which ends early only if it panics.
fn joined<T>(
    result: Result<Result<T, FleetError>, tokio::task::JoinError>,
) -> Result<T, FleetError> {
    result.map_err(|error| FleetError::Io(std::io::Error::other(error)))?
}

/// The run of a folder. The name of a folder that is shortened stands in `run.json`. Without it, the run is left out.
async fn named(
    location: &Arc<StoreLocation>,
    box_folder: &str,
    run_folder: &str,
) -> Result<Option<FleetRun>, FleetError> {
    if let Some(run) = FleetRun::of_folders(box_folder, run_folder) {
        return Ok(Some(run));
    }
    let folder = format!("runs/{box_folder}/{run_folder}");
    let json = content(location.clone(), format!("{folder}/run.json"), OBJECT_BYTES_MAX).await?;
    let named: Option<RunName> = json.and_then(|json| serde_json::from_slice(&json).ok());
    let run = named.and_then(|named| FleetRun::of_name(box_folder, &named.run));
    let run = run.filter(|run| run.folder() == folder);
    if run.is_none() {
        tracing::warn!(folder, "the name of a run is not known, and the run is left out");
    }
    Ok(run)
}

async fn folders(location: Arc<StoreLocation>, folder: String) -> Result<Vec<String>, FleetError> {
    let list = || location.folders(&folder);
    retried(list).await.map_err(|error| not_listed(&location, &folder, &error))
}

async fn content(
    location: Arc<StoreLocation>,
    name: String,
    n_bytes_max: u64,
) -> Result<Option<Vec<u8>>, FleetError> {
    let failed = |error: &Error| failure(&location, format!("cannot read {name}"), error);
    let path: Path = location.path(&name).map_err(|error| failed(&error))?;
    let read = || location.content_up_to(&path, n_bytes_max);
    retried(read).await.map_err(|error| failed(&error))
}

fn not_listed(location: &StoreLocation, folder: &str, error: &Error) -> FleetError {
    failure(location, format!("cannot list {folder}/"), error)
}

fn failure(location: &StoreLocation, what: String, error: &Error) -> FleetError {
    let reason = location.message(error);
    let advice = "the keys need the rights to list and to read below the URL's prefix";
    let reason = if is_denied(error) { format!("{advice}: {reason}") } else { reason };
    FleetError::Objects { what, reason }
}

/// Whether the keys do not permit a request. The crate has no error of its own for a list that is refused.
fn is_denied(error: &Error) -> bool {
    let is_status = |text: &str| ["code: 401", "code: 403"].iter().any(|code| text.contains(code));
    match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => true,
        Error::Generic { .. } => is_status(&with_causes(error)),
        _ => false,
    }
}

/// Sends a request again if it failed and may not fail again.
async fn retried<T, F: Future<Output = Result<T, Error>>>(
    mut request: impl FnMut() -> F,
) -> Result<T, Error> {
    for pause in RETRIES {
        match answered(request()).await {
            Err(error @ Error::Generic { .. }) if !is_denied(&error) => {
                tokio::time::sleep(pause).await;
            }
            result => return result,
        }
    }
    answered(request()).await
}

/// Waits for an answer, which somebody waits for.
async fn answered<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let answer = tokio::time::timeout(ANSWER_MAX, request).await;
    answer.unwrap_or_else(|_| {
        let source = format!("no whole answer within {} s", ANSWER_MAX.as_secs()).into();
        Err(Error::Generic { store: "object store", source })
    })
}
