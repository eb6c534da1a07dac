//! What is known of runs that were listed.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::super::Shared;
use super::super::api::{RunRow, StepNumber, Thumbnail};
use super::super::problem::Failure;
use crate::locks::lock;
use crate::media::{MediaKey, RunId, Step};
use crate::store::{Extent, Reader, RunSummary, StoreError};

/// The runs of which is kept what they are sorted by, at most.
const HEADS_MAX: usize = 200_000;

/// The runs of which the parameters are kept, at most: those of one run may take 64 KiB.
const FACTS_MAX: usize = 20_000;

/// The characters of a name that runs are sorted by. A cursor holds them, and must fit into a URL.
const SORTED_CHARS_MAX: usize = 200;

/// What a run is called, in lower case.
#[derive(Debug)]
pub(super) struct Names {
    /// The first characters of its name, or else of its id.
    pub(super) sorted_by: String,
    /// Its id, name and directory.
    pub(super) text: String,
}

impl Names {
    fn read(reader: &Reader, run: &RunId) -> Self {
        let id = run.as_str().to_lowercase();
        let info = reader.run_info(run).ok().flatten();
        let name = info.as_ref().and_then(|info| info.identity.get("name")?.as_str());
        let name = name.map(str::to_lowercase);
        let source = info.map(|info| info.source.to_string_lossy().to_lowercase());
        let sorted_by = name.as_ref().unwrap_or(&id).chars().take(SORTED_CHARS_MAX).collect();
        let text = [Some(id), name, source].into_iter().flatten().collect::<Vec<_>>().join(" ");
        Self { sorted_by, text }
    }
}

/// What runs are sorted and filtered by, beside their counts. Each part is read when it is first asked for.
#[derive(Debug, Default)]
pub(super) struct Head {
    names: OnceLock<Names>,
    last: OnceLock<Option<(Step, MediaKey)>>,
    changed: OnceLock<Option<Duration>>,
}

impl Head {
    pub(super) fn names(&self, reader: &Reader, run: &RunId) -> &Names {
        self.names.get_or_init(|| Names::read(reader, run))
    }

    /// The greatest step that has an image or a held item, and the first key that has one there.
    pub(super) fn last(
        &self,
        reader: &Reader,
        run: &RunId,
    ) -> Result<Option<&(Step, MediaKey)>, StoreError> {
        if self.last.get().is_none() {
            // Another thread may have been faster.
            self.last.set(last_place(reader, run)?).ok();
        }
        Ok(self.last.get().and_then(Option::as_ref))
    }

    /// When the run's journal last changed, since the Unix epoch.
    pub(super) fn changed(&self, reader: &Reader, run: &RunId) -> Option<Duration> {
        let read = || reader.changed(run)?.duration_since(UNIX_EPOCH).ok();
        *self.changed.get_or_init(read)
    }
}

/// The parts of a run's row that nothing is sorted by. Reading them costs more than all the rest.
#[derive(Debug, Clone)]
struct RunFacts {
    source: PathBuf,
    name: Option<String>,
    config: Map<String, Value>,
    newest: Option<Thumbnail>,
}

impl RunFacts {
    fn read(shared: &Shared, run: &RunId, head: &Head) -> Result<Self, Failure> {
        let reader = &shared.reader;
        let (source, mut identity) = match reader.run_info(run).ok().flatten() {
            Some(info) => (info.source, info.identity),
            None => (PathBuf::new(), Map::new()),
        };
        let name = identity.get("name").and_then(Value::as_str).map(str::to_owned);
        let config = match identity.remove("config") {
            Some(Value::Object(config)) => config,
            _ => Map::new(),
        };
        let last = head.last(reader, run)?;
        let newest = last.and_then(|(step, key)| thumbnail(shared, run, key, *step));
        Ok(Self { source, name, config, newest })
    }
}

/// What is kept of some runs, each as of a line of its journal.
#[derive(Debug)]
struct Kept<T> {
    n_max: usize,
    runs: HashMap<RunId, (Extent, Arc<T>)>,
    /// The runs, in the order in which they came.
    order: VecDeque<RunId>,
}

impl<T> Kept<T> {
    fn new(n_max: usize) -> Self {
        Self { n_max, runs: HashMap::new(), order: VecDeque::new() }
    }

    fn get(&self, run: &RunId, extent: Extent) -> Option<Arc<T>> {
        let (of, value) = self.runs.get(run)?;
        (*of == extent).then(|| value.clone())
    }

    /// Keeps what is known of a run. If they are too many, the run that came first is forgotten.
    fn put(&mut self, run: &RunId, extent: Extent, value: Arc<T>) {
        if self.runs.insert(run.clone(), (extent, value)).is_some() {
            return;
        }
        self.order.push_back(run.clone());
        if self.order.len() > self.n_max
            && let Some(first) = self.order.pop_front()
        {
            self.runs.remove(&first);
        }
    }
}

/// What is known of runs that were listed. There are two limits, because parameters may be large.
#[derive(Debug)]
pub(in crate::gallery) struct KnownRuns {
    heads: Mutex<Kept<Head>>,
    facts: Mutex<Kept<RunFacts>>,
}

