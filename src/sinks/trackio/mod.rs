//! Trackio: into its directory, or over HTTP.
//!
//! ```text
//! PATH/media/<project>/<run>/<step>/<log id>.png    an image
//! PATH/inbox/<writer>/<number>-<digest>.jsonl       a fragment: rows of images, which the server imports and removes
//!
//! POST /api/upload, /api/bulk_upload_media          an image
//! POST /api/bulk_log                                rows of images
//! ```
//!
//! A row is one image. Its `log_id` is made of run, key, step, index and the image's digest. Trackio ignores a second
//! row with the same id, so a redelivery adds nothing. The first row after a start has the run's config.
//!
//! Source: trackio 0.43 `fragments.py`, `server.py`, `asgi_app.py`.

mod inbox;
mod server;

use std::sync::Arc;

use serde_json::{Value, json};

use self::inbox::TrackioInbox;
use self::server::TrackioServer;
use super::target_dir::TargetDir;
use super::{Delivery, Receipt, Rest, Sink, SinkError, Target};
use crate::config::sync::{TrackioConfig, TrackioPlace};
use crate::durable::Disk;
use crate::formats::trackio::{Names, project_folder};
use crate::media::{MediaEntry, MediaFile, MediaId, RunId};
use crate::store::RunInfo;

/// The project of runs that name none.
const PROJECT: &str = "safelight";

/// A Trackio.
#[derive(Debug, Clone)]
pub(crate) struct TrackioTarget {
    location: TrackioLocation,
    project: Option<String>,
}

/// Where images are delivered.
#[derive(Debug, Clone)]
enum TrackioLocation {
    Inbox(TrackioInbox),
    Server(TrackioServer),
}

impl Target for TrackioTarget {
    type Config = TrackioConfig;
    type Run = TrackioRun;

    async fn open(config: &TrackioConfig) -> Result<Self, SinkError> {
        let location = match &config.place {
            TrackioPlace::Inbox(folder) => {
                let dir = TargetDir::new(folder, Disk::default());
                TrackioLocation::Inbox(TrackioInbox::new(dir))
            }
            TrackioPlace::Server { url, token } => {
                TrackioLocation::Server(TrackioServer::new(url, token.clone())?)
            }
        };
        Ok(Self { location, project: config.project.clone() })
    }

    fn run(&self, run: &RunInfo) -> TrackioRun {
        let from_identity = |name: &str| {
            let text = run.identity.get(name).and_then(Value::as_str);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let project = self.project.clone().or_else(|| from_identity("project"));
        let project = project.unwrap_or_else(|| PROJECT.to_owned());
        let name = from_identity("name").unwrap_or_else(|| run.id.as_str().to_owned());
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
        TrackioRun {
            location: self.location.clone(),
            names: Arc::new(names),
            is_config_sent: false,
        }
    }
}

/// A run of a Trackio.
#[derive(Debug)]
pub(crate) struct TrackioRun {
    location: TrackioLocation,
    names: Arc<Names>,
    /// Whether Trackio has the run's config.
    is_config_sent: bool,
}

/// Returns what the line of an item is made of.
fn of_line(item: &Delivery) -> (&MediaId, &MediaFile, &MediaEntry, f64) {
    (&item.id, &item.file, &item.entry, item.time)
}

impl Sink for TrackioRun {
    async fn resume(&mut self, _: Option<&Receipt>) -> Result<(), SinkError> {
        // Trackio recognizes redelivered rows by their ids.
        Ok(())
    }

    async fn put(&self, item: &Delivery) -> Result<(), SinkError> {
        if i64::try_from(item.id.step.0).is_err() {
            return Err(SinkError::reject(item, "step is over 2^63 - 1, Trackio's limit"));
        }
        match &self.location {
            TrackioLocation::Inbox(inbox) => inbox.put(&self.names, item).await,
            TrackioLocation::Server(server) => server.put(&self.names, item).await,
        }
    }

    async fn commit(&mut self, items: &[Delivery]) -> Result<Receipt, SinkError> {
        match &self.location {
            TrackioLocation::Server(server) => {
                server.log(&self.names, items, !self.is_config_sent).await?;
            }
            TrackioLocation::Inbox(inbox) => {
                let (inbox, names, items) = (inbox.clone(), self.names.clone(), items.to_vec());
                let has_config = !self.is_config_sent;
                let write = move || inbox.write_fragment(&names, &items, has_config);
                let written = tokio::task::spawn_blocking(write).await;
                written.map_err(SinkError::retry)?.map_err(SinkError::retry)?;
            }
        }
        self.is_config_sent = true;
        let last = items.iter().map(|item| item.seq).max();
        Receipt::new(&json!({ "seq": last }))
    }

    async fn rest(&mut self, _: Rest) -> Result<Option<Receipt>, SinkError> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
