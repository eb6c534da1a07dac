//! W&B: offline runs that `wandb sync` uploads (`formats::wandb_log`).
//!
//! ```text
//! PATH/
//!   wandb/offline-run-YYYYMMDD_HHMMSS-ID/   closed segments: complete, and never changed again
//!   open/ID/offline-run-…-ID/               the open segment, and closed segments whose receipt may not be
//!                                           stored yet
//!   open/ID/staged/…                        files of images that have no row yet
//!   open/ID/waiting-N.jsonl, totals-N.json  long parts of the state (see `stored`)
//!   uploads/offline-run-…-ID/               output of the upload command, kept while it runs and if it fails
//! ```
//!
//! The images of a training form a separate W&B run, because two writers of one run would overwrite each other. Its
//! `ID` is the training's id with `-img`. It has the training's group and the training's steps.
//!
//! A row is one step, and steps must increase. The images of the last step are therefore held until an image of a
//! later step arrives. An image that arrives after its row was written waits for the next *segment*. A segment is
//! another offline run with the same id, and the client appends its rows to the run.
//!
//! Syncing a segment twice duplicates its rows. A segment is therefore moved to `wandb/` only after the receipt that
//! lists it as closed is stored. The call after the one that closed the segment moves it.

mod files;
mod segment;
mod state;
mod stored;
mod upload;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use self::files::Staging;
use self::segment::{Pending, Segments};
use self::state::{Held, State};
use self::stored::{StateStore, Stored};
use super::target_dir::TargetDir;
use super::{Delivery, Receipt, Rest, Sink, SinkError, Target};
use crate::config::sync::WandbConfig;
use crate::durable::Disk;
use crate::formats::wandb_log::names;
use crate::formats::wandb_log::record::{KeyedChanges, KeyedValue, RunStart};
use crate::formats::wandb_log::row::{ROW_BYTES_MAX, is_taken, n_row_bytes};
use crate::store::RunInfo;

/// Number of late images at which the open segment is closed, so that the next segment can take them. Late images
/// wait in the receipt, which is written at every commit.
const LATE_MAX: usize = 256;

/// The target, shared by all runs.
#[derive(Debug)]
pub(crate) struct WandbTarget {
    config: Arc<WandbConfig>,
    dir: TargetDir,
}

/// The sink of one run.
#[derive(Debug)]
pub(crate) struct WandbRun {
    config: Arc<WandbConfig>,
    staging: Staging,
    segments: Segments,
    state: State,
    store: StateStore,
    /// Staged files whose images are in a row, and files of earlier states. The next call removes them, because the receipt is
    /// stored then.
    used: Vec<PathBuf>,
}

/// An error of reading or writing a file of the target.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
struct FileError {
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self { path, source }
    }
}

/// Does the same as [`FileError::at`] for a path relative to the target's directory.
fn in_dir(dir: &TargetDir, path: &Path) -> impl FnOnce(io::Error) -> FileError + use<> {
    FileError::at(&dir.path(path))
}

impl From<FileError> for SinkError {
    fn from(error: FileError) -> Self {
        Self::retry(error)
    }
}

impl WandbTarget {
    fn at(config: &WandbConfig) -> Result<Self, FileError> {
        let dir = TargetDir::new(&config.path, Disk::default());
        for folder in ["wandb", "open"].map(Path::new) {
            dir.create_dir_all(folder).map_err(in_dir(&dir, folder))?;
        }
        Ok(Self { config: Arc::new(config.clone()), dir })
    }
}

impl Target for WandbTarget {
    type Config = WandbConfig;
    type Run = WandbRun;

    async fn open(config: &WandbConfig) -> Result<Self, SinkError> {
        Ok(Self::at(config)?)
    }

    fn run(&self, run: &RunInfo) -> WandbRun {
        let start = run_start(&self.config, run);
        let segments = Segments::new(&self.dir, start);
        WandbRun {
            staging: Staging::new(self.dir.clone(), segments.folder().join("staged")),
            config: Arc::clone(&self.config),
            store: StateStore::new(self.dir.clone(), segments.folder().to_owned()),
            segments,
            state: State::default(),
            used: Vec::new(),
        }
    }
}

