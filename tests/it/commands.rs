//! The command line: exit codes, messages, tables and JSON.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{PROGRAM, Ran, TempRun};

fn program(args: &[&str]) -> Ran {
    Command::new(PROGRAM).args(args).stdin(Stdio::null()).output().expect("the program").into()
}

#[test]
fn exit_codes_are_as_documented() {
    assert_eq!(program(&["--version"]).code, 0);
    assert_eq!(program(&[]).code, 2);
    assert_eq!(program(&["ls", "--stat", "held"]).code, 2);
    assert_eq!(program(&["ls", "run", "--step", "x..y"]).code, 2);
    let none = program(&["ls", "--store", "/nonexistent/store"]);
    assert_eq!(none.code, 1);
    assert!(none.err.contains("no store at /nonexistent/store"), "{}", none.err);
    assert_eq!(program(&["ingest", "/nonexistent/run", "--store", "/tmp/never"]).code, 1);
}

#[test]
fn without_a_configuration_file_the_daemon_says_where_it_looked() {
    if std::path::Path::new("/etc/safelight/safelight.toml").is_file() {
        crate::harness::skip("a configuration file is installed");
        return;
    }
    let temp = TempRun::new();
    // With or without a store: no store is created at a default path.
    let store = temp.store();
    for args in
        [&["daemon"][..], &["daemon", "--store", store.to_str().expect("a path")], &["validate"]]
    {
        // No file of this user.
        let ran = Command::new(PROGRAM).args(args).env("XDG_CONFIG_HOME", temp.folder()).output();
        let ran: Ran = ran.expect("the program").into();
        assert_eq!(ran.code, 78, "{ran:?}");
        let user = temp.folder().join("safelight/safelight.toml");
        let places = format!("{} and /etc/safelight/safelight.toml", user.display());
        assert!(ran.err.contains(&places), "{ran:?}");
        assert!(ran.err.contains("--config"), "{ran:?}");
    }
    assert!(!store.is_dir());
}

#[test]
fn validate_points_at_the_mistake() {
    let temp = TempRun::new();
    let config = temp.folder().join("s.toml");
    let validate = |text: &str| {
        fs::write(&config, text).expect("a configuration");
        program(&["validate", "--config", config.to_str().expect("a path")])
    };
    assert_eq!(validate("[limits]\nmax_items = 5\n").code, 0);
    let bad = validate("[store]\npath = \"x\"\n[limits]\nmax_itms = 5\n");
    assert_eq!(bad.code, 78);
    assert!(bad.err.contains("s.toml:4:1: unknown field `max_itms`"), "{}", bad.err);
    assert!(bad.err.contains("did you mean \"max_items\"?"), "{}", bad.err);
    assert_eq!(program(&["validate", "--config", "/nonexistent.toml"]).code, 78);
    let config = config.to_str().expect("a path");
    assert_eq!(program(&["ls", "--config", config]).code, 78);
}

#[test]
fn lists_can_be_narrowed() {
    let temp = TempRun::new();
    for step in 0..5 {
        temp.log_picture("a", step, step);
        temp.log_picture("b/c", step, step);
    }
    temp.append("a.media.jsonl", "rubbish\n{\"key\":\"a\",\"step\":1,\"data\":\"no.npy\"}\n");
    temp.ingest();
    let n = |args: &[&str]| temp.run(&[&["ls", "--json"], args].concat()).out.lines().count();
    assert_eq!(n(&[]), 12);
    assert_eq!(n(&["run"]), 12);
    assert_eq!(n(&["run", "a"]), 6);
    assert_eq!(n(&["run", "--step", "1..3"]), 7);
    assert_eq!(n(&["run", "b/c", "--step", "4.."]), 1);
    assert_eq!(n(&["--state", "image"]), 10);
    assert_eq!(n(&["--state", "rejected"]), 2);
    assert_eq!(n(&["run", "nothing"]), 0);
    let wrong = temp.run(&["ls", "rum"]);
    assert_eq!(wrong.code, 1);
    assert!(wrong.err.contains("did you mean \"run\"?"), "{}", wrong.err);
    let missing = temp.run(&["show", "run", "a", "77"]);
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("has nothing under key \"a\" at step 77"), "{}", missing.err);
}

#[test]
fn every_command_prints_json_that_can_be_read() {
    let temp = TempRun::new();
    temp.log_picture("a", 1, 1);
    temp.log_picture("a", 1, 2);
    let json = |args: &[&str]| {
        let ran = temp.run(&[args, &["--json"]].concat());
        assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
        ran.out
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect::<Vec<Value>>()
    };
    let run = temp.at("");
    let summary = json(&["ingest", run.to_str().expect("a path")]);
    assert_eq!((summary.len(), &summary[0]["new"]["image"]), (1, &2.into()));
    let items = json(&["ls"]);
    let fields = [
        "run",
        "key",
        "step",
        "index",
        "state",
        "reason",
        "path",
        "file_type",
        "mode",
        "width",
        "height",
        "size",
        "sha256",
        "caption",
        "grouping",
        "profile",
        "rule",
        "format",
        "stats",
        "source",
    ];
    for field in fields {
        assert!(items[0].get(field).is_some(), "{field} is missing");
    }
    assert_eq!(json(&["show", "run", "a", "1"]).len(), 2);
    assert_eq!(json(&["show", "run", "a", "1", "1"])[0]["index"], 1);
    assert_eq!(json(&["show", "run", "a", "1", "--as", "logged"])[0]["count"], 2);
    assert_eq!(json(&["show", "run", "a", "1", "0", "--as", "logged"])[0]["_type"], "image-file");
    assert_eq!(json(&["status"])[0]["image"], 2);
    assert_eq!(json(&["verify"])[0]["files"], 2);
    assert_eq!(json(&["reindex"])[0]["items"], 2);
}

#[test]
fn a_closed_pipe_is_no_error() {
    let temp = TempRun::new();
    for n in 0..400 {
        temp.log_picture("a", n, n);
    }
    temp.ingest();
    let script = format!("{PROGRAM} ls --json --store {} | head -n 1", temp.store().display());
    let ran: Ran =
        Command::new("bash").args(["-o", "pipefail", "-c", &script]).output().expect("bash").into();
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
}
