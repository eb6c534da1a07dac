//! What the directories are that a command line names: run directories, folders of run directories, or neither.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};

use crate::config::{NamedDirectory, WatchConfig};
use crate::ingest::{IDENTITY_FILE, is_foreign_folder};

/// How deep run directories are looked for below a directory, and how many entries are listed on the way.
const DEPTH_MAX: usize = 4;
const ENTRIES_MAX: usize = 200_000;

/// How many entries of a directory are listed to find out whether it is a run directory.
const RUN_ENTRIES_MAX: usize = 10_000;

/// The directories that the daemon is to watch, each once, without links.
///
/// # Errors
/// If one of them is no directory.
pub(super) fn named_directories(paths: &[PathBuf]) -> anyhow::Result<Vec<NamedDirectory>> {
    let mut named: Vec<NamedDirectory> = Vec::new();
    for path in paths {
        let path = directory(path)?;
        if named.iter().all(|named| named.path != path) {
            let depth = depth_of_runs(&path);
            named.push(NamedDirectory { path, depth });
        }
    }
    Ok(named)
}

/// How many levels below a directory its run directories lie, as far as there are any: the least one counts.
fn depth_of_runs(path: &Path) -> usize {
    let watch = WatchConfig::of_run(path.to_owned());
    if is_run_dir(path, &watch) {
        return 0;
    }
    // Too much to look through: they are looked for by the default pattern.
    let below = run_dirs_below(path, &watch).unwrap_or_default();
    below.iter().map(|(_, name)| name.split('/').count()).min().unwrap_or(1)
}

/// The path of a directory, absolute and without links.
///
/// # Errors
/// If it is no directory.
pub(super) fn directory(path: &Path) -> anyhow::Result<PathBuf> {
    let path =
        fs::canonicalize(path).with_context(|| format!("run directory {}", path.display()))?;
    if path.is_dir() {
        return Ok(path);
    }
    let around = path.parent().unwrap_or(Path::new("/")).display().to_string();
    Err(anyhow!(
        "{} is not a directory: name the directory that it lies in, {around}",
        path.display()
    ))
}

/// Whether a directory is a run directory: has a `safelight.json`, or a media log or a dump where the patterns of
/// `watch` say. Loose files do not count.
pub(super) fn is_run_dir(path: &Path, watch: &WatchConfig) -> bool {
    if fs::symlink_metadata(path.join(IDENTITY_FILE)).is_ok_and(|meta| meta.is_file()) {
        return true;
    }
    let mut n_entries = 0;
    let mut folders = VecDeque::from([String::new()]);
    while let Some(folder) = folders.pop_front() {
        for (name, kind) in entries(&path.join(&folder)) {
            n_entries += 1;
            if n_entries > RUN_ENTRIES_MAX {
                return false;
            }
            let inner = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            let is_input =
                || watch.is_log(&inner) || watch.dumps.iter().any(|one| one.read(&inner).is_some());
            if kind.is_dir() && watch.may_lie_below(&inner) {
                folders.push_back(inner);
            } else if kind.is_file() && is_input() {
                return true;
            }
        }
    }
    false
}

/// The run directories below a directory that is none, each with its path from there, in order. Nothing below a run
/// directory is one.
///
/// # Errors
/// If there is too much to look through.
pub(super) fn run_dirs_below(
    path: &Path,
    watch: &WatchConfig,
) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    let mut n_entries = 0;
    let mut folders = VecDeque::from([(String::new(), 0)]);
    while let Some((folder, depth)) = folders.pop_front() {
        for (name, kind) in entries(&path.join(&folder)) {
            n_entries += 1;
            if n_entries > ENTRIES_MAX {
                return Err(anyhow!(
                    "{} has more than {ENTRIES_MAX} files and folders in which run directories may lie: name run \
                     directories",
                    path.display()
                ));
            }
            if !kind.is_dir() || is_foreign_folder(&name) {
                continue;
            }
            let inner = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            let at = path.join(&inner);
            if watch.is_in_store(&at) {
                continue;
            }
            if is_run_dir(&at, &WatchConfig { path: at.clone(), ..watch.clone() }) {
                found.push((at, inner));
            } else if depth + 1 < DEPTH_MAX {
                folders.push_back((inner, depth + 1));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The entries of a folder, hidden ones and links left out. None if it cannot be listed: the engine says so.
fn entries(folder: &Path) -> impl Iterator<Item = (String, fs::FileType)> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let kind = entry.file_type().ok()?;
        (!name.starts_with('.') && !kind.is_symlink()).then_some((name, kind))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_directories_are_found_below_a_folder_and_in_folders_of_experiments() {
        let temp = tempfile::tempdir().expect("a folder");
        for path in [
            "a/train.media.jsonl",
            "b/dumps/val/1.npy",
            "c/safelight.json",
            "exp/seed0/train.media.jsonl",
            "a/inner/dumps/val/1.npy",
            "wandb/run-1/x.media.jsonl",
            ".hidden/x.media.jsonl",
            "empty/notes.txt",
            "loose.npy",
        ] {
            let path = temp.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
            fs::write(path, "{}").expect("a file");
        }
        std::os::unix::fs::symlink("a", temp.path().join("latest")).expect("a link");
        let watch = WatchConfig::of_run(temp.path().to_owned());
        assert!(!is_run_dir(temp.path(), &watch));
        let found = run_dirs_below(temp.path(), &watch).expect("runs");
        let names: Vec<&str> = found.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "exp/seed0"]);
        let named = named_directories(&[temp.path().join("a"), temp.path().to_owned()]);
        let depths =
            |named: Vec<NamedDirectory>| named.iter().map(|it| it.depth).collect::<Vec<_>>();
        assert_eq!(depths(named.expect("directories")), [0, 1]);
        let deep = temp.path().join("deep");
        for name in ["deep/exp/seed0/dumps/val", "deep/empty"] {
            fs::create_dir_all(temp.path().join(name)).expect("folders");
        }
        fs::write(deep.join("exp/seed0/dumps/val/1.npy"), "").expect("a file");
        let named = named_directories(&[deep, temp.path().join("empty")]).expect("directories");
        assert_eq!(depths(named), [2, 1]);
    }
}