/// Returns the run record of each segment of a run. Skips values of `safelight.json` that have the wrong type.
fn run_start(config: &WandbConfig, run: &RunInfo) -> RunStart {
    let said = |name: &str| {
        let text = run.identity.get(name).and_then(Value::as_str).map(str::trim);
        text.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let tags = run.identity.get("tags").and_then(Value::as_array).into_iter().flatten();
    let settings = run.identity.get("config").and_then(Value::as_object);
    let settings = settings.into_iter().flat_map(Map::iter);
    let settings = settings.map(|(name, value)| KeyedValue::flat(name, value)).collect();
    let name = said("name").unwrap_or_else(|| run.id.to_string());
    let project = said("project").or_else(|| config.project.clone());
    RunStart {
        run_id: names::images_run_id(&run.id),
        entity: said("entity").or_else(|| config.entity.clone()).unwrap_or_default(),
        project: project.map(|name| names::project(&name)).unwrap_or_default(),
        config: Some(KeyedChanges::updates(settings)),
        run_group: said("group").unwrap_or_else(|| run.id.to_string()),
        job_type: config.job_type.clone(),
        display_name: format!("{name}{}", names::ENDING),
        tags: tags.filter_map(Value::as_str).filter_map(names::tag).collect(),
        start_time: None,
    }
}

impl WandbRun {
    /// Removes the staged files that the last receipt no longer needs, and hands over its closed segments. The last
    /// receipt must be stored. Returns whether there were closed segments.
    async fn settle(&mut self) -> Result<bool, SinkError> {
        self.used.drain(..).for_each(|path| self.staging.remove(&path));
        let mut did = false;
        while let Some(name) = self.state.closed.first() {
            if self.segments.hand_over(name)? {
                let uploaded = upload::upload(&self.config, self.segments.dir(), name).await;
                uploaded.map_err(SinkError::retry)?;
            }
            self.state.closed.remove(0);
            did = true;
        }
        Ok(did)
    }

    /// Writes the rows of held images: all rows if `is_last`, else the rows of complete steps. Closes a segment if it
    /// is full or has too many late images. Returns the staged files of the rows written.
    fn write_rows(&self, state: &mut State, is_last: bool) -> Result<Vec<PathBuf>, SinkError> {
        let n_items_max = self.config.segment_items_max.get();
        let mut used = Vec::new();
        let mut pending = Pending::default();
        loop {
            let is_full = state.open.as_ref().is_some_and(|open| open.n_items >= n_items_max);
            // The caller closes the last segment, because only the caller knows whether the run is over.
            let is_end = is_last && state.held.is_empty() && state.late.is_empty();
            if is_full && !is_end || state.late.len() >= LATE_MAX {
                // More segments of the run follow.
                self.segments.close(state, &mut pending, true)?;
            }
            let Some(step) = state.next_step(is_last) else { break };
            let items = state.take_step(step);
            let paths = items.iter().flat_map(|item| item.paths());
            used.extend(paths.map(|path| self.staging.at(&path)));
            self.segments.write_row(state, &mut pending, step, &items, &self.staging)?;
        }
        self.segments.flush(state, &mut pending)?;
        Ok(used)
    }
}

impl Sink for WandbRun {
    async fn resume(&mut self, last: Option<&Receipt>) -> Result<(), SinkError> {
        self.used.clear();
        let stored = match last.map(Receipt::get) {
            None => Stored::default(),
            Some(Some(stored)) => stored,
            Some(None) => {
                return Err(SinkError::retry(
                    "what is stored of this run's delivery is of another version of safelight",
                ));
            }
        };
        self.state = self.store.load(stored)?;
        self.segments.resume(&self.state)?;
        self.staging.sweep(&self.state.waiting().flat_map(|item| item.paths()).collect())?;
        Ok(())
    }

    async fn put(&self, item: &Delivery) -> Result<(), SinkError> {
        if is_taken(&item.id.key) {
            let key = item.id.key.as_str();
            return Err(SinkError::reject(item, format!("W&B has {key:?} for a value of its own")));
        }
        let n_bytes = n_row_bytes(&item.id, &item.entry);
        if n_bytes > ROW_BYTES_MAX {
            let why = format!("{n_bytes} bytes of JSON, want at most {ROW_BYTES_MAX} in a row");
            return Err(SinkError::reject(item, why));
        }
        self.staging.bring(item)
    }

    async fn commit(&mut self, items: &[Delivery]) -> Result<Receipt, SinkError> {
        let named = items.iter().flat_map(|item| item.entry.paths());
        let named: BTreeSet<PathBuf> = named.map(|path| self.staging.at(&path)).collect();
        self.used.retain(|path| !named.contains(path));
        self.settle().await?;
        let mut state = self.state.clone();
        let new: Vec<Arc<Held>> = items.iter().map(|item| Arc::new(Held::of(item))).collect();
        new.iter().for_each(|item| state.take(item.clone()));
        let mut used = self.write_rows(&mut state, false)?;
        let has_new_rows = !used.is_empty();
        if has_new_rows {
            // A waiting image may use the same mask file.
            let named = state.waiting().flat_map(|item| item.paths());
            let named: BTreeSet<PathBuf> = named.map(|path| self.staging.at(&path)).collect();
            used.retain(|path| !named.contains(path));
        }
        // Files of images that waited before are durable.
        self.staging.sync(items.iter().flat_map(|item| item.entry.paths()))?;
        let (receipt, stale) = self.store.store(&state, new, has_new_rows)?;
        used.extend(stale);
        (self.state, self.used) = (state, used);
        Ok(receipt)
    }

    async fn rest(&mut self, why: Rest) -> Result<Option<Receipt>, SinkError> {
        let did = self.settle().await?;
        let idle = Duration::from_secs(self.config.segment_idle_s.get());
        let is_over = match why {
            Rest::Idle(passed) => passed >= idle,
            Rest::Finished | Rest::Leaving => true,
        };
        if is_over && !self.state.is_at_rest() {
            let mut state = self.state.clone();
            let mut used = Vec::new();
            loop {
                used.extend(self.write_rows(&mut state, true)?);
                let is_last = state.late.is_empty();
                self.segments.close(&mut state, &mut Pending::default(), !is_last)?;
                if is_last {
                    break;
                }
            }
            let (receipt, stale) = self.store.store(&state, Vec::new(), true)?;
            used.extend(stale);
            (self.state, self.used) = (state, used);
            return Ok(Some(receipt));
        }
        if !did && self.state.is_at_rest() && !self.store.has_files() {
            // The folder holds only empty folders. If the removal fails, they do no harm.
            self.segments.dir().remove_dir_all(self.segments.folder()).ok();
        }
        if !did {
            return Ok(None);
        }
        self.store.store(&self.state, Vec::new(), false).map(|(receipt, _)| Some(receipt))
    }
}

#[cfg(test)]
mod tests;
