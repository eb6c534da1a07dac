//! An `MLflow` server, over its REST API: pictures for the page's image charts, with masks, boxes and a record as
//! files beside them.
//!
//! A run of Safelight is one run on the server, found by its tag `safelight.run`. Each artifact's name is a function
//! of the image, so a redelivery overwrites the same artifacts. [`crate::formats::mlflow`] has the names.

mod server;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use self::server::{MlflowServer, RemoteRun};
use super::http::{Credentials, HttpClient, HttpError};
use super::{Delivery, Receipt, Rest, Sink, SinkError, Target, read_file};
use crate::config::sync::MlflowConfig;
use crate::formats::mlflow::{self, Names, PIXELS_MAX, Pictures};
use crate::media::MediaFile;
use crate::store::RunInfo;

/// The largest media file that is read for a thumbnail, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// An experiment on a server.
#[derive(Debug, Clone)]
pub(crate) struct MlflowTarget(Arc<MlflowServer>);

/// One run of the target.
#[derive(Debug)]
pub(crate) struct MlflowRun {
    server: Arc<MlflowServer>,
    run: RunInfo,
    /// The run on the server, once it is known. It is created for the first image.
    remote: OnceCell<RemoteRun>,
    last: Option<MlflowReceipt>,
}

/// The state of the run on the server after a commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct MlflowReceipt {
    experiment_id: String,
    run_id: String,
    /// The time of the last image, in milliseconds.
    time_ms: i64,
    /// Whether the run's end was reported to the server.
    #[serde(default)]
    is_finished: bool,
}

/// Converts seconds since the Unix epoch to milliseconds.
fn milliseconds(time: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "saturates")]
    let milliseconds = (time * 1000.0).round() as i64;
    milliseconds
}

fn pairs(pairs: Vec<(String, String)>) -> Vec<Value> {
    pairs.into_iter().map(|(key, value)| json!({"key": key, "value": value})).collect()
}

impl Target for MlflowTarget {
    type Config = MlflowConfig;
    type Run = MlflowRun;

    // Sends no request to the server.
    async fn open(config: &MlflowConfig) -> Result<Self, SinkError> {
        let credentials = match (&config.token, &config.username, &config.password) {
            (Some(token), _, _) => Credentials::Bearer(token.clone()),
            (None, Some(username), Some(password)) => {
                Credentials::Basic { username: username.clone(), password: password.clone() }
            }
            _ => Credentials::None,
        };
        let client = HttpClient::new(&config.url, credentials)?;
        Ok(Self(Arc::new(MlflowServer::new(client, config.experiment.clone()))))
    }

    fn run(&self, run: &RunInfo) -> MlflowRun {
        let (server, run) = (Arc::clone(&self.0), run.clone());
        MlflowRun { server, run, remote: OnceCell::new(), last: None }
    }
}

impl MlflowRun {
    /// Returns the run on the server. A new run gets `time_ms` as its start.
    async fn remote(&self, time_ms: i64) -> Result<&RemoteRun, SinkError> {
        self.remote.get_or_try_init(|| self.find_or_create(time_ms)).await
    }

    async fn find_or_create(&self, time_ms: i64) -> Result<RemoteRun, SinkError> {
        let (id, identity) = (&self.run.id, &self.run.identity);
        let experiment_id = self.server.find_or_create_experiment().await?;
        if let Some(remote) = self.find(&experiment_id).await? {
            return Ok(remote);
        }
        let run = json!({
            "experiment_id": experiment_id,
            "run_name": mlflow::run_name(id, identity),
            "start_time": time_ms,
            "tags": pairs(mlflow::tags(id, identity)),
        });
        let remote = self.server.create_run(&run).await?;
        self.log_parameters(&remote).await?;
        Ok(remote)
    }

    /// Finds the run in an experiment. Logs its parameters again, because the daemon may have stopped between the
    /// creation of the run and its parameters.
    async fn find(&self, experiment_id: &str) -> Result<Option<RemoteRun>, SinkError> {
        let found = self.server.find_run(experiment_id, &self.run.id.folder()).await?;
        if let Some(remote) = &found {
            self.log_parameters(remote).await?;
        }
        Ok(found)
    }

    async fn log_parameters(&self, remote: &RemoteRun) -> Result<(), SinkError> {
        let parameters = pairs(mlflow::parameters(&self.run.identity));
        if parameters.is_empty() {
            return Ok(());
        }
        let batch = json!({"run_id": remote.run_id, "params": parameters});
        match self.server.post("runs/log-batch", &batch).await {
            // MLflow refuses to change a parameter. Images are delivered without it.
            Err(error @ HttpError::Refused { .. }) => {
                tracing::warn!(run = %self.run.id, %error, "server refused the run's parameters");
            }
            logged => logged?,
        }
        Ok(())
    }

