//! The safetensors format.
//!
//! | bytes | contents |
//! | --- | --- |
//! | 8 | header length, little-endian |
//! | header length | JSON: `{"name": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]}, …}`, and `"__metadata__"`: texts by name |
//! | rest | the elements, little-endian, in C order, without gaps |
//!
//! The crate `safetensors` is not used, because it needs the whole file in memory and accepts a name that
//! occurs twice.
//!
//! Source: `huggingface/safetensors`, README and `safetensors/src/tensor.rs`, 0.7.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use super::{Contents, DecodeError, DecodeOptions, NamedTensor, ReadAt, Skipped, TENSORS_MAX};
use crate::tensor::{ByteOrder, DType, Encoding, Shape, Storage, TensorHeader, Writer};

const METADATA: &str = "__metadata__";

/// Returns the tensors of a safetensors file, in the order of their bytes.
///
/// # Errors
/// `Truncated` if the file is shorter than its header promises; `Malformed` if it is longer, or tensors
/// overlap or leave gaps.
pub(super) fn contents(
    dump: &impl ReadAt,
    options: &DecodeOptions,
) -> Result<Contents, DecodeError> {
    let got = dump.n_bytes();
    let truncated = |want: u64| DecodeError::Truncated { got, want };
    let mut length = [0; 8];
    dump.read_exact_at(&mut length, 0)?;
    let n_header = u64::from_le_bytes(length);
    if n_header > options.header_bytes_max {
        let max = options.header_bytes_max;
        let what =
            format!("safetensors header of {n_header} bytes, limits.header_bytes_max is {max}");
        return Err(DecodeError::OverLimit(what));
    }
    let begin = 8 + n_header;
    if got < begin {
        return Err(truncated(begin));
    }
    let mut text = vec![0; usize::try_from(n_header).unwrap_or(0)];
    dump.read_exact_at(&mut text, 8)?;
    let header: Header = serde_json::from_slice(&text).map_err(|error| malformed(&error))?;

    let mut entries = header.tensors;
    entries.sort_by_key(|(_, entry)| entry.data_offsets);
    let mut end = 0;
    for (name, Entry { data_offsets: (first, last), .. }) in &entries {
        if (*first, *first) != (end, *first.min(last)) {
            let what = format!("{name:?} is at bytes {first}..{last}, want it to begin at {end}");
            return Err(malformed(&what));
        }
        end = *last;
    }
    let want = begin.checked_add(end).ok_or_else(|| malformed(&"the offsets are too large"))?;
    if got < want {
        return Err(truncated(want));
    }
    if got > want {
        return Err(malformed(&format!("{got} bytes, the header describes {want}")));
    }
    let tensors = entries.into_iter().map(|(name, entry)| {
        let header = match tensor(&entry, begin) {
            Err(DecodeError::Malformed(what)) => {
                return Err(malformed(&format!("{name:?}: {what}")));
            }
            header => header,
        };
        Ok(NamedTensor::new(Some(name), header))
    });
    let tensors = tensors.collect::<Result<_, DecodeError>>()?;
    // The header describes all bytes, and a record takes the metadata.
    let (metadata, others, unread) = (header.metadata, Skipped::default(), None);
    Ok(Contents::Tensors { writer: Writer::Torch, tensors, metadata, others, unread })
}

fn malformed(what: &dyn fmt::Display) -> DecodeError {
    DecodeError::Malformed(format!("safetensors header: {what}"))
}

/// Returns the header of one tensor.
///
/// # Errors
/// `Malformed` if the length of its bytes contradicts its shape; `Unsupported` for an unknown type.
fn tensor(entry: &Entry, begin: u64) -> Result<TensorHeader, DecodeError> {
    let Entry { dtype, shape: axes, data_offsets: (first, last) } = entry;
    let (bits, kind) = element_type(dtype)?;
    let too_large = || DecodeError::Malformed(format!("shape {axes:?} is too large"));
    let shape = Shape::new(axes.clone()).ok_or_else(too_large)?;
    let n_elements = shape.n_elements();
    let n_bits = n_elements.checked_mul(bits).ok_or_else(too_large)?;
    let n_stored = last - first;
    if Some(n_bits) != n_stored.checked_mul(8) {
        let what = format!("{dtype} {shape} is {n_bits} bits, its offsets span {n_stored} bytes");
        return Err(DecodeError::Malformed(what));
    }
    let mut storage = Storage::plain(begin + first, n_stored);
    let dtype = match kind {
        Kind::Type(dtype) => dtype,
        Kind::Packed { exponent, mantissa } => {
            storage.encoding = Encoding::Packed { exponent, mantissa };
            storage.n_bytes = n_elements;
            DType::F8E4M3Fn
        }
    };
    let strides = shape.c_strides();
    TensorHeader::new(dtype, ByteOrder::Little, shape, strides, storage, 0).map_err(|_| too_large())
}

enum Kind {
    Type(DType),
    Packed { exponent: u8, mantissa: u8 },
}

/// Looks up an element type. Returns its bits as well.
fn element_type(name: &str) -> Result<(u64, Kind), DecodeError> {
    let dtype = match name {
        "BOOL" => DType::Bool,
        "U8" => DType::U8,
        "U16" => DType::U16,
        "U32" => DType::U32,
        "U64" => DType::U64,
        "I8" => DType::I8,
        "I16" => DType::I16,
        "I32" => DType::I32,
        "I64" => DType::I64,
        "F16" => DType::F16,
        "BF16" => DType::BF16,
        "F8_E4M3" => DType::F8E4M3Fn,
        "F8_E4M3FNUZ" => DType::F8E4M3Fnuz,
        "F8_E5M2" => DType::F8E5M2,
        "F8_E5M2FNUZ" => DType::F8E5M2Fnuz,
        "F8_E8M0" => DType::F8E8M0Fnu,
        "F32" => DType::F32,
        "F64" => DType::F64,
        "C64" => DType::Complex64,
        "F4" => return Ok((4, Kind::Packed { exponent: 2, mantissa: 1 })),
        "F6_E2M3" => return Ok((6, Kind::Packed { exponent: 2, mantissa: 3 })),
        "F6_E3M2" => return Ok((6, Kind::Packed { exponent: 3, mantissa: 2 })),
        _ => {
            let name: String = name.chars().take(32).collect();
            return Err(DecodeError::Unsupported(format!("safetensors of {name:?} elements")));
        }
    };
    Ok((8 * dtype.size() as u64, Kind::Type(dtype)))
}

struct Header {
    tensors: Vec<(String, Entry)>,
    metadata: BTreeMap<String, String>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut header = Header { tensors: Vec::new(), metadata: BTreeMap::new() };
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(de::Error::custom(format!("{name:?} occurs twice")));
            }
            if names.len() > TENSORS_MAX {
                return Err(de::Error::custom(format!("more than {TENSORS_MAX} tensors")));
            }
            if name == METADATA {
                // Like the library, accepts null for none.
                header.metadata = map.next_value::<Option<_>>()?.unwrap_or_default();
            } else {
                header.tensors.push((name, map.next_value()?));
            }
        }
        Ok(header)
    }
}
