//! The keys and steps of the runs that pages show, in memory.
//!
//! A run's are read from the rows of the index when it is first asked for, and then follow its journal: a line says
//! which key and step changed, and the rows of that step say what it has now.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::api::{KeyRow, StepNumber};
use super::segments::{Counts, Segments};
use crate::locks::lock;
use crate::media::{MediaKey, RunId, State, Step};
use crate::store::journal::JournalOffset;
use crate::store::{Extent, Reader, StoreError};

/// How long a run stays after it was last asked for, if no page is open.
const IDLE_MAX: Duration = Duration::from_mins(1);

/// The segments of all runs, at most. Those of runs that were not asked for lately are dropped.
const SEGMENTS_MAX: usize = 500_000;

/// A run with more new lines than this is read again as a whole.
const NEW_LINES_MAX: u64 = 20_000;

/// A key of a run.
#[derive(Debug, Clone, Default)]
pub(super) struct KeySteps {
    pub(super) segments: Segments,
    n_image: u64,
    n_held: u64,
    n_rejected: u64,
    /// One more than the greatest index that was seen.
    indices: u32,
}

impl KeySteps {
    /// The key as `/api/v1/keys` shows it.
    pub(super) fn row(&self, key: &str) -> KeyRow {
        let ends = self.segments.ends();
        KeyRow {
            key: key.to_owned(),
            image: self.n_image,
            held: self.n_held,
            rejected: self.n_rejected,
            first: ends.map(|(first, _)| StepNumber(first)),
            last: ends.map(|(_, last)| StepNumber(last)),
            indices: self.indices,
        }
    }

    fn push(&mut self, step: u64, counts: Counts) {
        self.segments.push(step, counts);
        self.count(Counts::default(), counts);
    }

    fn set(&mut self, step: u64, counts: Counts) {
        let before = self.segments.set(step, counts);
        self.count(before, counts);
    }

    fn count(&mut self, before: Counts, now: Counts) {
        for (n, before, now) in [
            (&mut self.n_image, before.image, now.image),
            (&mut self.n_held, before.held, now.held),
            (&mut self.n_rejected, before.rejected, now.rejected),
        ] {
            *n = (*n + u64::from(now)).saturating_sub(u64::from(before));
        }
    }
}

/// The number of rejected items without a place, by key and step.
type Rejected = BTreeMap<String, BTreeMap<u64, u32>>;

/// The keys and steps of a run, as of a line of its journal.
#[derive(Debug)]
pub(super) struct RunSteps {
    extent: Extent,
    pub(super) keys: BTreeMap<String, KeySteps>,
    rejected: Rejected,
    /// The keys that changed since events told of them.
    changed: BTreeSet<String>,
}

/// The part of a journal's line that says what changes.
#[derive(Debug, Deserialize)]
struct ChangedLine {
    kind: String,
    state: Option<State>,
    key: Option<MediaKey>,
    step: Option<Step>,
    index: Option<u32>,
    /// Of a line about an earlier one, where that line begins.
    place: Option<JournalOffset>,
}

fn rejected(reader: &Reader, run: &RunId) -> Result<Rejected, StoreError> {
    let mut rejected = Rejected::new();
    reader.each_rejected(run, |key, step| {
        if !rejected.contains_key(key) {
            rejected.insert(key.to_owned(), BTreeMap::new());
        }
        if let Some(steps) = rejected.get_mut(key) {
            *steps.entry(step.0).or_default() += 1;
        }
    })?;
    Ok(rejected)
}

/// The keys and steps at which two differ.
fn differences(before: &Rejected, now: &Rejected) -> Vec<(String, u64)> {
    let none = BTreeMap::new();
    let mut differ = Vec::new();
    for key in before.keys().chain(now.keys().filter(|key| !before.contains_key(*key))) {
        let (before, now) = (before.get(key).unwrap_or(&none), now.get(key).unwrap_or(&none));
        let gone = before.keys().filter(|step| !now.contains_key(step));
        let new = now.iter().filter(|(step, n)| before.get(step) != Some(n)).map(|(step, _)| step);
        differ.extend(gone.chain(new).map(|step| (key.clone(), *step)));
    }
    differ
}

/// Adds an item to the counts of its step.
fn add(counts: &mut Counts, state: State) {
    match state {
        State::Image => counts.image += 1,
        State::Held => counts.held += 1,
        State::Rejected => counts.rejected += 1,
    }
}

impl RunSteps {
    /// Reads all rows of a run.
    fn read(reader: &Reader, run: &RunId, extent: Extent) -> Result<Self, StoreError> {
        let rejected = rejected(reader, run)?;
        let mut keys = BTreeMap::new();
        let mut reading: Option<(String, KeySteps)> = None;
        let mut at = (0, Counts::default());
        reader.each_place(run, |key, step, index, state| {
            if reading.as_ref().is_none_or(|(name, _)| name != key) {
                if let Some((name, mut steps)) = reading.take() {
                    steps.push(at.0, at.1);
                    keys.insert(name, steps);
                }
                reading = Some((key.to_owned(), KeySteps::default()));
                at = (step.0, Counts::default());
            }
            let Some((_, steps)) = &mut reading else { return };
            if step.0 != at.0 {
                steps.push(at.0, at.1);
                at = (step.0, Counts::default());
            }
            add(&mut at.1, state);
            if state != State::Rejected {
                steps.indices = steps.indices.max(index.saturating_add(1));
            }
        })?;
        if let Some((name, mut steps)) = reading {
            steps.push(at.0, at.1);
            keys.insert(name, steps);
        }
        for (key, of_key) in &rejected {
            keys.entry(key.clone()).or_insert_with(KeySteps::default).merge(of_key);
        }
        Ok(Self { extent, keys, rejected, changed: BTreeSet::new() })
    }

