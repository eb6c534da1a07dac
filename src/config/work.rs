//! `[work]`: how much of the machine Safelight may use.

use schemars::JsonSchema;
use serde::Deserialize;

use super::section_schema::one_of;
use super::values::{BYTES_MAX, Nice, Whole};
use crate::limits::Limits;
use crate::media::DigestKind;

/// How much of the machine Safelight may use.
#[derive(Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WorkSection {
    /// How many images are made at the same time. The machine's processors belong to the training.
    #[schemars(extend("x-restart" = true))]
    pub threads: Whole<1, 1024>,
    /// The memory that all images in the making, and the texts of lines that are not committed yet, may take together,
    /// in bytes. Texts take at most a quarter. An image that needs more is rejected.
    #[schemars(extend("x-restart" = true))]
    pub memory_bytes_max: Whole<1_048_576, BYTES_MAX>,
    /// How many bytes of dumps the daemon reads from disk each second, at most, so that the training's own reads do
    /// not wait, and how many bytes of media files `safelight verify` reads. 0 means no limit. Files that are still in
    /// the kernel's page cache do not count.
    pub read_bytes_per_s_max: Whole<0, BYTES_MAX>,
    /// How an item records the content of its dump. `"xxh3"` (128 bits, as xxh128sum prints them) costs next to
    /// nothing. `"sha256"` (as sha256sum prints it) takes as long as all other work on a photograph, and longer on
    /// processors without instructions for it.
    #[schemars(schema_with = "dump_digest", extend("x-restart" = true, "default" = "xxh3"))]
    pub dump_digest: DigestKind,
    /// How far the daemon yields its processors to the training: its nice value, and that of its own session where
    /// the kernel shares the processors among sessions. Under systemd the weight of its slice counts too.
    /// `safelight ingest`, which someone waits for, keeps its own.
    #[schemars(extend("x-restart" = true))]
    pub nice: Nice,
}

fn dump_digest(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    one_of(&["xxh3", "sha256"])
}

impl Default for WorkSection {
    fn default() -> Self {
        Self {
            threads: Whole::nearest(1),
            memory_bytes_max: Whole::nearest(Limits::default().memory_bytes_max),
            read_bytes_per_s_max: Whole::nearest(256 << 20),
            dump_digest: DigestKind::default(),
            nice: Nice::MAX,
        }
    }
}
