//! Media files that were found missing or damaged, by whoever read them: a target, retention, or the scrub.
//!
//! The daemon tries to repair them. `status`, `health` and the metrics show them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::UNIX_EPOCH;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::media_check::Damage;
use crate::locks::lock;
use crate::media::{MediaId, MediaKey, RunId, Step};

/// The most files that are remembered. The scrub finds the others again.
const FINDINGS_MAX: usize = 1000;

/// Files that `status` and `health` name.
const EXAMPLES_MAX: usize = 3;

/// A media file that is missing or damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DamagedMedia {
    /// The run.
    #[schemars(with = "String")]
    pub run: RunId,
    /// The key of an image that names the file.
    #[schemars(with = "String")]
    pub key: MediaKey,
    /// The image's step.
    pub step: u64,
    /// The image's index.
    pub index: u32,
    /// The file, relative to the run's folder in the store.
    pub path: String,
    /// What is wrong with the file.
    pub damage: String,
    /// Whether the file is gone.
    pub missing: bool,
    /// Why it could not be made again, if that was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What is known of the media files of a store.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MediaStatus {
    /// Damaged files, at least: a thousand damaged and missing files are counted.
    pub damaged: u64,
    /// Missing files.
    pub missing: u64,
    /// A few of both.
    pub examples: Vec<DamagedMedia>,
    /// Files that the current pass of the scrub has read.
    pub scrubbed_files: u64,
    /// Bytes that the current pass of the scrub has read.
    pub scrubbed_bytes: u64,
    /// Time since the scrub had last read all files, in seconds.
    pub scrubbed_all_s: Option<f64>,
}

/// How far the scrub is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ScrubProgress {
    /// Files and bytes that the current pass has read.
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// When the last complete pass ended, in seconds since the Unix epoch.
    pub(crate) ended: Option<f64>,
}

/// The media files that were found missing or damaged. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Findings(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// By run and path.
    files: Mutex<BTreeMap<(RunId, String), DamagedMedia>>,
    progress: Mutex<ScrubProgress>,
    n_repairs: AtomicU64,
}

impl DamagedMedia {
    /// The image that names the file.
    pub(crate) fn image(&self) -> MediaId {
        MediaId { key: self.key.clone(), step: Step(self.step), index: self.index }
    }
}

impl fmt::Display for DamagedMedia {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, key, step, index, path, damage, reason, .. } = self;
        write!(f, "{run} {key} {step} {index}: {path}: {damage}")?;
        reason.as_ref().map_or(Ok(()), |reason| write!(f, ", not repaired: {reason}"))
    }
}

impl MediaStatus {
    /// Says that files are damaged or missing, if any are.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let n = self.damaged + self.missing;
        let example = self.examples.first()?;
        let files = if n == 1 { "media file is" } else { "media files are" };
        Some(format!("{n} {files} damaged or missing (list: safelight verify), such as {example}"))
    }
}

impl Findings {
    fn files(&self) -> MutexGuard<'_, BTreeMap<(RunId, String), DamagedMedia>> {
        lock(&self.0.files)
    }

    /// Notes what is wrong with a file of an image. `path` is relative to the run's folder.
    pub(crate) fn note(&self, run: &RunId, image: &MediaId, path: &str, damage: &Damage) {
        let MediaId { key, step, index } = image.clone();
        self.add(DamagedMedia {
            run: run.clone(),
            key,
            step: step.0,
            index,
            path: path.to_owned(),
            damage: damage.to_string(),
            missing: *damage == Damage::Missing,
            reason: None,
        });
    }

    /// Adds a file that was found damaged.
    pub(super) fn add(&self, found: DamagedMedia) {
        let mut files = self.files();
        let at = (found.run.clone(), found.path.clone());
        let n = files.len();
        match files.get_mut(&at) {
            // Why it was not repaired stays known.
            Some(known) => (known.damage, known.missing) = (found.damage, found.missing),
            None if n < FINDINGS_MAX => {
                files.insert(at, found);
            }
            None => {}
        }
    }

    /// The files that are known to be missing or damaged.
    pub(crate) fn all(&self) -> Vec<DamagedMedia> {
        self.files().values().cloned().collect()
    }

    /// Whether no more files are remembered.
    pub(super) fn is_full(&self) -> bool {
        self.files().len() >= FINDINGS_MAX
    }

    /// Forgets a file: it is sound, or no image names it.
    pub(crate) fn forget(&self, found: &DamagedMedia) {
        self.files().remove(&(found.run.clone(), found.path.clone()));
    }

    /// Notes why a file could not be made again.
    pub(crate) fn not_repaired(&self, found: &DamagedMedia, reason: String) {
        if let Some(known) = self.files().get_mut(&(found.run.clone(), found.path.clone())) {
            known.reason = Some(reason);
        }
    }

    /// Notes that media files were put back.
    pub(super) fn note_repair(&self) {
        self.0.n_repairs.fetch_add(1, Ordering::Release);
    }

    /// A number that grows when media files are put back.
    pub(crate) fn n_repairs(&self) -> u64 {
        self.0.n_repairs.load(Ordering::Acquire)
    }

    pub(crate) fn set_progress(&self, progress: ScrubProgress) {
        *lock(&self.0.progress) = progress;
    }

    /// What is known now.
    pub(crate) fn status(&self) -> MediaStatus {
        let now = UNIX_EPOCH.elapsed().map_or(0.0, |since| since.as_secs_f64());
        let files = self.files();
        let missing = files.values().filter(|found| found.missing).count() as u64;
        let ScrubProgress { files: scrubbed_files, bytes: scrubbed_bytes, ended } =
            *lock(&self.0.progress);
        MediaStatus {
            damaged: files.len() as u64 - missing,
            missing,
            examples: files.values().take(EXAMPLES_MAX).cloned().collect(),
            scrubbed_files,
            scrubbed_bytes,
            scrubbed_all_s: ended.map(|ended| (now - ended).max(0.0)),
        }
    }
}
