//! Thumbnails on disk: `STORE/cache/thumbs/N.pack`.
//!
//! A pack is a file that only grows. Once it is full, the next one begins. The oldest ones are removed so that all
//! together have at most the configured bytes. Nothing here is needed: a thumbnail that cannot be read is made again,
//! and one that cannot be written is only in memory. So nothing is synced, and all errors are ignored.
//!
//! One process at a time writes: the one that holds the lock. Others read the packs that they found.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::fs::OFlags;

use super::record::{HEAD_BYTES, Head, record};
use super::{Picture, ThumbKey};
use crate::gallery::files::content_type;
use crate::locks::lock;
use crate::media::FileType;
use crate::store::space::Space;

/// The length of a pack, unless all packs together are shorter than four of them.
const PACK_BYTES: u64 = 64 << 20;

/// The thumbnails of a store on disk.
#[derive(Debug)]
pub(super) struct Packs {
    folder: PathBuf,
    bytes_max: u64,
    space: Space,
    /// `None` until the first use.
    state: Mutex<Option<State>>,
}

#[derive(Debug, Default)]
struct State {
    places: HashMap<ThumbKey, Place>,
    /// The length of each pack, by its number.
    packs: BTreeMap<u64, u64>,
    /// The greatest number that a file has.
    newest: u64,
    /// The lock, if this process writes.
    lock: Option<File>,
    /// The pack that is written.
    open: Option<(u64, File)>,
}

/// Where a thumbnail is.
#[derive(Debug, Clone, Copy)]
struct Place {
    pack: u64,
    /// Where its head begins.
    offset: u64,
    head: Head,
}

impl Packs {
    /// The packs of a store, of `bytes_max` bytes together. They are opened when they are first used.
    /// `free_bytes_min` is `store.free_bytes_min`.
    pub(super) fn new(
        store: &Path,
        bytes_max: u64,
        free_bytes_min: Arc<Mutex<Option<u64>>>,
    ) -> Self {
        let folder = store.join("cache").join("thumbs");
        let space = Space::new(store, free_bytes_min);
        Self { folder, bytes_max, space, state: Mutex::new(None) }
    }

    /// Reads a thumbnail. `None` if there is none, or it is damaged.
    pub(super) fn get(&self, key: &ThumbKey) -> Option<Picture> {
        let place = self.with(|state| state.places.get(key).copied())?;
        let read = || {
            let file = self.open_pack(place.pack, OpenOptions::new().read(true))?;
            let mut bytes = vec![0; place.head.length as usize];
            file.read_exact_at(&mut bytes, place.offset + HEAD_BYTES as u64)?;
            Ok::<_, io::Error>(bytes)
        };
        let Some(bytes) = read().ok().filter(|bytes| place.head.is_of(bytes)) else {
            self.with(|state| state.places.remove(key));
            return None;
        };
        let content_type = content_type(place.head.file_type);
        Some(Picture { content_type, bytes: bytes.into() })
    }

    /// Appends a thumbnail.
    pub(super) fn put(&self, key: ThumbKey, file_type: FileType, thumbnail: &[u8]) {
        let Some(record) = record(key, file_type, thumbnail) else { return };
        if self.bytes_max == 0 || self.space.check().is_err() {
            return;
        }
        self.with(|state| {
            if state.lock.is_none() || state.places.contains_key(&key) {
                return;
            }
            if let Err(error) = self.append(state, key, &record) {
                // On a full or failing disk, the next one would fail as well.
                tracing::debug!(%error, "thumbnails are no longer written to the store");
                (state.lock, state.open) = (None, None);
            }
        });
    }

    fn append(&self, state: &mut State, key: ThumbKey, record: &[u8]) -> io::Result<()> {
        let length = record.len() as u64;
        let pack_bytes = PACK_BYTES.min(self.bytes_max / 4);
        if length > pack_bytes {
            return Ok(());
        }
        let is_full = |end: u64| end + length > pack_bytes;
        if state.packs.last_key_value().is_none_or(|(_, end)| is_full(*end)) {
            let next = state.newest + 1;
            let file = self.open_pack(next, OpenOptions::new().write(true).create_new(true))?;
            (state.newest, state.open) = (next, Some((next, file)));
            state.packs.insert(next, 0);
        }
        let (last, end) = state.packs.last_key_value().map_or((0, 0), |(n, end)| (*n, *end));
        self.remove_oldest(state, length);
        let file = match state.open.take() {
            Some((open, file)) if open == last => file,
            _ => self.open_pack(last, OpenOptions::new().write(true))?,
        };
        if let Err(error) = file.write_all_at(record, end) {
            // A torn end is cut at the next start, too.
            drop(file.set_len(end));
            return Err(error);
        }
        state.open = Some((last, file));
        state.packs.insert(last, end + length);
        if let Some(head) = record.first_chunk().and_then(Head::read) {
            state.places.insert(key, Place { pack: last, offset: end, head });
        }
        Ok(())
    }

