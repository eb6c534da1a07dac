//! Dumps that are being read: their digests, and the tensors in them.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::beneath::{Dump, RunDir, Verdict};
use crate::decode::storage::{self, Plain};
use crate::decode::{self, Contents, DecodeError, DecodeOptions, NamedTensor, ReadAt};
use crate::limits::Limits;
use crate::media::{Digest, DigestKind, Hasher, MediaKey};
use crate::plan::{Found, MaskContents, MaskSource};
use crate::pulse;
use crate::record::DataRef;
use crate::store::journal::Stamp;
use crate::store::media_dir::Staging;
use crate::tensor::Storage;

/// Dumps up to this size, in bytes, are read as a whole when they are opened.
const SMALL_DUMP_BYTES: u64 = 16 << 10;

/// What is read of larger ones then: enough for nearly all headers.
const HEAD_BYTES: u64 = 4 << 10;

/// A dump that is being read, and its digest. What is read in order, from the beginning on, needs not
/// be read again for the digest.
#[derive(Debug)]
pub(super) struct OpenDump {
    pub(super) file: Dump,
    /// Its first bytes.
    head: Vec<u8>,
    hashed: Mutex<Hashed>,
    digest: SharedDigest,
}

/// What the digest has seen: all before this place.
#[derive(Debug)]
struct Hashed {
    hasher: Hasher,
    until: u64,
}

/// A dump's digest, for whoever no longer needs the open file.
pub(super) type SharedDigest = Arc<OnceLock<Digest>>;

impl OpenDump {
    pub(super) fn new(file: Dump, kind: DigestKind) -> Self {
        let size = file.n_bytes();
        let n_head = if size <= SMALL_DUMP_BYTES { size } else { HEAD_BYTES };
        let mut head = vec![0; usize::try_from(n_head).unwrap_or(0)];
        if file.read_exact_at(&mut head, 0).is_err() {
            // Whoever needs it tries again, and is told why if that fails.
            head.clear();
        }
        let mut hashed = Hashed { hasher: Hasher::new(kind), until: 0 };
        hashed.see(&head, 0);
        Self { file, head, hashed: Mutex::new(hashed), digest: SharedDigest::default() }
    }

    /// The digest of the whole dump.
    ///
    /// # Errors
    /// If it can't be read, this time.
    pub(super) fn digest(&self) -> io::Result<Digest> {
        if let Some(digest) = self.digest.get() {
            return Ok(*digest);
        }
        let mut hashed = self.hashed();
        let until = hashed.until;
        self.file.digest_rest(&mut hashed.hasher, until)?;
        hashed.until = self.file.n_bytes();
        Ok(*self.digest.get_or_init(|| hashed.hasher.digest()))
    }

    /// The digest made in this way, however it is made otherwise.
    ///
    /// # Errors
    /// As [`Self::digest`].
    pub(super) fn digest_by(&self, kind: DigestKind) -> io::Result<Digest> {
        let digest = self.digest()?;
        if digest.kind() == kind { Ok(digest) } else { self.file.digest(kind) }
    }

    /// Takes the digest if all of the dump was read already.
    pub(super) fn note_digest(&self) {
        let is_seen = self.hashed().until == self.n_bytes();
        // Nothing is read, and so nothing fails.
        drop(is_seen.then(|| self.digest()));
    }

    fn hashed(&self) -> MutexGuard<'_, Hashed> {
        self.hashed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The digest, once it is known.
    pub(super) fn shared_digest(&self) -> SharedDigest {
        self.digest.clone()
    }
}

impl Hashed {
    /// Sees bytes from `offset` on, as far as they follow what was seen.
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

/// A dump that a record names, and what it holds.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    pub(super) dump: Arc<OpenDump>,
    /// Relative to the run directory.
    pub(super) path: String,
    pub(super) contents: Arc<Contents>,
}

/// The dump that was opened last, if it holds several tensors: line after line may name one of them.
#[derive(Debug, Default)]
pub(super) struct LastOpened(Option<(DataRef, Opened)>);

impl LastOpened {
    /// Opens a dump, unless it was the last one and is still the same.
    ///
    /// # Errors
    /// As [`RunDir::open_dump`].
    pub(super) fn open(
        &mut self,
        dir: &RunDir,
        data: &DataRef,
        limits: &Limits,
    ) -> Result<Opened, Verdict> {
        let data = DataRef { tensor: None, ..data.clone() };
        if let Some((last, opened)) = &self.0
            && *last == data
            && dir.stat(&opened.path) == Some(opened.dump.file.stamp)
        {
            return Ok(opened.clone());
        }
        self.0 = None;
        let opened = dir.open_dump(&data, limits)?;
        if matches!(&*opened.contents, Contents::Tensors { tensors, .. } if tensors.len() > 1) {
            self.0 = Some((data, opened.clone()));
        }
        Ok(opened)
    }
}

