//! The server's REST API: experiments, runs and artifacts.

use reqwest::header::CONTENT_LENGTH;
use reqwest::{Body, Method, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::media::shortened;
use crate::sinks::http::file_body::{file_body, or_damage};
use crate::sinks::http::{HttpClient, HttpError};
use crate::sinks::{Delivery, SinkError};
use crate::store::media_check::NamedFile;

const API: &str = "api/2.0/mlflow";
const ARTIFACTS: &str = "api/2.0/mlflow-artifacts/artifacts";

/// An `MLflow` server with the configured experiment.
#[derive(Debug)]
pub(super) struct MlflowServer {
    client: HttpClient,
    experiment: String,
    /// Limits thumbnails to one at a time, so that only one decoded picture is in memory.
    pub(super) thumbnail_permit: Semaphore,
}

/// A run on the server.
#[derive(Debug, Clone)]
pub(super) struct RemoteRun {
    pub(super) experiment_id: String,
    pub(super) run_id: String,
    /// The path of the run's artifacts, relative to [`ARTIFACTS`].
    artifacts: String,
}

/// A run in an answer of the API.
#[derive(Debug, Deserialize)]
struct ApiRun {
    info: ApiRunInfo,
}

#[derive(Debug, Deserialize)]
struct ApiRunInfo {
    run_id: String,
    experiment_id: String,
    artifact_uri: String,
    lifecycle_stage: String,
    #[serde(default)]
    start_time: i64,
}

#[derive(Debug, Deserialize)]
struct ExperimentAnswer {
    experiment: Experiment,
}

#[derive(Debug, Deserialize)]
struct Experiment {
    experiment_id: String,
    #[serde(default)]
    lifecycle_stage: String,
}

#[derive(Debug, Deserialize)]
struct CreatedExperiment {
    experiment_id: String,
}

#[derive(Debug, Deserialize)]
struct RunAnswer {
    run: ApiRun,
}

#[derive(Debug, Deserialize)]
struct RunsAnswer {
    #[serde(default)]
    runs: Vec<ApiRun>,
}

/// How many characters of an artifact's URI a message shows.
const URI_CHARS_SHOWN: usize = 120;

/// The longest path of a run's artifacts.
const ARTIFACTS_CHARS_MAX: usize = 2048;

/// The longest id of a run or experiment. `MLflow`'s have 32 characters at most.
const ID_CHARS_MAX: usize = 256;

/// Checks an id that the server gave. Ids are in requests, messages and the stored state.
fn checked_id(id: String, of: &str) -> Result<String, SinkError> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if id.is_empty() || id.len() > ID_CHARS_MAX || !id.chars().all(is_allowed) {
        let n = id.chars().count();
        return Err(SinkError::retry(format!(
            "the server gave an id of {n} characters for the {of}, want 1 to {ID_CHARS_MAX} letters, digits, '-', '_' or '.'"
        )));
    }
    Ok(id)
}

/// Returns whether the server refused a request with this `error_code`.
fn has_code(error: &HttpError, code: &str) -> bool {
    let HttpError::Refused { body, .. } = error else { return false };
    let answer: Option<Value> = serde_json::from_slice(body).ok();
    answer.is_some_and(|answer| answer["error_code"] == code)
}

impl MlflowServer {
    pub(super) fn new(client: HttpClient, experiment: String) -> Self {
        Self { client, experiment, thumbnail_permit: Semaphore::new(1) }
    }

    /// Posts JSON to an endpoint of the API, whose answer has no meaning.
    pub(super) async fn post(&self, endpoint: &str, body: &Value) -> Result<(), HttpError> {
        self.client.send(self.post_request(endpoint, body)).await
    }

    fn post_request(&self, endpoint: &str, body: &Value) -> RequestBuilder {
        self.client.request(Method::POST, &format!("{API}/{endpoint}")).json(body)
    }

    /// Returns the experiment's id; `None` if the experiment does not exist.
    pub(super) async fn experiment_id(&self) -> Result<Option<String>, SinkError> {
        let name = [("experiment_name", self.experiment.as_str())];
        let request = self.client.get(&format!("{API}/experiments/get-by-name"), &name);
        let found: ExperimentAnswer = match self.client.send_for(request).await {
            Err(error) if has_code(&error, "RESOURCE_DOES_NOT_EXIST") => return Ok(None),
            found => found?,
        };
        let Experiment { experiment_id, lifecycle_stage } = found.experiment;
        if lifecycle_stage == "deleted" {
            let name = &self.experiment;
            return Err(SinkError::retry(format!(
                "experiment {name:?} was deleted on the server: restore it there, or configure another one"
            )));
        }
        checked_id(experiment_id, "experiment").map(Some)
    }

