//! The scratch store of a run, which a later try of the same run takes up.
//!
//! ```text
//! SCRATCH/BOX/RUN.lock      locked by the process that backfills the run; holds the stamp of the run directory
//! SCRATCH/BOX/RUN.store/    its store
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::OFlags;
use rustix::process::geteuid;

use crate::cli::format::warn;
use crate::media::{BoxName, RunId};

/// The folder of scratch stores if the command line names none. Another user may have made a folder of this name.
///
/// # Errors
/// If it cannot be created, or is not this user's alone.
pub(super) fn default_root() -> anyhow::Result<PathBuf> {
    let uid = geteuid();
    let root = std::env::temp_dir().join(format!("safelight-backfill-{}", uid.as_raw()));
    let context = || root.display().to_string();
    match DirBuilder::new().mode(0o700).create(&root) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(context);
        }
        _ => {}
    }
    let meta = fs::symlink_metadata(&root).with_context(context)?;
    if !meta.is_dir() || meta.uid() != uid.as_raw() || meta.mode() & 0o022 != 0 {
        bail!(
            "{} is not a folder that only this user may write to: name another with --scratch DIR",
            root.display()
        );
    }
    Ok(root)
}

/// The scratch store of a run, locked.
pub(super) struct Scratch {
    store: PathBuf,
    lock_path: PathBuf,
    lock: File,
}

impl Scratch {
    /// Locks the scratch store of a run, waiting for another process that backfills the run on this machine. A store of
    /// another state of the run directory is removed: its journal may have other lines.
    ///
    /// # Errors
    /// If the disk fails.
    pub(super) fn take(
        root: &Path,
        box_name: &BoxName,
        run: &RunId,
        stamp: &str,
    ) -> anyhow::Result<Self> {
        let folder = root.join(box_name.folder());
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let lock_path = folder.join(format!("{}.lock", run.folder()));
        let store = folder.join(format!("{}.store", run.folder()));
        let mut lock = lock_file(&lock_path).with_context(|| lock_path.display().to_string())?;
        let mut begun = String::new();
        // A damaged stamp is another one.
        lock.read_to_string(&mut begun).ok();
        let mut scratch = Self { store, lock_path, lock };
        if begun != stamp {
            scratch.remove_store()?;
            let lock = &mut scratch.lock;
            let written = lock.rewind().and_then(|()| lock.write_all(stamp.as_bytes()));
            written.with_context(|| scratch.lock_path.display().to_string())?;
        }
        Ok(scratch)
    }

    /// The store's directory.
    pub(super) fn store(&self) -> &Path {
        &self.store
    }

    /// Removes the store. No process may have it open.
    pub(super) fn remove(self) -> anyhow::Result<()> {
        self.remove_store()?;
        fs::remove_file(&self.lock_path).with_context(|| self.lock_path.display().to_string())?;
        // Until now, a process that waits for the lock would find the store half removed.
        drop(self.lock);
        Ok(())
    }

    /// Removes the store, and first the stamp: nobody goes on in a store that a kill left half removed.
    fn remove_store(&self) -> anyhow::Result<()> {
        self.lock.set_len(0).with_context(|| self.lock_path.display().to_string())?;
        match fs::remove_dir_all(&self.store) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.with_context(|| self.store.display().to_string()),
        }
    }
}

/// Opens or creates a lock file, and locks it.
fn lock_file(path: &Path) -> io::Result<File> {
    let mut has_waited = false;
    loop {
        let mut options = OpenOptions::new();
        let flags = i32::try_from(OFlags::NOFOLLOW.bits()).map_err(io::Error::other)?;
        options.create(true).truncate(false).read(true).write(true).custom_flags(flags);
        let file = options.open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                if !has_waited {
                    let path = path.display();
                    warn(&[format!("waiting for another process that backfills the run: {path}")]);
                    has_waited = true;
                }
                file.lock()?;
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // The process before this one may have removed the file: then another has or will have its place.
        let (ours, there) = (file.metadata()?, fs::symlink_metadata(path));
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
            return Ok(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_store_of_another_state_of_the_run_directory_is_removed() {
        let root = tempfile::tempdir().expect("a folder");
        let of = BoxName::new("archive").expect("a name");
        let run = RunId::new("a/b.lock").expect("a name");
        let take = |stamp: &str| Scratch::take(root.path(), &of, &run, stamp).expect("a store");
        let scratch = take("one");
        fs::create_dir(scratch.store()).expect("a store");
        drop(scratch);
        let scratch = take("one");
        assert!(scratch.store().is_dir());
        assert_eq!(scratch.store(), root.path().join("archive/a%2Fb.lock.store"));
        drop(scratch);
        let scratch = take("two");
        assert!(!scratch.store().is_dir());
        fs::create_dir(scratch.store()).expect("a store");
        scratch.remove().expect("a removal");
        assert_eq!(fs::read_dir(root.path().join("archive")).expect("a folder").count(), 0);
    }

    #[test]
    fn nobody_goes_on_in_a_store_whose_removal_was_cut_off() {
        let root = tempfile::tempdir().expect("a folder");
        let of = BoxName::new("archive").expect("a name");
        let run = RunId::new("a").expect("a name");
        let take = || Scratch::take(root.path(), &of, &run, "one").expect("a store");
        let scratch = take();
        let store = scratch.store().to_owned();
        // What stands for a kill: a file is there that the removal of a folder fails at.
        fs::write(&store, "").expect("a file");
        scratch.remove().expect_err("no folder");
        fs::remove_file(&store).expect("a removal");
        fs::create_dir(&store).expect("what is left of a store");
        drop(take());
        assert!(!store.is_dir(), "the rest of a store is used");
        fs::create_dir(&store).expect("a store");
        drop(take());
        assert!(store.is_dir(), "a whole store is not used");
    }

    #[test]
    fn one_at_a_time_has_the_store_of_a_run_though_each_removes_it() {
        let root = tempfile::tempdir().expect("a folder");
        let of = BoxName::new("archive").expect("a name");
        let run = RunId::new("a").expect("a name");
        let n_inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let scratch = Scratch::take(root.path(), &of, &run, "s").expect("a lock");
                        assert_eq!(n_inside.fetch_add(1, Ordering::SeqCst), 0);
                        fs::create_dir(scratch.store()).expect("no store is there");
                        n_inside.fetch_sub(1, Ordering::SeqCst);
                        scratch.remove().expect("a removal");
                    }
                });
            }
        });
    }
}
