//! How two directories lie to each other.

use std::path::{Path, PathBuf};

/// How a directory lies to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation<'a> {
    Same,
    /// The first one lies in the second; its path from there.
    Inside(&'a Path),
    /// The second one lies in the first; its path from there.
    Around(&'a Path),
    Apart,
}

/// How `a` lies to `b`. Both are absolute, without links.
pub(super) fn relation<'a>(a: &'a Path, b: &'a Path) -> Relation<'a> {
    match (a.strip_prefix(b), b.strip_prefix(a)) {
        (Ok(inner), _) if inner.as_os_str().is_empty() => Relation::Same,
        (Ok(inner), _) => Relation::Inside(inner),
        (_, Ok(inner)) => Relation::Around(inner),
        _ => Relation::Apart,
    }
}

/// The directory with links resolved. What does not exist yet is taken as it is written.
pub(super) fn resolve(path: &Path) -> PathBuf {
    let ancestors = path.ancestors();
    let existing = ancestors.filter_map(|above| Some((above, std::fs::canonicalize(above).ok()?)));
    let resolved = existing.into_iter().next().map(|(above, resolved)| {
        let rest = path.strip_prefix(above).unwrap_or(Path::new(""));
        without_dots(&resolved.join(rest))
    });
    resolved.unwrap_or_else(|| without_dots(path))
}

/// The path without `.` and `..`.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                plain.pop();
            }
            std::path::Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

/// The store's path from a watched directory, links resolved; empty if the watched directory lies in the store. `None`
/// if they are apart.
pub(crate) fn relative_store(watch: &Path, store: &Path) -> Option<PathBuf> {
    let (watch, store) = (resolve(watch), resolve(store));
    match relation(&store, &watch) {
        Relation::Inside(inner) => Some(inner.to_owned()),
        Relation::Same | Relation::Around(_) => Some(PathBuf::new()),
        Relation::Apart => None,
    }
}

/// The size of the disk that a directory is on or will be on, in bytes.
pub(super) fn disk_bytes(path: &Path) -> Option<u64> {
    let stat = path.ancestors().find_map(|path| rustix::fs::statvfs(path).ok())?;
    Some(stat.f_blocks.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(parts: &[u8]) -> PathBuf {
        let names = ["a", "ab", "b"];
        parts.iter().fold(PathBuf::from("/"), |path, part| path.join(names[usize::from(*part)]))
    }

    proptest! {
        #[test]
        fn directories_that_are_nested_or_equal_are_found(
            outer in prop::collection::vec(0u8..3, 0..4),
            inner in prop::collection::vec(0u8..3, 0..4),
            other in prop::collection::vec(0u8..3, 0..4),
        ) {
            let (a, b) = (path(&outer), path(&[&outer[..], &inner].concat()));
            let rest = path(&inner);
            let rest = rest.strip_prefix("/").expect("a path");
            if inner.is_empty() {
                prop_assert_eq!(relation(&a, &b), Relation::Same);
            } else {
                prop_assert_eq!(relation(&a, &b), Relation::Around(rest));
                prop_assert_eq!(relation(&b, &a), Relation::Inside(rest));
            }
            let other = path(&other);
            let is_apart = !a.starts_with(&other) && !other.starts_with(&a);
            prop_assert_eq!(relation(&a, &other) == Relation::Apart, is_apart);
        }
    }

    #[test]
    fn links_are_resolved_and_missing_folders_are_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |path: &str| folder.path().join(path);
        std::fs::create_dir_all(at("data/runs")).expect("folders");
        std::os::unix::fs::symlink("data/runs", at("link")).expect("a link");
        let real = std::fs::canonicalize(at("data/runs")).expect("a folder");
        for (path, want) in [
            ("link", ""),
            ("link/a/b", "a/b"),
            ("data/./runs/x/../y", "y"),
            ("data/runs/../runs", ""),
        ] {
            let resolved = resolve(&at(path));
            assert_eq!(resolved.strip_prefix(&real), Ok(Path::new(want)), "{path}");
        }
        assert_eq!(resolve(Path::new("/nonexistent/./a/../b")), Path::new("/nonexistent/b"));
        let store = |watch: &str, store: &str| relative_store(&at(watch), &at(store));
        assert_eq!(store("link", "data/runs/x/store"), Some("x/store".into()));
        assert_eq!(store("data/runs/x", "link"), Some("".into()));
        assert_eq!(store("data/runs", "link"), Some("".into()));
        assert_eq!(store("data/runs", "data/runs2"), None);
    }
}
