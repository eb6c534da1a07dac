//! The bytes of a tensor: where they lie in its dump, checked, and decoded if need be.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, OnceLock};

use crate::decode::storage::{self, Plain};
use crate::decode::{DecodeError, ReadAt};
use crate::locks::lock;
use crate::pulse;
use crate::store::media_dir::Staging;
use crate::tensor::Storage;

/// The range of a dump where a tensor's elements lie. A compressed range is decoded once, into a
/// nameless file in the store.
#[derive(Debug)]
pub(crate) struct OpenStorage {
    storage: Storage,
    /// Held while a thread decodes or checks the range.
    working: Mutex<()>,
    decoded: OnceLock<Result<Option<Spool>, DecodeError>>,
}

/// Decoded bytes, in a file that is deleted when it is closed.
#[derive(Debug)]
pub(crate) struct Spool {
    file: File,
    n_bytes: u64,
}

impl ReadAt for Spool {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        pulse::beat();
        self.file.read_exact_at(buffer, offset)
    }

    fn n_bytes(&self) -> u64 {
        self.n_bytes
    }
}

/// Reports progress to the watchdog with each write: a small dump may inflate to a lot.
struct PulseWriter<'a>(&'a mut File);

impl io::Write for PulseWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        pulse::beat();
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The bytes of a storage: as they lie in the dump, or decoded.
pub(crate) enum StorageBytes<'a, R> {
    Plain(Plain<'a, R>),
    Spooled(&'a Spool),
}

impl<R: ReadAt> ReadAt for StorageBytes<'_, R> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::Plain(plain) => plain.read_exact_at(buffer, offset),
            Self::Spooled(spool) => spool.read_exact_at(buffer, offset),
        }
    }

    fn n_bytes(&self) -> u64 {
        match self {
            Self::Plain(plain) => plain.n_bytes(),
            Self::Spooled(spool) => spool.n_bytes(),
        }
    }
}

impl OpenStorage {
    /// A storage that nothing was read of yet.
    pub(crate) fn new(storage: Storage) -> Self {
        Self { storage, working: Mutex::new(()), decoded: OnceLock::new() }
    }

    /// Returns the bytes, after checking the dump's own checksum if it has one.
    ///
    /// # Errors
    /// If the bytes do not match what the dump promises, or `Io`, which a retry may fix.
    pub(crate) fn bytes<'a, R: ReadAt>(
        &'a self,
        dump: &'a R,
        staging: &Staging,
    ) -> Result<StorageBytes<'a, R>, DecodeError> {
        let working = pulse::idle(|| lock(&self.working));
        if self.decoded.get().is_none() {
            match self.decode(dump, staging) {
                Err(error @ DecodeError::Io(_)) => return Err(error),
                decoded => drop(self.decoded.set(decoded)),
            }
        }
        drop(working);
        match (self.decoded.get(), storage::plain(dump, &self.storage)) {
            (Some(Err(error)), _) => Err(error.clone()),
            (Some(Ok(Some(spool))), _) => Ok(StorageBytes::Spooled(spool)),
            (_, Some(plain)) => Ok(StorageBytes::Plain(plain)),
            (_, None) => unreachable!("bytes that are not plain were decoded above"),
        }
    }

    /// Checks bytes that lie in the dump as they are. Decodes others.
    fn decode(&self, dump: &impl ReadAt, staging: &Staging) -> Result<Option<Spool>, DecodeError> {
        if storage::plain(dump, &self.storage).is_some() {
            storage::verify(dump, &self.storage)?;
            return Ok(None);
        }
        let mut file = staging.nameless()?;
        let n_bytes = self.storage.n_bytes;
        let disk = rustix::fs::fstatvfs(&file).map_err(io::Error::from)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if n_bytes > free / 2 {
            let what = format!(
                "{n_bytes} bytes when decoded, more than half of the {free} bytes that the store's disk has free"
            );
            return Err(DecodeError::OverLimit(what));
        }
        storage::decode(dump, &self.storage, &mut PulseWriter(&mut file))?;
        Ok(Some(Spool { file, n_bytes }))
    }
}
