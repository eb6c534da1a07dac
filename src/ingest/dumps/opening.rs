//! Opens the dump that a record names.

use std::sync::Arc;

use super::OpenDump;
use crate::decode::{self, Contents, DecodeOptions};
use crate::limits::Limits;
use crate::record::DataRef;
use crate::run_dir::{ReadFailure, RunDir};

/// The dump that a record names, and what it holds.
#[derive(Debug, Clone)]
pub(crate) struct RecordDump {
    pub(crate) dump: Arc<OpenDump>,
    /// The path relative to the run directory.
    pub(crate) path: String,
    pub(crate) contents: Arc<Contents>,
}

/// The last dump, if it holds several tensors: many lines in a row may each name one of them.
#[derive(Debug, Default)]
pub(crate) struct LastDump(Option<(DataRef, RecordDump)>);

impl LastDump {
    /// Opens a dump, or returns the last one if it is the same and unchanged.
    ///
    /// # Errors
    /// See [`open_dump`].
    pub(crate) fn open(
        &mut self,
        dir: &RunDir,
        data: &DataRef,
        limits: &Limits,
    ) -> Result<RecordDump, ReadFailure> {
        let data = DataRef { tensor: None, ..data.clone() };
        if let Some((last, opened)) = &self.0
            && *last == data
            && dir.stat(&opened.path) == Some(opened.dump.file.stamp())
        {
            return Ok(opened.clone());
        }
        self.0 = None;
        let opened = open_dump(dir, &data, limits)?;
        if matches!(&*opened.contents, Contents::Tensors { tensors, .. } if tensors.len() > 1) {
            self.0 = Some((data, opened.clone()));
        }
        Ok(opened)
    }
}

/// Opens the dump that a record names and reads its headers.
///
/// # Errors
/// `Wait` if the dump may still be created or completed, `Reject` if no image can be made of it.
pub(crate) fn open_dump(
    dir: &RunDir,
    data: &DataRef,
    limits: &Limits,
) -> Result<RecordDump, ReadFailure> {
    let path = dir.relative(&data.path).map_err(ReadFailure::Reject)?;
    let file = dir.open_file(&path)?;
    let (got, max) = (file.stamp().size, limits.dump_bytes_max);
    if got > max {
        return Err(ReadFailure::OverLimit(format!(
            "{path:?} has {got} bytes, limits.dump_bytes_max is {max}"
        )));
    }
    let options = DecodeOptions {
        header_bytes_max: limits.header_bytes_max,
        storage_bytes_max: limits.dump_bytes_max,
        dtype: data.dtype,
        raw: data.raw.clone(),
    };
    let dump = OpenDump::new(file, dir.digest_kind());
    let contents =
        decode::contents(&dump, &options).map_err(|error| ReadFailure::from(error).about(&path))?;
    Ok(RecordDump { dump: Arc::new(dump), path, contents: Arc::new(contents) })
}
