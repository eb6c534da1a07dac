//! Decides by a file's path whether it was probably meant for Safelight. Pure, but for sidecars.

use super::kind::PassedOverKind;
use super::survey::join;
use crate::ingest::run_files::RunFiles;
use crate::record::pattern::{DumpPattern, EXTENSIONS};

/// Suffixes of files that lie beside dumps or are not finished.
const BESIDE: [&str; 20] = [
    "json", "txt", "md", "csv", "tsv", "yaml", "yml", "toml", "log", "html", "tmp", "temp", "part",
    "partial", "swp", "bak", "lock", "md5", "sha256", "done",
];

/// Folders of other tools, of checkpoints and of programs. No job puts dumps there.
const FOREIGN: [&str; 22] = [
    "wandb",
    "mlruns",
    "mlartifacts",
    "tensorboard",
    "tb",
    "tb_logs",
    "trackio",
    "aim",
    "clearml",
    "checkpoint",
    "checkpoints",
    "ckpt",
    "ckpts",
    "weights",
    "models",
    "pretrained",
    "optimizer",
    "__pycache__",
    "node_modules",
    "site-packages",
    "venv",
    "src",
];

/// Parts of names of checkpoints.
const WEIGHTS: [&str; 17] = [
    "model",
    "ckpt",
    "checkpoint",
    "weight",
    "state",
    "optim",
    "sched",
    "scaler",
    "epoch",
    "best",
    "last",
    "final",
    "ema",
    "lora",
    "adapter",
    "net",
    "vae",
];

/// Suffixes of compressed files.
const COMPRESSED: [&str; 4] = ["gz", "zst", "xz", "bz2"];

/// What a file that is neither a log nor a dump may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guess {
    /// It is passed over.
    Missed(PassedOverKind),
    /// Its first bytes decide whether it is a media log.
    MayBeLog,
}

/// Guesses what a file is that is neither a log nor a dump, by its path. `None` if it is no matter of ours.
pub(crate) fn guess(files: &RunFiles, path: &str) -> Option<Guess> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let (stem, suffix) = name.rsplit_once('.').unwrap_or((name, ""));
    let is_suffix = |known: &&&str| known.eq_ignore_ascii_case(suffix);
    if let Some(log) = LogName::of(name) {
        // The bytes of a compressed log say nothing.
        let is_ours = || files.is_log(&join(folder, log.name)) || files.is_log(log.name);
        return if log.is_compressed() {
            is_ours().then_some(Guess::Missed(PassedOverKind::Log))
        } else {
            Some(Guess::MayBeLog)
        };
    }
    if BESIDE.iter().any(|known| is_suffix(&known)) || name.ends_with('~') {
        return None;
    }
    let kind = if let Some(lower) = EXTENSIONS.iter().find(is_suffix) {
        let is_upper = || files.dump_path(&with_suffix(path, lower)).is_some();
        if *lower != suffix && is_upper() {
            PassedOverKind::UpperCase
        } else if files.is_in_dump_folder(folder) || is_dump_elsewhere(folder, stem, lower) {
            PassedOverKind::Dump
        } else {
            return None;
        }
    } else {
        let is_in_place = || {
            let would_match = |suffix| files.dump_path(&with_suffix(path, suffix)).is_some();
            let inner = path.strip_suffix(suffix).and_then(|inner| inner.strip_suffix('.'));
            would_match("npy")
                || would_match("png")
                || inner.is_some_and(|inner| files.dump_path(inner).is_some())
        };
        if !is_in_place() {
            return None;
        }
        PassedOverKind::Suffix
    };
    Some(Guess::Missed(kind))
}

