//! Sessions of a job that resumes, and the ranks of its processes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::{PROGRAM, TempRun, gray, random_cases, wait_for};

fn begin(temp: &TempRun, log: &str, session: &str, rank: u64) {
    temp.append(log, &format!("{}\n", json!({"session": session, "rank": rank})));
}

/// Logs a picture whose caption says `what`.
fn log_picture(temp: &TempRun, log: &str, step: u64, what: &str) {
    let path = format!("tensors/{what}-{step}.npy");
    temp.write(&path, &gray(step));
    let line = json!({"key": "res", "step": step, "data": path, "caption": what});
    temp.append(log, &format!("{line}\n"));
}

fn set_time(temp: &TempRun, log: &str, seconds_ago: u64) {
    let time = SystemTime::now() - Duration::from_secs(seconds_ago);
    let file = File::options().append(true).open(temp.at(log)).expect("the log");
    file.set_modified(time).expect("a time");
}

/// Step, index and caption of each item, with its session and rank.
fn places(temp: &TempRun) -> Vec<(u64, u64, String, String)> {
    let place = |item: &Value| {
        assert_eq!(item["state"], "image", "{item}");
        let number = |field: &str| item[field].as_u64().expect("a number");
        let source = &item["source"];
        let writer = match source["session"].as_str() {
            Some(session) => format!("{session}/{}", source["rank"]),
            None => String::new(),
        };
        (number("step"), number("index"), item["caption"].as_str().unwrap_or("").to_owned(), writer)
    };
    temp.items().iter().map(place).collect()
}

fn place(step: u64, index: u64, what: &str, writer: &str) -> (u64, u64, String, String) {
    (step, index, what.to_owned(), writer.to_owned())
}

#[test]
fn a_later_session_replaces_what_it_logs_again() {
    // Both logs are found at once, in the order of their times and against that of their names.
    let temp = TempRun::new();
    for (log, session, seconds_ago) in [("b", "s0", 200), ("a", "s1", 100)] {
        let log = format!("rank0-{log}.media.jsonl");
        begin(&temp, &log, session, 0);
        (1..=2).for_each(|step| log_picture(&temp, &log, step, session));
        set_time(&temp, &log, seconds_ago);
    }
    let ran = temp.ingest();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("\n2 images were replaced by a later session, "), "{ran:?}");
    let want = [place(1, 0, "s1", "s1/0"), place(2, 0, "s1", "s1/0")];
    assert_eq!(places(&temp), want);
    temp.remove_index();
    assert_eq!(temp.ingest().code, 0);
    assert_eq!(places(&temp), want);
}

#[test]
fn a_resumed_job_may_log_fewer_or_more_pictures() {
    let temp = TempRun::new();
    let log = "train.media.jsonl";
    let daemon = temp.daemon("");
    begin(&temp, log, "s0", 0);
    for step in 1..=4 {
        (0..2).for_each(|n| log_picture(&temp, log, step, &format!("s0.{n}")));
    }
    wait_for("the first session", || temp.n_images() == 8);
    // It goes on from step 3 in the same log, after a restart of the daemon.
    assert_eq!(daemon.stop().0, Some(0));
    let daemon = temp.daemon("");
    begin(&temp, log, "s1", 0);
    log_picture(&temp, log, 3, "s1.0");
    (0..3).for_each(|n| log_picture(&temp, log, 4, &format!("s1.{n}")));
    log_picture(&temp, log, 5, "s1.0");
    wait_for("the second session", || temp.n_images() == 9);
    let mut want = Vec::new();
    for step in 1..=2 {
        want.extend((0..2).map(|n| place(step, n, &format!("s0.{n}"), "s0/0")));
    }
    want.push(place(3, 0, "s1.0", "s1/0"));
    want.extend((0..3).map(|n| place(4, n, &format!("s1.{n}"), "s1/0")));
    want.push(place(5, 0, "s1.0", "s1/0"));
    assert_eq!(places(&temp), want);
    assert_eq!(daemon.stop().0, Some(0));
    temp.remove_index();
    assert_eq!(places(&temp), want);
}

#[test]
fn two_ranks_that_name_the_same_index_both_stay() {
    let temp = TempRun::new();
    temp.write("x.npy", &gray(1));
    for rank in 0..2 {
        let log = format!("rank{rank}.media.jsonl");
        begin(&temp, &log, "s", rank);
        // The line is the same in both logs.
        let line = "{\"key\":\"k\",\"step\":1,\"index\":0,\"data\":\"x.npy\"}\n";
        temp.append(&log, line);
    }
    assert_eq!(temp.ingest().code, 0);
    let both = [place(1, 0, "", "s/0"), place(1, 1, "", "s/1")];
    assert_eq!(places(&temp), both);
    // Rank 1 resumes alone: the picture of rank 0 stays, and so does that of a log without a session.
    temp.append("other.media.jsonl", "{\"key\":\"k\",\"step\":1,\"data\":\"x.npy\"}\n");
    assert_eq!(temp.ingest().code, 0);
    begin(&temp, "rank1.media.jsonl", "t", 1);
    temp.append("rank1.media.jsonl", "{\"key\":\"k\",\"step\":1,\"index\":0,\"data\":\"x.npy\"}\n");
    assert_eq!(temp.ingest().code, 0);
    let want = [place(1, 0, "", "s/0"), place(1, 1, "", "t/1"), place(1, 2, "", "")];
    assert_eq!(places(&temp), want);
}

