//! The folders of a run directory, and what is new in them.
//!
//! | module | its one job |
//! | --- | --- |
//! | `watcher` | receives the kernel's events about folders, and gathers them as hints |

mod watcher;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::Path;

use self::watcher::WatchError;
pub(crate) use self::watcher::{Arrival, FolderWatcher};
use super::logs::LogFollower;
use super::passed_over::{FolderFindings, note_entry, note_file};
use super::run_files::RunFiles;
use crate::media::RunId;
use crate::pulse;

/// Folders with examples of what is passed over in them. Of the others only counts are kept.
const EXAMPLE_FOLDERS_MAX: usize = 64;

/// A part of a scan ends with the folder in which it has found this many files. Their names are in memory at once.
const FOUND_AT_ONCE: usize = 4096;

/// The folders of a run directory that may hold logs or dumps, by their paths relative to it.
#[derive(Debug, Default)]
pub(crate) struct Folders {
    known: BTreeMap<String, Folder>,
    /// Folders that cannot be listed, and why.
    unlisted: BTreeMap<String, String>,
    /// What is passed over in each folder, where there is anything.
    findings: BTreeMap<String, FolderFindings>,
    /// Whether `unlisted` or `findings` have changed since this was asked.
    has_new_findings: bool,
    /// Hashes of the paths of dumps that were listed before: a listing skips them.
    seen: HashSet<u64>,
}

/// The run whose folders are listed.
#[derive(Clone, Copy)]
pub(crate) struct ListedRun<'a> {
    pub(crate) id: &'a RunId,
    pub(crate) files: &'a RunFiles,
    pub(crate) logs: &'a LogFollower,
}

#[derive(Debug, Default)]
struct Folder {
    /// What the folder looked like when it was listed last. `None` if it was not.
    looks: Option<Looks>,
    /// Whether to list it once more. A file that is created in the same tick of the clock as the listing
    /// leaves the modification time as it is.
    recheck: bool,
}

/// What a folder looks like: it changes if the folder has new files or is another folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Looks {
    ino: u64,
    mtime: (i64, i64),
    mode: u32,
}

/// How thorough a scan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// List folders that changed, and skip dumps that were listed before.
    Changed,
    /// List everything.
    All,
}

