//! The sweep over one run.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::StoreRemover;
use super::dump_check;
use super::dumps::{KnownDump, KnownDumps, put_back};
use super::policy::{DumpUse, RemovalDecision, StoredImage, decide_dump, decide_media};
use super::report::RunReport;
use crate::config::Live;
use crate::config::retention::DumpRetention;
use crate::media::Digest;
use crate::run_dir::{ReadFailure, ReadOptions, RunDir, RunFile};
use crate::store::media_check::MediaFiles;
use crate::store::media_dir::is_older;
use crate::store::{Change, NamedFiles, Reader, RunInfo, StoreError};
use crate::sync::TargetCoverage;

/// The age from which a media file that no item names is a stray. A younger one may belong to a commit in progress.
const STRAY_AGE_MIN: Duration = Duration::from_hours(1);

/// How many images are pruned in one commit.
const PRUNE_GROUP: usize = 256;

/// How many strays are removed at a time.
const STRAYS_GROUP: usize = 256;

/// A sweep over one run.
pub(super) struct RunSweep<'a> {
    pub(super) reader: &'a Reader,
    pub(super) config: &'a Live,
    /// The time; `None` if the system clock was set.
    pub(super) now: Option<SystemTime>,
    pub(super) run: RunInfo,
    /// Whether lines of the journal are damaged: the files that they name are unknown.
    pub(super) is_damaged: bool,
    /// Which items of the run each target has.
    pub(super) targets: Vec<TargetCoverage>,
    pub(super) reading: &'a ReadOptions,
}

/// Removes files; `None` if the sweep only reports.
type Remover<'r, 'a> = &'r mut Option<&'a mut dyn StoreRemover>;

/// The images and dumps of a run.
#[derive(Default)]
struct RunInventory {
    images: Vec<StoredImage>,
    dumps: KnownDumps,
}

