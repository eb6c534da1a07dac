//! The bytes of a dump → the headers of its tensors, then the bytes of one tensor at a time.
//!
//! [`contents`] reads the headers only, however large the dump. [`storage`] then reads the byte range in
//! which the elements of one tensor lie. Bytes come through [`ReadAt`].
//!
//! A reader accounts for all that a dump holds: each tensor has a header or an error, [`Skipped`] entries hold no
//! picture, and [`Contents::coverage`] says whether anything is left over.
//!
//! A dump is not trusted. It is parsed, never executed or mapped into memory. Sizes are checked before
//! memory is allocated, and a header cannot promise more bytes than the file has.

mod npy;
mod npz;
mod picture;
mod raw;
mod safetensors;
mod skipped;
pub mod storage;
mod torch;
mod zip;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

pub use self::picture::PictureHeader;
pub use self::skipped::{Coverage, Skipped, SkippedEntry};
use crate::tensor::{ByteOrder, DType, Shape, TensorHeader, Writer};

/// Bytes that can be read at any offset, such as an open dump.
pub trait ReadAt {
    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// Of kind `UnexpectedEof` if the bytes end before `buffer` is full; any other kind if reading fails.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Returns the number of bytes.
    fn n_bytes(&self) -> u64;
}

impl ReadAt for &[u8] {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buffer.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn n_bytes(&self) -> u64 {
        self.len() as u64
    }
}

/// A dump that cannot be decoded. Each variant says what the caller can do next.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DecodeError {
    /// The dump is shorter than its header promises; the writer may not be done. Wait.
    #[error("truncated: got {got} bytes, want {want}")]
    Truncated {
        /// Bytes of the dump.
        got: u64,
        /// Bytes that the dump must have at least, by the part of the header that could be read.
        want: u64,
    },
    /// The dump lacks its end; the writer may not be done. Wait.
    #[error("truncated: {0}")]
    Unfinished(&'static str),
    /// The dump is damaged, and more bytes would not help. Reject.
    #[error("malformed: {0}")]
    Malformed(String),
    /// The dump is valid, but Safelight cannot make a picture of it. Reject.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// The dump is over a limit that protects this process. Reject.
    #[error("over a limit: {0}")]
    OverLimit(String),
    /// Reading failed. Wait.
    #[error("cannot read: {0}")]
    Io(Arc<io::Error>),
}

impl From<io::Error> for DecodeError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

/// Limits of decoding, and what the record says about the dump.
#[derive(Debug, Clone, Default)]
pub struct DecodeOptions {
    /// Longest header, in bytes.
    pub header_bytes_max: u64,
    /// Largest storage after decoding, in bytes.
    pub storage_bytes_max: u64,
    /// Element type of raw bytes, and of `NumPy` arrays whose elements have its size.
    pub dtype: Option<DType>,
    /// Layout of raw bytes. If given, the dump is read as raw bytes, whatever its first bytes are.
    pub raw: Option<RawLayout>,
}

/// The layout of raw bytes, as a record describes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RawLayout {
    /// Lengths of the axes.
    pub shape: Shape,
    /// Offset of the first element, in bytes. If `None`, the file must hold the elements and nothing else.
    pub offset: Option<u64>,
    /// Byte order of the elements.
    pub byte_order: ByteOrder,
}

/// The contents of a dump.
#[derive(Debug, Clone)]
pub enum Contents {
    /// Tensors, in the order of the dump.
    Tensors {
        /// The library that wrote the dump.
        writer: Writer,
        /// The tensors. Each has a header or an error of its own.
        tensors: Vec<NamedTensor>,
        /// The metadata in a safetensors header: texts by name.
        metadata: BTreeMap<String, String>,
        /// Entries that are no tensors. [`Contents::skipped`] has those tensors too that are no picture.
        others: Skipped,
        /// What the dump holds that was not read.
        unread: Option<String>,
    },
    /// An image file.
    Picture(PictureHeader),
}

/// One tensor of a dump.
#[derive(Debug, Clone)]
pub struct NamedTensor {
    /// Its name. `None` if the format holds one unnamed tensor, and for bytes after the last array of an npy
    /// file.
    pub name: Option<String>,
    /// Its header, or why the tensor cannot be read.
    pub header: Result<TensorHeader, DecodeError>,
    /// What it is, if it is plainly no picture: `text`, `int64 with 1 axis`.
    pub no_picture: Option<String>,
}

impl NamedTensor {
    /// A tensor, or why it cannot be read. One with fewer than two axes is plainly no picture.
    fn new(name: Option<String>, header: Result<TensorHeader, DecodeError>) -> Self {
        let n_axes = |header: &TensorHeader| header.shape.axes().len();
        let no_picture = header.as_ref().ok().filter(|header| n_axes(header) < 2);
        let no_picture = no_picture.map(|header| few_axes(header.dtype.name(), n_axes(header)));
        Self { name, header, no_picture }
    }
}

