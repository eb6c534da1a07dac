//! A record and all that it names, opened.

use std::sync::Arc;

use super::annotation_file;
use super::parts::parts;
use super::{MaskDump, OpenDump, Part, RecordDump};
use crate::annotations::mask_dumps;
use crate::decode::Contents;
use crate::limits::Limits;
use crate::media::Source;
use crate::record::MediaRecord;
use crate::run_dir::{ReadFailure, RunDir};

/// A record and all that it names, opened: ready to be planned.
pub(crate) struct OpenRecord {
    pub(crate) record: MediaRecord,
    pub(crate) dump: Arc<OpenDump>,
    pub(crate) parts: Vec<Part>,
    pub(crate) masks: Vec<MaskDump>,
    pub(crate) source: Source,
}

impl OpenRecord {
    /// Adds the metadata in the dump and the annotations in files to the record, and opens the dumps of masks. `has_explicit_place`
    /// says that the record itself names key and step, which then win over the metadata.
    ///
    /// # Errors
    /// If something that the record names is missing or cannot be opened.
    pub(crate) fn new(
        dir: &RunDir,
        mut record: MediaRecord,
        opened: RecordDump,
        source: Source,
        has_explicit_place: bool,
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
        let parts = parts(&contents, &record.key, record.data.tensor.as_deref(), &path)?;
        annotation_file::load(dir, &mut record, limits)?;
        let masks = record.description.annotations.get("masks").map(mask_dumps).unwrap_or_default();
        let masks = masks.iter().map(|data| MaskDump::open(dir, data, limits));
        let masks = masks.collect::<Result<Vec<_>, _>>()?;
        Ok(Self { record, dump, parts, masks, source })
    }
}
