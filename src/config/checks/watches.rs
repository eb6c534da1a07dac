//! Watched directories among each other, and the store.

use std::path::Path;

use super::paths::{Relation, relation};
use super::runs_patterns::meeting;
use super::{Facts, Finding, Place};
use crate::config::{Config, WatchConfig};

pub(super) fn check(config: &Config, facts: &Facts) -> Vec<Finding> {
    let watches = &config.live.watches;
    let mut findings = Vec::new();
    for (i, second) in watches.iter().enumerate() {
        for (j, first) in watches[..i].iter().enumerate() {
            findings.extend(check_pair((j, first), (i, second), facts));
        }
        findings.extend(check_store(i, second, &config.boot.store, facts));
    }
    findings
}

/// A `[[watch]]` in words.
fn named(i: usize, watch: &WatchConfig) -> String {
    format!("[[watch]] number {} ({})", i + 1, watch.path.display())
}

/// The pattern of a section's run directories, as it is written.
fn runs(watch: &WatchConfig) -> &str {
    watch.runs.as_ref().map_or(".", |runs| runs.as_str())
}

/// Two sections that would read the same file.
fn check_pair(
    (i, first): (usize, &WatchConfig),
    (j, second): (usize, &WatchConfig),
    facts: &Facts,
) -> Option<Finding> {
    let error = |message| Some(Finding::error(Place::Watch(j), message));
    let (outer, inner, between) = match relation(
        facts.resolve(&first.path),
        facts.resolve(&second.path),
    ) {
        Relation::Same => {
            return error(format!(
                "[[watch]] number {} reads the same directory as this one, {}, and only one of them can: write one \
                     [[watch]] with the patterns of both, such as logs = [\"*.media.jsonl\", \"*.log\"] or \
                     runs = \"{{a,b}}\"",
                i + 1,
                first.path.display()
            ));
        }
        Relation::Apart => return None,
        Relation::Around(between) => (first, second, between),
        Relation::Inside(between) => (second, first, between),
    };
    let between = between.to_str()?;
    let inner_runs = match &inner.runs {
        Some(runs) => format!("{between}/{}", runs.as_str()),
        None => between.to_owned(),
    };
    let outer_runs = outer.runs.as_ref().map_or("", |runs| runs.as_str());
    let meeting = meeting(outer_runs, &inner_runs);
    let (a, b) = (named(i, first), named(j, second));
    let both = format!("{a} with runs = {:?} and {b} with runs = {:?}", runs(first), runs(second));
    if meeting.is_same {
        return error(format!(
            "{both} may take the same directory for a run, and only one of them can read it: change `path` or `runs` so \
             that they are apart"
        ));
    }
    let is_read_twice = meeting.in_first.is_some_and(|folder| reads(outer, &folder))
        || meeting.in_second.is_some_and(|folder| reads(inner, &folder));
    is_read_twice.then(|| {
        Finding::error(
            Place::Watch(j),
            format!(
                "{both}: a run of one may lie in a run of the other, and the patterns of the outer one (`logs`, `dumps`) \
                 reach into it, so that its files would be read twice: change `runs` or the patterns"
            ),
        )
    })
}

/// Whether logs or dumps of a run may lie in or below a folder of it.
fn reads(watch: &WatchConfig, folder: &str) -> bool {
    watch.may_have_logs_below(folder)
        || watch.dumps.iter().any(|pattern| pattern.may_lie_below(folder))
}

/// Whether the patterns of a section may name files in a folder of its directory.
fn reaches(watch: &WatchConfig, folder: &str) -> bool {
    // Hidden folders are never read.
    if folder.split('/').any(|part| part.starts_with('.')) {
        return false;
    }
    let Some(runs) = &watch.runs else { return reads(watch, folder) };
    let ends = folder.match_indices('/').map(|(at, _)| at).chain([folder.len()]);
    let mut in_runs = ends.filter(|at| runs.is_match(&folder[..*at]));
    in_runs.any(|at| reads(watch, folder[at..].trim_start_matches('/')))
        || runs.may_lie_below(folder)
}

