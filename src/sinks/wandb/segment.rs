//! The directories of segments: begun, written, closed, handed over.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::FileError;
use super::files::{self, Staging};
use super::state::{Held, Open, State};
use crate::durable::Disk;
use crate::formats::wandb_log::merge::push_before_row;
use crate::formats::wandb_log::record::{
    KeyedChanges, KeyedValue, Kind, LogInfo, Nothing, RunEnd, RunStart, UnixTime,
};
use crate::formats::wandb_log::row::{Row, label_item};
use crate::formats::wandb_log::{LogEnd, names};
use crate::media::Step;

/// The latest start of a segment that its name can tell: the end of the year 9999.
const START_MAX: f64 = 253_402_300_799.0;

/// The segments of a run.
#[derive(Debug)]
pub(super) struct Segments {
    disk: Disk,
    /// Where closed ones are.
    wandb: PathBuf,
    /// Where the others are.
    folder: PathBuf,
    start: RunStart,
}

/// What is to be added to the open segment.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// For the end of its log.
    bytes: Vec<u8>,
    /// Its media files, which must be durable before.
    files: Vec<PathBuf>,
}

impl Segments {
    pub(super) fn new(path: &Path, disk: &Disk, start: RunStart) -> Self {
        let folder = path.join("open").join(&start.run_id);
        Self { disk: disk.clone(), wandb: path.join("wandb"), folder, start }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn log(&self, segment: &str) -> PathBuf {
        self.folder.join(segment).join(format!("run-{}.wandb", self.start.run_id))
    }

    /// Removes what was begun after the receipt, and cuts the open log to what it says.
    pub(super) fn resume(&self, state: &State) -> Result<(), FileError> {
        let open = state.open.as_ref();
        let known: BTreeSet<&str> =
            state.closed.iter().chain(open.map(|open| &open.name)).map(String::as_str).collect();
        match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            entries => {
                for entry in entries.map_err(FileError::at(&self.folder))? {
                    let entry = entry.map_err(FileError::at(&self.folder))?;
                    let name = entry.file_name();
                    let name = name.to_string_lossy();
                    if name.starts_with("offline-run-") && !known.contains(&*name) {
                        let path = entry.path();
                        fs::remove_dir_all(&path).map_err(FileError::at(&path))?;
                    }
                }
            }
        }
        let Some(open) = open else { return Ok(()) };
        let path = self.log(&open.name);
        let cut = || {
            let log = self.disk.open(&path)?;
            let n_bytes = log.n_bytes()?;
            if n_bytes < open.n_bytes {
                let what = format!("got {n_bytes} bytes, want the {} that were kept", open.n_bytes);
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            log.set_len(open.n_bytes)?;
            log.sync()
        };
        cut().map_err(FileError::at(&path))
    }

    /// Adds a row to what is pending, of a new segment if none is open.
    pub(super) fn write_row(
        &self,
        state: &mut State,
        pending: &mut Pending,
        step: Step,
        items: &[Held],
        staging: &Staging,
    ) -> Result<(), FileError> {
        let row = Row::of(step, items.iter().map(|item| (&item.id, &item.entry, item.time)));
        let first_time = items.iter().map(|item| item.time).fold(f64::MAX, f64::min);
        let start = *state.start.get_or_insert(first_time);
        let is_new = state.open.is_none();
        let open = match state.open.take() {
            Some(open) => open,
            None => self.begin(state, first_time)?,
        };
        let folder = self.folder.join(&open.name).join("files");
        for item in items {
            for path in item.paths() {
                let to = folder.join(&path);
                let staged = staging.at(&path);
                let from = if staged.is_file() { staged } else { item.folder.join(&path) };
                match files::link(&from, &to) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        // It was kept, and somebody has taken it away. The row says what was there.
                        tracing::error!(path = %from.display(), "file of an image is gone, and is not synced");
                    }
                    linked => linked.map_err(FileError::at(&to))?,
                }
                pending.files.push(to);
            }
        }

