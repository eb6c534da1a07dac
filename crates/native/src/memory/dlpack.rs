//! Memory by `DLPack`, on the CPU.
//!
//! Source: `DLPack` 1.1, `include/dlpack/dlpack.h`; the Python specification of the array API standard.

use std::ffi::c_void;

use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use safelight_image::DType;

use super::{Layout, MemoryError, NATIVE, c_strides, dtype_of, dtype_of_kind};

/// `DLTensor`, with which a `DLManagedTensor` begins.
#[repr(C)]
struct RawTensor {
    data: *mut c_void,
    device_type: i32,
    device_id: i32,
    ndim: i32,
    code: u8,
    bits: u8,
    lanes: u16,
    shape: *const i64,
    /// In elements. Null for C order.
    strides: *const i64,
    byte_offset: u64,
}

/// `kDLCPU`, `kDLCUDAHost` (pinned memory).
const ON_CPU: [i64; 2] = [1, 3];

/// Describes the memory of an object with `__dlpack__`. Returns `None` if the object has none, or cannot
/// describe it so. The second of the pair keeps it alive.
///
/// # Errors
/// If the memory is on another device, the elements are no numbers, or the object raises an exception.
pub(super) fn layout<'py>(
    object: &Bound<'py, PyAny>,
    dtype: Option<DType>,
) -> Result<Option<(Layout, Bound<'py, PyAny>)>, MemoryError> {
    let py = object.py();
    let Some(device) = object.getattr_opt("__dlpack_device__")? else { return Ok(None) };
    let (device, _): (i64, i64) = device.call0()?.extract()?;
    if !ON_CPU.contains(&device) {
        return Err(on_device(device));
    }
    let capsule = match object.call_method0("__dlpack__") {
        Ok(capsule) => capsule,
        Err(error)
            if error.is_instance_of::<PyBufferError>(py)
                || error.is_instance_of::<PyTypeError>(py) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let capsule = capsule.cast_into::<PyCapsule>().map_err(PyErr::from)?;
    // The capsule keeps its name, so that it releases the memory itself when it is dropped.
    let raw = capsule.pointer_checked(Some(c"dltensor"))?.cast::<RawTensor>();
    // SAFETY: a capsule of this name points to a `DLManagedTensor`, and lives as long as the reference.
    let raw = unsafe { raw.as_ref() };
    if !ON_CPU.contains(&raw.device_type.into()) {
        return Err(on_device(raw.device_type.into()));
    }
    let size = usize::from(raw.bits).div_ceil(8);
    let named = (raw.lanes == 1).then(|| dtype_of_code(raw.code, raw.bits)).flatten();
    let found = || format!("DLPack type {} with {} bits × {}", raw.code, raw.bits, raw.lanes);
    let dtype = dtype_of(named, dtype, size, found)?;
    let n_axes = usize::try_from(raw.ndim).unwrap_or(0);
    let numbers = |from: *const i64| {
        if n_axes == 0 {
            return &[][..];
        }
        // SAFETY: shape and strides have a number for each axis.
        unsafe { std::slice::from_raw_parts(from, n_axes) }
    };
    let shape: Vec<u64> =
        numbers(raw.shape).iter().map(|&n| u64::try_from(n).unwrap_or(0)).collect();
    let strides = if raw.strides.is_null() {
        c_strides(&shape, size)
    } else {
        let in_bytes = |&stride: &i64| stride.checked_mul(i64::try_from(size).ok()?);
        numbers(raw.strides).iter().map(in_bytes).collect()
    };
    let strides = strides.ok_or_else(|| MemoryError::Value("got axes too long".to_owned()))?;
    let offset = usize::try_from(raw.byte_offset)
        .map_err(|error| MemoryError::Value(format!("byte_offset: {error}")))?;
    // Null if there are no elements.
    let first = raw.data.cast_const().cast::<u8>().wrapping_add(offset);
    let layout = Layout { dtype, byte_order: NATIVE, shape, strides, first };
    Ok(Some((layout, capsule.into_any())))
}

fn on_device(device: i64) -> MemoryError {
    let name = match device {
        2 | 13 => "CUDA",
        4 => "OpenCL",
        7 => "Vulkan",
        8 => "Metal",
        10 | 11 => "ROCm",
        14 => "oneAPI",
        _ => "another device",
    };
    MemoryError::Type(format!(
        "got memory of {name} (DLPack device {device}), want memory of the CPU: copy it first, for example by \
         tensor.cpu()"
    ))
}

fn dtype_of_code(code: u8, bits: u8) -> Option<DType> {
    let kind = match code {
        0 => 'i',
        1 => 'u',
        2 => 'f',
        5 => 'c',
        6 => 'b',
        _ => {
            let named = match code {
                4 => DType::BF16,
                10 => DType::F8E4M3Fn,
                11 => DType::F8E4M3Fnuz,
                12 => DType::F8E5M2,
                13 => DType::F8E5M2Fnuz,
                14 => DType::F8E8M0Fnu,
                _ => return None,
            };
            return (named.size() * 8 == usize::from(bits)).then_some(named);
        }
    };
    bits.is_multiple_of(8).then(|| dtype_of_kind(kind, usize::from(bits / 8))).flatten()
}
