//! What a job writes about its images: a line of a media log, a sidecar, or the path of a dump.

mod data;
mod fields;
mod foreign;
mod lenient;
mod loose;
mod non_finite;
mod options;
mod parse;
pub mod pattern;
#[cfg(test)]
mod tests;

pub use self::data::DataRef;
pub use self::fields::DEPTH_MAX;
pub use self::foreign::parse_foreign_sidecar;
pub use self::loose::LooseKey;
pub use self::options::{Alpha, Grid, GridOption, ImageOptions};
pub use self::parse::{parse_json, parse_line, parse_sidecar, place_of};
use crate::media::{Description, MediaKey, Session, Step};

/// Names of the fields in [`Description::annotations`].
pub(crate) const ANNOTATION_FIELDS: [&str; 3] = ["classes", "boxes", "masks"];

/// The description of one image, or of a batch of images.
#[derive(Debug, Clone, PartialEq)]
pub struct MediaRecord {
    /// The series that the image belongs to.
    pub key: MediaKey,
    /// The training step.
    pub step: Step,
    /// Index among the images of the key and step. `None` for the next free one.
    pub index: Option<u32>,
    /// The tensor.
    pub data: DataRef,
    /// How to make the image.
    pub options: ImageOptions,
    /// Caption, annotations and further fields, which are kept with the image.
    pub description: Description,
    /// What was repaired or dropped in the text. Each image has these warnings.
    pub warnings: Vec<String>,
}

/// A line of a media log.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// Describes an image or a batch.
    Media(Box<MediaRecord>),
    /// The step is complete.
    Commit(Step),
    /// The run is over.
    Finish,
    /// The lines after this one in the log are of this session and rank.
    Session(Session),
}

/// A line or a sidecar that is not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}column {column}: {message}", if *line > 1 { format!("line {line}, ") } else { String::new() })]
pub struct RecordError {
    /// Line of the sidecar, from 1.
    pub line: usize,
    /// Byte within the line at which the error was found, from 1. For a missing field, the last byte.
    pub column: usize,
    /// What was got, and what was wanted.
    pub message: String,
}

impl RecordError {
    /// Whether the text ends before its JSON does: its writer may not be done.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        // The words of `serde_json` for this kind of error, and for no other.
        self.message.starts_with("EOF while parsing")
    }

    /// Returns an error about a field that is missing from the whole text.
    fn at_end(text: &[u8], message: String) -> Self {
        let last = text.rsplit(|&byte| byte == b'\n').next().map_or(0, <[u8]>::len);
        let line = text.split(|&byte| byte == b'\n').count();
        Self { line, column: last.max(1), message }
    }
}

impl MediaRecord {
    /// Returns the record of a dump without a sidecar: only what its path gives.
    #[must_use]
    pub fn of_path(path: &pattern::DumpPath) -> Self {
        Self {
            key: path.key.clone(),
            step: path.step,
            index: path.index,
            data: DataRef { path: path.path.clone(), ..DataRef::default() },
            options: ImageOptions::default(),
            description: Description::default(),
            warnings: Vec::new(),
        }
    }
}
