//! Pictures and JSON compared with the real wandb's, for random arrays and for 65 cases with the results of
//! three releases.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{PROGRAM, TempRun, skip};

/// Returns the Pythons with releases of wandb that `./test.sh` has installed.
pub(crate) fn pythons() -> Vec<PathBuf> {
    let paths = std::env::var_os("SAFELIGHT_PYTHONS");
    let pythons: Vec<PathBuf> =
        paths.map_or_else(Vec::new, |paths| std::env::split_paths(&paths).collect());
    if pythons.is_empty() {
        skip("SAFELIGHT_PYTHONS is not set; ./test.sh sets it");
    }
    pythons
}

/// Runs a script of `tests/` and returns its output.
pub(crate) fn run(python: &Path, script: &str, args: &[&Path]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(script);
    let ran = Command::new(python).arg(&script).args(args).output().expect("Python");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    eprintln!("{said}");
    said
}

#[test]
fn pictures_and_json_of_random_arrays_equal_those_of_wandb() {
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
fn three_releases_of_wandb_agree_on_65_cases() {
    for python in pythons().iter().take(1) {
        for profile in ["wandb-0.10", "wandb-0.20", "wandb-0.29"] {
            let folder = tempfile::tempdir().expect("a folder");
            let args = [Path::new(PROGRAM), Path::new(profile), folder.path()];
            let said = run(python, "wandb_cases.py", &args);
            assert!(said.contains(" 0 differ,"), "{said}");
        }
    }
}
