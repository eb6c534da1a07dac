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
    /// 4 bits of exponent, 3 of mantissa, no infinities.
    F8E4M3Fn,
    /// The same without negative zero, its exponent's bias one higher.
    F8E4M3Fnuz,
    /// 5 bits of exponent, 2 of mantissa: half of a float16.
    F8E5M2,
    /// The same without negative zero and infinities, its exponent's bias one higher.
    F8E5M2Fnuz,
    /// 8 bits of exponent: powers of two.
    F8E8M0Fnu,
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
            Self::Bool
            | Self::U8
            | Self::I8
            | Self::F8E4M3Fn
            | Self::F8E4M3Fnuz
            | Self::F8E5M2
            | Self::F8E5M2Fnuz
            | Self::F8E8M0Fnu => 1,
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

    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::Bool,
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::F16,
        Self::BF16,
        Self::F8E4M3Fn,
        Self::F8E4M3Fnuz,
        Self::F8E5M2,
        Self::F8E5M2Fnuz,
        Self::F8E8M0Fnu,
        Self::F32,
        Self::F64,
        Self::Complex64,
        Self::Complex128,
    ];

    /// The type that a record names: by `NumPy`'s name (`float32`; `ml_dtypes`' for those that
    /// `NumPy` has not), perhaps with torch's prefix (`torch.float32`).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.strip_prefix("torch.").unwrap_or(name);
        let name = match name {
            "half" => "float16",
            "float" => "float32",
            "double" => "float64",
            name => name,
        };
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// Whether its elements may be NaN.
    #[must_use]
    pub const fn is_float(self) -> bool {
        !matches!(
            self,
            Self::Bool
                | Self::U8
                | Self::U16
                | Self::U32
                | Self::U64
                | Self::I8
                | Self::I16
                | Self::I32
                | Self::I64
        )
    }

    /// `NumPy`'s name of the type; of those that it has not, that of `ml_dtypes`.
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
            Self::F8E4M3Fn => "float8_e4m3fn",
            Self::F8E4M3Fnuz => "float8_e4m3fnuz",
            Self::F8E5M2 => "float8_e5m2",
            Self::F8E5M2Fnuz => "float8_e5m2fnuz",
            Self::F8E8M0Fnu => "float8_e8m0fnu",
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

/// Whose habits a dump follows, which tell which axis is likely which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// Channels last.
    NumPy,
    /// Channels first: torch itself, and safetensors.
    Torch,
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
        // An axis of length 0 counts as 1, so that strides are small enough too.
        axes.iter().try_fold(1u64, |n, &axis| n.checked_mul(axis.max(1)))?;
        Some(Self(axes))
    }

    /// The lengths, outermost axis first.
    #[must_use]
    pub fn axes(&self) -> &[u64] {
        &self.0
    }

    /// The strides of elements that lie in C order: the last axis varies fastest.
    #[must_use]
    pub fn c_strides(&self) -> Vec<u64> {
        let mut strides = vec![1; self.0.len()];
        for i in (1..self.0.len()).rev() {
            strides[i - 1] = strides[i] * self.0[i].max(1);
        }
        strides
    }

    /// The strides of elements that lie in Fortran order: the first axis varies fastest.
    #[must_use]
    pub fn fortran_strides(&self) -> Vec<u64> {
        let mut strides = vec![1; self.0.len()];
        for i in 1..self.0.len() {
            strides[i] = strides[i - 1] * self.0[i - 1].max(1);
        }
        strides
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

/// A stretch of a dump that holds elements, as it lies there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Storage {
    /// Where it begins, in bytes from the start of the dump.
    pub offset: u64,
    /// Its bytes in the dump.
    pub n_stored: u64,
    /// Its bytes once they are decoded.
    pub n_bytes: u64,
    /// How they are encoded.
    pub encoding: Encoding,
    /// CRC-32 of the decoded bytes, where the dump gives it.
    pub crc32: Option<u32>,
}

/// How a storage's bytes are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Not at all.
    Plain,
    /// Deflated, as members of zip files are.
    Deflated,
    /// Floats of fewer than 8 bits, packed from the lowest bit on, with so many bits of exponent and
    /// mantissa. Decoded, each is a `float8_e4m3fn`, which holds all their values.
    Packed {
        /// Bits of the exponent: 2 or 3.
        exponent: u8,
        /// Bits of the mantissa: 1 to 3.
        mantissa: u8,
    },
}

impl Storage {
    /// Bytes as they are.
    #[must_use]
    pub const fn plain(offset: u64, n_bytes: u64) -> Self {
        Self { offset, n_stored: n_bytes, n_bytes, encoding: Encoding::Plain, crc32: None }
    }
}

/// What a dump says of one tensor, and where its elements lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorHeader {
    /// Element type.
    pub dtype: DType,
    /// Byte order of the elements.
    pub byte_order: ByteOrder,
    /// Lengths of the axes.
    pub shape: Shape,
    /// Elements from one to the next along each axis.
    pub strides: Vec<u64>,
    /// Where the elements lie.
    pub storage: Storage,
    /// Where in the decoded storage the first element begins, in bytes.
    pub first: u64,
}

impl TensorHeader {
    /// A tensor all of whose elements lie within the storage's bytes.
    ///
    /// # Errors
    /// How many bytes the storage would need, if that is more than it has; `None` if that is more
    /// than can be counted.
    pub fn new(
        dtype: DType,
        byte_order: ByteOrder,
        shape: Shape,
        strides: Vec<u64>,
        storage: Storage,
        first: u64,
    ) -> Result<Self, Option<u64>> {
        let end = if shape.n_elements() == 0 {
            Some(0)
        } else {
            let last =
                shape.axes().iter().zip(&strides).try_fold(0u64, |last, (&axis, &stride)| {
                    last.checked_add((axis - 1).checked_mul(stride)?)
                });
            last.and_then(|last| last.checked_add(1)?.checked_mul(dtype.size() as u64))
                .and_then(|n_bytes| n_bytes.checked_add(first))
        };
        match end {
            Some(end) if end <= storage.n_bytes => {
                Ok(Self { dtype, byte_order, shape, strides, storage, first })
            }
            end => Err(end),
        }
    }
}
