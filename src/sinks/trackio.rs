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
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::header::HeaderName;
use reqwest::multipart::{Form, Part};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::http::{Credentials, HttpClient, HttpError};
use super::{Delivery, Receipt, Rest, Sink, SinkError, Target, read_file};
use crate::config::sync::{TrackioConfig, TrackioPlace};
use crate::durable::Disk;
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
    Inbox { folder: PathBuf, disk: Disk },
    Server(HttpClient),
}

impl Target for TrackioTarget {
    type Config = TrackioConfig;
    type Run = TrackioRun;

    async fn open(config: &TrackioConfig) -> Result<Self, SinkError> {
        let place = match &config.place {
            TrackioPlace::Inbox(folder) => {
                Place::Inbox { folder: folder.clone(), disk: Disk::default() }
            }
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

/// The folder of a project: Trackio's `canonical_project_name`.
fn project_folder(project: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_');
    let folder: String = project.chars().filter(kept).collect();
    if folder.is_empty() { "default".to_owned() } else { folder }
}

/// What a run is called.
#[derive(Debug)]
struct Names {
    project: String,
    project_folder: String,
    /// The run's name as a folder of the project's: the name itself where that can be one.
    folder: String,
    name: String,
    id: RunId,
    /// The run's settings; null if it gave none.
    config: Value,
}

impl Names {
    /// What tells an image from all others, and from its own later versions.
    fn log_id(&self, item: &Delivery) -> String {
        let id = &item.id;
        let of = json!([self.id, id.key, id.step, id.index, item.file.sha256]).to_string();
        Sha256::of(of.as_bytes()).to_string()[..32].to_owned()
    }

    fn file_name(&self, item: &Delivery) -> String {
        format!("{}.{}", self.log_id(item), item.file.file_type.extension())
    }

    /// The folder of a step's images, below `media`.
    fn step_folder(&self, item: &Delivery) -> String {
        format!("{}/{}/{}", self.project_folder, self.folder, item.id.step)
    }

    /// A line of a fragment, which is an entry of `bulk_log` as well.
    fn line(&self, item: &Delivery) -> Value {
        // Trackio has one value for a key and step of a line: further images get keys of their own.
        let key = match item.id.index {
            0 => item.id.key.to_string(),
            index => format!("{}/{index}", item.id.key),
        };
        let caption = item.entry.description.caption.as_ref().map(|caption| match caption {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        let image = json!({
            "_type": "trackio.image",
            "file_path": format!("{}/{}", self.step_folder(item), self.file_name(item)),
            "caption": caption,
        });
        json!({
            "v": 1,
            "kind": "metric",
            "project": self.project,
            "run": self.name,
            "run_id": self.id,
            "metrics": { key: image },
            "step": item.id.step,
            "timestamp": timestamp(item.time),
            "config": self.config,
            "log_id": self.log_id(item),
        })
    }
}

/// Seconds since the Unix epoch as Python's `isoformat` writes them, in UTC.
fn timestamp(time: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "what is too great becomes the greatest")]
    let micros = (time * 1e6).round() as i64;
    // Years 1 to 9999: Python has no others.
    let micros = micros.clamp(-62_135_596_800_000_000, 253_402_300_799_999_999);
    let (seconds, micros) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 1 March of the year 0, in periods of 400, 100, 4 and 1 years: the odd day is a period's last.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 {
        (year_of_era + era * 400, month + 3)
    } else {
        (year_of_era + era * 400 + 1, month - 9)
    };
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!(
        "{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}+00:00"
    )
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
        let file_name = self.names.file_name(item);
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
    fn fragment(&self, folder: &Path, disk: &Disk, items: &[Delivery]) -> io::Result<()> {
        let media = folder.join("media");
        let folders: BTreeSet<_> =
            items.iter().map(|item| media.join(self.names.step_folder(item))).collect();
        folders.iter().try_for_each(|folder| disk.sync_dir(folder))?;
        let mut lines = String::new();
        for item in items {
            lines.push_str(&self.names.line(item).to_string());
            lines.push('\n');
        }
        let digest = |text: &str| Sha256::of(text.as_bytes()).to_string()[..16].to_owned();
        let first = items.first().map_or(0, |item| item.seq);
        let writer = format!("safelight-{}", digest(self.names.id.as_str()));
        let folder = folder.join("inbox").join(writer);
        let path = folder.join(format!("{first:08}-{}.jsonl", digest(&lines)));
        let mut attempt = 1;
        loop {
            let written =
                disk.create_dir_all(&folder).and_then(|()| disk.replace(&path, lines.as_bytes()));
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
            Place::Inbox { folder, disk } => {
                let bytes = read_file(item, &item.file.path, item.file.size).await?;
                let folder = folder.join("media").join(self.names.step_folder(item));
                let (path, disk) = (folder.join(self.names.file_name(item)), disk.clone());
                let write = move || {
                    disk.create_dir_all(&folder)?;
                    let beside = path.with_extension("tmp");
                    let file = disk.create(&beside)?;
                    file.write_all_at(&bytes, 0)?;
                    file.sync()?;
                    // The folder is synced with the others of a commit.
                    disk.rename(&beside, &path)
                };
                let written = tokio::task::spawn_blocking(write).await;
                written.map_err(SinkError::retry)?.map_err(SinkError::retry)
            }
        }
    }

    async fn commit(&mut self, items: &[Delivery]) -> Result<Receipt, SinkError> {
        match &self.place {
            Place::Server(client) => {
                let logs: Vec<Value> = items.iter().map(|item| self.names.line(item)).collect();
                let request = client.request(Method::POST, "api/bulk_log");
                let request = request.json(&json!({ "logs": logs, "hf_token": null }));
                client.send(request).await?;
            }
            Place::Inbox { folder, disk } => {
                let (folder, disk, items) = (folder.clone(), disk.clone(), items.to_vec());
                let run = Self { place: self.place.clone(), names: self.names.clone() };
                let write = move || run.fragment(&folder, &disk, &items);
                let written = tokio::task::spawn_blocking(write).await;
                written.map_err(SinkError::retry)?.map_err(SinkError::retry)?;
            }
        }
        let last = items.iter().map(|item| item.seq).max();
        Ok(Receipt::new(&json!({ "seq": last })))
    }

    async fn rest(&mut self, _: Rest) -> Result<Option<Receipt>, SinkError> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