    /// Returns the experiment's id, creating the experiment if needed. Tolerates a concurrent creator.
    pub(super) async fn find_or_create_experiment(&self) -> Result<String, SinkError> {
        if let Some(id) = self.experiment_id().await? {
            return Ok(id);
        }
        let request = self.post_request("experiments/create", &json!({"name": self.experiment}));
        match self.client.send_for::<CreatedExperiment>(request).await {
            Ok(created) => checked_id(created.experiment_id, "experiment"),
            Err(error) if has_code(&error, "RESOURCE_ALREADY_EXISTS") => {
                let missing = || {
                    SinkError::retry(
                        "the server reports that the experiment exists, but does not return it",
                    )
                };
                self.experiment_id().await?.ok_or_else(missing)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Finds the run with Safelight's tag in an experiment: the oldest one, if two were created at the same time.
    pub(super) async fn find_run(
        &self,
        experiment_id: &str,
        tag: &str,
    ) -> Result<Option<RemoteRun>, SinkError> {
        // The tag's value has no quotes.
        let search = json!({
            "experiment_ids": [experiment_id],
            "filter": format!("tags.`safelight.run` = '{tag}'"),
            "run_view_type": "ALL",
            "max_results": 100,
        });
        let request = self.post_request("runs/search", &search);
        let RunsAnswer { mut runs } = self.client.send_for(request).await?;
        // An active run is preferred to a deleted one.
        runs.sort_by_key(|run| (run.info.lifecycle_stage != "active", run.info.start_time));
        runs.into_iter().next().map(|run| RemoteRun::of(run.info)).transpose()
    }

    /// Returns the run with this id, to which images were delivered before.
    pub(super) async fn run(&self, run_id: &str) -> Result<RemoteRun, SinkError> {
        let request = self.client.get(&format!("{API}/runs/get"), &[("run_id", run_id)]);
        match self.client.send_for::<RunAnswer>(request).await {
            Err(error) if has_code(&error, "RESOURCE_DOES_NOT_EXIST") => {
                Err(SinkError::retry(format!(
                    "run {run_id}, to which images of this run were delivered, no longer exists on the server"
                )))
            }
            found => RemoteRun::of(found?.run.info),
        }
    }

    pub(super) async fn create_run(&self, run: &Value) -> Result<RemoteRun, SinkError> {
        let request = self.post_request("runs/create", run);
        let created: RunAnswer = self.client.send_for(request).await?;
        RemoteRun::of(created.run.info)
    }

    /// Uploads a file of an item as an artifact.
    pub(super) async fn upload_file(
        &self,
        item: &Delivery,
        run: &RemoteRun,
        name: &str,
        file: impl Into<NamedFile<'_>>,
    ) -> Result<(), SinkError> {
        let file = file.into();
        let body = file_body(item, file).await?;
        match self.upload(item, run, name, body, file.size).await {
            Ok(()) => Ok(()),
            Err(error) => Err(or_damage(item, file, error).await),
        }
    }

    /// Uploads an artifact of an item. An existing artifact of the same name is overwritten.
    pub(super) async fn upload(
        &self,
        item: &Delivery,
        run: &RemoteRun,
        name: &str,
        body: impl Into<Body>,
        n_bytes: u64,
    ) -> Result<(), SinkError> {
        let path = format!("{ARTIFACTS}/{}/{name}", run.artifacts);
        let request = self.client.request(Method::PUT, &path);
        let request = request.header(CONTENT_LENGTH, n_bytes).body(body);
        // Recent servers answer with nothing.
        match self.client.send_upload(request).await {
            Ok(()) => Ok(()),
            // The server does not serve artifacts at all. This is not the item's fault.
            Err(
                error @ HttpError::Refused {
                    status: StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED,
                    ..
                },
            ) => Err(error.into()),
            Err(error) => Err(error.for_item(item)),
        }
    }
}

impl RemoteRun {
    /// # Errors
    /// [`SinkError::Retry`] if the run is deleted or the server does not store its artifacts.
    fn of(run: ApiRunInfo) -> Result<Self, SinkError> {
        let ApiRunInfo { run_id, experiment_id, artifact_uri, lifecycle_stage, .. } = run;
        let run_id = checked_id(run_id, "run")?;
        let experiment_id = checked_id(experiment_id, "experiment")?;
        if lifecycle_stage != "active" {
            return Err(SinkError::retry(format!(
                "run {run_id} of experiment {experiment_id} was deleted on the server: restore it there, \
                 or exclude the run with `exclude_runs`"
            )));
        }
        let artifacts = artifacts_path(&artifact_uri).ok_or_else(|| {
            let artifact_uri = shortened(artifact_uri.clone(), URI_CHARS_SHOWN);
            SinkError::retry(format!(
                "the server does not accept artifacts for run {run_id} of experiment {experiment_id}, which are \
                 stored at {artifact_uri}: use an experiment that was created while the server ran with \
                 --artifacts-destination"
            ))
        })?;
        if artifacts.len() > ARTIFACTS_CHARS_MAX {
            let n = artifacts.len();
            return Err(SinkError::retry(format!(
                "the server gave a path of {n} characters for artifacts, want at most {ARTIFACTS_CHARS_MAX}"
            )));
        }
        Ok(Self { experiment_id, run_id, artifacts })
    }
}

/// Returns the path of a run's artifacts, relative to [`ARTIFACTS`]; `None` if the server does not store them.
pub(super) fn artifacts_path(uri: &str) -> Option<String> {
    let rest = match uri.split_once(':')? {
        ("mlflow-artifacts", rest) => match rest.strip_prefix("//") {
            // The server's host comes before the path.
            Some(rest) => rest.split_once('/')?.1,
            None => rest,
        },
        ("http" | "https", rest) => rest.split_once(&format!("/{ARTIFACTS}/"))?.1,
        _ => return None,
    };
    Some(rest.trim_matches('/').to_owned())
}
