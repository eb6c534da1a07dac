//! Memory by `__array_interface__`.
//!
//! Source: NumPy, "The array interface protocol", version 3.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use safelight_image::{ByteOrder, DType};

use super::{Layout, MemoryError, NATIVE, c_strides, dtype_of, dtype_of_kind};

/// Describes the memory of an object with `__array_interface__`. Returns `None` if the object has none, or its
/// data is not an address. The second of the pair keeps it alive.
///
/// # Errors
/// If the elements are no numbers, or the description is malformed.
pub(super) fn layout<'py>(
    object: &Bound<'py, PyAny>,
    dtype: Option<DType>,
) -> Result<Option<(Layout, Bound<'py, PyAny>)>, MemoryError> {
    let Some(interface) = object.getattr_opt("__array_interface__")? else { return Ok(None) };
    let interface = interface.cast::<PyDict>().map_err(PyErr::from)?;
    let field = |name: &str| -> Result<Option<Bound<'py, PyAny>>, MemoryError> {
        Ok(interface.get_item(name)?.filter(|value| !value.is_none()))
    };
    let missing = |name: &str| MemoryError::Value(format!("__array_interface__ lacks {name}"));
    let Some(Ok((address, _))) = field("data")?.map(|data| data.extract::<(usize, bool)>()) else {
        return Ok(None);
    };
    let typestr: String = field("typestr")?.ok_or_else(|| missing("typestr"))?.extract()?;
    let shape: Vec<u64> = field("shape")?.ok_or_else(|| missing("shape"))?.extract()?;
    let (named, byte_order, size) = dtype_of_typestr(&typestr);
    let dtype = dtype_of(named, dtype, size, || format!("type {typestr:?}"))?;
    let strides = match field("strides")? {
        Some(strides) => Some(strides.extract::<Vec<i64>>()?),
        None => c_strides(&shape, size),
    };
    let strides = strides.filter(|strides| strides.len() == shape.len()).ok_or_else(|| {
        MemoryError::Value("__array_interface__: strides contradict shape".to_owned())
    })?;
    let first = std::ptr::with_exposed_provenance(address);
    Ok(Some((Layout { dtype, byte_order, shape, strides, first }, object.clone())))
}

/// Reads a type such as `<f4`. The last of the three is the size of an element in bytes.
fn dtype_of_typestr(typestr: &str) -> (Option<DType>, ByteOrder, usize) {
    let mut characters = typestr.chars();
    let byte_order = match characters.next() {
        Some('>') => ByteOrder::Big,
        Some('<') => ByteOrder::Little,
        _ => NATIVE,
    };
    let kind = characters.next().unwrap_or('V');
    let size = characters.as_str().parse().unwrap_or(0);
    (dtype_of_kind(kind, size), byte_order, size)
}
