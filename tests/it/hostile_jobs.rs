//! Files that a job may write to hurt others: they cost little memory, and no other run its pictures.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::harness::{Daemon, TempRun, gray, npy, npz, wait_for, wait_for_all};

/// How long another run may wait for its picture. Far less than each of these files cost before, and more than a
/// busy machine needs.
const PATIENCE: Duration = Duration::from_secs(15);

/// The greatest resident memory of the daemon, in megabytes. By default, images and texts may take 512 of them.
const MEGABYTES_MAX: u64 = 300;

/// A daemon that reads a hostile run `run`, and a well-behaved run `run-good` beside it.
struct Hostile {
    run: TempRun,
    daemon: Daemon,
    n_good: u64,
}

impl Hostile {
    fn new() -> Self {
        let run = TempRun::new();
        fs::create_dir(run.folder().join("run-good")).expect("a run directory");
        let daemon = run.daemon("");
        Self { run, daemon, n_good: 0 }
    }

    /// Writes a dump in the well-behaved run, and checks that its picture comes soon.
    fn check_good(&mut self) {
        self.n_good += 1;
        let (run, step) = (self.run.folder().join("run-good"), self.n_good);
        fs::create_dir_all(run.join("dumps/k")).expect("a folder");
        fs::write(run.join("part"), gray(step)).expect("a dump");
        let start = Instant::now();
        fs::rename(run.join("part"), run.join(format!("dumps/k/{step}.npy"))).expect("a dump");
        let folder = self.run.store().join("runs/run-good/media/images");
        let is_there = || {
            let files = fs::read_dir(&folder).into_iter().flatten().flatten();
            files.count() as u64 >= step
        };
        wait_for("the picture of another run", is_there);
        let waited = start.elapsed();
        assert!(waited < PATIENCE, "another run waited {waited:?} for its picture");
    }

    /// Waits until the hostile run has this many items, while another run gets its pictures.
    fn wait_for_items(&mut self, n: usize) {
        let start = Instant::now();
        while self.n_items() < n {
            self.check_good();
            assert!(start.elapsed() < Duration::from_mins(2), "{} of {n} items", self.n_items());
        }
        self.check_good();
    }

    fn n_items(&self) -> usize {
        let is_media = |line: &&str| line.contains(r#""kind":"media""#);
        self.journal().lines().filter(is_media).count()
    }

    /// The journal of the hostile run.
    fn journal(&self) -> String {
        let segments = fs::read_dir(self.run.store().join("runs/run/journal"));
        let segments = segments.into_iter().flatten().flatten();
        segments.filter_map(|segment| fs::read_to_string(segment.path()).ok()).collect()
    }

    /// Checks the greatest resident memory since the start, and that the daemon is healthy.
    fn check_memory(&self) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.daemon.child.id()));
        let status = status.expect("a status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        assert!(kilobytes / 1024 < MEGABYTES_MAX, "{kilobytes} kB were resident");
    }

    fn check_healthy(&self) {
        let health = self.run.run(&["health"]);
        assert_eq!(health.code, 0, "{health:?}");
    }
}

/// A dump of 60 images of one pixel.
fn many_images() -> Vec<u8> {
    npy("|u1", &[60, 1, 1], &[7; 60])
}

/// Writes `fields` as a line about [`many_images`].
fn log_many(hostile: &Hostile, fields: &str) {
    hostile.run.write("tensors/b.npy", &many_images());
    let line = r#"{"key":"k","step":1,"data":"tensors/b.npy","format":"NHW","#;
    hostile.run.append("x.media.jsonl", &format!("{line}{fields}}}\n"));
}

