//! The dumps of a run, as its items name them.

use std::collections::{BTreeMap, BTreeSet, btree_map};

use super::policy::DumpUse;
use crate::annotations::mask_dumps;
use crate::media::{Digest, Fate, MediaEntry, MediaId};
use crate::run_dir::RunDir;
use crate::store::journal::JournalOffset;

/// What the store knows of a dump.
#[derive(Default)]
pub(super) struct KnownDump {
    pub(super) uses: DumpUse,
    /// The dump's digest when it was last read.
    pub(super) digest: Option<Digest>,
    pub(super) images: Vec<MediaId>,
}

/// The dumps of a run, by path.
#[derive(Default)]
pub(super) struct KnownDumps(BTreeMap<String, KnownDump>);

impl KnownDumps {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> btree_map::Iter<'_, String, KnownDump> {
        self.0.iter()
    }

    fn entry(&mut self, path: String) -> &mut KnownDump {
        self.0.entry(path).or_default()
    }

    /// Adds the dumps that an item at a place of the journal names: its own, and those of its masks.
    pub(super) fn add_item(
        &mut self,
        entry: &MediaEntry,
        place: JournalOffset,
        dir: Option<&RunDir>,
    ) {
        let source = &entry.source;
        // A rejected item has the name that the log line gave, which may be absolute.
        let relative =
            |name: &str| dir.and_then(|dir| dir.relative(name).ok()).unwrap_or(name.to_owned());
        let KnownDump { uses, digest, images } = self.entry(relative(&source.path));
        match &entry.fate {
            Fate::Image(image) => {
                uses.n_images += 1;
                uses.n_pruned += u64::from(image.pruned);
                uses.last = uses.last.max(Some(place));
                *digest = source.digest().or(*digest);
                images.push(image.id.clone());
            }
            Fate::Held { .. } => uses.n_held += 1,
            Fate::Rejected { .. } => uses.n_rejected += 1,
        }
        uses.n_parts += u64::from(source.log.is_some() && source.tensor.is_some());
        let of_image = entry.as_image().into_iter().flat_map(|image| image.layers.masks.values());
        let sources = of_image.filter_map(|mask| mask.source.as_ref());
        let mut masks: Vec<String> = sources.map(|source| source.path.clone()).collect();
        let given = entry.description.annotations.get("masks").map(mask_dumps).unwrap_or_default();
        masks.extend(given.iter().map(|mask| relative(&mask.path)));
        for mask in masks {
            self.entry(mask).uses.n_masks += 1;
        }
    }
}

/// Puts dumps back that a killed sweep was removing, so that this sweep decides about them again.
pub(super) fn put_back(dir: &RunDir, dumps: &KnownDumps) {
    let dumps = &dumps.0;
    let folders: BTreeSet<&str> =
        dumps.keys().map(|path| path.rsplit_once('/').map_or("", |(folder, _)| folder)).collect();
    for folder in folders {
        match dir.put_back(folder, |path| dumps.contains_key(path)) {
            Ok(back) => back.iter().for_each(|path| {
                tracing::warn!(path, "put back a dump that a killed process was removing");
            }),
            Err(error) => tracing::warn!(folder, %error, "cannot look for dumps to put back"),
        }
    }
}
