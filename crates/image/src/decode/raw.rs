//! Raw bytes, whose type and shape the record gives.

use std::collections::BTreeMap;

use super::{Contents, DecodeError, DecodeOptions, NamedTensor, RawLayout, ReadAt, Skipped};
use crate::tensor::{DType, Storage, TensorHeader, Writer};

/// Returns the tensor that a record describes. Bytes before and after it are not read.
///
/// # Errors
/// As [`header`].
pub(super) fn contents(
    dump: &impl ReadAt,
    layout: &RawLayout,
    options: &DecodeOptions,
) -> Result<Contents, DecodeError> {
    let header = header(dump, layout, options)?;
    let has_others = header.storage.n_bytes < dump.n_bytes();
    let unread = has_others.then(|| "bytes before or after its elements".to_owned());
    let tensors = vec![NamedTensor::new(None, Ok(header))];
    let (metadata, others) = (BTreeMap::new(), Skipped::default());
    Ok(Contents::Tensors { writer: Writer::NumPy, tensors, metadata, others, unread })
}

/// Returns the header that a record gives to raw bytes, checked against the length of the file.
///
/// # Errors
/// `Truncated` if the file is too short. `Malformed` if the record has no dtype, or if the file is too long
/// and the record has no offset: then the shape is likely wrong.
fn header(
    dump: &impl ReadAt,
    layout: &RawLayout,
    options: &DecodeOptions,
) -> Result<TensorHeader, DecodeError> {
    let RawLayout { shape, offset, byte_order } = layout.clone();
    let Some(dtype) = options.dtype else {
        let names = DType::ALL.map(DType::name).join(", ");
        return Err(DecodeError::Malformed(format!(
            "raw bytes without dtype: want one of {names}"
        )));
    };
    let (got, first) = (dump.n_bytes(), offset.unwrap_or(0));
    let n_bytes = shape.n_elements().checked_mul(dtype.size() as u64);
    let want = n_bytes.and_then(|n_bytes| first.checked_add(n_bytes));
    let (Some(n_bytes), Some(want)) = (n_bytes, want) else {
        return Err(DecodeError::Malformed(format!("raw shape {shape} is too large")));
    };
    if got < want {
        return Err(DecodeError::Truncated { got, want });
    }
    if got > want && offset.is_none() {
        return Err(DecodeError::Malformed(format!(
            "raw file of {got} bytes, {dtype} {shape} needs {want}; give an offset if there are other bytes"
        )));
    }
    let strides = shape.c_strides();
    let too_large = |_| DecodeError::Malformed("raw shape is too large".to_owned());
    TensorHeader::new(dtype, byte_order, shape, strides, Storage::plain(first, n_bytes), 0)
        .map_err(too_large)
}
