//! Half-written lines, long lines and short logs, followed by a daemon that is killed and restarted.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{TempRun, gray, wait_for};

fn steps(temp: &TempRun) -> Vec<(String, u64)> {
    let items = temp.items();
    let place = |item: &Value| {
        assert_eq!(item["state"], "image", "{item}");
        (item["key"].as_str().expect("a key").to_owned(), item["step"].as_u64().expect("a step"))
    };
    items.iter().map(place).collect()
}

fn line(step: u64) -> String {
    format!("{}\n", json!({"key": "k", "step": step, "data": "x.npy"}))
}

#[test]
fn a_line_half_written_at_a_kill_is_read_once() {
    let temp = TempRun::new();
    temp.write("x.npy", &gray(1));
    let want = |n: u64| (1..=n).map(|step| ("k".to_owned(), step)).collect::<Vec<_>>();
    let mut daemon = temp.daemon("");
    for round in 0..4 {
        // The second half of a line and the first half of the next one.
        let (first, second) = (line(2 * round + 1), line(2 * round + 2));
        let half = [1, 20, second.len() - 1, 7][usize::try_from(round).expect("0 to 3")];
        temp.append("a.media.jsonl", &(first + &second[..half]));
        wait_for("the whole line", || steps(&temp) == want(2 * round + 1));
        let begun = || temp.status()["ingest"]["begun_lines"][0][2] == half;
        wait_for("the half-written line", begun);
        // Dropping the daemon kills it. The line is completed in turn before or after that.
        if round % 2 == 0 {
            drop(daemon);
            temp.append("a.media.jsonl", &second[half..]);
            daemon = temp.daemon("");
        } else {
            drop(daemon);
            daemon = temp.daemon("");
            wait_for("the half-written line", begun);
            temp.append("a.media.jsonl", &second[half..]);
        }
        wait_for("the line", || steps(&temp) == want(2 * round + 2));
    }
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_line_of_8_mib_is_rejected_alone_even_across_a_restart() {
    let temp = TempRun::new();
    temp.write("x.npy", &gray(1));
    let daemon = temp.daemon("");
    let long = format!("{{\"caption\":\"{}\"}}\n", "x".repeat(8 << 20));
    let (first, rest) = long.split_at(5 << 20);
    temp.append("a.media.jsonl", &(line(1) + first));
    wait_for("the first line", || temp.counts() == [1, 0, 0]);
    wait_for("the half-written line", || {
        temp.status()["ingest"]["begun_lines"][0][2].as_u64() == Some(5 << 20)
    });
    drop(daemon);
    let daemon = temp.daemon("");
    temp.append("a.media.jsonl", rest);
    temp.append("a.media.jsonl", &line(2));
    wait_for("the last line", || temp.counts() == [2, 0, 1]);
    let (_, reason) =
        temp.states().into_iter().find(|(state, _)| state == "rejected").expect("one");
    assert!(reason.contains("line of 8388622 bytes, limits.line_bytes_max is 1048576"), "{reason}");
    drop(daemon);
    let daemon = temp.daemon("");
    temp.append("a.media.jsonl", &line(3));
    wait_for("a line after it", || temp.counts() == [3, 0, 1]);
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_log_of_one_byte_is_followed_and_distinguished_from_another() {
    let temp = TempRun::new();
    temp.write("x.npy", &gray(1));
    let daemon = temp.daemon("");
    temp.append("a.media.jsonl", "{");
    temp.append("b.media.jsonl", "\n");
    temp.append("c.media.jsonl", "");
    let begun = || temp.status()["ingest"]["begun_lines"].as_array().map(Vec::len) == Some(1);
    wait_for("the half-written line", begun);
    drop(daemon);
    // Renamed while no daemon runs: only its byte and its inode identify the log.
    fs::rename(temp.at("a.media.jsonl"), temp.at("a.media.jsonl.1")).expect("a rename");
    fs::rename(temp.at("b.media.jsonl"), temp.at("b.media.jsonl.1")).expect("a rename");
    temp.append("a.media.jsonl.1", &line(1)[1..]);
    temp.append("b.media.jsonl.1", &line(2));
    for (log, step) in ["a", "b", "c"].into_iter().zip(3..) {
        temp.append(&format!("{log}.media.jsonl"), &("{\"commit\":1}\n".to_owned() + &line(step)));
    }
    let daemon = temp.daemon("");
    // Three logs with an equal first line are three logs.
    let want = [1, 2, 3, 4, 5].map(|step| ("k".to_owned(), step));
    wait_for("all lines", || steps(&temp) == want);
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(steps(&temp), want);
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_log_rotated_and_truncated_while_it_is_written_loses_no_line() {
    // The model in `ingest::logs::tests` checks the reading. This checks the daemon, with its events and
    // threads.
    let temp = TempRun::new();
    temp.write("x.npy", &gray(1));
    let daemon = temp.daemon("[ingest]\nscan_ms = 1000\n");
    let mut step = 0;
    let mut next = |n: u64| {
        let lines: String = (step + 1..=step + n).map(line).collect();
        step += n;
        lines
    };
    for round in 0..6 {
        temp.append("a.media.jsonl", &next(40));
        // A log must be read under its first name before it is renamed.
        wait_for("the log", || temp.items().len() > 49 * round);
        // Rotated by a rename. The job then writes into a new log.
        fs::rename(temp.at("a.media.jsonl"), temp.at("a.media.jsonl.1")).expect("a rename");
        temp.append("a.media.jsonl.1", &next(3));
        temp.append("a.media.jsonl", &next(5));
        // Replaced by a copy that has one line more.
        let text = fs::read_to_string(temp.at("a.media.jsonl")).expect("the log");
        fs::write(temp.at("aside"), text + &next(1)).expect("a copy");
        fs::rename(temp.at("aside"), temp.at("a.media.jsonl")).expect("a rename");
        wait_for("all lines", || temp.items().len() == 49 * (round + 1));
        if round % 2 == 1 {
            fs::write(temp.at("a.media.jsonl"), "").expect("a truncation");
        }
    }
    std::thread::sleep(Duration::from_millis(1500));
    let want: Vec<_> = (1..=49 * 6).map(|step| ("k".to_owned(), step)).collect();
    assert_eq!(steps(&temp), want);
    assert_eq!(daemon.stop().0, Some(0));
}
