//! The log of a W&B offline run, `run-ID.wandb`: what `wandb sync` uploads. Pure.
//!
//! [`framing`] cuts records into a file's blocks and back, [`record`] says what a record holds, [`row`] makes
//! records of images, [`merge`] puts images into a log that a training wrote, [`names`] makes names that W&B
//! takes. What the client does with all that was tried with its releases 0.28.2 and 0.31.0.

pub mod framing;
pub mod merge;
pub mod names;
pub mod record;
pub mod row;

use prost::Message;

use record::{Kind, LogRecord};

/// What is to be added to the end of a log.
#[derive(Debug)]
pub struct LogEnd {
    /// How long the log is before it, in bytes.
    start: u64,
    /// The number of the last record.
    seq: i64,
    bytes: Vec<u8>,
}

impl LogEnd {
    /// Of a log of so many bytes whose last record has this number; of a new one if it has none.
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

    /// Adds a record that is encoded, with the number that comes next in it.
    pub fn push_encoded(&mut self, record: &[u8]) {
        self.seq += 1;
        framing::append(&mut self.bytes, self.start, record);
    }

    /// The number of the last record.
    #[must_use]
    pub fn seq(&self) -> i64 {
        self.seq
    }

    /// How long the log is with it, in bytes.
    #[must_use]
    pub fn n_bytes(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// What is to be written at the end of the log.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
