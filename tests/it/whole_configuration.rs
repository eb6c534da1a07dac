//! A configuration whose parts contradict each other is refused at the start, by `validate` and by a reload; and the
//! store never reads itself.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{KilledOnDrop, PROGRAM, Ran, TempRun, gray, wait_for};

fn validate(temp: &TempRun, settings: &str) -> Ran {
    temp.run_with(settings, &["validate"])
}

#[test]
fn two_watches_of_one_directory_are_refused_with_both_places() {
    let temp = TempRun::new();
    let second = "[[watch]]\npath = \"./\"\nlogs = [\"*.log\"]\n";
    let ran = validate(&temp, second);
    assert_eq!(ran.code, 78, "{ran:?}");
    // The harness writes the first section at line 5.
    for part in ["safelight.toml:8:1: ", "[[watch]] number 1 reads the same directory", "write one"]
    {
        assert!(ran.err.contains(part), "{part}: {}", ran.err);
    }
    // A daemon refuses it as well, and one that runs keeps its configuration.
    let ran = temp.run_with(second, &["daemon"]);
    assert_eq!(ran.code, 78, "{ran:?}");
    let daemon = temp.daemon("");
    let ran = temp.run_with(second, &["reload"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("reads the same directory"), "{}", ran.err);
    temp.log_picture("k", 1, 1);
    wait_for("the picture", || temp.items().len() == 1);
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn two_targets_with_one_directory_are_refused() {
    let temp = TempRun::new();
    fs::create_dir(temp.folder().join("wandb")).expect("a folder");
    std::os::unix::fs::symlink("wandb", temp.folder().join("link")).expect("a link");
    let targets = "[sync.a]\nkind = \"wandb\"\npath = \"wandb\"\n[sync.b]\nkind = \"wandb\"\npath = \"link\"\n";
    let ran = validate(&temp, targets);
    assert_eq!(ran.code, 78, "{ran:?}");
    assert!(ran.err.contains("targets \"a\" and \"b\" both write to directory"), "{}", ran.err);
}

#[test]
fn what_is_only_odd_is_a_warning() {
    let temp = TempRun::new();
    let settings = "[retention]\ndumps = \"delivered\"\n";
    let ran = validate(&temp, settings);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("warning: line 9: retention.dumps is \"delivered\""), "{}", ran.out);
    assert!(ran.out.ends_with("safelight.toml: valid\n"), "{}", ran.out);
    let json = temp.run_with(settings, &["validate", "--json"]).out;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["warnings"].as_array().map(Vec::len), Some(1), "{json}");
    let daemon = temp.daemon(settings);
    assert!(daemon.log_text().contains("no dump is ever removed"), "{}", daemon.log_text());
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_store_in_a_run_directory_never_reads_itself() {
    // The journal's lines were read as lines of a log, and made more lines of the journal, for ever.
    let temp = TempRun::new();
    let config = temp.folder().join("c.toml");
    let text = "store.path = \"store\"\ncontrol.socket = \"control.sock\"\ningest.scan_ms = 200\nwork.nice = 0\n\
                [[watch]]\npath = \".\"\nruns = \".\"\nlogs = [\"**/*.jsonl\"]\ndumps = [\"{key}/{step}.{ext}\"]\n";
    fs::write(&config, text).expect("a configuration");
    temp.append("a.media.jsonl", "{\"key\":\"k\",\"step\":1,\"data\":\"run/x.npy\"}\n");
    temp.write("x.npy", &gray(1));
    let mut daemon = Command::new(PROGRAM);
    daemon.args(["daemon", "--config"]).arg(&config).stderr(Stdio::null());
    let daemon = KilledOnDrop(daemon.spawn().expect("the daemon"));
    wait_for("the picture", || temp.run(&["status"]).out.contains("1 image"));
    temp.write("more/2.npy", &gray(2));
    wait_for("the second picture", || temp.run(&["status"]).out.contains("2 images"));
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(temp.counts(), [2, 0, 0], "{:?}", temp.items());
    assert_eq!(temp.run(&["health"]).out, "healthy\n");
    let warned = temp.run(&["validate", "--config", config.to_str().expect("a path")]);
    assert!(warned.out.contains("lies in the watched directory"), "{warned:?}");
    drop(daemon);
    // The same holds for `ingest` of a directory that has the store in it.
    let folder = temp.folder().to_str().expect("a path").to_owned();
    let ran = temp.run(&["ingest", &folder, "--config", config.to_str().expect("a path")]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(temp.counts(), [2, 0, 0], "{:?}", temp.items());
}
