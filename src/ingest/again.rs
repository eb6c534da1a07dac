//! Finds again what an item was made from: the line, path or sidecar that described it, its dump, and its image of the
//! dump.
//!
//! It serves those who make an item again (`planning::release`), and those who look at its values (the gallery). It
//! reads only: nothing here leads to a commit.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use crate::config::{ImageRules, WatchConfig};
pub(crate) use crate::ingest::dumps::{LastDump, MissingFile, OpenDump, OpenRecord};
use crate::ingest::dumps::{Part, open_dump};
use crate::ingest::line_records::LineRecords;
pub(crate) use crate::ingest::line_records::MOVED;
use crate::ingest::pipeline::{CHANGED, held_at};
use crate::ingest::runs::RunReader;
use crate::limits::{Limits, StepUsage};
use crate::media::{HeldAt, MediaEntry, MediaKey, Rejection, RunId, Source, Step};
use crate::plan::{Found, Plan, plan_held};
use crate::record::pattern::DumpPath;
use crate::record::{
    ImageOptions, Line, LooseKey, MediaRecord, parse_foreign_sidecar, parse_line, parse_sidecar,
};
use crate::run_dir::{ReadFailure, ReadOptions};
use crate::store::journal::Stamp;
use crate::store::{Reader, StoreError};

/// Why an item cannot be found again: its dump.
const GONE: &str = "its dump is gone";

/// What it takes to find an item again, beside its run directory.
#[derive(Clone, Copy)]
pub(crate) struct Lookup<'a> {
    pub(crate) reader: &'a Reader,
    pub(crate) limits: &'a Limits,
    pub(crate) rules: &'a ImageRules,
}

/// The key and the tensor of an item that is found again. They say under which key a loose file was taken: no pattern
/// does.
#[derive(Clone, Copy)]
pub(crate) struct NamedItem<'a> {
    pub(crate) key: Option<&'a MediaKey>,
    pub(crate) tensor: Option<&'a str>,
}

impl<'a> NamedItem<'a> {
    /// Those of an item.
    pub(crate) fn of(entry: &'a MediaEntry) -> Self {
        Self { key: entry.key(), tensor: entry.source.tensor.as_deref() }
    }

    /// What a loose file's path may say of it. Of an archive with several tensors, the key of each ends in its name.
    fn loose_paths(self, path: &str) -> Vec<Result<DumpPath, String>> {
        let Some(key) = self.key else { return Vec::new() };
        let without_tensor = self.tensor.and_then(|tensor| {
            let above = key.as_str().strip_suffix(tensor)?.strip_suffix('/')?;
            MediaKey::new(above).ok()
        });
        let keys = without_tensor.iter().chain([key]);
        keys.filter_map(|key| LooseKey::of_item(path, key)?.read(path)).collect()
    }

    /// Whether a record leads to this item.
    fn is_in(self, record: &OpenRecord) -> bool {
        let is_it =
            |part: &Part| Some(&part.key) == self.key && part.tensor.as_deref() == self.tensor;
        record.parts.iter().any(is_it)
    }
}

/// Images of one tensor that are found again.
pub(crate) struct HeldImages<'a> {
    pub(crate) key: &'a MediaKey,
    pub(crate) step: Step,
    /// Their source when they were held or made.
    pub(crate) source: &'a Source,
    /// By index, which of the tensor's images each is.
    pub(crate) images: &'a BTreeMap<u32, u64>,
}

/// A run directory that was opened again.
pub(crate) struct ReopenedRun {
    pub(crate) run: RunReader,
    lines: LineRecords,
}

impl ReopenedRun {
    /// Opens a run directory where the store read it from. Follows no link: another run's directory may lie
    /// there now.
    ///
    /// `live` is the run as the engine reads it, if it does. `watch_of` says how a run directory is read that the
    /// engine does not read.
    ///
    /// # Errors
    /// The error says, for people, why that is not possible.
    pub(crate) fn open(
        id: &RunId,
        live: Option<&RunReader>,
        watch_of: impl FnOnce(&Path) -> WatchConfig,
        options: ReadOptions,
        reader: &Reader,
    ) -> Result<Self, String> {
        reader.check_left_out(id).map_err(|error| error.to_string())?;
        let known = reader.run_info(id).map_err(|error| error.to_string())?;
        let known = live.map(|live| live.info.clone()).or(known.map(Arc::new));
        let info = known.ok_or("the store does not say where the run came from")?;
        let watch = match live {
            Some(live) => (**live.files.watch()).clone(),
            None => watch_of(&info.source),
        };
        let watch = WatchConfig { path: Path::new("/").to_owned(), ..watch };
        let mut run = RunReader::open(&info.source, id.as_str(), Arc::new(watch), options)?;
        if run.id() != id {
            return Err(format!("{} is the run {} now", info.source.display(), run.id()));
        }
        if live.is_some() {
            run.info = info;
        }
        Ok(Self { run, lines: LineRecords::default() })
    }

