//! Finds the run directories in a watched directory.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Root;
use crate::ingest::folders::FolderWatcher;
use crate::ingest::passed_over::{PassedOverKind, Summary, join, target_of};

impl Root {
    /// Finds the run directories, each with its name.
    pub(in crate::ingest::watching) fn find_runs(
        &mut self,
        watcher: &mut Option<&mut FolderWatcher>,
    ) -> Vec<(PathBuf, String)> {
        let path = self.watch.path.clone();
        if self.watch.runs.is_none() {
            let of_folder = || {
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                name.unwrap_or_else(|| "run".to_owned())
            };
            let name = self.watch.name.clone().unwrap_or_else(of_folder);
            let is_read = path.is_dir() && !self.watch.is_in_store(&path);
            return if is_read { vec![(path, name)] } else { Vec::new() };
        }
        self.outside_runs = Summary::default();
        self.unlisted.retain(|folder, _| path.join(folder).is_dir());
        // A run that was removed has no problem any more.
        self.problems.retain(|path, _| path.symlink_metadata().is_ok());
        let mut found = Vec::new();
        self.find_runs_in("", watcher, &mut found);
        found.sort();
        found
    }

    /// Finds the run directory that a path lies in, or those below it.
    pub(in crate::ingest::watching) fn find_runs_near(
        &mut self,
        path: &Path,
        watcher: &mut Option<&mut FolderWatcher>,
    ) -> Vec<(PathBuf, String)> {
        let mut found = Vec::new();
        let inner = path.strip_prefix(&self.watch.path).ok().and_then(Path::to_str);
        let (Some(pattern), Some(inner)) = (self.watch.runs.clone(), inner) else {
            return self.find_runs(watcher);
        };
        let mut folder = String::new();
        for part in inner.split('/').filter(|part| !part.is_empty()) {
            folder = join(&folder, part);
            let at = self.watch.path.join(&folder);
            let is_dir = at.symlink_metadata().is_ok_and(|meta| meta.is_dir());
            if !is_dir || part.starts_with('.') || self.watch.is_in_store(&at) {
                return found;
            }
            if pattern.is_match(&folder) {
                found.push((at, folder));
                return found;
            }
            if !pattern.may_lie_below(&folder) {
                return found;
            }
        }
        self.find_runs_in(&folder, watcher, &mut found);
        found.sort();
        found
    }

    fn find_runs_in(
        &mut self,
        folder: &str,
        watcher: &mut Option<&mut FolderWatcher>,
        found: &mut Vec<(PathBuf, String)>,
    ) {
        let Some(pattern) = self.watch.runs.clone() else {
            return;
        };
        let path = self.watch.path.join(folder);
        let Ok(ino) = fs::symlink_metadata(&path).map(|meta| meta.ino()) else {
            self.folders.remove(&path);
            return;
        };
        let is_new = self.folders.insert(path.clone(), ino) != Some(ino);
        if let Some(watcher) = watcher
            && is_new
            && let Err(error) = watcher.add(&path)
            && path.is_dir()
        {
            self.poll_because(&error.to_string());
        }
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) => {
                self.note_unlisted(folder, &error);
                return;
            }
        };
        self.unlisted.remove(folder);
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.note_unlisted(folder, &error);
                    return;
                }
            };
            let Ok(kind) = entry.file_type() else { continue };
            let name = entry.file_name();
            if name.as_bytes().starts_with(b".") {
                continue;
            }
            let Some(name) = name.to_str() else {
                let shown = name.as_bytes().escape_ascii().to_string();
                self.outside_runs.add_one(PassedOverKind::NotUtf8, &join(folder, &shown), "");
                continue;
            };
            let inner = join(folder, name);
            if self.watch.is_in_store(&entry.path()) {
                continue;
            }
            let is_run = pattern.is_match(&inner);
            if kind.is_symlink() {
                if is_run || pattern.may_lie_below(&inner) {
                    let target = target_of(&entry.path());
                    self.outside_runs.add_one(PassedOverKind::Link, &inner, &target);
                }
            } else if is_run && kind.is_dir() {
                found.push((entry.path(), inner));
            } else if kind.is_dir() && pattern.may_lie_below(&inner) {
                self.find_runs_in(&inner, watcher, found);
            } else if kind.is_file() {
                self.note_file_outside_runs(&inner);
            }
        }
    }

    fn note_unlisted(&mut self, folder: &str, error: &io::Error) {
        if error.kind() == io::ErrorKind::NotFound {
            return;
        }
        let error = error.to_string();
        if self.unlisted.get(folder) != Some(&error) {
            let path = self.watch.path.join(folder);
            tracing::warn!(error, path = %path.display(), "cannot list folder, will retry");
            self.unlisted.insert(folder.to_owned(), error);
        }
    }

    /// Notes a file beside the runs that has the name of a media log, or the path of a dump.
    fn note_file_outside_runs(&mut self, path: &str) {
        let is_dump = || self.watch.dumps.iter().any(|pattern| pattern.read(path).is_some());
        let kind = if self.watch.is_log(path.rsplit('/').next().unwrap_or(path)) {
            PassedOverKind::Log
        } else if matches!(path.rsplit('.').next(), Some("npy" | "npz")) || is_dump() {
            PassedOverKind::Dump
        } else {
            return;
        };
        let note = "lies outside of the runs; if its folder is a run, change `runs` in [[watch]]";
        self.outside_runs.add_one(kind, path, note);
    }
}
