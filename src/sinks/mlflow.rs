//! An `MLflow` server, over its REST API: pictures for the page's image charts, and all else that is known of
//! them as files beside.
//!
//! A run of ours is a run there, found again by its tag `safelight.run`. What is sent again overwrites itself:
//! each artifact's name is a function of the image. How they are named is in [`crate::formats::mlflow`].

use std::sync::Arc;

use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{OnceCell, Semaphore};

use super::http::{Credentials, HttpClient, HttpError};
use super::{Delivery, Receipt, Rest, Sink, SinkError, Target, read_file};
use crate::config::sync::MlflowConfig;
use crate::formats::mlflow::{self, Names, Pictures};
use crate::store::RunInfo;

/// A server, and the experiment there.
#[derive(Debug, Clone)]
pub(crate) struct MlflowTarget(Arc<Server>);

#[derive(Debug)]
struct Server {
    client: HttpClient,
    experiment: String,
    /// One thumbnail is made at a time, so that the pixels of one picture are in memory.
    drawing: Semaphore,
}

/// One run of it.
#[derive(Debug)]
pub(crate) struct MlflowRun {
    server: Arc<Server>,
    run: RunInfo,
    /// Where its artifacts go, once that is known. A run is made when its first image comes.
    place: OnceCell<Place>,
    kept: Option<Kept>,
}

/// A run on the server.
#[derive(Debug, Clone)]
struct Place {
    experiment_id: String,
    run_id: String,
    /// The path of its artifacts, below the API's.
    artifacts: String,
}

/// What is known of the run after a commit: the receipt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    experiment_id: String,
    run_id: String,
    /// The time of the last image, in milliseconds.
    time_ms: i64,
    /// Whether the server was told that the run is over.
    #[serde(default)]
    is_finished: bool,
}

/// A run as the API tells of it.
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
struct OneRun {
    run: ApiRun,
}

#[derive(Debug, Deserialize)]
struct Runs {
    #[serde(default)]
    runs: Vec<ApiRun>,
}

const API: &str = "api/2.0/mlflow";
const ARTIFACTS: &str = "api/2.0/mlflow-artifacts/artifacts";

/// Milliseconds since the Unix epoch.
fn milliseconds(time: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "saturates")]
    let milliseconds = (time * 1000.0).round() as i64;
    milliseconds
}

fn pairs(pairs: Vec<(String, String)>) -> Vec<Value> {
    pairs.into_iter().map(|(key, value)| json!({"key": key, "value": value})).collect()
}

/// The server's own name for what went wrong.
fn has_code(error: &HttpError, code: &str) -> bool {
    let HttpError::Refused { body, .. } = error else { return false };
    let answer: Option<Value> = serde_json::from_slice(body).ok();
    answer.is_some_and(|answer| answer["error_code"] == code)
}

impl Target for MlflowTarget {
    type Config = MlflowConfig;
    type Run = MlflowRun;

    // The server is asked nothing yet.
    async fn open(config: &MlflowConfig) -> Result<Self, SinkError> {
        let credentials = match (&config.token, &config.username, &config.password) {
            (Some(token), _, _) => Credentials::Bearer(token.clone()),
            (None, Some(username), Some(password)) => {
                Credentials::Basic { username: username.clone(), password: password.clone() }
            }
            _ => Credentials::None,
        };
        let client = HttpClient::new(&config.url, credentials)?;
        let experiment = config.experiment.clone();
        Ok(Self(Arc::new(Server { client, experiment, drawing: Semaphore::new(1) })))
    }

    fn run(&self, run: &RunInfo) -> MlflowRun {
        let (server, run) = (Arc::clone(&self.0), run.clone());
        MlflowRun { server, run, place: OnceCell::new(), kept: None }
    }
}

impl Server {
    async fn post(&self, what: &str, body: &Value) -> Result<Value, HttpError> {
        let request = self.client.request(Method::POST, &format!("{API}/{what}"));
        self.client.send_for(request.json(body)).await
    }

