//! What a directory is in which nothing was found, and how its files can be taken.

use std::fs;
use std::path::Path;

use indicatif::HumanCount;

use crate::cli::common::Commands;
use crate::record::LooseKey;
use crate::shell::quoted_path;

/// How many entries are looked at.
const ENTRIES_MAX: usize = 20_000;

/// Folders and files by which the directories of other tools are known: an ending or a beginning of a name, and the
/// tool.
const TOOLS: [(&str, &str); 9] = [
    ("events.out.tfevents.", "TensorBoard"),
    ("wandb", "W&B"),
    ("offline-run-", "W&B"),
    (".wandb", "W&B"),
    ("mlruns", "MLflow"),
    ("mlflow.db", "MLflow"),
    (".aim", "Aim"),
    ("lightning_logs", "Lightning"),
    ("trackio", "Trackio"),
];

/// Says what lies in a directory in which neither a media log nor a dump was found. `None` if the list of what was
/// passed over says it all.
pub(super) fn hint(directory: &Path, commands: &Commands) -> Option<String> {
    let names = fs::read_dir(directory).ok()?.flatten().take(ENTRIES_MAX);
    let names: Vec<(String, bool)> = names
        .filter_map(|entry| {
            let is_file = entry.file_type().ok()?.is_file();
            Some((entry.file_name().into_string().ok()?, is_file))
        })
        .collect();
    if names.is_empty() {
        return Some("the directory is empty".to_owned());
    }
    let mut loose: Vec<&str> = names
        .iter()
        .filter(|(name, is_file)| *is_file && LooseKey::is_loose(name))
        .map(|(name, _)| name.as_str())
        .collect();
    loose.sort_unstable();
    if let Some(first) = loose.first() {
        let ending = first.rsplit('.').next().unwrap_or("npy");
        let command = commands.line(&format!("ingest {} --key NAME", quoted_path(directory)));
        let files = match loose.len() {
            1 => "an array or picture lies".to_owned(),
            n => format!("{} arrays or pictures lie", HumanCount(n as u64)),
        };
        return Some(format!(
            "{files} in it without a key: move them to dumps/KEY/STEP.{ending}, such as \
             dumps/val/pred/000120.{ending}, or take them as they are: {command}"
        ));
    }
    let tool = TOOLS.iter().find(|(part, _)| {
        names.iter().any(|(name, _)| name.starts_with(part) || name.ends_with(part))
    });
    tool.map(|(_, tool)| {
        format!(
            "it looks like a directory of {tool}: Safelight reads arrays that the job writes for it, such as \
             dumps/val/pred/000120.npy, and not the files of other trackers"
        )
    })
}
