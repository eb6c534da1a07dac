//! Whether the parts of a configuration fit together. Pure, but for [`Facts::of_machine`].
//!
//! What cannot work is an error. What works and is hardly meant is a warning. Each rule is a function of its own.
//!
//! | module | its rules |
//! | --- | --- |
//! | `paths` | how two directories lie to each other |
//! | `runs_patterns` | whether two patterns may name the same run directory |
//! | `watches` | watched directories among each other, and the store |
//! | `targets` | targets among each other, in the store, and in watched directories |
//! | `numbers` | limits that contradict each other |

mod numbers;
mod paths;
mod runs_patterns;
mod targets;
mod watches;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub(crate) use self::paths::relative_store;
use super::Config;

/// A section or setting of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A `[[watch]]`, by its number from 0.
    Watch(usize),
    /// A `[sync.NAME]`.
    Target(String),
    /// A setting, by its section and name.
    Setting(&'static str, &'static str),
}

/// What does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// Where to change something.
    pub(super) place: Place,
    /// What does not fit, with what, and what to write instead.
    pub(super) message: String,
    pub(super) is_error: bool,
}

impl Finding {
    fn error(place: Place, message: String) -> Self {
        Self { place, message, is_error: true }
    }

    fn warning(place: Place, message: String) -> Self {
        Self { place, message, is_error: false }
    }
}

/// What the rules must know of the machine.
#[derive(Debug)]
pub(super) struct Facts {
    /// Directories of the configuration, with links resolved.
    resolved: BTreeMap<PathBuf, PathBuf>,
    /// The size of the store's disk, in bytes.
    pub(super) disk_bytes: Option<u64>,
    /// The processors that this process may use.
    pub(super) n_processors: Option<usize>,
}

impl Facts {
    /// Looks the configuration's directories up.
    pub(super) fn of_machine(config: &Config) -> Self {
        let targets = config.live.targets.iter();
        let directories = std::iter::once(config.boot.store.clone())
            .chain(config.live.watches.iter().map(|watch| watch.path.clone()))
            .chain(targets.filter_map(|target| target.kind.directory()));
        let resolved = directories.map(|path| (path.clone(), paths::resolve(&path))).collect();
        Self {
            resolved,
            disk_bytes: paths::disk_bytes(&config.boot.store),
            n_processors: std::thread::available_parallelism().ok().map(NonZeroUsize::get),
        }
    }

    /// A directory with links resolved.
    fn resolve<'a>(&'a self, path: &'a Path) -> &'a Path {
        self.resolved.get(path).map_or(path, PathBuf::as_path)
    }
}

/// Finds what does not fit, errors first.
pub(super) fn check(config: &Config, facts: &Facts) -> Vec<Finding> {
    let mut findings = watches::check(config, facts);
    findings.extend(targets::check(config, facts));
    findings.extend(numbers::check(config, facts));
    findings.sort_by_key(|finding| !finding.is_error);
    findings
}

/// Where a section or setting stands in the file; `None` if it is left out.
pub(super) fn span(root: &DeTable<'_>, place: &Place) -> Option<Range<usize>> {
    fn entry<'a, 'i>(table: &'a DeTable<'i>, name: &str) -> Option<&'a Spanned<DeValue<'i>>> {
        table.iter().find(|(key, _)| key.get_ref() == name).map(|(_, value)| value)
    }
    let section = |name: &str| match entry(root, name)?.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => None,
    };
    match place {
        Place::Watch(i) => match entry(root, "watch")?.get_ref() {
            DeValue::Array(watches) => watches.get(*i).map(Spanned::span),
            _ => None,
        },
        Place::Target(name) => entry(section("sync")?, name).map(Spanned::span),
        Place::Setting(of, name) => entry(section(of)?, name).map(Spanned::span),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, load_whole, parse};

    /// The findings of a file in `/etc/safelight`, none of whose directories exists.
    pub(super) fn findings(text: &str) -> Vec<Finding> {
        let config = parse(text, Path::new("/etc/safelight/s.toml"));
        let config = config.unwrap_or_else(|error| panic!("{text}: {error}"));
        let facts = Facts::of_machine(&config);
        check(&config, &Facts { disk_bytes: Some(100 << 30), n_processors: Some(8), ..facts })
    }

    /// Checks that a file has one finding, an error or a warning with these parts; or none, if there are no parts.
    pub(super) fn check_one(text: &str, is_error: bool, parts: &[&str]) {
        let found = findings(text);
        assert_eq!(found.len(), usize::from(!parts.is_empty()), "{text}: {found:?}");
        for finding in found {
            assert_eq!(finding.is_error, is_error, "{text}: {finding:?}");
            let is_in = |part: &&str| finding.message.contains(part);
            assert!(parts.iter().all(is_in), "{text}: {finding:?}");
        }
    }

    #[test]
    fn an_error_shows_its_place_in_the_file_and_names_the_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("s.toml");
        let text = "[[watch]]\npath = \"runs\"\n[[watch]]\npath = \"link\"\nlogs = [\"*.log\"]\n";
        std::fs::write(&file, text).expect("a file");
        let load = || load_whole(Some(&file), &Overrides::default());
        assert!(load().is_ok());
        std::fs::create_dir(folder.path().join("runs")).expect("a folder");
        std::os::unix::fs::symlink("runs", folder.path().join("link")).expect("a link");
        let error = load().expect_err("the same directory").to_string();
        assert!(error.contains("s.toml:3:1: "), "{error}");
        assert!(error.contains("[[watch]] number 1 reads the same directory"), "{error}");
    }
}