    /// Follows the run's journal to `extent`. Returns false if the run must be read again.
    fn follow(&mut self, reader: &Reader, run: &RunId, extent: Extent) -> Result<bool, StoreError> {
        let n_new = extent.last_seq.checked_sub(self.extent.last_seq);
        if n_new.is_none_or(|n| n > NEW_LINES_MAX) || extent.end < self.extent.end {
            return Ok(false);
        }
        let mut places = BTreeSet::new();
        let mut is_rejected_changed = extent.n_rejected != self.extent.n_rejected;
        for line in reader.lines::<ChangedLine>(run, self.extent.end, extent.end) {
            let mut line = line?.line;
            if let ("retried", Some(place)) = (&*line.kind, line.place) {
                // The item that was rejected until now is in an earlier line.
                let Some(earlier) = reader.lines(run, place, extent.end).next() else { continue };
                line = earlier?.line;
                is_rejected_changed = true;
            }
            is_rejected_changed |= line.state == Some(State::Rejected);
            let (Some(key), Some(step)) = (line.key, line.step) else { continue };
            if let (Some(State::Image | State::Held), Some(index)) = (line.state, line.index) {
                let steps = self.keys.entry(key.as_str().to_owned()).or_default();
                steps.indices = steps.indices.max(index.saturating_add(1));
            }
            places.insert((key, step));
        }
        if is_rejected_changed {
            let now = rejected(reader, run)?;
            for (key, step) in differences(&self.rejected, &now) {
                places.extend(MediaKey::new(key).ok().map(|key| (key, Step(step))));
            }
            self.rejected = now;
        }
        for (key, step) in places {
            let mut counts = Counts::default();
            reader.each_place_at(run, &key, step, |_, state| add(&mut counts, state))?;
            let name = key.as_str();
            let rejected = self.rejected.get(name).and_then(|steps| steps.get(&step.0));
            counts.rejected += rejected.copied().unwrap_or_default();
            let steps = self.keys.entry(name.to_owned()).or_default();
            steps.set(step.0, counts);
            if steps.segments.is_empty() {
                self.keys.remove(name);
            }
            self.changed.insert(name.to_owned());
        }
        self.extent = extent;
        Ok(true)
    }

    fn n_segments(&self) -> usize {
        self.keys.values().map(|steps| steps.segments.len()).sum()
    }
}

impl KeySteps {
    /// Adds rejected items without a place.
    fn merge(&mut self, rejected: &BTreeMap<u64, u32>) {
        let (first, merged) = (self.clone(), &mut *self);
        *merged = Self { indices: first.indices, ..Self::default() };
        let mut of_rejected = rejected.iter().map(|(step, n)| (*step, *n)).peekable();
        for (step, mut counts) in first.segments.steps() {
            while let Some((step, n)) = of_rejected.next_if(|(at, _)| *at < step) {
                merged.push(step, Counts { rejected: n, ..Counts::default() });
            }
            if let Some((_, n)) = of_rejected.next_if(|(at, _)| *at == step) {
                counts.rejected += n;
            }
            merged.push(step, counts);
        }
        for (step, n) in of_rejected {
            merged.push(step, Counts { rejected: n, ..Counts::default() });
        }
    }
}

/// A run that was asked for.
struct Kept {
    steps: Arc<Mutex<Option<RunSteps>>>,
    n_segments: usize,
    used: Instant,
}

/// The runs that pages show.
#[derive(Default)]
pub(super) struct Catalogue(Mutex<HashMap<RunId, Kept>>);

impl Catalogue {
    /// Calls `see` with the keys and steps of a run as they are now. `None` if there is no such run.
    ///
    /// # Errors
    /// If the index or the journal fails.
    pub(super) fn see<T>(
        &self,
        reader: &Reader,
        run: &RunId,
        see: impl FnOnce(&RunSteps) -> T,
    ) -> Result<Option<T>, StoreError> {
        let steps = {
            let mut kept = lock(&self.0);
            let now = Instant::now();
            let new = || Kept { steps: Arc::default(), n_segments: 0, used: now };
            let kept = kept.entry(run.clone()).or_insert_with(new);
            kept.used = now;
            kept.steps.clone()
        };
        self.update(reader, run, &mut lock(&steps), |steps| see(steps))
    }

