//! `[limits]`: how many images a step may have, and how large files and images may be.

use schemars::JsonSchema;
use serde::Deserialize;

use super::section_schema::one_of;
use super::values::{BYTES_MAX, WHOLE_BYTES_MAX, Whole};
use crate::limits::{Limits, OverDimension};

/// How many images a step may have, and how large files and images may be.
#[derive(Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSection {
    /// How many images each run, key and step may have. The first ones are kept, in order. The others are held:
    /// listed with the reason, their dumps left in place. If this limit or the next one is raised,
    /// `safelight release` makes images of them. 108 is `MAX_ITEMS` of `wandb.Image`.
    pub max_items: Whole<1, 4_294_967_295>,
    /// The longest side of an image, in pixels. 65500 is `MAX_DIMENSION` of `wandb.Image`.
    pub max_dimension: Whole<1, 2_147_483_647>,
    /// What happens to an image with a longer side: `"hold"` holds it, `"downscale"` scales it down until it fits.
    #[schemars(schema_with = "over_dimension")]
    pub over_dimension: OverDimension,
    /// The largest dump that is read, in bytes. The same limit holds for each deflated member of an npz file.
    pub dump_bytes_max: Whole<1, BYTES_MAX>,
    /// The largest image, in pixels (width × height). The default is the limit above which Pillow refuses to open
    /// an image.
    pub pixels_max: Whole<1, 1_099_511_627_776>,
    /// The most images in one dump.
    pub batch_max: Whole<1, 4_294_967_295>,
    /// The longest line of a media log and the largest sidecar, in bytes.
    pub line_bytes_max: Whole<1, WHOLE_BYTES_MAX>,
    /// The most bytes of annotations that one line or sidecar may load from files beside the dump
    /// (`"boxes": {"path": …}`). Larger ones are left out, with a warning on the image.
    pub annotation_bytes_max: Whole<1, WHOLE_BYTES_MAX>,
    /// The longest header of a dump, in bytes. A header of npy takes about a hundred bytes. Those of safetensors and
    /// torch files with thousands of tensors take some hundred thousand.
    pub header_bytes_max: Whole<1, WHOLE_BYTES_MAX>,
}

fn over_dimension(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    one_of(&["hold", "downscale"])
}

impl Default for LimitsSection {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            max_items: Whole::nearest(limits.max_items.into()),
            max_dimension: Whole::nearest(limits.max_dimension.into()),
            over_dimension: limits.over_dimension,
            dump_bytes_max: Whole::nearest(limits.dump_bytes_max),
            pixels_max: Whole::nearest(limits.pixels_max),
            batch_max: Whole::nearest(limits.batch_max),
            line_bytes_max: Whole::nearest(limits.line_bytes_max),
            annotation_bytes_max: Whole::nearest(limits.annotation_bytes_max),
            header_bytes_max: Whole::nearest(limits.header_bytes_max),
        }
    }
}

impl LimitsSection {
    /// The limits, with that of memory, which another section sets.
    pub(super) fn into_limits(self, memory_bytes_max: u64) -> Limits {
        Limits {
            max_items: self.max_items.as_u32(),
            max_dimension: self.max_dimension.as_u32(),
            over_dimension: self.over_dimension,
            dump_bytes_max: self.dump_bytes_max.get(),
            pixels_max: self.pixels_max.get(),
            batch_max: self.batch_max.get(),
            line_bytes_max: self.line_bytes_max.get(),
            annotation_bytes_max: self.annotation_bytes_max.get(),
            header_bytes_max: self.header_bytes_max.get(),
            memory_bytes_max,
        }
    }
}
