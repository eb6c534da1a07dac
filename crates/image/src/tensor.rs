//! Tensors in a dump: element type, shape, byte order, and where the elements lie.

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
    /// As `F8E4M3Fn`, without negative zero, the bias of the exponent one higher.
    F8E4M3Fnuz,
    /// 5 bits of exponent, 2 of mantissa: the upper half of a float16.
    F8E5M2,
    /// As `F8E5M2`, without negative zero and infinities, the bias of the exponent one higher.
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
    /// Returns the bytes of one element: 1 to 16.
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

    /// Returns the bytes of one word, the unit of the byte order: half an element for complex numbers, else
    /// an element.
    #[must_use]
    pub const fn word_size(self) -> usize {
        match self {
            Self::Complex64 | Self::Complex128 => self.size() / 2,
            _ => self.size(),
        }
    }

    /// All types.
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

    /// Returns the type with this name: that of `NumPy` (`float32`), of `ml_dtypes` (`bfloat16`) or of
    /// torch (`torch.float32`, `half`).
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

    /// Whether elements may be NaN: true for floats and complex numbers.
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

    /// Returns `NumPy`'s name of the type, or that of `ml_dtypes` if `NumPy` lacks the type.
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

/// The order of the bytes of a number in a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ByteOrder {
    Little,
    Big,
}

/// The library that wrote a dump. Its conventions decide which axis is which where the shape leaves a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// `NumPy`: channels last.
    NumPy,
    /// torch and safetensors: channels first.
    Torch,
}

/// The lengths of a tensor's axes, outermost first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shape(Vec<u64>);

impl Shape {
    /// Most axes of a tensor. `NumPy` allows 64; no picture needs more than 5.
    pub const MAX_RANK: usize = 32;

    /// Returns the shape with these lengths. `None` if there are more than [`Self::MAX_RANK`] axes, or more
    /// elements than fit a `u64`.
    #[must_use]
    pub fn new(axes: Vec<u64>) -> Option<Self> {
        if axes.len() > Self::MAX_RANK {
            return None;
        }
        // An axis of length 0 counts as 1, so that strides are small enough too.
        axes.iter().try_fold(1u64, |n, &axis| n.checked_mul(axis.max(1)))?;
        Some(Self(axes))
    }

    /// Returns the lengths, outermost axis first.
    #[must_use]
    pub fn axes(&self) -> &[u64] {
        &self.0
    }

    /// Returns the strides in elements of C order: the last axis varies fastest.
    #[must_use]
    pub fn c_strides(&self) -> Vec<u64> {
        let mut strides = vec![1; self.0.len()];
        for i in (1..self.0.len()).rev() {
            strides[i - 1] = strides[i] * self.0[i].max(1);
        }
        strides
    }

    /// Returns the strides in elements of Fortran order: the first axis varies fastest.
    #[must_use]
    pub fn fortran_strides(&self) -> Vec<u64> {
        let mut strides = vec![1; self.0.len()];
        for i in 1..self.0.len() {
            strides[i] = strides[i - 1] * self.0[i - 1].max(1);
        }
        strides
    }

    /// Returns the number of elements: 1 for a scalar.
    #[must_use]
    pub fn n_elements(&self) -> u64 {
        self.0.iter().product()
    }
}

/// Formats like `NumPy`, but without the comma after a single axis: `(480, 640, 3)`.
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

/// The byte range of a dump that holds elements.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Storage {
    /// Offset from the start of the dump, in bytes.
    pub offset: u64,
    /// Length in the dump, in bytes.
    pub n_stored: u64,
    /// Length after decoding, in bytes.
    pub n_bytes: u64,
    /// How the bytes are encoded.
    pub encoding: Encoding,
    /// CRC-32 of the decoded bytes, if the dump has it.
    pub crc32: Option<u32>,
}

/// How the bytes of a storage are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Not encoded.
    Plain,
    /// Deflated, as in zip files.
    Deflated,
    /// Floats of fewer than 8 bits, packed from the lowest bit on. Decoding makes each a `float8_e4m3fn`,
    /// which holds all their values.
    Packed {
        /// Bits of the exponent: 2 or 3.
        exponent: u8,
        /// Bits of the mantissa: 1 to 3.
        mantissa: u8,
    },
    /// Bytes written as a UTF-8 text of the characters U+0000 to U+00FF.
    Latin1,
}

impl Storage {
    /// Returns a storage whose bytes are not encoded.
    #[must_use]
    pub const fn plain(offset: u64, n_bytes: u64) -> Self {
        Self { offset, n_stored: n_bytes, n_bytes, encoding: Encoding::Plain, crc32: None }
    }
}

/// The header of one tensor: element type, shape, and where the elements lie.
///
/// All elements lie within the storage: element `(i, j, …)` begins `first` + (`i` × `strides[0]` + `j` ×
/// `strides[1]` + …) × [`DType::size`] bytes into the decoded storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorHeader {
    /// Element type.
    pub dtype: DType,
    /// Byte order of the elements.
    pub byte_order: ByteOrder,
    /// Lengths of the axes.
    pub shape: Shape,
    /// Distance between neighbours along each axis, in elements.
    pub strides: Vec<u64>,
    /// Where the elements lie.
    pub storage: Storage,
    /// Offset of the first element in the decoded storage, in bytes.
    pub first: u64,
}

impl TensorHeader {
    /// Checks that all elements lie within the storage, and returns the header.
    ///
    /// # Errors
    /// The bytes that the storage would need, if it has fewer. `None` if the number does not fit a `u64`.
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
