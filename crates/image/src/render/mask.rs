//! Renders a mask: its tensor → a PNG file whose gray values are class ids.

use std::collections::BTreeSet;
use std::io;

use super::source::{Buffers, Source, Target, View};
use super::view;
use crate::convert::mask::{beats, each_class_id, each_score};
use crate::convert::{ClassIdError, Elements, Pixels, normalized};
use crate::decode::ReadAt;
use crate::encode::{self, EncodeError, EncodedImage, Encoding};
use crate::media::ColorMode;
use crate::plan::MaskReading;

/// A mask's file, and the classes in it.
#[derive(Debug, Clone, PartialEq)]
pub struct RenderedMask {
    /// A PNG with 8 bits for each pixel, or 16 if a class id is above 255.
    pub image: EncodedImage,
    /// The class ids that occur.
    pub class_ids: BTreeSet<u16>,
}

/// Why a planned mask could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MaskError {
    /// The dump could not be read.
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
    /// A value is no class id.
    #[error(transparent)]
    ClassId(#[from] ClassIdError),
    /// The picture could not be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Makes a mask of a tensor from the tensor's [storage](crate::decode::storage). Returns `None` if the mask
/// is a file that is copied.
///
/// # Errors
/// If the storage can't be read, or a value is no class id.
pub fn render_mask(
    storage: &impl ReadAt,
    reading: &MaskReading,
) -> Result<Option<RenderedMask>, MaskError> {
    let MaskReading::Tensor { header, axes, image_idx, width, height, n_classes } = reading else {
        return Ok(None);
    };
    let elements = Elements { dtype: header.dtype, byte_order: header.byte_order };
    let mut buffers = Buffers::default();
    let mut source = Source::new(storage, elements, &mut buffers);
    let n =
        usize::try_from(width * height).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    let mut ids = vec![0u16; n];
    let whole = view(header, *axes, *image_idx, 0, [*width, 1, 0]);
    if let Some(n_classes) = *n_classes {
        let mut best = Best { scores: vec![f64::NEG_INFINITY; n], ids: vec![u16::MAX; n] };
        let [rows, columns, classes] = whole.axes[..] else { return Ok(None) };
        if n_classes > 1 && classes.from < rows.from.min(columns.from) {
            // The scores of a pixel are contiguous.
            let (mut pixel, mut first_class) = (usize::MAX, 0);
            source.each_chunk(&whole, |Target { first, .. }, chunk| {
                normalized(chunk, elements);
                if first != pixel {
                    (pixel, first_class) = (first, 0);
                }
                each_score(elements.dtype, chunk, |i, score| {
                    best.see(first, first_class + i, score);
                });
                first_class += chunk.len() / elements.dtype.size();
                io::Result::Ok(())
            })?;
        } else {
            // The scores of a class are contiguous. Only the best score of each pixel is stored.
            for class in 0..n_classes {
                let first = whole.first + class * classes.from * elements.dtype.size() as u64;
                let view = View { first, to: 0, axes: vec![rows, columns] };
                let class = usize::try_from(class).unwrap_or(usize::MAX);
                source.each_chunk(&view, |Target { first, step }, chunk| {
                    normalized(chunk, elements);
                    each_score(elements.dtype, chunk, |i, score| {
                        best.see(first + i * step, class, score);
                    });
                    io::Result::Ok(())
                })?;
            }
        }
        ids = best.ids;
    } else {
        source.each_chunk(&whole, |Target { first, step }, chunk| {
            normalized(chunk, elements);
            each_class_id(elements.dtype, chunk, |i, id| ids[first + i * step] = id)?;
            Ok::<(), MaskError>(())
        })?;
    }
    let mut is_seen = vec![false; usize::from(u16::MAX) + 1];
    ids.iter().for_each(|&id| is_seen[usize::from(id)] = true);
    let class_ids: BTreeSet<u16> = (0..=u16::MAX).filter(|&id| is_seen[usize::from(id)]).collect();
    let is_wide = class_ids.last().is_some_and(|&last| last > 255);
    let (mode, bytes) = if is_wide {
        (ColorMode::I16, ids.iter().flat_map(|id| id.to_le_bytes()).collect())
    } else {
        (ColorMode::L, ids.iter().map(|id| id.to_le_bytes()[0]).collect())
    };
    // The plan has checked each side.
    let side = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let pixels = Pixels { mode, width: side(*width), height: side(*height), bytes };
    Ok(Some(RenderedMask { image: encode::encode(&pixels, Encoding::default())?, class_ids }))
}

/// For each pixel, the greatest score until now and its class.
struct Best {
    scores: Vec<f64>,
    ids: Vec<u16>,
}

impl Best {
    fn see(&mut self, pixel: usize, class: usize, score: f64) {
        // The plan allows at most 65536 classes.
        let class = u16::try_from(class).unwrap_or(u16::MAX);
        let (best, id) = (&mut self.scores[pixel], &mut self.ids[pixel]);
        if beats(score, class, *best, *id) {
            (*best, *id) = (score, class);
        }
    }
}
