//! The dump of a mask.

use std::sync::Arc;

use super::parts::no_such_tensor;
use super::{OpenStorage, RecordDump, open_dump};
use crate::decode::{Contents, NamedTensor};
use crate::limits::Limits;
use crate::plan::{MaskContents, MaskSource};
use crate::record::DataRef;
use crate::run_dir::{ReadFailure, RunDir, RunFile};
use crate::store::journal::Stamp;

/// The dump of a mask, or why there is none. It is read when the plan is made, and again when the mask is rendered.
#[derive(Debug, Clone)]
pub(crate) struct MaskDump {
    pub(crate) source: MaskSource,
    /// The path relative to the run directory.
    pub(crate) path: String,
    /// `None` if it cannot be read.
    stamp: Option<Stamp>,
    /// Where the tensor's elements lie. `None` if the mask is an image file, or cannot be read.
    pub(crate) storage: Option<Arc<OpenStorage>>,
}

impl MaskDump {
    /// Opens the dump of a mask.
    ///
    /// # Errors
    /// See [`open_dump`].
    pub(crate) fn open(dir: &RunDir, data: &DataRef, limits: &Limits) -> Result<Self, ReadFailure> {
        let about = |failure: ReadFailure| failure.about_mask();
        let RecordDump { dump, path, contents } = open_dump(dir, data, limits).map_err(about)?;
        let contents = match &*contents {
            Contents::Picture(picture) => MaskContents::File(picture.clone()),
            Contents::Tensors { writer, tensors, .. } => {
                let named = data.tensor.as_deref();
                let is_any_picture = tensors.iter().any(|tensor| !tensor.is_no_picture());
                let is_left_over = |tensor: &NamedTensor| {
                    tensor.name.is_none() && tensor.header.is_err() && tensors.len() > 1
                };
                let mut matching = tensors.iter().filter(|tensor| match named {
                    Some(name) => tensor.name.as_deref() == Some(name),
                    None => !(is_any_picture && tensor.is_no_picture() || is_left_over(tensor)),
                });
                match (matching.next(), matching.next(), named) {
                    (Some(tensor), None, _) => match &tensor.header {
                        Ok(header) => MaskContents::Tensor(*writer, header.clone()),
                        Err(error) => return Err(ReadFailure::from(error.clone()).about(&path)),
                    },
                    (Some(_), Some(_), _) => {
                        let n = tensors.len();
                        let reason = format!(
                            "mask {path:?} holds {n} tensors: want {{\"path\": …, \"tensor\": …}}"
                        );
                        return Err(ReadFailure::Reject(reason));
                    }
                    (None, _, name) => {
                        let reason = no_such_tensor(&path, name.unwrap_or_default(), tensors);
                        return Err(ReadFailure::Reject(reason));
                    }
                }
            }
        };
        let storage = match &contents {
            MaskContents::Tensor(_, header) => {
                Some(Arc::new(OpenStorage::new(header.storage.clone())))
            }
            MaskContents::File(_) | MaskContents::Unreadable(_) => None,
        };
        let source = MaskSource { data: data.clone(), contents };
        Ok(Self { source, path, stamp: Some(dump.file.stamp()), storage })
    }

    /// The dump of a mask that cannot be read, for this reason.
    pub(crate) fn unreadable(data: &DataRef, reason: String) -> Self {
        let source = MaskSource { data: data.clone(), contents: MaskContents::Unreadable(reason) };
        Self { source, path: data.path.clone(), stamp: None, storage: None }
    }

    /// Opens the dump again.
    ///
    /// # Errors
    /// If the dump is gone or has changed.
    pub(crate) fn reopen(&self, dir: &RunDir) -> Result<RunFile, ReadFailure> {
        let file = dir.open_file(&self.path).map_err(ReadFailure::about_mask)?;
        if self.stamp.is_some_and(|stamp| file.is_same_as(stamp)) {
            Ok(file)
        } else {
            Err(ReadFailure::Wait(format!("mask {:?} changed while it was read", self.path)))
        }
    }
}
