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

/// Directories that a command line names, and what in them is not read, for people.
#[derive(Debug, Default)]
pub(super) struct NamedDirectories {
    /// Each once, without links.
    pub(super) directories: Vec<NamedDirectory>,
    pub(super) warnings: Vec<String>,
}

impl NamedDirectories {
    /// The directories that the daemon is to watch, beside the sections of its configuration.
    ///
    /// # Errors
    /// If one of them is no directory.
    pub(super) fn of(paths: &[PathBuf], configured: &[WatchConfig]) -> anyhow::Result<Self> {
        let mut named = Self::default();
        for path in paths {
            let path = directory(path)?;
            if named.directories.iter().all(|named| named.path != path) {
                let depth = named.depth_of_runs(&path, configured);
                named.directories.push(NamedDirectory { path, depth });
            }
        }
        Ok(named)
    }

    /// How many levels below a directory its run directories lie: the first level that has any, else 1. Warns of run
    /// directories that lie deeper, because one pattern chooses those of one level. A section of this directory has a
    /// pattern of its own.
    fn depth_of_runs(&mut self, path: &Path, configured: &[WatchConfig]) -> usize {
        let watch = NamedDirectory::watch_of_run(path, configured);
        if is_run_dir(path, &watch) {
            return 0;
        }
        if NamedDirectory::section(path, configured).is_some() {
            return 1;
        }
        // Too much to look through: they are looked for by the default pattern.
        let RunDirs { runs, warnings } = RunDirs::below(path, &watch).unwrap_or_default();
        self.warnings.extend(warnings);
        let depth_of = |(_, name): &&(PathBuf, String)| name.split('/').count();
        let depth = runs.iter().map(|run| depth_of(&run)).min().unwrap_or(1);
        let mut deeper = runs.iter().filter(|run| depth_of(run) > depth);
        if let Some((_, example)) = deeper.next() {
            let are_not_watched = match deeper.count() {
                0 => "1 run directory lies deeper than the others and is not watched".to_owned(),
                n => format!(
                    "{} run directories lie deeper than the others and are not watched",
                    n + 1
                ),
            };
            self.warnings.push(format!(
                "{}: {are_not_watched}, such as {example}: name the folder that it lies in, too",
                path.display()
            ));
        }
        depth
    }
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
    look_for_input(path, watch) == Some(true)
}

/// Whether a directory is a run directory. `None` if it has too many entries to look through.
fn look_for_input(path: &Path, watch: &WatchConfig) -> Option<bool> {
    if fs::symlink_metadata(path.join(IDENTITY_FILE)).is_ok_and(|meta| meta.is_file()) {
        return Some(true);
    }
    let mut n_entries = 0;
    let mut folders = VecDeque::from([String::new()]);
    while let Some(folder) = folders.pop_front() {
        for (name, kind) in entries(&path.join(&folder)) {
            n_entries += 1;
            if n_entries > RUN_ENTRIES_MAX {
                return None;
            }
            let inner = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            let is_input =
                || watch.is_log(&inner) || watch.dumps.iter().any(|one| one.read(&inner).is_some());
            if kind.is_dir() && watch.may_lie_below(&inner) {
                folders.push_back(inner);
            } else if kind.is_file() && is_input() {
                return Some(true);
            }
        }
    }
    Some(false)
}

/// The run directories below a directory that is none. Nothing below a run directory is one.
#[derive(Debug, Default)]
pub(super) struct RunDirs {
    /// Each with its path from the directory, in order.
    pub(super) runs: Vec<(PathBuf, String)>,
    /// What was not looked through, for people.
    pub(super) warnings: Vec<String>,
}

