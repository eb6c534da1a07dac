//! Pixels against the real wandb, on arrays that no file in the repository holds.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::TempRun;

/// Python with the packages of `tests/requirements.txt`, as `./test.sh` sets it up.
fn python() -> Option<PathBuf> {
    std::env::var_os("SAFELIGHT_PYTHON").map(PathBuf::from)
}

#[test]
fn pictures_equal_those_that_wandb_makes_of_random_arrays() {
    let Some(python) = python() else {
        eprintln!("left out: SAFELIGHT_PYTHON is not set; ./test.sh sets it up");
        return;
    };
    let temp = TempRun::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wandb_peer.py");
    let made =
        Command::new(&python).arg(&script).arg("make").arg(temp.at("")).output().expect("Python");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let ran = temp.ingest();
    assert!(matches!(ran.code, 0 | 3), "{ran:?}");
    let items: Vec<Value> = temp.items();
    let paths: Vec<Value> = items
        .iter()
        .map(|item| json!({"data": item["source"]["path"], "path": item["path"], "reason": item["reason"]}))
        .collect();
    let listed = temp.folder().join("items.json");
    std::fs::write(&listed, Value::Array(paths).to_string()).expect("a list");
    let compared = Command::new(&python)
        .arg(&script)
        .arg("compare")
        .args([temp.at(""), temp.store(), listed])
        .output()
        .expect("Python");
    let said = String::from_utf8_lossy(&compared.stdout).into_owned();
    assert!(compared.status.success(), "{said}{}", String::from_utf8_lossy(&compared.stderr));
    assert!(said.contains("equal"), "{said}");
    eprintln!("{said}");
}
