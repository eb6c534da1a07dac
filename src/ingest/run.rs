//! One run directory: its files, its logs, and how records lead to dumps.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::beneath::{Reading, RunDir, Verdict};
use super::opened::LastOpened;
use super::tail::Tail;
use super::watch::Watch;
use crate::config::WatchConfig;
use crate::limits::Limits;
use crate::media::RunId;
use crate::pulse;
use crate::record::pattern::{DumpPath, EXTENSIONS};
use crate::record::{DEPTH_MAX, MediaRecord, depth};
use crate::store::RunInfo;
use crate::store::journal::{Fingerprint, LogCursor, Stamp};

/// What names a run and says what it is.
pub(crate) const IDENTITY_FILE: &str = "safelight.json";

/// The longest `safelight.json`, in bytes.
const IDENTITY_BYTES_MAX: u64 = 1 << 20;

/// How long after a failed look at a log the next one is.
const RETRY: Duration = Duration::from_millis(500);

/// How many unknown fields of a run are told of.
const UNKNOWN_FIELDS_MAX: usize = 100;

/// A run directory that is being read.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) info: Arc<RunInfo>,
    pub(crate) dir: Arc<RunDir>,
    pub(crate) watch: Arc<WatchConfig>,
    pub(crate) tails: Vec<Tail>,
    /// How far the store has read which log.
    cursors: Vec<LogCursor>,
    /// The folders that may hold logs or dumps, by their paths relative to the run directory.
    folders: HashMap<String, Folder>,
    /// Those that can't be listed, and why.
    unlisted: HashMap<String, String>,
    /// Dumps that were looked at, by a hash of their paths: a listing passes them over.
    seen: HashSet<u64>,
    /// The dump that a line named last.
    pub(super) last_opened: LastOpened,
    /// Logs that could not be followed, and why; no reason if one comes before.
    put_off: BTreeMap<String, String>,
    /// Cursors that the store is to be told of: without them a log that is renamed before its next line
    /// is acted on would be taken for none, and a file with the inode of a removed log for that log.
    to_store: Vec<LogCursor>,
    retry_at: Option<Instant>,
    /// Whether it was just taken up.
    is_new: bool,
    /// Unknown fields that were told of.
    unknown_fields: HashSet<String>,
    /// Whether anything of it was handed to the pipeline.
    pub(crate) has_given: bool,
    /// Whether all of it was looked at once.
    pub(crate) is_scanned: bool,
    identity_stamp: Option<Stamp>,
}

#[derive(Debug)]
struct Folder {
    /// The folder's inode and modification time when it was listed last.
    looks: Option<Looks>,
    /// Whether to list it once more: a file that came in the same tick of the clock as the listing
    /// leaves the modification time as it is.
    recheck: bool,
}

/// What tells a folder from another, and from how it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Looks {
    ino: u64,
    mtime: (i64, i64),
    mode: u32,
}

/// How thoroughly to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// At folders that changed.
    Changed,
    /// At everything, also at dumps that were looked at before.
    All,
}

/// What `safelight.json` says.
fn identity(dir: &RunDir) -> Result<(Map<String, Value>, Option<Stamp>), String> {
    let problem = |what: String| format!("{}: {what}", dir.path().join(IDENTITY_FILE).display());
    let file = match dir.open_file(IDENTITY_FILE) {
        Ok(file) => file,
        Err(Verdict::Wait(_)) if dir.stat(IDENTITY_FILE).is_none() => {
            return Ok((Map::new(), None));
        }
        Err(verdict) => {
            return Err(format!("{}: {}", dir.path().display(), verdict.reason()));
        }
    };
    if file.stamp.size > IDENTITY_BYTES_MAX {
        return Err(problem(format!(
            "{} bytes, want at most {IDENTITY_BYTES_MAX}",
            file.stamp.size
        )));
    }
    let stamp = file.stamp;
    let text = io::read_to_string(file.into_file().take(IDENTITY_BYTES_MAX))
        .map_err(|error| problem(error.to_string()))?;
    let identity: Map<String, Value> = serde_json::from_str(&text)
        .map_err(|error| problem(format!("{error}; want one JSON object")))?;
    if identity.values().any(|value| depth(value) > DEPTH_MAX) {
        return Err(problem(format!("nested deeper than {DEPTH_MAX} levels")));
    }
    Ok((identity, Some(stamp)))
}