/// Says what a tensor with fewer than two axes is.
fn few_axes(dtype: &str, n_axes: usize) -> String {
    format!("{dtype} with {n_axes} {}", if n_axes == 1 { "axis" } else { "axes" })
}

/// Most tensors of a dump, and most members of a zip file.
pub const TENSORS_MAX: usize = 4096;

/// Reads the headers of a dump, not its elements.
///
/// The format is recognized by the first bytes: npy, npz, safetensors, torch's zip format, or an image file.
/// Long signatures are looked for before short ones: the header length of a safetensors file may be the
/// first bytes of a pickle, and a GIF of 123 rows has the `{` of a safetensors header.
///
/// # Errors
/// If the dump is not complete, damaged, of a format that Safelight does not read, or over a limit. See
/// [`DecodeError`].
pub fn contents(dump: &impl ReadAt, options: &DecodeOptions) -> Result<Contents, DecodeError> {
    if let Some(layout) = &options.raw {
        return raw::contents(dump, layout, options);
    }
    let mut magic = [0; 16];
    let n = dump.n_bytes().min(magic.len() as u64);
    let start = &mut magic[..usize::try_from(n).unwrap_or(0)];
    dump.read_exact_at(start, 0)?;
    let start: &[u8] = start;
    match start {
        [] => Err(DecodeError::Truncated { got: 0, want: 8 }),
        // Too few bytes to recognize the format.
        _ if n < 12 && !npy::MAGIC.starts_with(start) && !start.starts_with(npy::MAGIC) => {
            Err(DecodeError::Unfinished("fewer bytes than any dump has"))
        }
        _ if npy::MAGIC.starts_with(start) || start.starts_with(npy::MAGIC) => {
            npy::contents(dump, options)
        }
        // A header of fewer than 4 GiB: five bytes are certain.
        [_, _, _, _, 0, 0, 0, 0, b'{', ..] => safetensors::contents(dump, options),
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => {
            let directory = zip::directory(dump, options)?;
            if torch::is_archive(&directory.members) {
                torch::contents(dump, &directory, options)
            } else {
                npz::contents(dump, &directory, options)
            }
        }
        _ => match (picture::header(dump, start, options.header_bytes_max)?, start) {
            (Some(picture), _) => Ok(Contents::Picture(picture)),
            (None, [0x80, 2..=5, ..]) => Err(torch::legacy(start)),
            (None, [_, _, _, _, _, _, _, _, b'{', ..]) => safetensors::contents(dump, options),
            (None, _) => Err(DecodeError::Malformed(format!(
                "not a dump: begins with {}, want npy, npz, safetensors, torch or an image file",
                start[..start.len().min(8)].escape_ascii()
            ))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format_of(dump: &[u8]) -> String {
        let options = DecodeOptions {
            header_bytes_max: 1 << 20,
            storage_bytes_max: 1 << 20,
            ..DecodeOptions::default()
        };
        match contents(&dump, &options) {
            Ok(Contents::Picture(picture)) => picture.file_type.to_string(),
            Ok(Contents::Tensors { writer, .. }) => format!("{writer:?}"),
            Err(error) => error.to_string(),
        }
    }

    /// An empty safetensors file with a header of `n` bytes.
    fn safetensors_of(n: u64) -> Vec<u8> {
        let mut file = n.to_le_bytes().to_vec();
        file.push(b'{');
        file.resize(usize::try_from(n).expect("a length") + 7, b' ');
        file.push(b'}');
        file
    }

    #[test]
    fn a_gif_of_123_rows_is_no_safetensors_file() {
        let file = b"GIF89a\x28\0{\0\0\0\0,\0\0\0\0\x28\0{\0\0\x02\x01\0\0;";
        assert_eq!(format_of(file), "gif");
    }

    #[test]
    fn a_safetensors_header_may_have_any_length() {
        // 640 is a pickle's first bytes, 19778 a BMP's, 215888 nearly a zip's.
        for n in [640, 896, 1152, 1408, 19778, 215_888, 347_984] {
            assert_eq!(format_of(&safetensors_of(n)), "Torch", "{n}");
        }
    }

    #[test]
    fn safetensors_metadata_may_be_null() {
        let file = b"\x15\0\0\0\0\0\0\0{\"__metadata__\":null}";
        assert_eq!(format_of(file), "Torch");
    }

    #[test]
    fn other_files_are_no_dumps() {
        assert!(format_of(b"\x80\x02}q\0.........").contains("pickle"));
        for text in ["BMW has a report of 12 lines", "PKzip is not a zip file"] {
            assert!(format_of(text.as_bytes()).starts_with("malformed: not a dump"), "{text}");
        }
        assert!(format_of(b"\0\0\0\0\0\0\0\x01{.........").contains("safetensors header"));
    }
}
