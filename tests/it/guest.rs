//! A container in which a real systemd boots.
//!
//! `tests/systemd/box.sh` boots it, which needs root and `systemd-nspawn`. The checks in the container are in
//! `tests/systemd/guest.sh`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::harness::{PROGRAM, has_program, npy, skip};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The output and the files of a container.
pub(crate) struct Guest {
    pub(crate) said: String,
    temp: TempDir,
}

impl Guest {
    /// Boots a systemd and runs a part of `guest.sh`. Returns `None`, reporting that the test is skipped, if
    /// this is impossible here.
    pub(crate) fn run(part: &str) -> Option<Self> {
        Self::run_with(part, &[])
    }

    /// Does the same with further files, which the container sees in `/opt/out` by these names.
    pub(crate) fn run_with(part: &str, files: &[(&str, &Path)]) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip("only root can boot a systemd");
            return None;
        }
        if !has_program("systemd-nspawn") {
            return None;
        }
        let temp = tempfile::tempdir().expect("a folder");
        let [layers, out] = ["layers", "out"].map(|name| temp.path().join(name));
        for folder in [&layers, &out] {
            fs::create_dir(folder).expect("a folder");
        }
        fs::write(out.join("install.sh"), installation()).expect("a script");
        for (name, file) in files {
            fs::copy(file, out.join(name)).expect("a copy");
        }
        let pixels_begin = npy("|u1", &[4, 4], &[]);
        fs::write(out.join("npy-header"), pixels_begin).expect("a header");

        // Only one container at a time, because its name and groups are those of the machine.
        let lock = File::create(std::env::temp_dir().join("safelight-test-systemd.lock"));
        let lock = lock.expect("a lock file");
        lock.lock().expect("a lock");
        let output = Command::new("unshare")
            .args(["--mount", "--propagation", "private"])
            .arg(repository().join("tests/systemd/box.sh"))
            .args([&layers, &out])
            .args([repository(), Path::new(PROGRAM)])
            .arg(part)
            .output()
            .expect("unshare");
        drop(lock);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let denied = "Operation not permitted";
        if !output.status.success()
            && (errors.contains("permission denied") || errors.contains(denied))
        {
            skip(&format!("nothing can be mounted here: {errors}"));
            return None;
        }
        let guest = Self { said: String::new(), temp };
        let said = guest.read("said");
        assert!(output.status.success(), "{errors}\n{said}\n{}", guest.read("console"));
        Some(Self { said, ..guest })
    }

    pub(crate) fn out(&self, name: &str) -> PathBuf {
        self.temp.path().join("out").join(name)
    }

    /// Returns a file that the container wrote.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read(self.out(name)).map_or_else(
            |error| format!("{name}: {error}"),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// Asserts that exactly these checks passed in this order.
    pub(crate) fn assert_checks(&self, names: &[&str]) {
        let ok: Vec<&str> = self.said.lines().filter_map(|line| line.strip_prefix("ok ")).collect();
        let has_failed = self.said.lines().any(|line| line.starts_with("FAIL "));
        if has_failed || ok != names {
            let journal = self.read("journal");
            let journal: Vec<&str> =
                journal.lines().filter(|line| !line.contains("notification message")).collect();
            panic!("want {names:?}\n{}\n--- journal\n{}", self.said, journal.join("\n"));
        }
    }
}

/// Returns the commands of the README that install the service, without the build.
fn installation() -> String {
    let readme = fs::read_to_string(repository().join("README.md")).expect("the README");
    let (_, use_it) = readme.split_once("\n## Use it\n").expect("a section");
    let (_, block) = use_it.split_once("```sh\n").expect("a block");
    let (block, _) = block.split_once("```").expect("its end");
    let build = "cargo install --path . --root /usr\n";
    assert_eq!(block.matches(build).count(), 1, "{block}");
    block.replace(build, "")
}
