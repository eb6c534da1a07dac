//! `NumPy`'s npy format, versions 1.0 to 3.0.
//!
//! | bytes | contents |
//! | --- | --- |
//! | 6 | `\x93NUMPY` |
//! | 2 | major and minor version |
//! | 2 (1.0) or 4 (2.0, 3.0) | header length, little-endian |
//! | header length | a Python dict: `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }` |
//! | shape × element size | the elements |
//!
//! The header is Python source. Only this is accepted: a dict with text keys, whose values are text, `True`,
//! `False` or tuples of whole numbers. Bytes after the elements are legal, because a file may hold several
//! arrays; the first array is read.
//!
//! Source: `numpy/lib/format.py`, `NumPy` 2.4.

mod types;

use self::types::element_type;
use super::{DecodeError, DecodeOptions, ReadAt};
use crate::tensor::{ByteOrder, DType, Shape, Storage, TensorHeader};

/// First bytes of every npy file.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// Reads the header and checks that the file is long enough for the elements.
///
/// # Errors
/// `Truncated` if the file is shorter than its header promises; `Malformed`, `Unsupported` or `OverLimit`
/// if it makes no picture.
pub(super) fn header(
    dump: &impl ReadAt,
    options: &DecodeOptions,
) -> Result<TensorHeader, DecodeError> {
    let Npy { dtype, byte_order, shape, strides, data_offset, n_bytes } = parse(dump, options)?;
    let (got, want) = (dump.n_bytes(), data_offset + n_bytes);
    if got < want {
        return Err(DecodeError::Truncated { got, want });
    }
    let storage = Storage::plain(data_offset, n_bytes);
    TensorHeader::new(dtype, byte_order, shape, strides, storage, 0)
        .map_err(|_| DecodeError::Malformed("npy shape is too large".to_owned()))
}

/// A header, and where the elements are.
pub(super) struct Npy {
    pub(super) dtype: DType,
    pub(super) byte_order: ByteOrder,
    pub(super) shape: Shape,
    pub(super) strides: Vec<u64>,
    pub(super) data_offset: u64,
    /// Bytes of all elements. `data_offset + n_bytes` does not overflow.
    pub(super) n_bytes: u64,
}

/// Reads the header, and does not check whether the file is long enough for the elements.
pub(super) fn parse(dump: &impl ReadAt, options: &DecodeOptions) -> Result<Npy, DecodeError> {
    let got = dump.n_bytes();
    let read = |offset: u64, n: u64| {
        let want = offset + n;
        if got < want {
            return Err(DecodeError::Truncated { got, want });
        }
        // `n` is 8, 2, 4 or capped below, so it fits.
        let mut bytes = vec![0; usize::try_from(n).unwrap_or(0)];
        dump.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    };
    let start = read(0, 8)?;
    if !start.starts_with(MAGIC) {
        let start = start.escape_ascii();
        return Err(DecodeError::Malformed(format!("begins with {start}, want npy's \\x93NUMPY")));
    }
    let n_len = match (start[6], start[7]) {
        (1, 0) => 2,
        (2 | 3, 0) => 4,
        (major, minor) => {
            let what = format!("npy version {major}.{minor}; want 1.0, 2.0 or 3.0");
            return Err(DecodeError::Unsupported(what));
        }
    };
    let n_header = read(8, n_len)?.iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte));
    if n_header > options.header_bytes_max {
        return Err(DecodeError::OverLimit(format!(
            "npy header of {n_header} bytes, limits.header_bytes_max is {}",
            options.header_bytes_max
        )));
    }
    let text = read(8 + n_len, n_header)?;
    let text = std::str::from_utf8(&text)
        .map_err(|_| DecodeError::Malformed("npy header is not text".to_owned()))?;
    let fields = Literal::new(text).fields()?;

    let (dtype, byte_order) = element_type(&fields.descr, options.dtype)?;
    let too_large = || DecodeError::Malformed(format!("npy shape {:?} is too large", fields.shape));
    let shape = Shape::new(fields.shape.clone()).ok_or_else(too_large)?;
    let n_bytes = shape.n_elements().checked_mul(dtype.size() as u64).ok_or_else(too_large)?;
    let data_offset = 8 + n_len + n_header;
    data_offset.checked_add(n_bytes).ok_or_else(too_large)?;
    let strides = if fields.fortran_order { shape.fortran_strides() } else { shape.c_strides() };
    Ok(Npy { dtype, byte_order, shape, strides, data_offset, n_bytes })
}

/// The fields of a header.
struct Fields {
    descr: String,
    fortran_order: bool,
    shape: Vec<u64>,
}

