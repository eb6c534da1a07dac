//! Targets among each other, in the store, and in watched directories.

use std::path::Path;

use super::paths::{Relation, relation};
use super::{Facts, Finding, Place};
use crate::config::sync::{SyncConfig, TargetConfig, TrackioPlace};
use crate::config::{Config, WatchConfig};

pub(super) fn check(config: &Config, facts: &Facts) -> Vec<Finding> {
    let targets = &config.live.targets;
    let mut findings = Vec::new();
    for (i, second) in targets.iter().enumerate() {
        findings.extend(targets[..i].iter().find_map(|first| check_pair(first, second, facts)));
        findings.extend(check_store(second, &config.boot.store, facts));
        let watches = config.live.watches.iter().enumerate();
        findings.extend(watches.filter_map(|watch| check_watch(second, watch, facts)));
    }
    findings
}

/// Files that a target of a kind writes: paths in its directory for a run `run` and a key `key`.
fn files_of(kind: &TargetConfig) -> &'static [&'static str] {
    match kind {
        TargetConfig::Wandb(_) => &[
            "wandb/offline-run-20260102_030405-run/files/media/images/key_1_0123456789abcdef0123.png",
            "wandb/offline-run-20260102_030405-run/files/wandb-summary.json",
            "wandb/offline-run-20260102_030405-run/run-run.wandb",
        ],
        TargetConfig::Tensorboard(_) => &["run/events.out.tfevents.0000000000.safelight"],
        TargetConfig::Trackio(_) => {
            &["inbox/safelight/1-0123.jsonl", "media/safelight/run/1/0123456789012345.png"]
        }
        TargetConfig::ObjectStore(_) => {
            &["runs/run/00000001.jsonl", "media/01/0123456789abcdef0123456789abcdef.png"]
        }
        TargetConfig::Mlflow(_) => &[],
    }
}

/// Where a target's images go, as text that is equal for equal places. Two targets with one place would write the same
/// images twice, or over each other.
fn place(kind: &TargetConfig, facts: &Facts) -> String {
    let of_path = |path: &Path| facts.resolve(path).display().to_string();
    let of_url = |url: &str| url.trim_end_matches('/').to_owned();
    match kind {
        TargetConfig::Wandb(config) => format!("directory {}", of_path(&config.path)),
        TargetConfig::Tensorboard(config) => format!("directory {}", of_path(&config.path)),
        TargetConfig::Trackio(config) => {
            let project = config.project.as_deref().unwrap_or_default();
            match &config.place {
                TrackioPlace::Inbox(path) => format!("project {project:?} in {}", of_path(path)),
                TrackioPlace::Server { url, .. } => {
                    format!("project {project:?} at {}", of_url(url))
                }
            }
        }
        TargetConfig::ObjectStore(config) => {
            if let Some(path) = kind.directory() {
                return format!("directory {}", of_path(&path));
            }
            let endpoint = config.endpoint.as_deref().map(of_url);
            let at = endpoint.map(|endpoint| format!(" at {endpoint}"));
            format!("{}{}", of_url(&config.url), at.unwrap_or_default())
        }
        TargetConfig::Mlflow(config) => {
            format!("experiment {:?} at {}", config.experiment, of_url(&config.url))
        }
    }
}

/// Two targets that would write to one place.
fn check_pair(first: &SyncConfig, second: &SyncConfig, facts: &Facts) -> Option<Finding> {
    let section = || Place::Target(second.name.clone());
    let (a, b) = (&first.name, &second.name);
    let (place_a, place_b) = (place(&first.kind, facts), place(&second.kind, facts));
    if place_a == place_b {
        let advice = "give each its own, or remove one and let the other have the images of both";
        // Each event file and offline run has one writer. Elsewhere, targets that share no image may share a place.
        let is_own = matches!(
            first.kind,
            TargetConfig::Wandb(_) | TargetConfig::Tensorboard(_) | TargetConfig::ObjectStore(_)
        );
        return Some(if is_own || first.selection.is_all() || second.selection.is_all() {
            let what = "so that each image would be there twice, or one would overwrite the other";
            Finding::error(
                section(),
                format!("targets {a:?} and {b:?} both write to {place_a}, {what}: {advice}"),
            )
        } else {
            let what = "an image that both get would be there twice";
            Finding::warning(
                section(),
                format!("targets {a:?} and {b:?} both write to {place_a}: {what}"),
            )
        });
    }
    let [path_a, path_b] = [first.kind.directory()?, second.kind.directory()?];
    let is_wandb = |kind: &TargetConfig| matches!(kind, TargetConfig::Wandb(_));
    let shared = match relation(facts.resolve(&path_a), facts.resolve(&path_b)) {
        Relation::Same => true,
        Relation::Inside(_) => is_wandb(&second.kind),
        Relation::Around(_) => is_wandb(&first.kind),
        Relation::Apart => false,
    };
    // Two projects may share a directory of Trackio.
    let is_same_kind = first.kind.kind() == second.kind.kind();
    (shared && !is_same_kind).then(|| {
        let (path_a, path_b) = (path_a.display(), path_b.display());
        let message = format!(
            "target {a:?} writes to {path_a} and target {b:?} to {path_b}: a directory of each its own is better"
        );
        Finding::warning(section(), message)
    })
}

