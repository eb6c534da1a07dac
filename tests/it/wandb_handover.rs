//! Unchanged scripts that log pictures with wandb, with `safelight.wandb` and without: every row and every picture.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::{Ran, TempRun, skip};
use crate::wandb_peer::{pythons, run as run_python};
use crate::wandb_sync::{Server, upload};

/// The parts of `wandb_script.py` that need no answers about artifacts.
const PARTS: [&str; 6] = ["values", "pictures", "lists", "annotations", "objects", "steps"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the Pythons with all releases of wandb that are tested, the oldest supported one among them.
fn all_pythons() -> Vec<PathBuf> {
    let mut pythons = pythons();
    match std::env::var_os("SAFELIGHT_OLDEST_WANDB") {
        Some(oldest) => pythons.push(oldest.into()),
        None => skip("SAFELIGHT_OLDEST_WANDB is not set; ./test.sh sets it"),
    }
    pythons
}

/// Runs the script as the W&B run `name`. `is_ours` hands its pictures over, by variables of the environment alone.
fn train(
    python: &Path,
    temp: &TempRun,
    server: &Server,
    name: &str,
    parts: &[&str],
    more: &[(&str, &str)],
) {
    let folder = temp.folder().join(name);
    fs::create_dir_all(&folder).expect("a folder");
    let mut command = Command::new(python);
    command.arg("-B").arg(root().join("tests/wandb_script.py")).arg(&folder).arg(name).args(parts);
    server.env(&mut command, temp.folder());
    command.env("WANDB_API_KEY", "k".repeat(40)).envs(more.iter().copied());
    if name == "other" {
        let module = root().join("python");
        let start = module.join("safelight/wandb/_start");
        let paths: OsString = std::env::join_paths([start, module]).expect("paths");
        command.env("PYTHONPATH", paths).env("SAFELIGHT_WANDB", temp.at(""));
        command.env("SAFELIGHT_SOCKET", temp.folder().join("control.sock"));
    }
    let ran: Ran = command.output().expect("Python").into();
    assert_eq!(ran.code, 0, "{}: {ran:?}", python.display());
    assert!(!ran.err.contains("left to wandb"), "{}: {}", python.display(), ran.err);
}

/// Compares the runs `plain` and `other`. Returns the counts.
fn compare(python: &Path, server: &Server) -> Value {
    let (url, files) = server.place();
    let args = [Path::new(&url), files, Path::new("plain"), Path::new("other")];
    let said = run_python(python, "wandb_compare.py", &args);
    serde_json::from_str(said.lines().next().expect("counts")).expect("JSON")
}

/// Checks that each picture at the server is the one of the store. Returns their number.
fn check_store(temp: &TempRun, server: &Server) -> u64 {
    let mut n = 0;
    for item in temp.items() {
        assert_eq!(item["state"], "image", "{item}");
        let files = &item["extra"]["wandb"]["files"];
        let masks = files["masks"].as_object().into_iter().flatten();
        let masks = masks.map(|(name, path)| (path, &item["masks"][name]["path"]));
        for (name, path) in masks.chain([(&files["image"], &item["path"])]) {
            let path = temp.store().join(path.as_str().expect("a path"));
            let stored = fs::read(path).expect("a media file");
            let name = name.as_str().expect("a name");
            // wandb makes what a script looks at before it is developed.
            if !name.contains("objects/") {
                assert!(server.file("other", name) == stored, "{name} is not of the store");
            }
            n += 1;
        }
    }
    n
}

#[test]
fn rows_and_pictures_of_an_unchanged_script_are_those_of_wandb() {
    for python in all_pythons() {
        let (temp, server) = (TempRun::new(), Server::start(&python));
        let daemon = temp.daemon("");
        for name in ["plain", "other"] {
            train(&python, &temp, &server, name, &PARTS, &[("WANDB_MODE", "online")]);
        }
        let counts = compare(&python, &server);
        assert_eq!(counts["differ"], 0, "{}: {counts}", python.display());
        let n_stored = check_store(&temp, &server);
        assert!(!daemon.log_text().contains("unknown field"), "{}", daemon.log_text());
        drop(daemon);
        assert!(n_stored > 200, "{n_stored} files are stored");
        eprintln!("{}: {counts}, {n_stored} files of the store", python.display());
    }
}

#[test]
fn an_offline_run_has_its_pictures_when_it_is_uploaded() {
    // Older clients upload offline runs in another way, which the stand-in does not know.
    if let Some(python) = pythons().pop() {
        let (temp, server) = (TempRun::new(), Server::start(&python));
        let daemon = temp.daemon("");
        for name in ["plain", "other"] {
            train(&python, &temp, &server, name, &PARTS[2..], &[("WANDB_MODE", "offline")]);
            let runs = fs::read_dir(temp.folder().join(name).join("wandb")).expect("a run");
            let mut runs = runs.map(|entry| entry.expect("an entry").path());
            let offline =
                runs.find(|path| path.to_string_lossy().contains("offline-run-")).expect("a run");
            upload(&python, &server, temp.folder(), &offline);
        }
        let counts = compare(&python, &server);
        assert_eq!(counts["differ"], 0, "{counts}");
        assert!(check_store(&temp, &server) > 150);
        drop(daemon);
    }
}

#[test]
fn a_resumed_run_goes_on_with_its_pictures() {
    if let Some(python) = pythons().pop() {
        let (temp, server) = (TempRun::new(), Server::start(&python));
        server.allow_resuming();
        let daemon = temp.daemon("");
        for _ in 0..2 {
            for name in ["plain", "other"] {
                let more = [("WANDB_MODE", "online"), ("WANDB_RESUME", "allow")];
                train(&python, &temp, &server, name, &["annotations"], &more);
            }
        }
        let counts = compare(&python, &server);
        assert_eq!(
            (&counts["differ"], &counts["rows"]),
            (&Value::from(0), &Value::from(30)),
            "{counts}"
        );
        // Without this, a script that leaves all to wandb would pass.
        assert!(counts["handed over"].as_u64() > Some(0), "{counts}");
        drop(daemon);
    }
}
