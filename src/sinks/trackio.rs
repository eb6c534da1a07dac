//! Trackio: into its directory, or over HTTP.
//!
//! ```text
//! PATH/media/<project>/<run>/<step>/<log id>.png    an image
//! PATH/inbox/<writer>/<number>-<digest>.jsonl       lines that name images; the server takes and removes it
//!
//! POST /api/upload, /api/bulk_upload_media          an image
//! POST /api/bulk_log                                lines that name images
//! ```
//!
//! A line is one image. Its `log_id` is made of run, key, step, index and the image's digest, and Trackio takes
//! no second line of the same id: what is delivered again is there once.
//!
//! Source: trackio 0.43 `fragments.py`, `server.py`, `asgi_app.py`.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use reqwest::header::HeaderName;
use reqwest::multipart::{Form, Part};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::http::{Credentials, HttpClient, HttpError};
use super::target_dir::TargetDir;
use super::{Delivery, Receipt, Rest, Sink, SinkError, Target, read_file};
use crate::config::sync::{TrackioConfig, TrackioPlace};
use crate::durable::Disk;
use crate::formats::trackio::{Names, project_folder};
use crate::media::{RunId, Sha256};
use crate::store::RunInfo;

/// What its write token stands in.
const TOKEN: HeaderName = HeaderName::from_static("x-trackio-write-token");

/// The project of runs that name none.
const PROJECT: &str = "safelight";

/// How often a fragment's folder is made anew: the server removes it when it is empty.
const ATTEMPTS: usize = 5;

/// A Trackio.
#[derive(Debug, Clone)]
pub(crate) struct TrackioTarget {
    place: Place,
    project: Option<String>,
}

#[derive(Debug, Clone)]
enum Place {
    Inbox(TargetDir),
    Server(HttpClient),
}

impl Target for TrackioTarget {
    type Config = TrackioConfig;
    type Run = TrackioRun;

    async fn open(config: &TrackioConfig) -> Result<Self, SinkError> {
        let place = match &config.place {
            TrackioPlace::Inbox(folder) => Place::Inbox(TargetDir::new(folder, Disk::default())),
            TrackioPlace::Server { url, token } => {
                let token = token.clone();
                let credentials =
                    token.map_or(Credentials::None, |token| Credentials::Header(TOKEN, token));
                Place::Server(HttpClient::new(url, credentials)?)
            }
        };
        Ok(Self { place, project: config.project.clone() })
    }

    fn run(&self, run: &RunInfo) -> TrackioRun {
        let given = |name: &str| {
            let text = run.identity.get(name).and_then(Value::as_str);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let project = self.project.clone().or_else(|| given("project"));
        let project = project.unwrap_or_else(|| PROJECT.to_owned());
        let name = given("name").unwrap_or_else(|| run.id.as_str().to_owned());
        let folder =
            RunId::new(name.as_str()).map_or_else(|_| run.id.folder(), |name| name.folder());
        let config = run.identity.get("config").filter(|config| config.is_object());
        let names = Names {
            project_folder: project_folder(&project),
            project,
            folder,
            name,
            id: run.id.clone(),
            config: config.cloned().unwrap_or_default(),
        };
        TrackioRun { place: self.place.clone(), names: Arc::new(names) }
    }
}

/// A run of a Trackio.
#[derive(Debug)]
pub(crate) struct TrackioRun {
    place: Place,
    names: Arc<Names>,
}

/// Of an answer that says no: only an image that is too large is at fault itself. A missing write token is
/// answered with 400, as is all else that a person can put right.
fn failed(error: HttpError, item: &Delivery) -> SinkError {
    match error {
        HttpError::Refused { status: StatusCode::PAYLOAD_TOO_LARGE, .. } => error.of(item),
        other => other.into(),
    }
}

/// Where the server put what was uploaded.
#[derive(Debug, Deserialize)]
struct Uploaded {
    paths: Vec<String>,
}

impl TrackioRun {
    async fn upload(&self, client: &HttpClient, item: &Delivery) -> Result<(), SinkError> {
        let file_name = self.names.file_name(&item.id, &item.file);
        let part = Part::bytes(read_file(item, &item.file.path, item.file.size).await?)
            .file_name(file_name.clone());
        let request = client.request(Method::POST, "api/upload");
        let request = request.multipart(Form::new().part("files", part));
        let uploaded: Uploaded =
            client.send_for(request).await.map_err(|error| failed(error, item))?;
        let [path] = &uploaded.paths[..] else {
            let got = uploaded.paths.len();
            return Err(SinkError::retry(format!("Trackio took {got} files, want 1")));
        };
        let upload = json!({
            "project": self.names.project,
            "run": self.names.folder,
            "step": item.id.step,
            "relative_path": null,
            "uploaded_file": { "path": path, "orig_name": file_name },
        });
        let request = client.request(Method::POST, "api/bulk_upload_media");
        let request = request.json(&json!({ "uploads": [upload], "hf_token": null }));
        client.send(request).await.map(drop).map_err(|error| failed(error, item))
    }

