//! The framing of records in a `TFRecord` file.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | length of the payload, little-endian |
//! | 4 | masked CRC-32C of these 8 bytes |
//! | n | payload |
//! | 4 | masked CRC-32C of the payload |
//!
//! Source: `TensorFlow`'s `core/lib/io/record_writer.h`.

/// The number of bytes before a payload.
pub const HEADER_BYTES: usize = 12;

/// The number of bytes after a payload.
pub const FOOTER_BYTES: usize = 4;

/// Returns the masked CRC-32C. It is masked because data may hold its own checksum, which would weaken a second one.
fn masked_crc32c(bytes: &[u8]) -> [u8; 4] {
    crc_fast::crc32_iscsi(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// Returns a record whose payload `append` adds to the vector.
pub(crate) fn record(append: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut record = vec![0; HEADER_BYTES];
    append(&mut record);
    let length = (record.len() - HEADER_BYTES) as u64;
    record[..8].copy_from_slice(&length.to_le_bytes());
    let of_length = masked_crc32c(&record[..8]);
    record[8..HEADER_BYTES].copy_from_slice(&of_length);
    let of_payload = masked_crc32c(&record[HEADER_BYTES..]);
    record.extend(of_payload);
    record
}

/// Returns the length of the payload after a header. `None` if the header's checksum is wrong.
#[must_use]
pub fn payload_bytes(header: [u8; HEADER_BYTES]) -> Option<u64> {
    let (length, crc) = header.split_first_chunk::<8>()?;
    (masked_crc32c(length) == *crc).then(|| u64::from_le_bytes(*length))
}

/// Returns the payload of the bytes after a header. `None` if the checksum is wrong.
#[must_use]
pub fn payload(payload_and_footer: &[u8]) -> Option<&[u8]> {
    let (payload, crc) = payload_and_footer.split_last_chunk::<FOOTER_BYTES>()?;
    (masked_crc32c(payload) == *crc).then_some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_framed_as_tensorflow_does_it() {
        // The first record of every event file, with time 0.
        let record = record(|out| out.extend(b"\x1a\x0dbrain.Event:2"));
        assert_eq!(record[..8], [15, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(record.len(), 12 + 15 + 4);
        // CRC-32C of "123456789" is e3069283.
        let crc = 0xe306_9283_u32;
        let masked = u64::from(crc.rotate_right(15)) + 0xa282_ead8;
        assert_eq!(masked_crc32c(b"123456789"), masked.to_le_bytes()[..4]);
    }

    #[test]
    fn what_was_written_is_read_and_what_was_damaged_is_not() {
        let good = record(|out| out.extend(b"payload"));
        let read = |record: &[u8]| {
            let (header, rest) = record.split_first_chunk().expect("a header");
            (payload_bytes(*header), payload(rest).map(<[u8]>::to_vec))
        };
        assert_eq!(read(&good), (Some(7), Some(b"payload".to_vec())));
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 0x10;
            let (length, payload) = read(&bad);
            assert!(length.is_none() || payload.is_none(), "byte {place}");
        }
    }
}
