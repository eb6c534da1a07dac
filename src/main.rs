//! The `safelight` program: see the library's documentation for how it works.

use std::process::ExitCode;

fn main() -> ExitCode {
    safelight::cli::main()
}
