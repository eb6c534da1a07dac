//! The command line.
//!
//! | file | content |
//! | --- | --- |
//! | `args` | the arguments of all commands, and their help |
//! | `exit` | the exit codes |
//! | `common` | the options of every command, and the configuration that they name |
//! | `access` | `StoreAccess`: one store, answered by its daemon or read from its files |
//! | `fleet` | an object store that boxes deliver to, in place of a store |
//! | `daemon_client` | the daemon of a store: where it listens, and whether it answers |
//! | `privileges` | root acts as the owner of the store |
//! | `store_advice` | what to do about a store that cannot be opened |
//! | `run_dirs` | what the directories are that a command line names: runs, or folders of runs |
//! | `format` | counts, sizes, ages and tables for people |
//! | `passed_over` | what is passed over, as `ingest` and `status` print it |
//! | `progress` | the progress bar of `ingest` and `verify` |
//! | `picture` | pictures in the terminal, for `show` |
//! | `json` | what `--json` prints, as types with a schema |
//! | `manual` | the manual's pages, for the test that writes them |
//!
//! Each other file is one command. `anyhow` is used here, in `daemon` and in `main` only.

mod access;
mod args;
mod backfill;
mod common;
mod completions;
mod daemon;
mod daemon_client;
mod exit;
mod fleet;
mod format;
mod gallery;
mod ingest;
pub(crate) mod json;
mod list;
#[cfg(test)]
mod manual;
mod passed_over;
mod picture;
mod privileges;
mod progress;
mod prune;
mod reindex;
mod release;
mod run_dirs;
mod service;
mod show;
mod status;
mod store_advice;
mod sync;
mod verify;
mod wandb_merge;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process;

use clap::Parser;

use self::args::{Cli, Command};
use self::exit::ExitCode;
use crate::descriptors;

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> process::ExitCode {
    let mut out = io::BufWriter::new(io::stdout().lock());
    main_of(std::env::args_os(), &mut out).into()
}

/// Runs the command with these arguments, the program's name first. Writes its output to `out`, errors to standard
/// error. Returns the exit code. Fuzz targets run commands by this.
pub fn main_of<T>(arguments: impl IntoIterator<Item = T>, out: &mut impl Write) -> u8
where
    T: Into<OsString> + Clone,
{
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Standard output or error may be closed.
            drop(error.print());
            return if error.use_stderr() { ExitCode::Usage } else { ExitCode::Done } as u8;
        }
    };
    let result = run(cli.command, out).and_then(|code| {
        out.flush()?;
        Ok(code)
    });
    let code = result.unwrap_or_else(|error| {
        let code = ExitCode::of(&error);
        if code != ExitCode::Done {
            // Standard error may be closed.
            drop(writeln!(io::stderr(), "safelight: {}", exit::with_causes(&error)));
        }
        code
    });
    code as u8
}

fn run(command: Command, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    match command {
        Command::Daemon { directories, common } => {
            descriptors::raise_limit();
            daemon::run(&directories, &common)
        }
        Command::Ingest { args, common } => {
            descriptors::raise_limit();
            ingest::run(&args, &common, out)
        }
        Command::Backfill { args } => {
            descriptors::raise_limit();
            backfill::run(&args, out)
        }
        Command::Ls { query, common } => list::run(&query, &common, out),
        Command::Show { query, common } => show::run(&query, &common, out),
        Command::Gallery { args, common } => {
            descriptors::raise_limit();
            gallery::run(&args, &common, out)
        }
        Command::Status { common } => status::run(&common, out),
        Command::Health { common } => daemon::health(&common, out),
        Command::Reload { common } => daemon::reload(&common, out),
        Command::Validate { common } => daemon::validate(&common, out),
        Command::Service { command } => service::run_command(&command, out),
        Command::Prune { apply, common } => prune::run(apply, &common, out),
        Command::Sync { args, common } => sync::run(&args, &common, out),
        Command::Retry { args, common } => sync::retry(&args, &common, out),
        Command::Release { query, common } => release::run(&query, &common, out),
        Command::Verify { args, common } => verify::run(&args, &common, out),
        Command::WandbMerge { args, common } => wandb_merge::run(&args, &common, out),
        Command::Reindex { common } => reindex::run(&common, out),
        Command::Completions { shell } => completions::run(shell, out),
    }
}