impl RunDir {
    /// Opens the dump that a record names and reads its headers.
    ///
    /// # Errors
    /// `Wait` if the dump may yet come or be completed, `Reject` if nothing can come of it.
    pub(super) fn open_dump(&self, data: &DataRef, limits: &Limits) -> Result<Opened, Verdict> {
        let path = self.relative(&data.path).map_err(Verdict::Reject)?;
        let file = self.open_file(&path)?;
        if file.stamp.size > limits.dump_bytes_max {
            let (got, max) = (file.stamp.size, limits.dump_bytes_max);
            return Err(Verdict::Reject(format!(
                "{path:?} has {got} bytes, limits.dump_bytes_max is {max}"
            )));
        }
        let options = DecodeOptions {
            header_bytes_max: limits.header_bytes_max,
            storage_bytes_max: limits.dump_bytes_max,
            dtype: data.dtype,
            raw: data.raw.clone(),
        };
        let dump = OpenDump::new(file, self.reading.digest);
        let contents =
            decode::contents(&dump, &options).map_err(|error| Verdict::from(error).about(&path))?;
        Ok(Opened { dump: Arc::new(dump), path, contents: Arc::new(contents) })
    }
}

/// A tensor or picture of a dump, and the key of its images.
pub(super) struct Part {
    pub(super) key: MediaKey,
    /// Its name, where the dump has several.
    pub(super) tensor: Option<String>,
    /// The tensor, or why it can't be one.
    pub(super) found: Result<Found, String>,
}

/// What a record leads to in a dump: the tensor that it names, else all; where there are several, the
/// name of each is appended to the key.
///
/// # Errors
/// If it leads to nothing.
pub(super) fn parts(
    contents: &Contents,
    key: &MediaKey,
    tensor: Option<&str>,
    path: &str,
) -> Result<Vec<Part>, Verdict> {
    let one = |found, tensor: Option<&str>| Part {
        key: key.clone(),
        tensor: tensor.map(str::to_owned),
        found,
    };
    let (writer, tensors) = match contents {
        Contents::Picture(picture) if tensor.is_none() => {
            return Ok(vec![one(Ok(Found::Picture(picture.clone())), None)]);
        }
        Contents::Picture(_) => {
            let reason = format!("{path:?} is an image file, which has no tensor to name");
            return Err(Verdict::Reject(reason));
        }
        Contents::Tensors { writer, tensors, .. } => (*writer, tensors),
    };
    let found = |tensor: &NamedTensor| match &tensor.header {
        Ok(header) => Ok(Found::Tensor(writer, Box::new(header.clone()))),
        Err(error) => Err(format!("{path:?} {error}")),
    };
    if let Some(name) = tensor {
        return match tensors.iter().find(|tensor| tensor.name.as_deref() == Some(name)) {
            Some(tensor) => Ok(vec![one(found(tensor), Some(name))]),
            None => Err(Verdict::Reject(no_such_tensor(path, name, tensors))),
        };
    }
    match tensors.as_slice() {
        [] => Err(Verdict::Reject(format!("{path:?} holds no tensor"))),
        [tensor] => Ok(vec![one(found(tensor), tensor.name.as_deref())]),
        tensors => {
            let mut names = HashSet::new();
            let part = |tensor: &NamedTensor| {
                let name = tensor.name.clone().unwrap_or_default();
                if !names.insert(name.clone()) {
                    return one(Err(format!("{path:?} holds two tensors {name:?}")), Some(&name));
                }
                match MediaKey::new(format!("{key}/{name}")) {
                    Ok(key) => Part { key, tensor: Some(name), found: found(tensor) },
                    Err(error) => one(Err(error.to_string()), Some(&name)),
                }
            };
            Ok(tensors.iter().map(part).collect())
        }
    }
}

fn no_such_tensor(path: &str, name: &str, tensors: &[NamedTensor]) -> String {
    const SHOWN: usize = 8;
    let mut names: Vec<&str> = tensors.iter().filter_map(|tensor| tensor.name.as_deref()).collect();
    if names.is_empty() {
        return format!("{path:?} holds one tensor without a name, got {name:?}");
    }
    names.sort_by_key(|known| strsim::damerau_levenshtein(known, name));
    let n_more = names.len().saturating_sub(SHOWN);
    let more = if n_more > 0 { format!(" and {n_more} more") } else { String::new() };
    names.truncate(SHOWN);
    format!("{path:?} holds no tensor {name:?}, but {names:?}{more}")
}

/// A dump that a mask comes from: read when its plan is made, and again when the mask is.
#[derive(Debug, Clone)]
pub(super) struct MaskDump {
    pub(super) source: MaskSource,
    /// Relative to the run directory.
    pub(super) path: String,
    stamp: Stamp,
    /// Where the tensor's elements lie; none where a file is kept.
    pub(super) storage: Option<Arc<OpenStorage>>,
}

