//! The values of all images of a tensor, by which one rule is chosen for all of them.
//!
//! The images are separate jobs, on several workers. If all of them are made in one batch, each is made by
//! the values that are known so far, and kept back. The worker that finishes the last one knows all values,
//! makes those again that were made by another rule, and hands all of them over. So the data is nearly
//! always read once. If only some images are made, because the others are held or made already, the first
//! worker measures all of them.
//!
//! # Why it cannot deadlock
//!
//! Images that are kept back hold no memory of the budget, and no worker waits for them. The committer waits
//! for all images of a batch anyway. Images of several batches are measured, so that no batch waits for
//! images of a later one.

use std::sync::Mutex;

use super::job::BatchSlot;
use super::make::{MadeImage, MakeError};
use crate::convert::Extent;
use crate::locks::lock;
use crate::plan::ImageJob;
use crate::pulse;

/// Which images of a tensor are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Making {
    /// All of them, in one batch.
    All {
        /// The number of images.
        n_images: usize,
        /// The memory that the largest needs, in bytes.
        memory_bytes: u64,
    },
    /// Some of them, or all in several batches.
    Some,
}

/// What is known of the values of the images.
#[derive(Debug)]
pub(super) struct BatchValues {
    making: Making,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The extent of the images that were read until now.
    extent: Option<Extent>,
    /// Whether all of them were measured.
    is_measured: bool,
    /// The images that were made until now.
    kept: Vec<KeptBack>,
}

/// An image that is kept back until all are made.
#[derive(Debug)]
pub(super) struct KeptBack {
    pub(super) slot: BatchSlot,
    pub(super) image: Box<ImageJob>,
    pub(super) made: Result<MadeImage, MakeError>,
}

impl BatchValues {
    pub(super) fn new(making: Making) -> Self {
        Self { making, known: Mutex::default() }
    }

    /// Whether all images are made in one batch, and are kept back until then.
    pub(super) fn keeps_back(&self) -> bool {
        matches!(self.making, Making::All { .. })
    }

    /// The memory that the largest image needs, in bytes: a worker may make any of them again.
    pub(super) fn memory_bytes(&self) -> u64 {
        match self.making {
            Making::All { memory_bytes, .. } => memory_bytes,
            Making::Some => 0,
        }
    }

    /// Returns the extent of the images that were made until now.
    pub(super) fn extent(&self) -> Option<Extent> {
        lock(&self.known).extent
    }

    /// Returns the extent of all images. Calls `measure` the first time.
    ///
    /// # Errors
    /// If `measure` fails. The next call tries again.
    pub(super) fn measured(
        &self,
        measure: impl FnOnce() -> Result<Option<Extent>, MakeError>,
    ) -> Result<Option<Extent>, MakeError> {
        // The others wait for the one that measures.
        let mut known = pulse::idle(|| lock(&self.known));
        if !known.is_measured {
            known.extent = measure()?;
            known.is_measured = true;
        }
        Ok(known.extent)
    }

    /// Keeps an image back. Returns all images if it is the last, and the extent of those that were made.
    pub(super) fn keep(&self, image: KeptBack) -> Option<(Vec<KeptBack>, Option<Extent>)> {
        let mut known = lock(&self.known);
        let extent = image.made.as_ref().ok().and_then(MadeImage::extent);
        known.extent = Extent::join(known.extent, extent);
        known.kept.push(image);
        let n_images = match self.making {
            Making::All { n_images, .. } => n_images,
            Making::Some => 0,
        };
        (known.kept.len() >= n_images).then(|| (std::mem::take(&mut known.kept), known.extent))
    }
}