/// Says what to do about a dump, or a compressed log, that is passed over.
pub(crate) fn note(files: &RunFiles, kind: PassedOverKind, path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let (stem, suffix) = name.rsplit_once('.').unwrap_or((name, ""));
    let lower = suffix.to_ascii_lowercase();
    match kind {
        PassedOverKind::Log => note_of_log(files, path),
        PassedOverKind::UpperCase => format!("rename it to {}", with_suffix(name, &lower)),
        PassedOverKind::Suffix if suffix.is_empty() => "has no suffix".to_owned(),
        PassedOverKind::Suffix => format!("suffix .{suffix}"),
        _ => {
            if let Some(run) = run_around(path, |inner| files.dump_path(inner).is_some()) {
                return format!("{run} looks like a run directory: {READ_RUN}");
            }
            if let Some((pattern, place)) = suggested_pattern(files, folder, stem, suffix, path) {
                let moved =
                    place.map_or_else(String::new, |place| format!("move it to {place}, or "));
                return format!("{moved}add the pattern {pattern:?} to `dumps`");
            }
            if !files.is_in_dump_folder(folder) {
                let is_read = |place: &String| files.dump_path(place).is_some();
                let with_step = format!("dumps/KEY/{stem}.{lower}");
                if is_read(&with_step) {
                    return format!("no folder names its key: move it to {with_step}");
                }
                if let Some(place) = Some(format!("dumps/KEY/000120.{lower}")).filter(is_read) {
                    return format!("its path has no key and step: move it to {place}");
                }
            }
            let below = if folder.is_empty() { String::new() } else { format!("{folder}/") };
            if stem.bytes().any(|byte| byte.is_ascii_digit()) {
                format!("no folder names its key: move it to {below}KEY/{name}")
            } else {
                format!("its name has no step: rename it as 000120.{lower}")
            }
        }
    }
}

/// Says how a media log outside of the patterns can be read.
pub(super) fn note_of_log(files: &RunFiles, path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let Some(log) = LogName::of(name) else { return String::new() };
    let renamed = log.renamed();
    if log.is_compressed() {
        return format!("if its lines were not read before, decompress it as {renamed}");
    }
    let pattern = match (folder, name.ends_with(".media.jsonl")) {
        ("", _) => name.to_owned(),
        (folder, true) => format!("{folder}/*.media.jsonl"),
        (folder, false) => format!("{folder}/{name}"),
    };
    let note = if files.is_log(&renamed) {
        let to = if folder.is_empty() { "rename it to" } else { "move it to" };
        format!("{to} {renamed}, or add {pattern:?} to `logs`")
    } else {
        format!("add {pattern:?} to `logs`")
    };
    match run_around(path, |inner| files.is_log(inner)) {
        Some(run) => format!("if {run} is a run directory, {READ_RUN}; else {note}"),
        None => note,
    }
}

/// How a directory inside of what is read as one run becomes a run of its own.
const READ_RUN: &str = "give it to `safelight ingest`, or choose it by `runs` in [[watch]]";

/// The shortest folder of a path within which the rest of the path is input of a run.
fn run_around(path: &str, is_input: impl Fn(&str) -> bool) -> Option<&str> {
    path.match_indices('/')
        .map(|(at, _)| at)
        .find(|at| is_input(&path[at + 1..]))
        .map(|at| &path[..at])
}

/// The name of a file of JSON Lines, which may be rotated: `a.jsonl`, `a.jsonl.1`, `a.jsonl-20260131.gz`.
struct LogName<'a> {
    /// The name before the rotation.
    name: &'a str,
    /// What the rotation appended.
    parts: Vec<&'a str>,
}

impl<'a> LogName<'a> {
    fn of(name: &'a str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        let end = |suffix: &str| lower.rfind(suffix).map(|at| at + suffix.len());
        let (log, appended) = name.split_at([".jsonl", ".ndjson"].into_iter().find_map(end)?);
        let mut parts = appended.split(['.', '-', '_']);
        // The first one stands between the suffix and the first separator.
        let is_whole = parts.next() == Some("");
        let parts: Vec<&str> = parts.collect();
        let is_rotation = |part: &&str| {
            let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            is_number || *part == "old" || is_compression(part)
        };
        (is_whole && parts.iter().all(is_rotation)).then_some(Self { name: log, parts })
    }

    fn is_compressed(&self) -> bool {
        self.parts.last().is_some_and(|last| is_compression(last))
    }

    /// A name that the default pattern for logs matches.
    fn renamed(&self) -> String {
        let stem = self.name.rsplit_once('.').map_or(self.name, |(stem, _)| stem);
        let stem = stem.strip_suffix(".media").unwrap_or(stem);
        let rotation = self.parts.iter().filter(|part| !is_compression(part));
        [&[stem], &rotation.copied().collect::<Vec<_>>()[..], &["media.jsonl"]].concat().join(".")
    }
}