impl Run {
    /// Opens a run directory. Its id is what `safelight.json` says, else `name`.
    ///
    /// # Errors
    /// If it can't be opened, or `safelight.json` can't be read: a person reads the reason.
    pub(crate) fn open(
        path: &Path,
        name: &str,
        watch: Arc<WatchConfig>,
        reading: Reading,
    ) -> Result<Self, String> {
        // A run that was found below the watched directory is no link, and does not lie behind one.
        let dir = match path.strip_prefix(&watch.path) {
            Ok(inner) if !inner.as_os_str().is_empty() => {
                RunDir::open(&watch.path, reading).and_then(|root| root.open_inner(inner))
            }
            _ => RunDir::open(path, reading),
        };
        let dir = dir.map_err(|error| format!("{}: {error}", path.display()))?;
        let (identity, identity_stamp) = identity(&dir)?;
        // Another name for the directory doesn't make it another one.
        let source = dir.canonical().to_owned();
        let id = match identity.get("id") {
            None | Some(Value::Null) => name,
            Some(Value::String(id)) => id,
            Some(other) => {
                return Err(format!(
                    "{}: id: got {other}, want text",
                    path.join(IDENTITY_FILE).display()
                ));
            }
        };
        let id = RunId::new(id).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self {
            info: Arc::new(RunInfo { id, source, identity }),
            dir: Arc::new(dir),
            watch,
            tails: Vec::new(),
            cursors: Vec::new(),
            folders: HashMap::new(),
            unlisted: HashMap::new(),
            seen: HashSet::new(),
            last_opened: LastOpened::default(),
            put_off: BTreeMap::new(),
            to_store: Vec::new(),
            retry_at: None,
            is_new: true,
            unknown_fields: HashSet::new(),
            has_given: false,
            is_scanned: false,
            identity_stamp,
        })
    }

    /// Sets how far the store has read the run's logs.
    pub(crate) fn set_cursors(&mut self, cursors: Vec<LogCursor>) {
        self.cursors = cursors;
    }

    /// Reads `safelight.json` again if it changed. Whether the run must be taken up anew under
    /// another id: a job makes its directory first and says a moment later what it is.
    pub(crate) fn refresh_identity(&mut self) -> bool {
        let stamp = self.dir.stat(IDENTITY_FILE);
        if stamp == self.identity_stamp {
            return false;
        }
        self.identity_stamp = stamp;
        let run = &self.info.id;
        match identity(&self.dir) {
            Ok((identity, _)) => match identity.get("id").and_then(Value::as_str) {
                Some(id) if id != run.as_str() && self.has_given => {
                    let why = "safelight.json names another id, but items are kept under this one";
                    tracing::error!(%run, id, "{why}");
                }
                Some(id) if id != run.as_str() => return true,
                _ => self.info = Arc::new(RunInfo { identity, ..(*self.info).clone() }),
            },
            Err(error) => tracing::warn!(%run, %error, "safelight.json is not taken up"),
        }
        false
    }

    /// How many folders are known.
    pub(crate) fn n_folders(&self) -> usize {
        self.folders.len()
    }

    /// The folders that are known, relative to the run directory.
    pub(crate) fn folder_names(&self) -> HashSet<String> {
        self.folders.keys().cloned().collect()
    }

    /// The folders that are known, as absolute paths.
    pub(crate) fn folder_paths(&self) -> impl Iterator<Item = std::path::PathBuf> + '_ {
        self.folders.keys().map(|folder| self.dir.path().join(folder))
    }

    /// Looks for new files and adds them to `found`. With `watcher`, every folder is watched before
    /// it is listed.
    ///
    /// # Errors
    /// If the kernel allows no more watches.
    pub(crate) fn scan(
        &mut self,
        look: Look,
        watcher: &mut Option<&mut Watch>,
        found: &mut Vec<String>,
    ) -> io::Result<()> {
        if look == Look::All {
            self.seen.clear();
        }
        if self.folders.is_empty() {
            return self.list("", look, watcher, found);
        }
        let mut folders: Vec<String> = self.folders.keys().cloned().collect();
        folders.sort_unstable();
        for folder in folders {
            pulse::beat();
            let looks = looks(&self.dir.path().join(&folder));
            let Some(known) = self.folders.get(&folder) else { continue };
            if looks.is_none() {
                self.folders.remove(&folder);
                self.unlisted.remove(&folder);
            } else if look == Look::All || known.looks != looks || known.recheck {
                self.list(&folder, look, watcher, found)?;
            }
        }
        Ok(())
    }

    /// Takes a folder, and all below it, for new when it is listed next.
    pub(crate) fn forget_folder(&mut self, folder: &str) {
        let is_below =
            |path: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        self.folders.retain(|path, _| path != folder && !is_below(path));
    }

    /// Takes up a folder, if it may hold anything, and adds what is new in it to `found`; with
    /// [`Look::All`], everything in it.
    ///
    /// # Errors
    /// If the kernel allows no more watches.
    pub(crate) fn list(
        &mut self,
        folder: &str,
        look: Look,
        watcher: &mut Option<&mut Watch>,
        found: &mut Vec<String>,
    ) -> io::Result<()> {
        if !self.may_hold(folder) {
            return Ok(());
        }
        let path = self.dir.path().join(folder);
        // How it looks first: what comes after it is seen by the next look.
        let Some(looks) = looks(&path) else {
            return Ok(());
        };
        let before = self.folders.get(folder).and_then(|known| known.looks);
        if before.is_none_or(|before| before.ino != looks.ino)
            && let Some(watcher) = watcher
        {
            match watcher.add(&path) {
                Err(notify::Error { kind: notify::ErrorKind::PathNotFound, .. }) => return Ok(()),
                Err(notify::Error { kind: notify::ErrorKind::Io(error), .. })
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
                    ) =>
                {
                    tracing::debug!(run = %self.info.id, path = %path.display(), %error, "cannot watch");
                }
                result => result.map_err(io::Error::other)?,
            }
        }
        let recheck = before != Some(looks);
        let (run, shown) = (&self.info.id, path.display());
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                let error = error.to_string();
                if self.unlisted.get(folder) != Some(&error) {
                    tracing::warn!(%run, path = %shown, error, "cannot list, will retry");
                    self.unlisted.insert(folder.to_owned(), error);
                }
                // It looks like nothing, so that the next scan lists it.
                self.folders.insert(folder.to_owned(), Folder { looks: None, recheck });
                return Ok(());
            }
        };
        let was_unlisted = self.unlisted.remove(folder).is_some();
        if was_unlisted {
            tracing::info!(%run, path = %shown, "is listed again");
        }
        // What was found before the rights changed may not have been read.
        let has_other_rights = before.is_some_and(|before| before.mode != looks.mode);
        let look = if was_unlisted || has_other_rights { Look::All } else { look };
        self.folders.insert(folder.to_owned(), Folder { looks: Some(looks), recheck });
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
                continue;
            };
            let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_dir && self.dump_path(&path).is_none() {
                if !self.folders.contains_key(&path) {
                    self.list(&path, look, watcher, found)?;
                }
            } else {
                let is_log = self.is_log(&path) || self.is_rotated_log(entry.ino());
                if is_log || self.dump_of(&path).is_some() && (self.see(&path) || look == Look::All)
                {
                    found.push(path);
                }
            }
        }
        Ok(())
    }

    /// Whether logs or dumps may lie in or below a folder.
    fn may_hold(&self, folder: &str) -> bool {
        folder.is_empty()
            || self.watch.may_have_logs_below(folder)
            || self.watch.dumps.iter().any(|pattern| pattern.may_lie_below(folder))
    }

    /// Notes a path. Whether it is new.
    fn see(&mut self, path: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        self.seen.insert(hasher.finish())
    }

    /// Whether a path is that of a media log.
    pub(crate) fn is_log(&self, path: &str) -> bool {
        self.watch.is_log(path)
    }

    /// Whether a file is a log that was or is read under another name.
    fn is_rotated_log(&self, ino: u64) -> bool {
        self.cursors.iter().any(|cursor| cursor.ino == ino && cursor.head.n_bytes > 0)
            || self.tails.iter().any(|tail| tail.ino == ino)
    }

    /// What a dump's path says of it, if it speaks for itself, or why that can't be.
    pub(crate) fn dump_path(&self, path: &str) -> Option<Result<DumpPath, String>> {
        self.watch.dumps.iter().find_map(|pattern| pattern.read(path))
    }

    /// The dump that a path stands for: itself, or the one that it is a sidecar of.
    pub(crate) fn dump_of(&self, path: &str) -> Option<String> {
        if self.dump_path(path).is_some() {
            return Some(path.to_owned());
        }
        let stem = path.strip_suffix(".json")?;
        let is_there =
            |path: &String| self.dump_path(path).is_some() && self.dir.stat(path).is_some();
        let endings = EXTENSIONS.iter().map(|ending| format!("{stem}.{ending}"));
        std::iter::once(stem.to_owned()).chain(endings).find(is_there)
    }

    /// The sidecar of a dump: its path and what it looks like.
    pub(crate) fn sidecar(&self, dump: &str) -> Option<(String, Stamp)> {
        let stem = dump.rsplit_once('.').map_or(dump, |(stem, _)| stem);
        [format!("{dump}.json"), format!("{stem}.json")]
            .into_iter()
            .find_map(|path| self.dir.stat(&path).map(|stamp| (path, stamp)))
    }

    /// Follows a log, from where the store has read it, unless it is followed already. One that can't
    /// be is put off. Returns the lines that wait in it.
    pub(crate) fn follow(&mut self, path: &str, limits: &Limits, count: bool) -> u64 {
        let stamp = self.dir.stat(path);
        if !self.is_log(path) && !stamp.is_some_and(|stamp| self.is_rotated_log(stamp.ino)) {
            self.put_off.remove(path);
            return 0;
        }
        match self.try_to_follow(path, limits, count) {
            Ok(Some(n_lines)) => {
                self.put_off.remove(path);
                n_lines
            }
            Ok(None) => {
                self.put_off.insert(path.to_owned(), String::new());
                0
            }
            // It was removed meanwhile.
            Err(Verdict::Wait(_)) => {
                self.put_off.remove(path);
                0
            }
            Err(verdict) => {
                let (run, error) = (&self.info.id, verdict.reason());
                if self.is_log(path) && self.put_off.get(path) != Some(&error) {
                    tracing::warn!(%run, %error, "log is not followed");
                }
                self.put_off.insert(path.to_owned(), error);
                0
            }
        }
    }

    /// The same; `None` if it must be tried again.
    fn try_to_follow(
        &mut self,
        path: &str,
        limits: &Limits,
        count: bool,
    ) -> Result<Option<u64>, Verdict> {
        let trouble =
            |error: io::Error| Verdict::Trouble(format!("{path:?} cannot be read: {error}"));
        let file = self.dir.open_file(path)?.into_file();
        let meta = file.metadata().map_err(trouble)?;
        let (dev, ino) = (meta.dev(), meta.ino());
        if let Some(tail) = self.tails.iter_mut().find(|tail| (tail.dev, tail.ino) == (dev, ino)) {
            if tail.path != path {
                path.clone_into(&mut tail.path);
                self.to_store.extend(tail.cursor());
            }
            return Ok(Some(0));
        }
        while let Some(replaced) =
            self.tails.iter().position(|tail| tail.path == path && tail.is_unlinked())
        {
            // Renamed over, as rsync and editors do. What was not read of the old file comes first.
            if !self.tails[replaced].is_drained() {
                return Ok(None);
            }
            let old = self.tails.swap_remove(replaced);
            retire(&mut self.cursors, &mut self.to_store, &old);
        }
        let cursor = self.cursor_of(&file, path, (dev, ino)).cloned();
        if !self.is_log(path) && cursor.is_none() {
            return Ok(Some(0));
        }
        let tail = Tail::open(file, path.to_owned(), cursor.as_ref(), limits.line_bytes_max);
        let mut tail = tail.map_err(trouble)?;
        let n_lines = if count { tail.count_unread_lines().unwrap_or(0) } else { 0 };
        tracing::debug!(run = %self.info.id, path, offset = cursor.as_ref().map_or(0, |c| c.offset), "log is followed");
        self.free_inode((dev, ino), cursor.as_ref());
        match cursor {
            Some(before) => {
                let now = LogCursor { path: path.to_owned(), dev, ino, ..before.clone() };
                self.move_cursor(&before, now);
            }
            None => self.to_store.extend(tail.start()),
        }
        self.tails.push(tail);
        Ok(Some(n_lines))
    }

    /// A log has this inode, and stands at this cursor if it stood anywhere: what else is known by the
    /// inode is of a log that is gone, and may come again under its name.
    fn free_inode(&mut self, id: (u64, u64), own: Option<&LogCursor>) {
        let is_gone = |cursor: &mut LogCursor| {
            (cursor.dev, cursor.ino) == id && Some(&*cursor) != own && !cursor.path.is_empty()
        };
        let gone: Vec<LogCursor> = self.cursors.extract_if(.., is_gone).map(by_content).collect();
        self.to_store.extend(gone.clone());
        self.cursors.extend(gone);
    }

    /// A log has another name or is another file than the store knows. If its file is another, the old
    /// one is gone, and a new one may have its inode soon.
    fn move_cursor(&mut self, before: &LogCursor, now: LogCursor) {
        if *before == now {
            return;
        }
        let id = (before.dev, before.ino);
        self.cursors.retain(|cursor| cursor != before);
        self.cursors.push(now.clone());
        let is_gone = id != (now.dev, now.ino)
            && before.dev != 0
            && self.tails.iter().all(|tail| (tail.dev, tail.ino) != id);
        self.to_store.push(now);
        self.to_store.extend(is_gone.then(|| forgotten(before.dev, before.ino)));
    }

    /// The logs that could not be followed, now and then: the time has come to try again.
    pub(crate) fn put_off(&mut self, now: Instant) -> Vec<String> {
        if self.put_off.is_empty() || self.retry_at.is_some_and(|at| at > now) {
            return Vec::new();
        }
        self.retry_at = Some(now + RETRY);
        self.put_off.keys().cloned().collect()
    }

    /// How far the store has read the log that this file is: the one of the same inode or, since a
    /// copied or newly mounted run directory has other inodes, the one of the same name; if it still
    /// begins as it did, and has the line that was read last. But a log whose name moved on with its
    /// file, which is followed under another name or lies beside, is not the one that stands here now.
    fn cursor_of(&self, file: &File, path: &str, file_id: (u64, u64)) -> Option<&LogCursor> {
        let id = |cursor: &LogCursor| (cursor.dev, cursor.ino);
        // An inode is soon used again: a cursor that doesn't match is that of another file.
        let mut matching: Vec<&LogCursor> =
            self.cursors.iter().filter(|cursor| Tail::matches(file, cursor)).collect();
        matching.sort_by_key(|cursor| cursor.offset);
        let same_file = matching.iter().rfind(|cursor| id(cursor) == file_id);
        let same_name = |cursor: &&&LogCursor| {
            let is_followed = self.tails.iter().any(|tail| tail.is_of(cursor));
            cursor.path == path && !is_followed && !self.lies_beside(path, cursor, file_id)
        };
        same_file.or_else(|| matching.iter().rfind(same_name)).copied()
    }

    /// Whether the file that a cursor stands for lies in the same folder, under another name.
    fn lies_beside(&self, path: &str, cursor: &LogCursor, file_id: (u64, u64)) -> bool {
        if cursor.dev != file_id.0 || cursor.ino == file_id.1 {
            return false;
        }
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let entries = fs::read_dir(self.dir.path().join(folder)).into_iter().flatten().flatten();
        entries.filter(|entry| entry.ino() == cursor.ino).any(|entry| {
            let name = entry.file_name();
            let beside = name.to_str().map(|name| match folder {
                "" => name.to_owned(),
                _ => format!("{folder}/{name}"),
            });
            let file = beside.and_then(|beside| self.dir.open_file(&beside).ok());
            file.is_some_and(|file| Tail::matches(&file.into_file(), cursor))
        })
    }

    /// Reads on in all logs. Whether there are lines to act on, and whether anything was read.
    pub(crate) fn poll_logs(&mut self, now: Instant) -> (bool, bool) {
        self.forget_inodes();
        let run = &self.info.id;
        let mut has_read = false;
        self.tails.retain_mut(|tail| {
            // What was read is acted on first. A line waits from when it was there, not from when it is
            // read.
            if tail.front().is_some() {
                tail.note_growth(now);
                return true;
            }
            match tail.poll(now) {
                Ok(polled) => {
                    if polled.restarted {
                        tracing::info!(%run, path = tail.path, "log was cut off or written anew, it is read from its start");
                    }
                    if tail.trouble.take().is_some() {
                        tracing::info!(%run, path = tail.path, "log can be read again");
                    }
                    has_read |= polled.n_bytes > 0;
                    self.to_store.extend(if polled.n_bytes > 0 { tail.start() } else { None });
                    if polled.is_gone {
                        retire(&mut self.cursors, &mut self.to_store, tail);
                        self.retry_at = None;
                    }
                    !polled.is_gone
                }
                Err(error) => {
                    let error = error.to_string();
                    if tail.trouble.as_ref() != Some(&error) {
                        tracing::warn!(%run, path = tail.path, error, "cannot read log");
                        tail.trouble = Some(error);
                    }
                    true
                }
            }
        });
        (self.tails.iter().any(|tail| tail.front().is_some()), has_read)
    }

    /// Once everything was looked at: a log that isn't there any more keeps no inode, which may be that
    /// of another file soon.
    fn forget_inodes(&mut self) {
        let is_all_seen = self.put_off.is_empty() && self.unlisted.is_empty();
        if !self.is_new || self.folders.is_empty() || !is_all_seen {
            return;
        }
        self.is_new = false;
        let cursors = std::mem::take(&mut self.cursors);
        // One that was renamed between the listing and the look at what was found is followed under no
        // name yet: its inode is all that will tell that it is a log.
        let is_here = |cursor: &LogCursor| {
            cursor.dev == 0
                || cursor.path.is_empty()
                || self.tails.iter().any(|tail| tail.is_of(cursor))
                || self.lies_beside(&cursor.path, cursor, (cursor.dev, 0))
        };
        let (here, gone): (Vec<_>, Vec<_>) = cursors.into_iter().partition(is_here);
        self.cursors = here;
        for cursor in gone {
            let is_taken =
                self.tails.iter().any(|tail| (tail.dev, tail.ino) == (cursor.dev, cursor.ino));
            let forgotten = (!is_taken).then(|| forgotten(cursor.dev, cursor.ino));
            let by_content = by_content(cursor);
            self.cursors.push(by_content.clone());
            self.to_store.push(by_content);
            self.to_store.extend(forgotten);
        }
    }

    /// The cursors that the store is to be told of.
    pub(crate) fn take_to_store(&mut self) -> Vec<LogCursor> {
        std::mem::take(&mut self.to_store)
    }

    /// Fields that this version doesn't know are kept with the item, and told of once for each run.
    pub(crate) fn tell_unknown_fields(&mut self, place: &str, record: &MediaRecord) {
        for field in record.description.extra.keys() {
            if self.unknown_fields.len() < UNKNOWN_FIELDS_MAX
                && self.unknown_fields.insert(field.clone())
            {
                let run = &self.info.id;
                tracing::warn!(%run, place, field, "unknown field is kept with the item and has no effect");
            }
        }
    }
}

