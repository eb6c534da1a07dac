//! Pictures and JSON against the real wandb: on arrays that no file in the repository holds, and on
//! 65 cases with the answers of three releases.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{PROGRAM, TempRun, skip};

/// Pythons with real releases of wandb, as `./test.sh` sets them up.
pub(crate) fn pythons() -> Vec<PathBuf> {
    let paths = std::env::var_os("SAFELIGHT_PYTHONS");
    let pythons: Vec<PathBuf> =
        paths.map_or_else(Vec::new, |paths| std::env::split_paths(&paths).collect());
    if pythons.is_empty() {
        skip("SAFELIGHT_PYTHONS is not set; ./test.sh sets it");
    }
    pythons
}

/// Runs a script of `tests/` and returns what it said.
pub(crate) fn run(python: &Path, script: &str, args: &[&Path]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(script);
    let ran = Command::new(python).arg(&script).args(args).output().expect("Python");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    eprintln!("{said}");
    said
}

#[test]
fn pictures_and_json_equal_those_that_wandb_makes_of_random_arrays() {
    for python in pythons() {
        let temp = TempRun::new();
        run(&python, "wandb_peer.py", &[Path::new("make"), &temp.at("")]);
        let ran = temp.ingest();
        assert!(matches!(ran.code, 0 | 3), "{ran:?}");
        let args = [Path::new("compare"), Path::new(PROGRAM), &temp.at(""), &temp.store()];
        let said = run(&python, "wandb_peer.py", &args);
        assert!(said.contains(" 0 differ"), "{said}");
    }
}

#[test]
fn three_releases_of_wandb_made_the_same_of_65_cases() {
    for python in pythons().iter().take(1) {
        for profile in ["wandb-0.10", "wandb-0.20", "wandb-0.29"] {
            let folder = tempfile::tempdir().expect("a folder");
            let args = [Path::new(PROGRAM), Path::new(profile), folder.path()];
            let said = run(python, "wandb_cases.py", &args);
            assert!(said.contains(" 0 differ,"), "{said}");
        }
    }
}
