//! Segment directories: creates, writes, closes and hands over segments.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FileType;
use serde_json::{Value, json};

use super::files::{self, Staging};
use super::state::{Held, Open, State};
use super::{FileError, in_dir};
use crate::durable::DiskFile;
use crate::formats::wandb_log::merge::push_before_row;
use crate::formats::wandb_log::record::{
    KeyedChanges, KeyedValue, Kind, LogInfo, Nothing, RunEnd, RunStart, UnixTime,
};
use crate::formats::wandb_log::row::{Row, label_item};
use crate::formats::wandb_log::{self, LogEnd, names};
use crate::media::Step;
use crate::sinks::target_dir::{TargetDir, TargetDirError};

/// Latest start time that a segment's name can hold: the end of the year 9999.
const START_MAX: f64 = 253_402_300_799.0;

/// Folder of the segments that were handed over, relative to the target's directory.
const WANDB: &str = "wandb";

/// Number of bytes read from a log to check that Safelight wrote it. The first record is shorter.
const BEGINNING_BYTES: u64 = 1024;

/// The segments of a run.
#[derive(Debug)]
pub(super) struct Segments {
    dir: TargetDir,
    /// Folder of the segments that are not handed over, relative to the target's directory.
    folder: PathBuf,
    start: RunStart,
}

/// Data to append to the open segment.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Bytes to append to the log.
    bytes: Vec<u8>,
    /// Media files, which must be durable before the log is written.
    files: Vec<PathBuf>,
}

impl Segments {
    pub(super) fn new(dir: &TargetDir, start: RunStart) -> Self {
        let folder = Path::new("open").join(&start.run_id);
        Self { dir: dir.clone(), folder, start }
    }