impl Default for KnownRuns {
    fn default() -> Self {
        let (heads, facts) = (Kept::new(HEADS_MAX), Kept::new(FACTS_MAX));
        Self { heads: Mutex::new(heads), facts: Mutex::new(facts) }
    }
}

impl KnownRuns {
    /// The head of a run at this extent.
    pub(super) fn head(&self, run: &RunId, extent: Extent) -> Arc<Head> {
        let mut heads = lock(&self.heads);
        heads.get(run, extent).unwrap_or_else(|| {
            let head = Arc::<Head>::default();
            heads.put(run, extent, head.clone());
            head
        })
    }

    fn facts(
        &self,
        shared: &Shared,
        run: &RunId,
        extent: Extent,
    ) -> Result<Arc<RunFacts>, Failure> {
        if let Some(facts) = lock(&self.facts).get(run, extent) {
            return Ok(facts);
        }
        let facts = Arc::new(RunFacts::read(shared, run, &self.head(run, extent))?);
        lock(&self.facts).put(run, extent, facts.clone());
        Ok(facts)
    }

    /// Forgets all runs.
    pub(in crate::gallery) fn clear(&self) {
        *lock(&self.heads) = Kept::new(HEADS_MAX);
        *lock(&self.facts) = Kept::new(FACTS_MAX);
    }
}

/// The greatest step that has an image or a held item, and the first key that has one there.
fn last_place(reader: &Reader, run: &RunId) -> Result<Option<(Step, MediaKey)>, StoreError> {
    let mut last: Option<(Step, MediaKey)> = None;
    // Keys come in order: of several with this step, the first.
    for key in reader.keys(run)? {
        let Ok(key) = MediaKey::new(key) else { continue };
        let step = reader.step_up_to(run, &key, Step(u64::MAX))?;
        if let Some(step) = step.filter(|step| last.as_ref().is_none_or(|(last, _)| step > last)) {
            last = Some((step, key));
        }
    }
    Ok(last)
}

/// The row of a run; `None` if the run is gone.
///
/// # Errors
/// If the index fails.
pub(super) fn row(shared: &Shared, mut summary: RunSummary) -> Result<Option<RunRow>, Failure> {
    let (known, reader) = (&shared.known_runs, &shared.reader);
    let run = &summary.run;
    let Some(extent) = reader.extent(run)? else { return Ok(None) };
    let head = known.head(run, extent);
    let last_step = head.last(reader, run)?.map(|(step, _)| StepNumber(step.0));
    let changed = head.changed(reader, run).map(|since| since.as_secs_f64());
    let facts = known.facts(shared, run, extent)?;
    let RunFacts { source, name, config, newest } = RunFacts::clone(&facts);
    summary.source = source;
    // A journal's lines are numbered from 1.
    let counted = extent.last_seq > 0;
    Ok(Some(RunRow { summary, counted, name, config, last_step, changed, newest }))
}

/// Where the first image of a step is.
fn thumbnail(shared: &Shared, run: &RunId, key: &MediaKey, step: Step) -> Option<Thumbnail> {
    let mut entries = shared.reader.at_step(run, key, step).filter_map(Result::ok);
    entries.find_map(|entry| {
        let image = entry.as_image().filter(|image| !image.pruned)?;
        Some(Thumbnail {
            key: key.as_str().to_owned(),
            step: StepNumber(step.0),
            index: image.id.index,
            sha20: image.file.sha256.to_string()[..20].to_owned(),
            width: image.file.width,
            height: image.file.height,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{TestFile, TestStore};
    use super::*;
    use crate::media::FileType;
    use crate::store::journal::JournalOffset;

    fn run(n: usize) -> RunId {
        RunId::new(format!("run{n}")).expect("an id")
    }

    #[test]
    fn of_too_many_runs_the_first_is_forgotten() {
        let extent = |last_seq| Extent {
            end: JournalOffset::START,
            last_seq,
            finished: false,
            n_rejected: 0,
        };
        let mut kept = Kept::new(3);
        for n in 0..3 {
            kept.put(&run(n), extent(1), Arc::new(n));
        }
        // One that is known counts once, whatever its extent.
        kept.put(&run(0), extent(2), Arc::new(7));
        assert_eq!(kept.get(&run(0), extent(2)).as_deref(), Some(&7));
        assert_eq!(kept.get(&run(0), extent(1)), None);
        kept.put(&run(3), extent(1), Arc::new(3));
        let known: Vec<usize> = (0..4)
            .filter(|n| kept.get(&run(*n), extent(if *n == 0 { 2 } else { 1 })).is_some())
            .collect();
        assert_eq!(known, [1, 2, 3]);
        assert_eq!((kept.runs.len(), kept.order.len()), (3, 3));
    }

    #[test]
    fn a_run_that_is_gone_has_no_row() {
        let mut store = TestStore::new();
        store.image(("k", 1, 0), TestFile::new(FileType::Png, b"x", (28, 28)));
        let gallery = store.gallery();
        let summary = store.reader.counts_of(&store.run).expect("an index").expect("a run");
        let mut gone = summary.clone();
        gone.run = run(1);
        let row_of = |summary| row(&gallery.0, summary).ok().map(|row| row.is_some());
        assert_eq!([summary, gone].map(row_of), [Some(true), Some(false)]);
    }
}