impl MaskDump {
    /// Opens the dump of a mask.
    ///
    /// # Errors
    /// As [`RunDir::open_dump`].
    pub(super) fn open(dir: &RunDir, data: &DataRef, limits: &Limits) -> Result<Self, Verdict> {
        let about = |verdict: Verdict| verdict.about_mask();
        let Opened { dump, path, contents } = dir.open_dump(data, limits).map_err(about)?;
        let contents = match &*contents {
            Contents::Picture(picture) => MaskContents::File(picture.clone()),
            Contents::Tensors { writer, tensors, .. } => {
                let named = data.tensor.as_deref();
                let mut matching = tensors
                    .iter()
                    .filter(|tensor| named.is_none_or(|name| tensor.name.as_deref() == Some(name)));
                match (matching.next(), matching.next(), named) {
                    (Some(tensor), None, _) => match &tensor.header {
                        Ok(header) => MaskContents::Tensor(*writer, header.clone()),
                        Err(error) => return Err(Verdict::from(error.clone()).about(&path)),
                    },
                    (Some(_), Some(_), _) => {
                        let n = tensors.len();
                        let reason = format!(
                            "mask {path:?} holds {n} tensors: want {{\"path\": …, \"tensor\": …}}"
                        );
                        return Err(Verdict::Reject(reason));
                    }
                    (None, _, name) => {
                        let reason = no_such_tensor(&path, name.unwrap_or_default(), tensors);
                        return Err(Verdict::Reject(reason));
                    }
                }
            }
        };
        let storage = match &contents {
            MaskContents::Tensor(_, header) => {
                Some(Arc::new(OpenStorage::new(header.storage.clone())))
            }
            MaskContents::File(_) => None,
        };
        let source = MaskSource { data: data.clone(), contents };
        Ok(Self { source, path, stamp: dump.file.stamp, storage })
    }

    /// Opens it once more.
    ///
    /// # Errors
    /// If it is gone, or another file by now.
    pub(super) fn reopen(&self, dir: &RunDir) -> Result<Dump, Verdict> {
        let file = dir.open_file(&self.path).map_err(Verdict::about_mask)?;
        if file.is_same_as(self.stamp) {
            Ok(file)
        } else {
            Err(Verdict::Wait(format!("mask {:?} changed while it was read", self.path)))
        }
    }
}

/// The stretch of a dump where a tensor's elements lie. What must be decoded first is decoded once,
/// into a file without a name in the store.
#[derive(Debug)]
pub(super) struct OpenStorage {
    storage: Storage,
    /// Held by whoever decodes or checks it.
    at_work: Mutex<()>,
    decoded: OnceLock<Result<Option<Spool>, DecodeError>>,
}

/// Decoded bytes, in a file that goes when it is closed.
#[derive(Debug)]
pub(super) struct Spool {
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

/// What is written tells that the thread gets on: little of a dump may inflate to much.
struct Beating<'a>(&'a mut File);

impl io::Write for Beating<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        pulse::beat();
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A storage's bytes.
pub(super) enum StorageBytes<'a, R> {
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
    pub(super) fn new(storage: Storage) -> Self {
        Self { storage, at_work: Mutex::new(()), decoded: OnceLock::new() }
    }

    /// The bytes, checked by the dump's own checksum where it has one.
    ///
    /// # Errors
    /// If they aren't what the dump promises; or `Io`, which another try may mend.
    pub(super) fn bytes<'a, R: ReadAt>(
        &'a self,
        dump: &'a R,
        staging: &Staging,
    ) -> Result<StorageBytes<'a, R>, DecodeError> {
        let at_work = pulse::idle(|| self.at_work.lock().unwrap_or_else(PoisonError::into_inner));
        if self.decoded.get().is_none() {
            match self.decode(dump, staging) {
                Err(error @ DecodeError::Io(_)) => return Err(error),
                decoded => drop(self.decoded.set(decoded)),
            }
        }
        drop(at_work);
        match (self.decoded.get(), storage::plain(dump, &self.storage)) {
            (Some(Err(error)), _) => Err(error.clone()),
            (Some(Ok(Some(spool))), _) => Ok(StorageBytes::Spooled(spool)),
            (_, Some(plain)) => Ok(StorageBytes::Plain(plain)),
            (_, None) => unreachable!("what isn't plain is decoded above"),
        }
    }

    /// Checks the bytes if they lie in the dump as they are, else decodes them.
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
            let what = "more than half of what the store's disk has free";
            let what = format!("{n_bytes} bytes once decoded, {what}: {free} bytes");
            return Err(DecodeError::OverLimit(what));
        }
        storage::decode(dump, &self.storage, &mut Beating(&mut file))?;
        Ok(Some(Spool { file, n_bytes }))
    }
}
