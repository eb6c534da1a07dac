//! Decides by a file's path whether it was probably meant for Safelight. Pure, but for sidecars.

use super::kind::PassedOverKind;
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
    if ["jsonl", "ndjson"].iter().any(|known| is_suffix(&known)) {
        return Some(Guess::MayBeLog);
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

/// Says what to do about a dump that is passed over.
pub(crate) fn note(files: &RunFiles, kind: PassedOverKind, path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let (stem, suffix) = name.rsplit_once('.').unwrap_or((name, ""));
    let lower = suffix.to_ascii_lowercase();
    match kind {
        PassedOverKind::UpperCase => format!("rename it to {}", with_suffix(name, &lower)),
        PassedOverKind::Suffix if suffix.is_empty() => "has no suffix".to_owned(),
        PassedOverKind::Suffix => format!("suffix .{suffix}"),
        _ => {
            if let Some(pattern) = suggested_pattern(files, folder, stem, suffix, path) {
                return format!("add the pattern {pattern:?} to `dumps`");
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

/// Says how the pattern of a media log outside of the patterns may be.
pub(super) fn note_of_log(files: &RunFiles, path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let stem = stem.strip_suffix(".media").unwrap_or(stem);
    let renamed = format!("{stem}.media.jsonl");
    let pattern = match (folder, name.ends_with(".media.jsonl")) {
        ("", _) => name.to_owned(),
        (folder, true) => format!("{folder}/*.media.jsonl"),
        (folder, false) => format!("{folder}/{name}"),
    };
    if files.is_log(&renamed) {
        let to = if folder.is_empty() { "rename it to" } else { "move it to" };
        format!("{to} {renamed}, or add {pattern:?} to `logs`")
    } else {
        format!("add {pattern:?} to `logs`")
    }
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

/// A pattern that the path would match. The folder, or what the name begins with, becomes the key.
fn suggested_pattern(
    files: &RunFiles,
    folder: &str,
    stem: &str,
    suffix: &str,
    path: &str,
) -> Option<String> {
    let (before, step, index) = numbers(stem)?;
    let after_step = match index {
        Some((between, _)) => format!("{{step}}{between}{{index}}"),
        None => "{step}".to_owned(),
    };
    let rest = &stem[before.len() + step.len() + index.map_or(0, |(a, b)| a.len() + b.len())..];
    let prefix = files.dump_folder_of(folder);
    let inner = folder.strip_prefix(&prefix).unwrap_or(folder).trim_start_matches('/');
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
    let matches = DumpPattern::new(&pattern).ok()?.read(path)?.is_ok();
    matches.then_some(pattern)
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
