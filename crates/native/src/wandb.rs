//! Two class methods of `wandb.Image`.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use safelight_image::media::ColorMode;
use safelight_image::{Shape, Writer, wandb};

use crate::develop::{dtype_of, record_of};
use crate::memory::{Memory, MemoryError};

/// Returns the mode of the picture that an array of this shape makes: `L`, `LA`, `RGB` or `RGBA`.
///
/// Raises `ValueError` if the shape makes no picture.
#[pyfunction]
#[pyo3(signature = (shape, record, channels_first=false))]
pub(crate) fn guess_mode(
    shape: Vec<u64>,
    record: &[u8],
    channels_first: bool,
) -> PyResult<&'static str> {
    let profile = record_of(record)?.options.profile.unwrap_or_default();
    let shape = Shape::new(shape).ok_or_else(|| PyValueError::new_err("got too many axes"))?;
    let writer = if channels_first { Writer::Torch } else { Writer::NumPy };
    wandb::guess_mode(&shape, writer, profile)
        .map(ColorMode::name)
        .map_err(|error| PyValueError::new_err(error.to_string()))
}

/// Converts an array of any shape to 8 bits, by a profile or to a range.
///
/// Returns a byte for each element, in C order, and the lengths of the axes.
///
/// Raises `TypeError` and `ValueError` as `develop` does.
#[pyfunction]
#[pyo3(signature = (data, record, dtype=None))]
pub(crate) fn to_uint8<'py>(
    py: Python<'py>,
    data: &Bound<'py, PyAny>,
    record: &[u8],
    dtype: Option<&str>,
) -> PyResult<(Bound<'py, PyBytes>, Vec<u64>)> {
    let options = record_of(record)?.options;
    let memory = Memory::of(data, dtype.map(dtype_of).transpose()?)?;
    let layout = memory.layout();
    let (bytes, shape) = py.detach(|| {
        let (dtype, shape, copy) = layout.little_endian()?;
        let profile = options.profile.unwrap_or_default();
        let (bytes, ..) = wandb::to_uint8(dtype, &copy, profile, options.range);
        Ok::<_, MemoryError>((bytes, shape.to_vec()))
    })?;
    Ok((PyBytes::new(py, &bytes), shape))
}
