//! Memory of other libraries that holds a tensor.
//!
//! | from | what has it |
//! | --- | --- |
//! | [`buffer`] | NumPy, `bytes`, `array.array`, `memoryview`: the buffer protocol |
//! | [`dlpack`] | torch, JAX, TensorFlow, and whatever has `__dlpack__`, on the CPU |
//! | [`interface`] | whatever has `__array_interface__` only |
//!
//! The memory is read where it lies. Its owner may change it meanwhile, as it may while NumPy works on it: the
//! picture is then of some values before and some after, and nothing worse. Elements that lie backwards
//! or at no whole number of elements from each other are copied first.
#![expect(
    unsafe_code,
    reason = "the memory belongs to other libraries, which describe it by C structs"
)]

mod buffer;
mod dlpack;
mod interface;

use std::io;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use safelight_image::decode::ReadAt;
use safelight_image::tensor::Storage;
use safelight_image::{ByteOrder, DType, Shape, TensorHeader};

use self::buffer::Buffer;

/// A tensor in memory that another library owns.
pub(crate) struct Memory<'py> {
    layout: Layout,
    // What keeps it alive: one of these.
    _buffer: Option<Buffer<'py>>,
    _object: Option<Bound<'py, PyAny>>,
}

/// Where the elements of a tensor lie.
///
/// Element `(i, j, …)` begins at `first` + `i` × `strides[0]` + `j` × `strides[1]` + …. All of them can be read while the
/// [`Memory`] that lends the layout exists.
#[derive(Debug)]
pub(crate) struct Layout {
    dtype: DType,
    byte_order: ByteOrder,
    /// Lengths of the axes, outermost first.
    shape: Vec<u64>,
    /// Distances between neighbours along each axis, in bytes.
    strides: Vec<i64>,
    /// The first element.
    first: *const u8,
}

// SAFETY: the memory is only read, and its owner keeps it as long as the layout is lent.
unsafe impl Send for Layout {}
// SAFETY: as above.
unsafe impl Sync for Layout {}

/// Why memory is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MemoryError {
    /// The owner raised an exception.
    #[error("{0}")]
    Python(PyErr),
    /// The elements are no numbers that a picture can be made of.
    #[error("{0}")]
    Type(String),
    /// The description of the memory contradicts itself, or asks for more than there can be.
    #[error("{0}")]
    Value(String),
}

impl From<PyErr> for MemoryError {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

impl From<MemoryError> for PyErr {
    fn from(error: MemoryError) -> Self {
        match error {
            MemoryError::Python(error) => error,
            MemoryError::Type(problem) => PyTypeError::new_err(problem),
            MemoryError::Value(problem) => PyValueError::new_err(problem),
        }
    }
}

impl<'py> Memory<'py> {
    /// Finds the memory of `object`.
    ///
    /// `dtype` is the type of the elements if the library cannot name it, such as `bfloat16`; elements of the
    /// memory must have its size.
    ///
    /// # Errors
    /// If `object` has no memory on the CPU, or no numbers in it.
    pub(crate) fn of(
        object: &Bound<'py, PyAny>,
        dtype: Option<DType>,
    ) -> Result<Self, MemoryError> {
        // An array that NumPy cannot pass on as a buffer has the interface, too.
        if let Some(buffer) = Buffer::of(object)? {
            let layout = buffer.layout(dtype)?;
            return Ok(Self { layout, _buffer: Some(buffer), _object: None });
        }
        let found = match dlpack::layout(object, dtype)? {
            Some(found) => Some(found),
            None => interface::layout(object, dtype)?,
        };
        if let Some((layout, owner)) = found {
            return Ok(Self { layout, _buffer: None, _object: Some(owner) });
        }
        let kind = object.get_type().fully_qualified_name()?;
        Err(MemoryError::Type(format!(
            "got a {kind}, want an array: with the buffer protocol, __dlpack__ or __array_interface__"
        )))
    }

