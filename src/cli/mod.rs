//! The commands.

mod condition;
mod daemon;
mod ingest;
mod items;
mod prune;
mod release;
mod show;
mod status;
mod sync;
mod wandb_merge;

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use clap::{Args, Parser, Subcommand};

use crate::config::{self, Config, ConfigError};
use crate::control::client::Client;
use crate::store::lock::{self, Holder};
use crate::store::{self, Reader, StoreError, Writer};

/// How long a command waits for another one that holds the store.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long it waits at a time, before it looks whether a daemon answers by now.
const TURN: Duration = Duration::from_millis(200);

/// Turns raw tensor dumps and media logs of training runs into images, outside of the training
/// process.
#[derive(Debug, Parser)]
#[command(name = "safelight", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Common {
    /// The configuration file [default: /etc/safelight/safelight.toml, if it is there]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The store's directory, instead of the configuration's
    #[arg(long, value_name = "DIR", global = true)]
    store: Option<PathBuf>,
    /// Print JSON: one object, or JSON Lines with one object an item
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch run directories and keep what comes, until told to stop
    Daemon {
        #[command(flatten)]
        common: Common,
    },
    /// Read run directories once
    Ingest {
        /// The run directories
        #[arg(required = true, value_name = "RUN_DIR")]
        run_dirs: Vec<PathBuf>,
        #[command(flatten)]
        common: Common,
    },
    /// List items: images, those held back, and what was rejected
    Ls {
        #[command(flatten)]
        query: items::ListArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Show the items of a key and step
    Show {
        #[command(flatten)]
        query: show::ShowArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Say what is watched, kept, held back, rejected, and how far behind
    Status {
        #[command(flatten)]
        common: Common,
    },
    /// Say whether the daemon does what it is there for: exit code 0 if so, 1 if not
    Health {
        #[command(flatten)]
        common: Common,
    },
    /// Have the daemon go by its configuration file as it is now: 0 once it does, 1 if it can't be used
    Reload {
        #[command(flatten)]
        common: Common,
    },
    /// Check a configuration file: exit code 0 if it can be used, 78 if not
    Validate {
        #[command(flatten)]
        common: Common,
    },
    /// Show what `[retention]` of the configuration would remove and, with --apply, remove it
    Prune {
        /// Remove it
        #[arg(long)]
        apply: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Deliver what is kept to the targets of the configuration
    Sync {
        #[command(flatten)]
        args: sync::SyncArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Try again what targets have refused or failed with
    Retry {
        #[command(flatten)]
        args: sync::RetryArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Make images of what was held back and what the limits admit by now
    Release {
        #[command(flatten)]
        query: release::ReleaseArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Put the images of a training into the W&B offline run that it wrote, as a new directory
    WandbMerge {
        #[command(flatten)]
        args: wandb_merge::MergeArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Build the index anew from the journals
    Reindex {
        #[command(flatten)]
        common: Common,
    },
}

/// How a command ends, when it doesn't fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Done,
    /// Done, but something was rejected.
    Rejected,
    /// Not as it should be, which was said.
    Failed,
}

const FAILED: u8 = 1;
const REJECTED: u8 = 3;
const BAD_CONFIG: u8 = 78;

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    // A bad command line prints its usage and ends with 2.
    let cli = Cli::parse();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let result = run(cli.command, &mut out).and_then(|ending| {
        out.flush()?;
        Ok(ending)
    });
    match result {
        Ok(Ending::Done) => ExitCode::SUCCESS,
        Ok(Ending::Rejected) => ExitCode::from(REJECTED),
        Ok(Ending::Failed) => ExitCode::from(FAILED),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to tell it to if standard error is closed.
            drop(writeln!(io::stderr(), "safelight: {}", with_causes(&error)));
            let is_config = error.downcast_ref::<ConfigError>().is_some();
            ExitCode::from(if is_config { BAD_CONFIG } else { FAILED })
        }
    }
}

/// An error with its causes, each told once.
fn with_causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&cause);
        }
    }
    text
}

/// Whoever read the output has seen enough, as `head` has.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn run(command: Command, out: &mut impl Write) -> anyhow::Result<Ending> {
    match command {
        Command::Daemon { common } => {
            let (config, path) = common.config()?;
            crate::daemon::run(config, path)?;
            Ok(Ending::Done)
        }
        Command::Ingest { run_dirs, common } => ingest::run(&run_dirs, &common, out),
        Command::Ls { query, common } => items::list(&query, &common, out),
        Command::Show { query, common } => show::show(&query, &common, out),
        Command::Status { common } => status::run(&common, out),
        Command::Validate { common } => {
            let (_, path) = common.config()?;
            let path = path.ok_or_else(|| {
                anyhow!("{} is not there: name a file with --config", config::DEFAULT_PATH)
            })?;
            if common.json {
                writeln!(out, "{}", serde_json::json!({"path": path, "ok": true}))?;
            } else {
                writeln!(out, "{}: fine", path.display())?;
            }
            Ok(Ending::Done)
        }
        Command::Health { common } => daemon::health(&common, out),
        Command::Reload { common } => daemon::reload(&common, out),
        Command::Prune { apply, common } => prune::run(apply, &common, out),
        Command::Sync { args, common } => sync::run(&args, &common, out),
        Command::Retry { args, common } => sync::retry(&args, &common, out),
        Command::Release { query, common } => release::run(&query, &common, out),
        Command::WandbMerge { args, common } => wandb_merge::merge(&args, &common, out),
        Command::Reindex { common } => reindex(&common, out),
    }
}

