//! The reader of one run directory.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use super::identity::{IDENTITY_FILE, read_identity};
use crate::config::WatchConfig;
use crate::ingest::dumps::LastDump;
use crate::ingest::folders::{FolderWatcher, Folders, ListedRun, Look};
use crate::ingest::logs::LogFollower;
use crate::ingest::passed_over::RunFindings;
use crate::ingest::run_files::RunFiles;
use crate::limits::Limits;
use crate::media::RunId;
use crate::record::MediaRecord;
use crate::run_dir::{ReadOptions, RunDir};
use crate::store::RunInfo;
use crate::store::journal::{LogCursor, Stamp};

/// Unknown fields of a run that are logged.
const UNKNOWN_FIELDS_MAX: usize = 100;

/// Fields that are stored for other programs: the Python module `safelight.wandb` reads the names of a picture's files
/// in a W&B run.
const FIELDS_OF_OTHERS: [&str; 1] = ["wandb"];

/// Reads one run directory: knows its folders and follows its logs.
#[derive(Debug)]
pub(crate) struct RunReader {
    pub(crate) info: Arc<RunInfo>,
    pub(crate) files: RunFiles,
    pub(crate) folders: Folders,
    pub(crate) logs: LogFollower,
    pub(crate) last_dump: LastDump,
    pub(crate) unknown_fields: UnknownFields,
    pub(crate) passed_over: RunFindings,
    /// Whether the pipeline was given anything of this run.
    pub(crate) has_submitted: bool,
    /// Whether the run directory was scanned as a whole.
    pub(crate) is_scanned: bool,
    /// Whether other machines may write to the run directory without an event.
    pub(crate) is_remote: bool,
    identity_stamp: Option<Stamp>,
}

/// The unknown fields of a run that were logged.
#[derive(Debug, Default)]
pub(crate) struct UnknownFields(HashSet<String>);

