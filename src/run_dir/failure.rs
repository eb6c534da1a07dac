//! Why a file of a run directory cannot be read, by what the caller does next.

use std::io;

use crate::decode::DecodeError;
use crate::media::Rejection;

/// Why a file cannot be read, with a reason for people.
#[derive(Debug)]
pub(crate) enum ReadFailure {
    /// The file may still be created or completed: wait for a while, then reject it.
    Wait(String),
    /// The machine or the mount fails, not the file: retry for as long as the failure lasts.
    Retry(String),
    /// A limit forbids to read it: reject it now, and try it again when the limit may be another.
    OverLimit(String),
    /// The file cannot become readable: reject it for good.
    Reject(String),
}

impl ReadFailure {
    /// Returns the reason.
    pub(crate) fn reason(self) -> String {
        Rejection::from(self).reason
    }

    /// Says that the file is that of a mask.
    pub(crate) fn about_mask(self) -> Self {
        self.map_reason(|reason| format!("mask {reason}"))
    }

    /// Says that the file is one of annotations.
    pub(crate) fn about_annotations(self) -> Self {
        self.map_reason(|reason| format!("annotations {reason}"))
    }

    /// Adds the path of the file.
    pub(crate) fn about(self, path: &str) -> Self {
        self.map_reason(|reason| format!("{path:?} {reason}"))
    }

    fn map_reason(self, change: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Wait(reason) => Self::Wait(change(reason)),
            Self::Retry(reason) => Self::Retry(change(reason)),
            Self::OverLimit(reason) => Self::OverLimit(change(reason)),
            Self::Reject(reason) => Self::Reject(change(reason)),
        }
    }
}

impl From<DecodeError> for ReadFailure {
    fn from(error: DecodeError) -> Self {
        let reason = error.to_string();
        match error {
            DecodeError::Io(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                Self::Retry(reason)
            }
            DecodeError::Truncated { .. } | DecodeError::Unfinished(_) | DecodeError::Io(_) => {
                Self::Wait(reason)
            }
            DecodeError::OverLimit(_) => Self::OverLimit(reason),
            DecodeError::Malformed(_) | DecodeError::Unsupported(_) => Self::Reject(reason),
        }
    }
}

impl From<ReadFailure> for Rejection {
    /// Says how an item is rejected for which the file is not waited for any longer.
    fn from(failure: ReadFailure) -> Self {
        match failure {
            ReadFailure::Wait(reason)
            | ReadFailure::Retry(reason)
            | ReadFailure::OverLimit(reason) => Self::waiting(reason),
            ReadFailure::Reject(reason) => reason.into(),
        }
    }
}
