//! The chunks of a PNG file.

use alloc::vec::Vec;

use crate::EncodeError;

/// Most bytes of a chunk: PNG limits lengths to 2³¹ − 1.
const CHUNK_BYTES_MAX: usize = i32::MAX as usize;

/// A chunk that is being written.
#[must_use]
pub(crate) struct Chunk {
    start: usize,
}

impl Chunk {
    /// Begins a chunk of this type.
    pub(crate) fn begin(name: [u8; 4], out: &mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&name);
        Self { start }
    }

    /// Fills in the length and appends the checksum.
    ///
    /// # Errors
    /// If the chunk has 2 GiB or more.
    pub(crate) fn end(self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let n = out.len() - self.start - 8;
        let too_long = |_| EncodeError::TooLong { got: n, max: CHUNK_BYTES_MAX };
        let n = i32::try_from(n).map_err(too_long)?;
        out[self.start..self.start + 4].copy_from_slice(&n.to_be_bytes());
        let crc = crc32fast::hash(&out[self.start + 4..]);
        out.extend_from_slice(&crc.to_be_bytes());
        Ok(())
    }
}
