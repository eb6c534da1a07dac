//! Retention: media files that are too old or too many, and dumps that nobody needs any more.
//!
//! `policy` decides by counts and ages, `dump_check` reads a dump and its media back, this module looks and
//! removes. An image whose files go stays known: a line of
//! its journal says that it is *pruned*, and is durable before the first file is gone.

mod dump_check;
mod policy;
mod report;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use self::policy::{DumpUse, Kept, Verdict, judge_dump, judge_media};
pub use self::report::{Report, RunReport};
use crate::annotations::mask_dumps;
use crate::config::Live;
use crate::config::retention::DumpRetention;
use crate::media::{Digest, Fate, MediaEntry, MediaId, RunId};
use crate::run_dir::{ReadFailure, ReadOptions, RunDir, RunFile};
use crate::store::journal::JournalOffset;
use crate::store::media_dir::is_older;
use crate::store::{ImageToPrune, Reader, Removed, RunInfo, StoreError};
use crate::sync::{self, TargetCoverage};

/// A media file that no item names may be one of a commit that is under way: this old it is not.
const STRAY_AGE_MIN: Duration = Duration::from_hours(1);

/// How much the clock may have gone another way than time since the start.
const CLOCK_JUMP_MAX: Duration = Duration::from_hours(1);

/// How many images are pruned in one commit.
const GROUP: usize = 256;

/// How many strays are removed at a time.
const STRAYS_GROUP: usize = 256;

/// What time it is, and whether that can be believed: ages decide what goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: (SystemTime, Instant),
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: (SystemTime::now(), Instant::now()) }
    }

    /// The time; none if the clock was set since the start.
    fn now(&self) -> Option<SystemTime> {
        let expected = self.start.0 + self.start.1.elapsed();
        let now = SystemTime::now();
        let jump = now.duration_since(expected).unwrap_or_else(|before| before.duration());
        (jump <= CLOCK_JUMP_MAX).then_some(now)
    }
}

/// Removes from the store, between its commits.
pub(crate) trait Remove {
    /// As [`Writer::prune`](crate::store::Writer::prune). With nothing to prune: checks that all that
    /// was committed is in the index.
    fn prune(&mut self, run: &RunId, leaving: Vec<ImageToPrune>) -> Removed;

    /// As [`Writer::remove_strays`](crate::store::Writer::remove_strays).
    fn remove_strays(&mut self, strays: Vec<PathBuf>, age_min: Duration) -> Removed;

    /// Whether to go on by the rules that were given.
    fn goes_on(&self) -> bool;
}

/// Looks through the store for what may go. With `remove`, it goes. Dumps are read by `reading`.
///
/// # Errors
/// If the store can't be read, or doesn't take that something is pruned. What can't be removed is
/// told in the report.
pub(crate) fn sweep(
    reader: &Reader,
    config: &Live,
    clock: Clock,
    reading: &ReadOptions,
    mut remove: Option<&mut dyn Remove>,
) -> Result<Report, StoreError> {
    let now = clock.now();
    let mut report = Report { applied: remove.is_some(), runs: Vec::new(), problem: None };
    if now.is_none() {
        let what = "the system's clock was set: nothing is removed by its age until the next start";
        report.problem = Some(what.to_owned());
    }
    for summary in reader.runs()? {
        let Some(info) = reader.run_info(&summary.run)? else { continue };
        if remove.as_ref().is_some_and(|remove| !remove.goes_on()) {
            let what = "other rules hold by now: what was not removed yet is left";
            report.problem = Some(what.to_owned());
            break;
        }
        let is_damaged = summary.damaged > 0;
        let of_run = sync::coverage(reader.root(), &config.targets, &summary.run);
        let delivered = match of_run {
            Ok(delivered) => delivered,
            Err(error) => {
                report.problem = Some(format!("run {} is left as it is: {error}", summary.run));
                continue;
            }
        };
        let targets = &delivered;
        let sweep = Sweep { reader, config, now, run: info, is_damaged, targets, reading };
        let of_run = sweep.run(&mut remove)?;
        report.runs.extend((!of_run.is_empty()).then_some(of_run));
    }
    Ok(report)
}

