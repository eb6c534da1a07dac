//! Looks through the folders of a run that no pattern reaches.
//!
//! A scan lists only folders that may hold logs or dumps. The survey lists the others, up to bounds, without watching
//! them: seldom, and never in a folder that log lines name, or that belongs to another tool.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, FileExt};

use super::classify::{Guess, guess, is_foreign_folder, note, note_of_log};
use super::findings::FolderFindings;
use super::kind::PassedOverKind;
use super::named::{NamedFolders, top_of_folder};
use crate::ingest::folders::Folders;
use crate::ingest::logs::LogFollower;
use crate::ingest::run_files::RunFiles;
use crate::pulse;

/// Bounds of one survey of a run.
const FOLDERS_MAX: usize = 512;
const ENTRIES_MAX: usize = 20_000;
const DEPTH_MAX: usize = 8;

/// Files that are looked into in one survey because they may be media logs, and the bytes of each.
const LOGS_MAX: usize = 16;
const LOG_BYTES: usize = 4 << 10;

/// One survey of a run directory.
pub(super) struct Survey<'a> {
    pub(super) files: &'a RunFiles,
    pub(super) folders: &'a Folders,
    pub(super) logs: &'a LogFollower,
    pub(super) named: &'a NamedFolders,
}

/// What a survey has left to do, and what it found.
struct Walk {
    /// Folders to list, each with its depth.
    queue: VecDeque<(String, usize)>,
    n_folders: usize,
    n_entries: usize,
    n_logs: usize,
    found: BTreeMap<String, FolderFindings>,
}

impl Survey<'_> {
    /// Lists the folders that no pattern reaches, and looks into files that may be media logs.
    pub(super) fn walk(&self) -> BTreeMap<String, FolderFindings> {
        let mut walk = Walk {
            queue: VecDeque::new(),
            n_folders: 0,
            n_entries: 0,
            n_logs: 0,
            found: BTreeMap::new(),
        };
        for (folder, findings) in self.folders.findings() {
            self.follow(folder, findings, 0, &mut walk);
        }
        while let Some((folder, depth)) = walk.queue.pop_front() {
            pulse::beat();
            let findings = self.list(&folder, &mut walk);
            self.follow(&folder, &findings, depth, &mut walk);
            if !findings.is_empty() {
                walk.found.entry(folder).or_default().merge(&findings);
            }
        }
        walk.found
    }

    /// Queues the folders in a folder, and looks into its files that may be logs.
    fn follow(&self, folder: &str, findings: &FolderFindings, depth: usize, walk: &mut Walk) {
        let mut n_skipped = 0;
        for name in findings.outside.iter() {
            let path = join(folder, name);
            if self.named.has_top(top_of_folder(&path)) {
                continue;
            }
            let is_within = depth < DEPTH_MAX && walk.n_folders < FOLDERS_MAX;
            if is_within {
                walk.n_folders += 1;
                walk.queue.push_back((path, depth + 1));
            } else {
                n_skipped += 1;
                walk.not_examined(folder, name, "too deep, or one of too many folders");
            }
        }
        if findings.outside.n_more() > 0
            && n_skipped == 0
            && !self.named.has_top(top_of_folder(folder))
        {
            walk.not_examined(folder, "", "has too many folders to look through all");
        }
        for name in findings.logs.iter() {
            let path = join(folder, name);
            if walk.n_logs < LOGS_MAX {
                walk.n_logs += 1;
                if self.is_media_log(&path) {
                    let found = walk.found.entry(folder.to_owned()).or_default();
                    found.add(PassedOverKind::Log, name, || note_of_log(self.files, &path));
                }
            }
        }
    }

    fn list(&self, folder: &str, walk: &mut Walk) -> FolderFindings {
        let mut findings = FolderFindings::default();
        let (parent, name) = folder.rsplit_once('/').unwrap_or(("", folder));
        let entries = match fs::read_dir(self.files.dir().path().join(folder)) {
            Ok(entries) => entries,
            Err(error) => {
                if error.kind() != std::io::ErrorKind::NotFound {
                    let found = walk.found.entry(parent.to_owned()).or_default();
                    found.add(PassedOverKind::Unlisted, name, || error.to_string());
                }
                return findings;
            }
        };
        for entry in entries.map_while(Result::ok) {
            if walk.n_entries >= ENTRIES_MAX {
                walk.not_examined(parent, name, "has too many files");
                break;
            }
            walk.n_entries += 1;
            let is_log = self.logs.knows_inode(entry.ino());
            if !is_log {
                note_entry(&entry, folder, self.files, &mut findings);
            }
        }
        findings
    }

    /// Whether a file begins like a media log.
    fn is_media_log(&self, path: &str) -> bool {
        let Ok(file) = self.files.dir().open_file(path) else { return false };
        let mut begin = vec![0; LOG_BYTES];
        let n = file.into_file().read_at(&mut begin, 0).unwrap_or(0);
        let begin = String::from_utf8_lossy(&begin[..n]);
        let has = |field: &str| begin.contains(field);
        begin.starts_with('{') && has("\"key\"") && has("\"step\"") && has("\"data\"")
    }
}

impl Walk {
    fn not_examined(&mut self, folder: &str, name: &str, why: &str) {
        let found = self.found.entry(folder.to_owned()).or_default();
        found.add(PassedOverKind::NotExamined, name, || why.to_owned());
    }
}

/// Notes an entry of a folder that is neither a log nor a dump.
pub(crate) fn note_entry(
    entry: &fs::DirEntry,
    folder: &str,
    files: &RunFiles,
    findings: &mut FolderFindings,
) {
    let name = entry.file_name();
    let Some(name) = name.to_str() else {
        if !name.as_bytes().starts_with(b".") {
            let shown = name.as_bytes().escape_ascii().to_string();
            findings.add(PassedOverKind::NotUtf8, &shown, String::new);
        }
        return;
    };
    if name.starts_with('.') {
        return;
    }
    let Ok(kind) = entry.file_type() else { return };
    if kind.is_symlink() {
        findings.add(PassedOverKind::Link, name, || target_of(&entry.path()));
    } else if kind.is_dir() {
        if !is_foreign_folder(name) && !files.is_in_store(&join(folder, name)) {
            findings.add_outside(name);
        }
    } else if kind.is_file() {
        note_file(&join(folder, name), files, findings);
    } else if files.is_log(&join(folder, name)) {
        findings.add(PassedOverKind::Special, name, String::new);
    }
}

/// Notes a regular file that is neither a log nor a dump.
pub(crate) fn note_file(path: &str, files: &RunFiles, findings: &mut FolderFindings) {
    let name = path.rsplit('/').next().unwrap_or(path);
    match guess(files, path) {
        Some(Guess::Missed(PassedOverKind::Dump))
            if findings.has_only_annotations() || files.is_annotation(path) =>
        {
            findings.note_annotation();
        }
        Some(Guess::Missed(kind)) => findings.add(kind, name, || note(files, kind, path)),
        Some(Guess::MayBeLog) => findings.add_log(name),
        None => {}
    }
}

/// Where a link leads, as an arrow.
pub(crate) fn target_of(link: &std::path::Path) -> String {
    fs::read_link(link).map_or_else(|error| error.to_string(), |to| format!("-> {}", to.display()))
}

/// The path of a name in a folder. Without a name, the folder.
pub(crate) fn join(folder: &str, name: &str) -> String {
    match (folder, name) {
        ("", name) => name.to_owned(),
        (folder, "") => folder.to_owned(),
        (folder, name) => format!("{folder}/{name}"),
    }
}
