//! Opens the dump that a record names.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::OpenDump;
use crate::decode::{self, Contents, DecodeOptions};
use crate::limits::Limits;
use crate::record::DataRef;
use crate::run_dir::{ReadFailure, RunDir};
use crate::store::journal::Stamp;

/// Two changes within this time may leave the same change time.
const CLOCK_TICK: Duration = Duration::from_secs(2);

/// The dump that a record names, and what it holds.
#[derive(Debug, Clone)]
pub(crate) struct RecordDump {
    pub(crate) dump: Arc<OpenDump>,
    /// The path relative to the run directory.
    pub(crate) path: String,
    pub(crate) contents: Arc<Contents>,
}

/// The dump that was opened last. It stays open if it holds several tensors, or if it is at rest and was named twice in
/// a row: many lines may follow that name it.
#[derive(Debug, Default)]
pub(crate) struct LastDump {
    named: Option<DataRef>,
    open: Option<RecordDump>,
}

impl LastDump {
    /// Opens a dump, or returns the last one if it is the same and unchanged. `stamp` is that of the dump now.
    ///
    /// # Errors
    /// See [`open_dump`].
    pub(crate) fn open(
        &mut self,
        dir: &RunDir,
        data: &DataRef,
        stamp: Option<Stamp>,
        limits: &Limits,
    ) -> Result<RecordDump, ReadFailure> {
        let data = DataRef { tensor: None, ..data.clone() };
        let is_named_again = self.named.as_ref() == Some(&data);
        if let Some(open) = &self.open
            && is_named_again
            && stamp == Some(open.dump.file.stamp())
        {
            return Ok(open.clone());
        }
        *self = Self::default();
        let opened = open_dump(dir, &data, limits)?;
        let has_several =
            matches!(&*opened.contents, Contents::Tensors { tensors, .. } if tensors.len() > 1);
        let stays = is_named_again && is_at_rest(opened.dump.file.stamp());
        self.open = (has_several || stays).then(|| opened.clone());
        self.named = Some(data);
        Ok(opened)
    }
}

/// Whether a file's next change shows in its stamp: two changes within a tick of the clock leave the same one.
fn is_at_rest(stamp: Stamp) -> bool {
    let changed = Duration::from_nanos(u64::try_from(stamp.ctime_ns).unwrap_or(0));
    let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + changed);
    age.is_ok_and(|age| age > CLOCK_TICK)
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
