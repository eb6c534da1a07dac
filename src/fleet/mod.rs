//! Looks at what boxes have delivered to an object store, without their stores. Nothing is written there.
//!
//! ```text
//! runs/BOX/RUN/00000001.jsonl … ──▶ journal and index ─┐
//!                                                      ├─ of a scratch store ──▶ Reader ──▶ ls, show, gallery
//! media/HH/SHA256.png ──────────▶ media files ─────────┘
//! ```
//!
//! The scratch store is a folder that is removed at the end. A run's manifests are read when somebody asks for the run,
//! and an object when somebody asks for its picture. Everything else is as with a store of this machine. In the scratch
//! store, a run's id is `BOX/RUN`, and the path of a media file is the name of its object.
//!
//! | file | content |
//! | --- | --- |
//! | `names` | boxes and runs: their folders, and their ids in the scratch store |
//! | `objects` | requests to the object store |
//! | `lines` | which line about a place counts |
//! | `files` | objects of media, as files of the scratch store |
//! | `error` | why something cannot be read |
//!
//! # Invariants
//!
//! - A line that another line replaced never comes back, in whatever order manifests list them.
//! - The name of an object is made of a digest, and its content has this digest.
//! - A run directory that a manifest names is never opened: it is one of another machine.

mod error;
mod files;
mod lines;
mod names;
mod objects;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use serde::Deserialize;
use serde_json::{Map, Value};

pub(crate) use self::error::FleetError;
pub(crate) use self::files::FleetFiles;
use self::lines::{LatestLines, Reading};
pub(crate) use self::names::FleetRun;
pub(crate) use self::objects::OBJECTS_AT_ONCE;
use self::objects::Objects;
use crate::config::sync::ObjectStoreConfig;
use crate::formats::manifest::{self, Content, Line};
use crate::locks::lock;
use crate::media::{MediaId, RunId, State};
use crate::sinks::http::policy::OBJECT_BYTES_MAX;
use crate::sinks::object_store::ListedObject;
use crate::store::journal::{self, Event, SourceCursor};
use crate::store::lock::Holder;
use crate::store::{self, Commit, Reader, RunInfo, Writer};

/// The lines of a run's manifests, at most. Of each is kept in memory which place it is about.
const LINES_MAX: u64 = 4_000_000;

/// The lines of a manifest that are committed together. Readers wait for a commit.
const LINES_PER_COMMIT: usize = 1024;

/// The damages of a run that are named. The others are counted.
const DAMAGES_MAX: usize = 20;

/// What boxes have delivered to an object store.
pub(crate) struct Fleet {
    objects: Arc<Objects>,
    writer: Mutex<Writer>,
    reader: Reader,
    runs: Mutex<BTreeMap<RunId, Arc<RunSlot>>>,
    listed: Mutex<Listed>,
    files: Arc<FleetFiles>,
}

/// The runs that were listed.
#[derive(Default)]
struct Listed {
    at: Option<Instant>,
    runs: HashSet<RunId>,
}

/// A run that was asked for.
#[derive(Default)]
struct RunSlot {
    /// When its manifests were looked for last.
    looked: Mutex<Option<Instant>>,
    /// Held while it is read.
    read: Mutex<ReadRun>,
}

/// How far a run was read.
#[derive(Default)]
struct ReadRun {
    info: Option<Arc<RunInfo>>,
    run: Option<FleetRun>,
    /// The number of the last manifest.
    last: u64,
    n_lines: u64,
    latest: LatestLines,
    /// The numbers of rejections in the manifests, and in the journal of the scratch store.
    rejected: HashMap<u64, u64>,
    damages: Damages,
}

/// Lines that are committed together: the event of each, and the number of the line in the manifest if it is a rejection.
type Events = Vec<(Event, Option<u64>)>;

/// What of a run cannot be read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Damages {
    /// The number of lines and manifests.
    pub(crate) n: u64,
    /// Those among them that were found now.
    pub(crate) n_new: u64,
    /// The first of them: the manifest, and what is wrong.
    pub(crate) first: Vec<String>,
}

