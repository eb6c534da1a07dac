//! The values of one image, for people who look at them.

use std::io;

use super::source::{Buffers, Source, View};
use super::views;
use crate::convert::{Elements, normalized, numbers, show, shown_as};
use crate::decode::ReadAt;
use crate::plan::TensorPlan;
use crate::values::Values;

/// Reads the values of one image of a tensor, in the type that [`shown_as`] says. Between the pictures of a contact
/// sheet they are 0.
///
/// # Errors
/// If the storage can't be read. Of kind `OutOfMemory` if memory can't hold the values.
pub fn values_of(storage: &impl ReadAt, tensor: &TensorPlan, image_idx: u64) -> io::Result<Values> {
    let dtype = tensor.header.dtype;
    let (shown_dtype, length) = (shown_as(dtype), |n: u64| usize::try_from(n).ok());
    let size = [tensor.height, tensor.width, tensor.reading.n_channels].map(length);
    let [Some(height), Some(width), Some(n_channels)] = size else { return Err(too_large()) };
    let size = shown_dtype.size();
    let n = height.checked_mul(width).and_then(|n| n.checked_mul(n_channels * size));
    let mut bytes = vec![0; n.ok_or_else(too_large)?];
    let mut shown = Vec::new();
    each_chunk(storage, tensor, image_idx, |first, step, chunk| {
        shown.clear();
        show(dtype, chunk, &mut shown);
        if step == 1 {
            bytes[first * size..first * size + shown.len()].copy_from_slice(&shown);
            return;
        }
        let to = bytes[first * size..].chunks_mut(step * size);
        to.zip(shown.chunks_exact(size)).for_each(|(to, value)| to[..size].copy_from_slice(value));
    })?;
    Values::new(shown_dtype, [height, width, n_channels], bytes).ok_or_else(too_large)
}

/// Calls `see` with each value of one image of a tensor and its place: (row × columns + column) × channels + channel.
/// Holds no more than a chunk in memory. Leaves out what lies between the pictures of a contact sheet.
///
/// # Errors
/// If the storage can't be read.
pub fn each_value(
    storage: &impl ReadAt,
    tensor: &TensorPlan,
    image_idx: u64,
    mut see: impl FnMut(usize, f64),
) -> io::Result<()> {
    let mut values = Vec::new();
    each_chunk(storage, tensor, image_idx, |first, step, chunk| {
        values.clear();
        numbers(tensor.header.dtype, chunk, &mut values);
        values.iter().enumerate().for_each(|(i, &value)| see(first + i * step, value));
    })
}

/// Calls `see` with each chunk of an image, normalized, and the place of its first value and the distance of the places
/// of its values.
fn each_chunk(
    storage: &impl ReadAt,
    tensor: &TensorPlan,
    image_idx: u64,
    mut see: impl FnMut(usize, usize, &[u8]),
) -> io::Result<()> {
    let elements = Elements { dtype: tensor.header.dtype, byte_order: tensor.header.byte_order };
    let mut buffers = Buffers::default();
    let mut source = Source::new(storage, elements, &mut buffers);
    let n_channels = tensor.reading.n_channels;
    let steps = [tensor.width * n_channels, n_channels, 1];
    let views: Vec<View> = views(tensor, image_idx, steps);
    for view in &views {
        source.each_chunk(view, |target, chunk| {
            normalized(chunk, elements);
            see(target.first, target.step, chunk);
            io::Result::Ok(())
        })?;
    }
    Ok(())
}

fn too_large() -> io::Error {
    io::ErrorKind::OutOfMemory.into()
}
