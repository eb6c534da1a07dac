//! Retention: media files that are too old or too many, and dumps that nobody needs any more.
//!
//! `policy` decides, this module looks and removes. An image whose files go stays known: a line of
//! its journal says that it is *pruned*, and is durable before the first file is gone.

pub mod policy;
mod report;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use self::policy::DumpUse;
pub use self::policy::Rules;
use self::policy::{Delivered, Dumps, Kept, Verdict, judge_dump, judge_media};
pub use self::report::{Report, RunReport};
use crate::ingest::RunDir;
use crate::media::{MediaEntry, MediaId, Sha256, State};
use crate::pulse;
use crate::store::journal::Position;
use crate::store::{Reader, RunInfo, StoreError};

/// A media file that no item names may be one of a commit that is under way: this old it is not.
const STRAY_AGE_MIN: Duration = Duration::from_hours(1);

/// How much the clock may have gone another way than time since the start.
const CLOCK_JUMP_MAX: Duration = Duration::from_hours(1);

/// How many images are pruned in one commit.
const GROUP: usize = 256;

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

/// Tells the store that images are pruned, and returns once that is durable.
pub(crate) type Prune<'a> = dyn FnMut(&Arc<RunInfo>, Vec<MediaId>) -> Result<(), StoreError> + 'a;

/// Looks through the store for what may go. With `prune`, it goes.
///
/// # Errors
/// If the store can't be read, or doesn't take that something is pruned. What can't be removed is
/// told in the report.
pub(crate) fn sweep(
    reader: &Reader,
    rules: &Rules,
    clock: Clock,
    mut prune: Option<&mut Prune<'_>>,
) -> Result<Report, StoreError> {
    let now = clock.now();
    let mut report = Report { applied: prune.is_some(), runs: Vec::new(), problem: None };
    if now.is_none() {
        let what = "the system's clock was set: nothing is removed by its age until the next start";
        report.problem = Some(what.to_owned());
    }
    for summary in reader.runs()? {
        let Some(info) = reader.run_info(&summary.run)? else { continue };
        let sweep = Sweep { reader, rules, now, run: Arc::new(info), targets: &[] };
        let of_run = sweep.run(prune.as_deref_mut())?;
        report.runs.extend((!of_run.is_empty()).then_some(of_run));
    }
    Ok(report)
}

struct Sweep<'a> {
    reader: &'a Reader,
    rules: &'a Rules,
    now: Option<SystemTime>,
    run: Arc<RunInfo>,
    /// How far each target has the run.
    targets: &'a [Delivered],
}

/// What is known of a run after a look at all its items.
#[derive(Default)]
struct Found {
    kept: Vec<Kept>,
    dumps: BTreeMap<String, (DumpUse, Option<Sha256>)>,
}

