//! `TensorBoard`: event files in a log directory.
//!
//! ```text
//! PATH/<run>/events.out.tfevents.0000000000.safelight         steps that rise, tag by tag
//! PATH/<run>/late1/events.out.tfevents.0000000000.safelight   what came when its tag was further on
//! PATH/<run>/late2/…                                          and so forth
//! ```
//!
//! One record holds the images of one key and step, in order of index. The default loader drops what a tag has
//! from a step on when that step comes (again), the other one drops the newcomer: whatever isn't of a later step
//! than all before it goes to the next of these directories, each of which `TensorBoard` takes for a run.
//!
//! A file is only ever appended to (see [`event_file`]). After a restart what stands behind the receipt is
//! known, by key, step, index and digest, and isn't written again.

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
use super::{Delivery, Receipt, Rest, Sink, SinkError, Target, unreadable};
use crate::config::sync::TensorboardConfig;
use crate::durable::Disk;
use crate::formats::tfevents::{self, KeptImage, Series};
use crate::store::RunInfo;

/// The name of every event file of ours: there is one in a directory, and one writer.
const FILE: &str = "events.out.tfevents.0000000000.safelight";

/// The most bytes of media files in one record, if they are of more than one image: the rest is told of as what
/// comes late.
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

    /// The directory is made when there is something to put into it.
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
    /// None until [`Sink::resume`].
    files: Option<EventFiles>,
}

/// An image as a record tells of it: tag, step, index, digest.
type Known = (String, i64, u32, Vec<u8>);

/// The event files of a run, in the order in which they are tried.
#[derive(Debug)]
struct EventFiles {
    target: TensorboardTarget,
    folder: PathBuf,
    files: Vec<EventFile>,
    /// What stands in them beyond the last receipt, and wasn't delivered since: which file, and where.
    known: BTreeMap<Known, (usize, u64)>,
}

/// How long each event file was, by its path below the run's directory.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Lengths {
    files: BTreeMap<String, u64>,
}

/// The path of an event file below the run's directory.
fn file_name(idx: usize) -> String {
    if idx == 0 { FILE.to_owned() } else { format!("late{idx}/{FILE}") }
}

/// A directory that can't be written now may be later.
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
        lengths: &Lengths,
    ) -> Result<Self, SinkError> {
        let (mut files, mut known) = (Vec::new(), BTreeMap::new());
        loop {
            let (idx, name) = (files.len(), file_name(files.len()));
            let kept_bytes = lengths.files.get(&name).copied().unwrap_or(0);
            let opened =
                EventFile::open(&target.dir, &folder.join(name), kept_bytes, |place, outline| {
                    let image = |KeptImage { index, sha256 }| {
                        ((outline.tag.clone(), outline.step, index, sha256), (idx, place))
                    };
                    known.extend(outline.kept.into_iter().map(image));
                });
            match opened.map_err(retry)? {
                Some(file) => files.push(file),
                None => return Ok(Self { target: target.clone(), folder, files, known }),
            }
        }
    }

    /// Appends what isn't there yet, and makes it durable.
    fn keep(&mut self, items: &[Delivery]) -> Result<Receipt, SinkError> {
        // By step first, so that steps rise. Of two versions of an image the later one counts.
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
            let is_new = |item: &&&Delivery| !self.known.contains_key(&known(item, step));
            let images: Vec<&Delivery> = images.values().filter(is_new).copied().collect();
            let mut rest = &images[..];
            while !rest.is_empty() {
                let (part, others) = rest.split_at(n_of_a_record(rest));
                self.append(step, part)?;
                rest = others;
            }
        }
        // Those of an earlier call, too, which ended at an item that is set aside by now.
        self.files.iter_mut().try_for_each(EventFile::sync).map_err(retry)?;
        for item in items {
            self.known.remove(&known(item, step(item)?));
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
        let place = self.files[idx].append(&tag, step, first.time, &record).map_err(retry)?;
        self.known.extend(images.iter().map(|item| (known(item, step), (idx, place))));
        Ok(())
    }

    /// What was found or written and not delivered since stays beyond it.
    fn receipt(&self) -> Result<Receipt, SinkError> {
        let mut lengths: Vec<u64> = self.files.iter().map(|file| file.n_bytes).collect();
        for &(idx, place) in self.known.values() {
            lengths[idx] = lengths[idx].min(place);
        }
        let files = lengths.into_iter().enumerate().map(|(idx, length)| (file_name(idx), length));
        Receipt::new(&Lengths { files: files.collect() })
    }
}

/// How many of these images make one record.
fn n_of_a_record(images: &[&Delivery]) -> usize {
    let mut n_bytes = 0;
    let fits = |item: &&&Delivery| {
        n_bytes += item.file.size;
        n_bytes <= RECORD_BYTES_MAX
    };
    images.iter().take_while(fits).count().max(1)
}

fn step(item: &Delivery) -> Result<i64, SinkError> {
    let too_great = |_| SinkError::reject(item, "step is over 2^63 - 1, TensorBoard's greatest");
    i64::try_from(item.id.step.0).map_err(too_great)
}

fn known(item: &Delivery, step: i64) -> Known {
    let tag = tfevents::tag_of_key(&item.id.key);
    (tag, step, item.id.index, item.file.sha256.as_bytes().to_vec())
}

impl Sink for TensorboardRun {
    async fn resume(&mut self, last: Option<&Receipt>) -> Result<(), SinkError> {
        // Closed first: a file that is open is locked.
        self.files = None;
        let lengths: Lengths = last.and_then(Receipt::get).unwrap_or_default();
        let (target, folder) = (self.target.clone(), self.folder.clone());
        let open = move || EventFiles::open(&target, folder, &lengths);
        self.files = Some(tokio::task::spawn_blocking(open).await.map_err(SinkError::retry)??);
        Ok(())
    }

    async fn put(&self, item: &Delivery) -> Result<(), SinkError> {
        // It goes into the record of its step.
        match tokio::fs::metadata(item.path()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(unreadable(item, &item.path(), &error)),
        }
    }

    async fn commit(&mut self, items: &[Delivery]) -> Result<Receipt, SinkError> {
        let mut files = self.files.take().ok_or_else(|| SinkError::retry("not resumed"))?;
        let items = items.to_vec();
        let keep = move || {
            let kept = files.keep(&items);
            (files, kept)
        };
        let (files, kept) = tokio::task::spawn_blocking(keep).await.map_err(SinkError::retry)?;
        // After a failure of the disk nothing is certain but what is read again.
        if !matches!(kept, Err(SinkError::Retry { .. })) {
            self.files = Some(files);
        }
        kept
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
