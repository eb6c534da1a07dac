//! How all images of a dump are made.

use super::tensor::{self, TensorPlan};
use super::{Limits, PlanError};
use crate::decode::PictureHeader;
use crate::record::ImageOptions;
use crate::tensor::{TensorHeader, Writer};

/// The data of a record: one tensor, or a picture.
#[derive(Debug, Clone)]
pub enum Found {
    /// A tensor, and the library that wrote it.
    Tensor(Writer, Box<TensorHeader>),
    /// An image file.
    Picture(PictureHeader),
}

/// How the images of a record are made.
#[derive(Debug, Clone, PartialEq)]
pub enum Recipe {
    /// By converting a tensor.
    Convert(Box<TensorPlan>),
    /// By copying an image file unchanged.
    Copy(PictureHeader),
}

impl Recipe {
    /// Chooses the recipe for the data that a record names.
    ///
    /// # Errors
    /// As [`TensorPlan::new`].
    pub fn new(found: Found, options: ImageOptions, limits: &Limits) -> Result<Self, PlanError> {
        Ok(match found {
            Found::Tensor(writer, header) => {
                Self::Convert(Box::new(tensor::plan(*header, writer, options, limits)?))
            }
            Found::Picture(picture) => Self::Copy(picture),
        })
    }

    /// The number of images that it makes.
    #[must_use]
    pub fn n_images(&self) -> u64 {
        match self {
            Self::Convert(tensor) => tensor.n_images(),
            Self::Copy(_) => 1,
        }
    }

    /// Whether its images [share a rule](TensorPlan::shares_rule).
    #[must_use]
    pub fn shares_rule(&self) -> bool {
        matches!(self, Self::Convert(tensor) if tensor.shares_rule())
    }

    /// The work that one image takes: its pixels, or the bytes of a file that is copied.
    #[must_use]
    pub fn cost(&self) -> u64 {
        match self {
            Self::Convert(tensor) => tensor.width.saturating_mul(tensor.height),
            Self::Copy(picture) => picture.n_bytes,
        }
    }
}
