//! A dump that is open for reading, and its digest.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use crate::decode::ReadAt;
use crate::locks::lock;
use crate::media::{Digest, DigestKind, Hasher};
use crate::plan::CHUNK_BYTES;
use crate::pulse;
use crate::run_dir::RunFile;

/// Dumps up to this size, in bytes, are read whole when they are opened.
const SMALL_DUMP_BYTES: u64 = 16 << 10;

/// Bytes of a larger dump that are read when it is opened: enough for nearly all headers.
const HEAD_BYTES: u64 = 4 << 10;

/// A dump that is open for reading, and its digest. Bytes that are read in order from the start are
/// hashed at once, so that the digest does not read them again.
#[derive(Debug)]
pub(crate) struct OpenDump {
    pub(crate) file: RunFile,
    /// The first bytes.
    head: Vec<u8>,
    hashed: Mutex<Hashed>,
    digest: SharedDigest,
}

/// A hasher, and the end of the bytes that it has seen.
#[derive(Debug)]
struct Hashed {
    hasher: Hasher,
    until: u64,
}

/// A dump's digest, for those that do not keep the file open.
pub(crate) type SharedDigest = Arc<OnceLock<Digest>>;

impl OpenDump {
    /// Opens `file` and reads its first bytes.
    pub(crate) fn new(file: RunFile, kind: DigestKind) -> Self {
        let size = file.n_bytes();
        let n_head = if size <= SMALL_DUMP_BYTES { size } else { HEAD_BYTES };
        let mut head = vec![0; usize::try_from(n_head).unwrap_or(0)];
        if file.read_exact_at(&mut head, 0).is_err() {
            // A later read fails again, and reports the error.
            head.clear();
        }
        let mut hashed = Hashed { hasher: Hasher::new(kind), until: 0 };
        hashed.see(&head, 0);
        Self { file, head, hashed: Mutex::new(hashed), digest: SharedDigest::default() }
    }

    /// Computes the digest of the whole dump.
    ///
    /// # Errors
    /// If the dump cannot be read now.
    pub(crate) fn digest(&self) -> io::Result<Digest> {
        loop {
            if let Some(digest) = self.digest_slice(u64::MAX)? {
                return Ok(digest);
            }
        }
    }

    /// Reads on for the digest of the whole dump, at most about `n_bytes_max`. Returns `None` if more is left.
    ///
    /// # Errors
    /// If the dump cannot be read now.
    pub(crate) fn digest_slice(&self, n_bytes_max: u64) -> io::Result<Option<Digest>> {
        if let Some(digest) = self.digest.get() {
            return Ok(Some(*digest));
        }
        let mut hashed = pulse::idle(|| self.hashed());
        let end = hashed.until.saturating_add(n_bytes_max).min(self.n_bytes());
        let mut chunk = Vec::new();
        while hashed.until < end {
            let n = usize::try_from(end - hashed.until).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            chunk.resize(n, 0);
            self.file.read_exact_at(&mut chunk, hashed.until)?;
            hashed.hasher.update(&chunk);
            hashed.until += n as u64;
        }
        let is_whole = hashed.until == self.n_bytes();
        Ok(is_whole.then(|| *self.digest.get_or_init(|| hashed.hasher.digest())))
    }

    /// Sets the digest that was computed of another open file of the same version.
    pub(crate) fn set_digest(&self, digest: Digest) {
        self.digest.get_or_init(|| digest);
    }

    /// Computes the digest of this kind, which may differ from the configured one.
    ///
    /// # Errors
    /// If the dump cannot be read now.
    pub(crate) fn digest_by(&self, kind: DigestKind) -> io::Result<Digest> {
        let digest = self.digest()?;
        if digest.kind() == kind { Ok(digest) } else { self.file.digest(kind) }
    }

    /// Finishes the digest if all of the dump was read already.
    pub(crate) fn note_digest(&self) {
        let is_seen = self.hashed().until == self.n_bytes();
        // Reads nothing, and so cannot fail.
        drop(is_seen.then(|| self.digest()));
    }

    fn hashed(&self) -> MutexGuard<'_, Hashed> {
        lock(&self.hashed)
    }

    /// The cell that holds the digest once it is known.
    pub(crate) fn shared_digest(&self) -> SharedDigest {
        self.digest.clone()
    }
}

impl Hashed {
    /// Hashes the bytes at `offset`, unless there is a gap before them.
    fn see(&mut self, bytes: &[u8], offset: u64) {
        let is_new = |at: &usize| *at < bytes.len();
        let at = self.until.checked_sub(offset).and_then(|at| usize::try_from(at).ok());
        if let Some(at) = at.filter(is_new) {
            self.hasher.update(&bytes[at..]);
            self.until = offset + bytes.len() as u64;
        }
    }
}

impl ReadAt for OpenDump {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let at = usize::try_from(offset).ok();
        let of_head = at.and_then(|at| self.head.get(at..at.checked_add(buffer.len())?));
        if let Some(bytes) = of_head {
            buffer.copy_from_slice(bytes);
            return Ok(());
        }
        self.file.read_exact_at(buffer, offset)?;
        self.hashed().see(buffer, offset);
        Ok(())
    }

    fn n_bytes(&self) -> u64 {
        self.file.n_bytes()
    }
}

impl Drop for OpenDump {
    fn drop(&mut self) {
        self.file.give_back_cache();
    }
}
