//! Pixels to files.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use safelight_image::encode::{Encoder, Encoding, PixelsRef};
use safelight_image::media::{ColorMode, Compression};

/// Encodes pixels as PNG.
///
/// `pixels` are `height` × `width` pixels of a mode of Pillow, row by row, without gaps: 1 byte a channel; for mode `1`
/// a byte of 0 or 255; for mode `I;16` two bytes, the lower first.
///
/// Raises `ValueError` if the mode is not one of `1`, `L`, `LA`, `RGB`, `RGBA`, `I;16`, or if the number of bytes
/// contradicts the size.
#[pyfunction]
#[pyo3(signature = (pixels, mode, width, height, small=false, palette=false))]
pub(crate) fn encode<'py>(
    py: Python<'py>,
    pixels: &[u8],
    mode: &str,
    width: u32,
    height: u32,
    small: bool,
    palette: bool,
) -> PyResult<Bound<'py, PyBytes>> {
    let mode: ColorMode =
        mode.parse().map_err(|problem| PyValueError::new_err(format!("{problem}")))?;
    let n_pixels = u64::from(width) * u64::from(height);
    if n_pixels.checked_mul(mode.pixel_size() as u64) != Some(pixels.len() as u64) || n_pixels == 0
    {
        let n = pixels.len();
        let problem = format!("got {n} bytes for {width} × {height} pixels of mode {mode}");
        return Err(PyValueError::new_err(problem));
    }
    let compression = if small { Compression::Small } else { Compression::Fast };
    let encoding = Encoding { compression, palette, ..Encoding::default() };
    let file = py.detach(|| {
        let mut file = Vec::new();
        let pixels = PixelsRef { mode, width, height, samples: pixels };
        Encoder::new().encode(pixels, encoding, &mut file).map(|()| file)
    });
    let file = file.map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(PyBytes::new(py, &file))
}
