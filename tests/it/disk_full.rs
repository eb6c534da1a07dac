//! A full disk: the daemon keeps running, loses and tears nothing, and resumes once there is room.
//!
//! The store lies on a tmpfs of 24 MiB in a mount namespace of its own.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::harness::{
    KilledOnDrop, PROGRAM, READY, Ran, Random, TempRun, gray, npy, number_in_file, send_signal,
    skip, wait_for,
};

/// A shell in a mount namespace where the store of a [`TempRun`] is a small tmpfs.
struct SmallDisk<'a> {
    temp: &'a TempRun,
    holder: Child,
}

impl<'a> SmallDisk<'a> {
    /// Mounts the disk. Returns `None`, reporting that the test is skipped, where this is not permitted.
    fn new(temp: &'a TempRun) -> Option<Self> {
        fs::create_dir(temp.store()).expect("a folder");
        let script = "mount -t tmpfs -o size=24m tmpfs \"$1\" && echo ready && exec sleep 600";
        let mut unshare = Command::new("unshare");
        let root = rustix::process::geteuid().is_root();
        unshare.args(if root { ["-m", "--"] } else { ["-Urm", "--"] });
        unshare.args(["sh", "-c", script, "sh"]).arg(temp.store());
        let log = temp.folder().join("mount.log");
        let said = fs::File::create(&log).expect("a log");
        let holder =
            unshare.stdin(Stdio::null()).stdout(said).stderr(Stdio::null()).spawn().ok()?;
        let mut disk = Self { temp, holder };
        let mut is_over = false;
        wait_for("the mount", || {
            is_over = disk.holder.try_wait().expect("a status").is_some();
            is_over || fs::read_to_string(&log).is_ok_and(|text| text.contains("ready"))
        });
        if is_over {
            skip("no small disk can be mounted here");
            return None;
        }
        Some(disk)
    }