/// A target in the store, or the store in its directory.
fn check_store(target: &SyncConfig, store: &Path, facts: &Facts) -> Option<Finding> {
    let path = target.kind.directory()?;
    let (name, place) = (&target.name, Place::Target(target.name.clone()));
    let (shown, store_shown) = (path.display(), store.display());
    match relation(facts.resolve(&path), facts.resolve(store)) {
        Relation::Apart => None,
        Relation::Same | Relation::Inside(_) => Some(Finding::error(
            place,
            format!(
                "target {name:?} would write to {shown}, into the store {store_shown}: choose a directory outside of it"
            ),
        )),
        Relation::Around(_) => Some(Finding::warning(
            place,
            format!(
                "the store {store_shown} lies in {shown}, where target {name:?} writes: a place outside of it is better"
            ),
        )),
    }
}

/// A target whose files a `[[watch]]` would read as input.
fn check_watch(
    target: &SyncConfig,
    (i, watch): (usize, &WatchConfig),
    facts: &Facts,
) -> Option<Finding> {
    let path = target.kind.directory()?;
    let inner = match relation(facts.resolve(&path), facts.resolve(&watch.path)) {
        Relation::Same => Path::new(""),
        Relation::Inside(inner) => inner,
        Relation::Around(_) | Relation::Apart => return None,
    };
    let read = |file: &&str| input_pattern(watch, inner.join(file).to_str()?);
    let (file, pattern) =
        files_of(&target.kind).iter().find_map(|file| Some((file, read(file)?)))?;
    Some(Finding::error(
        Place::Target(target.name.clone()),
        format!(
            "target {:?} would write files such as {}, and [[watch]] number {} ({}) would read them as input by its pattern \
             {pattern:?}: move the target, or make the pattern narrower",
            target.name,
            path.join(file).display(),
            i + 1,
            watch.path.display(),
        ),
    ))
}

