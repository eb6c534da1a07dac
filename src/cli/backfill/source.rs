//! A run directory to backfill: its id, where it comes from, and what its files look like.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context;

use crate::config::WatchConfig;
use crate::ingest::run_info;
use crate::media::Sha256;
use crate::store::RunInfo;

/// Hexadecimal digits of a fingerprint.
const FINGERPRINT_DIGITS: usize = 32;

/// A run directory to backfill.
pub(super) struct Source {
    /// How the run directory is read.
    pub(super) watch: WatchConfig,
    /// The run, with the path of the run directory.
    pub(super) info: RunInfo,
    /// What is recorded as the run's source: `--origin`, else the run directory.
    pub(super) origin: String,
    pub(super) files: SourceFiles,
}

impl Source {
    /// Looks at a run directory.
    ///
    /// # Errors
    /// If the directory or its `safelight.json` cannot be read.
    pub(super) fn read(watch: WatchConfig, origin: Option<&str>) -> anyhow::Result<Self> {
        let info = run_info(&watch)?;
        let files = SourceFiles::below(&watch.path)?;
        let origin =
            origin.map_or_else(|| watch.path.to_string_lossy().into_owned(), str::to_owned);
        Ok(Self { watch, info, origin, files })
    }
}

/// The name of a run without an id: the last part of its origin, or of its directory.
pub(super) fn name_of(origin: &str) -> Option<&str> {
    origin.trim_end_matches('/').rsplit('/').next().filter(|name| !name.is_empty())
}

/// What the files of a run directory look like from outside.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SourceFiles {
    /// Digest of their names, sizes and times.
    ///
    /// SHA-256, the first 32 hexadecimal digits, of a line `PATH\0SIZE\0SECONDS\n` for each regular file, in the order
    /// of the paths' bytes. PATH is relative to the run directory, SECONDS the time of modification since the Unix
    /// epoch, rounded down. `python/safelight/ray.py` makes the same of a listing.
    pub(super) fingerprint: String,
    /// Digest of the above, and of the identity of the directory and of each file on this machine. It changes if a
    /// directory is copied anew.
    pub(super) stamp: String,
}

impl SourceFiles {
    /// Looks at all regular files below a directory. Links are not followed.
    ///
    /// # Errors
    /// If a directory cannot be listed.
    fn below(root: &Path) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        list(root, Path::new(""), &mut files)?;
        files.sort_unstable();
        let mut lines = Vec::new();
        let meta = fs::metadata(root).with_context(|| root.display().to_string())?;
        let mut stamp = format!("{}\0{}\0{}\n", root.display(), meta.dev(), meta.ino());
        for ListedFile { path, size, seconds, inode } in files {
            lines.extend_from_slice(path.as_bytes());
            lines.extend_from_slice(format!("\0{size}\0{seconds}\n").as_bytes());
            // A write to a string does not fail.
            writeln!(stamp, "{inode}").ok();
        }
        let fingerprint = digest(&lines);
        stamp.push_str(&fingerprint);
        Ok(Self { fingerprint, stamp: digest(stamp.as_bytes()) })
    }
}

fn digest(bytes: &[u8]) -> String {
    let mut digits = Sha256::of(bytes).to_string();
    digits.truncate(FINGERPRINT_DIGITS);
    digits
}

/// A regular file below a run directory. The order is that of the paths' bytes, because paths differ.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ListedFile {
    path: OsString,
    size: u64,
    seconds: i64,
    inode: u64,
}

fn list(root: &Path, folder: &Path, files: &mut Vec<ListedFile>) -> anyhow::Result<()> {
    let at = root.join(folder);
    let context = || at.display().to_string();
    for entry in fs::read_dir(&at).with_context(context)? {
        let entry = entry.with_context(context)?;
        let path = folder.join(entry.file_name());
        // Does not follow links.
        let meta = entry.metadata().with_context(|| root.join(&path).display().to_string())?;
        if meta.is_dir() {
            list(root, &path, files)?;
        } else if meta.is_file() {
            let (size, seconds, inode) = (meta.len(), meta.mtime(), meta.ino());
            let path = path.into_os_string();
            files.push(ListedFile { path, size, seconds, inode });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn write(root: &Path, path: &str, text: &str, seconds: u64) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(&path, text).expect("a file");
        let time = UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 900);
        File::options().write(true).open(path).expect("a file").set_modified(time).expect("a time");
    }

    #[test]
    fn a_fingerprint_is_of_names_sizes_and_times() {
        let [one, other] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let look = |root: &Path| SourceFiles::below(root).expect("files");
        for (n, name) in ["a.media.jsonl", "a/b.npy", "a-b.npy"].into_iter().enumerate() {
            write(one.path(), name, "text", n as u64);
        }
        for (n, name) in ["a.media.jsonl", "a/b.npy", "a-b.npy"].into_iter().enumerate().rev() {
            write(other.path(), name, "TEXT", n as u64);
        }
        let (first, copy) = (look(one.path()), look(other.path()));
        // Of these lines, in the order of bytes: '-' comes before '.' and '/'.
        let lines = "a-b.npy\x004\x002\na.media.jsonl\x004\x000\na/b.npy\x004\x001\n";
        assert_eq!(first.fingerprint, digest(lines.as_bytes()));
        assert_eq!(first.fingerprint, copy.fingerprint);
        assert_ne!(first.stamp, copy.stamp);
        assert_eq!(look(one.path()), first);
        std::os::unix::fs::symlink("/", one.path().join("link")).expect("a link");
        assert_eq!(look(one.path()).fingerprint, first.fingerprint);
        write(one.path(), "a/b.npy", "text", 2);
        let touched = look(one.path());
        assert_ne!(touched.fingerprint, first.fingerprint);
        write(one.path(), "a/b.npy", "texts", 2);
        assert_ne!(look(one.path()).fingerprint, touched.fingerprint);
        assert!(SourceFiles::below(&one.path().join("none")).is_err());
    }

    #[test]
    fn a_run_is_named_by_the_last_part_of_its_origin() {
        assert_eq!(name_of("s3://arch/exp7/seed0/"), Some("seed0"));
        assert_eq!(name_of("/data/run"), Some("run"));
        assert_eq!(name_of("/"), None);
    }
}
