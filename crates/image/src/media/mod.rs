//! The vocabulary of logged images: names, kinds, digests, entries.

mod digest;
mod json;
mod entry;
mod entry_json;
mod kinds;
mod names;
mod session;

pub use self::digest::{Digest, DigestKind, Hasher, LineDigest, LineHasher, Sha256, Xxh3};
pub use self::entry::shortened;
pub use self::entry::{
    Annotation, Annotations, ClaimedPlace, Class, ClassLabels, CommittedImage, Description, Fate,
    HeldAt, Layers, MediaEntry, MediaFile, Provenance, Rejection, RejectionClass, Source, State,
    Stats,
};
pub use self::json::{Json, JsonFields};
pub use self::kinds::{ColorMode, Colormap, Compression, DataFormat, FileType, Profile, Rgb, Rule};
pub use self::names::{BoxName, MediaId, MediaKey, NAME_BYTES_MAX, NameError, RunId, Step};
pub use self::session::{SESSION_BYTES_MAX, Session};
