//! The runs, the store and the daemon of a soak test, and what the store must hold.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{PROGRAM, Rejected, number_in_file};

/// Maximum number of images per step. Further ones are held back.
pub(super) const ITEMS_MAX: u64 = 6;

/// How long the store may take to hold everything, whatever happens meanwhile.
const PATIENCE: Duration = Duration::from_mins(3);

/// The folder of the runs, the store, and the program.
pub(super) struct Scene {
    pub(super) folder: tempfile::TempDir,
    pub(super) store: PathBuf,
    /// Whether the store is on a disk of its own, which a test may fill.
    pub(super) may_be_filled: bool,
    program: PathBuf,
    /// The number in each media file that was read. A file's name depends on its content, so that it is
    /// read only once.
    numbers: Mutex<HashMap<PathBuf, u64>>,
}

/// What the store must hold of a run directory: the numbers of the pictures of each step in order, with
/// `None` for held items, and the rejected lines and dumps.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Wants {
    pub(super) images: BTreeMap<(String, u64), Vec<Option<u64>>>,
    pub(super) rejected: Rejected,
}

impl Wants {
    /// Describes the differences from `got`.
    pub(super) fn differences(&self, got: &Self) -> String {
        let mut text = String::new();
        let places: BTreeSet<_> = self.images.keys().chain(got.images.keys()).collect();
        for place in places {
            let (want, got) = (self.images.get(place), got.images.get(place));
            if want != got {
                writeln!(text, "{place:?}: {got:?}, want {want:?}").expect("a text takes all");
            }
        }
        for (what, dumps, others) in [
            ("not rejected", &self.rejected.dumps, &got.rejected.dumps),
            ("rejected", &got.rejected.dumps, &self.rejected.dumps),
        ] {
            let dumps: Vec<_> = dumps.difference(others).collect();
            if !dumps.is_empty() {
                writeln!(text, "{what}: {dumps:?}").expect("a text takes all");
            }
        }
        if self.rejected.n_lines != got.rejected.n_lines {
            writeln!(text, "{} bad lines, want {}", got.rejected.n_lines, self.rejected.n_lines)
                .expect("a text takes all");
        }
        text
    }
}

impl Scene {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("runs")).expect("a folder");
        let own = std::env::var_os("SAFELIGHT_SOAK_STORE").map(PathBuf::from);
        let program = std::env::var_os("SAFELIGHT_PROGRAM").map(PathBuf::from);
        let scene = Self {
            store: own.clone().unwrap_or_else(|| folder.path().join("store")),
            may_be_filled: own.is_some(),
            program: program.unwrap_or_else(|| PROGRAM.into()),
            folder,
            numbers: Mutex::default(),
        };
        scene.configure(2000);
        scene
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("safelight.toml")
    }

    pub(super) fn configure(&self, scan_ms: u64) {
        let text = format!(
            "[store]\npath = \"{}\"\n[control]\nsocket = \"control.sock\"\n[[watch]]\npath = \"runs\"\n\
             [ingest]\nsettle_ms = 100\nclose_ms = 20\nwait_ms = 600000\nincomplete_ms = 1500\n\
             scan_ms = {scan_ms}\n[limits]\nmax_items = {ITEMS_MAX}\n",
            self.store.display()
        );
        // Renamed into place, because `validate` or a reload may read it at any time.
        let aside = self.folder.path().join("safelight.toml.new");
        fs::write(&aside, text).expect("a configuration");
        fs::rename(aside, self.config()).expect("a configuration");
    }

    pub(super) fn start(&self) -> Child {
        let log = self.folder.path().join("daemon.log");
        let log = OpenOptions::new().create(true).append(true).open(log).expect("a log");
        let mut command = Command::new(&self.program);
        command.arg("daemon").arg("--config").arg(self.config());
        command.stdin(Stdio::null()).stderr(log).spawn().expect("the daemon")
    }

    /// Returns the end of the daemons' log.
    pub(super) fn log_end(&self) -> String {
        let log = fs::read(self.folder.path().join("daemon.log")).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(4000)..]).into_owned()
    }

    /// Returns what the store holds of a run, or `None` if `ls` fails.
    pub(super) fn holds(&self, run: &str) -> Option<Wants> {
        let mut command = Command::new(&self.program);
        command.args(["ls", run, "--json", "--config"]).arg(self.config());
        let output = command.stdin(Stdio::null()).output().expect("the program");
        if !output.status.success() {
            return None;
        }
        let mut got = Wants::default();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let item: Value = serde_json::from_str(line).expect("an item");
            let number = match item["state"].as_str() {
                Some("image") => {
                    let path = self.store.join(item["path"].as_str().expect("a path"));
                    let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
                    Some(*numbers.entry(path).or_insert_with_key(|path| number_in_file(path)))
                }
                Some("held") => None,
                _ => {
                    got.rejected.add(&item);
                    continue;
                }
            };
            let (key, step) = (item["key"].as_str().expect("a key"), item["step"].as_u64());
            let images = got.images.entry((key.to_owned(), step.expect("a step"))).or_default();
            // A missing or duplicate image shifts the indexes.
            assert_eq!(item["index"], images.len(), "not the next index: {item}");
            images.push(number);
        }
        Some(got)
    }

    /// Waits until the store holds exactly what it must.
    pub(super) fn wait_until_kept(&self, run: &str, wants: &Wants, is_over: Option<&AtomicBool>) {
        let start = Instant::now();
        let mut got = None;
        while got.as_ref() != Some(wants) {
            if is_over.is_some_and(|is_over| is_over.load(Ordering::Relaxed)) {
                return;
            }
            let differences = || got.as_ref().map(|got| wants.differences(got)).unwrap_or_default();
            assert!(
                start.elapsed() < PATIENCE,
                "{run}: the store does not hold what was written:\n{}\n{}",
                differences(),
                self.log_end()
            );
            std::thread::sleep(Duration::from_millis(50));
            got = self.holds(run);
        }
    }
}
