//! Objects of media, as files of the scratch store.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::error::FleetError;
use super::objects::Objects;
use crate::locks::lock;
use crate::media::{RunId, Sha256};
use crate::sinks::http::policy::OBJECT_BYTES_MAX;
use crate::store::media_check::NamedFile;
use crate::store::run_folder;

/// The bytes of media files that stay on the disk. The file that came first is removed for another one.
const FILES_BYTES_MAX: u64 = 1 << 30;

/// Media files of a fleet. Each is fetched when it is first asked for.
pub(crate) struct FleetFiles {
    objects: Arc<Objects>,
    /// The scratch store.
    folder: TempDir,
    fetched: Mutex<Fetched>,
    n_started: AtomicU64,
    n_bytes_max: u64,
}

/// The files on the disk, in the order in which they came.
#[derive(Default)]
struct Fetched {
    files: VecDeque<(PathBuf, u64)>,
    n_bytes: u64,
}

impl FleetFiles {
    /// Files of the scratch store in a folder.
    ///
    /// # Errors
    /// If the disk fails.
    pub(super) fn new(objects: Arc<Objects>, folder: TempDir) -> io::Result<Self> {
        fs::create_dir_all(folder.path().join("fetched"))?;
        let (fetched, n_started) = (Mutex::default(), AtomicU64::default());
        Ok(Self { objects, folder, fetched, n_started, n_bytes_max: FILES_BYTES_MAX })
    }

    /// The folder of the scratch store.
    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    /// The URL of the object store.
    pub(crate) fn url(&self) -> &str {
        self.objects.url()
    }

    /// The URL of an object.
    pub(crate) fn url_of(&self, name: &str) -> String {
        format!("{}/{name}", self.url().trim_end_matches('/'))
    }

    /// Makes sure that a file of a run is in the scratch store. Its path is the name of an object.
    ///
    /// # Errors
    /// If the object is missing, longer than 64 MiB, or has another size or digest; if the store or the disk fails.
    pub(crate) fn fetch(&self, run: &RunId, file: NamedFile<'_>) -> Result<(), FleetError> {
        let path = self.path(run, &file);
        if is_there(&path) {
            return Ok(());
        }
        check_size(&file)?;
        let content = self.objects.content_up_to(file.path, file.size)?;
        self.take(&path, &file, content)
    }

    /// Fetches files of runs, several at the same time. A file that cannot be fetched is left out: [`Self::fetch`] says
    /// why.
    pub(crate) fn fetch_all<'a>(&self, files: impl Iterator<Item = (&'a RunId, NamedFile<'a>)>) {
        // Each once, in the order in which they are asked for.
        let mut paths = HashSet::new();
        let files = files.map(|(run, file)| (self.path(run, &file), file));
        let missing: Vec<_> = files
            .filter(|(path, file)| {
                !is_there(path) && check_size(file).is_ok() && paths.insert(path.clone())
            })
            .collect();
        let names = missing.iter().map(|(_, file)| (file.path.to_owned(), file.size));
        let mut contents = self.objects.contents(names);
        for (path, file) in &missing {
            let taken = contents.next().and_then(|content| self.take(path, file, content));
            if let Err(error) = taken {
                tracing::debug!(%error, "a file is not fetched ahead");
            }
        }
    }

    /// Where a file is in the scratch store.
    fn path(&self, run: &RunId, file: &NamedFile<'_>) -> PathBuf {
        run_folder(self.root(), run).join(file.path)
    }

    /// Takes the content of an object if it has the size and the digest of its file.
    fn take(
        &self,
        path: &Path,
        file: &NamedFile<'_>,
        content: Option<Vec<u8>>,
    ) -> Result<(), FleetError> {
        let &NamedFile { path: name, size, sha256 } = file;
        let content = content.ok_or_else(|| FleetError::NoObject(name.to_owned()))?;
        let n_bytes = content.len() as u64;
        if n_bytes != size {
            return Err(damaged(name, format!("got {n_bytes} bytes, want {size}")));
        }
        let got = Sha256::of(&content);
        if got != sha256 {
            return Err(damaged(name, format!("got SHA-256 {got:.20}…, want {sha256:.20}…")));
        }
        self.put(path, &content)?;
        Ok(())
    }

    /// Writes a file, and removes others if they are too many.
    fn put(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        // Two requests may fetch one file.
        let n = self.n_started.fetch_add(1, Ordering::Relaxed);
        let beside = self.root().join("fetched").join(n.to_string());
        fs::write(&beside, content)?;
        if let Some(above) = path.parent() {
            fs::create_dir_all(above)?;
        }
        fs::rename(&beside, path)?;
        let mut fetched = lock(&self.fetched);
        if fetched.files.iter().any(|(of, _)| of == path) {
            return Ok(());
        }
        fetched.files.push_back((path.to_owned(), content.len() as u64));
        fetched.n_bytes += content.len() as u64;
        while fetched.n_bytes > self.n_bytes_max
            && fetched.files.len() > 1
            && let Some((first, n_bytes)) = fetched.files.pop_front()
        {
            fetched.n_bytes -= n_bytes;
            // One that is being read stays until it is closed.
            fs::remove_file(first)?;
        }
        Ok(())
    }
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Checks that an object is not too long to be read.
fn check_size(file: &NamedFile<'_>) -> Result<(), FleetError> {
    let size = file.size;
    if size > OBJECT_BYTES_MAX {
        return Err(damaged(
            file.path,
            format!("got {size} bytes, want at most {OBJECT_BYTES_MAX}"),
        ));
    }
    Ok(())
}

fn damaged(name: &str, damage: String) -> FleetError {
    FleetError::Damaged { name: name.to_owned(), damage }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sync::ObjectStoreConfig;

    #[test]
    fn the_first_files_make_room_for_others() {
        let config = ObjectStoreConfig::of_url("file:///nowhere").expect("settings");
        let objects = Arc::new(Objects::open(&config).expect("objects"));
        let folder = tempfile::tempdir().expect("a folder");
        let files = FleetFiles::new(objects, folder).expect("files");
        let files = FleetFiles { n_bytes_max: 10, ..files };
        let path = |n: u32| files.root().join(format!("runs/r/media/{n}"));
        for n in 0..4 {
            files.put(&path(n), b"four").expect("a file");
            // Again: two requests may fetch one file.
            files.put(&path(n), b"four").expect("a file");
        }
        let there: Vec<bool> = (0..4).map(|n| path(n).is_file()).collect();
        assert_eq!(there, [false, false, true, true]);
        files.put(&path(9), &[0; 100]).expect("a file");
        assert!(path(9).is_file() && !path(3).is_file());
        assert_eq!(files.url_of("media/aa/x.png"), "file:///nowhere/media/aa/x.png");
    }
}