impl RunDirs {
    /// Looks for them.
    ///
    /// # Errors
    /// If there is too much to look through.
    pub(super) fn below(path: &Path, watch: &WatchConfig) -> anyhow::Result<Self> {
        let (mut found, mut crowded) = (Self::default(), Vec::new());
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
                match look_for_input(&at, &WatchConfig { path: at.clone(), ..watch.clone() }) {
                    Some(true) => {
                        found.runs.push((at, inner));
                        continue;
                    }
                    Some(false) => {}
                    None => crowded.push(at),
                }
                if depth + 1 < DEPTH_MAX {
                    folders.push_back((inner, depth + 1));
                }
            }
        }
        // One that holds run directories is none.
        crowded.retain(|at| !found.runs.iter().any(|(run, _)| run.starts_with(at)));
        found.warnings.extend(crowded.iter().map(|at| {
            format!(
                "{} is not read: it has more than {RUN_ENTRIES_MAX} entries, and no media log and no dump among the \
                 first of them; if it is a run directory, name it",
                at.display()
            )
        }));
        found.runs.sort();
        found.warnings.sort();
        Ok(found)
    }
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
    use crate::config;

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
        let found = RunDirs::below(temp.path(), &watch).expect("runs");
        let names: Vec<&str> = found.runs.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "exp/seed0"]);
        let named = |paths: &[PathBuf]| {
            let NamedDirectories { directories, warnings } =
                NamedDirectories::of(paths, &[]).expect("directories");
            (directories.iter().map(|named| named.depth).collect::<Vec<_>>(), warnings)
        };
        // Bug: run directories that lie deeper than others were left out without a word.
        let (depths, warnings) = named(&[temp.path().join("a"), temp.path().to_owned()]);
        assert_eq!(depths, [0, 1]);
        let want =
            "1 run directory lies deeper than the others and is not watched, such as exp/seed0: ";
        assert!(matches!(&warnings[..], [only] if only.contains(want)), "{warnings:?}");
        let deep = temp.path().join("deep");
        for name in ["deep/exp/seed0/dumps/val", "deep/empty"] {
            fs::create_dir_all(temp.path().join(name)).expect("folders");
        }
        fs::write(deep.join("exp/seed0/dumps/val/1.npy"), "").expect("a file");
        assert_eq!(named(&[deep, temp.path().join("empty")]), (vec![2, 1], Vec::new()));
        // Bug: a directory whose section chooses all of them by a pattern of its own had the warning, too.
        let text = format!("[[watch]]\npath = {:?}\nruns = \"**\"\n", temp.path());
        let configured = config::parse(&text, Path::new("/s.toml")).expect("a file").live.watches;
        let NamedDirectories { directories, warnings } =
            NamedDirectories::of(&[temp.path().to_owned()], &configured).expect("directories");
        assert_eq!((directories.len(), warnings), (1, Vec::new()));
        // Bug: the section's patterns of dumps were not looked at.
        let other = temp.path().join("other/run/tensors");
        fs::create_dir_all(&other).expect("folders");
        fs::write(other.join("val-1.npy"), "").expect("a file");
        let text = format!(
            "[[watch]]\npath = {:?}\ndumps = [\"tensors/{{key}}-{{step}}.npy\"]\n",
            temp.path()
        );
        let configured = config::parse(&text, Path::new("/s.toml")).expect("a file").live.watches;
        let depth_of = |path: &str| {
            let named = NamedDirectories::of(&[temp.path().join(path)], &configured);
            named.expect("directories").directories[0].depth
        };
        assert_eq!((depth_of("other"), depth_of("other/run")), (1, 0));
    }

    #[test]
    fn a_folder_with_too_many_entries_is_named() {
        // Bug: it counted as no run, without a word.
        let temp = tempfile::tempdir().expect("a folder");
        let crowd = temp.path().join("crowd");
        fs::create_dir(&crowd).expect("a folder");
        for n in 0..=RUN_ENTRIES_MAX {
            fs::write(crowd.join(n.to_string()), "").expect("a file");
        }
        let watch = WatchConfig::of_run(temp.path().to_owned());
        let RunDirs { runs, warnings } = RunDirs::below(temp.path(), &watch).expect("a look");
        assert_eq!(runs, []);
        let want = format!("{} is not read: it has more than 10000 entries", crowd.display());
        assert!(matches!(&warnings[..], [only] if only.starts_with(&want)), "{warnings:?}");
        // As many run directories in one folder are all found.
        fs::create_dir(crowd.join("run")).expect("a folder");
        fs::write(crowd.join("run").join(IDENTITY_FILE), "{}").expect("a file");
        let RunDirs { runs, warnings } = RunDirs::below(temp.path(), &watch).expect("a look");
        assert_eq!(runs, [(crowd.join("run"), "crowd/run".to_owned())]);
        assert_eq!(warnings, [""; 0]);
        fs::write(crowd.join(IDENTITY_FILE), "{}").expect("a file");
        let RunDirs { runs, warnings } = RunDirs::below(temp.path(), &watch).expect("a look");
        assert_eq!((runs.len(), warnings.len()), (1, 0));
    }
}