    /// Removes the oldest packs, so that `more` bytes can be added. Never removes the last one.
    fn remove_oldest(&self, state: &mut State, more: u64) {
        while state.packs.len() > 1
            && state.packs.values().sum::<u64>() + more > self.bytes_max
            && let Some((oldest, _)) = state.packs.pop_first()
        {
            drop(fs::remove_file(self.path(oldest)));
            state.places.retain(|_, place| place.pack != oldest);
        }
    }

    fn path(&self, pack: u64) -> PathBuf {
        self.folder.join(format!("{pack}.pack"))
    }

    /// Opens a pack: a regular file without other names, and no link.
    fn open_pack(&self, pack: u64, options: &OpenOptions) -> io::Result<File> {
        open_regular(&self.path(pack), options.clone())
    }

    fn with<T>(&self, see: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.state);
        see(state.get_or_insert_with(|| self.open()))
    }

    /// Lists what is there. The process that writes cuts torn ends off, and removes what is too much.
    fn open(&self) -> State {
        let mut state = State::default();
        if self.bytes_max > 0 {
            drop(fs::create_dir_all(&self.folder));
        }
        state.lock = take_lock(&self.folder.join("lock"));
        let is_writer = state.lock.is_some();
        let numbers = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut numbers: Vec<u64> =
            numbers.filter_map(|entry| number_of(entry.file_name().to_str()?)).collect();
        numbers.sort_unstable();
        state.newest = numbers.last().copied().unwrap_or(0);
        for pack in numbers {
            if self.bytes_max == 0 && is_writer {
                drop(fs::remove_file(self.path(pack)));
                continue;
            }
            let Ok(file) = self.open_pack(pack, OpenOptions::new().read(true).write(is_writer))
            else {
                continue;
            };
            let (end, size) = list(&file, |offset, head| {
                state.places.insert(head.key, Place { pack, offset, head });
            });
            if is_writer && end < size && file.set_len(end).is_err() {
                // Nothing is appended after bytes that cannot be read.
                state.lock = None;
            }
            state.packs.insert(pack, end);
        }
        if state.lock.is_some() {
            self.remove_oldest(&mut state, 0);
        }
        state
    }
}

/// The number of a pack, from its name.
fn number_of(name: &str) -> Option<u64> {
    let number: u64 = name.strip_suffix(".pack")?.parse().ok()?;
    // No other name has the same number.
    (number < u64::MAX && name == format!("{number}.pack")).then_some(number)
}

/// Calls `see` with the place and the head of each whole record. Returns where they end, and the file's length.
fn list(file: &File, mut see: impl FnMut(u64, Head)) -> (u64, u64) {
    let size = file.metadata().map_or(0, |meta| meta.len());
    let (mut at, mut bytes) = (0, [0; HEAD_BYTES]);
    while file.read_exact_at(&mut bytes, at).is_ok()
        && let Some(head) = Head::read(&bytes)
    {
        let end = at + HEAD_BYTES as u64 + u64::from(head.length);
        if end > size {
            break;
        }
        see(at, head);
        at = end;
    }
    (at, size)
}

/// Takes the lock of the process that writes. `None` if another one has it, or the folder cannot be written.
fn take_lock(path: &Path) -> Option<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    let file = open_regular(path, options).ok()?;
    file.try_lock().is_ok().then_some(file)
}

