//! Compares media files with their journaled sizes and digests: the only place that decides whether a media
//! file is sound. `verify`, the scrub, repairs, retention and all targets ask it.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

use crate::decode::ReadAt;
use crate::media::{Annotation, CommittedImage, Digest, DigestKind, MediaFile, Sha256};
use crate::pace::Pace;
use crate::run_dir::{ReadFailure, ReadOptions, RunDir, RunFile};

/// A file that an image names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct NamedFile<'a> {
    /// Relative to the run's folder in the store.
    pub(crate) path: &'a str,
    /// Bytes.
    pub(crate) size: u64,
    pub(crate) sha256: Sha256,
}

/// What is wrong with a media file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Damage {
    #[error("missing")]
    Missing,
    /// Something that is no regular file, or lies behind a link.
    #[error("{0}")]
    NoFile(String),
    #[error("got {got} bytes, want {want}")]
    Size { got: u64, want: u64 },
    /// Both digests are shortened, as in the file's name.
    #[error("got SHA-256 {got:.20}…, want {want:.20}…")]
    Content { got: Sha256, want: Sha256 },
    /// The disk has lost a part of the file.
    #[error("the disk cannot read it: {0}")]
    Disk(String),
    /// Permissions or a lack of descriptors forbid it. The file may be sound.
    #[error("cannot be read: {0}")]
    Unreadable(String),
}

/// The media files of one run.
#[derive(Debug)]
pub(crate) struct MediaFiles {
    dir: RunDir,
}

impl<'a> From<&'a MediaFile> for NamedFile<'a> {
    fn from(MediaFile { path, size, sha256, .. }: &'a MediaFile) -> Self {
        Self { path, size: *size, sha256: *sha256 }
    }
}

impl<'a> From<&'a Annotation> for NamedFile<'a> {
    fn from(Annotation { path, size, sha256, .. }: &'a Annotation) -> Self {
        Self { path, size: *size, sha256: *sha256 }
    }
}

/// The files of an image: its picture, its sets of boxes, its masks.
pub(crate) fn files_of(image: &CommittedImage) -> impl Iterator<Item = NamedFile<'_>> {
    std::iter::once((&image.file).into()).chain(image.annotations().map(Into::into))
}

impl MediaFiles {
    /// Opens a run's folder in the store. `pace` limits the bytes that are read per second.
    ///
    /// # Errors
    /// If the folder cannot be opened. No file of it can be read then.
    pub(crate) fn open(folder: &Path, pace: Arc<Pace>) -> Result<Self, Damage> {
        let options = ReadOptions { pace, digest: DigestKind::Sha256 };
        match RunDir::open(folder, options) {
            Ok(dir) => Ok(Self { dir }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Damage::Missing),
            Err(error) => Err(unreadable(&error)),
        }
    }

    /// Checks that a file is there and has its size and digest. Leaves the page cache as it was.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(crate) fn check(&self, file: NamedFile<'_>) -> Result<(), Damage> {
        let opened = self.open_sized(file)?;
        let digest = opened.digest(DigestKind::Sha256);
        opened.give_back_cache();
        match digest.map_err(|error| unreadable(&error))? {
            Digest::Sha256(got) => compare(got, file.sha256),
            Digest::Xxh3(_) => unreachable!("a SHA-256 was asked for"),
        }
    }

    /// Reads a file that has its size and digest.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(crate) fn read(&self, file: NamedFile<'_>) -> Result<Vec<u8>, Damage> {
        let opened = self.open_sized(file)?;
        let n =
            usize::try_from(file.size).map_err(|error| Damage::Unreadable(error.to_string()))?;
        let mut bytes = vec![0; n];
        opened.read_exact_at(&mut bytes, 0).map_err(|error| unreadable(&error))?;
        opened.give_back_cache();
        compare(Sha256::of(&bytes), file.sha256)?;
        Ok(bytes)
    }

    /// Opens a file that has its size. The caller compares the digest while it reads the file.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(crate) fn open_file(&self, file: NamedFile<'_>) -> Result<File, Damage> {
        Ok(self.open_sized(file)?.into_file())
    }

    fn open_sized(&self, file: NamedFile<'_>) -> Result<RunFile, Damage> {
        // The messages of the run directory begin with the path, which the caller names.
        let without_path = |reason: String| {
            let path = format!("{:?} ", file.path);
            reason.strip_prefix(&path).map(str::to_owned).unwrap_or(reason)
        };
        let opened = self.dir.open_file(file.path).map_err(|failure| match failure {
            ReadFailure::Wait(_) => Damage::Missing,
            ReadFailure::Reject(reason) | ReadFailure::OverLimit(reason) => {
                Damage::NoFile(without_path(reason))
            }
            ReadFailure::Retry(reason) => Damage::Unreadable(without_path(reason)),
        })?;
        let (got, want) = (opened.n_bytes(), file.size);
        if got == want { Ok(opened) } else { Err(Damage::Size { got, want }) }
    }
}

fn compare(got: Sha256, want: Sha256) -> Result<(), Damage> {
    if got == want { Ok(()) } else { Err(Damage::Content { got, want }) }
}

/// The errors by which a disk or a file system says that it has lost bytes.
const LOST: [Errno; 3] = [Errno::IO, Errno::BADMSG, Errno::UCLEAN];

fn unreadable(error: &io::Error) -> Damage {
    let is_lost = |lost: &Errno| error.raw_os_error() == Some(lost.raw_os_error());
    if LOST.iter().any(is_lost) {
        Damage::Disk(error.to_string())
    } else {
        Damage::Unreadable(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn each_kind_of_damage_is_told_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let bytes = b"picture";
        for name in ["sound", "flipped", "short", "empty", "behind"] {
            fs::write(at(name), bytes).expect("a file");
        }
        fs::write(at("flipped"), b"pictura").expect("a file");
        fs::write(at("short"), b"pict").expect("a file");
        fs::write(at("empty"), b"").expect("a file");
        fs::create_dir(at("folder")).expect("a folder");
        // Even a link to a sound file is none of ours.
        symlink(at("behind"), at("link")).expect("a link");
        let files = MediaFiles::open(folder.path(), Arc::default()).expect("the folder");
        let (sha256, got) = (Sha256::of(bytes), Sha256::of(b"pictura"));
        for (path, want) in [
            ("sound", String::new()),
            ("flipped", format!("got SHA-256 {got:.20}…, want {sha256:.20}…")),
            ("short", "got 4 bytes, want 7".to_owned()),
            ("empty", "got 0 bytes, want 7".to_owned()),
            ("folder", "is a directory, want a regular file".to_owned()),
            ("link", "is a symbolic link or lies behind one, which is not followed".to_owned()),
            ("gone", "missing".to_owned()),
        ] {
            let file = NamedFile { path, size: 7, sha256 };
            let text = |result: Result<(), Damage>| {
                result.map_or_else(|damage| damage.to_string(), |()| String::new())
            };
            assert_eq!(text(files.check(file)), want);
            assert_eq!(text(files.read(file).map(drop)), want);
        }
        let gone = MediaFiles::open(&at("gone"), Arc::default());
        assert_eq!(gone.err(), Some(Damage::Missing));
    }
}