    /// Reads again what described held images, and their dump, which must be unchanged.
    ///
    /// # Errors
    /// The inner error says, for people, why that is not possible.
    pub(crate) fn read_held(
        &mut self,
        source: &Source,
        key: &MediaKey,
        held: HeldAt,
        lookup: Lookup<'_>,
    ) -> Result<Result<OpenRecord, String>, StoreError> {
        if self.run.files.dir().stat(&source.path).is_none() {
            return Ok(Err(GONE.to_owned()));
        }
        let item = NamedItem { key: Some(key), tensor: source.tensor.as_deref() };
        let opened = self.read_again(source, item, MissingFile::Wait, lookup)?;
        let opened = opened.map_err(|why| why.reason);
        Ok(opened.and_then(|opened| {
            let is_unchanged = is_unchanged(&opened.dump, source, held)?;
            is_unchanged.then_some(opened).ok_or_else(|| CHANGED.to_owned())
        }))
    }

    /// Reads again what described an item, and its dump.
    ///
    /// # Errors
    /// The inner error says why that is not possible.
    pub(crate) fn read_again(
        &mut self,
        source: &Source,
        item: NamedItem<'_>,
        missing_file: MissingFile,
        lookup: Lookup<'_>,
    ) -> Result<Result<OpenRecord, Rejection>, StoreError> {
        match (&source.log, source.line) {
            (Some(log), Some(number)) => {
                Ok(self.read_line(log, number, source, missing_file, lookup.limits))
            }
            _ => self.read_path(&source.path, item, missing_file, lookup),
        }
    }

    /// Opens a dump again that its path and its sidecar describe.
    fn read_path(
        &mut self,
        path: &str,
        item: NamedItem<'_>,
        missing_file: MissingFile,
        Lookup { reader, limits, .. }: Lookup<'_>,
    ) -> Result<Result<OpenRecord, Rejection>, StoreError> {
        let run = &mut self.run;
        let row = reader.dump(run.id(), path)?.unwrap_or_default();
        let by_pattern = run.files.dump_path(path);
        let descriptions = by_pattern.map_or_else(|| item.loose_paths(path), |one| vec![one]);
        let Some((last, others)) = descriptions.split_last() else {
            let reason = "no pattern in `dumps` of the configuration describes its path any more";
            return Ok(Err(Rejection::waiting(reason)));
        };
        if run.files.dir().stat(path).is_none() {
            return Ok(Err(Rejection::waiting(GONE)));
        }
        let sidecar = run.files.sidecar(path);
        let known = row.cursor.as_ref().and_then(|cursor| cursor.sidecar);
        if known != sidecar.as_ref().map(|(_, stamp)| *stamp) {
            return Ok(Err(Rejection::waiting("its sidecar has changed since it was held")));
        }
        let mut open = |description| {
            let dump = DescribedDump { path, description, sidecar: sidecar.as_ref() };
            dump.open(run, missing_file, limits).map_err(ReadFailure::into)
        };
        for description in others {
            let opened = open(description);
            if opened.as_ref().map_or(true, |record| item.is_in(record)) {
                return Ok(opened);
            }
        }
        Ok(open(last))
    }

    fn read_line(
        &mut self,
        log: &str,
        number: u64,
        source: &Source,
        missing_file: MissingFile,
        limits: &Limits,
    ) -> Result<OpenRecord, Rejection> {
        let dir = self.run.files.dir().clone();
        let record = match &source.text {
            Some(text) => match parse_line(text.as_bytes()) {
                Ok(Line::Media(record)) => *record,
                _ => return Err(Rejection::waiting(MOVED)),
            },
            None => self.lines.read(&dir, log, number, limits.line_bytes_max)?,
        };
        // The item of a line that could not be read names its log.
        let path = dir.relative(&record.data.path);
        if path.as_ref() != Ok(&source.path) && source.path != log {
            return Err(Rejection::waiting(MOVED));
        }
        let stamp = path.ok().and_then(|path| dir.stat(&path));
        let opened = self.run.last_dump.open(&dir, &record.data, stamp, limits);
        let opened = opened.and_then(|dump| {
            let source = Source { path: dump.path.clone(), ..source.clone() };
            OpenRecord::new(&dir, record, dump, source, true, missing_file, limits)
        });
        opened.map_err(ReadFailure::into)
    }
}

/// Whether a dump has the content that it had when images of it were held. If its size and time are the
/// same, the digest is compared when the image is made.
fn is_unchanged(dump: &OpenDump, source: &Source, held: HeldAt) -> Result<bool, String> {
    if held_at(dump, held.image) == held {
        return Ok(true);
    }
    match source.digest() {
        // A copy, or a dump that was only touched.
        Some(want) => dump
            .digest_by(want.kind())
            .map(|got| got == want)
            .map_err(|error| format!("its dump cannot be read: {error}")),
        None => Err("its dump was written to since it was held".to_owned()),
    }
}

