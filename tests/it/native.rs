//! The Python extension: its own tests, which compare it with `ingest`, Pillow and torchvision.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{PROGRAM, skip};

/// Returns the Python in which `./test.sh` has installed the extension.
fn python() -> Option<PathBuf> {
    let python = std::env::var_os("SAFELIGHT_NATIVE").map(PathBuf::from);
    if python.is_none() {
        skip("SAFELIGHT_NATIVE is not set; ./test.sh sets it");
    }
    python
}

/// Runs the tests in the files of this pattern. Returns what they said.
fn tests_pass(pattern: &str) -> String {
    let Some(python) = python() else { return String::new() };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(python);
    command.args(["-B", "-W", "error::DeprecationWarning", "-m", "unittest", "discover", "-p"]);
    command.arg(pattern).arg("-s").arg(root.join("crates/native/tests"));
    command.env("PYTHONPATH", root.join("python")).env("SAFELIGHT_PROGRAM", PROGRAM);
    let ran = command.output().expect("Python");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.contains("\nOK"), "{said}");
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

#[test]
fn any_memory_gives_the_picture_of_its_values() {
    tests_pass("test_memory.py");
}

#[test]
fn develop_does_what_its_page_says() {
    tests_pass("test_develop.py");
}

#[test]
fn the_pictures_of_all_golden_dumps_are_those_of_ingest() {
    let said = tests_pass("test_golden_dumps.py");
    assert!(said.is_empty() || said.contains(" pictures and "), "{said}");
}

#[test]
fn pillow_saves_the_same_pixels_with_the_hook() {
    tests_pass("test_pillow.py");
}

#[test]
fn save_image_makes_the_pixels_of_torchvision() {
    tests_pass("test_save_image.py");
}