/// The parts of `run.json` that are used.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RunJson {
    r#box: Option<String>,
    source: String,
    identity: Map<String, Value>,
}

impl Fleet {
    /// Opens the object store that a configuration names. Nothing is asked of it yet.
    ///
    /// # Errors
    /// If it names no object store, its keys cannot be read, or there is no room for a scratch store.
    pub(crate) fn open(config: &ObjectStoreConfig) -> Result<Self, FleetError> {
        let objects = Arc::new(Objects::open(config)?);
        let folder = tempfile::Builder::new().prefix("safelight-fleet-").tempdir()?;
        let me = Holder { pid: std::process::id(), command: "fleet".to_owned(), socket: None };
        let (writer, reader) = store::open_scratch(folder.path(), &me)?;
        let files = Arc::new(FleetFiles::new(objects.clone(), folder)?);
        let (runs, listed) = (Mutex::default(), Mutex::default());
        Ok(Self { objects, writer: Mutex::new(writer), reader, runs, listed, files })
    }

    /// The URL of the object store.
    pub(crate) fn url(&self) -> &str {
        self.objects.url()
    }

    /// The scratch store.
    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The media files.
    pub(crate) fn files(&self) -> &Arc<FleetFiles> {
        &self.files
    }

    /// The scratch store with the runs that were read, and the media files.
    pub(crate) fn into_store(self) -> (Writer, Reader, Arc<FleetFiles>) {
        let writer = self.writer.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        (writer, self.reader, self.files)
    }

    /// Lists the runs of a box, or of all boxes, in order. Asks for one list of boxes, and one for each box.
    ///
    /// # Errors
    /// If the object store fails, or refuses to list.
    pub(crate) fn runs(&self, of_box: Option<&str>) -> Result<Vec<FleetRun>, FleetError> {
        self.objects.runs(of_box)
    }

    /// Lists the runs of all boxes in the scratch store, unless that was done within `age_max`. Returns their number.
    ///
    /// # Errors
    /// If the object store fails, or refuses to list.
    pub(crate) fn list(&self, age_max: Duration) -> Result<usize, FleetError> {
        let mut listed = lock(&self.listed);
        if listed.at.is_some_and(|at| at.elapsed() < age_max) {
            return Ok(listed.runs.len());
        }
        let at = Instant::now();
        for run in self.runs(None)? {
            let Ok(id) = run.id() else {
                tracing::warn!(folder = run.folder(), "a run has too long a name, and is left out");
                continue;
            };
            if listed.runs.insert(id.clone()) {
                lock(&self.writer).list_run(&id)?;
            }
        }
        listed.at = Some(at);
        Ok(listed.runs.len())
    }

    /// Whether a run's manifests were looked for within `age_max`.
    pub(crate) fn is_fresh(&self, id: &RunId, age_max: Duration) -> bool {
        let slot = lock(&self.runs).get(id).cloned();
        slot.is_some_and(|slot| lock(&slot.looked).is_some_and(|at| at.elapsed() < age_max))
    }

    /// Reads the manifests of a run that were not read yet, unless they were looked for within `age_max`. Calls `see` with
    /// the number of those that are read, and of all new ones. Returns what cannot be read of all manifests of the run.
    ///
    /// # Errors
    /// [`FleetError::NoRun`] if there is no such run. If the object store fails, what was read until then stays.
    pub(crate) fn read_run(
        &self,
        id: &RunId,
        age_max: Duration,
        see: impl FnMut(u64, u64),
    ) -> Result<Damages, FleetError> {
        let slot = lock(&self.runs).entry(id.clone()).or_default().clone();
        let mut run = lock(&slot.read);
        run.damages.n_new = 0;
        if !lock(&slot.looked).is_some_and(|at| at.elapsed() < age_max) {
            let now = Instant::now();
            let result = self.read_more(id, &mut run, see);
            if let Err(error @ FleetError::NoRun { .. }) = result {
                lock(&self.runs).remove(id);
                return Err(error);
            }
            result?;
            *lock(&slot.looked) = Some(now);
        }
        Ok(run.damages.clone())
    }

