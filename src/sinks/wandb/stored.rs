//! The form of the state in a receipt. Long parts are in files beside the open segment:
//!
//! ```text
//! open/ID/waiting-N.jsonl   images that have no row yet, a line each; appended to until a row is written
//! open/ID/totals-N.json     the summary and the class names; written when a row has changed them
//! ```
//!
//! A receipt is written at every commit. The images of a step with 20,000 keys take many commits, and each of these
//! would write all images before it again. The receipt names a file with its length. Other files are removed.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::state::{Held, Open, State, Totals};
use super::{FileError, in_dir};
use crate::durable::DiskFile;
use crate::sinks::target_dir::{TargetDir, TargetDirError};
use crate::sinks::{Receipt, SinkError};

/// A part that is longer, in bytes of JSON, is in a file.
const INLINE_BYTES_MAX: usize = 256 << 10;

/// The beginnings of the files' names.
const WAITING: &str = "waiting-";
const TOTALS: &str = "totals-";

/// How a line of a waiting image begins.
const LINE_START: &[u8] = b"{\"seq\":";

/// The state in a receipt.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Stored {
    open: Option<Open>,
    /// Waiting images that are not in the file.
    held: Vec<Held>,
    /// Earlier versions stored late images apart.
    #[serde(default, skip_serializing)]
    late: Vec<Held>,
    closed: Vec<String>,
    start: Option<f64>,
    last_start: Option<f64>,
    /// Empty if they are in the file.
    #[serde(flatten)]
    totals: Totals,
    #[serde(default)]
    files: Files,
}

/// The files of a state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Files {
    /// The number of the last file.
    n: u64,
    waiting: Option<StateFile>,
    totals: Option<StateFile>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StateFile {
    name: String,
    n_bytes: u64,
}

/// Stores states of a run.
#[derive(Debug)]
pub(super) struct StateStore {
    dir: TargetDir,
    /// The folder of the files, relative to the target's.
    folder: PathBuf,
    files: Files,
    /// Waiting images that are not in the file.
    inline: Vec<Arc<Held>>,
}

impl StateStore {
    pub(super) fn new(dir: TargetDir, folder: PathBuf) -> Self {
        Self { dir, folder, files: Files::default(), inline: Vec::new() }
    }

    /// Returns whether parts of the state are in files.
    pub(super) fn has_files(&self) -> bool {
        self.files.waiting.is_some() || self.files.totals.is_some()
    }

    /// Restores a state. Removes the files that it does not name.
    ///
    /// # Errors
    /// If a file is missing, damaged, or can't be read.
    pub(super) fn load(&mut self, stored: Stored) -> Result<State, FileError> {
        let Stored { open, held, late, closed, start, last_start, totals, files } = stored;
        self.files = files;
        let named = [&self.files.waiting, &self.files.totals].map(Option::as_ref);
        let is_named = |name: &str| named.iter().flatten().any(|file| file.name == name);
        let entries = self.dir.entries(&self.folder).map_err(in_dir(&self.dir, &self.folder))?;
        for (name, _) in entries {
            let text = name.to_string_lossy();
            let is_of_state = text.starts_with(WAITING) || text.starts_with(TOTALS);
            if is_of_state && !is_named(&text) {
                let path = self.folder.join(&name);
                self.dir.remove_file(&path).map_err(in_dir(&self.dir, &path))?;
            }
        }
        let mut state =
            State { open, closed, start, last_start, totals: Arc::new(totals), ..State::default() };
        if let Some(file) = &self.files.totals {
            let totals: Totals = self.read(file, |text| Ok(serde_json::from_reader(text)?))?;
            state.totals = Arc::new(totals);
        }
        if let Some(file) = &self.files.waiting {
            self.read(file, |text| {
                for line in text.lines() {
                    state.take(Arc::new(serde_json::from_str(&line?)?));
                }
                Ok(())
            })?;
        }
        self.inline = held.into_iter().chain(late).map(Arc::new).collect();
        self.inline.iter().for_each(|item| state.take(item.clone()));
        Ok(state)
    }

