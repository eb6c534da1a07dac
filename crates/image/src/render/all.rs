//! Renders all images of a tensor under one rule.

use super::{RenderError, Rendered, Renderer, ValuesSeen, check_alpha, value_warnings};
use crate::convert::{Extent, LayoutError};
use crate::decode::ReadAt;
use crate::media::Provenance;
use crate::plan::{ImagePlan, TensorPlan};

/// Settles an image that was made when the extent of all images of its tensor was not known yet.
///
/// `batch` is that extent; it may leave out the image itself. Returns the warnings about the values; `None` if the
/// extent leads to another rule, so that the image must be made again.
///
/// # Errors
/// If the values of all images show that they are no pictures.
pub fn settled(
    tensor: &TensorPlan,
    provenance: &Provenance,
    values: &ValuesSeen,
    batch: Option<Extent>,
) -> Result<Option<Vec<String>>, LayoutError> {
    let shares_rule = tensor.shares_rule();
    let batch = batch.filter(|_| shares_rule);
    if shares_rule {
        let all = Extent::join(values.extent, batch);
        check_alpha(tensor, all)?;
        if tensor.rule(all).is_some_and(|rule| rule != provenance.rule) {
            return Ok(None);
        }
    }
    Ok(Some(value_warnings(tensor, provenance, values.n_few_levels, batch)))
}

/// Makes images of one tensor, which must be all of them if they [share a rule](TensorPlan::shares_rule). Returns each
/// with the warnings about its values.
///
/// # Errors
/// As [`Renderer::render`], for the first image that fails.
pub fn render_all(
    renderer: &mut Renderer,
    storage: &impl ReadAt,
    tensor: &TensorPlan,
    images: &[ImagePlan],
) -> Result<Vec<(Rendered, Vec<String>)>, RenderError> {
    let mut extent = None;
    let mut made = Vec::with_capacity(images.len());
    for image in images {
        let rendered = renderer.render(storage, tensor, image, extent)?;
        extent = Extent::join(extent, rendered.values.extent);
        made.push(rendered);
    }
    let finish = |(image, rendered): (&ImagePlan, Rendered)| {
        let settle =
            |rendered: &Rendered| settled(tensor, &rendered.provenance, &rendered.values, extent);
        if let Some(warnings) = settle(&rendered)? {
            return Ok((rendered, warnings));
        }
        let again = renderer.render(storage, tensor, image, extent)?;
        // The memory of a tensor may change while it is read. The last reading counts.
        let warnings = settle(&again)?.unwrap_or_default();
        Ok((again, warnings))
    };
    images.iter().zip(made).map(finish).collect()
}
