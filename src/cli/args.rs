//! The arguments of all commands, as typed, and their help.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub(super) use super::common::Common;
use super::exit::ExitCode;
use crate::config::GalleryListen;
use crate::media::{BoxName, NameError, Rule};
use crate::query::Condition;
use crate::record::LooseKey;
use crate::store::StateFilter;

/// Turns raw tensor dumps and media logs of training runs into images, outside of the training
/// process.
#[derive(Debug, Parser)]
#[command(name = "safelight", version, arg_required_else_help = true, after_help = ExitCode::in_words())]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Watch run directories and turn new dumps into images, until SIGTERM or Ctrl-C
    Daemon {
        /// Directories to watch instead of those of the configuration: each holds run directories, or is one. Then no
        /// configuration file is needed, and a gallery is served
        #[arg(value_name = "DIR")]
        directories: Vec<PathBuf>,
        #[command(flatten)]
        common: Common,
    },
    /// Read run directories once
    Ingest {
        #[command(flatten)]
        args: IngestArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Deliver the images of archived run directories to an object store
    #[command(
        after_help = "What a kill interrupts goes on when the same command is run again, and nothing is \
                            delivered twice. docs/backfill.md has recipes for xargs, Slurm, Kubernetes, Spark and Ray."
    )]
    Backfill {
        #[command(flatten)]
        args: BackfillArgs,
    },
    /// List items: images, held images, and rejected lines and dumps
    #[command(after_help = rules())]
    Ls {
        #[command(flatten)]
        query: ListArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Show the items of a key and step: in words, as JSON, or as pictures in the terminal
    Show {
        #[command(flatten)]
        query: ShowArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Look at the images in a browser: prints the address of the daemon's gallery, or serves one until Ctrl-C
    Gallery {
        #[command(flatten)]
        args: GalleryArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Show the daemon, its backlog, the runs and the targets
    Status {
        #[command(flatten)]
        common: Common,
    },
    /// Check the daemon: exit code 0 if it is healthy, else 1 and the reasons
    Health {
        #[command(flatten)]
        common: Common,
    },
    /// Reload the daemon's configuration: exit code 0 when it is in force, 1 if it is invalid
    Reload {
        #[command(flatten)]
        common: Common,
    },
    /// Check a configuration file: exit code 0 if it is valid, 78 if not
    Validate {
        #[command(flatten)]
        common: Common,
    },
    /// Run the daemon as a service of systemd
    Service {
        #[command(subcommand)]
        command: ServiceCommand,
    },
    /// Show what the rules in `[retention]` would remove; remove it with --apply
    Prune {
        /// Remove it
        #[arg(long)]
        apply: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Deliver images to the configured targets
    Sync {
        #[command(flatten)]
        args: SyncArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Retry the images that targets failed with or rejected
    Retry {
        #[command(flatten)]
        args: RetryArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Make the held images that the limits now allow
    Release {
        #[command(flatten)]
        query: ReleaseArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Compare each media file with its digest; with --repair, make damaged ones again
    Verify {
        #[command(flatten)]
        args: VerifyArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Copy a training's W&B offline run and add its images to the copy
    WandbMerge {
        #[command(flatten)]
        args: MergeArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Rebuild the index from the journals
    Reindex {
        #[command(flatten)]
        common: Common,
    },
    /// Print the completions of a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ServiceCommand {
    /// Write unit and configuration, and start the service; run it again to watch further directories
    Install {
        /// Directories to watch: each holds run directories, or is one
        #[arg(value_name = "DIR")]
        directories: Vec<PathBuf>,
        #[command(flatten)]
        args: ServiceArgs,
    },
    /// Stop the service and remove its unit; the configuration and the store stay
    Uninstall {
        #[command(flatten)]
        args: ServiceArgs,
    },
    /// Show the service: exit code 0 if it runs and is healthy, else 1
    Status {
        #[command(flatten)]
        args: ServiceArgs,
    },
}

#[derive(Debug, Args)]
pub(super) struct ServiceArgs {
    /// A service of your own, without root, instead of one of the machine
    #[arg(long)]
    pub(super) user: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct IngestArgs {
    /// Run directories, or directories that hold some
    #[arg(required = true, value_name = "DIR")]
    pub(super) directories: Vec<PathBuf>,
    /// Also take the arrays and pictures that lie directly in a directory, and no run directories below it. `120.npy` is
    /// step 120 of this key, `pred_120.npy` step 120 of NAME/pred, and `cat.png` step 0 of NAME/cat
    #[arg(long, value_name = "NAME")]
    pub(super) key: Option<LooseKey>,
}

/// Where items are read from, if not from the store.
#[derive(Debug, Clone, Args)]
pub(super) struct FleetArgs {
    /// Look at what boxes have delivered to an object store, instead of at the store: its URL, or the name of a target of
    /// the configuration. A run is named BOX/RUN then
    #[arg(long, value_name = "URL", conflicts_with = "store")]
    pub(super) from: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct BackfillArgs {
    /// Run directories, or directories that hold some
    #[arg(required = true, value_name = "RUN_DIR")]
    pub(super) directories: Vec<PathBuf>,
    /// The target that gets the images; its kind must be `object_store`
    #[arg(long, value_name = "NAME")]
    pub(super) target: String,
    /// The box that the runs are filed under [default: `box` of the target, else archive]
    #[arg(long = "box", value_name = "NAME", value_parser = box_name)]
    pub(super) box_name: Option<BoxName>,
    /// The run's id, if its safelight.json has none [default: the last part of the origin, else the directory's path as
    /// `ingest` takes it]
    #[arg(long, value_name = "NAME")]
    pub(super) run: Option<String>,
    /// Where the run comes from, if the directory is a temporary copy: recorded instead of the directory
    #[arg(long, value_name = "URL")]
    pub(super) origin: Option<String>,
    /// Where scratch stores are kept until they are delivered, on a local disk [default:
    /// $TMPDIR/safelight-backfill-UID]
    #[arg(long, value_name = "DIR")]
    pub(super) scratch: Option<PathBuf>,
    /// Leave out the runs that were done before
    #[arg(long)]
    pub(super) skip_done: bool,
    /// Only tell which runs were done before
    #[arg(long, conflicts_with = "skip_done")]
    pub(super) dry_run: bool,
    /// Digest of the run's files, to be compared with that of an earlier backfill [default: of names, sizes and times]
    #[arg(long, value_name = "TEXT")]
    pub(super) fingerprint: Option<String>,
    /// The configuration file that has the target [default: the first one that exists of
    /// ~/.config/safelight/safelight.toml and /etc/safelight/safelight.toml]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Print JSON Lines with one run a line
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Only this run. With --from: BOX/RUN; with BOX alone, or nothing, runs are listed instead of items
    pub(super) run: Option<String>,
    /// Only this key. If there is none, all keys below it: `val` for `val/pred` and `val/target`
    pub(super) key: Option<String>,
    /// Only these steps: 120, 100..200 (inclusive), 100.. or ..200
    #[arg(long, value_name = "A..B", value_parser = steps)]
    pub(super) step: Option<Steps>,
    /// Only this state
    #[arg(long)]
    pub(super) state: Option<StateArg>,
    /// Only items with this property, such as 'nan>0', 'std<0.01', mode=RGB or caption~car; may be
    /// repeated, all must hold
    #[arg(long = "where", value_name = "CONDITION")]
    pub(super) conditions: Vec<Condition>,
    #[command(flatten)]
    pub(super) fleet: FleetArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum StateArg {
    Image,
    Held,
    // Those that wait included.
    Rejected,
    // Rejected, and tried again.
    Waiting,
}

#[derive(Debug, Clone, Args)]
pub(super) struct ShowArgs {
    /// The run; with --from, BOX/RUN
    pub(super) run: String,
    /// The key
    pub(super) key: String,
    /// The step, or `last` for the newest one
    #[arg(default_value = "last")]
    pub(super) step: StepArg,
    /// The index in the step, from 0 [default: all]
    pub(super) index: Option<u32>,
    /// Print JSON: of the items as in the store, or as W&B would record them
    #[arg(long = "as", value_name = "FORM", conflicts_with_all = ["picture", "follow"])]
    pub(super) form: Option<Form>,
    /// Show the images in the terminal, each above a line with its caption. Without a protocol, the terminal is asked
    /// which one it knows, and standard output must be a terminal
    #[arg(
        long,
        value_name = "PROTOCOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "auto",
        conflicts_with = "json"
    )]
    pub(super) picture: Option<PictureArg>,
    /// Draw boxes and masks on the pictures, in the colours of their classes
    #[arg(long, requires = "picture")]
    pub(super) overlays: bool,
    /// Show this step and all later ones, then each new one as the daemon stores it. Ends at Ctrl-C, or when the run is
    /// finished. Needs a daemon
    #[arg(long, conflicts_with = "from")]
    pub(super) follow: bool,
    #[command(flatten)]
    pub(super) fleet: FleetArgs,
}

/// A step, or the newest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StepArg {
    Last,
    At(u64),
}

impl FromStr for StepArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "last" {
            return Ok(Self::Last);
        }
        let step = text.parse().map(Self::At);
        step.map_err(|_| format!("got {text:?}, want a step, such as 120, or last"))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum PictureArg {
    /// The best one that the terminal knows; in tmux and GNU screen, blocks
    Auto,
    /// kitty's graphics protocol, also of Ghostty, Konsole and WezTerm
    Kitty,
    /// Inline images of iTerm2, also of WezTerm and mintty
    Iterm2,
    /// Sixel graphics: foot, mlterm, Windows Terminal, `xterm -ti vt340`
    Sixel,
    /// Half blocks in 24-bit colours, for any terminal
    Blocks,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// The items as in the store
    Record,
    /// The value that wandb.log would record
    Logged,
    /// The JSON of each image in a W&B artifact
    Artifact,
    /// The class labels that logging the images would add to the run's config
    Config,
}

#[derive(Debug, Args)]
pub(super) struct GalleryArgs {
    /// Where to serve without a daemon: 127.0.0.1:PORT (port 0 is any free one), or unix:PATH
    #[arg(long, value_name = "PLACE", default_value = "127.0.0.1:7878")]
    pub(super) listen: GalleryListen,
    #[command(flatten)]
    pub(super) fleet: FleetArgs,
}

#[derive(Debug, Args)]
pub(super) struct SyncArgs {
    /// The targets [default: all configured targets]
    #[arg(value_name = "TARGET")]
    pub(super) targets: Vec<String>,
    /// Deliver the backlog and exit, for cron; without it, continue with new images
    #[arg(long)]
    pub(super) once: bool,
    /// Show what would be delivered
    #[arg(long, conflicts_with = "once")]
    pub(super) dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct RetryArgs {
    /// The targets [default: all configured targets]
    #[arg(value_name = "TARGET")]
    pub(super) targets: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct ReleaseArgs {
    /// Only this run
    pub(super) run: Option<String>,
    /// Only this key
    pub(super) key: Option<String>,
    /// Only these steps: 120, 100..200 (inclusive), 100.. or ..200
    #[arg(long, value_name = "A..B", value_parser = steps)]
    pub(super) step: Option<Steps>,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// Only this run
    pub(super) run: Option<String>,
    /// Make missing and damaged files again from their dumps
    #[arg(long)]
    pub(super) repair: bool,
    /// Bytes of media files to read from disk each second, at most; 0 for no limit [default: the
    /// setting `work.read_bytes_per_s_max`]
    #[arg(long, value_name = "BYTES")]
    pub(super) bytes_per_s: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct MergeArgs {
    /// The training's offline run, a directory offline-run-…; it is not changed
    #[arg(value_name = "OFFLINE_RUN")]
    pub(super) offline_run: PathBuf,
    /// The directory to create, for wandb sync to upload instead; its name must start with offline-run-
    #[arg(value_name = "OUT")]
    pub(super) out: PathBuf,
    /// The run in the store [default: the id of the offline run]
    #[arg(long, value_name = "RUN")]
    pub(super) run: Option<String>,
}

/// What the rules do that the column RULE names.
fn rules() -> String {
    let rules = Rule::ALL.map(|rule| format!("  {:9}{}", rule.name(), rule.in_words()));
    format!("Column RULE, how values became pixels:\n{}", rules.join("\n"))
}

fn box_name(text: &str) -> Result<BoxName, NameError> {
    BoxName::new(text)
}

/// The first and the last step, inclusive.
pub(super) type Steps = (Option<u64>, Option<u64>);

fn steps(text: &str) -> Result<Steps, String> {
    let number = |text: &str| {
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| {
            format!("got {text:?}, want a step, such as 120, or steps, such as 100..200")
        })
    };
    match text.split_once("..") {
        None => number(text).map(|step| (step, step)),
        Some((first, last)) => Ok((number(first)?, number(last)?)),
    }
}

impl From<StateArg> for StateFilter {
    fn from(state: StateArg) -> Self {
        match state {
            StateArg::Image => Self::Image,
            StateArg::Held => Self::Held,
            StateArg::Rejected => Self::Rejected,
            StateArg::Waiting => Self::Waiting,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_a_number_or_last() {
        assert_eq!("120".parse(), Ok(StepArg::At(120)));
        assert_eq!("last".parse(), Ok(StepArg::Last));
        assert!("-1".parse::<StepArg>().is_err_and(|error| error.contains("got \"-1\"")));
    }

    #[test]
    fn steps_are_one_or_a_range() {
        assert_eq!(steps("120"), Ok((Some(120), Some(120))));
        assert_eq!(steps("100..200"), Ok((Some(100), Some(200))));
        assert_eq!(steps("..7"), Ok((None, Some(7))));
        assert_eq!(steps("7.."), Ok((Some(7), None)));
        assert!(steps("a..b").is_err_and(|error| error.contains("got \"a\"")));
    }
}