#[test]
fn lines_of_an_earlier_session_that_come_late_are_counted_and_not_rejected() {
    let temp = TempRun::new();
    begin(&temp, "a.media.jsonl", "s0", 0);
    log_picture(&temp, "a.media.jsonl", 1, "s0");
    assert_eq!(temp.ingest().code, 0);
    begin(&temp, "b.media.jsonl", "s1", 0);
    (1..=3).for_each(|step| log_picture(&temp, "b.media.jsonl", step, "s1"));
    assert_eq!(temp.ingest().code, 0);
    // The last lines of the first session arrive from another machine.
    (2..=4).for_each(|step| log_picture(&temp, "a.media.jsonl", step, "s0"));
    let ran = temp.ingest();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("2 lines of earlier sessions are replaced by later ones"), "{ran:?}");
    let mut want: Vec<_> = (1..=3).map(|step| place(step, 0, "s1", "s1/0")).collect();
    want.push(place(4, 0, "s0", "s0/0"));
    assert_eq!(places(&temp), want);
    assert_eq!(temp.status()["runs"][0]["superseded"], 2);
}

#[test]
fn a_log_that_is_truncated_or_copied_keeps_its_session() {
    let temp = TempRun::new();
    let log = "train.media.jsonl";
    begin(&temp, log, "s0", 3);
    log_picture(&temp, log, 1, "s0");
    assert_eq!(temp.ingest().code, 0);
    fs::copy(temp.at(log), temp.at("train-1.media.jsonl")).expect("a copy");
    fs::write(temp.at(log), "").expect("a truncation");
    log_picture(&temp, log, 2, "s0");
    let ran = temp.ingest();
    assert!(ran.out.contains("1 line of copied or rewritten logs"), "{ran:?}");
    assert_eq!(places(&temp), [place(1, 0, "s0", "s0/3"), place(2, 0, "s0", "s0/3")]);
}

#[test]
fn a_bad_session_is_a_rejected_line() {
    let temp = TempRun::new();
    let log = "train.media.jsonl";
    temp.append(log, "{\"session\":{}}\n{\"session\":\"a\",\"rank\":-1}\n");
    log_picture(&temp, log, 1, "none");
    temp.append(log, "{\"session\":7}\n");
    log_picture(&temp, log, 2, "seven");
    assert_eq!(temp.ingest().code, 3);
    let states = temp.states();
    assert_eq!(states.len(), 4, "{states:?}");
    assert!(states[2].1.contains("session: got {}, want text"), "{states:?}");
    assert!(states[3].1.contains("rank: got -1, want a whole number"), "{states:?}");
    let writers: Vec<_> =
        temp.items().iter().map(|item| item["source"]["session"].clone()).collect();
    assert_eq!(writers[..2], [Value::Null, json!("7")]);
}

#[test]
fn the_image_of_the_later_session_has_its_file() {
    let temp = TempRun::new();
    let log = "train.media.jsonl";
    for session in ["s0", "s1"] {
        begin(&temp, log, session, 0);
        let path = format!("tensors/{session}.npy");
        temp.write(&path, &gray(if session == "s0" { 3 } else { 4 }));
        temp.append(log, &format!("{}\n", json!({"key": "k", "step": 1, "data": path})));
        assert_eq!(temp.ingest().code, 0);
    }
    let items = temp.items();
    assert_eq!(items.len(), 1);
    let kept = temp.store().join(items[0]["path"].as_str().expect("a path"));
    assert!(kept.is_file());
    assert_eq!(items[0]["source"]["session"], "s1");
}

/// What a job does, and the program that reads its logs.
#[derive(Debug, Clone)]
enum Action {
    /// A rank logs pictures at these steps, so many each.
    Log(u64, Vec<u64>, usize),
    /// The job resumes with another session, in new logs or in the same ones.
    Resume(bool),
    Ingest,
    Kill(u64),
    Reindex,
}

fn action() -> impl Strategy<Value = Action> {
    let steps = prop::collection::vec(0u64..5, 1..4);
    prop_oneof![
        6 => (0u64..2, steps, 1usize..4).prop_map(|(rank, steps, n)| Action::Log(rank, steps, n)),
        3 => any::<bool>().prop_map(Action::Resume),
        2 => Just(Action::Ingest),
        3 => (0u64..200).prop_map(Action::Kill),
        1 => Just(Action::Reindex),
    ]
}