fn is_compression(part: &str) -> bool {
    COMPRESSED.contains(&&*part.to_ascii_lowercase())
}

/// Whether a folder belongs to another tool, so that it is not looked through.
pub(crate) fn is_foreign_folder(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    FOREIGN.contains(&&*lower) || lower.starts_with("checkpoint") || lower.starts_with("ckpt")
}

fn with_suffix(path: &str, suffix: &str) -> String {
    let stem = match path.rsplit_once('.') {
        Some((stem, after)) if !after.contains('/') => stem,
        _ => path,
    };
    format!("{stem}.{suffix}")
}

/// Whether a file outside of the folders for dumps was probably meant to be a dump: it holds an array, or it
/// holds a picture or tensors and has a number in its name. Checkpoints are none.
fn is_dump_elsewhere(folder: &str, stem: &str, suffix: &str) -> bool {
    if folder.split('/').any(is_foreign_folder) {
        return false;
    }
    let has_number = stem.bytes().any(|byte| byte.is_ascii_digit());
    match suffix {
        "npy" | "npz" => true,
        // Raw bytes need a sidecar, and other tools use these suffixes for anything.
        "bin" | "raw" => false,
        "pt" | "pth" | "safetensors" => {
            let path = format!("{folder}/{stem}").to_ascii_lowercase();
            let is_checkpoint = WEIGHTS.iter().any(|word| path.contains(word));
            has_number && !folder.is_empty() && !is_checkpoint
        }
        _ => has_number,
    }
}

/// A pattern that the path would match, and a path for the same key and step that is read without it. The folder, or
/// what the name begins with, becomes the key.
fn suggested_pattern(
    files: &RunFiles,
    folder: &str,
    stem: &str,
    suffix: &str,
    path: &str,
) -> Option<(String, Option<String>)> {
    let (before, step, index) = numbers(stem)?;
    let after_step = match index {
        Some((between, _)) => format!("{{step}}{between}{{index}}"),
        None => "{step}".to_owned(),
    };
    let rest = &stem[before.len() + step.len() + index.map_or(0, |(a, b)| a.len() + b.len())..];
    let prefix = files.dump_folder_of(folder);
    let inner = folder.strip_prefix(&prefix).unwrap_or(folder).trim_start_matches('/');
    let ending = suffix;
    let suffix = if EXTENSIONS.contains(&suffix) { "{ext}" } else { suffix };
    let file = if inner.is_empty() {
        // The name begins with the key.
        let key = before.trim_end_matches(|c: char| !c.is_alphanumeric());
        (!key.is_empty())
            .then(|| format!("{{key}}{}{after_step}{rest}.{suffix}", &before[key.len()..]))?
    } else {
        format!("{{key}}/{before}{after_step}{rest}.{suffix}")
    };
    let pattern = if prefix.is_empty() { file } else { format!("{prefix}/{file}") };
    let dump = DumpPattern::new(&pattern).ok()?.read(path)?.ok()?;
    let index = index.map_or_else(String::new, |(_, index)| format!("_{index}"));
    let place = format!("dumps/{}/{step}{index}.{ending}", dump.key.as_str());
    let is_read = matches!(files.dump_path(&place), Some(Ok(read)) if read.key == dump.key);
    Some((pattern, is_read.then_some(place)))
}

/// A separator, and the index after it.
type AfterStep<'a> = Option<(&'a str, &'a str)>;

/// What a file's stem begins with, its step, and its index if it has one: the last number is the step, or the
/// index if a number stands just before it.
fn numbers(stem: &str) -> Option<(&str, &str, AfterStep<'_>)> {
    let last_number = |text: &str| {
        let end = text.rfind(|c: char| c.is_ascii_digit())? + 1;
        let start = text[..end].rfind(|c: char| !c.is_ascii_digit());
        let start = start.map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8));
        Some((start, end))
    };
    let (start, end) = last_number(stem)?;
    let earlier = &stem[..start];
    let between = earlier.len() - earlier.trim_end_matches(['_', '-', '.']).len();
    if between == 1
        && let Some((step, step_end)) = last_number(&earlier[..start - 1])
        && step_end == start - 1
    {
        let index = (&stem[step_end..start], &stem[start..end]);
        return Some((&stem[..step], &stem[step..step_end], Some(index)));
    }
    Some((earlier, &stem[start..end], None))
}
