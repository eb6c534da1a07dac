//! `TensorBoard`: event files in a log directory.
//!
//! ```text
//! PATH/<run>/events.out.tfevents.0000000000.safelight         steps that increase for each tag
//! PATH/<run>/late1/events.out.tfevents.0000000000.safelight   images that came after a later step of their tag
//! PATH/<run>/late2/…                                          and so on
//! ```
//!
//! One record has the images of one key and step, in order of index. If a step comes again, `TensorBoard`'s default
//! loader drops everything of the tag from that step on, and the other loader ignores the second record. An image whose
//! step is not later than all others of its tag therefore goes to the next directory, which is another run there.
//!
//! Files are only appended to (see [`event_file`]). After a restart, images behind the receipt are recognized by key,
//! step, index and digest, and are not written again.

mod event_file;
mod picture;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::event_file::EventFile;
use super::target_dir::TargetDir;
use super::{Delivery, Receipt, Rest, Sink, SinkError, Target, check_file, open_file};
use crate::config::sync::TensorboardConfig;
use crate::durable::Disk;
use crate::formats::tfevents::{self, KeptImage, Series};
use crate::store::RunInfo;

/// The name of every event file. Each directory has one file, and each file one writer.
const FILE: &str = "events.out.tfevents.0000000000.safelight";

/// The maximum size of media files in one record, in bytes. A single image may be larger. Further images of the step are
/// written as late images.
const RECORD_BYTES_MAX: u64 = 64 << 20;

/// A log directory.
#[derive(Debug, Clone)]
pub(crate) struct TensorboardTarget {
    config: Arc<TensorboardConfig>,
    dir: TargetDir,
}

impl Target for TensorboardTarget {
    type Config = TensorboardConfig;
    type Run = TensorboardRun;

    const SETTLE: Duration = Duration::from_secs(2);

    /// Creates no directory; the first commit does.
    async fn open(config: &TensorboardConfig) -> Result<Self, SinkError> {
        let dir = TargetDir::new(&config.path, Disk::default());
        Ok(Self { config: Arc::new(config.clone()), dir })
    }

    fn run(&self, run: &RunInfo) -> TensorboardRun {
        let folder = run.id.folder().into();
        TensorboardRun { target: self.clone(), folder, files: None }
    }
}

/// A run's directories.
#[derive(Debug)]
pub(crate) struct TensorboardRun {
    target: TensorboardTarget,
    /// The run's folder, relative to the target's.
    folder: PathBuf,
    /// `None` until [`Sink::resume`].
    files: Option<EventFiles>,
}

/// Identifies an image in a record: tag, step, index, digest.
type ImageIdentity = (String, i64, u32, Vec<u8>);

/// The event files of a run, in the order in which an image is offered to them.
#[derive(Debug)]
struct EventFiles {
    target: TensorboardTarget,
    folder: PathBuf,
    files: Vec<EventFile>,
    /// Images in the files behind the last receipt that were not delivered again: index of the file, offset in it.
    unacknowledged: BTreeMap<ImageIdentity, (usize, u64)>,
}

/// The length of each event file, by its path relative to the run's directory.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct EventFileLengths {
    files: BTreeMap<String, u64>,
}

/// Returns the path of an event file, relative to the run's directory.
fn file_name(idx: usize) -> String {
    if idx == 0 { FILE.to_owned() } else { format!("late{idx}/{FILE}") }
}

/// Converts an error of the directory, which may not occur again.
fn retry(error: io::Error) -> SinkError {
    if error.kind() == io::ErrorKind::WouldBlock {
        return SinkError::retry("another process writes to this run's event file");
    }
    SinkError::retry(error)
}

impl EventFiles {
    fn open(
        target: &TensorboardTarget,
        folder: PathBuf,
        lengths: &EventFileLengths,
    ) -> Result<Self, SinkError> {
        let (mut files, mut unacknowledged) = (Vec::new(), BTreeMap::new());
        loop {
            let (idx, name) = (files.len(), file_name(files.len()));
            let kept_bytes = lengths.files.get(&name).copied().unwrap_or(0);
            let opened =
                EventFile::open(&target.dir, &folder.join(name), kept_bytes, |offset, outline| {
                    let image = |KeptImage { index, sha256 }| {
                        ((outline.tag.clone(), outline.step, index, sha256), (idx, offset))
                    };
                    unacknowledged.extend(outline.kept.into_iter().map(image));
                });
            match opened.map_err(retry)? {
                Some(file) => files.push(file),
                None => return Ok(Self { target: target.clone(), folder, files, unacknowledged }),
            }
        }
    }

    /// Appends new images and makes them durable.
    fn append_new(&mut self, items: &[Delivery]) -> Result<Receipt, SinkError> {
        // Sorted by step, because steps must increase. Of two versions of an image, the later one is written.
        let mut steps: BTreeMap<(i64, &str), BTreeMap<u32, &Delivery>> = BTreeMap::new();
        for item in items {
            let step = step(item)?;
            let images = steps.entry((step, item.id.key.as_str())).or_default();
            let image = images.entry(item.id.index).or_insert(item);
            if image.seq < item.seq {
                *image = item;
            }
        }
        for ((step, _), images) in steps {
            let is_new =
                |item: &&&Delivery| !self.unacknowledged.contains_key(&identity(item, step));
            let images: Vec<&Delivery> = images.values().filter(is_new).copied().collect();
            let mut rest = &images[..];
            while !rest.is_empty() {
                let (part, others) = rest.split_at(n_of_a_record(rest));
                self.append(step, part)?;
                rest = others;
            }
        }
        // This includes records of an earlier call that ended with a rejection.
        self.files.iter_mut().try_for_each(EventFile::sync).map_err(retry)?;
        for item in items {
            self.unacknowledged.remove(&identity(item, step(item)?));
        }
        self.receipt()
    }

