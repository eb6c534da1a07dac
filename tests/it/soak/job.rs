//! Jobs that write run directories while things happen to the daemon.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::scene::{ITEMS_MAX, Scene, Wants};
use super::seconds;
use crate::harness::{Random, gray, has_cursor};

/// Number of images of a step that the job logs.
const ITEMS_PER_STEP: u64 = 10;

/// A job that writes one run directory.
struct Job<'a> {
    scene: &'a Scene,
    run: String,
    at: PathBuf,
    wants: Wants,
    /// Number of the log since the last rotation. Lines of two logs have no order, so that each has its own key.
    log: u64,
    n_crowd: u64,
    /// Dumps that are not written yet although their lines are.
    late: Vec<(String, u64)>,
    rotated: Vec<PathBuf>,
}

impl<'a> Job<'a> {
    fn new(scene: &'a Scene, number: u64) -> Self {
        let run = format!("run-{number}");
        let at = scene.folder.path().join("runs").join(&run);
        fs::create_dir_all(at.join("tensors")).expect("a run directory");
        let (wants, late, rotated) = (Wants::default(), Vec::new(), Vec::new());
        Self { scene, run, at, wants, log: 0, n_crowd: 0, late, rotated }
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.at.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(path, bytes).expect("a file");
    }

    fn line(&self, log: &str, line: &str) {
        let path = self.at.join(log);
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("a log");
        file.write_all(line.as_bytes()).expect("an append");
    }

    fn logged(&mut self, log: &str, key: &str, step: u64, n: u64) {
        let path = format!("tensors/{n}.npy");
        self.write(&path, &gray(n));
        self.line(log, &format!("{}\n", json!({"key": key, "step": step, "data": path})));
    }

    fn want(&mut self, key: &str, step: u64, images: Vec<Option<u64>>) {
        self.wants.images.insert((key.to_owned(), step), images);
    }

    /// Returns whether the log was read under its first name. Otherwise it would not be found after a rename.
    fn is_known(&self, log: &Path) -> bool {
        has_cursor(&self.scene.store.join("runs").join(&self.run), log)
    }

    /// Writes one thing that jobs write. No other picture has the number `n`.
    fn step(&mut self, n: u64, random: &mut Random, is_over: &AtomicBool) {
        match random.below(100) {
            // A step gets more lines than it may have images.
            0..35 => {
                let (key, step) = (format!("crowd{}", self.log), self.n_crowd / ITEMS_PER_STEP);
                let place = self.n_crowd % ITEMS_PER_STEP;
                self.n_crowd += 1;
                self.logged("a.media.jsonl", &key, step, n);
                let images = self.wants.images.entry((key, step)).or_default();
                images.push((place < ITEMS_MAX).then_some(n));
            }
            35..60 => {
                self.write(&format!("dumps/alone/{n}.npy"), &gray(n));
                self.want("alone", n, vec![Some(n)]);
            }
            // A dump is rewritten.
            60..75 => {
                let step = random.below(12);
                self.write(&format!("dumps/again/{step}.npy"), &gray(n));
                self.want("again", step, vec![Some(n)]);
            }
            // A line is written before its dump.
            75..80 => {
                let path = format!("tensors/late-{n}.npy");
                let line = json!({"key": "late", "step": n, "data": path});
                self.line("late.media.jsonl", &format!("{line}\n"));
                self.late.push((path, n));
                self.want("late", n, vec![Some(n)]);
            }
            80..88 => self.write_late(),
            88..91 => {
                self.line(
                    "b.media.jsonl",
                    ["broken\n", "{\"key\":1}\n"][usize::from(n.is_multiple_of(2))],
                );
                self.wants.rejected.n_lines += 1;
            }
            // A malformed or truncated dump.
            91..94 => {
                let path = format!("dumps/odd/{n}.npy");
                let bytes = gray(n);
                self.write(&path, if n.is_multiple_of(2) { b"no npy file" } else { &bytes[..90] });
                self.wants.rejected.dumps.insert(path);
            }
            94..97 => {
                self.logged("c.media.jsonl", "cut", n, n);
                self.want("cut", n, vec![Some(n)]);
            }
            // The log is truncated once all of it is in the store.
            97 if random.below(3) == 0 => {
                self.finish_late();
                self.scene.wait_until_kept(&self.run, &self.wants, Some(is_over));
                if let Ok(file) = OpenOptions::new().write(true).open(self.at.join("c.media.jsonl"))
                    && !is_over.load(Ordering::Relaxed)
                {
                    file.set_len(0).expect("a truncation");
                }
                // Rotated logs are removed once they are read.
                if !is_over.load(Ordering::Relaxed) {
                    self.rotated.drain(..).for_each(|log| fs::remove_file(log).expect("a removal"));
                }
            }
            98 => {
                let log = self.at.join("a.media.jsonl");
                if self.is_known(&log) {
                    let to = self.at.join(format!("a.media.jsonl.{}", self.log));
                    fs::rename(log, &to).expect("a rename");
                    self.rotated.push(to);
                    (self.log, self.n_crowd) = (self.log + 1, 0);
                }
            }
            _ => {}
        }
    }

    fn write_late(&mut self) {
        if let Some((path, n)) = self.late.pop() {
            self.write(&path, &gray(n));
        }
    }

    fn finish_late(&mut self) {
        while !self.late.is_empty() {
            self.write_late();
        }
    }
}

/// Runs two jobs at a time until `is_over` is set. After a while a job ends, its run directory is removed
/// once all of it is in the store, and another job begins. Returns what the store must hold of each run.
pub(super) fn write_runs(scene: &Scene, is_over: &AtomicBool) -> Vec<(String, Wants)> {
    let mut random = Random(0x50A4_0001);
    let lifetime = Duration::from_secs((seconds() / 5).clamp(3, 90));
    let (mut n, mut n_jobs, mut done) = (0, 2, Vec::new());
    let mut jobs = [Job::new(scene, 0), Job::new(scene, 1)];
    let mut since = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        n += 1;
        let job = &mut jobs[usize::from(random.below(2) == 0)];
        job.step(n, &mut random, is_over);
        if since.elapsed() > lifetime {
            job.finish_late();
            scene.wait_until_kept(&job.run, &job.wants, Some(is_over));
            if !is_over.load(Ordering::Relaxed) {
                fs::remove_dir_all(&job.at).expect("a removal");
                let ended = std::mem::replace(job, Job::new(scene, n_jobs));
                done.push((ended.run, ended.wants));
                (n_jobs, since) = (n_jobs + 1, Instant::now());
            }
        }
        std::thread::sleep(Duration::from_millis(random.below(60)));
    }
    for mut job in jobs {
        job.finish_late();
        done.push((job.run, job.wants));
    }
    done
}