struct Sweep<'a> {
    reader: &'a Reader,
    config: &'a Live,
    now: Option<SystemTime>,
    run: RunInfo,
    /// Whether lines of its journal are damaged: nobody knows what they named.
    is_damaged: bool,
    /// How far each target has the run.
    targets: &'a [TargetCoverage],
    reading: &'a ReadOptions,
}

/// What a look at all items of a run found.
#[derive(Default)]
struct Found {
    kept: Vec<Kept>,
    dumps: BTreeMap<String, FoundDump>,
}

/// What the store knows of a dump.
#[derive(Default)]
struct FoundDump {
    uses: DumpUse,
    /// Its digest when it was read last.
    digest: Option<Digest>,
    images: Vec<MediaId>,
}

/// Whoever removes, if anything is to be removed.
type Remover<'r, 'a> = &'r mut Option<&'a mut dyn Remove>;

impl Sweep<'_> {
    fn run(&self, remove: Remover<'_, '_>) -> Result<RunReport, StoreError> {
        let id = &self.run.id;
        let mut report = RunReport::new(id.clone());
        if let Some(remove) = remove {
            remove.prune(id, Vec::new())?;
        }
        let (dir, unopened) = match self.open() {
            Ok(dir) => (dir, None),
            Err(error) => (None, Some(error)),
        };
        let found = self.look(dir.as_ref())?;
        if let Some(error) = unopened.filter(|_| !found.dumps.is_empty()) {
            let why = format!("the run directory cannot be opened: {error}");
            report.dumps.count(Verdict::Skip(why), 0);
        }
        let verdicts = judge_media(&self.config.retention, &found.kept, self.targets);
        let mut going = BTreeSet::new();
        for (kept, verdict) in found.kept.iter().zip(verdicts) {
            if matches!(verdict, Verdict::Remove(_)) {
                going.insert(kept.place);
            }
            report.media.count(verdict, kept.bytes);
        }
        let (mut named, leaving) = self.files(&going)?;
        named.extend(leaving.iter().flat_map(|leaving| &leaving.paths).map(|path| hash_of(path)));
        if let Some(remove) = remove {
            for group in leaving.chunks(GROUP) {
                report.media.failed_files(remove.prune(id, group.to_vec())?);
            }
        }
        self.strays(&named, remove, &mut report)?;
        if let Some(dir) = dir {
            self.dumps(&dir, &found.dumps, remove, &mut report);
        }
        Ok(report)
    }

    fn folder(&self) -> PathBuf {
        self.reader.run_folder(&self.run.id)
    }

    /// The run directory, unless it is gone. No link is followed: it may be another one's by now.
    ///
    /// # Errors
    /// If it is there and can't be opened.
    fn open(&self) -> io::Result<Option<RunDir>> {
        let inner = self.run.source.strip_prefix("/").map_err(io::Error::other)?;
        let opened = RunDir::open(Path::new("/"), self.reading.clone())?.open_inner(inner);
        match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            result => result.map(Some),
        }
    }

    fn age(&self, written: SystemTime) -> Option<Duration> {
        // What was written in the future is new.
        self.now.map(|now| now.duration_since(written).unwrap_or_default())
    }

    /// Looks at all items of the run.
    fn look(&self, dir: Option<&RunDir>) -> Result<Found, StoreError> {
        let mut found = Found::default();
        if !self.config.retention.is_any() {
            return Ok(found);
        }
        for item in self.reader.placed(&self.run.id) {
            let (place, entry) = item?;
            if let Some(image) = entry.as_image()
                && !image.pruned
            {
                let path = self.folder().join(&image.file.path);
                let written = fs::symlink_metadata(path).ok().and_then(|meta| meta.modified().ok());
                let age = written.and_then(|written| self.age(written));
                found.kept.push(Kept { place, bytes: image.n_bytes(), age });
            }
            if self.config.retention.dumps != DumpRetention::Keep {
                note_dumps(&entry, place, dir, &mut found);
            }
        }
        Ok(found)
    }

    /// The files of images that stay, as hashes of their paths, and the images that go, each with the
    /// files that no other item names.
    ///
    /// Files are compared by path, never by key: keys with the same file stem share files.
    fn files(
        &self,
        going: &BTreeSet<JournalOffset>,
    ) -> Result<(HashSet<u64>, Vec<ImageToPrune>), StoreError> {
        let journal_end = self.reader.journal_end(&self.run.id)?;
        let (mut named, mut leaving) = (HashSet::new(), Vec::new());
        for item in self.reader.placed(&self.run.id) {
            let (place, entry) = item?;
            let Some(image) = entry.as_image().filter(|image| !image.pruned) else { continue };
            let paths = image.paths();
            if going.contains(&place) {
                leaving.push(ImageToPrune { id: image.id.clone(), place, paths, journal_end });
            } else {
                named.extend(paths.iter().map(|path| hash_of(path)));
            }
        }
        // A file that several of them share goes with the last of them.
        let mut unavailable = named.clone();
        for leaving in leaving.iter_mut().rev() {
            leaving.paths.retain(|path| unavailable.insert(hash_of(path)));
        }
        Ok((named, leaving))
    }

    /// Removes media files that no item names: those of earlier versions of dumps, and what a killed
    /// process left.
    fn strays(
        &self,
        named: &HashSet<u64>,
        remove: Remover<'_, '_>,
        report: &mut RunReport,
    ) -> Result<(), StoreError> {
        let root = self.folder();
        let (mut folders, mut found) = (vec![root.join("media")], Vec::new());
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                result => result?,
            };
            for entry in entries {
                let entry = entry?;
                let path = entry.path();
                if entry.file_type()?.is_dir() {
                    folders.push(path);
                    continue;
                }
                let inner = path.strip_prefix(&root).ok().and_then(Path::to_str);
                let is_named = inner.is_some_and(|inner| named.contains(&hash_of(inner)));
                if is_named || self.now.is_none() || !is_older(&path, STRAY_AGE_MIN) {
                    continue;
                }
                let why = "lines of the journal are damaged: it may be one of theirs";
                let verdict = if self.is_damaged {
                    Verdict::Skip(why.to_owned())
                } else {
                    found.push(path);
                    Verdict::Remove("no item names it".to_owned())
                };
                let bytes = entry.metadata().map_or(0, |meta| meta.len());
                report.strays.count(verdict, bytes);
            }
        }
        if let Some(remove) = remove {
            for group in found.chunks(STRAYS_GROUP) {
                report.strays.failed_files(remove.remove_strays(group.to_vec(), STRAY_AGE_MIN)?);
            }
        }
        Ok(())
    }

    fn dumps(
        &self,
        dir: &RunDir,
        dumps: &BTreeMap<String, FoundDump>,
        remove: Remover<'_, '_>,
        report: &mut RunReport,
    ) {
        if remove.is_some() {
            put_back(dir, dumps);
        }
        let has_unread_lines = self.has_unread_lines(dir);
        for (path, found) in dumps {
            if remove.as_ref().is_some_and(|remove| !remove.goes_on()) {
                return;
            }
            let file = match dir.open_file(path) {
                Ok(file) => file,
                // Gone already.
                Err(ReadFailure::Wait(_)) => continue,
                Err(verdict) => {
                    report.dumps.count(Verdict::Skip(verdict.reason()), 0);
                    continue;
                }
            };
            let dump = DumpUse { has_unread_lines, ..found.uses };
            let age = self.age(file.stamp().modified());
            let mut verdict = judge_dump(&self.config.retention, &dump, age, self.targets);
            if matches!(verdict, Verdict::Remove(_)) && !dir.may_remove(path) {
                verdict = Verdict::Skip("its folder may not be written by this process".to_owned());
            }
            if matches!(verdict, Verdict::Remove(_))
                && let Err(why) = self.check_dump(dir, path, (&file, found), remove.is_some())
            {
                verdict = Verdict::Skip(why);
            }
            file.give_back_cache();
            let is_leaving = matches!(verdict, Verdict::Remove(_));
            report.dumps.count(verdict, file.stamp().size);
            if is_leaving && remove.is_some() {
                report.dumps.removed(path, dir.remove(path, file.stamp()));
            }
        }
    }

    /// Checks that all of a dump is in the store. Only a dump that is `going` is read as a whole, and so
    /// are its images' files.
    ///
    /// # Errors
    /// Why it must stay.
    fn check_dump(
        &self,
        dir: &RunDir,
        path: &str,
        (file, found): (&RunFile, &FoundDump),
        going: bool,
    ) -> Result<(), String> {
        let mut images = dump_check::images(self.reader, &self.run.id, &found.images)?;
        // Others are of earlier versions of the dump.
        images.retain(|image| image.source.digest() == found.digest);
        dump_check::all_is_read(dir, path, file, &images)?;
        if !going {
            return Ok(());
        }
        let is_digest = |want: Digest| file.digest(want.kind()).is_ok_and(|got| got == want);
        if !found.digest.is_some_and(is_digest) {
            return Err("it is not as it was when it was read".to_owned());
        }
        let store = RunDir::open(&self.folder(), self.reading.clone());
        let store = store.map_err(|error| format!("the run's folder cannot be opened: {error}"))?;
        dump_check::is_read_back(&store, file, &images)
    }

    /// The files of the run that the configuration takes for logs, as ingest lists them: nothing that is hidden, and
    /// nothing behind a link.
    fn log_paths(&self, dir: &RunDir) -> io::Result<BTreeSet<String>> {
        let watch = self.config.watch_of(&self.run.source);
        let (mut folders, mut paths) = (vec![String::new()], BTreeSet::new());
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(dir.path().join(&folder))? {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                if name.starts_with('.') {
                    continue;
                }
                let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                if entry.file_type()?.is_dir() {
                    folders.extend(watch.may_have_logs_below(&path).then_some(path));
                } else if watch.is_log(&path) {
                    paths.insert(path);
                }
            }
        }
        Ok(paths)
    }

    /// Whether a log of the run has lines that the store doesn't know: a log that was read, or a file that the
    /// configuration's patterns take for a log.
    fn has_unread_lines(&self, dir: &RunDir) -> bool {
        let Ok(logs) = self.reader.logs(&self.run.id) else { return true };
        let Ok(mut paths) = self.log_paths(dir) else { return true };
        paths.extend(logs.iter().map(|log| log.path.clone()));
        paths.iter().filter_map(|path| dir.stat(path)).any(|stamp| {
            let is_read = |ino, offset| (ino, offset) == (stamp.ino, stamp.size);
            stamp.size > 0 && !logs.iter().any(|log| is_read(log.ino, log.offset))
        })
    }
}