    /// Returns the pictures that the page shows of an item, and the media file if it was read for them. There are no
    /// pictures if the file is large or can't be decoded.
    async fn pictures(
        &self,
        item: &Delivery,
    ) -> Result<(Option<Vec<u8>>, Option<Pictures>), SinkError> {
        let MediaFile { width, height, size, file_type, .. } = item.file;
        let (run, key, step) = (&self.run.id, &item.id.key, item.id.step);
        let n_pixels = u64::from(width) * u64::from(height);
        if n_pixels > PIXELS_MAX || size > FILE_BYTES_MAX {
            tracing::debug!(%run, %key, %step, n_pixels, size, "image is too large for a thumbnail, uploaded as a file only");
            return Ok((None, None));
        }
        let permit = self.server.thumbnail_permit.acquire().await;
        let _permit = permit.map_err(SinkError::retry)?;
        let file = read_file(item, &item.file).await?;
        let draw = move || {
            let pictures = mlflow::pictures(&file, file_type);
            (file, pictures)
        };
        let (file, pictures) = tokio::task::spawn_blocking(draw).await.map_err(SinkError::retry)?;
        let log_error = |error| {
            tracing::debug!(%run, %key, %step, %error, "image not decoded, uploaded as a file only");
        };
        Ok((Some(file), pictures.map_err(log_error).ok()))
    }

    /// Uploads the media file of an item: from memory if it was read before.
    async fn upload_media(
        &self,
        item: &Delivery,
        run: &RemoteRun,
        name: &str,
        file: Option<Vec<u8>>,
    ) -> Result<(), SinkError> {
        match file {
            Some(bytes) => self.server.upload(item, run, name, bytes, item.file.size).await,
            None => self.server.upload_file(item, run, name, &item.file).await,
        }
    }

    fn receipt(&mut self, state: MlflowReceipt) -> Result<Receipt, SinkError> {
        let receipt = Receipt::new(&state)?;
        self.last = Some(state);
        Ok(receipt)
    }
}

impl Sink for MlflowRun {
    async fn resume(&mut self, last: Option<&Receipt>) -> Result<(), SinkError> {
        self.remote = OnceCell::new();
        self.last = last.and_then(Receipt::get);
        let remote = if let Some(MlflowReceipt { run_id, .. }) = &self.last {
            Some(self.server.run(run_id).await?)
        } else if let Some(experiment_id) = self.server.experiment_id().await? {
            self.find(&experiment_id).await?
        } else {
            None
        };
        self.remote = OnceCell::new_with(remote);
        Ok(())
    }

    async fn put(&self, item: &Delivery) -> Result<(), SinkError> {
        let time_ms = milliseconds(item.time);
        let names =
            Names::new(&self.run.id, &item.id, item.seq, item.file.sha256.as_bytes(), time_ms);
        let (file, pictures) = self.pictures(item).await?;
        let run = self.remote(time_ms).await?;

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
            self.server.upload_file(item, run, &at, mask).await?;
            masks.insert(name.clone(), at.into());
        }
        for (name, set) in &layers.boxes {
            let at = names.boxes(name);
            self.server.upload_file(item, run, &at, set).await?;
            boxes.insert(name.clone(), at.into());
        }
        let mut record = item.entry.to_json(&self.run.id);
        record["artifacts"] =
            json!({"picture": picture, "file": original, "masks": masks, "boxes": boxes});
        let record = serde_json::to_vec_pretty(&record).map_err(SinkError::retry)?;
        let upload = async |name: String, bytes: Vec<u8>| {
            let n_bytes = bytes.len() as u64;
            self.server.upload(item, run, &name, bytes, n_bytes).await
        };
        upload(names.record(), record).await?;
        // The picture is uploaded last, so that the page shows an image only when all its files are there.
        let Some(Pictures { whole, thumbnail }) = pictures else {
            return self.upload_media(item, run, &names.original(extension), file).await;
        };
        upload(names.thumbnail(), thumbnail).await?;
        if let Some(whole) = whole {
            self.upload_media(item, run, &names.original(extension), file).await?;
            upload(names.picture("png"), whole).await
        } else {
            self.upload_media(item, run, &names.picture(extension), file).await
        }
    }

    async fn commit(&mut self, items: &[Delivery]) -> Result<Receipt, SinkError> {
        let times = items.iter().map(|item| milliseconds(item.time));
        let last = self.last.as_ref().map(|last| last.time_ms);
        let time_ms = times.chain(last).max().unwrap_or_default();
        let RemoteRun { experiment_id, run_id, .. } = self.remote(time_ms).await?.clone();
        // The tag makes the page show images. The server also refuses it if the run was deleted.
        let tag = json!({"run_id": run_id, "key": "mlflow.loggedImages", "value": "True"});
        self.server.post("runs/set-tag", &tag).await?;
        self.receipt(MlflowReceipt { experiment_id, run_id, time_ms, is_finished: false })
    }

    async fn rest(&mut self, why: Rest) -> Result<Option<Receipt>, SinkError> {
        let Some(last) = &self.last else { return Ok(None) };
        if why != Rest::Finished || last.is_finished {
            return Ok(None);
        }
        let MlflowReceipt { run_id, time_ms, .. } = last;
        let end = json!({"run_id": run_id, "status": "FINISHED", "end_time": time_ms});
        self.server.post("runs/update", &end).await?;
        self.receipt(MlflowReceipt { is_finished: true, ..last.clone() }).map(Some)
    }
}

#[cfg(test)]
mod tests;