/// A dump that its path describes.
pub(super) struct DescribedDump<'a> {
    pub(super) path: &'a str,
    /// What its path says of it, or why it says too little.
    pub(super) description: &'a Result<DumpPath, String>,
    /// The sidecar's path and stamp.
    pub(super) sidecar: Option<&'a (String, Stamp)>,
}

impl DescribedDump<'_> {
    /// Opens the dump as its path and its sidecar describe it.
    ///
    /// # Errors
    /// If no image can be made of it now.
    pub(super) fn open(
        &self,
        run: &mut RunReader,
        missing_file: MissingFile,
        limits: &Limits,
    ) -> Result<OpenRecord, ReadFailure> {
        let record = self.record(run, limits.line_bytes_max)?;
        run.unknown_fields.log(&run.info.id, self.path, &record);
        let is_raw = [".bin", ".raw"].iter().any(|ending| self.path.ends_with(ending));
        if is_raw && record.data.raw.is_none() {
            let what = "raw bytes without a sidecar that names dtype and shape";
            return Err(ReadFailure::Wait(format!("{:?}: {what}", self.path)));
        }
        let dir = run.files.dir();
        let opened = open_dump(dir, &record.data, limits)?;
        let has_explicit_place = self.sidecar.is_some();
        let source = Source { path: self.path.to_owned(), ..Source::default() };
        OpenRecord::new(dir, record, opened, source, has_explicit_place, missing_file, limits)
    }

    /// Reads what the dump's path and its sidecar, if it has one, say of it.
    fn record(&self, run: &RunReader, bytes_max: u64) -> Result<MediaRecord, ReadFailure> {
        let path = self.description.as_ref();
        let path = path.map_err(|reason| ReadFailure::Reject(reason.clone()))?;
        let Some((name, _)) = self.sidecar else {
            return Ok(MediaRecord::of_path(path));
        };
        let file = run.files.dir().open_file(name)?;
        let size = file.stamp().size;
        if *name != format!("{}.json", self.path) {
            // `STEM.json` may be another program's.
            if size > bytes_max {
                let mut record = MediaRecord::of_path(path);
                record.warnings.push(format!(
                    "{name:?} has {size} bytes, limits.line_bytes_max is {bytes_max}; ignored"
                ));
                return Ok(record);
            }
            let (mut text, mut from) = (Vec::new(), file.into_file().take(bytes_max));
            from.read_to_end(&mut text)
                .map_err(|error| ReadFailure::Wait(format!("sidecar {name:?}: {error}")))?;
            return Ok(parse_foreign_sidecar(&text, path));
        }
        if size > bytes_max {
            return Err(ReadFailure::OverLimit(format!(
                "sidecar {name:?} has {size} bytes, limits.line_bytes_max is {bytes_max}"
            )));
        }
        let text = io::read_to_string(file.into_file().take(bytes_max));
        let text = text.map_err(|error| ReadFailure::Wait(format!("sidecar {name:?}: {error}")))?;
        // A sidecar that cannot be parsed may be half written.
        parse_sidecar(text.as_bytes(), path)
            .map_err(|error| ReadFailure::Wait(format!("sidecar {name:?}, {error}")))
    }
}

/// Plans images again that the store has, each at its index, as if its step had no other. The line may name
/// another index, if that was taken.
///
/// # Errors
/// The error says, for people, why no image can be planned.
pub(crate) fn plan_again(
    opened: &mut OpenRecord,
    images: &HeldImages<'_>,
    lookup: Lookup<'_>,
) -> Result<Plan, String> {
    let Lookup { limits, rules, .. } = lookup;
    let mut usage = StepUsage::default();
    images.images.keys().for_each(|index| usage.take(*index, false));
    let (record, found, options) = part_of(opened, images, rules).ok_or(MOVED)?;
    let sources: Vec<_> = opened.masks.iter().map(|mask| mask.source.clone()).collect();
    let plan = found.and_then(|found| {
        Ok(plan_held(&record, options, found, &sources, &mut usage, limits, images.images)?)
    });
    plan.map_err(|why| why.reason)
}

/// The tensor of images that are found again, with its record. `None` if the images are elsewhere now.
pub(crate) fn part_of(
    opened: &mut OpenRecord,
    images: &HeldImages<'_>,
    rules: &ImageRules,
) -> Option<(MediaRecord, Result<Found, Rejection>, ImageOptions)> {
    let OpenRecord { record, parts, .. } = opened;
    let HeldImages { key, step, source, .. } = images;
    let is_here = |part: &Part| part.key == **key && part.tensor == source.tensor;
    let at = parts.iter().position(is_here)?;
    if record.step != *step {
        return None;
    }
    let part = parts.swap_remove(at);
    let record = MediaRecord { key: part.key, ..record.clone() };
    let options = record.options.over(rules.options(&record.key));
    Some((record, part.found, options))
}