    /// Where the elements lie. It can be used without the interpreter.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }
}

impl Layout {
    /// Returns the tensor's header, and its bytes.
    ///
    /// # Errors
    /// If the axes are too many or too long, or memory for a copy is lacking.
    pub(crate) fn tensor(&self) -> Result<(TensorHeader, Elements<'_>), MemoryError> {
        let Self { dtype, byte_order, shape, strides, first } = self;
        let size = dtype.size() as u64;
        let shape = Shape::new(shape.clone()).ok_or_else(|| {
            MemoryError::Value(format!("got {} axes, or too long ones", shape.len()))
        })?;
        let is_empty = shape.n_elements() == 0;
        let steps = shape.axes().iter().zip(strides);
        // The stride of an axis of length 1 means nothing.
        let steps: Vec<i64> = steps.map(|(&n, &step)| if n <= 1 { 0 } else { step }).collect();
        let in_place: Option<Vec<u64>> = steps
            .iter()
            .map(|&step| u64::try_from(step).ok().filter(|step| step.is_multiple_of(size)))
            .map(|step| step.map(|step| step / size))
            .collect();
        let header = |strides: Vec<u64>, n_bytes: u64| {
            let storage = Storage::plain(0, n_bytes);
            TensorHeader::new(*dtype, *byte_order, shape.clone(), strides, storage, 0)
                .map_err(|_| MemoryError::Value(format!("got shape {shape}, want a smaller one")))
        };
        let too_large = || MemoryError::Value(format!("got shape {shape}, want a smaller one"));
        if is_empty {
            return Ok((header(shape.c_strides(), 0)?, Elements::Copied(Vec::new())));
        }
        if let Some(strides) = in_place {
            let reach = shape.axes().iter().zip(&strides).try_fold(1u64, |n, (&axis, &stride)| {
                n.checked_add((axis - 1).checked_mul(stride)?)
            });
            let n_bytes = reach.and_then(|n| n.checked_mul(size)).ok_or_else(too_large)?;
            let n = usize::try_from(n_bytes).map_err(|_| too_large())?;
            let span = Span { first: *first, n_bytes: n, _owner: std::marker::PhantomData };
            return Ok((header(strides, n_bytes)?, Elements::InPlace(span)));
        }
        let copy = self.copied()?;
        Ok((header(shape.c_strides(), copy.len() as u64)?, Elements::Copied(copy)))
    }

    /// Copies the elements, in C order and in the byte order of the memory.
    ///
    /// # Errors
    /// If memory for the copy is lacking.
    fn copied(&self) -> Result<Vec<u8>, MemoryError> {
        let Self { dtype, shape, strides, first, .. } = self;
        let n = shape
            .iter()
            .try_fold(dtype.size(), |n, &axis| n.checked_mul(usize::try_from(axis).ok()?));
        let n = n.ok_or_else(|| MemoryError::Value("got too many elements".to_owned()))?;
        let mut copy = Vec::new();
        copy.try_reserve_exact(n).map_err(|error| MemoryError::Value(error.to_string()))?;
        if n > 0 {
            // SAFETY: the owner promises that all elements of this shape and these strides exist.
            unsafe { gather(*first, shape, strides, dtype.size(), &mut copy) };
        }
        Ok(copy)
    }

    /// Copies the elements, in C order and little-endian. Returns their type and the lengths of the axes, too.
    ///
    /// # Errors
    /// If memory for the copy is lacking.
    pub(crate) fn little_endian(&self) -> Result<(DType, &[u64], Vec<u8>), MemoryError> {
        let Self { dtype, byte_order, shape, .. } = self;
        let mut copy = self.copied()?;
        if *byte_order == ByteOrder::Big && dtype.word_size() > 1 {
            copy.chunks_exact_mut(dtype.word_size()).for_each(<[u8]>::reverse);
        }
        Ok((*dtype, shape, copy))
    }
}

/// Appends the elements in C order.
///
/// # Safety
/// All elements of this shape and these strides, from `first` on, can be read.
unsafe fn gather(first: *const u8, shape: &[u64], steps: &[i64], size: usize, to: &mut Vec<u8>) {
    let mut copy = |at: *const u8, n_bytes: usize| {
        let start = to.len();
        to.resize(start + n_bytes, 0);
        // SAFETY: so many bytes of elements, into as many that were just made.
        unsafe { at.copy_to_nonoverlapping(to[start..].as_mut_ptr(), n_bytes) };
    };
    let step_of = |step: i64| isize::try_from(step).unwrap_or(0);
    let mut at = first;
    match (shape, steps) {
        ([n], [step]) if u64::try_from(*step) == Ok(size as u64) => {
            copy(at, usize::try_from(*n).unwrap_or(0) * size);
        }
        ([n], [step]) => {
            for _ in 0..*n {
                copy(at, size);
                // The last step may lead out of the memory.
                at = at.wrapping_offset(step_of(*step));
            }
        }
        ([n, shape @ ..], [step, steps @ ..]) => {
            for _ in 0..*n {
                // SAFETY: the part of the elements whose first index is this one.
                unsafe { gather(at, shape, steps, size, to) };
                at = at.wrapping_offset(step_of(*step));
            }
        }
        _ => copy(at, size),
    }
}

/// The bytes of a tensor.
pub(crate) enum Elements<'a> {
    /// The owner's.
    InPlace(Span<'a>),
    /// A copy, in C order.
    Copied(Vec<u8>),
}

/// Memory that its owner may change at any time, so that it is only read by copying.
pub(crate) struct Span<'a> {
    first: *const u8,
    n_bytes: usize,
    _owner: std::marker::PhantomData<&'a ()>,
}

