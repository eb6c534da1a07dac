//! The bytes of a thumbnail in a pack. Pure.
//!
//! ```text
//! 0   "SLTP", version 1          5
//! 5   file type                  1   1 PNG, 2 JPEG
//! 6   longest side               u16
//! 8   length of the thumbnail    u32
//! 12  its CRC-32                 u32
//! 16  SHA-256 of the media file  32
//! 48  CRC-32 of bytes 0 to 48    u32
//! 52  the thumbnail
//! ```
//!
//! Numbers are little-endian. The head has a checksum of its own, so that packs can be listed without reading the
//! thumbnails.

use super::ThumbKey;
use crate::media::{FileType, Sha256};

/// The length of a head.
pub(super) const HEAD_BYTES: usize = 52;

const MAGIC: [u8; 5] = *b"SLTP\x01";

/// The greatest length of a thumbnail. The largest, 256 × 256 with alpha, has 256 KiB of samples.
const LENGTH_MAX: u32 = 1 << 20;

/// A head, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) key: ThumbKey,
    pub(super) file_type: FileType,
    pub(super) length: u32,
    crc: u32,
}

/// Returns a record. `None` for a thumbnail that is too long, or of a type that thumbnails do not have.
pub(super) fn record(key: ThumbKey, file_type: FileType, thumbnail: &[u8]) -> Option<Vec<u8>> {
    let kind = match file_type {
        FileType::Png => 1,
        FileType::Jpeg => 2,
        _ => return None,
    };
    let length = u32::try_from(thumbnail.len()).ok().filter(|length| *length <= LENGTH_MAX)?;
    let mut record = Vec::with_capacity(HEAD_BYTES + thumbnail.len());
    record.extend(MAGIC);
    record.push(kind);
    record.extend(key.size.to_le_bytes());
    record.extend(length.to_le_bytes());
    record.extend(crc32fast::hash(thumbnail).to_le_bytes());
    record.extend(key.sha256.as_bytes());
    record.extend(crc32fast::hash(&record).to_le_bytes());
    record.extend(thumbnail);
    Some(record)
}

impl Head {
    /// Reads a head. `None` if it is torn, or something else.
    pub(super) fn read(bytes: &[u8; HEAD_BYTES]) -> Option<Self> {
        let (fields, crc) = bytes.split_last_chunk()?;
        if crc32fast::hash(fields) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (magic, fields) = fields.split_first_chunk()?;
        let ([kind], fields) = fields.split_first_chunk()?;
        let (size, fields) = fields.split_first_chunk()?;
        let (length, fields) = fields.split_first_chunk()?;
        let (crc, fields) = fields.split_first_chunk()?;
        let (sha256, _) = fields.split_first_chunk::<32>()?;
        let file_type = match kind {
            1 => FileType::Png,
            2 => FileType::Jpeg,
            _ => return None,
        };
        let (sha256, size) = (Sha256::from(*sha256), u16::from_le_bytes(*size));
        let length = u32::from_le_bytes(*length);
        let is_ours = *magic == MAGIC && length <= LENGTH_MAX;
        let key = ThumbKey { sha256, size };
        is_ours.then_some(Self { key, file_type, length, crc: u32::from_le_bytes(*crc) })
    }

    /// Whether these are the bytes of the thumbnail.
    pub(super) fn is_of(&self, thumbnail: &[u8]) -> bool {
        crc32fast::hash(thumbnail) == self.crc
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_unless_a_bit_is_wrong() {
        let key = ThumbKey { sha256: Sha256::of(b"a file"), size: 256 };
        let record = record(key, FileType::Jpeg, b"small").expect("a record");
        let (head, thumbnail) = record.split_first_chunk().expect("a head");
        let read = Head::read(head).expect("a head");
        assert_eq!((read.key, read.file_type, read.length), (key, FileType::Jpeg, 5));
        assert!(read.is_of(thumbnail) && thumbnail == b"small");
        assert!(!read.is_of(b"smalm"));
        for bit in 0..HEAD_BYTES * 8 {
            let mut other = *head;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::read(&other), None, "{bit}");
        }
        assert_eq!(super::record(key, FileType::Gif, b""), None);
        assert_eq!(super::record(key, FileType::Png, &vec![0; (1 << 20) + 1]), None);
    }
}
