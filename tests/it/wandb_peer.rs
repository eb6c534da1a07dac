//! Pixels against the real wandb, on arrays that no file in the repository holds.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::TempRun;

/// Pythons with real releases of wandb, as `./test.sh` sets them up.
fn pythons() -> Vec<PathBuf> {
    let paths = std::env::var_os("SAFELIGHT_PYTHONS");
    paths.map_or_else(Vec::new, |paths| std::env::split_paths(&paths).collect())
}

#[test]
fn pictures_equal_those_that_wandb_makes_of_random_arrays() {
    let pythons = pythons();
    if pythons.is_empty() {
        eprintln!("left out: SAFELIGHT_PYTHONS is not set; ./test.sh sets it up");
    }
    for python in pythons {
        check(&python);
    }
}

fn check(python: &Path) {
    let temp = TempRun::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wandb_peer.py");
    let run = |args: &[&Path]| {
        let ran = Command::new(python).arg(&script).args(args).output().expect("Python");
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
        said
    };
    run(&[Path::new("make"), &temp.at("")]);
    let ran = temp.ingest();
    assert!(matches!(ran.code, 0 | 3), "{ran:?}");
    let told = |item: &Value| json!({"data": item["source"]["path"], "path": item["path"], "reason": item["reason"]});
    let listed = temp.folder().join("items.json");
    let items: Vec<Value> = temp.items().iter().map(told).collect();
    std::fs::write(&listed, Value::Array(items).to_string()).expect("a list");
    let said = run(&[Path::new("compare"), &temp.at(""), &temp.store(), &listed]);
    assert!(said.contains(" 0 differ"), "{said}");
    eprintln!("{said}");
}
