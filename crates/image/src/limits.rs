//! Limits: how many images a step may have, and how large an image may be.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::annotations::{BOXES_MAX, CLASSES_MAX, SETS_MAX};
use crate::media::{NAME_BYTES_MAX, SESSION_BYTES_MAX};
use crate::plan::IndexRange;
use crate::record::DEPTH_MAX;
use crate::wandb::{MAX_DIMENSION, MAX_ITEMS};
use crate::words::counted;

/// The most bytes of fields of `safelight.json` that are kept.
pub const IDENTITY_BYTES_MAX: u64 = 64 << 10;

/// How an image that is over `max_dimension` is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OverDimension {
    /// It is held.
    #[default]
    Hold,
    /// It is scaled down until it fits, and its entry says so.
    Downscale,
}

/// Limits for a step and for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most images of one (run, key, step).
    pub max_items: u32,
    /// Longest side of an image, in pixels.
    pub max_dimension: u32,
    /// How an image with a longer side is handled.
    pub over_dimension: OverDimension,
    /// Largest dump that is read, in bytes.
    pub dump_bytes_max: u64,
    /// Most pixels (width × height) of one image.
    pub pixels_max: u64,
    /// Most images in one dump.
    pub batch_max: u64,
    /// Longest line of a media log and longest sidecar, in bytes.
    pub line_bytes_max: u64,
    /// Most bytes of files of annotations for one line or sidecar.
    pub annotation_bytes_max: u64,
    /// Longest header of a dump, in bytes.
    pub header_bytes_max: u64,
    /// The most memory that the conversion of one image may take, in bytes.
    pub memory_bytes_max: u64,
}

impl Default for Limits {
    /// The limits of an empty configuration.
    fn default() -> Self {
        Self {
            max_items: MAX_ITEMS,
            max_dimension: MAX_DIMENSION,
            over_dimension: OverDimension::Hold,
            dump_bytes_max: 8 << 30,
            // Above this limit, Pillow does not open a picture.
            pixels_max: 178_956_970,
            batch_max: 65_536,
            line_bytes_max: 1 << 20,
            annotation_bytes_max: 16 << 20,
            header_bytes_max: 4 << 20,
            memory_bytes_max: 512 << 20,
        }
    }
}

/// Returns the limits that a program that writes run directories must keep, so that nothing of it is refused by
/// the default configuration. The Python module has them as a table of these names.
#[must_use]
pub fn of_writers() -> [(&'static str, u64); 13] {
    let limits = Limits::default();
    [
        ("annotation_bytes_max", limits.annotation_bytes_max),
        ("batch_max", limits.batch_max),
        ("boxes_max", BOXES_MAX as u64),
        ("classes_max", CLASSES_MAX as u64),
        ("depth_max", DEPTH_MAX as u64),
        ("dump_bytes_max", limits.dump_bytes_max),
        ("file_bytes_max", limits.memory_bytes_max),
        ("identity_bytes_max", IDENTITY_BYTES_MAX),
        ("key_bytes_max", NAME_BYTES_MAX as u64),
        ("line_bytes_max", limits.line_bytes_max),
        ("pixels_max", limits.pixels_max),
        ("session_bytes_max", SESSION_BYTES_MAX as u64),
        ("sets_max", SETS_MAX as u64),
    ]
}

/// The indices of one (run, key, step) that are taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StepUsage {
    /// For each index that is taken, whether by an image. If not, by a held item.
    taken: BTreeMap<u32, bool>,
    n_kept: u32,
    /// All indices below this one are taken.
    n_dense: u32,
}

impl StepUsage {
    /// The number of images, without held items.
    #[must_use]
    pub fn n_kept(&self) -> u32 {
        self.n_kept
    }

    /// Whether `index` is taken, by an image or a held item.
    #[must_use]
    pub fn is_taken(&self, index: u32) -> bool {
        self.taken.contains_key(&index)
    }

    /// Whether `index` is taken by an image (`true`) or a held item (`false`). `None` if it is free.
    #[must_use]
    pub fn kept_at(&self, index: u32) -> Option<bool> {
        self.taken.get(&index).copied()
    }

    /// The index after the highest one that is taken. `None` if there is no such number.
    #[must_use]
    pub fn next_index(&self) -> Option<u32> {
        self.taken.last_key_value().map_or(Some(0), |(last, _)| last.checked_add(1))
    }

