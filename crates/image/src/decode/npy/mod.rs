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
//! `False` or tuples of whole numbers. A file may hold several arrays, one after the other: `np.save` appends
//! to an open file. [`contents`] finds them all, and says what is left over.
//!
//! Source: `numpy/lib/format.py`, `NumPy` 2.4.

mod appended;
mod types;

pub(super) use self::appended::contents;
pub(super) use self::types::element_type;
use self::types::{element_size, unpictured_kind};
use super::{DecodeError, DecodeOptions, ReadAt};
use crate::tensor::{ByteOrder, DType, Shape, Storage, TensorHeader};

/// First bytes of every npy file.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// The header of an array. Its type may be one that makes no picture.
#[derive(Debug)]
pub(super) struct ArrayHeader {
    /// The element type, such as `<f4`.
    pub(super) descr: String,
    pub(super) fortran_order: bool,
    pub(super) shape: Shape,
    /// The offset of the elements.
    pub(super) data_offset: u64,
}

/// The element type of an array, if it is one that makes a picture.
#[derive(Debug, Clone, Copy)]
pub(super) struct ElementType {
    dtype: DType,
    byte_order: ByteOrder,
    /// Bytes of all elements.
    pub(super) n_bytes: u64,
}

impl ArrayHeader {
    /// Reads a header, and does not check whether the file is long enough for the elements.
    ///
    /// # Errors
    /// `Truncated` if the file is shorter than the header; `Malformed`, `Unsupported` or `OverLimit` if there
    /// is no header that can be read.
    pub(super) fn read(dump: &impl ReadAt, options: &DecodeOptions) -> Result<Self, DecodeError> {
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
            let what = format!("begins with {}, want npy's \\x93NUMPY", start.escape_ascii());
            return Err(DecodeError::Malformed(what));
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
        let Fields { descr, fortran_order, shape: axes } = Literal::new(text).fields()?;
        let data_offset = 8 + n_len + n_header;
        Self::new(descr, fortran_order, &axes, data_offset)
    }

    /// A header with these parts.
    ///
    /// # Errors
    /// `Malformed` if the shape is too large.
    pub(super) fn new(
        descr: String,
        fortran_order: bool,
        axes: &[u64],
        data_offset: u64,
    ) -> Result<Self, DecodeError> {
        let shape = Shape::new(axes.to_vec()).ok_or_else(|| too_large(axes))?;
        Ok(Self { descr, fortran_order, shape, data_offset })
    }

    /// The element type. `of_record` is the type that the record says.
    ///
    /// # Errors
    /// `Unsupported` if no picture can be made of it; `Malformed` if the array is too large.
    pub(super) fn element_type(
        &self,
        of_record: Option<DType>,
    ) -> Result<ElementType, DecodeError> {
        let (dtype, byte_order) = element_type(&self.descr, of_record)?;
        let n_bytes = self.n_bytes_of(dtype.size() as u64);
        let n_bytes = n_bytes.ok_or_else(|| too_large(self.shape.axes()))?;
        Ok(ElementType { dtype, byte_order, n_bytes })
    }

    /// The header of the tensor whose elements begin `first` bytes into a storage.
    ///
    /// # Errors
    /// `Malformed` if the elements do not lie within the storage.
    pub(super) fn tensor(
        &self,
        element_type: ElementType,
        storage: Storage,
        first: u64,
    ) -> Result<TensorHeader, DecodeError> {
        let ElementType { dtype, byte_order, .. } = element_type;
        let shape = self.shape.clone();
        let strides = if self.fortran_order { shape.fortran_strides() } else { shape.c_strides() };
        TensorHeader::new(dtype, byte_order, shape, strides, storage, first)
            .map_err(|_| too_large(self.shape.axes()))
    }

    /// Bytes of all elements, of any type. `None` if only their bytes could say it.
    pub(super) fn n_bytes(&self) -> Option<u64> {
        let size = if self.descr.starts_with('[') {
            Literal::new(&self.descr).structure_size(0).ok()
        } else {
            element_size(&self.descr)
        };
        self.n_bytes_of(size?)
    }

