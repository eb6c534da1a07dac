//! Which line about a place counts. Pure.
//!
//! Lines come mostly in the order of the run's journal. A line comes late if its delivery failed at first: it must not
//! replace what came after it.
//!
//! A rejection stands beside the items, unless it waits at an empty place. It counts until a later line is about its
//! place, or is of its dump: then the dump has become an item, or was rejected anew.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};

use crate::formats::manifest::{Content, Line};
use crate::media::{MediaEntry, MediaId, MediaKey, State};

/// The latest lines about places and dumps. Both are kept as hashes: 4 million lines take at most about 350 MB.
#[derive(Debug, Default)]
pub(super) struct LatestLines {
    hashes: RandomState,
    /// The latest line about each place.
    places: HashMap<u64, LatestLine>,
    /// The number of the latest line that replaces rejections of each dump.
    dumps: HashMap<u64, u64>,
    /// The numbers of the rejections that stand beside items, in order, by place and by dump.
    beside: HashMap<u64, Vec<u64>>,
}

#[derive(Debug, Clone, Copy)]
struct LatestLine {
    seq: u64,
    at_place: AtPlace,
}

/// What is at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AtPlace {
    Nothing,
    /// An image, or a held item.
    Item,
    /// A rejected item that waits.
    Waiting,
}

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// It counts.
    New,
    /// It counts, and the item that waits at its place is to be removed first.
    InPlaceOfWaiting,
    /// A later line counts, or it was read before.
    Old,
}

impl LatestLines {
    /// Returns the numbers of the rejections beside items that no longer count because of this line, and forgets them.
    pub(super) fn take_resolved(&mut self, line: &Line) -> Vec<u64> {
        let about = match &line.content {
            Content::Gone(id) => vec![self.place_of(id)],
            Content::Item(entry) => {
                self.place(entry).into_iter().chain(self.replaces(entry)).collect()
            }
        };
        let mut resolved = Vec::new();
        for about in about {
            let Some(seqs) = self.beside.get_mut(&about) else { continue };
            let n_earlier = seqs.partition_point(|seq| *seq < line.seq);
            resolved.extend(seqs.drain(..n_earlier));
            if seqs.is_empty() {
                self.beside.remove(&about);
            }
        }
        resolved.sort_unstable();
        resolved.dedup();
        resolved
    }

    /// Takes a line: decides whether it counts, and remembers it.
    pub(super) fn take(&mut self, line: &Line) -> Reading {
        let seq = line.seq;
        let entry = match &line.content {
            Content::Gone(id) => return self.put(self.place_of(id), seq, AtPlace::Nothing),
            Content::Item(entry) => entry,
        };
        for dump in self.replaces(entry) {
            let latest = self.dumps.entry(dump).or_default();
            *latest = seq.max(*latest);
        }
        let place = self.place(entry);
        match (entry.state(), place) {
            (State::Rejected, _) => self.take_rejected(entry, place, seq),
            (_, Some(place)) => self.put(place, seq, AtPlace::Item),
            // There is none without.
            (_, None) => Reading::Old,
        }
    }

    fn take_rejected(&mut self, entry: &MediaEntry, place: Option<u64>, seq: u64) -> Reading {
        let latest = place.and_then(|place| self.places.get(&place).copied());
        let dump = self.claims(entry);
        let is_resolved = |dump| self.dumps.get(&dump).is_some_and(|latest| seq < *latest);
        if latest.is_some_and(|latest| seq <= latest.seq) || dump.is_some_and(is_resolved) {
            return Reading::Old;
        }
        let before = latest.map_or(AtPlace::Nothing, |latest| latest.at_place);
        let is_in_place = before == AtPlace::Waiting;
        let reading = if is_in_place { Reading::InPlaceOfWaiting } else { Reading::New };
        if let Some(place) = place {
            let waits = entry.is_waiting() && before != AtPlace::Item;
            let at_place = if waits { AtPlace::Waiting } else { AtPlace::Nothing };
            if waits || is_in_place {
                self.places.insert(place, LatestLine { seq, at_place });
            }
            if waits {
                return reading;
            }
        }
        let mut is_new = false;
        for about in place.into_iter().chain(dump) {
            is_new |= self.put_beside(about, seq);
        }
        if is_new { reading } else { Reading::Old }
    }

    fn put(&mut self, place: u64, seq: u64, at_place: AtPlace) -> Reading {
        match self.places.get(&place) {
            Some(latest) if seq <= latest.seq => Reading::Old,
            _ => {
                self.places.insert(place, LatestLine { seq, at_place });
                Reading::New
            }
        }
    }