// SAFETY: it is only read, and the owner keeps the memory until the span ends.
unsafe impl Send for Span<'_> {}
// SAFETY: as above.
unsafe impl Sync for Span<'_> {}

impl ReadAt for Elements<'_> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::Copied(bytes) => bytes.as_slice().read_exact_at(buffer, offset),
            Self::InPlace(Span { first, n_bytes, .. }) => {
                let offset = usize::try_from(offset).map_err(io::Error::other)?;
                let end = offset.checked_add(buffer.len());
                if end.is_none_or(|end| end > *n_bytes) {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                // SAFETY: the bytes lie within the span, and the buffer is ours.
                unsafe {
                    first.add(offset).copy_to_nonoverlapping(buffer.as_mut_ptr(), buffer.len());
                }
                Ok(())
            }
        }
    }

    fn n_bytes(&self) -> u64 {
        match self {
            Self::Copied(bytes) => bytes.len() as u64,
            Self::InPlace(Span { n_bytes, .. }) => *n_bytes as u64,
        }
    }
}

/// Returns the type of elements of `n_bytes`: `wanted`, or the one that the memory names.
///
/// # Errors
/// If the memory names none that pictures are made of, or `wanted` has another size. `found` says what it
/// names.
fn dtype_of(
    named: Option<DType>,
    wanted: Option<DType>,
    n_bytes: usize,
    found: impl FnOnce() -> String,
) -> Result<DType, MemoryError> {
    match wanted.or(named) {
        Some(dtype) if dtype.size() == n_bytes => Ok(dtype),
        Some(dtype) => Err(MemoryError::Type(format!(
            "got elements of {n_bytes} bytes, want {} of a {dtype}",
            dtype.size()
        ))),
        None => Err(MemoryError::Type(format!(
            "got elements of {}, want bool, or numbers of up to 64 bits a part",
            found()
        ))),
    }
}

/// Returns the type of a kind, as `NumPy` names kinds, with elements of `n_bytes`.
fn dtype_of_kind(kind: char, n_bytes: usize) -> Option<DType> {
    let kinds = match kind {
        'b' => &[DType::Bool][..],
        'i' => &[DType::I8, DType::I16, DType::I32, DType::I64],
        'u' => &[DType::U8, DType::U16, DType::U32, DType::U64],
        'f' => &[DType::F16, DType::F32, DType::F64],
        'c' => &[DType::Complex64, DType::Complex128],
        _ => &[],
    };
    kinds.iter().copied().find(|dtype| dtype.size() == n_bytes)
}

/// Returns the strides of C order in bytes. `None` if they are too large.
fn c_strides(shape: &[u64], size: usize) -> Option<Vec<i64>> {
    let mut stride = i64::try_from(size).ok()?;
    let mut strides = vec![0; shape.len()];
    for (to, &n) in strides.iter_mut().zip(shape).rev() {
        *to = stride;
        stride = stride.checked_mul(i64::try_from(n.max(1)).ok()?)?;
    }
    Some(strides)
}

/// The order of this machine.
const NATIVE: ByteOrder =
    if cfg!(target_endian = "little") { ByteOrder::Little } else { ByteOrder::Big };
