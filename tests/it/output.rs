//! What each command prints, as snapshots. Paths, times, versions and process ids are filtered out.
//!
//! `INSTA_UPDATE=always cargo test --test it output` writes them anew.

use std::process::{Command, Stdio};

use crate::harness::{PROGRAM, Ran, TempRun, npy, wait_for};

/// What a person sees: the output, the errors and the exit code.
fn shown(temp: &TempRun, ran: &Ran) -> String {
    let folder = temp.folder().display().to_string();
    let text = format!("{}{}[exit code {}]\n", ran.out, ran.err, ran.code);
    text.replace(&folder, "TEMP").replace(PROGRAM, "safelight")
}

fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.add_filter(r"in \d+\.\d\d s", "in TIME s");
    settings.add_filter(r"process \d+", "process PID");
    settings.add_filter(r"\d+(\.\d+)? (k|M)?B\b", "SIZE");
    settings.add_filter(r"\d+ (second|minute)s?", "AGE");
    settings.add_filter(r"version \d+\.\d+\.\d+", "version VERSION");
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// A run with images, held images, and rejected lines and dumps.
fn filled() -> TempRun {
    let temp = TempRun::new();
    for n in 0..4 {
        temp.log_picture("val/pred", 120, n);
    }
    temp.log_picture("train/input", 120, 9);
    temp.append("a.media.jsonl", "rubbish\n");
    temp.write("dumps/bad/1.npy", &npy("|O8", &[2, 2], &[0; 32]));
    temp.append("a.media.jsonl", "{\"key\":\"a\"");
    temp.configure(
        "[limits]\nmax_items = 3\n[sync.archive]\nkind = \"object_store\"\nurl = \"file:///nonexistent/archive\"\n",
    );
    temp
}

fn command(temp: &TempRun, args: &[&str]) -> Ran {
    let mut command = Command::new(PROGRAM);
    command.args(args).current_dir(temp.folder()).args(["--config", "safelight.toml"]);
    command.stdin(Stdio::null()).output().expect("the program").into()
}

#[test]
fn commands_on_a_store_print_what_a_person_needs() {
    let temp = filled();
    let commands: [(&str, &[&str]); 11] = [
        ("validate", &["validate"]),
        ("ls_without_store", &["ls"]),
        ("ingest", &["ingest", "run"]),
        ("status", &["status"]),
        ("ls", &["ls"]),
        ("ls_of_a_run", &["ls", "run", "val/pred"]),
        ("ls_of_no_run", &["ls", "rum"]),
        ("release", &["release"]),
        ("sync_dry_run", &["sync", "--dry-run"]),
        ("health_without_daemon", &["health"]),
        ("reindex", &["reindex"]),
    ];
    for (name, args) in commands {
        snapshot(name, &shown(&temp, &command(&temp, args)));
    }
}

#[test]
fn commands_to_a_daemon_print_what_a_person_needs() {
    let temp = TempRun::new();
    let daemon = temp.daemon("backend = \"inotify\"\n");
    temp.log_picture("k", 1, 1);
    wait_for("an image", || temp.counts() == [1, 0, 0]);
    let is_idle = || {
        let status = temp.run(&["status"]).out;
        status.contains("backlog   none") && !status.contains("has neither")
    };
    wait_for("the end of all work", is_idle);
    for (name, args) in [
        ("daemon_status", &["status"][..]),
        ("daemon_health", &["health"]),
        ("daemon_reload", &["reload"]),
        ("daemon_prune", &["prune"]),
        ("daemon_release", &["release"]),
        ("daemon_sync", &["sync"]),
        ("daemon_ingest", &["ingest", "run"]),
    ] {
        snapshot(name, &shown(&temp, &command(&temp, args)));
    }
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn help_says_what_each_command_does() {
    let help = |args: &[&str]| {
        let ran = Command::new(PROGRAM).args(args).env("COLUMNS", "100").output();
        let ran: Ran = ran.expect("the program").into();
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}");
        format!("$ safelight {}\n{}\n", args.join(" "), ran.out)
    };
    let commands = [
        "daemon",
        "ingest",
        "ls",
        "show",
        "status",
        "health",
        "reload",
        "validate",
        "prune",
        "sync",
        "retry",
        "release",
        "wandb-merge",
        "reindex",
    ];
    let of_each = commands.map(|command| help(&[command, "--help"]));
    snapshot("help", &(help(&["--help"]) + &of_each.concat()));
}