    pub(super) fn dir(&self) -> &TargetDir {
        &self.dir
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn log(&self, segment: &str) -> PathBuf {
        self.folder.join(segment).join(format!("run-{}.wandb", self.start.run_id))
    }

    /// Removes segments that the receipt does not list, and truncates the open log to the length in the receipt.
    pub(super) fn resume(&self, state: &State) -> Result<(), FileError> {
        let open = state.open.as_ref();
        let known: BTreeSet<&str> =
            state.closed.iter().chain(open.map(|open| &open.name)).map(String::as_str).collect();
        let entries = self.dir.entries(&self.folder).map_err(in_dir(&self.dir, &self.folder))?;
        for (name, _) in entries {
            let text = name.to_string_lossy();
            if text.starts_with("offline-run-") && !known.contains(&*text) {
                let path = self.folder.join(&name);
                self.dir.remove_dir_all(&path).map_err(in_dir(&self.dir, &path))?;
            }
        }
        let Some(open) = open else { return Ok(()) };
        let path = self.log(&open.name);
        let cut = || {
            let log = self.dir.open(&path)?;
            let n_bytes = log.n_bytes()?;
            if !is_ours(&log)? {
                return Err(TargetDirError::NotOurs(self.dir.path(&path)).into());
            }
            if n_bytes < open.n_bytes {
                let what = format!("got {n_bytes} bytes, want the {} that were kept", open.n_bytes);
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            log.set_len(open.n_bytes)?;
            log.sync()
        };
        cut().map_err(in_dir(&self.dir, &path))
    }

    /// Adds a row to the pending data. If no segment is open, begins one.
    pub(super) fn write_row(
        &self,
        state: &mut State,
        pending: &mut Pending,
        step: Step,
        items: &[Arc<Held>],
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
                let is_staged = self.dir.file_type(&staged).map_err(in_dir(&self.dir, &staged))?
                    == Some(FileType::RegularFile);
                let from = if is_staged { self.dir.path(&staged) } else { item.folder.join(&path) };
                match self.dir.link(&from, &to) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        // The file was stored and later removed by another process. The row still names it.
                        tracing::error!(path = %from.display(), "file of an image is gone, and is not synced");
                    }
                    linked => linked.map_err(in_dir(&self.dir, &to))?,
                }
                pending.files.push(to);
            }
        }

        let mut log = LogEnd::of(open.n_bytes, open.seq);
        if is_new {
            self.push_beginning(&mut log, state);
        }
        let is_known = |kind: &str, place: &str, labels: &Value| {
            state.totals.labels.get(kind).and_then(|places| places.get(place)) == Some(labels)
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
        let totals = Arc::make_mut(&mut state.totals);
        for ((kind, place), labels) in &row.labels {
            totals.labels.entry(kind.clone()).or_default().insert(place.clone(), labels.clone());
        }
        let values = row.values.iter().map(|(key, value)| (key.as_str().to_owned(), value.clone()));
        totals.summary.extend(values);
        totals.summary.extend(row.own_values(start).map(|(name, value)| (name.to_owned(), value)));
        let open = Open {
            last_step: step.0,
            last_time: row.time,
            n_items: open.n_items + items.len() as u64,
            ..open
        };
        add(state, pending, open, &log);
        Ok(())
    }

    /// Writes the pending data and makes it durable. Files are durable before the rows that name them.
    pub(super) fn flush(&self, state: &State, pending: &mut Pending) -> Result<(), FileError> {
        let Some(open) = state.open.as_ref().filter(|_| !pending.bytes.is_empty()) else {
            return Ok(());
        };
        files::sync_folders(&self.dir, &self.folder, &pending.files)?;
        let path = self.log(&open.name);
        let offset = open.n_bytes - pending.bytes.len() as u64;
        let write = || {
            let log = if offset == 0 { self.dir.create_new(&path) } else { self.dir.open(&path) }?;
            let n_bytes = log.n_bytes()?;
            if n_bytes != offset || n_bytes > 0 && !is_ours(&log)? {
                // Another file has its name, or another program writes to it.
                return Err(TargetDirError::NotOurs(self.dir.path(&path)).into());
            }
            log.write_all_at(&pending.bytes, offset)?;
            log.sync()?;
            self.dir.sync_dir(path.parent().unwrap_or(&path))
        };
        write().map_err(in_dir(&self.dir, &path))?;
        *pending = Pending::default();
        Ok(())
    }

    /// Begins a segment whose start time is later than that of all segments before.
    fn begin(&self, state: &mut State, time: f64) -> Result<Open, FileError> {
        let earliest = state.last_start.map_or(f64::MIN, |last| last.floor() + 1.0);
        let mut start = time.clamp(0.0, START_MAX).max(earliest);
        // The name may be in use by a segment of an earlier delivery whose receipt is lost.
        let name = loop {
            let name = names::directory(UnixTime::of(start).seconds, &self.start.run_id);
            let places = [Path::new(WANDB).join(&name), self.folder.join(&name)];
            let found = places.each_ref().map(|place| self.dir.file_type(place));
            let [handed_over, open] = found;
            let is_taken = handed_over.map_err(in_dir(&self.dir, &places[0]))?.is_some()
                || open.map_err(in_dir(&self.dir, &places[1]))?.is_some();
            if !is_taken {
                break name;
            }
            start = start.floor() + 1.0;
        };
        let files = self.folder.join(&name).join("files");
        self.dir.create_dir_all(&files).map_err(in_dir(&self.dir, &files))?;
        state.last_start = Some(start);
        Ok(Open { name, n_bytes: 0, seq: 0, last_step: 0, last_time: time, n_items: 0 })
    }

    /// Adds the first records of a segment: its run, and the labels and summary at the end of the segment before.
    fn push_beginning(&self, log: &mut LogEnd, state: &State) {
        let start_time = state.last_start.map(UnixTime::of);
        log.push(LogInfo::ours());
        log.push(RunStart { start_time, ..self.start.clone() });
        let labels = state.totals.labels.iter().flat_map(|(kind, places)| {
            places.iter().map(|(place, labels)| label_item(&(kind.clone(), place.clone()), labels))
        });
        let labels: Vec<KeyedValue> = labels.collect();
        if !labels.is_empty() {
            log.push(Kind::Config(KeyedChanges::updates(labels)));
        }
        let summary = state.totals.summary.iter().map(|(key, value)| KeyedValue::flat(key, value));
        let summary: Vec<KeyedValue> = summary.collect();
        if !summary.is_empty() {
            log.push(Kind::Summary(KeyedChanges::updates(summary)));
        }
    }

    /// Closes the open segment, if there is one. The segment stays in its folder until it is handed over.
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
        let own = own.iter().filter_map(|name| Some((*name, state.totals.summary.get(*name)?)));
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

    /// Moves a closed segment to the folder that `wandb sync` reads. Returns whether the segment is in that folder.
    pub(super) fn hand_over(&self, name: &str) -> Result<bool, FileError> {
        let (from, to) = (self.folder.join(name), Path::new(WANDB).join(name));
        match self.dir.rename_to_new(&from, &to) {
            // The segment was moved before, or a person removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed.map_err(in_dir(&self.dir, &to))?,
        }
        let wandb = Path::new(WANDB);
        self.dir.sync_dir(wandb).map_err(in_dir(&self.dir, wandb))?;
        let found = self.dir.file_type(&to).map_err(in_dir(&self.dir, &to))?;
        Ok(found == Some(FileType::Directory))
    }
}

/// Returns whether Safelight wrote a log, judged by its first record.
fn is_ours(log: &DiskFile) -> io::Result<bool> {
    let n = log.n_bytes()?.min(BEGINNING_BYTES);
    let mut beginning = vec![0; usize::try_from(n).map_err(io::Error::other)?];
    log.read_exact_at(&mut beginning, 0)?;
    Ok(wandb_log::is_ours(&beginning))
}

/// Adds the bytes of `log` to the pending data, and updates the length of the open segment.
fn add(state: &mut State, pending: &mut Pending, open: Open, log: &LogEnd) {
    pending.bytes.extend(log.bytes());
    state.open = Some(Open { n_bytes: log.n_bytes(), seq: log.seq(), ..open });
}
