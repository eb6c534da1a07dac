//! What a logged image *is*. Pure.

mod entry;
mod kinds;
mod names;

pub use self::entry::{Description, Making, MediaEntry, MediaFile, Source, State, Stats};
pub use self::kinds::{ColorMode, DataFormat, FileType, Profile, Rule};
pub use self::names::{MediaId, MediaKey, NAME_BYTES_MAX, NameError, RunId, Sha256, Step};