    fn read_more(
        &self,
        id: &RunId,
        read: &mut ReadRun,
        mut see: impl FnMut(u64, u64),
    ) -> Result<(), FleetError> {
        let named = FleetRun::of_id(id).ok_or_else(|| FleetError::no_run(id, self.url()))?;
        let folder = named.folder().to_owned();
        let after = if read.last == 0 { String::new() } else { manifest_name(read.last) };
        let listed = self.objects.objects_after(&folder, &after)?;
        let manifests: Vec<(u64, ListedObject)> = listed
            .into_iter()
            .filter_map(|object| Some((manifest_number(&object.name)?, object)))
            .collect();
        if read.run.is_none() {
            let described = self.objects.content(&format!("{folder}/run.json"))?;
            if described.is_none() && manifests.is_empty() {
                return Err(FleetError::no_run(id, self.url()));
            }
            begin(id, named, described.as_deref(), read);
            self.commit(id, read, vec![(Event::Cursor, None)])?;
        }
        let named = |(_, object): &(u64, ListedObject)| format!("{folder}/{}", object.name);
        let names = manifests.iter().map(|manifest| (named(manifest), OBJECT_BYTES_MAX));
        let mut contents = self.objects.contents(names);
        for (n_read, (number, object)) in (0..).zip(&manifests) {
            see(n_read, manifests.len() as u64);
            let name = format!("{folder}/{}", object.name);
            if let Some(n) = number.checked_sub(read.last + 1).filter(|n| *n > 0) {
                let first = manifest_name(read.last + 1);
                self.damage(id, read, n, format!("{folder}/{first}: missing, {n} in a row"))?;
            }
            match contents.next()? {
                Some(content) => self.read_manifest(id, read, &name, &content)?,
                None => self.damage(id, read, 1, format!("{name}: the manifest is missing"))?,
            }
            read.last = *number;
        }
        if let Some((_, ListedObject { created: Some(created), .. })) = manifests.last() {
            self.set_changed(id, *created);
        }
        Ok(())
    }

    /// Reads the lines of a manifest.
    fn read_manifest(
        &self,
        id: &RunId,
        read: &mut ReadRun,
        name: &str,
        content: &[u8],
    ) -> Result<(), FleetError> {
        let mut events = Vec::new();
        let lines = content.split(|byte| *byte == b'\n').enumerate();
        for (n, line) in lines.filter(|(_, line)| !line.is_empty()) {
            read.n_lines += 1;
            if read.n_lines > LINES_MAX {
                return Err(FleetError::TooManyLines { run: id.clone(), max: LINES_MAX });
            }
            let (of_box, of_run) = read.run.as_ref().map(FleetRun::names).unwrap_or_default();
            match manifest::parse(line, of_box, of_run) {
                Ok(line) => {
                    let resolved = read.latest.take_resolved(&line);
                    if resolved.iter().any(|seq| !read.rejected.contains_key(seq)) {
                        // It is among those that are not committed yet.
                        self.commit(id, read, std::mem::take(&mut events))?;
                    }
                    self.remove_rejected(id, read, &resolved)?;
                    let reading = read.latest.take(&line);
                    if reading != Reading::Old {
                        add_events(&mut events, line, reading);
                    }
                }
                Err(error) => {
                    self.damage(id, read, 1, format!("{name}: line {}: {error}", n + 1))?;
                }
            }
            if events.len() >= LINES_PER_COMMIT {
                self.commit(id, read, std::mem::take(&mut events))?;
            }
        }
        self.commit(id, read, events)
    }