    /// The experiment's id; none if it isn't there.
    async fn experiment_id(&self) -> Result<Option<String>, SinkError> {
        let name = [("experiment_name", self.experiment.as_str())];
        let request = self.client.get(&format!("{API}/experiments/get-by-name"), &name);
        let found: Value = match self.client.send_for(request).await {
            Err(error) if has_code(&error, "RESOURCE_DOES_NOT_EXIST") => return Ok(None),
            found => found?,
        };
        let experiment = &found["experiment"];
        if experiment["lifecycle_stage"] == "deleted" {
            let name = &self.experiment;
            return Err(SinkError::retry(format!(
                "experiment {name:?} was deleted on the server: restore it there, or name another"
            )));
        }
        let id = experiment["experiment_id"].as_str().map(str::to_owned);
        id.map(Some).ok_or_else(|| SinkError::retry("the server's experiment has no id"))
    }

    /// The same of one that is made if it isn't there, by us or by somebody else at the same time.
    async fn made_experiment_id(&self) -> Result<String, SinkError> {
        if let Some(id) = self.experiment_id().await? {
            return Ok(id);
        }
        let made = self.post("experiments/create", &json!({"name": self.experiment})).await;
        match made {
            Ok(made) => {
                let id = made["experiment_id"].as_str().map(str::to_owned);
                id.ok_or_else(|| SinkError::retry("the server's new experiment has no id"))
            }
            Err(error) if has_code(&error, "RESOURCE_ALREADY_EXISTS") => {
                let gone = || SinkError::retry("the experiment comes and goes on the server");
                self.experiment_id().await?.ok_or_else(gone)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The run with our tag in an experiment: the oldest, should two have been made at the same time.
    async fn found(&self, experiment_id: &str, tag: &str) -> Result<Option<Place>, SinkError> {
        // The tag's value has no quotes.
        let search = json!({
            "experiment_ids": [experiment_id],
            "filter": format!("tags.`safelight.run` = '{tag}'"),
            "run_view_type": "ALL",
            "max_results": 100,
        });
        let answer = self.post("runs/search", &search).await?;
        let Runs { mut runs } = serde_json::from_value(answer).map_err(SinkError::retry)?;
        // One that is there goes before one that was deleted.
        runs.sort_by_key(|run| (run.info.lifecycle_stage != "active", run.info.start_time));
        runs.into_iter().next().map(|run| Place::of(run.info)).transpose()
    }
}

impl Place {
    fn of(run: ApiRunInfo) -> Result<Self, SinkError> {
        let ApiRunInfo { run_id, experiment_id, artifact_uri, lifecycle_stage, .. } = run;
        if lifecycle_stage != "active" {
            return Err(SinkError::retry(format!(
                "run {run_id} of experiment {experiment_id} was deleted on the server: restore it there, \
                 or leave the run out by `exclude_runs`"
            )));
        }
        let artifacts = artifacts_path(&artifact_uri).ok_or_else(|| {
            SinkError::retry(format!(
                "the server takes no artifacts for run {run_id} of experiment {experiment_id} itself, which has \
                 them at {artifact_uri}: want an experiment made while it runs with --artifacts-destination"
            ))
        })?;
        Ok(Self { experiment_id, run_id, artifacts })
    }
}

/// The path of a run's artifacts, below that of the server's API for them; none if it has no part in storing
/// them.
fn artifacts_path(uri: &str) -> Option<String> {
    let rest = match uri.split_once(':')? {
        ("mlflow-artifacts", rest) => match rest.strip_prefix("//") {
            // With the server's own name before the path.
            Some(rest) => rest.split_once('/')?.1,
            None => rest,
        },
        ("http" | "https", rest) => rest.split_once(&format!("/{ARTIFACTS}/"))?.1,
        _ => return None,
    };
    Some(rest.trim_matches('/').to_owned())
}

impl MlflowRun {
    /// Where its artifacts go; made if need be, as one that started at the time of its first image.
    async fn place(&self, time_ms: i64) -> Result<&Place, SinkError> {
        self.place.get_or_try_init(|| self.find_or_make(time_ms)).await
    }

    async fn find_or_make(&self, time_ms: i64) -> Result<Place, SinkError> {
        let server = &self.server;
        let (id, identity) = (&self.run.id, &self.run.identity);
        let experiment_id = server.made_experiment_id().await?;
        if let Some(place) = self.found(&experiment_id).await? {
            return Ok(place);
        }
        let run = json!({
            "experiment_id": experiment_id,
            "run_name": mlflow::run_name(id, identity),
            "start_time": time_ms,
            "tags": pairs(mlflow::tags(id, identity)),
        });
        let made: OneRun = {
            let answer = server.post("runs/create", &run).await?;
            serde_json::from_value(answer).map_err(SinkError::retry)?
        };
        let place = Place::of(made.run.info)?;
        self.tell_parameters(&place).await?;
        Ok(place)
    }

    /// The run if it is there, which may lack its parameters: we died after it was made.
    async fn found(&self, experiment_id: &str) -> Result<Option<Place>, SinkError> {
        let found = self.server.found(experiment_id, &self.run.id.folder()).await?;
        if let Some(place) = &found {
            self.tell_parameters(place).await?;
        }
        Ok(found)
    }

    async fn tell_parameters(&self, place: &Place) -> Result<(), SinkError> {
        let parameters = pairs(mlflow::parameters(&self.run.identity));
        if parameters.is_empty() {
            return Ok(());
        }
        let batch = json!({"run_id": place.run_id, "params": parameters});
        match self.server.post("runs/log-batch", &batch).await {
            // They are an extra, and can't be changed later: no image waits for them.
            Err(error @ HttpError::Refused { .. }) => {
                tracing::warn!(run = %self.run.id, %error, "the run's parameters were refused");
            }
            told => {
                told?;
            }
        }
        Ok(())
    }

    async fn send(
        &self,
        item: &Delivery,
        place: &Place,
        name: &str,
        bytes: Vec<u8>,
    ) -> Result<(), SinkError> {
        let client = &self.server.client;
        let path = format!("{ARTIFACTS}/{}/{name}", place.artifacts);
        let request = client.request(Method::PUT, &path).body(bytes);
        match client.send(request).await {
            Ok(_) => Ok(()),
            // The server has no such place at all: that is no item's fault.
            Err(
                error @ HttpError::Refused {
                    status: StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED,
                    ..
                },
            ) => Err(error.into()),
            Err(error) => Err(error.of(item)),
        }
    }

    /// What the page shows of a media file; none if it can't be read.
    async fn pictures(
        &self,
        item: &Delivery,
        file: Vec<u8>,
    ) -> Result<(Vec<u8>, Option<Pictures>), SinkError> {
        let file_type = item.file.file_type;
        let _one_at_a_time = self.server.drawing.acquire().await.map_err(SinkError::retry)?;
        let draw = move || {
            let pictures = mlflow::pictures(&file, file_type);
            (file, pictures)
        };
        let (file, pictures) = tokio::task::spawn_blocking(draw).await.map_err(SinkError::retry)?;
        let undrawn = |error| {
            let (run, key, step) = (&self.run.id, &item.id.key, item.id.step);
            tracing::debug!(%run, %key, %step, %error, "no picture for the page: sent as a file");
        };
        Ok((file, pictures.map_err(undrawn).ok()))
    }
}

impl Sink for MlflowRun {
    async fn resume(&mut self, last: Option<&Receipt>) -> Result<(), SinkError> {
        self.place = OnceCell::new();
        self.kept = last.and_then(Receipt::get);
        let server = &self.server;
        let place = if let Some(Kept { run_id, .. }) = &self.kept {
            let request = server.client.get(&format!("{API}/runs/get"), &[("run_id", run_id)]);
            match server.client.send_for::<OneRun>(request).await {
                Err(error) if has_code(&error, "RESOURCE_DOES_NOT_EXIST") => {
                    return Err(SinkError::retry(format!(
                        "run {run_id}, which has images of this run, is no more on the server"
                    )));
                }
                found => Some(Place::of(found?.run.info)?),
            }
        } else if let Some(experiment_id) = server.experiment_id().await? {
            self.found(&experiment_id).await?
        } else {
            None
        };
        self.place = OnceCell::new_with(place);
        Ok(())
    }

    async fn put(&self, item: &Delivery) -> Result<(), SinkError> {
        let time_ms = milliseconds(item.time);
        let names =
            Names::new(&self.run.id, &item.id, item.seq, item.file.sha256.as_bytes(), time_ms);
        let file = read_file(item, &item.file.path, item.file.size).await?;
        let (file, pictures) = self.pictures(item, file).await?;
        let place = self.place(time_ms).await?;

        let extension = item.file.file_type.extension();
        let is_whole = pictures.as_ref().is_some_and(|pictures| pictures.whole.is_none());
        let picture = match &pictures {
            None => None,
            Some(_) if is_whole => Some(names.picture(extension)),
            Some(_) => Some(names.picture("png")),
        };
        let original = if is_whole { picture.clone() } else { Some(names.original(extension)) };
        let layers = &item.layers;
        let (mut masks, mut boxes) = (serde_json::Map::new(), serde_json::Map::new());
        for (name, mask) in &layers.masks {
            let at = names.mask(name);
            let bytes = read_file(item, &mask.path, mask.size).await?;
            self.send(item, place, &at, bytes).await?;
            masks.insert(name.clone(), at.into());
        }
        for (name, set) in &layers.boxes {
            let at = names.boxes(name);
            let bytes = read_file(item, &set.path, set.size).await?;
            self.send(item, place, &at, bytes).await?;
            boxes.insert(name.clone(), at.into());
        }
        let mut record = item.entry.to_json(&self.run.id);
        record["artifacts"] =
            json!({"picture": picture, "file": original, "masks": masks, "boxes": boxes});
        let record = serde_json::to_vec_pretty(&record).map_err(SinkError::retry)?;
        self.send(item, place, &names.record(), record).await?;
        // The picture comes last: until then the page shows nothing.
        let Some(Pictures { whole, thumbnail }) = pictures else {
            return self.send(item, place, &names.original(extension), file).await;
        };
        self.send(item, place, &names.thumbnail(), thumbnail).await?;
        if let Some(whole) = whole {
            self.send(item, place, &names.original(extension), file).await?;
            self.send(item, place, &names.picture("png"), whole).await
        } else {
            self.send(item, place, &names.picture(extension), file).await
        }
    }

    async fn commit(&mut self, items: &[Delivery]) -> Result<Receipt, SinkError> {
        let times = items.iter().map(|item| milliseconds(item.time));
        let last = self.kept.as_ref().map(|kept| kept.time_ms);
        let time_ms = times.chain(last).max().unwrap_or_default();
        let Place { experiment_id, run_id, .. } = self.place(time_ms).await?.clone();
        // Beside what it is for, the server refuses it if somebody has deleted the run.
        let tag = json!({"run_id": run_id, "key": "mlflow.loggedImages", "value": "True"});
        self.server.post("runs/set-tag", &tag).await?;
        let kept = Kept { experiment_id, run_id, time_ms, is_finished: false };
        let receipt = Receipt::new(&kept)?;
        self.kept = Some(kept);
        Ok(receipt)
    }

    async fn rest(&mut self, why: Rest) -> Result<Option<Receipt>, SinkError> {
        let Some(kept) = &self.kept else { return Ok(None) };
        if why != Rest::Finished || kept.is_finished {
            return Ok(None);
        }
        let Kept { run_id, time_ms, .. } = kept;
        let end = json!({"run_id": run_id, "status": "FINISHED", "end_time": time_ms});
        self.server.post("runs/update", &end).await?;
        let kept = Kept { is_finished: true, ..kept.clone() };
        let receipt = Receipt::new(&kept)?;
        self.kept = Some(kept);
        Ok(Some(receipt))
    }
}

#[cfg(test)]
mod tests;