/// A log's file is gone. Another file that takes its name may be the same log (rsync and editors write
/// a new file and rename it), which its content tells; but one that takes its inode is not.
fn retire(cursors: &mut Vec<LogCursor>, to_store: &mut Vec<LogCursor>, gone: &Tail) {
    let by_content = gone.cursor().map(by_content);
    let id = |cursor: &LogCursor| (cursor.dev, cursor.ino);
    cursors.retain(|cursor| id(cursor) != (gone.dev, gone.ino));
    cursors.retain(|cursor| by_content.as_ref().is_none_or(|new| id(new) != id(cursor)));
    cursors.extend(by_content.clone());
    if gone.is_known() {
        to_store.extend(by_content);
        to_store.push(forgotten(gone.dev, gone.ino));
    }
}

/// The same place in a log, told by its name and content alone: its inode means nothing any more.
fn by_content(cursor: LogCursor) -> LogCursor {
    let mut hasher = DefaultHasher::new();
    cursor.path.hash(&mut hasher);
    LogCursor { dev: 0, ino: hasher.finish(), ..cursor }
}

/// A cursor that says nothing of an inode: it takes the place of one that did.
fn forgotten(dev: u64, ino: u64) -> LogCursor {
    let nothing = Fingerprint::of(b"");
    LogCursor {
        path: String::new(),
        dev,
        ino,
        offset: 0,
        line: 0,
        head: nothing.clone(),
        tail: nothing,
    }
}

fn looks(path: &Path) -> Option<Looks> {
    let meta = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_dir)?;
    Some(Looks { ino: meta.ino(), mtime: (meta.mtime(), meta.mtime_nsec()), mode: meta.mode() })
}

#[cfg(test)]
mod log_model;