    /// Commits lines to the scratch store.
    fn commit(&self, id: &RunId, read: &mut ReadRun, events: Events) -> Result<(), FleetError> {
        let Some(run) = &read.info else { return Err(FleetError::no_run(id, self.url())) };
        if events.is_empty() {
            return Ok(());
        }
        // Each line is a batch, so that the index does not take them for parts of one dump.
        let commit = |events| {
            let (run, files, cursor) = (run.clone(), Vec::new(), SourceCursor::None);
            Commit { run, events, files, cursor }
        };
        let (events, rejected): (Vec<_>, Vec<_>) = events.into_iter().unzip();
        let mut group: Vec<Commit> = events.into_iter().map(|event| commit(vec![event])).collect();
        lock(&self.writer).commit(&mut group)?;
        self.reader.check_left_out(id)?;
        let last = self.reader.extent(id)?.map_or(0, |extent| extent.last_seq);
        let numbers = (0..=last).rev();
        let numbered = rejected.into_iter().rev().zip(numbers);
        read.rejected.extend(numbered.filter_map(|(rejected, number)| Some((rejected?, number))));
        Ok(())
    }

    /// Removes rejections from the scratch store, by the numbers of their lines in the manifests.
    fn remove_rejected(
        &self,
        id: &RunId,
        read: &mut ReadRun,
        resolved: &[u64],
    ) -> Result<(), FleetError> {
        let writer = lock(&self.writer);
        for number in resolved.iter().filter_map(|seq| read.rejected.remove(seq)) {
            writer.remove_rejected(id, number)?;
        }
        Ok(())
    }

    /// Notes that `n` lines or manifests cannot be read.
    fn damage(
        &self,
        id: &RunId,
        read: &mut ReadRun,
        n: u64,
        what: String,
    ) -> Result<(), FleetError> {
        tracing::debug!(run = %id, what, "part of a run cannot be read");
        read.damages.n += n;
        read.damages.n_new += n;
        if read.damages.first.len() < DAMAGES_MAX {
            read.damages.first.push(what);
        }
        Ok(lock(&self.writer).add_damaged(id, n)?)
    }

    /// Sets when a run last changed to when its last manifest was made.
    fn set_changed(&self, id: &RunId, created: SystemTime) {
        let Ok(end) = self.reader.journal_end(id) else { return };
        let folder = journal::folder(&self.reader.run_folder(id));
        let segment = std::fs::File::open(journal::segment_path(&folder, end.segment));
        // It is only for people to read.
        drop(segment.and_then(|file| file.set_modified(created)));
    }
}

/// Takes what describes a run.
fn begin(id: &RunId, named: FleetRun, described: Option<&[u8]>, read: &mut ReadRun) {
    let json: Option<RunJson> =
        described.and_then(|described| serde_json::from_slice(described).ok());
    if json.is_none() {
        tracing::warn!(run = %id, "the run.json of a run is missing or damaged");
    }
    let RunJson { r#box, source, identity } = json.unwrap_or_default();
    read.run = Some(match r#box {
        Some(of_box) => named.in_box(&of_box),
        None => named,
    });
    read.info = Some(Arc::new(RunInfo { id: id.clone(), source: source.into(), identity }));
}

/// Adds the events of a line that counts.
fn add_events(events: &mut Events, Line { seq, content }: Line, reading: Reading) {
    let entry = match content {
        Content::Gone(id) => return events.push((Event::Gone { id, path: None }, None)),
        Content::Item(entry) => entry,
    };
    let place = entry.key().cloned().zip(entry.step()).zip(entry.index());
    if let (Reading::InPlaceOfWaiting, Some(((key, step), index))) = (reading, place) {
        events.push((Event::Gone { id: MediaId { key, step, index }, path: None }, None));
    }
    let rejected = (entry.state() == State::Rejected).then_some(seq);
    events.push((Event::Media(entry), rejected));
}

/// The name of a manifest in its run's folder.
fn manifest_name(n: u64) -> String {
    format!("{n:08}.jsonl")
}

/// The number of a manifest; `None` for an object that is none.
fn manifest_number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".jsonl")?.parse().ok()?;
    (manifest_name(number) == name).then_some(number)
}