    /// Adds a rejection beside items. Returns false if it is there.
    fn put_beside(&mut self, about: u64, seq: u64) -> bool {
        let seqs = self.beside.entry(about).or_default();
        match seqs.binary_search(&seq) {
            Ok(_) => false,
            Err(at) => {
                seqs.insert(at, seq);
                true
            }
        }
    }

    fn place(&self, entry: &MediaEntry) -> Option<u64> {
        Some(self.hash(&(entry.key()?.as_str(), entry.step()?.0, entry.index()?)))
    }

    fn place_of(&self, MediaId { key, step, index }: &MediaId) -> u64 {
        self.hash(&(key.as_str(), step.0, *index))
    }

    /// The dump whose later lines replace a rejection. One that says a place is replaced by lines about the place.
    fn claims(&self, entry: &MediaEntry) -> Option<u64> {
        let about = if is_whole_dump(entry) { self.dump(entry) } else { self.dump_at_key(entry) };
        entry.index().is_none().then_some(about)
    }

    /// The dumps whose earlier rejections a line replaces. Those of a whole dump may have said another key, because each
    /// tensor has its own.
    fn replaces(&self, entry: &MediaEntry) -> impl Iterator<Item = u64> + use<> {
        let (has_place, is_whole) = (entry.index().is_some(), is_whole_dump(entry));
        let at_key = (has_place && !is_whole).then(|| self.dump_at_key(entry));
        let whole = entry.source.log.is_none() && (has_place || is_whole);
        at_key.into_iter().chain(whole.then(|| self.dump(entry)))
    }

    fn dump(&self, entry: &MediaEntry) -> u64 {
        self.hash(&*entry.source.path)
    }

    fn dump_at_key(&self, entry: &MediaEntry) -> u64 {
        let (key, step) = (entry.key().map(MediaKey::as_str), entry.step().map(|step| step.0));
        self.hash(&(key, step, &*entry.source.path))
    }

    fn hash(&self, about: &(impl Hash + ?Sized)) -> u64 {
        self.hashes.hash_one(about)
    }
}