impl Sweep<'_> {
    fn run(&self, prune: Option<&mut Prune<'_>>) -> Result<RunReport, StoreError> {
        let mut report = RunReport::new(self.run.id.clone());
        let found = self.look()?;
        let verdicts = judge_media(self.rules, &found.kept, self.targets);
        let mut going = BTreeSet::new();
        for (kept, verdict) in found.kept.iter().zip(verdicts) {
            if matches!(verdict, Verdict::Remove(_)) {
                going.insert(kept.place);
            }
            report.media.count(verdict, kept.bytes);
        }
        let (live, leaving) = self.files(&going)?;
        let apply = prune.is_some();
        if let Some(prune) = prune {
            for group in leaving.chunks(GROUP) {
                pulse::beat();
                prune(&self.run, group.iter().map(|(id, _)| id.clone()).collect())?;
                for path in group.iter().flat_map(|(_, paths)| paths) {
                    // Another image of the same content may have the same file.
                    if !live.contains(&hash_of(path)) {
                        report.media.removed_file(&self.folder().join(path));
                    }
                }
            }
        }
        let named: HashSet<u64> = leaving
            .iter()
            .flat_map(|(_, paths)| paths)
            .map(|path| hash_of(path))
            .chain(live.iter().copied())
            .collect();
        self.strays(&named, apply, &mut report)?;
        self.dumps(&found.dumps, apply, &mut report);
        Ok(report)
    }

    fn folder(&self) -> PathBuf {
        self.reader.run_folder(&self.run.id)
    }

    fn age(&self, path: &Path) -> Option<Duration> {
        let written = fs::symlink_metadata(path).and_then(|meta| meta.modified()).ok()?;
        // What was written in the future is new.
        self.now.map(|now| now.duration_since(written).unwrap_or_default())
    }

    /// Looks at all items of the run.
    fn look(&self) -> Result<Found, StoreError> {
        let mut found = Found::default();
        if !self.rules.is_any() {
            return Ok(found);
        }
        for item in self.reader.placed(&self.run.id) {
            pulse::beat();
            let (place, entry) = item?;
            if entry.state == State::Image && !entry.pruned {
                let (path, bytes) = (own_file(&entry), n_bytes(&entry));
                let age = match (self.rules.media_age_max, path) {
                    (Some(_), Some(path)) => self.age(&self.folder().join(path)),
                    _ => None,
                };
                found.kept.push(Kept { place, bytes, age });
            }
            if self.rules.dumps != Dumps::Keep {
                note_dumps(&entry, place, &mut found);
            }
        }
        Ok(found)
    }

    /// The files of images that stay, as hashes of their paths, and the images that go with theirs.
    #[expect(clippy::type_complexity, reason = "a pair that is taken apart at once")]
    fn files(
        &self,
        going: &BTreeSet<Position>,
    ) -> Result<(HashSet<u64>, Vec<(MediaId, Vec<String>)>), StoreError> {
        let (mut live, mut leaving) = (HashSet::new(), Vec::new());
        for item in self.reader.placed(&self.run.id) {
            pulse::beat();
            let (place, entry) = item?;
            if entry.pruned || entry.state != State::Image {
                continue;
            }
            let paths = paths(&entry);
            match (&entry.key, entry.step, entry.index) {
                (Some(key), Some(step), Some(index)) if going.contains(&place) => {
                    leaving.push((MediaId { key: key.clone(), step, index }, paths));
                }
                _ => live.extend(paths.iter().map(|path| hash_of(path))),
            }
        }
        Ok((live, leaving))
    }

    /// Removes media files that no item names: those of earlier versions of dumps, and what a killed
    /// process left.
    fn strays(
        &self,
        named: &HashSet<u64>,
        apply: bool,
        report: &mut RunReport,
    ) -> Result<(), StoreError> {
        let root = self.folder();
        let mut folders = vec![root.join("media")];
        while let Some(folder) = folders.pop() {
            pulse::beat();
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
                if is_named || self.age(&path).is_none_or(|age| age < STRAY_AGE_MIN) {
                    continue;
                }
                let bytes = entry.metadata().map_or(0, |meta| meta.len());
                report.strays.count(Verdict::Remove("no item names it".to_owned()), bytes);
                if apply {
                    report.strays.removed_file(&path);
                }
            }
        }
        Ok(())
    }

    fn dumps(
        &self,
        dumps: &BTreeMap<String, (DumpUse, Option<Sha256>)>,
        apply: bool,
        report: &mut RunReport,
    ) {
        if dumps.is_empty() {
            return;
        }
        let Ok(dir) = RunDir::open(&self.run.source, Arc::default()) else { return };
        let has_unread_lines = self.has_unread_lines(&dir);
        for (path, (dump, sha256)) in dumps {
            pulse::beat();
            // Already gone.
            let Ok(file) = dir.open_file(path) else { continue };
            let mut dump = *dump;
            dump.has_unread_lines &= has_unread_lines;
            let age = self.age(&self.run.source.join(path));
            let mut verdict = judge_dump(self.rules, &dump, age, self.targets);
            if matches!(verdict, Verdict::Remove(_))
                && !sha256.is_some_and(|want| file.digest().is_ok_and(|got| got == want))
            {
                verdict = Verdict::Skip("it is not as it was when it was read".to_owned());
            }
            let is_leaving = matches!(verdict, Verdict::Remove(_));
            report.dumps.count(verdict, file.stamp.size);
            if is_leaving && apply {
                report.dumps.removed(path, dir.remove(path, file.stamp));
            }
        }
    }

    /// Whether a log of the run has lines that the store doesn't know.
    fn has_unread_lines(&self, dir: &RunDir) -> bool {
        self.reader.logs(&self.run.id).map_or(true, |logs| {
            logs.iter().any(|log| {
                let stamp = dir.stat(&log.path).filter(|stamp| stamp.ino == log.ino);
                stamp.is_some_and(|stamp| stamp.size != log.offset)
            })
        })
    }
}

fn hash_of(path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

fn own_file(entry: &MediaEntry) -> Option<&str> {
    entry.file.as_ref().map(|file| &*file.path)
}

/// The paths of an image's files, relative to the run's folder.
fn paths(entry: &MediaEntry) -> Vec<String> {
    let of_layers = entry.layers.boxes.values().chain(entry.layers.masks.values());
    let of_layers = of_layers.map(|annotation| annotation.path.clone());
    own_file(entry).map(str::to_owned).into_iter().chain(of_layers).collect()
}

fn n_bytes(entry: &MediaEntry) -> u64 {
    let of_layers = entry.layers.boxes.values().chain(entry.layers.masks.values());
    entry.file.as_ref().map_or(0, |file| file.size) + of_layers.map(|a| a.size).sum::<u64>()
}

/// Notes what an item says of the dumps that it came from.
fn note_dumps(entry: &MediaEntry, place: Position, found: &mut Found) {
    let source = &entry.source;
    let (dump, sha256) = found.dumps.entry(source.path.clone()).or_default();
    match entry.state {
        State::Image => {
            dump.n_images += 1;
            dump.last = dump.last.max(Some(place));
            *sha256 = source.sha256.or(*sha256);
        }
        State::Held => dump.n_held += 1,
        State::Rejected => dump.n_rejected += 1,
    }
    dump.has_unread_lines |= source.log.is_some();
    for mask in entry.layers.masks.values().filter_map(|mask| mask.source.as_ref()) {
        found.dumps.entry(mask.path.clone()).or_default().0.n_masks += 1;
    }
}
