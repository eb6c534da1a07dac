//! Logs that are copied, rotated by copy and truncate, or rewritten: a line that was read is not read again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::{PROGRAM, TempRun, gray, random_cases, wait_for};

const LOG: &str = "train.media.jsonl";

/// Logs four pictures, of steps 0 to 3.
fn four_pictures() -> TempRun {
    let temp = TempRun::new();
    (0..4).for_each(|step| log_picture(&temp, LOG, step));
    temp
}

fn log_picture(temp: &TempRun, log: &str, step: u64) {
    let path = format!("tensors/{step}.npy");
    temp.write(&path, &gray(step));
    temp.append(log, &format!("{}\n", json!({"key": "k", "step": step, "data": path})));
}

fn copy(temp: &TempRun, from: &str, to: &str) {
    fs::copy(temp.at(from), temp.at(to)).expect("a copy");
}

fn ingested(temp: &TempRun) -> Value {
    let run = temp.at("");
    let ran = temp.run(&["ingest", "--json", run.to_str().expect("a path")]);
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// Each state of an item, and how many lines were read before, as the last `ingest` counts.
fn new_and_repeated(ingested: &Value) -> ([u64; 3], u64) {
    let new = ["image", "held", "rejected"].map(|state| ingested["new"][state].as_u64());
    let repeated = ingested["repeated_lines"].as_u64().expect("a number");
    (new.map(|n| n.expect("a number")), repeated)
}

#[test]
fn a_copied_log_adds_no_items() {
    // Both are found at the same time: four lines gave eight images.
    let temp = four_pictures();
    copy(&temp, LOG, "train-20261128.media.jsonl");
    assert_eq!(new_and_repeated(&ingested(&temp)), ([4, 0, 0], 4));
    // A copy that comes later, after a loss of the index, and a job that goes on in the copy.
    temp.remove_index();
    copy(&temp, LOG, "again.media.jsonl");
    assert_eq!(new_and_repeated(&ingested(&temp)), ([0, 0, 0], 4));
    log_picture(&temp, "again.media.jsonl", 4);
    assert_eq!(new_and_repeated(&ingested(&temp)), ([1, 0, 0], 0));
    let ran = temp.run(&["status"]);
    assert!(
        ran.out.contains("5 images, 0 held back, 0 rejected, 8 log lines read before"),
        "{ran:?}"
    );
}

#[test]
fn a_log_rotated_by_copy_and_truncate_is_read_once() {
    let temp = four_pictures();
    let daemon = temp.daemon("");
    wait_for("the pictures", || temp.n_images() == 4);
    for round in 0..3 {
        copy(&temp, LOG, &format!("train-{round}.media.jsonl"));
        fs::write(temp.at(LOG), "").expect("a truncation");
        log_picture(&temp, LOG, 10 + round);
        wait_for("the next picture", || temp.n_images() == 5 + round);
    }
    // Four lines in the first copy, one in each of the others.
    wait_for("the copies", || temp.status()["runs"][0]["repeated"] == 6);
    let log = daemon.log_text();
    assert_eq!(log.matches("log has lines that were read before").count(), 3, "{log}");
    assert_eq!(daemon.stop().0, Some(0));
    assert_eq!(temp.counts(), [7, 0, 0]);
}

#[test]
fn only_the_changed_line_of_a_rewritten_log_makes_an_item() {
    for by_rename in [true, false] {
        let temp = four_pictures();
        assert_eq!(new_and_repeated(&ingested(&temp)).0, [4, 0, 0]);
        let text = fs::read_to_string(temp.at(LOG)).expect("the log");
        let text = text.replacen("\"step\":2", "\"step\":22", 1);
        if by_rename {
            temp.write("aside", text.as_bytes());
            fs::rename(temp.at("aside"), temp.at(LOG)).expect("a rename");
        } else {
            temp.write(LOG, text.as_bytes());
        }
        assert_eq!(new_and_repeated(&ingested(&temp)), ([1, 0, 0], 3), "{by_rename}");
        let steps: Vec<_> = temp.items().iter().map(|item| item["step"].clone()).collect();
        assert_eq!(steps, [0, 1, 2, 3, 22]);
    }
}

#[test]
fn a_job_may_log_a_line_twice_and_a_copy_adds_none() {
    let temp = four_pictures();
    log_picture(&temp, LOG, 3);
    assert_eq!(new_and_repeated(&ingested(&temp)), ([5, 0, 0], 0));
    copy(&temp, LOG, "copy.media.jsonl");
    log_picture(&temp, "copy.media.jsonl", 3);
    assert_eq!(new_and_repeated(&ingested(&temp)), ([1, 0, 0], 5));
}

#[test]
fn a_rejected_line_of_a_copied_log_is_rejected_once() {
    let temp = TempRun::new();
    temp.write("wide.npy", b"no array");
    let long = "x".repeat(2 << 20);
    temp.append(LOG, "not JSON\n{\"key\":\"k\",\"step\":5,\"data\":\"wide.npy\"}\n");
    temp.append(LOG, &format!("{{\"caption\":\"{long}\"}}\n"));
    temp.append(LOG, &format!("{{\"caption\":\"{long}y\"}}\n"));
    copy(&temp, LOG, "copy.media.jsonl");
    assert_eq!(new_and_repeated(&ingested(&temp)), ([0, 0, 4], 4));
    // Its dump is whole in the end: the line is no repetition of what was rejected.
    temp.write("wide.npy", &gray(1));
    copy(&temp, LOG, "later.media.jsonl");
    let image = |item: &Value| item["state"] == "image";
    ingested(&temp);
    assert_eq!(temp.items().iter().filter(|item| image(item)).count(), 1);
}

#[test]
fn a_job_that_logs_the_same_lines_with_other_dumps_makes_items() {
    let temp = TempRun::new();
    log_picture(&temp, "a.media.jsonl", 1);
    assert_eq!(new_and_repeated(&ingested(&temp)).0, [1, 0, 0]);
    copy(&temp, "a.media.jsonl", "b.media.jsonl");
    temp.write("tensors/1.npy", &gray(100));
    assert_eq!(new_and_repeated(&ingested(&temp)), ([1, 0, 0], 0));
    // A dump that is gone says nothing.
    copy(&temp, "a.media.jsonl", "c.media.jsonl");
    fs::remove_file(temp.at("tensors/1.npy")).expect("a dump");
    assert_eq!(new_and_repeated(&ingested(&temp)), ([0, 0, 0], 1));
}

/// What happens to the logs, and to the program that reads them.
#[derive(Debug, Clone)]
enum Action {
    /// The job logs pictures.
    Append(usize, usize),
    /// A log is copied.
    Copy(usize, usize),
    /// A log is copied and cut to nothing.
    CopyTruncate(usize, usize),
    /// A log is renamed.
    Rename(usize, usize),
    /// One line is changed, in a new file or in place.
    Edit(usize, usize, bool),
    Ingest,
    /// `ingest` is killed after some milliseconds.
    Kill(u64),
    Reindex,
}

const LOGS: [&str; 4] = ["a.media.jsonl", "b.media.jsonl", "a-1.media.jsonl", "b-1.media.jsonl"];

fn action() -> impl Strategy<Value = Action> {
    let log = || 0..LOGS.len();
    prop_oneof![
        6 => (log(), 1usize..90).prop_map(|(log, n)| Action::Append(log, n)),
        3 => (log(), log()).prop_map(|(from, to)| Action::Copy(from, to)),
        3 => (log(), log()).prop_map(|(from, to)| Action::CopyTruncate(from, to)),
        2 => (log(), log()).prop_map(|(from, to)| Action::Rename(from, to)),
        3 => (log(), any::<usize>(), any::<bool>())
            .prop_map(|(log, line, in_place)| Action::Edit(log, line, in_place)),
        3 => Just(Action::Ingest),
        3 => (0u64..200).prop_map(Action::Kill),
        1 => Just(Action::Reindex),
    ]
}

/// The run directory, and each line in it by its number.
struct World {
    temp: TempRun,
    logs: BTreeMap<&'static str, Vec<u64>>,
    n_lines: u64,
}

impl World {
    fn new() -> Self {
        let temp = TempRun::new();
        temp.write("x.npy", &gray(1));
        Self { temp, logs: BTreeMap::new(), n_lines: 0 }
    }

    fn new_line(&mut self) -> u64 {
        self.n_lines += 1;
        self.n_lines
    }

    fn text(lines: &[u64]) -> String {
        let line = |n: &u64| json!({"key": "k", "step": n % 7, "data": "x.npy", "caption": n});
        lines.iter().flat_map(|n| [line(n).to_string(), "\n".to_owned()]).collect()
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Append(log, n) => {
                let lines: Vec<u64> = (0..n).map(|_| self.new_line()).collect();
                self.temp.append(LOGS[log], &Self::text(&lines));
                self.logs.entry(LOGS[log]).or_default().extend(lines);
            }
            Action::Copy(from, to) | Action::CopyTruncate(from, to) => {
                let Some(lines) = self.logs.get(LOGS[from]).cloned() else { return };
                // A log that is written over loses the lines that were not read.
                if from == to || self.logs.contains_key(LOGS[to]) {
                    return;
                }
                copy(&self.temp, LOGS[from], LOGS[to]);
                self.logs.insert(LOGS[to], lines);
                if matches!(action, Action::CopyTruncate(..)) {
                    fs::write(self.temp.at(LOGS[from]), "").expect("a truncation");
                    self.logs.insert(LOGS[from], Vec::new());
                }
            }
            Action::Rename(from, to) => {
                if self.logs.contains_key(LOGS[from]) && !self.logs.contains_key(LOGS[to]) {
                    fs::rename(self.temp.at(LOGS[from]), self.temp.at(LOGS[to])).expect("a rename");
                    let lines = self.logs.remove(LOGS[from]).unwrap_or_default();
                    self.logs.insert(LOGS[to], lines);
                }
            }
            Action::Edit(log, line, in_place) => {
                let Some(mut lines) = self.logs.get(LOGS[log]).cloned() else { return };
                if lines.is_empty() {
                    return;
                }
                let at = line % lines.len();
                lines[at] = self.new_line();
                let (path, text) = (self.temp.at(LOGS[log]), Self::text(&lines));
                if in_place {
                    fs::write(path, text).expect("a log");
                } else {
                    self.temp.write("aside", text.as_bytes());
                    fs::rename(self.temp.at("aside"), path).expect("a rename");
                }
                self.logs.insert(LOGS[log], lines);
            }
            Action::Ingest => {
                // Without any log, `ingest` fails.
                let want = i32::from(self.logs.is_empty());
                let ran = self.temp.ingest();
                assert_eq!(ran.code, want, "{ran:?}");
            }
            Action::Kill(ms) => {
                let mut ingest = Command::new(PROGRAM);
                ingest.arg("ingest").arg(self.temp.at("")).arg("--store").arg(self.temp.store());
                ingest.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                let mut ingest = ingest.spawn().expect("the program");
                std::thread::sleep(Duration::from_millis(ms));
                ingest.kill().ok();
                ingest.wait().expect("its end");
            }
            Action::Reindex => {
                if self.temp.store().is_dir() {
                    let ran = self.temp.run(&["reindex"]);
                    assert!(ran.code == 0 || ran.err.contains("no store"), "{ran:?}");
                }
            }
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let items = self.temp.items();
        let captions = items.iter().map(|item| item["caption"].as_u64().expect("a number"));
        let captions: Vec<u64> = captions.collect();
        let seen: BTreeSet<u64> = captions.iter().copied().collect();
        prop_assert_eq!(seen.len(), captions.len(), "a line made two items");
        prop_assert!(seen.iter().all(|n| (1..=self.n_lines).contains(n)));
        for (log, lines) in &self.logs {
            let missing: Vec<&u64> = lines.iter().filter(|line| !seen.contains(line)).collect();
            prop_assert!(missing.is_empty(), "{}: {:?} made no item", log, missing);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(random_cases("SAFELIGHT_COPY_CASES", 8))]

    #[test]
    fn each_line_makes_one_item_whatever_is_done_to_its_log(
        actions in prop::collection::vec(action(), 4..14),
    ) {
        let mut world = World::new();
        actions.iter().for_each(|action| world.act(action));
        world.act(&Action::Append(0, 1));
        world.act(&Action::Ingest);
        world.check()?;
        world.act(&Action::Reindex);
        world.act(&Action::Copy(0, 3));
        world.act(&Action::Ingest);
        world.check()?;
    }
}
