//! The log of a W&B offline run, `run-ID.wandb`, which `wandb sync` uploads.
//!
//! | module | its one job |
//! | --- | --- |
//! | [`framing`] | records ↔ the blocks of a file |
//! | [`record`] | the messages of a record |
//! | [`row`] | the images of a step → records |
//! | [`merge`] | adds images to a log that a training wrote |
//! | [`names`] | names that W&B accepts |
//!
//! The tests run the client's releases 0.28.2 and 0.31.0 on these logs.

pub mod framing;
pub mod merge;
pub mod names;
pub mod record;
pub mod row;

use prost::Message;

use record::{Kind, LogRecord};

/// Returns whether a log, of which this is the beginning, was written by a version of Safelight.
#[must_use]
pub fn is_ours(beginning: &[u8]) -> bool {
    let first = framing::Records::new(beginning).ok().and_then(|mut records| records.next()?.ok());
    let kind = first.and_then(|first| LogRecord::decode(first.as_slice()).ok()?.kind);
    let Some(Kind::Header(record::LogInfo { version_info: Some(info) })) = kind else {
        return false;
    };
    info.producer.starts_with("safelight/")
}

/// Bytes to append to a log.
#[derive(Debug)]
pub struct LogEnd {
    /// The length of the log before these bytes.
    start: u64,
    /// The number of the last record.
    seq: i64,
    bytes: Vec<u8>,
}

impl LogEnd {
    /// Starts at the end of a log of `n_bytes` whose last record has the number `seq`. A log of 0 bytes gets its header.
    #[must_use]
    pub fn of(n_bytes: u64, seq: i64) -> Self {
        let bytes = if n_bytes == 0 { framing::HEADER.to_vec() } else { Vec::new() };
        Self { start: n_bytes, seq, bytes }
    }

    /// Adds a record.
    pub fn push(&mut self, kind: impl Into<Kind>) {
        let record = LogRecord::new(self.seq + 1, kind.into());
        self.push_encoded(&record.encode_to_vec());
    }

    /// Adds an encoded record, which must have the next number.
    pub fn push_encoded(&mut self, record: &[u8]) {
        self.seq += 1;
        framing::append(&mut self.bytes, self.start, record);
    }

    /// Returns the number of the last record.
    #[must_use]
    pub fn seq(&self) -> i64 {
        self.seq
    }

    /// Returns the length of the log with these bytes.
    #[must_use]
    pub fn n_bytes(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Returns the bytes to append.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
