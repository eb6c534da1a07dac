//! The parts of a PNG file.

use std::io;

/// A part of a PNG file that is being written.
#[must_use]
pub(super) struct Chunk {
    start: usize,
}

impl Chunk {
    /// Begins a part of this name.
    pub(super) fn begin(name: [u8; 4], out: &mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&name);
        Self { start }
    }

    /// Fills in the length, and appends the checksum.
    ///
    /// # Errors
    /// If it is 2 GiB long or longer.
    pub(super) fn end(self, out: &mut Vec<u8>) -> io::Result<()> {
        let n = out.len() - self.start - 8;
        let n = i32::try_from(n).map_err(|_| io::ErrorKind::InvalidInput)?;
        out[self.start..self.start + 4].copy_from_slice(&n.to_be_bytes());
        let crc = crc32fast::hash(&out[self.start + 4..]);
        out.extend_from_slice(&crc.to_be_bytes());
        Ok(())
    }
}