    /// Returns the path of a file of the small disk, as seen from outside of the namespace.
    fn at(&self, path: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        let store = self.temp.store();
        root.join(store.strip_prefix("/").expect("an absolute path")).join(path)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id()));
        if !rustix::process::geteuid().is_root() {
            command
                .arg(format!("--user=/proc/{}/ns/user", self.holder.id()))
                .arg("--preserve-credentials");
        }
        command.arg("--").arg(PROGRAM).args(args).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        let config = self.temp.folder().join("c.toml");
        let mut command = self.command(args);
        command.arg("--config").arg(config).output().expect("the program").into()
    }

    fn daemon(&self) -> FullDaemon {
        let config = self.temp.folder().join("c.toml");
        let text = "[store]\npath = \"store\"\n[control]\nsocket = \"control.sock\"\n[[watch]]\npath = \
                    \".\"\nruns = \"run*\"\n[ingest]\nsettle_ms = 50\nclose_ms = 5\nscan_ms = 2000\n";
        fs::write(&config, text).expect("a configuration");
        let log = self.temp.folder().join("daemon.log");
        let said = fs::File::options().create(true).append(true).open(&log).expect("a log");
        let mut command = self.command(&["daemon", "--config"]);
        let child = command.arg(config).stderr(said).spawn().expect("the daemon");
        FullDaemon(KilledOnDrop(child))
    }

    /// Starts a daemon and waits until it is ready.
    fn ready_daemon(&self) -> FullDaemon {
        let daemon = self.daemon();
        wait_for("the daemon to be ready", || self.log().contains(READY));
        daemon
    }

    fn log(&self) -> String {
        fs::read_to_string(self.temp.folder().join("daemon.log")).unwrap_or_default()
    }

    /// Fills the disk completely.
    fn fill(&self) {
        let file = fs::File::create(self.at("filler")).expect("a file");
        let mut offset = 0;
        for n in [1 << 16, 4096] {
            while file.write_all_at(&vec![1; n], offset).is_ok() {
                offset += n as u64;
            }
        }
    }

    fn free(&self) {
        fs::remove_file(self.at("filler")).expect("the filler");
    }

    fn items(&self) -> Vec<Value> {
        let ran = self.run(&["ls", "--json"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.out.lines().map(|line| serde_json::from_str(line).expect("an item")).collect()
    }

    /// Checks that each of `n` items is there once, with its own picture.
    fn check(&self, n: u64) {
        let items = self.items();
        let mut steps: Vec<u64> =
            items.iter().map(|i| i["step"].as_u64().expect("a step")).collect();
        steps.sort_unstable();
        assert_eq!(steps, (0..n).collect::<Vec<_>>());
        for item in items {
            let path = self.at(item["path"].as_str().expect("a path"));
            assert_eq!(number_in_file(&path), item["step"].as_u64().expect("a step"));
        }
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        self.holder.kill().ok();
        self.holder.wait().ok();
    }
}

struct FullDaemon(KilledOnDrop);

impl FullDaemon {
    fn is_running(&mut self) -> bool {
        self.0.0.try_wait().expect("a status").is_none()
    }

    fn signal(&self, signal: &str) {
        send_signal(&self.0.0, signal);
    }

    fn stop(mut self) -> Option<i32> {
        self.signal("-TERM");
        self.0.0.wait().expect("an end").code()
    }
}

/// Returns a dump of noise, whose PNG file is about as large as the dump.
fn large(n: u64) -> Vec<u8> {
    let noise = Random(n).noise(256 * 256);
    let pixels: Vec<u8> = n.to_le_bytes().into_iter().chain(noise).take(256 * 256).collect();
    npy("|u1", &[256, 256], &pixels)
}

#[test]
fn a_disk_that_fills_up_pauses_all_work_and_loses_nothing() {
    let temp = TempRun::new();
    let Some(disk) = SmallDisk::new(&temp) else { return };
    let mut daemon = disk.ready_daemon();
    for n in 0..20 {
        temp.write(&format!("dumps/k/{n}.npy"), &large(n));
    }
    wait_for("the first items", || disk.items().len() == 20);
    for round in 1..4u64 {
        // Another program fills the disk while the daemon works.
        temp.write(&format!("dumps/k/{}.npy", 20 * round), &large(20 * round));
        disk.fill();
        for n in 20 * round + 1..20 * (round + 1) {
            temp.write(&format!("dumps/k/{n}.npy"), &large(n));
        }
        wait_for("the daemon to notice", || disk.run(&["health"]).code == 1);
        let said = disk.run(&["health"]).out;
        assert!(said.contains("cannot write"), "{said}");
        // Commands can still read the store.
        let n_now = disk.items().len() as u64;
        assert!((20 * round..=20 * round + 20).contains(&n_now), "{n_now}");
        assert!(disk.run(&["status"]).out.contains("error     cannot write"));
        assert!(daemon.is_running());
        disk.free();
        wait_for("the rest", || disk.items().len() as u64 == 20 * (round + 1));
        wait_for("good health", || disk.run(&["health"]).code == 0);
    }
    disk.check(80);
    assert_eq!(daemon.stop(), Some(0));
    // The index's folder is `index` or a replacement beside it.
    for entry in fs::read_dir(disk.at("")).expect("the store").flatten() {
        if entry.file_name().to_string_lossy().starts_with("index") {
            fs::remove_dir_all(entry.path()).expect("an index");
        }
    }
    disk.check(80);
}

#[test]
fn a_daemon_that_fills_the_disk_stops_writing_in_time() {
    let temp = TempRun::new();
    let Some(disk) = SmallDisk::new(&temp) else { return };
    let mut daemon = disk.ready_daemon();
    // The media files need 65 KB each, far more than there is room for.
    let n_all = 400;
    for n in 0..n_all {
        temp.write(&format!("dumps/k/{n:03}.npy"), &large(n));
    }
    wait_for("the disk to be full", || disk.run(&["health"]).out.contains("nothing is committed"));
    assert!(daemon.is_running());
    let n_kept = disk.items().len() as u64;
    assert!(n_kept > 20 && n_kept < n_all, "{n_kept}");
    let remount = format!("mount -o remount,size=64m {}", temp.store().display());
    let mut nsenter = Command::new("nsenter");
    nsenter.arg(format!("--mount=/proc/{}/ns/mnt", disk.holder.id()));
    if !rustix::process::geteuid().is_root() {
        nsenter.arg(format!("--user=/proc/{}/ns/user", disk.holder.id()));
    }
    assert!(nsenter.args(["sh", "-c", &remount]).status().expect("nsenter").success());
    wait_for("the rest", || disk.items().len() as u64 == n_all);
    disk.check(n_all);
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_daemon_that_starts_on_a_full_disk_waits_for_room() {
    let temp = TempRun::new();
    let Some(disk) = SmallDisk::new(&temp) else { return };
    let daemon = disk.ready_daemon();
    for n in 0..10 {
        temp.write(&format!("dumps/k/{n}.npy"), &gray(n));
    }
    wait_for("the first items", || disk.items().len() == 10);
    daemon.signal("-KILL");
    drop(daemon);
    for n in 10..20 {
        temp.write(&format!("dumps/k/{n}.npy"), &gray(n));
    }
    // The reserve is released, so that the index opens and stored items can be read.
    disk.fill();
    let mut daemon = disk.daemon();
    wait_for("the daemon", || disk.run(&["health"]).out.contains("cannot write"));
    assert_eq!(disk.items().len(), 10);
    assert!(disk.log().contains("reserve is given up"), "{}", disk.log());
    // With the reserve gone, the daemon waits for room.
    daemon.signal("-KILL");
    drop(daemon);
    disk.free();
    disk.fill();
    fs::remove_file(temp.folder().join("daemon.log")).expect("the log");
    daemon = disk.daemon();
    wait_for("the daemon to try or to answer", || {
        disk.log().contains("cannot open the store") || disk.run(&["health"]).code == 1
    });
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(daemon.is_running(), "{}", disk.log());
    disk.free();
    wait_for("the rest", || disk.run(&["health"]).code == 0 && disk.items().len() == 20);
    disk.check(20);
    wait_for("a new reserve", || Path::new(&disk.at("ballast")).is_file());
    assert_eq!(daemon.stop(), Some(0));
}