    /// The first index that is free, and the number of free ones from there on.
    #[must_use]
    pub fn first_gap(&mut self) -> IndexRange {
        while self.is_taken(self.n_dense) {
            self.n_dense += 1;
        }
        let first = self.n_dense;
        let next = self.taken.range(first..).next().map_or(u32::MAX, |(next, _)| *next);
        IndexRange { first, n: next - first }
    }

    /// Takes `index` for an image, or for a held item if `kept` is false. Replaces what it had.
    pub fn take(&mut self, index: u32, kept: bool) {
        let before = self.taken.insert(index, kept);
        self.n_kept -= u32::from(before == Some(true));
        self.n_kept += u32::from(kept);
    }

    /// Frees `index`.
    pub fn free(&mut self, index: u32) {
        if self.taken.remove(&index) == Some(true) {
            self.n_kept -= 1;
        }
        self.n_dense = self.n_dense.min(index);
    }
}

/// The decision of the limits on one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It is within the limits.
    Keep,
    /// It is within the limits at this width and height.
    Downscale(u32, u32),
    /// It is held, for this reason.
    Hold(String),
}

/// Decides on one more image of a step, of `width` × `height` pixels.
#[must_use]
pub fn admit(limits: &Limits, usage: &StepUsage, width: u64, height: u64) -> Admission {
    if usage.n_kept >= limits.max_items {
        let images = counted(usage.n_kept.into(), "image");
        let are = if usage.n_kept == 1 { "is" } else { "are" };
        return Admission::Hold(format!("max_items: {images} of this key and step {are} kept"));
    }
    let (longest, max) = (width.max(height), u64::from(limits.max_dimension));
    if longest <= max {
        return Admission::Keep;
    }
    match limits.over_dimension {
        OverDimension::Hold => Admission::Hold(format!(
            "max_dimension: got {width} × {height} pixels, want at most {max} a side"
        )),
        OverDimension::Downscale => {
            let (width, height) = scaled_to(width, height, max);
            Admission::Downscale(width, height)
        }
    }
}

/// Scales width and height so that the longest side has `side` pixels. Neither becomes 0.
#[must_use]
pub(crate) fn scaled_to(width: u64, height: u64, side: u64) -> (u32, u32) {
    let longest = u128::from(width.max(height).max(1));
    let scaled = |length: u64| {
        let length = (u128::from(length) * u128::from(side) + longest / 2) / longest;
        u32::try_from(length.max(1)).unwrap_or(u32::MAX)
    };
    (scaled(width), scaled(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_108_are_kept() {
        let mut usage = StepUsage::default();
        for i in 0..200 {
            let admission = admit(&Limits::default(), &usage, 8, 8);
            assert_eq!(admission == Admission::Keep, i < 108, "{i}: {admission:?}");
            let index = usage.next_index().unwrap_or(0);
            assert_eq!(index, i);
            usage.take(index, admission == Admission::Keep);
        }
        assert_eq!(usage.n_kept(), 108);
        usage.free(3);
        usage.free(4);
        assert_eq!(usage.first_gap(), IndexRange { first: 3, n: 2 });
        usage.take(3, true);
        usage.take(4, true);
        assert_eq!(usage.first_gap(), IndexRange { first: 200, n: u32::MAX - 200 });
        usage.take(0, false);
        assert_eq!(admit(&Limits::default(), &usage, 8, 8), Admission::Keep);
    }

    #[test]
    fn long_sides_are_held_or_scaled() {
        let usage = StepUsage::default();
        assert_eq!(admit(&Limits::default(), &usage, 65_500, 1), Admission::Keep);
        let held = Admission::Hold(
            "max_dimension: got 65501 × 1 pixels, want at most 65500 a side".to_owned(),
        );
        assert_eq!(admit(&Limits::default(), &usage, 65_501, 1), held);
        let limits = Limits {
            over_dimension: OverDimension::Downscale,
            max_dimension: 100,
            ..Limits::default()
        };
        assert_eq!(admit(&limits, &usage, 400, 200), Admission::Downscale(100, 50));
        assert_eq!(admit(&limits, &usage, 1, 100_000), Admission::Downscale(1, 100));
    }
}