/// A section and the store in each other.
fn check_store(i: usize, watch: &WatchConfig, store: &Path, facts: &Facts) -> Option<Finding> {
    let (path, shown) = (watch.path.display(), store.display());
    match relation(facts.resolve(store), facts.resolve(&watch.path)) {
        Relation::Apart => None,
        Relation::Inside(inner) if inner.to_str().is_some_and(|inner| !reaches(watch, inner)) => {
            None
        }
        Relation::Same | Relation::Around(_) => Some(Finding::error(
            Place::Watch(i),
            format!(
                "{path} is or lies in the store {shown}, whose files are never read as input: change `path`, or \
                 `path` in [store]"
            ),
        )),
        Relation::Inside(_) => Some(Finding::warning(
            Place::Watch(i),
            format!(
                "the store {shown} lies in the watched directory {path}: its files are never read as input; a place \
                 outside of watched directories is better"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::check_one;

    fn watches(sections: &[&str]) -> String {
        let sections: Vec<String> =
            sections.iter().map(|section| format!("[[watch]]\n{section}\n")).collect();
        format!("[store]\npath = \"/store\"\n{}", sections.join(""))
    }

    #[test]
    fn two_sections_that_read_the_same_files_are_an_error() {
        for (sections, part) in [
            (
                ["path = \"/d\"", "path = \"/d\"\nlogs = [\"*.log\"]"],
                "the same directory as this one",
            ),
            (["path = \"/d\"", "path = \"/x/../d/.\"\nruns = \".\""], "the same directory"),
            (
                ["path = \"/d\"\nruns = \"*/*\"", "path = \"/d/team\""],
                "take the same directory for a run",
            ),
            (
                ["path = \"/d/team\"", "path = \"/d\"\nruns = \"**\""],
                "take the same directory for a run",
            ),
            (
                ["path = \"/d\"", "path = \"/d/a\"\nruns = \".\""],
                "take the same directory for a run",
            ),
            (["path = \"/d\"\nlogs = [\"**/*.jsonl\"]", "path = \"/d/team\""], "read twice"),
            (
                ["path = \"/d/a\"\nruns = \".\"", "path = \"/d/a/dumps/b\"\nruns = \".\""],
                "read twice",
            ),
        ] {
            check_one(&watches(&sections), true, &[part, "[[watch]] number 1"]);
        }
    }

    #[test]
    fn sections_that_are_apart_are_fine() {
        for sections in [
            &["path = \"/d\""][..],
            &["path = \"/d\"", "path = \"/d2\""],
            &["path = \"/d\"", "path = \"/d/team\""],
            &["path = \"/d\"\nruns = \"a-*\"", "path = \"/d/b-1\"\nruns = \".\""],
            &["path = \"/d\"\nruns = \"a/*\"", "path = \"/d/b\""],
        ] {
            check_one(&watches(sections), true, &[]);
        }
    }

    #[test]
    fn a_store_in_a_watched_directory_is_odd_and_the_reverse_is_an_error() {
        let with = |store: &str, watch: &str| {
            format!(
                "[store]\npath = {store:?}\n[[watch]]\npath = {watch:?}\nlogs = [\"**/*.jsonl\"]\n"
            )
        };
        check_one(&with("/d/store", "/d"), false, &["/d/store lies in the watched directory /d"]);
        check_one(&with("/d", "/d"), true, &["/d is or lies in the store /d"]);
        check_one(&with("/d", "/d/runs/a"), true, &["is or lies in the store"]);
        check_one(&with("/d", "/d2"), true, &[]);
        check_one(&with("/d/.store", "/d"), true, &[]);
        let runs = "[store]\npath = \"/d/store\"\n[[watch]]\npath = \"/d\"\nruns = \"run*\"\n";
        check_one(runs, true, &[]);
        let in_run = "[store]\npath = \"/d/run/store\"\n[[watch]]\npath = \"/d\"\n";
        check_one(in_run, true, &[]);
    }
}
