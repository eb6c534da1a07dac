//! A record and all that it names, opened.

use std::sync::Arc;

use super::annotation_file;
use super::parts::{DumpParts, parts};
use super::{MaskDump, OpenDump, Part, RecordDump};
use crate::annotations::mask_dumps;
use crate::decode::{Contents, Skipped};
use crate::limits::Limits;
use crate::media::Source;
use crate::record::MediaRecord;
use crate::run_dir::{ReadFailure, RunDir};

/// Missing files that are noted with an image. It is made again when one of them comes.
const MISSING_MAX: usize = 16;

/// What is done about a mask or a file of annotations that is missing or not complete yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MissingFile {
    /// The record waits for it.
    Wait,
    /// The images are made without it, with a warning.
    Drop,
}

/// A record and all that it names, opened: ready to be planned.
pub(crate) struct OpenRecord {
    pub(crate) record: MediaRecord,
    pub(crate) dump: Arc<OpenDump>,
    pub(crate) parts: Vec<Part>,
    pub(crate) masks: Vec<MaskDump>,
    pub(crate) source: Source,
    /// Entries of the dump that hold no picture.
    pub(crate) skipped: Skipped,
    /// Why a tensor cannot be read yet, though the others can.
    pub(crate) unfinished: Option<String>,
    /// Images of tensors that are not among the parts, but count for the limits of the dump.
    pub(crate) n_before: u64,
}

impl OpenRecord {
    /// Adds the metadata in the dump and the annotations in files to the record, and opens the dumps of
    /// masks. `has_explicit_place` says that the record itself names key and step, which then win over the
    /// metadata.
    ///
    /// A mask or file of annotations that cannot be used is left out, with a warning.
    ///
    /// # Errors
    /// If the dump's metadata is invalid, or the dump lacks the tensor that the record names. `Wait` if a
    /// mask or file of annotations is missing and `missing_file` says to wait. `Retry` if the machine fails
    /// to read it.
    pub(crate) fn new(
        dir: &RunDir,
        mut record: MediaRecord,
        opened: RecordDump,
        mut source: Source,
        has_explicit_place: bool,
        missing_file: MissingFile,
        limits: &Limits,
    ) -> Result<Self, ReadFailure> {
        let RecordDump { dump, path, contents } = opened;
        if let Contents::Tensors { metadata, .. } = &*contents
            && !metadata.is_empty()
        {
            record
                .add_metadata(metadata, has_explicit_place)
                .map_err(|error| ReadFailure::Reject(format!("{path:?}: {}", error.message)))?;
        }
        let DumpParts { parts, skipped, unfinished } =
            parts(&contents, &record.key, record.data.tensor.as_deref(), &path)?;
        source.mtime_ns = match record.description.time {
            Some(_) => None,
            None => i64::try_from(dump.file.stamp().mtime_ns).ok(),
        };
        source.missing = annotation_file::load(dir, &mut record, missing_file, limits)?;
        let masks = record.description.annotations.get("masks").map(mask_dumps).unwrap_or_default();
        let masks = masks.iter().map(|data| match MaskDump::open(dir, data, limits) {
            Err(ReadFailure::Wait(reason)) if missing_file == MissingFile::Drop => {
                source.missing.push(data.path.clone());
                Ok(MaskDump::unreadable(data, reason))
            }
            Err(ReadFailure::OverLimit(reason) | ReadFailure::Reject(reason)) => {
                Ok(MaskDump::unreadable(data, reason))
            }
            opened => opened,
        });
        let masks = masks.collect::<Result<Vec<_>, _>>()?;
        source.missing.truncate(MISSING_MAX);
        Ok(Self { record, dump, parts, masks, source, skipped, unfinished, n_before: 0 })
    }
}
