//! What an object store has of a run that is backfilled: the directory that its manifests were made of, and the marker
//! of a whole backfill.

use serde::{Deserialize, Serialize};

use super::store::{Store, content_type};
use super::{Existing, StoreLocation};
use crate::config::sync::ObjectStoreConfig;
use crate::formats::object_store::{BoxRun, FORMAT};
use crate::media::{BoxName, RunId};
use crate::sinks::SinkError;

/// The marker of a backfilled run: `runs/BOX/RUN/backfilled.json`. It is created after all else of the run, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BackfillMarker {
    /// The version of the layout.
    pub(crate) v: u32,
    #[serde(rename = "box")]
    pub(crate) box_name: BoxName,
    pub(crate) run: RunId,
    /// Where the run comes from, as in `run.json`.
    pub(crate) source: String,
    /// Digest of names, sizes and times of the run directory's files.
    pub(crate) fingerprint: String,
    /// The version of Safelight.
    pub(crate) version: String,
    pub(crate) images: u64,
    pub(crate) held: u64,
    pub(crate) rejected: u64,
    /// Bytes of the media files.
    pub(crate) bytes: u64,
    /// When the backfill was complete, in seconds since the Unix epoch.
    pub(crate) time: u64,
}

/// The objects of a run that a backfill looks at.
pub(crate) struct BackfillObjects {
    store: Store,
    run_name: String,
    marker_name: String,
}

impl BackfillObjects {
    /// Opens the store of a target. Sends no request.
    ///
    /// # Errors
    /// [`SinkError::Retry`] only.
    pub(crate) fn open(
        config: &ObjectStoreConfig,
        box_name: &BoxName,
        run: &RunId,
    ) -> Result<Self, SinkError> {
        let location = StoreLocation::open(config)?;
        // Two writers of a marker write the same. So the store is not probed, which takes three requests.
        let (is_conditional, multipart_bytes) = (false, config.multipart_bytes.get());
        let store = Store { location, is_conditional, multipart_bytes };
        let run = BoxRun { box_name: box_name.clone(), run: run.clone(), project: None };
        Ok(Self { store, run_name: run.run_name(), marker_name: run.backfilled_name() })
    }

    /// Returns where the run comes from whose manifests are in the store. `None` if the store has no such run.
    ///
    /// # Errors
    /// [`SinkError::Retry`] if the store cannot be read.
    pub(crate) async fn source(&self) -> Result<Option<String>, SinkError> {
        let content = self.content(&self.run_name).await?;
        let Some(content) = content else { return Ok(None) };
        let run: Existing = self.parsed(&self.run_name, &content)?;
        Ok(Some(run.source))
    }

    /// Returns the marker of the run; `None` if there is none.
    ///
    /// # Errors
    /// [`SinkError::Retry`] if the store cannot be read, or the marker is damaged or of a newer version.
    pub(crate) async fn marker(&self) -> Result<Option<BackfillMarker>, SinkError> {
        let Some(content) = self.content(&self.marker_name).await? else { return Ok(None) };
        let marker: BackfillMarker = self.parsed(&self.marker_name, &content)?;
        if marker.v > FORMAT {
            let (name, got) = (&self.marker_name, marker.v);
            return Err(SinkError::retry(format!(
                "{name} has version {got}, this safelight reads up to {FORMAT}: install a newer safelight"
            )));
        }
        Ok(Some(marker))
    }

    /// Creates the marker of the run, unless there is one.
    ///
    /// # Errors
    /// [`SinkError::Retry`] if the store cannot be written.
    pub(crate) async fn create_marker(&self, marker: &BackfillMarker) -> Result<(), SinkError> {
        let bytes = serde_json::to_vec_pretty(marker).map_err(SinkError::retry)?;
        let path = self.store.path(&self.marker_name).map_err(|error| self.store.retry(&error))?;
        let attributes = self.store.attributes(content_type("json"));
        let created = self.store.create(&path, bytes, attributes).await;
        created.map(drop).map_err(|error| self.store.retry(&error))
    }

    async fn content(&self, name: &str) -> Result<Option<Vec<u8>>, SinkError> {
        let path = self.store.path(name).map_err(|error| self.store.retry(&error))?;
        self.store.content(&path).await.map_err(|error| self.store.retry(&error))
    }

    fn parsed<'a, T: Deserialize<'a>>(
        &self,
        name: &str,
        content: &'a [u8],
    ) -> Result<T, SinkError> {
        serde_json::from_slice(content).map_err(|error| {
            let error = self.store.location.redactor().text(&error.to_string());
            SinkError::retry(format!("{name} is damaged ({error}): remove the object"))
        })
    }
}