fn reindex(common: &Common, out: &mut impl Write) -> anyhow::Result<Ending> {
    crate::logging::start_for_command(io::stderr);
    let (config, _) = common.config()?;
    check_store(&config.boot.store)?;
    act_as_owner_of(&config.boot.store)?;
    let me = Common::holder("reindex");
    store::remove_index(&config.boot.store, &me, PATIENCE)?;
    let (writer, reader) = store::open(&config.boot.store, &me, PATIENCE)?;
    let runs = reader.runs()?;
    writer.close()?;
    let n_items: u64 = runs.iter().map(|run| run.image + run.held + run.rejected).sum();
    if common.json {
        writeln!(out, "{}", serde_json::json!({"runs": runs, "items": n_items}))?;
    } else {
        writeln!(
            out,
            "index of {} built anew: {} runs, {n_items} items",
            config.boot.store.display(),
            runs.len()
        )?;
    }
    Ok(Ending::Done)
}

impl Common {
    /// The configuration, and the file that it came from. Without a file the defaults hold.
    fn config(&self) -> anyhow::Result<(Config, Option<PathBuf>)> {
        let default = Path::new(config::DEFAULT_PATH);
        let path = match &self.config {
            Some(path) => Some(path.clone()),
            None => default.is_file().then(|| default.to_owned()),
        };
        let mut config = path.as_deref().map_or_else(|| Ok(Config::default()), config::load)?;
        if let Some(store) = &self.store {
            config.boot.store = std::path::absolute(store)?;
        }
        Ok((config, path))
    }

    fn holder(command: &str) -> Holder {
        Holder { pid: std::process::id(), command: command.to_owned(), socket: None }
    }

    /// The daemon that holds the configured store, if one answers.
    fn daemon(&self, config: &Config) -> Option<Client> {
        let named = lock::holder(&config.boot.store).and_then(|holder| holder.socket);
        // A store that this user may not read can still be asked for.
        let configured = self.store.is_none().then(|| config.boot.socket.clone());
        named.into_iter().chain(configured).find_map(|socket| {
            let mut client = Client::connect(&socket).ok()?;
            // The lock file may be that of a daemon which is gone, and the socket another's.
            let status = status::ask(&mut client).ok()?;
            (status.store == config.boot.store).then_some(client)
        })
    }

    /// Whoever can answer for the store: the daemon that holds it, else this process.
    fn access(&self, command: &str) -> anyhow::Result<(Access, Config)> {
        crate::logging::start_for_command(io::stderr);
        let (config, _) = self.config()?;
        act_as_owner_of(&config.boot.store)?;
        let start = Instant::now();
        loop {
            if let Some(client) = self.daemon(&config) {
                return Ok((Access::Daemon(client), config));
            }
            check_store(&config.boot.store)?;
            match store::open(&config.boot.store, &Self::holder(command), TURN) {
                // A daemon that is just starting holds its store before it can be asked.
                Err(StoreError::Held { .. }) if start.elapsed() < PATIENCE => {}
                opened => {
                    let (writer, reader) = opened?;
                    return Ok((Access::Store(Box::new(writer), reader), config));
                }
            }
        }
    }
}

/// Root, at the store of another user, goes on as that user. Whatever root makes in it is root's, and the
/// daemon could neither read nor replace it any more. To be called before any thread is started.
fn act_as_owner_of(store: &Path) -> anyhow::Result<()> {
    use rustix::process::{Gid, Uid, geteuid};
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

    let Ok(meta) = std::fs::metadata(store) else { return Ok(()) };
    if !geteuid().is_root() || meta.uid() == 0 {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid()));
    set_thread_groups(&[gid])
        .and_then(|()| set_thread_res_gid(gid, gid, gid))
        .and_then(|()| set_thread_res_uid(uid, uid, uid))
        .with_context(|| format!("cannot act as the owner of {}", store.display()))
}

/// Reading a store must not make one.
fn check_store(path: &Path) -> anyhow::Result<()> {
    match std::fs::metadata(path.join("runs")) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("store {}", path.display()))
        }
        _ => Err(anyhow!(
            "no store at {}: `safelight ingest RUN_DIR --store DIR` makes one",
            path.display()
        )),
    }
}

/// Whoever answers for a store.
enum Access {
    Daemon(Client),
    Store(Box<Writer>, Reader),
}

impl Access {
    /// Lets go of the store.
    fn close(self) -> Result<(), StoreError> {
        match self {
            Self::Daemon(_) => Ok(()),
            Self::Store(writer, _) => writer.close(),
        }
    }
}

/// A number for eyes: 1,234,567.
fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How many images were kept, held back and rejected, for eyes.
fn counts([image, held, rejected]: [u64; 3]) -> String {
    format!(
        "{} images, {} held back, {} rejected",
        thousands(image),
        thousands(held),
        thousands(rejected)
    )
}

/// Text from elsewhere, safe for a terminal and on one line.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect()
}
