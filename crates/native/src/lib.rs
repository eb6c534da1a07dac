//! The Python extension `safelight_native`: tensors in memory to images, without a daemon.
//!
//! ```text
//!  array, tensor, buffer ─▶ memory ─▶ header and bytes ─┐
//!  bytes of a dump ─────────────────▶ header and bytes ─┴▶ develop ─▶ pictures
//!                        bytes of pixels ─────────────────▶ encode ─▶ a file
//! ```
//!
//! It reads memory where it lies, strides included, and releases the interpreter while it works. What the
//! values mean is decided in `safelight-image` alone. The Python module `safelight` wraps these functions;
//! they are no public interface of their own.
//!
//! It is built for the stable ABI of Python 3.9. A sub-interpreter is refused, because `PyO3` shares objects between
//! interpreters. A free-threaded interpreter does not find a file of the stable ABI. Both end in an `ImportError`.

mod develop;
mod encode;
mod memory;
mod wandb;

use pyo3::exceptions::PyImportError;
use pyo3::{PyResult, Python, pymodule};

/// Checks that this is the main interpreter of the process.
///
/// # Errors
/// An `ImportError` if it is a sub-interpreter.
#[expect(unsafe_code, reason = "PyO3 has no safe call for it")]
fn check_interpreter(_py: Python<'_>) -> PyResult<()> {
    // SAFETY: the interpreter is held, so there is a current one.
    let id = unsafe { pyo3::ffi::PyInterpreterState_GetID(pyo3::ffi::PyInterpreterState_Get()) };
    if id == 0 {
        return Ok(());
    }
    let problem = format!("safelight_native: got sub-interpreter {id}, want the main one");
    Err(PyImportError::new_err(problem))
}

/// The pixels of Safelight. Use the package `safelight`, which wraps this one.
#[pymodule]
mod safelight_native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::develop::{develop, develop_file};
    #[pymodule_export]
    use super::encode::encode;
    #[pymodule_export]
    use super::wandb::{guess_mode, to_uint8};

    /// The package `safelight` works with the same version only.
    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "Python's name")]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::check_interpreter(module.py())
    }
}