/// Bug: each image had its own parsed copy of a line's unknown fields, 70 times as large as their text: 7 GB.
#[test]
fn a_line_of_small_objects_for_many_images_takes_little_memory() {
    let mut hostile = Hostile::new();
    let objects = vec![r#"{"a":1}"#; 125_000].join(",");
    log_many(&hostile, &format!(r#""x":[{objects}]"#));
    hostile.wait_for_items(60);
    hostile.check_memory();
    hostile.check_healthy();
    let journal = hostile.journal();
    let item = journal.lines().find(|line| line.contains(r#""kind":"media""#)).expect("an item");
    let item: Value = serde_json::from_str(item).expect("an item");
    assert_eq!(item["extra"]["x"].as_array().map(Vec::len), Some(125_000), "nothing is lost");
}

#[test]
fn labels_boxes_and_captions_for_many_images_take_little_memory() {
    let mut hostile = Hostile::new();
    let labels: Vec<_> = (10_000..60_000).map(|i| format!(r#""{i}":"c""#)).collect();
    let boxes = vec!["{}"; 40_000].join(",");
    let nested = vec!["[[],[]]"; 10_000].join(",");
    log_many(
        &hostile,
        &format!(
            r#""boxes":{{"p":{{"box_data":[{boxes}],"class_labels":{{{}}}}}}},"caption":{{"a":[{nested}]}}"#,
            labels.join(",")
        ),
    );
    hostile.wait_for_items(60);
    hostile.check_memory();
    hostile.check_healthy();
}

#[test]
fn a_large_file_of_annotations_takes_little_memory() {
    let mut hostile = Hostile::new();
    let nested = vec!["[[],[]]"; 1_500_000].join(",");
    hostile.run.write("boxes.json", format!(r#"{{"p":{{"box_data":[{nested}]}}}}"#).as_bytes());
    hostile.run.write("tensors/a.npy", &gray(1));
    let line =
        json!({"key": "k", "step": 1, "data": "tensors/a.npy", "boxes": {"path": "boxes.json"}});
    hostile.run.append("x.media.jsonl", &format!("{line}\n"));
    hostile.wait_for_items(1);
    hostile.check_memory();
    hostile.check_healthy();
}

/// Bug: batches were handed over only when the engine had nothing else to do: another run waited for minutes.
#[test]
fn a_log_of_blank_lines_costs_no_other_run_its_pictures() {
    let mut hostile = Hostile::new();
    let log = OpenOptions::new().create(true).append(true).open(hostile.run.at("x.media.jsonl"));
    let mut log = log.expect("a log");
    for _ in 0..5 {
        log.write_all(&vec![b'\n'; 1 << 16]).expect("lines");
        hostile.check_good();
    }
    hostile.check_memory();
}

#[test]
fn a_sparse_log_costs_no_other_run_its_pictures() {
    let mut hostile = Hostile::new();
    let log = File::create(hostile.run.at("x.media.jsonl")).expect("a log");
    log.set_len(1 << 40).expect("a sparse file");
    for _ in 0..5 {
        hostile.check_good();
    }
    hostile.check_memory();
}

#[test]
fn an_npz_of_thousands_of_arrays_costs_no_other_run_its_pictures() {
    let mut hostile = Hostile::new();
    let names: Vec<String> = (0..1500).map(|i| format!("a{i}.npy")).collect();
    let arrays: Vec<(&str, Vec<u8>)> = names.iter().map(|name| (&**name, gray(1))).collect();
    hostile.run.write("dumps/k/1.npz", &npz(&arrays));
    hostile.wait_for_items(1500);
    hostile.check_memory();
    hostile.check_healthy();
}

/// Bug: the digest of 8 GB that no image needs held up the commits of all runs.
#[test]
fn a_sparse_tail_of_a_dump_costs_no_other_run_its_pictures() {
    let mut hostile = Hostile::new();
    for step in 0..3 {
        hostile.run.write("part", &gray(1));
        let dump = OpenOptions::new().write(true).open(hostile.run.at("part")).expect("a dump");
        dump.set_len(7 << 30).expect("a sparse file");
        fs::create_dir_all(hostile.run.at("dumps/k")).expect("a folder");
        let to = hostile.run.at(&format!("dumps/k/{step}.npy"));
        fs::rename(hostile.run.at("part"), to).expect("a dump");
    }
    for _ in 0..5 {
        hostile.check_good();
    }
    hostile.check_memory();
}

#[test]
fn long_identities_take_little_memory() {
    let mut hostile = Hostile::new();
    let objects = vec![r#"{"a":1}"#; 125_000].join(",");
    for i in 0..12 {
        let run = hostile.run.folder().join(format!("run-{i}"));
        fs::create_dir_all(run.join("dumps/k")).expect("a folder");
        let identity = format!(r#"{{"id":"long{i}","name":"n","config":[{objects}]}}"#);
        fs::write(run.join("safelight.json"), identity).expect("a file");
        fs::write(run.join("dumps/k/1.npy"), gray(1)).expect("a dump");
    }
    let is_kept = |i: &u64| hostile.run.store().join(format!("runs/long{i}/media/images")).is_dir();
    wait_for_all("the runs with pictures", 12, || (0..12).filter(is_kept).count() as u64);
    hostile.check_good();
    hostile.check_memory();
    hostile.check_healthy();
    let log = hostile.daemon.log_text();
    assert!(log.contains("field of a run ignored") && log.contains("may have 65536"), "{log}");
}

#[test]
fn thousands_of_dumps_cost_no_other_run_its_pictures() {
    let mut hostile = Hostile::new();
    for step in 0..1500 {
        hostile.run.write(&format!("dumps/k/{step}.npy"), &gray(step));
    }
    for _ in 0..5 {
        hostile.check_good();
    }
    hostile.wait_for_items(1500);
    hostile.check_memory();
    hostile.check_healthy();
}
