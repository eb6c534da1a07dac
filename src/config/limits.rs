//! `[limits]`: how many images a step may have, and how large files and images may be.

use std::num::{NonZeroU32, NonZeroU64};

use schemars::JsonSchema;
use serde::Deserialize;

use super::section_schema::one_of;
use super::values::{non_zero_32, non_zero_64};
use crate::limits::{Limits, OverDimension};

/// How many images a step may have, and how large files and images may be.
#[derive(Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSection {
    /// How many images each run, key and step may have. The first ones are kept, in order. The others are held:
    /// listed with the reason, their dumps left in place. If this limit or the next one is raised,
    /// `safelight release` makes images of them. 108 is `MAX_ITEMS` of `wandb.Image`.
    pub max_items: NonZeroU32,
    /// The longest side of an image, in pixels. 65500 is `MAX_DIMENSION` of `wandb.Image`.
    pub max_dimension: NonZeroU32,
    /// What happens to an image with a longer side: `"hold"` holds it, `"downscale"` scales it down until it fits.
    #[schemars(schema_with = "over_dimension")]
    pub over_dimension: OverDimension,
    /// The largest dump that is read, in bytes. The same limit holds for each deflated member of an npz file.
    pub dump_bytes_max: NonZeroU64,
    /// The largest image, in pixels (width × height). The default is the limit above which Pillow refuses to open
    /// an image.
    pub pixels_max: NonZeroU64,
    /// The most images in one dump.
    pub batch_max: NonZeroU64,
    /// The longest line of a media log and the largest sidecar, in bytes.
    pub line_bytes_max: NonZeroU64,
    /// The most bytes of annotations that one line or sidecar may load from files beside the dump
    /// (`"boxes": {"path": …}`). Larger ones are left out, with a warning on the image.
    pub annotation_bytes_max: NonZeroU64,
    /// The longest header of a dump, in bytes. A header of npy takes about a hundred bytes. Those of safetensors and
    /// torch files with thousands of tensors take some hundred thousand.
    pub header_bytes_max: NonZeroU64,
}

fn over_dimension(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    one_of(&["hold", "downscale"])
}

impl Default for LimitsSection {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            max_items: non_zero_32(limits.max_items),
            max_dimension: non_zero_32(limits.max_dimension),
            over_dimension: limits.over_dimension,
            dump_bytes_max: non_zero_64(limits.dump_bytes_max),
            pixels_max: non_zero_64(limits.pixels_max),
            batch_max: non_zero_64(limits.batch_max),
            line_bytes_max: non_zero_64(limits.line_bytes_max),
            annotation_bytes_max: non_zero_64(limits.annotation_bytes_max),
            header_bytes_max: non_zero_64(limits.header_bytes_max),
        }
    }
}

impl LimitsSection {
    /// The limits, with that of memory, which another section sets.
    pub(super) fn into_limits(self, memory_bytes_max: NonZeroU64) -> Limits {
        Limits {
            max_items: self.max_items.get(),
            max_dimension: self.max_dimension.get(),
            over_dimension: self.over_dimension,
            dump_bytes_max: self.dump_bytes_max.get(),
            pixels_max: self.pixels_max.get(),
            batch_max: self.batch_max.get(),
            line_bytes_max: self.line_bytes_max.get(),
            annotation_bytes_max: self.annotation_bytes_max.get(),
            header_bytes_max: self.header_bytes_max.get(),
            memory_bytes_max: memory_bytes_max.get(),
        }
    }
}
