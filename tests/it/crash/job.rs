//! A job that writes a run directory in many ways while the program is killed.

use std::fs::{self, File};
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::oracle::Oracle;
use crate::harness::{Random, TempRun, gray, gray_batch, has_cursor};

/// Writes a run directory and records in the oracle what it wrote. Is never killed.
pub(super) struct Producer<'a> {
    temp: &'a TempRun,
    random: Random,
    pub(super) oracle: Oracle,
    next: u64,
    /// Number of the log since the last rotation. Each log has a key of its own, because the lines of two
    /// logs have no order.
    log: u64,
    /// Dumps that are not written yet although their lines are.
    late: Vec<(String, u64)>,
    /// Whether a dump may be written after its line. `ingest` does not wait for such a dump.
    is_patient: bool,
}

impl<'a> Producer<'a> {
    pub(super) fn new(temp: &'a TempRun, seed: u64, is_patient: bool) -> Self {
        let (random, oracle) = (Random(seed), Oracle::default());
        fs::create_dir_all(temp.at("tensors")).expect("a folder");
        Self { temp, random, oracle, next: 0, log: 0, late: Vec::new(), is_patient }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn numbers(&mut self, n: u64) -> Vec<u64> {
        (0..n).map(|_| self.number()).collect()
    }

    /// Writes a dump under another name and renames it.
    pub(super) fn write_at_once(&self, path: &str, bytes: &[u8]) {
        let aside = self.temp.at("tensors/.aside");
        fs::write(&aside, bytes).expect("a file");
        let place = self.temp.at(path);
        fs::create_dir_all(place.parent().expect("a folder")).expect("folders");
        fs::rename(aside, place).expect("a rename");
    }

    /// Writes a dump in two parts under its final name.
    fn write_slowly(&mut self, path: &str, bytes: &[u8]) {
        let place = self.temp.at(path);
        fs::create_dir_all(place.parent().expect("a folder")).expect("folders");
        let mut file = File::create(place).expect("a file");
        let middle = usize::try_from(self.random.below(bytes.len() as u64)).expect("small");
        file.write_all(&bytes[..middle]).expect("a beginning");
        std::thread::sleep(Duration::from_millis(self.random.below(8)));
        file.write_all(&bytes[middle..]).expect("an end");
    }

    fn write(&mut self, path: &str, bytes: &[u8]) {
        if self.random.below(2) == 0 {
            self.write_at_once(path, bytes);
        } else {
            self.write_slowly(path, bytes);
        }
    }

    pub(super) fn log(&self, log: &str, line: &Value) {
        self.temp.append(log, &format!("{line}\n"));
    }

    /// Writes a dump whose line is written already.
    fn write_late(&mut self) {
        if let Some((path, n)) = self.late.pop() {
            self.write_at_once(&path, &gray(n));
        }
    }

    #[expect(clippy::too_many_lines, reason = "a list of what a job may do")]
    fn step(&mut self) {
        match self.random.below(22) {
            // A step gets more lines than it may have images.
            0..=7 => {
                let n = self.number();
                let (key, step) = (format!("line{}", self.log), n / 16);
                let path = format!("tensors/{n}.npy");
                self.write_at_once(&path, &gray(n));
                self.log("a.media.jsonl", &json!({"key": key, "step": step, "data": path}));
                self.oracle.add(&key, step, n, false);
            }
            8 | 9 => {
                let n = self.number();
                self.write(&format!("dumps/alone/{n}.npy"), &gray(n));
                self.oracle.replace("alone", n, &[n]);
            }
            // A dump is rewritten.
            10 | 11 => {
                let (n, step) = (self.number(), self.random.below(12));
                self.write(&format!("dumps/again/{step}.npy"), &gray(n));
                self.oracle.replace("again", step, &[n]);
            }
            // A dump is rewritten with more or fewer pictures.
            12 | 13 => {
                let (step, n) = (self.random.below(6), 1 + self.random.below(9));
                let numbers = self.numbers(n);
                self.write_at_once(
                    &format!("dumps/sheet/{step}.npy.json"),
                    b"{\"format\":\"NHW\"}",
                );
                self.write(&format!("dumps/sheet/{step}.npy"), &gray_batch(&numbers));
                self.oracle.replace("sheet", step, &numbers);
            }
            14 => {
                let n = 1 + self.random.below(9);
                let numbers = self.numbers(n);
                let (step, path) = (numbers[0], format!("tensors/batch-{}.npy", numbers[0]));
                self.write_at_once(&path, &gray_batch(&numbers));
                self.log(
                    "b.media.jsonl",
                    &json!({"key": "batch", "step": step, "data": path, "format": "NHW"}),
                );
                numbers.iter().for_each(|&n| self.oracle.add("batch", step, n, false));
            }
            15 => {
                let n = self.number();
                let (path, mask) = (format!("tensors/{n}.npy"), format!("tensors/mask-{n}.npy"));
                self.write_at_once(&path, &gray(n));
                self.write_at_once(&mask, &gray(n));
                let position = json!({"minX": 0.1, "maxX": 0.5, "minY": 0.2, "maxY": 0.9});
                let line = json!({
                    "key": "layers", "step": n, "data": path,
                    "masks": {"gt": {"mask_data": mask}},
                    "boxes": {"pred": {"box_data": [{"position": position, "class_id": n}]}},
                });
                self.log("b.media.jsonl", &line);
                self.oracle.add("layers", n, n, true);
            }
            16 => {
                self.temp.append(
                    "b.media.jsonl",
                    ["broken\n", "{\"key\":1}\n"][usize::from(self.next.is_multiple_of(2))],
                );
                self.oracle.rejected.n_lines += 1;
            }
            // A malformed dump, perhaps replaced by a good one later. Never the other way round: if
            // the good version was not read in time, only the bad one would be in the store.
            17 => {
                let step = self.random.below(20);
                let path = format!("dumps/odd/{step}.npy");
                let was_good = self.oracle.images.contains_key(&("odd".to_owned(), step));
                if !was_good && self.random.below(2) == 0 {
                    self.write_at_once(
                        &path,
                        format!("this is no npy file {}", self.next).as_bytes(),
                    );
                    self.oracle.rejected.dumps.insert(path);
                } else {
                    let n = self.number();
                    self.write(&path, &gray(n));
                    self.oracle.rejected.dumps.remove(&path);
                    self.oracle.replace("odd", step, &[n]);
                }
            }
            18 => {
                // A rotated log is only found if it was read under its first name.
                if has_cursor(&self.temp.store().join("runs/run"), &self.temp.at("a.media.jsonl")) {
                    let to = format!("a.media.jsonl.{}", self.log);
                    fs::rename(self.temp.at("a.media.jsonl"), self.temp.at(&to)).expect("a rename");
                    self.log += 1;
                }
            }
            19 if self.is_patient => {
                let n = self.number();
                let path = format!("tensors/late-{n}.npy");
                self.log("late.media.jsonl", &json!({"key": "late", "step": n, "data": path}));
                self.late.push((path, n));
                self.oracle.add("late", n, n, false);
            }
            20 => self.write_late(),
            _ => {
                // A line is written in two halves.
                let n = self.number();
                let path = format!("tensors/{n}.npy");
                self.write_at_once(&path, &gray(n));
                let line = json!({"key": "halves", "step": n, "data": path}).to_string() + "\n";
                let (begun, rest) = line.split_at(line.len() / 2);
                self.temp.append("c.media.jsonl", begun);
                std::thread::sleep(Duration::from_millis(self.random.below(8)));
                self.temp.append("c.media.jsonl", rest);
                self.oracle.add("halves", n, n, false);
            }
        }
    }

    /// Writes until `is_over` is set. Returns what the store must hold.
    pub(super) fn run(mut self, is_over: &AtomicBool) -> Oracle {
        while !is_over.load(Ordering::Relaxed) {
            self.step();
            std::thread::sleep(Duration::from_millis(self.random.below(16)));
        }
        while !self.late.is_empty() {
            self.write_late();
        }
        self.oracle
    }
}