    /// Writes a fragment under a name that tells its content, so that none that waits is ever replaced.
    fn fragment(&self, dir: &TargetDir, items: &[Delivery]) -> io::Result<()> {
        let media = Path::new("media");
        let folders: BTreeSet<_> =
            items.iter().map(|item| media.join(self.names.step_folder(item.id.step))).collect();
        folders.iter().try_for_each(|folder| dir.sync_dir(folder))?;
        let mut lines = String::new();
        for item in items {
            lines.push_str(
                &self.names.line(&item.id, &item.file, &item.entry, item.time).to_string(),
            );
            lines.push('\n');
        }
        let digest = |text: &str| Sha256::of(text.as_bytes()).to_string()[..16].to_owned();
        let first = items.first().map_or(0, |item| item.seq);
        let writer = format!("safelight-{}", digest(self.names.id.as_str()));
        let folder = Path::new("inbox").join(writer);
        let path = folder.join(format!("{first:08}-{}.jsonl", digest(&lines)));
        let mut attempt = 1;
        loop {
            let written = dir
                .create_dir_all(&folder)
                .and_then(|()| dir.write_once(&path, lines.as_bytes()))
                .and_then(|()| dir.sync_dir(&folder));
            match written {
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS => {
                    attempt += 1;
                }
                written => return written,
            }
        }
    }
}

impl Sink for TrackioRun {
    async fn resume(&mut self, _: Option<&Receipt>) -> Result<(), SinkError> {
        // What comes again is known by its id.
        Ok(())
    }

    async fn put(&self, item: &Delivery) -> Result<(), SinkError> {
        if i64::try_from(item.id.step.0).is_err() {
            return Err(SinkError::reject(item, "step is over 2^63 - 1, Trackio's greatest"));
        }
        match &self.place {
            Place::Server(client) => self.upload(client, item).await,
            Place::Inbox(dir) => {
                let bytes = read_file(item, &item.file.path, item.file.size).await?;
                let folder = Path::new("media").join(self.names.step_folder(item.id.step));
                let path = folder.join(self.names.file_name(&item.id, &item.file));
                let dir = dir.clone();
                let write = move || {
                    dir.create_dir_all(&folder)?;
                    // The folder is synced with the others of a commit.
                    dir.write_once(&path, &bytes)
                };
                let written = tokio::task::spawn_blocking(write).await;
                written.map_err(SinkError::retry)?.map_err(SinkError::retry)
            }
        }
    }

    async fn commit(&mut self, items: &[Delivery]) -> Result<Receipt, SinkError> {
        match &self.place {
            Place::Server(client) => {
                let logs: Vec<Value> = items
                    .iter()
                    .map(|item| self.names.line(&item.id, &item.file, &item.entry, item.time))
                    .collect();
                let request = client.request(Method::POST, "api/bulk_log");
                let request = request.json(&json!({ "logs": logs, "hf_token": null }));
                client.send(request).await?;
            }
            Place::Inbox(dir) => {
                let (dir, items) = (dir.clone(), items.to_vec());
                let run = Self { place: self.place.clone(), names: self.names.clone() };
                let write = move || run.fragment(&dir, &items);
                let written = tokio::task::spawn_blocking(write).await;
                written.map_err(SinkError::retry)?.map_err(SinkError::retry)?;
            }
        }
        let last = items.iter().map(|item| item.seq).max();
        Receipt::new(&json!({ "seq": last }))
    }

    async fn rest(&mut self, _: Rest) -> Result<Option<Receipt>, SinkError> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