/// Brings back the dumps that a killed sweep was removing. They are judged anew.
fn put_back<T>(dir: &RunDir, dumps: &BTreeMap<String, T>) {
    let mut folders = BTreeSet::new();
    for path in dumps.keys() {
        folders.insert(path.rsplit_once('/').map_or("", |(folder, _)| folder));
    }
    for folder in folders {
        match dir.put_back(folder, |path| dumps.contains_key(path)) {
            Ok(back) => back.iter().for_each(|path| {
                tracing::warn!(path, "put back a dump that a killed process was removing");
            }),
            Err(error) => tracing::warn!(folder, %error, "cannot look for dumps to put back"),
        }
    }
}

fn hash_of(path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

/// Notes what an item says of the dumps that it came from.
fn note_dumps(entry: &MediaEntry, place: JournalOffset, dir: Option<&RunDir>, found: &mut Found) {
    let source = &entry.source;
    // What was rejected is told by the name that the line gave.
    let plain = |name: &str| dir.and_then(|dir| dir.relative(name).ok()).unwrap_or(name.to_owned());
    let FoundDump { uses: dump, digest, images } =
        found.dumps.entry(plain(&source.path)).or_default();
    match &entry.fate {
        Fate::Image(image) => {
            dump.n_images += 1;
            dump.n_pruned += u64::from(image.pruned);
            dump.last = dump.last.max(Some(place));
            *digest = source.digest().or(*digest);
            images.push(image.id.clone());
        }
        Fate::Held { .. } => dump.n_held += 1,
        Fate::Rejected { .. } => dump.n_rejected += 1,
    }
    let is_part = source.tensor.is_some() || dump_check::is_raw(&source.path);
    dump.n_parts += u64::from(source.log.is_some() && is_part);
    let of_image = entry.as_image().into_iter().flat_map(|image| image.layers.masks.values());
    let sources = of_image.filter_map(|mask| mask.source.as_ref());
    let mut masks: Vec<String> = sources.map(|source| source.path.clone()).collect();
    let given = entry.description.annotations.get("masks").map(mask_dumps).unwrap_or_default();
    masks.extend(given.iter().map(|mask| plain(&mask.path)));
    for mask in masks {
        found.dumps.entry(mask).or_default().uses.n_masks += 1;
    }
}
