//! What `--json` prints, as types.
//!
//! `docs/json-schema/` has a JSON schema of each, generated from these types. A test keeps both equal.
//!
//! Items have the form of [`crate::media::MediaEntry::to_json`]. `status` and `health` print the types of
//! [`crate::control::protocol`]; `prune` and `release` print the reports of those modules.

use std::io::Write;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

use crate::ingest::{PassedOver, RootStatus, SkippedEntries};
use crate::media::{BoxName, MediaKey, RunId};
use crate::store::{LeftOutRun, RunSummary};
use crate::sync::TargetStatus;

/// Prints a value on one line.
pub(super) fn print(value: &impl Serialize, out: &mut impl Write) -> anyhow::Result<()> {
    // By way of a `Value`, so that floats and maps look the same in all commands.
    Ok(writeln!(out, "{}", serde_json::to_value(value)?)?)
}

/// `safelight ingest --json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Ingested {
    /// The store's directory.
    pub(super) store: PathBuf,
    /// The runs in the run directories, with all their items.
    pub(super) runs: Vec<RunSummary>,
    /// The items that this command added.
    pub(super) new: NewItems,
    /// The images, new ones and earlier ones, that were replaced meanwhile: by a later session of the job, by a new
    /// version of their dump, or once a mask came late.
    pub(super) replaced: u64,
    /// The run directories in which neither a media log nor a dump was found. The command fails if there is any.
    pub(super) found_nothing: Vec<PathBuf>,
    /// Why run directories were not read whose id another directory has, such as a copy of a run. The command then ends
    /// with 3.
    pub(super) not_taken: Vec<String>,
    /// What was probably meant for Safelight and was not read as it lies.
    pub(super) passed_over: Vec<RunDirPassedOver>,
    /// Lines of logs that made no item, because they were read before: their log is a copy or was
    /// rewritten.
    pub(super) repeated_lines: u64,
    /// Lines of logs that made no item, because a later session of the job has replaced what they describe.
    pub(super) superseded_lines: u64,
    /// Logs that end in a line without a newline: run, log, and the number of its bytes. Such a line is read when its
    /// newline arrives.
    #[schemars(with = "Vec<(String, String, u64)>")]
    pub(super) begun_lines: Vec<(RunId, String, u64)>,
    /// Entries of dumps that hold no picture.
    pub(super) skipped: SkippedEntries,
    /// Why something was not read. The command fails if there is any.
    pub(super) problems: Vec<String>,
    /// How long reading took, in seconds.
    pub(super) elapsed_s: f64,
}

/// `safelight backfill --json`: one object a line for each run directory.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct BackfilledRun {
    /// The run. Null if the directory or its `safelight.json` cannot be read.
    #[schemars(with = "Option<String>")]
    pub(super) run: Option<RunId>,
    /// The box under which the target files the run.
    #[serde(rename = "box")]
    #[schemars(with = "String")]
    pub(super) box_name: BoxName,
    /// Where the run comes from: `--origin`, else the run directory.
    pub(super) source: String,
    /// What became of the run.
    pub(super) status: BackfillStatus,
    /// Why it failed.
    pub(super) error: Option<String>,
    /// The images of the run, all of them, also those that an earlier try delivered. 0 if it failed.
    pub(super) images: u64,
    /// The held images.
    pub(super) held: u64,
    /// The rejected lines and dumps.
    pub(super) rejected: u64,
    /// The bytes of the delivered media files.
    pub(super) bytes: u64,
    /// How long it took, in seconds.
    pub(super) seconds: f64,
    /// Digest of the names, sizes and times of the run directory's files.
    pub(super) fingerprint: Option<String>,
    /// What was probably meant for Safelight and was not read as it lies.
    pub(super) passed_over: Vec<PassedOver>,
    /// Entries that hold no picture, of the dumps that this try read.
    pub(super) skipped: SkippedEntries,
    /// Logs that end in a line without a newline, which is not read: the log, and the number of the line's bytes.
    pub(super) begun_lines: Vec<(String, u64)>,
}

