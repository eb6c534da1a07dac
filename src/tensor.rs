//! What a dump holds before anyone calls it a picture: element type, shape, order of bytes. Pure.

use std::fmt;

/// The type of one element of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are NumPy's and torch's own")]
pub enum DType {
    Bool,
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    F16,
    BF16,
    F32,
    F64,
    /// Two `f32`: real, imaginary.
    Complex64,
    /// Two `f64`: real, imaginary.
    Complex128,
}

impl DType {
    /// Bytes of one element: 1 to 16.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 | Self::BF16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::Complex64 => 8,
            Self::Complex128 => 16,
        }
    }

    /// Bytes that are swapped as one when the byte order changes: a complex number has two halves.
    #[must_use]
    pub const fn word_size(self) -> usize {
        match self {
            Self::Complex64 | Self::Complex128 => self.size() / 2,
            _ => self.size(),
        }
    }

    /// `NumPy`'s name of the type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::U8 => "uint8",
            Self::U16 => "uint16",
            Self::U32 => "uint32",
            Self::U64 => "uint64",
            Self::I8 => "int8",
            Self::I16 => "int16",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
            Self::F32 => "float32",
            Self::F64 => "float64",
            Self::Complex64 => "complex64",
            Self::Complex128 => "complex128",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which byte of a number comes first in the dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ByteOrder {
    Little,
    Big,
}

/// Which axis varies fastest in the dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryOrder {
    /// The last axis varies fastest (row-major).
    C,
    /// The first axis varies fastest (column-major).
    Fortran,
}

/// The lengths of a tensor's axes, outermost first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape(Vec<u64>);

impl Shape {
    /// The most axes that a tensor may have. `NumPy` allows 64; no picture needs more than 5.
    pub const MAX_RANK: usize = 32;

    /// A shape with these axes, or `None` with more than [`Self::MAX_RANK`] of them or with more
    /// elements than a `u64` counts.
    #[must_use]
    pub fn new(axes: Vec<u64>) -> Option<Self> {
        if axes.len() > Self::MAX_RANK {
            return None;
        }
        axes.iter().try_fold(1u64, |n, &axis| n.checked_mul(axis))?;
        Some(Self(axes))
    }

    /// The lengths, outermost axis first.
    #[must_use]
    pub fn axes(&self) -> &[u64] {
        &self.0
    }

    /// How many elements the tensor has: 1 for a scalar.
    #[must_use]
    pub fn n_elements(&self) -> u64 {
        self.0.iter().product()
    }
}

/// Written as `NumPy` writes it, without the comma of one axis: `(480, 640, 3)`.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (i, axis) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{axis}")?;
        }
        f.write_str(")")
    }
}

/// What a dump says of one tensor, and where its elements lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorHeader {
    /// Element type.
    pub dtype: DType,
    /// Byte order of the elements.
    pub byte_order: ByteOrder,
    /// Which axis varies fastest.
    pub memory_order: MemoryOrder,
    /// Lengths of the axes.
    pub shape: Shape,
    /// Where the first element begins, in bytes from the start of the dump.
    pub data_offset: u64,
    /// Bytes of all elements: shape × element size, which fits.
    pub n_bytes: u64,
}