    /// Appends one record to the first file that takes it.
    fn append(&mut self, step: i64, images: &[&Delivery]) -> Result<(), SinkError> {
        let [first, ..] = images else { return Ok(()) };
        let tag = tfevents::tag_of_key(&first.id.key);
        let idx = self.files.iter().position(|file| file.takes(&tag, step));
        let idx = idx.unwrap_or(self.files.len());
        let is_first = self.files.get(idx).is_none_or(|file| !file.has(&tag));
        let mut pictures = Series {
            tag: tag.clone(),
            width: first.file.width,
            height: first.file.height,
            images: Vec::with_capacity(images.len()),
            description: if is_first { picture::captions(step, images) } else { String::new() },
        };
        for item in images {
            pictures.images.push(picture::file(item)?);
        }
        let overlays =
            self.target.config.overlays.then(|| picture::overlays(images, &pictures.images));
        let overlays = overlays.flatten().map(|drawn| Series {
            tag: tfevents::overlay_tag(&tag),
            images: drawn,
            description: picture::legend(images),
            ..pictures
        });
        let kept = images.iter().map(|item| KeptImage {
            index: item.id.index,
            sha256: item.file.sha256.as_bytes().to_vec(),
        });
        let kept: Vec<KeptImage> = kept.collect();
        let series = [Some(pictures), overlays].into_iter().flatten().collect();
        let record = tfevents::record(step, first.time, kept, series);
        if idx == self.files.len() {
            let path = self.folder.join(file_name(idx));
            self.files.push(EventFile::create(&self.target.dir, &path).map_err(retry)?);
        }
        let offset = self.files[idx].append(&tag, step, first.time, &record).map_err(retry)?;
        self.unacknowledged.extend(images.iter().map(|item| (identity(item, step), (idx, offset))));
        Ok(())
    }

    /// Returns a receipt that excludes the unacknowledged images.
    fn receipt(&self) -> Result<Receipt, SinkError> {
        let mut lengths: Vec<u64> = self.files.iter().map(|file| file.n_bytes).collect();
        for &(idx, offset) in self.unacknowledged.values() {
            lengths[idx] = lengths[idx].min(offset);
        }
        let files = lengths.into_iter().enumerate().map(|(idx, length)| (file_name(idx), length));
        Receipt::new(&EventFileLengths { files: files.collect() })
    }
}

/// Returns how many of these images fit into one record.
fn n_of_a_record(images: &[&Delivery]) -> usize {
    let mut n_bytes = 0;
    let fits = |item: &&&Delivery| {
        n_bytes += item.file.size;
        n_bytes <= RECORD_BYTES_MAX
    };
    images.iter().take_while(fits).count().max(1)
}

fn step(item: &Delivery) -> Result<i64, SinkError> {
    let too_great = |_| SinkError::reject(item, "step is over 2^63 - 1, TensorBoard's limit");
    i64::try_from(item.id.step.0).map_err(too_great)
}

fn identity(item: &Delivery, step: i64) -> ImageIdentity {
    let tag = tfevents::tag_of_key(&item.id.key);
    (tag, step, item.id.index, item.file.sha256.as_bytes().to_vec())
}

impl Sink for TensorboardRun {
    async fn resume(&mut self, last: Option<&Receipt>) -> Result<(), SinkError> {
        // Closed first, because an open file is locked.
        self.files = None;
        let lengths: EventFileLengths = last.and_then(Receipt::get).unwrap_or_default();
        let (target, folder) = (self.target.clone(), self.folder.clone());
        let open = move || EventFiles::open(&target, folder, &lengths);
        self.files = Some(tokio::task::spawn_blocking(open).await.map_err(SinkError::retry)??);
        Ok(())
    }

    async fn put(&self, item: &Delivery) -> Result<(), SinkError> {
        // `commit` reads the picture, into the record of its step, and compares the digest. It leaves out a mask or a set of
        // boxes that cannot be read, so that these are checked here.
        let (item, overlays) = (item.clone(), self.target.config.overlays);
        let check = move || {
            open_file(&item, (&item.file).into())?;
            let layers = item.layers.boxes.values().chain(item.layers.masks.values());
            layers.filter(|_| overlays).try_for_each(|layer| check_file(&item, layer.into()))
        };
        tokio::task::spawn_blocking(check).await.map_err(SinkError::retry)?
    }

    async fn commit(&mut self, items: &[Delivery]) -> Result<Receipt, SinkError> {
        let mut files = self.files.take().ok_or_else(|| SinkError::retry("not resumed"))?;
        let items = items.to_vec();
        let append = move || {
            let result = files.append_new(&items);
            (files, result)
        };
        let (files, result) =
            tokio::task::spawn_blocking(append).await.map_err(SinkError::retry)?;
        // After a disk error, the state of the files is unknown until they are read again.
        if !matches!(result, Err(SinkError::Retry { .. })) {
            self.files = Some(files);
        }
        result
    }

    async fn rest(&mut self, why: Rest) -> Result<Option<Receipt>, SinkError> {
        if why == Rest::Leaving {
            self.files = None;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