impl BackfilledRun {
    /// A run of which nothing was done.
    pub(super) fn new(box_name: BoxName, source: String) -> Self {
        Self {
            run: None,
            box_name,
            source,
            status: BackfillStatus::Pending,
            error: None,
            images: 0,
            held: 0,
            rejected: 0,
            bytes: 0,
            seconds: 0.0,
            fingerprint: None,
            passed_over: Vec::new(),
            skipped: SkippedEntries::default(),
            begun_lines: Vec::new(),
        }
    }
}

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum BackfillStatus {
    /// The target has all of it, and the marker of a whole backfill.
    Done,
    /// It was done before.
    Skipped,
    /// It is to be done; only with `--dry-run`.
    Pending,
    /// It is not done: `error` says why.
    Failed,
}

/// What was passed over in a run directory.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RunDirPassedOver {
    /// The run directory.
    pub(super) path: PathBuf,
    /// By reason.
    pub(super) passed_over: Vec<PassedOver>,
}

impl From<&RootStatus> for RunDirPassedOver {
    fn from(root: &RootStatus) -> Self {
        Self { path: root.path.clone(), passed_over: root.passed_over.clone() }
    }
}

/// The number of items, by state.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub(super) struct NewItems {
    /// Number of images.
    pub(super) image: u64,
    /// Number of held images.
    pub(super) held: u64,
    /// Number of rejected lines and dumps.
    pub(super) rejected: u64,
}

/// `safelight service install --json` and `service status --json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ServiceState {
    /// The unit's file. `None` if no service is installed.
    pub(super) unit: Option<PathBuf>,
    /// Whether it starts with the machine, as systemd says it: `enabled`, `disabled`.
    pub(super) enabled: String,
    /// Whether it runs, as systemd says it: `active`, `activating`, `failed`, `inactive`.
    pub(super) active: String,
    /// The configuration file.
    pub(super) configuration: PathBuf,
    /// The directories that the configuration watches.
    pub(super) watched: Vec<PathBuf>,
    /// The store. `None` if the configuration cannot be read.
    pub(super) store: Option<PathBuf>,
    /// What is wrong with the daemon or its configuration, one sentence each.
    pub(super) reasons: Vec<String>,
}

/// `safelight service uninstall --json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ServiceRemoved {
    /// The files that were removed.
    pub(super) removed: Vec<PathBuf>,
    /// The configuration and the store, which stay.
    pub(super) kept: Vec<PathBuf>,
}

/// `safelight sync --json`, and `retry --json` with a daemon.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Synced<'a> {
    /// The chosen targets afterwards.
    pub(super) targets: &'a [TargetStatus],
}

/// `safelight retry --json` without a daemon.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Requeued {
    /// The number of items that are retried at the next delivery.
    pub(super) items: u64,
}

/// `safelight verify --json`.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct Verified {
    /// The images whose files were read.
    pub(super) images: u64,
    /// Their files: pictures, masks and sets of boxes. A file that several images share counts once.
    pub(super) files: u64,
    /// The recorded bytes of these files.
    pub(super) bytes: u64,
    /// The files that were missing or damaged.
    pub(super) damaged: u64,
    /// Those among them that were made again. The command fails if `damaged` is greater.
    pub(super) repaired: u64,
    /// The first 1,000 files that were missing or damaged.
    pub(super) list: Vec<DamagedFile>,
    /// Runs whose items were not all read, because their files in the store fail. Then the command fails.
    pub(super) left_out: Vec<LeftOutRun>,
}

