//! `safelight completions`: what a shell needs to complete the command line.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::args::Cli;
use super::exit::ExitCode;

/// Prints the completions of a shell. The packages hold the same text as files for bash, zsh and fish.
pub(super) fn run(shell: Shell, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    // `generate` panics if its writer fails, and standard output may be a pipe that is closed.
    out.write_all(&completions(shell))?;
    Ok(ExitCode::Done)
}

fn completions(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    generate(shell, &mut Cli::command(), "safelight", &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::super::manual::tests::assert_packaged;
    use super::*;

    /// Where each shell looks for completions, below a prefix's `share`.
    const FILES: [(Shell, &str); 3] = [
        (Shell::Bash, "bash-completion/completions/safelight"),
        (Shell::Zsh, "zsh/site-functions/_safelight"),
        (Shell::Fish, "fish/vendor_completions.d/safelight.fish"),
    ];

    #[test]
    fn the_packaged_completions_are_current() {
        for (shell, path) in FILES {
            let text = String::from_utf8(completions(shell)).expect("UTF-8");
            assert_packaged(path, &text);
        }
    }
}
