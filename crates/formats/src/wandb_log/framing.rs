//! Records as chunks in blocks of 32 KiB, as in a log of `LevelDB` but with other checksums.
//!
//! A file begins with [`HEADER`], which is part of the first block. A record has one or more chunks. No chunk
//! crosses the edge of a block; if fewer than 7 bytes are left before an edge, they are zeros. All numbers are little-endian.
//!
//! | chunk offset | size | content |
//! | --- | --- | --- |
//! | 0 | 4 | CRC-32 (as in zlib) of type and payload |
//! | 4 | 2 | payload length |
//! | 6 | 1 | type: 1 whole record, 2 first part, 3 middle part, 4 last part |
//! | 7 | n | payload |
//!
//! Source: wandb 0.28.2 `sdk/internal/datastore.py`.

/// `:W&B`, a magic number, the version.
pub const HEADER: [u8; 7] = [0x3a, 0x57, 0x26, 0x42, 0xe1, 0xbe, 0x00];

const BLOCK: usize = 32_768;
const CHUNK_HEADER: usize = 7;

const WHOLE: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// Returns the number of bytes from this offset to the edge of its block.
fn room(place: u64) -> usize {
    // Less than a block.
    BLOCK - usize::try_from(place % BLOCK as u64).unwrap_or_default()
}

/// Appends a record to `log`, whose first byte is at offset `start` of the file.
pub fn append(log: &mut Vec<u8>, start: u64, record: &[u8]) {
    let mut rest = record;
    let mut is_first = true;
    loop {
        let mut room = room(start + log.len() as u64);
        if room < CHUNK_HEADER {
            log.resize(log.len() + room, 0);
            room = BLOCK;
        }
        let (part, after) = rest.split_at(rest.len().min(room - CHUNK_HEADER));
        let is_last = after.is_empty();
        let kind = match (is_first, is_last) {
            (true, true) => WHOLE,
            (true, false) => FIRST,
            (false, false) => MIDDLE,
            (false, true) => LAST,
        };
        // Less than a block.
        let length = u16::try_from(part.len()).unwrap_or_default();
        let mut crc = crc32fast::Hasher::new();
        crc.update(&[kind]);
        crc.update(part);
        log.extend(crc.finalize().to_le_bytes());
        log.extend(length.to_le_bytes());
        log.push(kind);
        log.extend(part);
        (rest, is_first) = (after, false);
        if is_last {
            return;
        }
    }
}

/// Why the rest of a log can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The file has another header.
    #[error("not a W&B log: it doesn't begin with {HEADER:02x?}")]
    NotALog,
    /// The log ends inside a record: its writer is not done, or was killed.
    #[error("the log ends inside a record, which begins at byte {record_at}")]
    Truncated {
        /// The offset of the record.
        record_at: usize,
    },
    /// A chunk contradicts its checksum or its neighbours.
    #[error("the log is damaged at byte {at}: {what}")]
    Damaged {
        /// The offset of the chunk.
        at: usize,
        /// What was found.
        what: &'static str,
    },
}

/// Iterates over the records of a log, in order. Ends after the first error.
#[derive(Debug)]
pub struct Records<'a> {
    log: &'a [u8],
    /// The end of the last record that was returned.
    end: usize,
    is_over: bool,
}

impl<'a> Records<'a> {
    /// # Errors
    /// If the file has another header.
    pub fn new(log: &'a [u8]) -> Result<Self, LogError> {
        if !log.starts_with(&HEADER) {
            return Err(LogError::NotALog);
        }
        Ok(Self { log, end: HEADER.len(), is_over: false })
    }

    /// Returns the end of the last complete record that was returned. A log can be cut there and continued.
    #[cfg(test)]
    #[must_use]
    pub fn end(&self) -> usize {
        self.end
    }