/// A media file that was missing or damaged.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct DamagedFile {
    /// The run.
    #[schemars(with = "String")]
    pub(super) run: RunId,
    /// The key of the first image that names the file.
    #[schemars(with = "String")]
    pub(super) key: MediaKey,
    /// Its step.
    pub(super) step: u64,
    /// Its index in the step.
    pub(super) index: u32,
    /// `image`, `mask` or `boxes`.
    pub(super) kind: String,
    /// The file, relative to the store.
    pub(super) path: PathBuf,
    /// What was found, and what was expected.
    pub(super) damage: String,
    /// Whether it was made again.
    pub(super) repaired: bool,
    /// Why it could not be made again, if that was tried.
    pub(super) reason: Option<String>,
}

/// `safelight reindex --json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Reindexed {
    /// All runs.
    pub(super) runs: Vec<RunSummary>,
    /// The number of items in the index.
    pub(super) items: u64,
}

/// `safelight reload --json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Reloaded {
    /// Always true: a reload that fails prints an error.
    pub(super) reloaded: bool,
}

/// `safelight gallery --json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct GalleryAddress {
    /// The store's directory. With `--from`, the URL of the object store.
    pub(super) store: PathBuf,
    /// Where the gallery listens: `unix:PATH`, or an address and a port.
    pub(super) listen: String,
    /// The address for a browser on this machine. Of a unix socket, the address at the other end of `ssh`.
    pub(super) url: String,
    /// The command for another machine, which makes `url` work there.
    pub(super) ssh: String,
    /// When the index was read, in seconds since the Unix epoch. Null if a daemon keeps it current, and with `--from`.
    pub(super) as_of: Option<f64>,
}

/// A run of a box, as `safelight ls --from URL --json` prints it: one object a line.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct FleetRunName<'a> {
    /// The box.
    pub(super) r#box: &'a str,
    /// The run. With the box before it, `BOX/RUN`, commands with `--from` take it.
    pub(super) run: &'a str,
}

/// `safelight validate --json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Validated {
    /// The configuration file.
    pub(super) path: PathBuf,
    /// Always true: an invalid file prints an error.
    pub(super) ok: bool,
    /// What works and is hardly meant.
    pub(super) warnings: Vec<String>,
}

/// `safelight wandb-merge --json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Merged {
    /// The directory that was made.
    pub(super) path: PathBuf,
    /// The run in the store.
    #[schemars(with = "String")]
    pub(super) run: RunId,
    /// The number of images that were added.
    pub(super) image: u64,
    /// The number of steps that have images.
    pub(super) steps: u64,
    /// The number of images that were left out, because retention removed their files.
    pub(super) pruned: u64,
}

/// One item, as `ls --json` and `show --json` print it: one object a line.
#[cfg(test)]
#[derive(JsonSchema, ts_rs::TS)]
#[schemars(rename = "Item")]
#[ts(rename = "ItemForm")]
#[expect(dead_code, reason = "the schema's form of `MediaEntry::to_json`")]
pub(crate) struct ItemForm {
    /// The run.
    run: String,
    /// The key. Null for a rejected line or dump without a readable key.
    key: Option<String>,
    /// The step.
    #[ts(type = "StepNumber | null")]
    step: Option<u64>,
    /// The index in the step, from 0.
    index: Option<u32>,
    /// `image`, `held` or `rejected`.
    state: String,
    /// Why the item is held or rejected.
    reason: Option<String>,
    /// Of a rejected item, `final`, or `waiting` if it is tried again.
    class: Option<String>,
    /// The media file, relative to the store.
    path: Option<String>,
    /// Type of the media file.
    file_type: Option<String>,
    /// Color mode: `L`, `LA`, `RGB` or `RGBA`.
    mode: Option<String>,
    /// Width in pixels.
    width: Option<u32>,
    /// Height in pixels.
    height: Option<u32>,
    /// Bytes of the media file.
    size: Option<u64>,
    /// SHA-256 of the media file, in hexadecimal.
    sha256: Option<String>,
    /// The caption.
    caption: Option<String>,
    /// The number of images that belong together.
    grouping: Option<u64>,
    /// The profile of the rules for pixels, such as `auto`.
    profile: Option<String>,
    /// The rule that maps values to pixels.
    rule: Option<String>,
    /// Which axis is which, such as `HWC`.
    format: Option<String>,
    /// Statistics of the values.
    stats: Option<StatsForm>,
    /// The dump or line that the item comes from.
    #[ts(type = "Record<string, unknown>")]
    source: serde_json::Map<String, serde_json::Value>,
}

