//! Removes files of a run directory, without removing or replacing a file that the job writes at that
//! moment.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::RunDir;
use super::file::stamp_of_stat;
use crate::store::journal::Stamp;

/// The end of the name of a file that is about to be removed, before a number.
const ASIDE: &str = ".safelight-removed-";

/// Names that are tried for a file that is about to be removed.
const ASIDE_NAMES: u32 = 64;

/// Returns the name that a file had before [`rename_aside`], or `None` if that did not rename the file.
fn name_before(aside: &str) -> Option<&str> {
    let (name, number) = aside.strip_prefix('.')?.rsplit_once(ASIDE)?;
    let is_ours = !name.is_empty() && number.parse::<u32>().is_ok_and(|n| n < ASIDE_NAMES);
    is_ours.then_some(name)
}

/// Renames a file to one of the names that [`name_before`] recognizes. Replaces no file.
fn rename_aside(folder: &OwnedFd, name: &str) -> Result<String, Errno> {
    for n in 0..ASIDE_NAMES {
        let aside = format!(".{name}{ASIDE}{n}");
        let result =
            match rustix::fs::renameat_with(folder, name, folder, &aside, RenameFlags::NOREPLACE) {
                // Some file systems do not support the flag. Then an empty file of ours takes the name.
                Err(Errno::INVAL | Errno::NOSYS) => {
                    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                    rustix::fs::openat(folder, &aside, flags, Mode::RUSR | Mode::WUSR)
                        .and_then(|_| rustix::fs::renameat(folder, name, folder, &aside))
                }
                result => result,
            };
        match result {
            Err(Errno::EXIST) => {}
            result => return result.map(|()| aside),
        }
    }
    Err(Errno::EXIST)
}

/// Renames a file to a name that no other file has.
fn rename_to_free(folder: &OwnedFd, from: &str, to: &str) -> Result<(), Errno> {
    match rustix::fs::renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
        // Some file systems do not support the flag.
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::linkat(folder, from, folder, to, AtFlags::empty())?;
            rustix::fs::unlinkat(folder, from, AtFlags::empty())
        }
        result => result,
    }
}

impl RunDir {
    /// Removes a file that still has this stamp.
    ///
    /// The file is first renamed aside, to a name that no other file has. A file that the job renames to
    /// its place at that moment is another file, and stays. If the process ends in between,
    /// [`Self::put_back`] restores the file.
    ///
    /// # Errors
    /// If the file is still there. The error is for people.
    pub(crate) fn remove(&self, path: &str, stamp: Stamp) -> Result<(), String> {
        let reason = |errno: Errno| io::Error::from(errno).to_string();
        let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
        let folder = self.open_folder(folder).map_err(reason)?;
        let is_same = |name: &str| {
            rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| stamp.has_content_of(stamp_of_stat(&stat)))
        };
        if !is_same(name) {
            return Err("it was rewritten before it was removed".to_owned());
        }
        let aside = rename_aside(&folder, name).map_err(reason)?;
        if is_same(&aside) {
            return rustix::fs::unlinkat(&folder, &aside, AtFlags::empty()).map_err(reason);
        }
        rename_to_free(&folder, &aside, name).map_err(reason)?;
        Err("it was rewritten before it was removed".to_owned())
    }

    /// Restores the files of a folder that a killed process had renamed aside, unless another file has the
    /// name now. Skips paths for which `is_known` is false. Returns the restored paths.
    ///
    /// # Errors
    /// If the folder cannot be read. A folder that is gone has no files.
    pub(crate) fn put_back(
        &self,
        folder: &str,
        is_known: impl Fn(&str) -> bool,
    ) -> io::Result<Vec<String>> {
        let fd = match self.open_folder(if folder.is_empty() { "." } else { folder }) {
            Err(Errno::NOENT) => return Ok(Vec::new()),
            fd => fd?,
        };
        let mut back = Vec::new();
        for entry in rustix::fs::Dir::read_from(&fd)? {
            let entry = entry?;
            let Ok(aside) = entry.file_name().to_str() else { continue };
            let Some(name) = name_before(aside) else { continue };
            let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            let is_dump = |stat: rustix::fs::Stat| {
                // An empty file only reserves the name.
                FileType::from_raw_mode(stat.st_mode).is_file() && stat.st_size > 0
            };
            let stat = rustix::fs::statat(&fd, aside, AtFlags::SYMLINK_NOFOLLOW);
            if !is_known(&path) || !stat.is_ok_and(is_dump) {
                continue;
            }
            match rename_to_free(&fd, aside, name) {
                Err(Errno::EXIST) => {}
                result => {
                    result?;
                    back.push(path);
                }
            }
        }
        Ok(back)
    }

    fn open_folder(&self, folder: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        self.open_beneath_with(folder, flags)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::run_dir::ReadOptions;

    #[test]
    fn a_file_is_removed_without_replacing_another() {
        // Retention renamed a dump to `.NAME.removed` before it removed it, and so destroyed a file of
        // the job that had this name.
        let run = tempfile::tempdir().expect("a folder");
        let dir = RunDir::open(run.path(), ReadOptions::default()).expect("the run directory");
        let of_job = [".a.npy.removed", ".a.npy.safelight-removed-0", ".a.npy.safelight-removed-1"];
        for name in ["a.npy"].iter().chain(&of_job) {
            fs::write(run.path().join(name), name).expect("a file");
        }
        let stamp = dir.stat("a.npy").expect("a stamp");
        dir.remove("a.npy", stamp).expect("a removal");
        for name in of_job {
            assert_eq!(fs::read_to_string(run.path().join(name)).expect("a file"), name);
        }
        assert_eq!(fs::read_dir(run.path()).expect("a folder").count(), of_job.len());
    }

    #[test]
    fn what_a_killed_process_renamed_aside_is_put_back() {
        let run = tempfile::tempdir().expect("a folder");
        let dir = RunDir::open(run.path(), ReadOptions::default()).expect("the run directory");
        let at = |name: &str| run.path().join("d").join(name);
        fs::create_dir(run.path().join("d")).expect("a folder");
        let folder = dir.open_folder("d").expect("a folder");
        fs::write(at("a.npy"), "a").expect("a file");
        fs::write(at("b.npy"), "old").expect("a file");
        let aside = rename_aside(&folder, "a.npy").expect("a rename");
        assert_eq!(name_before(&aside), Some("a.npy"));
        let of_b = rename_aside(&folder, "b.npy").expect("a rename");
        fs::write(at("b.npy"), "new").expect("a file");
        // None of these is a known dump that was renamed.
        let others = [
            (".c.npy.safelight-removed-0", ""),
            (".d.npy.removed", "d"),
            (".unknown.npy.safelight-removed-0", "x"),
        ];
        for (name, text) in others {
            fs::write(at(name), text).expect("a file");
        }
        let is_known = |path: &str| path != "d/unknown.npy";
        assert_eq!(dir.put_back("d", is_known).expect("a folder"), ["d/a.npy"]);
        assert_eq!(dir.put_back("gone", is_known).expect("no folder"), Vec::<String>::new());
        let want = [("a.npy", "a"), ("b.npy", "new"), (of_b.as_str(), "old")];
        for (name, want) in want.iter().chain(&others) {
            assert_eq!(fs::read_to_string(at(name)).expect("a file"), *want, "{name}");
        }
        assert_eq!(fs::read_dir(run.path().join("d")).expect("a folder").count(), 6);
    }
}