/// Whether a line is about a dump that no log describes and that is no part of an archive of tensors.
fn is_whole_dump(MediaEntry { source, .. }: &MediaEntry) -> bool {
    source.log.is_none() && source.tensor.is_none()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::media::Step;

    fn gone(seq: u64, step: u64) -> Line {
        let key = MediaKey::new("k").expect("a key");
        Line { seq, content: Content::Gone(MediaId { key, step: Step(step), index: 0 }) }
    }

    fn line(seq: u64, at: &Value) -> Line {
        let mut entry = json!({"key": "k", "index": 0, "reason": "no", "source": {"path": "a"}});
        for (name, value) in at.as_object().expect("fields") {
            entry[name] = value.clone();
        }
        let entry = serde_json::from_value(entry).expect("an entry");
        Line { seq, content: Content::Item(Box::new(entry)) }
    }

    fn held(seq: u64, step: u64) -> Line {
        line(seq, &json!({"state": "held", "step": step}))
    }

    fn rejected(seq: u64, step: Option<u64>, class: &str) -> Line {
        let (key, index) = (step.map(|_| "k"), step.map(|_| 0));
        let fields = json!({
            "state": "rejected", "class": class, "key": key, "step": step, "index": index,
        });
        line(seq, &fields)
    }

    /// A rejection of dump `path` that says a step, but no index.
    fn without_index(seq: u64, step: u64, path: &str) -> Line {
        let fields = json!({
            "state": "rejected", "class": "waiting", "step": step, "index": null,
            "source": {"path": path},
        });
        line(seq, &fields)
    }

    fn check(lines: &[(Line, Reading)]) {
        let mut latest = LatestLines::default();
        for (line, want) in lines {
            assert_eq!(latest.take(line), *want, "{line:?}");
        }
    }

    /// Takes lines of which all count. Returns the rejections that the last one resolves.
    fn resolved(lines: &[Line]) -> Vec<u64> {
        let mut latest = LatestLines::default();
        let mut resolved = Vec::new();
        for line in lines {
            resolved = latest.take_resolved(line);
            assert_ne!(latest.take(line), Reading::Old, "{line:?}");
        }
        resolved
    }

    #[test]
    fn a_late_line_replaces_nothing_and_no_line_counts_twice() {
        check(&[
            (held(1, 7), Reading::New),
            (held(5, 7), Reading::New),
            // Late, and read again.
            (held(3, 7), Reading::Old),
            (held(5, 7), Reading::Old),
            (held(4, 8), Reading::New),
            (gone(6, 7), Reading::New),
            (held(5, 7), Reading::Old),
            (held(9, 7), Reading::New),
            (gone(8, 7), Reading::Old),
        ]);
    }

    #[test]
    fn rejected_items_stand_beside_others_unless_they_wait() {
        check(&[
            (rejected(2, None, "final"), Reading::New),
            (rejected(10, None, "waiting"), Reading::New),
            (rejected(2, None, "final"), Reading::Old),
            (held(11, 7), Reading::New),
            // The place is taken.
            (rejected(12, Some(7), "final"), Reading::New),
            (rejected(13, Some(7), "waiting"), Reading::New),
            (held(14, 7), Reading::New),
            // One that waits is tried again, and then makes an item.
            (rejected(20, Some(8), "waiting"), Reading::New),
            (rejected(22, Some(8), "waiting"), Reading::InPlaceOfWaiting),
            (rejected(21, Some(8), "waiting"), Reading::Old),
            (held(23, 8), Reading::New),
            (rejected(24, Some(9), "waiting"), Reading::New),
            (rejected(25, Some(9), "final"), Reading::InPlaceOfWaiting),
        ]);
    }

    #[test]
    fn a_rejection_counts_until_its_dump_or_its_place_has_another_line() {
        // Bug: a dump that was rejected without an index, and became an image later, was listed as waiting for ever.
        assert_eq!(resolved(&[without_index(1, 7, "a"), held(2, 7)]), [1]);
        assert_eq!(resolved(&[without_index(1, 7, "a"), without_index(2, 7, "a")]), [1]);
        assert_eq!(resolved(&[without_index(1, 7, "b"), held(2, 7)]), [0; 0]);
        let of_place = [held(1, 7), rejected(2, Some(7), "final")];
        assert_eq!(resolved(&[&of_place[..], &[rejected(3, Some(7), "final")]].concat()), [2]);
        assert_eq!(resolved(&[&of_place[..], &[held(3, 7)]].concat()), [2]);
        assert_eq!(resolved(&[&of_place[..], &[gone(3, 7)]].concat()), [2]);
        // One that waits at an empty place is no rejection beside items.
        let waits = rejected(2, Some(7), "waiting");
        assert_eq!(resolved(&[gone(1, 7), waits.clone(), held(3, 7)]), [0; 0]);
        check(&[
            (waits, Reading::New),
            (rejected(3, Some(7), "final"), Reading::InPlaceOfWaiting),
            (rejected(4, Some(7), "waiting"), Reading::New),
            (held(5, 7), Reading::New),
        ]);
    }

    #[test]
    fn each_tensor_has_a_key_and_each_line_of_a_log_is_about_itself() {
        let of = |seq, key: &str, index: Option<u32>, mut source: Value| {
            source["path"] = "a".into();
            let (state, class) =
                if index.is_some() { ("held", None) } else { ("rejected", Some("final")) };
            let fields = json!({
                "state": state, "class": class, "key": key, "step": 7, "index": index, "source": source,
            });
            line(seq, &fields)
        };
        let tensor = |seq, key, index| of(seq, key, index, json!({"tensor": key}));
        let both = [without_index(1, 7, "a"), tensor(2, "k/b", None)];
        assert_eq!(resolved(&[&both[..], &[tensor(3, "k/c", Some(0))]].concat()), [1]);
        assert_eq!(resolved(&[tensor(2, "k/b", None), tensor(3, "k/b", Some(0))]), [2]);
        let logged = |seq, key, index| of(seq, key, index, json!({"log": "l", "line": seq}));
        assert_eq!(resolved(&[logged(1, "k", None), logged(2, "j", Some(0))]), [0; 0]);
        assert_eq!(resolved(&[logged(1, "k", None), logged(2, "k", None)]), [0; 0]);
        assert_eq!(resolved(&[logged(1, "k", None), logged(2, "k", Some(0))]), [1]);
    }

    #[test]
    fn a_rejection_that_comes_late_does_not_count_if_it_is_resolved() {
        check(&[
            (held(5, 7), Reading::New),
            (without_index(3, 7, "a"), Reading::Old),
            (without_index(3, 7, "b"), Reading::New),
            (without_index(3, 7, "b"), Reading::Old),
            // It was rejected anew.
            (without_index(2, 7, "b"), Reading::Old),
            (without_index(6, 7, "a"), Reading::New),
            (rejected(4, Some(7), "final"), Reading::Old),
            (rejected(6, Some(7), "final"), Reading::New),
            (rejected(6, Some(7), "final"), Reading::Old),
        ]);
    }
}
