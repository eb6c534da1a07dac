//! Objects of media, as files of the scratch store.

use std::collections::VecDeque;
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
        let NamedFile { path: name, size, sha256 } = file;
        let path = run_folder(self.root(), run).join(name);
        if fs::symlink_metadata(&path).is_ok() {
            return Ok(());
        }
        let damaged = |damage: String| FleetError::Damaged { name: name.to_owned(), damage };
        if size > OBJECT_BYTES_MAX {
            return Err(damaged(format!("got {size} bytes, want at most {OBJECT_BYTES_MAX}")));
        }
        let content = self.objects.content_up_to(name, size)?;
        let content = content.ok_or_else(|| FleetError::NoObject(name.to_owned()))?;
        let n_bytes = content.len() as u64;
        if n_bytes != size {
            return Err(damaged(format!("got {n_bytes} bytes, want {size}")));
        }
        let got = Sha256::of(&content);
        if got != sha256 {
            return Err(damaged(format!("got SHA-256 {got:.20}…, want {sha256:.20}…")));
        }
        self.put(&path, &content)?;
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
