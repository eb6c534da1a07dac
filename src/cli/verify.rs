//! `safelight verify`: compares each media file with its journaled digest, and makes damaged ones again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use super::access::StoreAccess;
use super::args::{Common, VerifyArgs};
use super::exit::ExitCode;
use super::format::{bytes, count, printable};
use super::json::{self, DamagedFile, Verified};
use super::progress::Progress;
use crate::control::client::ClientError;
use crate::control::protocol::{ItemsQuery, RepairQuery, Status};
use crate::media::{CommittedImage, MediaEntry, MediaId, RunId};
use crate::pace::Pace;
use crate::store::media_check::{Damage, MediaFiles, NamedFile, files_of};
use crate::store::{StateFilter, run_folder};

/// Damaged files that are looked at again, and repaired, together.
const TOGETHER_MAX: usize = 256;

/// Damaged files that the JSON form lists. It counts all of them.
const LISTED_MAX: usize = 1000;

pub(super) fn run(
    args: &VerifyArgs,
    common: &Common,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let access = StoreAccess::open(common, "verify")?;
    let rate = args.bytes_per_s.unwrap_or(access.config.live.read_bytes_per_s_max);
    let pace = Arc::new(Pace::default());
    pace.set((rate > 0).then_some(rate));
    let Status { runs, mut left_out, .. } = access.status()?;
    left_out.retain(|of| args.run.as_ref().is_none_or(|chosen| of.run == *chosen));
    let is_chosen = |run: &RunId| args.run.as_ref().is_none_or(|chosen| run.as_str() == *chosen);
    let n_images = runs.iter().filter(|run| is_chosen(&run.run));
    let n_images = n_images.map(|run| run.image.saturating_sub(run.pruned)).sum();
    let mut verification = Verification {
        common,
        out,
        store: access.config.boot.store.clone(),
        repairs: args.repair,
        pace,
        progress: Progress::new(),
        n_images,
        current: None,
        damaged: Vec::new(),
        done: Verified { left_out, ..Verified::default() },
    };
    access.close()?;
    let all = runs.iter().map(|run| run.run.as_str().to_owned());
    let chosen: Vec<String> = args.run.as_ref().map_or(all.collect(), |run| vec![run.clone()]);
    for run in chosen {
        verification.read_run(&run)?;
    }
    verification.finish()
}

/// A pass over the media files of a store.
struct Verification<'a, W> {
    common: &'a Common,
    out: &'a mut W,
    store: PathBuf,
    repairs: bool,
    pace: Arc<Pace>,
    progress: Progress,
    n_images: u64,
    current: Option<CurrentRun>,
    /// Damaged files of the current run that were not reported yet.
    damaged: Vec<Found>,
    done: Verified,
}

/// The run whose files are read.
struct CurrentRun {
    id: RunId,
    /// The run's folder, or why nothing in it can be read.
    files: Result<MediaFiles, Damage>,
    /// Hashes of the images that were looked at, and of the files that were read: several images may name one.
    seen_images: HashSet<u64>,
    seen: HashSet<u64>,
}

/// A damaged file, and the first image that names it.
struct Found {
    image: MediaId,
    kind: &'static str,
    entry: Box<CommittedImage>,
    path: String,
    damage: Damage,
}

impl Found {
    /// The file as its image names it.
    fn file(&self) -> Option<NamedFile<'_>> {
        files_of(&self.entry).find(|file| file.path == self.path)
    }
}

impl CurrentRun {
    fn open(id: RunId, store: &std::path::Path, pace: Arc<Pace>) -> Self {
        let files = MediaFiles::open(&run_folder(store, &id), pace);
        Self { id, files, seen_images: HashSet::new(), seen: HashSet::new() }
    }

    fn check(&self, file: NamedFile<'_>) -> Result<(), Damage> {
        match &self.files {
            Ok(files) => files.check(file),
            Err(damage) => Err(damage.clone()),
        }
    }
}