/// Statistics of an image's values.
#[cfg(test)]
#[derive(JsonSchema, ts_rs::TS)]
#[schemars(rename = "Stats")]
#[ts(rename = "Stats")]
#[expect(dead_code, reason = "the schema's form of `Stats`")]
pub(crate) struct StatsForm {
    /// The least finite value.
    min: Option<f64>,
    /// The greatest finite value.
    max: Option<f64>,
    /// The mean of the finite values.
    mean: Option<f64>,
    /// The standard deviation of the finite values.
    std: Option<f64>,
    /// The number of NaN values.
    nan: u64,
    /// The number of infinite values.
    inf: u64,
    /// The share of values outside the range that the rule maps.
    clipped: f64,
    /// Whether all values are equal.
    constant: bool,
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use schemars::{Schema, schema_for};
    use serde_json::json;

    use super::*;
    use crate::control::protocol::{Health, Status};
    use crate::ingest::ReleaseReport;
    use crate::media::MediaEntry;
    use crate::retention::Report;

    fn schemas() -> [(&'static str, Schema); 17] {
        [
            ("item", schema_for!(ItemForm)),
            ("status", schema_for!(Status)),
            ("health", schema_for!(Health)),
            ("ingest", schema_for!(Ingested)),
            ("backfill", schema_for!(BackfilledRun)),
            ("prune", schema_for!(Report)),
            ("release", schema_for!(ReleaseReport)),
            ("sync", schema_for!(Synced<'_>)),
            ("verify", schema_for!(Verified)),
            ("reindex", schema_for!(Reindexed)),
            ("reload", schema_for!(Reloaded)),
            ("validate", schema_for!(Validated)),
            ("wandb-merge", schema_for!(Merged)),
            ("gallery", schema_for!(GalleryAddress)),
            ("fleet-run", schema_for!(FleetRunName<'_>)),
            ("service", schema_for!(ServiceState)),
            ("service-uninstall", schema_for!(ServiceRemoved)),
        ]
    }

    #[test]
    fn the_published_schemas_are_those_of_the_types() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json-schema");
        for (name, schema) in schemas() {
            let path = folder.join(format!("{name}.schema.json"));
            let want = serde_json::to_string_pretty(&schema).expect("a schema") + "\n";
            if std::env::var_os("SAFELIGHT_UPDATE").is_some() {
                fs::create_dir_all(&folder).expect("the folder");
                fs::write(&path, &want).expect("a schema file");
            }
            let got = fs::read_to_string(&path).unwrap_or_default();
            assert!(
                got == want,
                "{} is out of date: run `SAFELIGHT_UPDATE=1 cargo test --lib cli::json`",
                path.display()
            );
        }
    }

    #[test]
    fn the_schema_of_an_item_has_all_fields_that_every_item_has() {
        let schema = serde_json::to_value(schema_for!(ItemForm)).expect("a schema");
        let properties = schema["properties"].as_object().expect("properties");
        let fields: Vec<&str> = properties.keys().map(String::as_str).collect();
        assert_eq!(fields, [&["run"], &MediaEntry::FIELDS[..]].concat());
    }

    #[test]
    fn a_value_is_printed_on_one_line() {
        let mut out = Vec::new();
        print(&Reloaded { reloaded: true }, &mut out).expect("a write to memory");
        assert_eq!(out, format!("{}\n", json!({"reloaded": true})).into_bytes());
    }
}