/// A parser for the few Python literals that a header may contain.
struct Literal<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Literal<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn fields(mut self) -> Result<Fields, DecodeError> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        self.want('{')?;
        while !self.take('}') {
            let key = self.string()?;
            self.want(':')?;
            match key.as_str() {
                "descr" if descr.is_none() => descr = Some(self.descr()?),
                "fortran_order" if fortran_order.is_none() => fortran_order = Some(self.bool()?),
                "shape" if shape.is_none() => shape = Some(self.tuple()?),
                _ => return Err(self.error("'descr', 'fortran_order' and 'shape', once each")),
            }
            if !self.take(',') {
                self.want('}')?;
                break;
            }
        }
        if !self.rest().trim().is_empty() {
            return Err(self.error("nothing after the dict"));
        }
        match (descr, fortran_order, shape) {
            (Some(descr), Some(fortran_order), Some(shape)) => {
                Ok(Fields { descr, fortran_order, shape })
            }
            _ => Err(self.error("'descr', 'fortran_order' and 'shape'")),
        }
    }

    /// Parses the name of a type. The list of a structured type is returned as text, for the error about it.
    fn descr(&mut self) -> Result<String, DecodeError> {
        self.skip_space();
        if !self.rest().starts_with('[') {
            return self.string();
        }
        let (mut depth, start) = (0u32, self.at);
        for (i, c) in self.text[start..].char_indices() {
            match c {
                '[' => depth += 1,
                ']' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                self.at = start + i + 1;
                return Ok(self.text[start..self.at].to_owned());
            }
        }
        Err(self.error("a closed list"))
    }

    fn bool(&mut self) -> Result<bool, DecodeError> {
        self.skip_space();
        for (word, value) in [("True", true), ("False", false)] {
            if self.rest().starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.error("True or False"))
    }

    fn tuple(&mut self) -> Result<Vec<u64>, DecodeError> {
        let mut numbers = Vec::new();
        self.want('(')?;
        while !self.take(')') {
            self.skip_space();
            let digits = self.rest().len()
                - self.rest().trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let number = self.rest()[..digits].parse().map_err(|_| self.error("a whole number"))?;
            self.at += digits;
            // Python 2 wrote an L after long numbers.
            self.take('L');
            if numbers.len() == Shape::MAX_RANK {
                return Err(self.error("at most 32 axes"));
            }
            numbers.push(number);
            if !self.take(',') {
                self.want(')')?;
                break;
            }
        }
        Ok(numbers)
    }

    fn string(&mut self) -> Result<String, DecodeError> {
        self.skip_space();
        let quote = self.rest().chars().next().filter(|c| matches!(c, '\'' | '"'));
        let text = quote.and_then(|quote| {
            let inner = &self.rest()[1..];
            let text = &inner[..inner.find(quote)?];
            // No name that is accepted has an escape.
            (!text.contains('\\')).then_some(text)
        });
        let text = text.ok_or_else(|| self.error("quoted text"))?;
        self.at += text.len() + 2;
        Ok(text.to_owned())
    }

    fn want(&mut self, c: char) -> Result<(), DecodeError> {
        if self.take(c) { Ok(()) } else { Err(self.error(&format!("'{c}'"))) }
    }

    fn take(&mut self, c: char) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn error(&self, want: &str) -> DecodeError {
        let got: String = self.rest().chars().take(24).collect();
        DecodeError::Malformed(format!("npy header at byte {}: got {got:?}, want {want}", self.at))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn options() -> DecodeOptions {
        DecodeOptions { header_bytes_max: 1 << 16, ..DecodeOptions::default() }
    }

    /// Returns an npy file of version 1.0 with this header and `n_bytes` bytes of elements.
    fn npy(header: &str, n_bytes: usize) -> Vec<u8> {
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend(u16::try_from(header.len()).unwrap_or(u16::MAX).to_le_bytes());
        file.extend(header.as_bytes());
        file.resize(file.len() + n_bytes, 0);
        file
    }

    fn read(file: &[u8]) -> Result<TensorHeader, DecodeError> {
        header(&file, &options())
    }

    fn check_refused(file: &[u8], want: &str) {
        let got = read(file).map_or_else(|error| error.to_string(), |header| format!("{header:?}"));
        assert!(got.contains(want), "got {got:?}, want {want:?}");
    }

    #[test]
    fn plain_header_is_read() {
        let file = npy("{'descr': '>f4', 'fortran_order': True, 'shape': (2, 3L,), }\n", 24);
        let header = read(&file).map_err(|error| error.to_string());
        let want = TensorHeader {
            dtype: DType::F32,
            byte_order: ByteOrder::Big,
            shape: Shape::new(vec![2, 3]).unwrap_or_else(|| unreachable!("a small shape")),
            strides: vec![1, 2],
            storage: Storage::plain(file.len() as u64 - 24, 24),
            first: 0,
        };
        assert_eq!(header, Ok(want));
    }

    #[test]
    fn lies_are_refused_before_memory_is_taken() {
        let of = |descr: &str, shape: &str| {
            npy(&format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}"), 8)
        };
        check_refused(&of("<f8", "(4294967296, 4294967296)"), "too large");
        check_refused(&of("<f8", "(4294967296, 8)"), "truncated");
        check_refused(&of("<c16", "(2305843009213693952,)"), "too large");
        check_refused(&of("<f4", "(3,)"), "got 73 bytes, want 77");
        check_refused(&of("<f4", "(-3,)"), "want a whole number");
        check_refused(&of("|O", "(1,)"), "Python objects");
        check_refused(&of("<U4", "(1,)"), "text");
        check_refused(&of("<M8[ns]", "(1,)"), "dates");
        check_refused(&of("<V2", "(4,)"), "bfloat16");
        check_refused(&of("<f16", "(1,)"), "descr \"<f16\"");
        check_refused(
            &npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", 8),
            "structures",
        );
        check_refused(
            &npy("{'descr': '<f4', 'shape': (1,)}", 8),
            "want 'descr', 'fortran_order' and 'shape'",
        );
        check_refused(&npy("{'descr': '<f4', 'descr': '<f4'}", 8), "once each");
        check_refused(&npy("__import__('os')", 8), "want '{'");
        check_refused(b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "header_bytes_max");
        check_refused(b"\x93NUMPY\x09\x00aaaa", "version 9.0");
        check_refused(b"", "got 0 bytes, want 8");
        check_refused(b"\x93NUM", "truncated");
        check_refused(b"hello, world", "want npy's");
    }

    #[test]
    fn bfloat16_needs_the_record_to_name_it() {
        let file = npy("{'descr': '<V2', 'fortran_order': False, 'shape': (2,)}", 4);
        let named = |dtype| {
            let options = DecodeOptions { dtype: Some(dtype), ..options() };
            header(&file.as_slice(), &options).map(|header| header.dtype).ok()
        };
        assert_eq!(named(DType::BF16), Some(DType::BF16));
        assert_eq!(named(DType::F8E5M2), None, "it has one byte");
    }

    #[test]
    fn names_of_numpy_are_types() {
        let of = |descr: &str, dtype: Option<DType>| {
            let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (1,)}}");
            let options = DecodeOptions { dtype, ..options() };
            let read = super::header(&npy(&header, 16).as_slice(), &options);
            read.map(|header| (header.dtype, header.byte_order)).map_err(|error| error.to_string())
        };
        let (little, big) = (ByteOrder::Little, ByteOrder::Big);
        for (descr, want) in [
            ("float32", (DType::F32, little)),
            ("?", (DType::Bool, little)),
            ("|b1", (DType::Bool, little)),
            ("bfloat16", (DType::BF16, little)),
            ("float8_e4m3fn", (DType::F8E4M3Fn, little)),
            ("float", (DType::F64, little)),
            ("double", (DType::F64, little)),
            ("uint8", (DType::U8, little)),
            (">float16", (DType::F16, big)),
            (">H", (DType::U16, big)),
            ("int", (DType::I64, little)),
        ] {
            assert_eq!(of(descr, None), Ok(want), "{descr}");
        }
        for descr in ["torch.float32", "object", "O", "str", "", "<", "float128"] {
            assert!(of(descr, None).is_err(), "{descr}");
        }
        // The record wins if the sizes are equal.
        assert_eq!(of("<u2", Some(DType::BF16)), Ok((DType::BF16, little)));
        assert_eq!(of(">i2", Some(DType::F16)), Ok((DType::F16, big)));
        assert_eq!(of("|V1", Some(DType::F8E5M2)), Ok((DType::F8E5M2, little)));
        let error = of("<f4", Some(DType::BF16)).unwrap_err();
        assert!(
            error.contains("4 bytes an element") && error.contains("bfloat16 has 2"),
            "{error}"
        );
        assert!(of("|O", Some(DType::F64)).is_err());
    }

    proptest! {
        #[test]
        fn no_input_panics(file in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(read(&file));
            let header = String::from_utf8_lossy(&file).into_owned();
            drop(read(&npy(&header, 8)));
        }

        #[test]
        fn a_cut_file_is_truncated_and_nothing_else(at in 0usize..100) {
            let file = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (8,), }", 32);
            let cut = at.min(file.len() - 1);
            let is_truncated = matches!(read(&file[..cut]), Err(DecodeError::Truncated { .. }));
            prop_assert!(is_truncated);
        }
    }
}