impl<W: Write> Verification<'_, W> {
    /// Reads the files of a run. A daemon ends each answer after a while, and may be restarted meanwhile: then the items
    /// are listed again, and files that were read are left out.
    fn read_run(&mut self, run: &str) -> anyhow::Result<()> {
        loop {
            let n_files = self.done.files;
            let query = ItemsQuery {
                run: Some(run.to_owned()),
                state: Some(StateFilter::Image),
                ..ItemsQuery::default()
            };
            let access = StoreAccess::open(self.common, "verify")?;
            match access.each_item(query, |item| self.see(item)) {
                Err(error) if is_broken_off(&error) && self.done.files > n_files => {}
                Ok(left_out) => {
                    // It may be known since the command began.
                    self.done
                        .left_out
                        .retain(|known| left_out.iter().all(|of| of.run != known.run));
                    self.done.left_out.extend(left_out);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads the files of an item.
    fn see(&mut self, item: Value) -> anyhow::Result<()> {
        let run: RunId = serde_json::from_value(item["run"].clone())?;
        let entry = MediaEntry::from_json(item, &run)?;
        let Some(image) = entry.as_image().filter(|image| !image.pruned) else { return Ok(()) };
        if self.current.as_ref().is_none_or(|current| current.id != run) {
            self.report_damaged()?;
            self.current = Some(CurrentRun::open(run, &self.store, self.pace.clone()));
        }
        let is_new = self.current.as_mut().is_some_and(|current| {
            current.seen_images.insert(hash_of(&(image.id.clone(), &image.file.path)))
        });
        self.done.images += u64::from(is_new);
        for (i, file) in files_of(image).enumerate() {
            let Some(current) = &mut self.current else { return Ok(()) };
            if !current.seen.insert(hash_of(&file)) {
                continue;
            }
            self.done.files += 1;
            self.done.bytes += file.size;
            if let Err(damage) = current.check(file) {
                let kind = match i {
                    0 => "image",
                    i if i <= image.layers.boxes.len() => "boxes",
                    _ => "mask",
                };
                let (entry, path) = (Box::new(image.clone()), file.path.to_owned());
                self.damaged.push(Found { image: image.id.clone(), kind, entry, path, damage });
            }
        }
        let n_damaged = self.done.damaged + self.damaged.len() as u64;
        let found = if n_damaged == 0 { String::new() } else { format!(", {n_damaged} damaged") };
        let message = format!("images: {} read{found}", bytes(self.done.bytes));
        self.progress.set(self.done.images, self.n_images, message);
        if self.damaged.len() >= TOGETHER_MAX {
            self.report_damaged()?;
        }
        Ok(())
    }

    /// Looks again at the damaged files that were found, repairs them if that is asked for, and reports them. Files that
    /// no image names any more are left out: a daemon may prune and replace images meanwhile.
    fn report_damaged(&mut self) -> anyhow::Result<()> {
        let damaged = std::mem::take(&mut self.damaged);
        let Some(current) = self.current.as_ref().filter(|_| !damaged.is_empty()) else {
            return Ok(());
        };
        let access = StoreAccess::open(self.common, "verify")?;
        let steps: BTreeSet<_> =
            damaged.iter().map(|found| (&found.image.key, found.image.step)).collect();
        // By path, the images of these steps that name it.
        let mut named: HashMap<String, Vec<MediaId>> = HashMap::new();
        for (key, step) in steps {
            let query = ItemsQuery {
                run: Some(current.id.as_str().to_owned()),
                key: Some(key.as_str().to_owned()),
                first_step: Some(step.0),
                last_step: Some(step.0),
                state: Some(StateFilter::Image),
                ..ItemsQuery::default()
            };
            access.find_items(&query, |item| {
                let entry = MediaEntry::from_json(item, &current.id)?;
                if let Some(image) = entry.as_image().filter(|image| !image.pruned) {
                    for path in image.paths() {
                        named.entry(path).or_default().push(image.id.clone());
                    }
                }
                Ok(())
            })?;
        }
        let damaged: Vec<Found> =
            damaged.into_iter().filter(|found| named.contains_key(&found.path)).collect();
        let mut reasons = BTreeMap::new();
        let mut images: BTreeSet<MediaId> =
            damaged.iter().filter(|_| self.repairs).map(|found| found.image.clone()).collect();
        let mut tried = BTreeSet::new();
        let mut access = Some(access);
        while !images.is_empty() {
            let access = match access.take() {
                Some(access) => access,
                None => StoreAccess::open(self.common, "verify")?,
            };
            tried.extend(images.iter().cloned());
            let images_of_request = images.into_iter().collect();
            let query = RepairQuery { run: current.id.clone(), images: images_of_request };
            let results = access.repair(query)?;
            reasons.extend(results.into_iter().map(|result| (result.image, result.reason)));
            // The dump of another image that names the file may be left.
            images = damaged
                .iter()
                .filter(|found| found.file().is_some_and(|file| current.check(file).is_err()))
                .filter_map(|found| {
                    named[&found.path].iter().find(|image| !tried.contains(*image)).cloned()
                })
                .collect();
        }
        access.map_or(Ok(()), StoreAccess::close)?;
        let mut lines = Vec::new();
        for found in damaged {
            // Only the file itself shows that it is sound now.
            let damage = found.file().map_or(Ok(()), |file| current.check(file)).err();
            let reason = match (&damage, reasons.get(&found.image)) {
                (Some(_), Some(Some(reason))) => Some(reason.clone()),
                (Some(Damage::Unreadable(_)), Some(None)) => {
                    Some("the store's owner can read it: nothing to repair".to_owned())
                }
                (Some(_), Some(None)) => {
                    Some("it could not be put in its place: see the daemon's log".to_owned())
                }
                _ => None,
            };
            self.done.damaged += 1;
            self.done.repaired += u64::from(damage.is_none());
            let file = DamagedFile {
                run: current.id.clone(),
                key: found.image.key,
                step: found.image.step.0,
                index: found.image.index,
                kind: found.kind.to_owned(),
                path: run_folder("".as_ref(), &current.id).join(&found.path),
                damage: found.damage.to_string(),
                repaired: damage.is_none(),
                reason,
            };
            if !self.common.json {
                lines.push(line(&file));
            }
            if self.done.list.len() < LISTED_MAX && self.common.json {
                self.done.list.push(file);
            }
        }
        let out = &mut *self.out;
        self.progress.suspend(|| lines.iter().try_for_each(|line| writeln!(out, "{line}")))?;
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<ExitCode> {
        self.report_damaged()?;
        self.progress.finish();
        let Verified { images, files, bytes: n_bytes, damaged, repaired, .. } = self.done;
        let n_left = damaged - repaired;
        let is_whole = n_left == 0 && self.done.left_out.is_empty();
        let code = if is_whole { ExitCode::Done } else { ExitCode::Failed };
        if self.common.json {
            json::print(&self.done, self.out)?;
            return Ok(code);
        }
        let out = self.out;
        for run in &self.done.left_out {
            writeln!(out, "left out: {}", printable(&run.trouble()))?;
        }
        writeln!(
            out,
            "{} of {} read ({}): {}",
            count(files, "file"),
            count(images, "image"),
            bytes(n_bytes),
            if damaged == 0 { "all are sound".to_owned() } else { format!("{damaged} damaged") }
        )?;
        if repaired > 0 {
            let files = count(repaired, "file");
            writeln!(out, "{files} made again; `safelight retry` delivers what targets rejected")?;
        }
        match (n_left, self.repairs) {
            (0, _) => {}
            (n, true) => writeln!(out, "{} could not be made again", count(n, "file"))?,
            (_, false) => writeln!(
                out,
                "`safelight verify --repair` makes them again from their dumps; no target gets a damaged file"
            )?,
        }
        Ok(code)
    }
}

fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Whether the connection to the daemon broke.
fn is_broken_off(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<ClientError>(), Some(ClientError::Io { .. }))
}

/// One damaged file, for people.
fn line(file: &DamagedFile) -> String {
    let DamagedFile { run, key, step, index, kind, path, damage, repaired, reason } = file;
    let state = if *repaired { "repaired" } else { "damaged" };
    let why = reason.as_ref().map(|reason| format!("\n  not repaired: {}", printable(reason)));
    let place = printable(&format!("{run} {key} {step} {index}"));
    let path = printable(&path.display().to_string());
    format!("{state}: {place}: {kind} {path}: {damage}{}", why.unwrap_or_default())
}