    /// The keys of a run that changed since the last call. `None` if nobody asked for the run lately, or it is gone.
    ///
    /// # Errors
    /// If the index or the journal fails.
    pub(super) fn changes(
        &self,
        reader: &Reader,
        run: &RunId,
    ) -> Result<Option<Vec<KeyRow>>, StoreError> {
        let kept = lock(&self.0).get(run).map(|kept| kept.steps.clone());
        let Some(kept) = kept else { return Ok(None) };
        self.update(reader, run, &mut lock(&kept), |steps| {
            let changed = std::mem::take(&mut steps.changed);
            let gone = KeySteps::default();
            let row = |key: String| steps.keys.get(&key).unwrap_or(&gone).row(&key);
            changed.into_iter().map(row).collect()
        })
    }

    /// Brings a run up to date.
    fn update<T>(
        &self,
        reader: &Reader,
        run: &RunId,
        kept: &mut Option<RunSteps>,
        see: impl FnOnce(&mut RunSteps) -> T,
    ) -> Result<Option<T>, StoreError> {
        let Some(extent) = reader.extent(run)? else {
            lock(&self.0).remove(run);
            return Ok(None);
        };
        let is_current = match kept {
            Some(steps) if steps.extent == extent => true,
            Some(steps) => steps.follow(reader, run, extent)?,
            None => false,
        };
        if !is_current {
            let mut now = RunSteps::read(reader, run, extent)?;
            if let Some(before) = kept.take() {
                now.changed = before.changed;
                now.changed.extend(before.keys.into_keys().chain(now.keys.keys().cloned()));
            }
            *kept = Some(now);
        }
        let Some(steps) = kept else { return Ok(None) };
        self.note_size(run, steps.n_segments());
        Ok(Some(see(steps)))
    }

    /// Notes how many segments a run has. Drops runs that were not asked for lately if there are too many.
    fn note_size(&self, run: &RunId, n_segments: usize) {
        let mut kept = lock(&self.0);
        if let Some(kept) = kept.get_mut(run) {
            kept.n_segments = n_segments;
        }
        let mut n_all: usize = kept.values().map(|kept| kept.n_segments).sum();
        while n_all > SEGMENTS_MAX {
            let others = kept.iter().filter(|(of, _)| *of != run);
            let oldest = others.min_by_key(|(_, kept)| kept.used).map(|(of, _)| of.clone());
            let Some(dropped) = oldest.and_then(|of| kept.remove(&of)) else { return };
            n_all -= dropped.n_segments;
        }
    }

    /// Drops runs that nobody asked for in the last minute. Returns whether none is left.
    pub(super) fn drop_idle(&self, now: Instant) -> bool {
        let mut kept = lock(&self.0);
        kept.retain(|_, kept| now.saturating_duration_since(kept.used) < IDLE_MAX);
        kept.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TestFile, TestStore};
    use super::*;
    use crate::media::FileType;

    /// A key, the number of its items by state, and its steps.
    type KeyState = (String, [u64; 3], Vec<(u64, Counts)>);

    /// What a run's keys and steps are, for a comparison.
    fn state(steps: &RunSteps) -> Vec<KeyState> {
        let of_key = |(key, steps): (&String, &KeySteps)| {
            let counts = [steps.n_image, steps.n_held, steps.n_rejected];
            (key.clone(), counts, steps.segments.steps().collect())
        };
        steps.keys.iter().map(of_key).collect()
    }

    #[test]
    fn following_a_journal_ends_where_reading_all_rows_ends() {
        let mut store = TestStore::new();
        let (catalogue, run) = (Catalogue::default(), store.run.clone());
        let mut number = 7u32;
        let mut random = move |n: u32| {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (number >> 8) % n
        };
        for round in 0..120 {
            let key = ["a", "a/b", "b"][random(3) as usize];
            let place = (key, u64::from(random(12)), random(3));
            match random(10) {
                0..5 => {
                    let bytes = format!("picture {round}");
                    let file = TestFile::new(FileType::Png, bytes.as_bytes(), (2, 2));
                    drop(store.image(place, file));
                }
                5..7 => store.held(place),
                7..9 => store.rejected(place),
                _ => store.gone(place),
            }
            let followed = catalogue.see(&store.reader, &run, state).expect("an index");
            let extent = store.reader.extent(&run).expect("an index").expect("a run");
            let read = RunSteps::read(&store.reader, &run, extent).expect("an index");
            assert_eq!(followed.expect("a run"), state(&read), "round {round}, {place:?}");
        }
        let rows = catalogue.changes(&store.reader, &run).expect("an index").expect("a run");
        assert_eq!(rows.len(), 3);
        let none = catalogue.changes(&store.reader, &run).expect("an index");
        assert_eq!(none.map(|rows| rows.len()), Some(0));
        store.held(("b", 50, 0));
        let rows = catalogue.changes(&store.reader, &run).expect("an index").expect("a run");
        let last = rows.iter().map(|row| (&*row.key, row.last)).collect::<Vec<_>>();
        assert_eq!(last, [("b", Some(StepNumber(50)))]);
        let other = RunId::new("other").expect("an id");
        assert!(catalogue.changes(&store.reader, &other).expect("an index").is_none());
        assert!(catalogue.drop_idle(Instant::now() + IDLE_MAX));
        assert!(catalogue.changes(&store.reader, &run).expect("an index").is_none());
    }
}