    /// Returns the record after `end` and its own end. `None` at the end of the log.
    fn read(&self) -> Result<Option<(Vec<u8>, usize)>, LogError> {
        let truncated = LogError::Truncated { record_at: self.end };
        let mut record = Vec::new();
        let mut at = self.end;
        let mut is_first = true;
        loop {
            let room = room(at as u64);
            if room < CHUNK_HEADER {
                at += room;
            }
            let rest = self.log.get(at..).unwrap_or_default();
            // A preallocated file that is not fully written ends in zeros.
            if is_first && rest.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            let Some((header, rest)) = rest.split_first_chunk::<CHUNK_HEADER>() else {
                return Err(truncated);
            };
            let [c0, c1, c2, c3, l0, l1, kind] = *header;
            let chunk = at;
            let damaged = |what| LogError::Damaged { at: chunk, what };
            let length = usize::from(u16::from_le_bytes([l0, l1]));
            if length > self::room(at as u64) - CHUNK_HEADER {
                return Err(damaged("a chunk crosses the edge of its block"));
            }
            let Some(part) = rest.get(..length) else { return Err(truncated) };
            let mut crc = crc32fast::Hasher::new();
            crc.update(&[kind]);
            crc.update(part);
            if crc.finalize() != u32::from_le_bytes([c0, c1, c2, c3]) {
                return Err(damaged("the checksum is another"));
            }
            record.extend(part);
            at += CHUNK_HEADER + length;
            match (is_first, kind) {
                (true, WHOLE) | (false, LAST) => return Ok(Some((record, at))),
                (true, FIRST) | (false, MIDDLE) => is_first = false,
                _ => return Err(damaged("a part of a record is where it can't be")),
            }
        }
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Vec<u8>, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        match self.read() {
            Ok(Some((record, end))) => {
                self.end = end;
                Some(Ok(record))
            }
            other => {
                self.is_over = true;
                other.err().map(Err)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn log_of(records: &[Vec<u8>]) -> Vec<u8> {
        let mut log = HEADER.to_vec();
        records.iter().for_each(|record| append(&mut log, 0, record));
        log
    }

    fn hex(text: &str) -> Vec<u8> {
        text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect()
    }

    #[test]
    fn whole_files_are_those_of_the_library() {
        let header = "3a 57 26 42 e1 be 00 ";
        assert_eq!(log_of(&[vec![]]), hex(&format!("{header} 1b df 05 a5 00 00 01")));
        let record = "08 01 aa 01 18 0a 16 0a 0c 69 6d 67 2d 73 79 6e 63 2f 30 2e 31 12 06 30 2e 37 30 2e 30";
        let want = format!("{header} a3 74 5a d0 1d 00 01 {record}");
        assert_eq!(log_of(&[hex(record)]), hex(&want));
        let long = log_of(&[vec![b'a'; 40_000]]);
        assert_eq!(long.len(), 40_021);
        assert_eq!(long[7..14], hex("83 7e 4e e8 f2 7f 02"));
        assert_eq!(long[32_768..32_775], hex("cc be 7c e7 4e 1c 04"));
    }

    #[test]
    fn the_edge_of_a_block_is_met_as_the_library_does() {
        // The gap that the first record leaves in its block → the chunks of a second one of 2 bytes.
        for (gap, want) in [
            (0, vec![(32_768, WHOLE, 2)]),
            (1, vec![(32_768, WHOLE, 2)]),
            (6, vec![(32_768, WHOLE, 2)]),
            (7, vec![(32_761, FIRST, 0), (32_768, LAST, 2)]),
            (8, vec![(32_760, FIRST, 1), (32_768, LAST, 1)]),
            (9, vec![(32_759, WHOLE, 2)]),
        ] {
            let first = vec![1; BLOCK - HEADER.len() - CHUNK_HEADER - gap];
            let records = [first, vec![2; 2]];
            let log = log_of(&records);
            for (at, kind, length) in want {
                assert_eq!((log[at + 6], log[at + 4]), (kind, length), "gap {gap}");
            }
            let read: Result<Vec<_>, _> = Records::new(&log).expect("a log").collect();
            assert_eq!(read.expect("records"), records, "gap {gap}");
        }
    }

    #[test]
    fn what_is_no_log_or_was_changed_is_refused() {
        assert_eq!(Records::new(b"PK\x03\x04").err(), Some(LogError::NotALog));
        let mut log = log_of(&[vec![1; 10], vec![2; 10]]);
        log.extend([0; 100]);
        assert_eq!(Records::new(&log).expect("a log").flatten().count(), 2);
        log[35] ^= 1;
        let read: Vec<_> = Records::new(&log).expect("a log").collect();
        assert_eq!(read.len(), 2);
        let what = "the checksum is another";
        assert_eq!(read[1], Err(LogError::Damaged { at: 24, what }));
    }

    proptest! {
        #[test]
        fn records_come_back_from_a_log_that_is_written_in_pieces(
            lengths in prop::collection::vec(prop_oneof![0..60usize, 32_700..32_800usize, 0..100_000usize], 0..6),
            pieces in prop::collection::vec(any::<bool>(), 6),
        ) {
            let records: Vec<Vec<u8>> = lengths.iter().map(|n| vec![7; *n]).collect();
            let mut log = HEADER.to_vec();
            let mut end = Vec::new();
            for (record, is_written) in records.iter().zip(pieces) {
                append(&mut end, log.len() as u64, record);
                if is_written {
                    log.append(&mut end);
                }
            }
            log.append(&mut end);
            prop_assert_eq!(&log, &log_of(&records));
            let read: Result<Vec<_>, _> = Records::new(&log).expect("a log").collect();
            prop_assert_eq!(read, Ok(records));
        }

        #[test]
        fn a_log_that_was_cut_gives_what_is_whole_and_goes_on_from_there(
            lengths in prop::collection::vec(prop_oneof![1..60usize, 32_700..32_800usize], 1..5),
            cut in 0.0..1.0f64,
        ) {
            let records: Vec<Vec<u8>> = lengths.iter().map(|n| vec![7; *n]).collect();
            let whole = log_of(&records);
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "a place in the log")]
            let n = HEADER.len() + ((whole.len() - HEADER.len()) as f64 * cut) as usize;
            let mut log = whole[..n].to_vec();
            let mut reader = Records::new(&log).expect("a log");
            let n_whole = reader.by_ref().flatten().count();
            let end = reader.end();
            prop_assert!(end <= n);
            log.truncate(end);
            records[n_whole..].iter().for_each(|record| append(&mut log, 0, record));
            prop_assert_eq!(log, whole);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let log = [&HEADER[..], &bytes].concat();
            for record in Records::new(&log).expect("a log") {
                prop_assert!(record.map_or(0, |record| record.len()) <= bytes.len());
            }
        }
    }
}
