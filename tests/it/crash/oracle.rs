//! What a store must hold after a job's work, and what it does hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use safelight::media::Sha256;
use serde_json::Value;

use crate::harness::{Rejected, number_in_file};

/// Maximum number of images per step. Further ones are held back.
pub(super) const ITEMS_MAX: usize = 6;

/// What must become of one image of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// A picture with this number in its pixels. The flag says whether it has a mask with the same number.
    Image(u64, bool),
    Held,
}

/// What the store must hold in the end. Only the writer of the run directory adds to it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Oracle {
    /// Images and held items by key and step.
    pub(super) images: BTreeMap<(String, u64), Vec<Want>>,
    /// Malformed log lines and dumps.
    pub(super) rejected: Rejected,
    /// Items of the store whose index is not the next one of their step.
    misplaced: Vec<String>,
}

impl Oracle {
    /// Adds an image to a step.
    pub(super) fn add(&mut self, key: &str, step: u64, n: u64, has_mask: bool) {
        let images = self.images.entry((key.to_owned(), step)).or_default();
        images.push(if images.len() < ITEMS_MAX { Want::Image(n, has_mask) } else { Want::Held });
    }

    /// Replaces the images of a step by those of a dump's new version.
    pub(super) fn replace(&mut self, key: &str, step: u64, numbers: &[u64]) {
        self.images.remove(&(key.to_owned(), step));
        numbers.iter().for_each(|&n| self.add(key, step, n, false));
    }
}
/// Returns what a store holds, with the numbers read from the pictures, and all media files that its
/// items name.
///
/// # Panics
/// If a media file's digest is not that of its item.
pub(super) fn held_by(store: &Path, items: &[Value]) -> (Oracle, BTreeSet<PathBuf>) {
    let (mut got, mut files) = (Oracle::default(), BTreeSet::new());
    for item in items {
        let mut check = |file: &Value| {
            let path = store.join(file["path"].as_str().expect("a path"));
            let digest = Sha256::of(&fs::read(&path).expect("a media file"));
            assert_eq!(file["sha256"], digest.to_string(), "{item}");
            files.insert(path.clone());
            path
        };
        let place = (item["key"].as_str().unwrap_or("").to_owned(), item["step"].as_u64());
        let want = match item["state"].as_str() {
            Some("image") => {
                let n = number_in_file(&check(item));
                let mask = item.get("masks").map(|masks| check(&masks["gt"]));
                let has_mask = mask.is_some_and(|mask| {
                    assert_eq!(number_in_file(&mask), n, "the mask of another picture: {item}");
                    check(&item["boxes"]["pred"]);
                    true
                });
                Want::Image(n, has_mask)
            }
            Some("held") => Want::Held,
            _ => {
                got.rejected.add(item);
                continue;
            }
        };
        let images = got.images.entry((place.0, place.1.expect("a step"))).or_default();
        if item["index"] != images.len() {
            got.misplaced.push(item.to_string());
        }
        images.push(want);
    }
    (got, files)
}

/// Describes each difference between two oracles.
pub(super) fn differences(want: &Oracle, got: &Oracle) -> Vec<String> {
    let mut differences = Vec::new();
    let places: BTreeSet<_> = want.images.keys().chain(got.images.keys()).collect();
    for place in places {
        let (want, got) = (want.images.get(place), got.images.get(place));
        if want != got {
            differences.push(format!("{place:?}: {got:?}, want {want:?}"));
        }
    }
    if want.rejected != got.rejected {
        differences.push(format!("{:?}, want {:?}", got.rejected, want.rejected));
    }
    differences.extend(got.misplaced.iter().map(|item| format!("not the next index: {item}")));
    differences
}
