//! The folders that lines of a run name files in.
//!
//! A dump in such a folder belongs to a line that was read or that follows, so it is not passed over. Outside of the
//! folders of the pattern for dumps, only the first part of each path counts: `a` of `a/b/c.npy`, and the run directory
//! itself of `c.npy`. Within them, the whole folder counts: a line that names `dumps/a.npy` says nothing of
//! `dumps/val/b.npy`.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;

use crate::ingest::run_files::RunFiles;

/// Folders that are kept. If lines name more, all folders count as named.
const FOLDERS_MAX: usize = 1000;

/// Parts of a log that are read, spread over all of it, and bytes of each part.
const N_PARTS: u64 = 32;
const PART_BYTES: usize = 8 << 10;

/// The folders of the files that lines of a run name.
#[derive(Debug, Default)]
pub(crate) struct NamedFolders {
    /// First parts of their paths.
    tops: BTreeSet<String>,
    /// Folders of the pattern for dumps.
    folders: BTreeSet<String>,
    has_too_many: bool,
}

/// The first folder of a path, or `""` for a file of the run directory itself.
pub(super) fn top_of_file(path: &str) -> &str {
    path.split_once('/').map_or("", |(top, _)| top)
}

/// The folder of a file, or `""` for the run directory itself.
fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The first folder of a folder's path.
pub(super) fn top_of_folder(folder: &str) -> &str {
    folder.split_once('/').map_or(folder, |(top, _)| top)
}

impl NamedFolders {
    /// Notes that a line names a file.
    pub(crate) fn note(&mut self, files: &RunFiles, name: &str) {
        if self.has_too_many {
            return;
        }
        // Most lines name a file of the same folder as the line before.
        let is_known = self.folders.contains(folder_of(name))
            || self.tops.contains(top_of_file(name)) && !files.is_in_dump_folder(folder_of(name));
        if is_known && !name.starts_with(['.', '/']) {
            return;
        }
        let Ok(path) = files.dir().relative(name) else { return };
        self.tops.insert(top_of_file(&path).to_owned());
        if files.is_in_dump_folder(folder_of(&path)) {
            self.folders.insert(folder_of(&path).to_owned());
        }
        self.has_too_many = self.tops.len().max(self.folders.len()) > FOLDERS_MAX;
    }

    /// Whether lines name files in this first folder.
    pub(super) fn has_top(&self, top: &str) -> bool {
        self.has_too_many || self.tops.contains(top)
    }

    /// Whether lines name files by which the dumps of this folder are explained.
    pub(super) fn explains(&self, files: &RunFiles, folder: &str) -> bool {
        if files.is_in_dump_folder(folder) {
            self.has_too_many || self.folders.contains(folder)
        } else {
            self.has_top(top_of_folder(folder))
        }
    }

    /// Notes what some lines of a log name, from all parts of it. Lines that were read before a restart are not read
    /// again, so this finds their folders.
    pub(super) fn note_some_of(&mut self, files: &RunFiles, log: &str) {
        let Ok(file) = files.dir().open_file(log) else { return };
        let n_bytes = file.stamp().size;
        let file = file.into_file();
        let mut part = vec![0; PART_BYTES];
        let n_parts = (n_bytes / PART_BYTES as u64 + 1).min(N_PARTS);
        let last = n_bytes.saturating_sub(PART_BYTES as u64);
        for i in 0..n_parts {
            let offset =
                if n_parts < N_PARTS { i * PART_BYTES as u64 } else { last / (N_PARTS - 1) * i };
            let Ok(n) = file.read_at(&mut part, offset) else { return };
            // Whatever is between two quotes: the first and the last line of a part are cut off, as a rule.
            let texts =
                part[..n].split(|byte| *byte == b'"').filter_map(|text| str::from_utf8(text).ok());
            texts.filter(|text| may_be_path(text)).for_each(|path| self.note(files, path));
        }
    }
}

/// Whether a text may be the path of a file: it has a suffix, and nothing that stands between texts in JSON.
fn may_be_path(text: &str) -> bool {
    let has_suffix = text
        .rsplit_once('.')
        .is_some_and(|(_, suffix)| suffix.starts_with(|c: char| c.is_ascii_alphabetic()));
    let between = |c: char| c.is_whitespace() || "{}[]:,".contains(c);
    has_suffix && !text.contains(between)
}