/// A job, and the captions that each rank and step must have.
struct Job {
    temp: TempRun,
    session: u64,
    n_logs: u64,
    n_lines: u64,
    want: BTreeMap<(u64, u64), (u64, Vec<u64>)>,
}

impl Job {
    fn new() -> Self {
        let temp = TempRun::new();
        temp.write("x.npy", &gray(1));
        let mut job = Self { temp, session: 0, n_logs: 0, n_lines: 0, want: BTreeMap::new() };
        job.begin();
        job
    }

    fn log(&self, rank: u64) -> String {
        format!("{:03}-{rank}.media.jsonl", self.n_logs)
    }

    fn begin(&mut self) {
        for rank in 0..2 {
            begin(&self.temp, &self.log(rank), &format!("session {}", self.session), rank);
        }
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Log(rank, steps, n) => {
                for step in steps {
                    for _ in 0..*n {
                        self.n_lines += 1;
                        let n = self.n_lines;
                        let line = json!({"key": "k", "step": step, "data": "x.npy", "caption": n});
                        self.temp.append(&self.log(*rank), &format!("{line}\n"));
                        let (session, captions) = self.want.entry((*rank, *step)).or_default();
                        if std::mem::replace(session, self.session) != self.session {
                            captions.clear();
                        }
                        captions.push(n);
                    }
                }
            }
            Action::Resume(in_new_logs) => {
                self.session += 1;
                self.n_logs += u64::from(*in_new_logs);
                self.begin();
            }
            Action::Ingest => {
                let ran = self.temp.ingest();
                assert_eq!(ran.code, 0, "{ran:?}");
            }
            Action::Kill(ms) => {
                let mut ingest = Command::new(PROGRAM);
                ingest.arg("ingest").arg(self.temp.at("")).arg("--store").arg(self.temp.store());
                ingest.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                let mut ingest = ingest.spawn().expect("the program");
                std::thread::sleep(Duration::from_millis(*ms));
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
        let mut got: BTreeMap<(u64, u64), (u64, Vec<u64>)> = BTreeMap::new();
        for item in self.temp.items() {
            let source = &item["source"];
            let session = source["session"].as_str().and_then(|text| text.strip_prefix("session "));
            let session = session.and_then(|text| text.parse().ok()).expect("a session");
            let rank = source["rank"].as_u64().expect("a rank");
            let step = item["step"].as_u64().expect("a step");
            let of_step = got.entry((rank, step)).or_insert((session, Vec::new()));
            prop_assert_eq!(of_step.0, session, "two sessions: {}", item);
            of_step.1.push(item["caption"].as_u64().expect("a number"));
        }
        got.values_mut().for_each(|(_, captions)| captions.sort_unstable());
        prop_assert_eq!(&got, &self.want);
        Ok(())
    }
}

proptest! {
    #![proptest_config(random_cases("SAFELIGHT_SESSION_CASES", 8))]

    #[test]
    fn each_step_has_the_items_of_the_last_session_that_logged_it(
        actions in prop::collection::vec(action(), 3..14),
    ) {
        let mut job = Job::new();
        actions.iter().for_each(|action| job.act(action));
        job.act(&Action::Ingest);
        job.check()?;
        job.act(&Action::Reindex);
        job.check()?;
        job.act(&Action::Resume(true));
        job.act(&Action::Log(0, vec![1, 2], 2));
        job.act(&Action::Ingest);
        job.check()?;
    }
}

/// The first line of a later session waits for its dump for so long that it is rejected, and is tried again.
#[test]
fn a_waiting_item_of_a_later_session_replaces_those_of_an_earlier_one_when_it_is_made() {
    let temp = TempRun::new();
    begin(&temp, "a.media.jsonl", "s0", 0);
    log_picture(&temp, "a.media.jsonl", 1, "s0");
    assert_eq!(temp.ingest().code, 0);
    begin(&temp, "a.media.jsonl", "s1", 0);
    log_picture(&temp, "a.media.jsonl", 1, "s1");
    let dump = temp.at("tensors/s1-1.npy");
    fs::rename(&dump, temp.at("later.npy")).expect("a rename");
    assert_eq!(temp.ingest().code, 3);
    assert_eq!(temp.counts(), [1, 0, 1], "the image of s0 stays for now");
    fs::rename(temp.at("later.npy"), &dump).expect("a rename");
    assert_eq!(temp.ingest().code, 0);
    let got = places(&temp);
    assert_eq!((got.len(), &*got[0].2, &*got[0].3), (1, "s1", "s1/0"), "{got:?}");
    temp.remove_index();
    assert_eq!(places(&temp), got);
}
