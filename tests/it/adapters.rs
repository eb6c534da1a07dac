//! The adapters of the Python module. `./test.sh adapters` runs those whose libraries are too large for each run of the
//! tests.

use std::path::Path;
use std::process::Command;

use crate::harness::PROGRAM;
use crate::wandb_peer::pythons;

#[test]
fn pictures_given_to_tensorboardx_are_those_of_its_own_writer() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/tests/adapters/writers.py");
    // The newest NumPy and Pillow that are tested with.
    if let Some(python) = pythons().last() {
        let mut command = Command::new(python);
        command.arg("-B").arg(&script).arg("TensorboardX").env("SAFELIGHT_PROGRAM", PROGRAM);
        let ran = command.output().expect("Python");
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success() && said.contains("\nOK\n"), "{said}");
    }
}