        let mut log = LogEnd::of(open.n_bytes, open.seq);
        if is_new {
            self.push_beginning(&mut log, state);
        }
        let is_known = |kind: &str, place: &str, labels: &Value| {
            state.labels.get(kind).and_then(|places| places.get(place)) == Some(labels)
        };
        let labels: Vec<KeyedValue> = row
            .labels
            .iter()
            .filter(|((kind, place), labels)| !is_known(kind, place, labels))
            .map(|(place, labels)| label_item(place, labels))
            .collect();
        if !labels.is_empty() {
            log.push(Kind::Config(KeyedChanges::updates(labels)));
        }
        push_before_row(&mut log, &row);
        log.push(row.history(start));
        for ((kind, place), labels) in &row.labels {
            state.labels.entry(kind.clone()).or_default().insert(place.clone(), labels.clone());
        }
        let values = row.values.iter().map(|(key, value)| (key.as_str().to_owned(), value.clone()));
        state.summary.extend(values);
        state.summary.extend(row.own_values(start).map(|(name, value)| (name.to_owned(), value)));
        let open = Open {
            last_step: step.0,
            last_time: row.time,
            n_items: open.n_items + items.len() as u64,
            ..open
        };
        add(state, pending, open, &log);
        Ok(())
    }

    /// Writes what is pending, files before the rows that name them, and makes it durable.
    pub(super) fn flush(&self, state: &State, pending: &mut Pending) -> Result<(), FileError> {
        let Some(open) = state.open.as_ref().filter(|_| !pending.bytes.is_empty()) else {
            return Ok(());
        };
        files::sync_folders(&self.disk, &self.folder, &pending.files)?;
        let path = self.log(&open.name);
        let offset = open.n_bytes - pending.bytes.len() as u64;
        let write = || {
            let log = if offset == 0 { self.disk.create(&path) } else { self.disk.open(&path) }?;
            log.write_all_at(&pending.bytes, offset)?;
            log.sync()?;
            self.disk.sync_dir(path.parent().unwrap_or(&path))
        };
        write().map_err(FileError::at(&path))?;
        *pending = Pending::default();
        Ok(())
    }

    /// Begins a segment, which is later than those before.
    fn begin(&self, state: &mut State, time: f64) -> Result<Open, FileError> {
        let earliest = state.last_start.map_or(f64::MIN, |last| last.floor() + 1.0);
        let mut start = time.clamp(0.0, START_MAX).max(earliest);
        // Some may be there of a delivery that nothing is known of any more.
        let name = loop {
            let name = names::directory(UnixTime::of(start).seconds, &self.start.run_id);
            if !self.wandb.join(&name).is_dir() && !self.folder.join(&name).is_dir() {
                break name;
            }
            start = start.floor() + 1.0;
        };
        let files = self.folder.join(&name).join("files");
        self.disk.create_dir_all(&files).map_err(FileError::at(&files))?;
        state.last_start = Some(start);
        Ok(Open { name, n_bytes: 0, seq: 0, last_step: 0, last_time: time, n_items: 0 })
    }

    /// What a segment begins with: whose it is, and all that was known at the end of the one before.
    fn push_beginning(&self, log: &mut LogEnd, state: &State) {
        let start_time = state.last_start.map(UnixTime::of);
        log.push(LogInfo::ours());
        log.push(RunStart { start_time, ..self.start.clone() });
        let labels = state.labels.iter().flat_map(|(kind, places)| {
            places.iter().map(|(place, labels)| label_item(&(kind.clone(), place.clone()), labels))
        });
        let labels: Vec<KeyedValue> = labels.collect();
        if !labels.is_empty() {
            log.push(Kind::Config(KeyedChanges::updates(labels)));
        }
        let summary = state.summary.iter().map(|(key, value)| KeyedValue::flat(key, value));
        let summary: Vec<KeyedValue> = summary.collect();
        if !summary.is_empty() {
            log.push(Kind::Summary(KeyedChanges::updates(summary)));
        }
    }

    /// Closes the open segment, if there is one. It stays where it is until it is handed over.
    pub(super) fn close(
        &self,
        state: &mut State,
        pending: &mut Pending,
        more_follows: bool,
    ) -> Result<(), FileError> {
        let Some(open) = state.open.take() else { return Ok(()) };
        let name = open.name.clone();
        let mut log = LogEnd::of(open.n_bytes, open.seq);
        let started = state.start.unwrap_or(open.last_time);
        #[expect(clippy::cast_possible_truncation, reason = "a run of 68 years is long enough")]
        let runtime = (open.last_time - started).max(0.0) as i32;
        let own = ["_step", "_timestamp", "_runtime"];
        let own = own.iter().filter_map(|name| Some((*name, state.summary.get(*name)?)));
        let mut summary: Vec<KeyedValue> =
            own.map(|(name, value)| KeyedValue::flat(name, value)).collect();
        summary.push(KeyedValue::nested(&["_wandb", "runtime"], &json!(runtime)));
        log.push(Kind::Summary(KeyedChanges::updates(summary)));
        log.push(RunEnd { exit_code: 0, runtime, not_complete: more_follows });
        log.push(Nothing {});
        add(state, pending, open, &log);
        self.flush(state, pending)?;
        state.open = None;
        state.closed.push(name);
        Ok(())
    }

    /// Moves a closed segment to where `wandb sync` looks for it. Returns where it is.
    pub(super) fn hand_over(&self, name: &str) -> Result<PathBuf, FileError> {
        let (from, to) = (self.folder.join(name), self.wandb.join(name));
        match self.disk.rename(&from, &to) {
            // It was moved before, or a person has taken it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed.map_err(FileError::at(&to))?,
        }
        self.disk.sync_dir(&self.wandb).map_err(FileError::at(&self.wandb))?;
        Ok(to)
    }
}

/// Has the open segment be as long as it is with `log`, which is pending.
fn add(state: &mut State, pending: &mut Pending, open: Open, log: &LogEnd) {
    pending.bytes.extend(log.bytes());
    state.open = Some(Open { n_bytes: log.n_bytes(), seq: log.seq(), ..open });
}
