//! Memory by the buffer protocol of Python.
//!
//! The struct is part of the stable ABI since Python 3.11. Its fields are the same in 3.9 and 3.10, and the two
//! functions are there too. `PyO3` does not declare them for a stable ABI of 3.9, so they are declared here.
//!
//! Source: `CPython` `Include/cpython/object.h` (3.9), `Include/pybuffer.h` (3.11), PEP 3118.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::MaybeUninit;

use pyo3::exceptions::PyBufferError;
use pyo3::ffi::{Py_ssize_t, PyObject};
use pyo3::prelude::*;
use safelight_image::{ByteOrder, DType};

use super::{Layout, MemoryError, NATIVE, c_strides, dtype_of, dtype_of_kind};

/// `Py_buffer`.
#[repr(C)]
struct RawBuffer {
    buf: *mut c_void,
    obj: *mut PyObject,
    len: Py_ssize_t,
    itemsize: Py_ssize_t,
    readonly: c_int,
    ndim: c_int,
    format: *mut c_char,
    shape: *mut Py_ssize_t,
    strides: *mut Py_ssize_t,
    suboffsets: *mut Py_ssize_t,
    internal: *mut c_void,
}

/// `PyBUF_STRIDES | PyBUF_FORMAT`: strides and format, and no need to write.
const RECORDS_RO: c_int = 0x0010 | 0x0008 | 0x0004;

unsafe extern "C" {
    fn PyObject_CheckBuffer(object: *mut PyObject) -> c_int;
    fn PyObject_GetBuffer(object: *mut PyObject, view: *mut RawBuffer, flags: c_int) -> c_int;
    fn PyBuffer_Release(view: *mut RawBuffer);
}

/// A buffer that an object has lent.
pub(super) struct Buffer<'py> {
    // Its address must stay the same until it is released.
    raw: Box<RawBuffer>,
    // It is released while the interpreter is held.
    _py: Python<'py>,
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        // SAFETY: the buffer was filled by `PyObject_GetBuffer`, and the interpreter is held.
        unsafe { PyBuffer_Release(&raw mut *self.raw) };
    }
}

impl<'py> Buffer<'py> {
    /// Borrows the buffer of an object. Returns `None` if it has none, or none for elements of its type.
    ///
    /// # Errors
    /// If the object raises another exception than `ValueError` or `BufferError`.
    pub(super) fn of(object: &Bound<'py, PyAny>) -> Result<Option<Self>, MemoryError> {
        let py = object.py();
        // SAFETY: `object` is an object.
        if unsafe { PyObject_CheckBuffer(object.as_ptr()) } == 0 {
            return Ok(None);
        }
        let mut raw = Box::new(MaybeUninit::<RawBuffer>::zeroed());
        // SAFETY: `raw` has room for a buffer, and the interpreter is held.
        let result = unsafe { PyObject_GetBuffer(object.as_ptr(), raw.as_mut_ptr(), RECORDS_RO) };
        if result == 0 {
            // SAFETY: a successful call fills it.
            return Ok(Some(Self { raw: unsafe { raw.assume_init() }, _py: py }));
        }
        let error = PyErr::fetch(py);
        let is_about_type = error.is_instance_of::<pyo3::exceptions::PyValueError>(py)
            || error.is_instance_of::<PyBufferError>(py);
        if is_about_type { Ok(None) } else { Err(error.into()) }
    }

    /// Describes the elements.
    ///
    /// # Errors
    /// If they are no numbers.
    pub(super) fn layout(&self, dtype: Option<DType>) -> Result<Layout, MemoryError> {
        let RawBuffer { buf, itemsize, ndim, format, shape, strides, .. } = *self.raw;
        let n_axes = usize::try_from(ndim).unwrap_or(0);
        let format = if format.is_null() {
            "B"
        } else {
            // SAFETY: a format is a text that ends in NUL.
            unsafe { CStr::from_ptr(format) }.to_str().unwrap_or("?")
        };
        let size = usize::try_from(itemsize).unwrap_or(0);
        let (named, byte_order) = dtype_of_format(format, size);
        let dtype = dtype_of(named, dtype, size, || format!("format {format:?}"))?;
        let lengths = |from: *mut Py_ssize_t| {
            // SAFETY: shape and strides have a number for each axis.
            unsafe { std::slice::from_raw_parts(from, n_axes) }
        };
        let shape: Vec<u64> = if n_axes == 0 {
            Vec::new()
        } else {
            lengths(shape).iter().map(|&n| u64::try_from(n).unwrap_or(0)).collect()
        };
        let strides = if n_axes == 0 {
            Some(Vec::new())
        } else if strides.is_null() {
            c_strides(&shape, size)
        } else {
            lengths(strides).iter().map(|&stride| i64::try_from(stride).ok()).collect()
        };
        let strides = strides.ok_or_else(|| MemoryError::Value("got axes too long".to_owned()))?;
        Ok(Layout { dtype, byte_order, shape, strides, first: buf.cast_const().cast() })
    }
}

/// Reads a format of the module `struct`, with the additions of PEP 3118. `None` if it is not one number.
fn dtype_of_format(format: &str, n_bytes: usize) -> (Option<DType>, ByteOrder) {
    let (byte_order, code) = match format.as_bytes() {
        [b'<', ..] => (ByteOrder::Little, &format[1..]),
        [b'>' | b'!', ..] => (ByteOrder::Big, &format[1..]),
        [b'@' | b'=', ..] => (NATIVE, &format[1..]),
        _ => (NATIVE, format),
    };
    let kind = match code {
        "?" => 'b',
        "b" | "h" | "i" | "l" | "q" | "n" => 'i',
        "B" | "H" | "I" | "L" | "Q" | "N" => 'u',
        "e" | "f" | "d" => 'f',
        "Zf" | "Zd" => 'c',
        _ => return (None, byte_order),
    };
    (dtype_of_kind(kind, n_bytes), byte_order)
}
