//! Opens what a record names: its dump, the tensors in the dump, the dumps of its masks, and files of
//! annotations.
//!
//! ```text
//! MediaRecord ─▶ RecordDump ─▶ parts: one tensor or picture each ─┐
//!     └────────▶ MaskDump of each mask ───────────────────────────┴▶ OpenRecord ─▶ planning
//! ```
//!
//! | module | its one job |
//! | --- | --- |
//! | `digest` | an open dump, and the digest of what is read of it |
//! | `comparing` | digests of dumps that may be known, a slice at a time |
//! | `opening` | a record's dump: opens it and reads its headers |
//! | `parts` | the tensors of a dump that a record leads to, and their keys |
//! | `mask` | the dump of a mask |
//! | `annotation_file` | loads annotations from files beside the dump |
//! | `storage` | the bytes of a tensor, checked and decoded |
//! | `record` | a record and all that it names, opened |

mod annotation_file;
mod comparing;
mod digest;
mod opening;
mod parts;
mod mask;
mod storage;
mod record;

pub(crate) use self::comparing::Comparing;
pub(crate) use self::digest::{OpenDump, SharedDigest};
pub(crate) use self::mask::MaskDump;
pub(crate) use self::opening::{LastDump, RecordDump, open_dump};
pub(crate) use self::parts::Part;
pub(crate) use self::record::{MissingFile, OpenRecord};
pub(crate) use self::storage::OpenStorage;