impl RunReader {
    /// Opens a run directory. Its id is the one in `safelight.json`, or else `name`.
    ///
    /// # Errors
    /// If the directory cannot be opened or `safelight.json` cannot be read. The error is for people.
    pub(crate) fn open(
        path: &Path,
        name: &str,
        watch: Arc<WatchConfig>,
        options: ReadOptions,
    ) -> Result<Self, String> {
        // A run that was found below the watched directory is no link, and does not lie behind one.
        let dir = match path.strip_prefix(&watch.path) {
            Ok(inner) if !inner.as_os_str().is_empty() => {
                RunDir::open(&watch.path, options).and_then(|root| root.open_inner(inner))
            }
            _ => RunDir::open(path, options),
        };
        let dir = dir.map_err(|error| format!("{}: {error}", path.display()))?;
        let (identity, identity_stamp) = read_identity(&dir)?;
        // The same directory under another path is the same source.
        let source = dir.canonical().to_owned();
        let id = match identity.get("id") {
            None | Some(Value::Null) => name,
            Some(Value::String(id)) => id,
            Some(other) => {
                return Err(format!(
                    "{}: id: got {other}, want text",
                    path.join(IDENTITY_FILE).display()
                ));
            }
        };
        let id = RunId::new(id).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self {
            info: Arc::new(RunInfo { id, source, identity }),
            files: RunFiles::new(dir, watch),
            folders: Folders::default(),
            logs: LogFollower::default(),
            last_dump: LastDump::default(),
            unknown_fields: UnknownFields::default(),
            passed_over: RunFindings::new(Instant::now()),
            has_submitted: false,
            is_scanned: false,
            is_remote: false,
            identity_stamp,
        })
    }

    /// The run's id.
    pub(crate) fn id(&self) -> &RunId {
        &self.info.id
    }

    /// The run directory's path.
    pub(crate) fn path(&self) -> &Path {
        self.files.dir().path()
    }

    /// Reads `safelight.json` again if it has changed. Returns whether the run must be opened anew under
    /// another id: a job makes its directory first, and writes the id a moment later.
    pub(crate) fn refresh_identity(&mut self) -> bool {
        let stamp = self.files.dir().look(IDENTITY_FILE).map(|(_, stamp)| stamp);
        if stamp == self.identity_stamp {
            return false;
        }
        self.identity_stamp = stamp;
        let run = &self.info.id;
        match read_identity(self.files.dir()) {
            Ok((identity, _)) => match identity.get("id").and_then(Value::as_str) {
                Some(id) if id != run.as_str() && self.has_submitted => {
                    let why =
                        "safelight.json names another id, but the run has items under this one";
                    tracing::error!(%run, id, "{why}");
                }
                Some(id) if id != run.as_str() => return true,
                _ => self.info = Arc::new(RunInfo { identity, ..(*self.info).clone() }),
            },
            Err(error) => tracing::warn!(%run, %error, "changed safelight.json is not used"),
        }
        false
    }

    /// The known folders, as absolute paths.
    pub(crate) fn folder_paths(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.folders.names().map(|folder| self.path().join(folder))
    }

    /// Looks for new files in folders after `last`, or from the first one on, and adds their paths to `found`. Sets
    /// `last` to the last folder that was looked at. Returns whether it was the last of all. With a `watcher`, each
    /// folder is watched before it is listed.
    ///
    /// # Errors
    /// If the kernel allows no more watches. The next call goes on in the folder where they ended.
    pub(crate) fn scan_some(
        &mut self,
        look: Look,
        last: &mut Option<String>,
        watcher: &mut Option<&mut FolderWatcher>,
        found: &mut Vec<String>,
    ) -> io::Result<bool> {
        let Self { info, files, folders, logs, .. } = self;
        folders.scan_some(ListedRun { id: &info.id, files, logs }, look, last, watcher, found)
    }

    /// Lists a folder that is new, and all folders below it, and adds the paths of all files to `found`.
    ///
    /// # Errors
    /// If the kernel allows no more watches.
    pub(crate) fn scan_new_folder(
        &mut self,
        folder: &str,
        watcher: &mut Option<&mut FolderWatcher>,
        found: &mut Vec<String>,
    ) -> io::Result<()> {
        let Self { info, files, folders, logs, .. } = self;
        // It may have the inode of a folder that was removed, and with it that folder's watch.
        folders.scan_new(ListedRun { id: &info.id, files, logs }, folder, watcher, found)?;
        sort_logs(files, found);
        Ok(())
    }

    /// Looks through the folders that no pattern reaches.
    pub(crate) fn survey(&mut self, now: Instant) {
        let Self { files, folders, logs, passed_over, .. } = self;
        passed_over.survey(files, folders, logs, now);
    }

    /// Counts anew what is passed over. With `is_final`, no line is expected to follow.
    pub(crate) fn summarize_passed_over(&mut self, now: Instant, is_final: bool) {
        let Self { files, folders, passed_over, .. } = self;
        passed_over.summarize(files, folders, now, is_final);
    }

    /// Sets the cursors that the store has for the run's logs.
    pub(crate) fn set_cursors(&mut self, cursors: Vec<LogCursor>) {
        self.logs.set_cursors(cursors);
    }

    /// Follows a log, unless it is followed already. Returns the number of unread lines if `count` is
    /// set.
    pub(crate) fn follow(&mut self, path: &str, limits: &Limits, count: bool) -> u64 {
        self.logs.follow(&self.info.id, &self.files, path, limits.line_bytes_max, count)
    }

    /// Begins a look at the logs.
    pub(crate) fn begin_look_at_logs(&mut self) {
        let is_all_listed = self.folders.are_all_listed();
        self.logs.begin_look(&self.files, is_all_listed);
    }
}

/// Sorts the logs among found files by the time of their last line: of two sessions of a job, the earlier one
/// is read first.
pub(crate) fn sort_logs(files: &RunFiles, found: &mut [String]) {
    let is_log = |path: &&mut String| files.is_log(path);
    if found.iter_mut().filter(is_log).count() < 2 {
        return;
    }
    let modified = |path: &String| files.dir().stat(path).map(|stamp| stamp.mtime_ns);
    let mut logs: Vec<String> = found.iter_mut().filter(is_log).map(|path| path.clone()).collect();
    logs.sort_by_cached_key(|path| (modified(path), path.clone()));
    for (place, log) in found.iter_mut().filter(is_log).zip(logs) {
        *place = log;
    }
}

impl UnknownFields {
    /// Logs the fields of a record that this version does not know, each once in a run.
    pub(crate) fn log(&mut self, run: &RunId, path: &str, record: &MediaRecord) {
        let Some(extra) = record.description.extra.as_ref() else { return };
        extra.for_each_field(|field, _| {
            let is_logged =
                self.0.len() < UNKNOWN_FIELDS_MAX && !FIELDS_OF_OTHERS.contains(&field.as_str());
            if is_logged && self.0.insert(field.clone()) {
                tracing::warn!(%run, field, path, "unknown field is stored with the item and has no effect");
            }
        });
    }
}
