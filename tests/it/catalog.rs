//! The catalogue of a fleet: the Python package's own tests, with directories and with `SeaweedFS`.

use std::path::Path;
use std::process::Command;

use crate::harness::PROGRAM;
use crate::target_server::program;

/// Runs the tests in the files of this pattern.
fn tests_pass(pattern: &str) {
    let (Some(python), Some(weed)) = (program("SAFELIGHT_CATALOG"), program("SAFELIGHT_WEED"))
    else {
        return;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(python);
    command.args(["-B", "-W", "error::DeprecationWarning", "-m", "unittest", "discover", "-p"]);
    command.arg(pattern).arg("-s").arg(root.join("python/tests/catalog"));
    command.env("SAFELIGHT_WEED", weed).env("SAFELIGHT_PROGRAM", PROGRAM);
    let ran = command.output().expect("Python");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.contains("\nOK") && !said.contains("skipped"), "{said}");
}

#[test]
fn each_line_of_a_manifest_becomes_one_row() {
    tests_pass("test_fold.py");
}

#[test]
fn the_table_is_made_tidied_and_read() {
    tests_pass("test_table.py");
}

#[test]
fn committers_that_race_and_are_killed_lose_nothing() {
    tests_pass("test_kills.py");
}

#[test]
fn the_recipes_of_the_page_give_what_they_promise() {
    tests_pass("test_recipes.py");
}

#[test]
fn two_boxes_with_the_same_run_become_rows_of_their_own() {
    tests_pass("test_program.py");
}
