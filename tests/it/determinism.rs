//! `ingest` is deterministic: the same run directory and settings give the same journal, line by line, whatever
//! interrupted it. The backfill rests on this: what a second try delivers is what the first one would have delivered.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{PROGRAM, Random, TempRun, gray, gray_batch, number_from};

/// Lines wait for no dump: while one does, the other logs go on.
const SETTINGS: &str = "[ingest]\nsettle_ms = 0\n[work]\nthreads = 2\n[limits]\nmax_items = 3\n";

/// Number of lines in each of the four logs.
const LINES: u64 = 60;

/// Writes four logs whose steps and keys overlap, batches over the limit, path dumps, masks, and what is rejected.
fn write_run(temp: &TempRun) {
    for log in 0..4 {
        let mut lines = String::new();
        for n in 0..LINES {
            let path = format!("tensors/{log}/{n}.npy");
            let (key, step) =
                (["val/pred", "val/both", "train"][usize::try_from(n % 3).expect("small")], n / 6);
            let key = if key == "val/both" { key.to_owned() } else { format!("{key}{log}") };
            let number = log * 1000 + n;
            match n % 7 {
                // Some of a batch are over the limit.
                0 => temp.write(&path, &gray_batch(&[number, number, number + 1])),
                5 => temp.write(&path, b"no array"),
                // The dump is missing.
                6 => {}
                _ => temp.write(&path, &gray(number)),
            }
            let mut line =
                json!({"key": key, "step": step, "data": path, "caption": number.to_string()});
            if n % 7 == 0 {
                line["format"] = json!("NHW");
            } else if n % 7 == 2 {
                line["masks"] = json!({"gt": {"path": path}});
            }
            lines.extend([line.to_string(), "\n".to_owned()]);
            if n % 20 == 19 {
                lines.push_str("broken\n");
            }
        }
        temp.append(&format!("rank{log}.media.jsonl"), &lines);
    }
    for step in 0..40 {
        temp.write(&format!("dumps/a/{step}.npy"), &gray(9000 + step));
        temp.write(&format!("dumps/b/c/{step}.npy.json"), b"{\"format\":\"NHW\"}");
        temp.write(&format!("dumps/b/c/{step}.npy"), &gray_batch(&[1, 2, 3, 4, step]));
        if step % 9 == 0 {
            temp.write(&format!("dumps/a/{step}.npy"), b"cut off");
        }
    }
}

/// Every line of the run's journal, in order, without the places where sources were read: a log's has a random number.
fn journal(store: &Path) -> Vec<Value> {
    let mut segments: Vec<_> = fs::read_dir(store.join("runs/run/journal"))
        .expect("a journal")
        .map(|segment| segment.expect("a segment").path())
        .collect();
    segments.sort();
    let text = segments.iter().map(|path| fs::read_to_string(path).expect("a segment"));
    let text = text.collect::<String>();
    let line = |line: &str| {
        let mut line: Value = serde_json::from_str(line).expect("a line");
        let fields = line.as_object_mut().expect("an object");
        fields.retain(|name, _| !["cursor", "crc"].contains(&name.as_str()));
        line
    };
    text.lines().map(line).collect()
}

fn ingest(temp: &TempRun, config: &Path, store: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("ingest").arg(temp.at("")).arg("--config").arg(config).arg("--store").arg(store);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[test]
fn a_run_that_is_killed_and_begun_again_has_the_journal_of_one_that_was_not() {
    let n_stores = number_from("SAFELIGHT_DETERMINISM_STORES", 8);
    let temp = TempRun::new();
    write_run(&temp);
    let config = temp.configure(SETTINGS);
    let whole = temp.folder().join("whole");
    let start = Instant::now();
    let status = ingest(&temp, &config, &whole).status().expect("the program");
    let took = start.elapsed();
    assert_eq!(status.code(), Some(3), "something is rejected");
    let want = journal(&whole);
    let count = |state: &str| want.iter().filter(|line| line["state"] == state).count();
    let [n_image, n_held, n_rejected] = ["image", "held", "rejected"].map(count);
    assert!(n_image > 150 && n_held > 100 && n_rejected > 40, "{n_image} {n_held} {n_rejected}");

    let (mut random, mut n_killed, mut n_cut) = (Random(0x5EED), 0, 0);
    for n in 0..n_stores {
        let store = temp.folder().join(format!("store{n}"));
        for _ in 0..3 {
            let mut child = ingest(&temp, &config, &store).spawn().expect("the program");
            let most = u64::try_from(took.as_micros()).expect("short");
            std::thread::sleep(Duration::from_micros(random.below(most)));
            n_killed += u64::from(child.try_wait().expect("a status").is_none());
            child.kill().expect("a kill");
            child.wait().expect("an end");
            let segment = fs::read_to_string(store.join("runs/run/journal/00000001.jsonl"));
            let n_lines = segment.map_or(0, |text| text.lines().count());
            n_cut += u64::from(n_lines > 0 && n_lines < want.len());
        }
        let status = ingest(&temp, &config, &store).status().expect("the program");
        assert!(matches!(status.code(), Some(0 | 3)), "{status}");
        let got = journal(&store);
        let first = got.iter().zip(&want).find(|(got, want)| got != want);
        assert!(first.is_none(), "store {n}: the first line that differs: {first:#?}");
        assert_eq!(got.len(), want.len(), "store {n}");
    }
    assert!(n_cut >= n_stores / 2, "only {n_cut} kills in the midst of the journal");
    eprintln!(
        "{n_killed} kills of {n_stores} ingests, {n_cut} of them in the midst of the journal: {} lines, all equal",
        want.len()
    );
}