impl RunSweep<'_> {
    /// Decides about all media files and dumps of the run. With a remover, removes them.
    ///
    /// # Errors
    /// As [`super::sweep`].
    pub(super) fn run(&self, remover: Remover<'_, '_>) -> Result<RunReport, StoreError> {
        let id = &self.run.id;
        let mut report = RunReport::new(id.clone());
        if let Some(remover) = remover {
            remover.make(Change::RefreshIndex)?;
        }
        let (dir, open_error) = match self.open_dir() {
            Ok(dir) => (dir, None),
            Err(error) => (None, Some(error)),
        };
        let inventory = self.take_inventory(dir.as_ref())?;
        if let Some(error) = open_error.filter(|_| !inventory.dumps.is_empty()) {
            let why = format!("the run directory cannot be opened: {error}");
            report.dumps.count(RemovalDecision::Skip(why), 0);
        }
        let decisions = decide_media(&self.config.retention, &inventory.images, &self.targets);
        let mut to_prune = BTreeSet::new();
        for (image, decision) in inventory.images.iter().zip(decisions) {
            if matches!(decision, RemovalDecision::Remove(_)) {
                to_prune.insert(image.place);
            }
            report.media.count(decision, image.bytes);
        }
        let (named, to_prune) = NamedFiles::without(self.reader, id, &to_prune)?;
        let mut named = Arc::new(named);
        if let Some(remover) = remover {
            for group in to_prune.chunks(PRUNE_GROUP) {
                let prune = Change::Prune(group.to_vec(), named.clone());
                report.media.add_failures(remover.make(prune)?);
            }
        }
        // Their files are no strays.
        to_prune.iter().for_each(|image| Arc::make_mut(&mut named).add(&image.paths));
        self.sweep_strays(&named, remover, &mut report)?;
        if let Some(dir) = dir {
            self.sweep_dumps(&dir, &inventory.dumps, remover, &mut report);
        }
        Ok(report)
    }

    fn folder(&self) -> PathBuf {
        self.reader.run_folder(&self.run.id)
    }

    /// Opens the run directory; `None` if it is gone. Follows no symbolic link, because another directory may have taken
    /// its path.
    ///
    /// # Errors
    /// If it exists and can't be opened.
    fn open_dir(&self) -> io::Result<Option<RunDir>> {
        let inner = self.run.source.strip_prefix("/").map_err(io::Error::other)?;
        let opened = RunDir::open(Path::new("/"), self.reading.clone())?.open_inner(inner);
        match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            result => result.map(Some),
        }
    }

    fn age(&self, written: SystemTime) -> Option<Duration> {
        // A time in the future counts as age 0.
        self.now.map(|now| now.duration_since(written).unwrap_or_default())
    }

    /// Reads all items of the run.
    fn take_inventory(&self, dir: Option<&RunDir>) -> Result<RunInventory, StoreError> {
        let mut inventory = RunInventory::default();
        if !self.config.retention.is_any() {
            return Ok(inventory);
        }
        for item in self.reader.placed(&self.run.id) {
            let (place, entry) = item?;
            if let Some(image) = entry.as_image()
                && !image.pruned
            {
                let path = self.folder().join(&image.file.path);
                let written = fs::symlink_metadata(path).ok().and_then(|meta| meta.modified().ok());
                let age = written.and_then(|written| self.age(written));
                inventory.images.push(StoredImage { place, bytes: image.n_bytes(), age });
            }
            if self.config.retention.dumps != DumpRetention::Keep {
                inventory.dumps.add_item(&entry, place, dir);
            }
        }
        Ok(inventory)
    }

    /// Removes media files that no item names: files of earlier versions of dumps, and files that a killed process left.
    fn sweep_strays(
        &self,
        named: &Arc<NamedFiles>,
        remover: Remover<'_, '_>,
        report: &mut RunReport,
    ) -> Result<(), StoreError> {
        let root = self.folder();
        // A link in the place of the folder is not followed: what lies behind it is not ours.
        let media = root.join("media");
        let is_folder = fs::symlink_metadata(&media).is_ok_and(|meta| meta.is_dir());
        let (mut folders, mut found) = (Vec::from_iter(is_folder.then_some(media)), Vec::new());
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
                let Ok(inner) = path.strip_prefix(&root) else { continue };
                let is_named = inner.to_str().is_some_and(|inner| named.contains(inner));
                if is_named || self.now.is_none() || !is_older(&path, STRAY_AGE_MIN) {
                    continue;
                }
                let reason = "lines of the journal are damaged: they may name it";
                let decision = if self.is_damaged {
                    RemovalDecision::Skip(reason.to_owned())
                } else {
                    found.push(inner.to_owned());
                    RemovalDecision::Remove("no item names it".to_owned())
                };
                let bytes = entry.metadata().map_or(0, |meta| meta.len());
                report.strays.count(decision, bytes);
            }
        }
        if let Some(remover) = remover {
            for group in found.chunks(STRAYS_GROUP) {
                let remove = Change::RemoveStrays(group.to_vec(), STRAY_AGE_MIN, named.clone());
                report.strays.add_failures(remover.make(remove)?);
            }
        }
        Ok(())
    }

    fn sweep_dumps(
        &self,
        dir: &RunDir,
        dumps: &KnownDumps,
        remover: Remover<'_, '_>,
        report: &mut RunReport,
    ) {
        if remover.is_some() {
            put_back(dir, dumps);
        }
        let has_unread_lines = self.has_unread_lines(dir);
        for (path, known) in dumps.iter() {
            if remover.as_ref().is_some_and(|remover| !remover.may_continue()) {
                return;
            }
            let file = match dir.open_file(path) {
                Ok(file) => file,
                // The dump is already removed.
                Err(ReadFailure::Wait(_)) => continue,
                Err(failure) => {
                    report.dumps.count(RemovalDecision::Skip(failure.reason()), 0);
                    continue;
                }
            };
            let dump = DumpUse { has_unread_lines, ..known.uses };
            let age = self.age(file.stamp().modified());
            let mut decision = decide_dump(&self.config.retention, &dump, age, &self.targets);
            if matches!(decision, RemovalDecision::Remove(_)) && !dir.may_remove(path) {
                decision =
                    RemovalDecision::Skip("this process may not write its folder".to_owned());
            }
            if matches!(decision, RemovalDecision::Remove(_))
                && let Err(why) = self.check_dump(dir, path, (&file, known), remover.is_some())
            {
                decision = RemovalDecision::Skip(why);
            }
            file.give_back_cache();
            let is_removed = matches!(decision, RemovalDecision::Remove(_));
            report.dumps.count(decision, file.stamp().size);
            if is_removed && remover.is_some() {
                report.dumps.add_result(path, dir.remove(path, file.stamp()));
            }
        }
    }

    /// Checks that the whole dump is in the store. Only with `is_removed`, reads the whole dump and its images' files.
    ///
    /// # Errors
    /// The reason why the dump must stay.
    fn check_dump(
        &self,
        dir: &RunDir,
        path: &str,
        (file, known): (&RunFile, &KnownDump),
        is_removed: bool,
    ) -> Result<(), String> {
        let mut images = dump_check::images(self.reader, &self.run.id, &known.images)?;
        // The others were made of earlier versions of the dump.
        images.retain(|image| image.source.digest() == known.digest);
        let skipped = self.config.retention.skipped;
        let line_bytes_max = self.config.limits.line_bytes_max;
        dump_check::all_is_read(dir, (path, file), &images, skipped, line_bytes_max)?;
        if !is_removed {
            return Ok(());
        }
        let is_digest = |want: Digest| file.digest(want.kind()).is_ok_and(|got| got == want);
        if !known.digest.is_some_and(is_digest) {
            return Err("it changed after it was read".to_owned());
        }
        let store = MediaFiles::open(&self.folder(), self.reading.pace.clone());
        let store = store.map_err(|damage| {
            format!("the run's folder in the store cannot be opened: {damage}")
        })?;
        dump_check::is_read_back(&store, (self.reader, &self.run.id), file, &images)
    }

    /// Lists the files of the run that match the configuration's log patterns, as ingest does: no hidden files, and
    /// nothing behind a symbolic link.
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

    /// Whether a log of the run has unread lines: a log that the store knows, or a file that matches the configuration's
    /// log patterns.
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