impl Folders {
    /// The number of known folders.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// The paths of the known folders, relative to the run directory.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(String::as_str)
    }

    /// Whether every folder could be listed, and one was.
    pub(crate) fn are_all_listed(&self) -> bool {
        !self.known.is_empty() && self.unlisted.is_empty()
    }

    /// What is passed over in the folders, by their paths.
    pub(crate) fn findings(&self) -> impl Iterator<Item = (&String, &FolderFindings)> {
        self.findings.iter()
    }

    /// The folders that cannot be listed, and why.
    pub(crate) fn unlisted(&self) -> impl Iterator<Item = (&str, &str)> {
        self.unlisted.iter().map(|(folder, error)| (folder.as_str(), error.as_str()))
    }

    /// Whether findings have changed since the last call.
    pub(crate) fn take_has_new_findings(&mut self) -> bool {
        std::mem::take(&mut self.has_new_findings)
    }

    fn set_findings(&mut self, folder: &str, mut findings: FolderFindings) {
        if findings.is_empty() {
            self.has_new_findings |= self.findings.remove(folder).is_some();
            return;
        }
        if self.findings.len() >= EXAMPLE_FOLDERS_MAX && !self.findings.contains_key(folder) {
            findings.drop_examples();
        }
        if self.findings.get(folder) != Some(&findings) {
            self.findings.insert(folder.to_owned(), findings);
            self.has_new_findings = true;
        }
    }

    fn forget_findings(&mut self, folder: &str) {
        let had_error = self.unlisted.remove(folder).is_some();
        self.has_new_findings |= self.findings.remove(folder).is_some() || had_error;
    }

    fn set_unlisted(&mut self, run: &RunId, path: &Path, folder: &str, error: &io::Error) {
        let error = error.to_string();
        if self.unlisted.get(folder) != Some(&error) {
            let shown = path.display();
            tracing::warn!(%run, error, path = %shown, "cannot list folder, will retry");
            self.unlisted.insert(folder.to_owned(), error);
            self.has_new_findings = true;
        }
    }

    /// Forgets a folder and its descendants, so that the next listing treats them as new.
    fn forget(&mut self, folder: &str) {
        self.known.retain(|path, _| path != folder && !is_below(folder, path));
        let n_before = self.findings.len() + self.unlisted.len();
        self.findings.retain(|path, _| path != folder && !is_below(folder, path));
        self.unlisted.retain(|path, _| path != folder && !is_below(folder, path));
        self.has_new_findings |= self.findings.len() + self.unlisted.len() < n_before;
    }

    /// Looks for new files in folders after `last`, or from the first one on, and adds their paths to `found`. Sets
    /// `last` to the last folder that was looked at. Returns whether it was the last of all. With a `watcher`, each
    /// folder is watched before it is listed.
    ///
    /// # Errors
    /// If the kernel allows no more watches. The next call goes on in the folder where they ended.
    pub(crate) fn scan_some(
        &mut self,
        run: ListedRun<'_>,
        look: Look,
        last: &mut Option<String>,
        watcher: &mut Option<&mut FolderWatcher>,
        found: &mut Vec<String>,
    ) -> io::Result<bool> {
        if last.is_none() && look == Look::All {
            self.seen.clear();
        }
        if self.known.is_empty() {
            self.known.insert(String::new(), Folder::default());
        }
        while found.len() < FOUND_AT_ONCE {
            let Some(folder) = self.next(last.as_deref()) else { return Ok(true) };
            let looks = looks_of(&run.files.dir().path().join(&folder));
            let known = self.known.get(&folder);
            if looks.is_none() {
                self.known.remove(&folder);
                self.forget_findings(&folder);
            } else if look == Look::All
                || known.is_none_or(|known| known.looks != looks || known.recheck)
            {
                self.list_known(run, &folder, look, watcher, found)?;
            }
            *last = Some(folder);
        }
        Ok(false)
    }

    /// Lists a new folder, and all folders in it. Adds the paths of all files to `found`. What was known of a folder of
    /// this name is forgotten.
    ///
    /// # Errors
    /// If the kernel allows no more watches.
    pub(crate) fn scan_new(
        &mut self,
        run: ListedRun<'_>,
        folder: &str,
        watcher: &mut Option<&mut FolderWatcher>,
        found: &mut Vec<String>,
    ) -> io::Result<()> {
        self.forget(folder);
        self.known.insert(folder.to_owned(), Folder::default());
        let mut next = Some(folder.to_owned());
        while let Some(path) = next.filter(|path| path.starts_with(folder)) {
            // Of the folders with such a name, those that were not listed are this one and those in it.
            if self.known.get(&path).is_some_and(|known| known.looks.is_none()) {
                self.list_known(run, &path, Look::All, watcher, found)?;
            }
            next = self.next(Some(&path));
        }
        Ok(())
    }

    /// The known folder after another one. A folder comes before those in it.
    fn next(&self, last: Option<&str>) -> Option<String> {
        pulse::beat();
        let after = last.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.known.range::<str, _>((after, Bound::Unbounded)).next();
        next.map(|(folder, _)| folder.clone())
    }

    /// Lists a folder, and forgets it if that is not possible and no error says why.
    fn list_known(
        &mut self,
        run: ListedRun<'_>,
        folder: &str,
        look: Look,
        watcher: &mut Option<&mut FolderWatcher>,
        found: &mut Vec<String>,
    ) -> io::Result<()> {
        self.list(run, folder, look, watcher, found)?;
        let is_listed = self.known.get(folder).is_some_and(|known| known.looks.is_some());
        if !is_listed && !self.unlisted.contains_key(folder) {
            self.known.remove(folder);
        }
        Ok(())
    }

    /// Lists a folder that may hold logs or dumps. Adds the paths of new files to `found`, or of all files with
    /// [`Look::All`]. Folders in it that are new become known, and are listed later.
    ///
    /// # Errors
    /// If the kernel allows no more watches.
    fn list(
        &mut self,
        run: ListedRun<'_>,
        folder: &str,
        look: Look,
        watcher: &mut Option<&mut FolderWatcher>,
        found: &mut Vec<String>,
    ) -> io::Result<()> {
        let ListedRun { id: run, files, logs } = run;
        if !files.may_lie_below(folder) {
            return Ok(());
        }
        let path = files.dir().path().join(folder);
        let shown = path.display();
        // Taken before the listing, so that a change during the listing shows in the next scan.
        let Some(looks) = looks_of(&path) else {
            return Ok(());
        };
        let before = self.known.get(folder).and_then(|known| known.looks);
        if before.is_none_or(|before| before.ino != looks.ino)
            && let Some(watcher) = watcher
        {
            match watcher.add(&path) {
                Ok(()) => {}
                Err(WatchError::Gone) => return Ok(()),
                Err(WatchError::Unreadable(error)) => {
                    tracing::debug!(%run, %error, path = %shown, "cannot watch folder");
                }
                Err(WatchError::Other(error)) => return Err(error),
            }
        }
        let recheck = before != Some(looks);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                self.set_unlisted(run, &path, folder, &error);
                // Without looks, the next scan lists it.
                self.known.insert(folder.to_owned(), Folder { looks: None, recheck });
                return Ok(());
            }
        };
        let was_unlisted = self.unlisted.remove(folder).is_some();
        if was_unlisted {
            self.has_new_findings = true;
            tracing::info!(%run, path = %shown, "folder can be listed again");
        }
        // Files that were found before the permissions changed may not have been readable.
        let has_new_mode = before.is_some_and(|before| before.mode != looks.mode);
        let look = if was_unlisted || has_new_mode { Look::All } else { look };
        self.known.insert(folder.to_owned(), Folder { looks: Some(looks), recheck });
        let mut findings = FolderFindings::default();
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    // What follows is unknown. Without looks, the next scan lists the folder again.
                    self.set_unlisted(run, &path, folder, &error);
                    self.known.insert(folder.to_owned(), Folder { looks: None, recheck });
                    break;
                }
            };
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                note_entry(&entry, folder, files, &mut findings);
                continue;
            };
            if name.starts_with('.') {
                continue;
            }
            let kind = entry.file_type().ok();
            let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            let is_dir = kind.is_some_and(|kind| kind.is_dir());
            if is_dir && files.dump_path(&path).is_none() {
                if files.may_lie_below(&path) {
                    self.known.entry(path).or_default();
                } else {
                    note_entry(&entry, folder, files, &mut findings);
                }
                continue;
            }
            let is_log = files.is_log(&path) || logs.knows_inode(entry.ino());
            let is_file = kind.is_some_and(|kind| kind.is_file());
            // A link in the place of a dump becomes a rejected item.
            let is_dump = !is_log && files.dump_of(&path).is_some();
            if is_file && !is_log && !is_dump {
                note_file(&path, files, &mut findings);
            } else if !is_file && !is_dump {
                note_entry(&entry, folder, files, &mut findings);
            }
            if is_log || is_dump && (self.see(&path) || look == Look::All) {
                found.push(path);
            }
        }
        self.set_findings(folder, findings);
        Ok(())
    }

    /// Notes a path. Returns whether it is new.
    fn see(&mut self, path: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        self.seen.insert(hasher.finish())
    }
}

/// Whether a path lies in a folder.
fn is_below(folder: &str, path: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

fn looks_of(path: &Path) -> Option<Looks> {
    let meta = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_dir)?;
    Some(Looks { ino: meta.ino(), mtime: (meta.mtime(), meta.mtime_nsec()), mode: meta.mode() })
}
