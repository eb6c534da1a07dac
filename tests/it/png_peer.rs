//! Our PNG files read by other programs: Pillow, and libpng through `OpenCV`.

use std::path::Path;

use crate::harness::{PROGRAM, TempRun};
use crate::wandb_peer::{pythons, run};

#[test]
fn pillow_and_libpng_read_the_pixels_that_were_written() {
    for python in pythons().iter().take(1) {
        let temp = TempRun::new();
        run(python, "png_peer.py", &[Path::new("make"), &temp.at("")]);
        let ran = temp.ingest();
        assert_eq!(ran.code, 0, "{ran:?}");
        let args = [Path::new("compare"), Path::new(PROGRAM), &temp.at(""), &temp.store()];
        let output = run(python, "png_peer.py", &args);
        assert!(output.contains(" 0 differ"), "{output}");
    }
}