    fn n_bytes_of(&self, size: u64) -> Option<u64> {
        let n_bytes = self.shape.n_elements().checked_mul(size)?;
        self.data_offset.checked_add(n_bytes).map(|_| n_bytes)
    }

    /// Says what the array holds, if it is plainly no picture: text, objects, times, or fewer than two axes.
    pub(super) fn no_picture(&self) -> Option<String> {
        let n_axes = self.shape.axes().len();
        match unpictured_kind(&self.descr) {
            Some(kind) => Some(kind.to_owned()),
            None if n_axes < 2 => {
                let known = element_type(&self.descr, None).map(|(dtype, _)| dtype.name());
                let shown: String = self.descr.chars().take(32).collect();
                Some(crate::decode::few_axes(known.unwrap_or(&shown), n_axes))
            }
            None => None,
        }
    }
}

fn too_large(axes: &[u64]) -> DecodeError {
    DecodeError::Malformed(format!("npy shape {axes:?} is too large"))
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

    /// Parses the list of a structured type, such as `[('r', '<f4'), ('xy', '|u1', (2,))]`. Returns the bytes
    /// of an element.
    fn structure_size(&mut self, depth: usize) -> Result<u64, DecodeError> {
        const DEPTH_MAX: usize = 16;
        let mut size = 0u64;
        self.want('[')?;
        while !self.take(']') {
            self.want('(')?;
            // A name, or a title and a name.
            if self.take('(') {
                self.string()?;
                self.want(',')?;
                self.string()?;
                self.want(')')?;
            } else {
                self.string()?;
            }
            self.want(',')?;
            self.skip_space();
            let of_field = if self.rest().starts_with('[') && depth < DEPTH_MAX {
                Some(self.structure_size(depth + 1)?)
            } else {
                element_size(&self.string()?)
            };
            let mut n = 1u64;
            if self.take(',') && !self.rest().trim_start().starts_with(')') {
                n = self
                    .tuple()?
                    .iter()
                    .try_fold(1, |n: u64, axis| n.checked_mul(*axis))
                    .unwrap_or(0);
            }
            self.take(',');
            self.want(')')?;
            let of_field = of_field.and_then(|of_field| of_field.checked_mul(n));
            size = of_field
                .and_then(|of_field| size.checked_add(of_field))
                .ok_or_else(|| self.error("fields whose size is known"))?;
            if !self.take(',') {
                self.want(']')?;
                break;
            }
        }
        Ok(size)
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
    use crate::decode::Contents;

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
        read_as(file, None)
    }

    /// Reads a file, and returns the header of its first array.
    fn read_as(file: &[u8], dtype: Option<DType>) -> Result<TensorHeader, DecodeError> {
        match contents(&file, &DecodeOptions { dtype, ..options() })? {
            Contents::Tensors { mut tensors, .. } => tensors.remove(0).header,
            Contents::Picture(picture) => panic!("{picture:?}"),
        }
    }

    /// Bytes of an element, or a few.
    fn n_bytes_of(descr: &str) -> usize {
        element_size(descr).and_then(|n| usize::try_from(n).ok()).unwrap_or(8)
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
        check_refused(&of("<U2", "(1,)"), "text");
        check_refused(&of("<U4", "(1,)"), "truncated");
        check_refused(&of("<M8[ns]", "(1,)"), "dates");
        check_refused(&of("<V2", "(4,)"), "bfloat16");
        check_refused(&of("<f16", "(0,)"), "descr \"<f16\"");
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
        let named = |dtype| read_as(&file, Some(dtype)).map(|header| header.dtype).ok();
        assert_eq!(named(DType::BF16), Some(DType::BF16));
        assert_eq!(named(DType::F8E5M2), None, "it has one byte");
    }

    #[test]
    fn names_of_numpy_are_types() {
        let of = |descr: &str, dtype: Option<DType>| {
            let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (1,)}}");
            let read = read_as(&npy(&header, n_bytes_of(descr)), dtype);
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