    /// Reads a file up to its stored length, and cuts off the rest.
    fn read<T>(
        &self,
        file: &StateFile,
        parse: impl FnOnce(BufReader<io::Take<std::fs::File>>) -> io::Result<T>,
    ) -> Result<T, FileError> {
        let path = self.folder.join(&file.name);
        let read = || {
            let opened = self.open(&path, file.n_bytes)?;
            opened.set_len(file.n_bytes)?;
            opened.sync()?;
            parse(BufReader::new(self.dir.open_to_read(&path)?.take(file.n_bytes)))
        };
        read().map_err(in_dir(&self.dir, &path))
    }

    /// Opens a file that has at least its stored length.
    fn open(&self, path: &Path, n_bytes: u64) -> io::Result<DiskFile> {
        let opened = self.dir.open(path)?;
        let got = opened.n_bytes()?;
        if got < n_bytes {
            let what = format!("got {got} bytes, want the {n_bytes} that were kept");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        let is_waiting = name.starts_with(WAITING.as_bytes());
        let mut start = [0; LINE_START.len()];
        opened.read_exact_at(&mut start, 0)?;
        if is_waiting && start != LINE_START {
            return Err(TargetDirError::NotOurs(self.dir.path(path)).into());
        }
        Ok(opened)
    }

    /// Makes a state durable. `new` are the images that were taken since the last call. If rows were written since,
    /// `has_new_rows` is set. Returns the receipt, and the files that are not needed once it is stored.
    ///
    /// # Errors
    /// If a file can't be written.
    pub(super) fn store(
        &mut self,
        state: &State,
        new: Vec<Arc<Held>>,
        has_new_rows: bool,
    ) -> Result<(Receipt, Vec<PathBuf>), SinkError> {
        let mut stale = Vec::new();
        if has_new_rows {
            let files = [self.files.waiting.take(), self.files.totals.take()];
            stale.extend(files.into_iter().flatten().map(|file| self.folder.join(file.name)));
            self.inline = state.waiting().cloned().collect();
            let totals = serde_json::to_vec(&*state.totals).map_err(SinkError::retry)?;
            if totals.len() > INLINE_BYTES_MAX {
                let name = self.new_name(TOTALS, "json");
                self.files.totals = Some(self.append(name, 0, &totals)?);
            }
        } else {
            self.inline.extend(new);
        }
        let mut lines = Vec::new();
        for item in &self.inline {
            serde_json::to_writer(&mut lines, &**item).map_err(SinkError::retry)?;
            lines.push(b'\n');
        }
        if lines.len() > INLINE_BYTES_MAX {
            let (name, n_bytes) = match self.files.waiting.take() {
                Some(file) => (file.name, file.n_bytes),
                None => (self.new_name(WAITING, "jsonl"), 0),
            };
            self.files.waiting = Some(self.append(name, n_bytes, &lines)?);
            self.inline.clear();
        }
        let State { open, closed, start, last_start, totals, .. } = state;
        let has_file = self.files.totals.is_some();
        let stored = Stored {
            open: open.clone(),
            held: self.inline.iter().map(|item| (**item).clone()).collect(),
            late: Vec::new(),
            closed: closed.clone(),
            start: *start,
            last_start: *last_start,
            totals: if has_file { Totals::default() } else { (**totals).clone() },
            files: self.files.clone(),
        };
        Ok((Receipt::new(&stored)?, stale))
    }

    fn new_name(&mut self, start: &str, extension: &str) -> String {
        self.files.n += 1;
        format!("{start}{:08}.{extension}", self.files.n)
    }

    /// Appends to a file of `n_bytes`, which is created if it is to be empty.
    fn append(&self, name: String, n_bytes: u64, bytes: &[u8]) -> Result<StateFile, FileError> {
        let path = self.folder.join(&name);
        let append = || {
            let file = if n_bytes == 0 {
                self.dir.create_dir_all(&self.folder)?;
                self.dir.create_new(&path)?
            } else {
                self.open(&path, n_bytes)?
            };
            file.write_all_at(bytes, n_bytes)?;
            file.sync()?;
            if n_bytes == 0 { self.dir.sync_dir(&self.folder) } else { Ok(()) }
        };
        append().map_err(in_dir(&self.dir, &path))?;
        Ok(StateFile { name, n_bytes: n_bytes + bytes.len() as u64 })
    }
}
