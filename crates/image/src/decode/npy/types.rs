//! The element types of npy headers.

use super::DecodeError;
use crate::tensor::{ByteOrder, DType};

/// Returns the element type and byte order of a `descr` such as `<f4` or `float32`.
///
/// The record's type wins over a `descr` of the same size: `NumPy` has no names for the types of
/// `ml_dtypes`, and other types of that size may hold their bits.
pub(in crate::decode) fn element_type(
    descr: &str,
    of_record: Option<DType>,
) -> Result<(DType, ByteOrder), DecodeError> {
    let (byte_order, kind) = match descr.as_bytes().first() {
        Some(b'>') => (ByteOrder::Big, &descr[1..]),
        Some(b'<' | b'|' | b'=') => (ByteOrder::Little, &descr[1..]),
        _ => (ByteOrder::Little, descr),
    };
    let named = numpy_type(kind);
    let size = named.map(DType::size).or_else(|| void_size(kind));
    let shown: String = descr.chars().take(64).collect();
    match (of_record, size) {
        (Some(dtype), Some(size)) if dtype.size() == size => return Ok((dtype, byte_order)),
        (Some(dtype), Some(size)) => {
            let want = dtype.size();
            return Err(DecodeError::Unsupported(format!(
                "npy of {size} bytes an element (descr {shown:?}); the record's dtype {dtype} has {want}"
            )));
        }
        (Some(_) | None, _) => {}
    }
    named.map(|dtype| (dtype, byte_order)).ok_or_else(|| {
        let what = match kind.as_bytes().first() {
            Some(b'O') => "Python objects, which only unpickling could read",
            Some(b'U' | b'S' | b'a') => "text",
            Some(b'M' | b'm') => "dates or times",
            Some(b'V' | b'f') if matches!(kind, "V1" | "V2" | "f1") => {
                "values whose type NumPy can't name, such as bfloat16 or float8_e4m3fn; say it in \
                 the record: \"data\": {\"path\": …, \"dtype\": \"bfloat16\"}"
            }
            Some(b'V' | b'[') => "values without a type that NumPy knows, or structures",
            _ => "an element type that makes no picture",
        };
        let want = "want bool, (u)int8 to 64, float16 to 64 or complex";
        DecodeError::Unsupported(format!("npy of {what} (descr {shown:?}); {want}"))
    })
}

/// Returns the type that `NumPy` or `ml_dtypes` knows by this name: a kind and a size in bytes, a name, or
/// a letter of C. The sizes of C's types are those of 64-bit Linux.
fn numpy_type(name: &str) -> Option<DType> {
    Some(match name {
        "b1" | "?" | "bool_" | "bool8" => DType::Bool,
        "u1" | "B" | "ubyte" => DType::U8,
        "u2" | "H" | "ushort" => DType::U16,
        "u4" | "I" | "uintc" => DType::U32,
        "u8" | "L" | "Q" | "uint" | "ulonglong" | "uintp" => DType::U64,
        "i1" | "b" | "byte" => DType::I8,
        "i2" | "h" | "short" => DType::I16,
        "i4" | "i" | "intc" => DType::I32,
        "i8" | "l" | "q" | "p" | "int" | "int_" | "longlong" | "intp" => DType::I64,
        "f2" | "e" | "half" => DType::F16,
        "f4" | "f" | "single" => DType::F32,
        "f8" | "d" | "float" | "float_" | "double" => DType::F64,
        "c8" | "F" | "csingle" => DType::Complex64,
        "c16" | "D" | "complex" | "complex_" | "cdouble" => DType::Complex128,
        name => DType::ALL.into_iter().find(|dtype| dtype.name() == name)?,
    })
}

/// Returns the kind of a type whose values are plainly no picture.
pub(super) fn unpictured_kind(descr: &str) -> Option<&'static str> {
    let kind = descr.strip_prefix(['<', '>', '|', '=']).unwrap_or(descr);
    match (kind, kind.as_bytes().first()?) {
        ("object" | "object_", _) | (_, b'O') => Some("Python objects"),
        ("str" | "str_" | "bytes" | "bytes_", _) | (_, b'U' | b'S' | b'a') => Some("text"),
        (_, b'M' | b'm') => Some("dates or times"),
        _ => None,
    }
}

/// Returns the bytes of an element of any type that is not structured. `None` for objects, which are pickled.
pub(super) fn element_size(descr: &str) -> Option<u64> {
    let kind = descr.strip_prefix(['<', '>', '|', '=']).unwrap_or(descr);
    if let Some(dtype) = numpy_type(kind) {
        return Some(dtype.size() as u64);
    }
    let (letter, rest) = kind.split_at_checked(1)?;
    match letter {
        // Times have a unit: `M8[ns]`.
        "M" | "m" => Some(8),
        "U" => rest.parse::<u64>().ok()?.checked_mul(4),
        // Text, raw bytes, and floats of other sizes.
        "S" | "a" | "V" | "f" | "c" | "g" | "G" => rest.parse().ok(),
        _ => None,
    }
}

/// Returns the bytes of an element of a type that `NumPy` has no name for: `V2`, or `f1`.
fn void_size(kind: &str) -> Option<usize> {
    match kind {
        "f1" => Some(1),
        kind => kind.strip_prefix('V')?.parse().ok(),
    }
}