fn open_regular(path: &Path, mut options: OpenOptions) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    options.custom_flags(i32::try_from(flags).map_err(io::Error::other)?).mode(0o640);
    let file = options.open(path)?;
    let meta = file.metadata()?;
    if meta.is_file() && meta.nlink() == 1 {
        return Ok(file);
    }
    Err(io::Error::other("want a file without other names"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::media::Sha256;

    const MAX: u64 = 256 << 20;

    fn packs(store: &Path, bytes_max: u64) -> Packs {
        Packs::new(store, bytes_max, Arc::new(Mutex::new(Some(0))))
    }

    fn key(n: usize) -> ThumbKey {
        ThumbKey { sha256: Sha256::of(&n.to_le_bytes()), size: 128 }
    }

    fn thumbnail(n: usize) -> Vec<u8> {
        n.to_le_bytes().map(|byte| byte | 1).repeat(12 + n % 7)
    }

    fn put(packs: &Packs, n: usize) {
        packs.put(key(n), FileType::Jpeg, &thumbnail(n));
    }

    /// Which of these thumbnails are there. Those that are there are right.
    fn there(packs: &Packs, numbers: impl Iterator<Item = usize>) -> Vec<usize> {
        let is_there = |n: &usize| {
            let got = packs.get(&key(*n));
            assert!(got.as_ref().is_none_or(|got| got.bytes == thumbnail(*n)), "{n}");
            got.is_some()
        };
        numbers.filter(is_there).collect()
    }

    #[test]
    fn what_was_written_is_there_after_a_restart() {
        let store = tempfile::tempdir().expect("a folder");
        let first = packs(store.path(), MAX);
        (0..20).for_each(|n| put(&first, n));
        assert_eq!(there(&first, 0..21), (0..20).collect::<Vec<_>>());
        drop(first);
        let second = packs(store.path(), MAX);
        assert_eq!(there(&second, 0..20).len(), 20);
        put(&second, 20);
        drop(second);
        assert_eq!(there(&packs(store.path(), MAX), 0..21).len(), 21);
    }

    #[test]
    fn a_pack_that_ends_at_any_byte_keeps_its_whole_thumbnails() {
        let store = tempfile::tempdir().expect("a folder");
        let written = packs(store.path(), MAX);
        (0..3).for_each(|n| put(&written, n));
        drop(written);
        let path = store.path().join("cache/thumbs/1.pack");
        let whole = fs::read(&path).expect("a pack");
        let length = |n: usize| HEAD_BYTES + thumbnail(n).len();
        for end in 0..whole.len() {
            // As a file system may leave it: cut off, or with zeros at the end.
            for n_zeros in [0, 100] {
                fs::write(&path, [&whole[..end], &vec![0; n_zeros]].concat()).expect("a pack");
                let again = packs(store.path(), MAX);
                let n_whole =
                    usize::from(end >= length(0)) + usize::from(end >= length(0) + length(1));
                // Zeros may complete a thumbnail. Its checksum tells.
                assert_eq!(there(&again, 0..3).len(), n_whole, "{end}");
                put(&again, 7);
                drop(again);
                let after = packs(store.path(), MAX);
                let left = there(&after, (0..3).chain([7]));
                assert_eq!(left.len(), n_whole + 1, "{end}");
            }
        }
    }

    #[test]
    fn the_oldest_are_removed_beyond_the_limit() {
        let store = tempfile::tempdir().expect("a folder");
        let limit = 20_000;
        let small = packs(store.path(), limit);
        let bytes = || {
            let files = fs::read_dir(store.path().join("cache/thumbs")).expect("a folder");
            files.map(|file| file.expect("a file").metadata().expect("a file").len()).sum::<u64>()
        };
        for n in 0..1000 {
            put(&small, n);
            assert!(bytes() <= limit, "{n}");
        }
        let left = there(&small, 0..1000);
        assert!(left.len() > 60 && left.len() < 120, "{}", left.len());
        assert_eq!(left, (1000 - left.len()..1000).collect::<Vec<_>>());
        drop(small);
        let smaller = packs(store.path(), limit / 2);
        let left = there(&smaller, 0..1000);
        assert!(bytes() <= limit / 2 && left.last() == Some(&999));
        drop(smaller);
        let none = packs(store.path(), 0);
        put(&none, 1);
        assert_eq!((there(&none, 0..1000).len(), bytes()), (0, 0));
    }

    #[test]
    fn two_processes_do_not_disturb_each_other() {
        let store = tempfile::tempdir().expect("a folder");
        let first = packs(store.path(), 20_000);
        (0..5).for_each(|n| put(&first, n));
        // The second one reads, and writes nothing.
        let second = packs(store.path(), 20_000);
        assert_eq!(there(&second, 0..5).len(), 5);
        (5..10).for_each(|n| put(&second, n));
        assert!(there(&second, 5..10).is_empty());
        // Packs that the first one removes are missing for the second.
        (10..1000).for_each(|n| put(&first, n));
        assert!(there(&second, 0..5).is_empty());
        assert!(there(&first, 900..1000).len() > 60);
    }

    #[test]
    fn a_store_that_cannot_be_written_or_is_full_is_read_all_the_same() {
        let store = tempfile::tempdir().expect("a folder");
        let written = packs(store.path(), MAX);
        (0..3).for_each(|n| put(&written, n));
        drop(written);
        let full = Packs::new(store.path(), MAX, Arc::new(Mutex::new(Some(u64::MAX))));
        put(&full, 4);
        assert_eq!(there(&full, 0..5), [0, 1, 2]);
        drop(full);
        // A folder in the place of the lock refuses root, too.
        let folder = store.path().join("cache/thumbs");
        fs::remove_file(folder.join("lock")).expect("a file");
        fs::create_dir(folder.join("lock")).expect("a folder");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o500)).expect("permissions");
        let read_only = packs(store.path(), MAX);
        put(&read_only, 4);
        assert_eq!(there(&read_only, 0..5), [0, 1, 2]);
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("permissions");
        let nowhere = packs(&store.path().join("gone\0"), MAX);
        put(&nowhere, 1);
        assert!(there(&nowhere, 0..2).is_empty());
    }

    #[test]
    fn links_and_foreign_files_are_left_alone() {
        let store = tempfile::tempdir().expect("a folder");
        let folder = store.path().join("cache/thumbs");
        fs::create_dir_all(&folder).expect("a folder");
        let precious = store.path().join("precious");
        fs::write(&precious, "x").expect("a file");
        symlink(&precious, folder.join("1.pack")).expect("a link");
        fs::hard_link(&precious, folder.join("3.pack")).expect("a link");
        fs::write(folder.join("02.pack"), "x").expect("a file");
        fs::write(folder.join("2.pack"), "no pack").expect("a file");
        let packs = packs(store.path(), MAX);
        (0..3).for_each(|n| put(&packs, n));
        assert_eq!(there(&packs, 0..3).len(), 3);
        assert_eq!(fs::read(&precious).expect("a file"), b"x");
        assert_eq!(fs::read(folder.join("02.pack")).expect("a file"), b"x");
    }
}