/// The pattern by which a file in a watched directory would be read, if it would be.
fn input_pattern(watch: &WatchConfig, file: &str) -> Option<String> {
    // Hidden folders are never read.
    if file.split('/').any(|part| part.starts_with('.')) {
        return None;
    }
    let ends = file.match_indices('/').map(|(at, _)| at);
    let in_run = match &watch.runs {
        None => vec![file],
        Some(runs) => {
            ends.filter(|at| runs.is_match(&file[..*at])).map(|at| &file[at + 1..]).collect()
        }
    };
    in_run.into_iter().find_map(|file| {
        let log = watch.logs.iter().find(|pattern| pattern.is_match(file));
        let dump = || watch.dumps.iter().find(|pattern| pattern.read(file).is_some());
        log.map(|log| log.as_str().to_owned())
            .or_else(|| dump().map(|dump| dump.as_str().to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_one, findings};

    fn targets(settings: &[&str]) -> String {
        let section = |(i, settings): (usize, &&str)| format!("[sync.t{i}]\n{settings}\n");
        let sections: String = settings.iter().enumerate().map(section).collect();
        format!("[store]\npath = \"/store\"\n{sections}")
    }

    #[test]
    fn two_targets_with_one_place_are_an_error() {
        for (first, second) in [
            ("kind = \"wandb\"\npath = \"/w\"", "kind = \"wandb\"\npath = \"/w/\""),
            (
                "kind = \"wandb\"\npath = \"/w\"\nruns = [\"a*\"]",
                "kind = \"wandb\"\npath = \"/w\"\nruns = [\"b*\"]",
            ),
            ("kind = \"tensorboard\"\npath = \"/t\"", "kind = \"tensorboard\"\npath = \"/x/../t\""),
            (
                "kind = \"object_store\"\nurl = \"s3://b/p\"",
                "kind = \"object_store\"\nurl = \"s3://b/p/\"",
            ),
            (
                "kind = \"object_store\"\nurl = \"file:///o\"",
                "kind = \"object_store\"\nurl = \"file:///o/\"",
            ),
            ("kind = \"mlflow\"\nurl = \"http://m\"", "kind = \"mlflow\"\nurl = \"http://m/\""),
            ("kind = \"trackio\"\npath = \"/t\"", "kind = \"trackio\"\npath = \"/t\""),
            ("kind = \"tensorboard\"\npath = \"/w\"", "kind = \"wandb\"\npath = \"/w\""),
        ] {
            let parts = ["\"t0\" and \"t1\" both write to", "give each its own"];
            check_one(&targets(&[first, second]), true, &parts);
        }
    }

    #[test]
    fn targets_with_places_of_their_own_are_fine() {
        for (first, second) in [
            ("kind = \"wandb\"\npath = \"/w\"", "kind = \"wandb\"\npath = \"/w2\""),
            (
                "kind = \"object_store\"\nurl = \"s3://b/p\"",
                "kind = \"object_store\"\nurl = \"s3://b/p2\"",
            ),
            (
                "kind = \"object_store\"\nurl = \"s3://b\"",
                "kind = \"object_store\"\nurl = \"s3://b\"\nendpoint = \"http://x\"",
            ),
            (
                "kind = \"mlflow\"\nurl = \"http://m\"",
                "kind = \"mlflow\"\nurl = \"http://m\"\nexperiment = \"b\"",
            ),
            (
                "kind = \"trackio\"\npath = \"/t\"\nproject = \"a\"",
                "kind = \"trackio\"\npath = \"/t\"\nproject = \"b\"",
            ),
        ] {
            check_one(&targets(&[first, second]), true, &[]);
        }
        let mlflow =
            |runs: &str| format!("kind = \"mlflow\"\nurl = \"http://m\"\nruns = [{runs:?}]");
        let [a, b] = ["a*", "b*"].map(mlflow);
        check_one(&targets(&[&a, &b]), false, &["an image that both get"]);
        let nested = ["kind = \"wandb\"\npath = \"/w\"", "kind = \"tensorboard\"\npath = \"/w/t\""];
        check_one(&targets(&nested), false, &["a directory of each its own is better"]);
    }

    #[test]
    fn a_target_in_the_store_is_an_error_and_the_reverse_is_odd() {
        for path in ["/store", "/store/x", "/x/../store"] {
            let target = format!("kind = \"tensorboard\"\npath = {path:?}");
            check_one(&targets(&[&target]), true, &["into the store /store"]);
        }
        check_one(
            &targets(&["kind = \"object_store\"\nurl = \"file:///\""]),
            false,
            &["the store /store lies in /, where target \"t0\" writes"],
        );
    }

    #[test]
    fn a_target_whose_files_would_be_input_is_an_error() {
        let wandb = "[sync.w]\nkind = \"wandb\"\npath = \"/d/run\"\n";
        let images = "[[watch]]\npath = \"/d\"\ndumps = [\"{key}_{step}_{index}.png\"]\n";
        let digits = "[[watch]]\npath = \"/d\"\ndumps = [\"wandb/{key}/{step}.{ext}\"]\n";
        let found = findings(&format!("{wandb}[[watch]]\npath = \"/d\"\nlogs = [\"**/*.json\"]\n"));
        assert!(
            found.iter().any(|finding| finding.message.contains("wandb-summary.json")),
            "{found:?}"
        );
        check_one(&format!("{wandb}{digits}"), true, &[]);
        check_one(&format!("{wandb}{images}"), true, &[]);
        let trackio = "[sync.t]\nkind = \"trackio\"\npath = \"/d/run\"\n";
        let all = "[[watch]]\npath = \"/d\"\ndumps = [\"media/{key}/{step}/{index}.{ext}\"]\n";
        check_one(
            &format!("{trackio}{all}"),
            true,
            &["/d/run/media/safelight/run/1/", "number 1 (/d)"],
        );
        // TensorBoard reads scalars and images in one directory.
        let tensorboard =
            "[sync.t]\nkind = \"tensorboard\"\npath = \"/d\"\n[[watch]]\npath = \"/d\"\n";
        check_one(tensorboard, true, &[]);
        let hidden = "[sync.w]\nkind = \"trackio\"\npath = \"/d/run/.t\"\n";
        check_one(&format!("{hidden}{all}"), true, &[]);
    }
}
