//! What came of a batch that is done, for those who planned it.

use crate::decode::Skipped;
use crate::ingest::pipeline::budget::Share;
use crate::ingest::pipeline::counts::BatchCounts;
use crate::ingest::pipeline::results::BatchResult;
use crate::media::{MediaId, RunId, Source, State};
use crate::store::Commit;
use crate::store::journal::Event;

/// An upper bound for the rejections of one batch that are logged.
const REJECTIONS_LOGGED_MAX: usize = 3;

/// What a batch that is done counts for.
#[derive(Debug)]
pub(in crate::ingest::pipeline) struct BatchTally {
    counts: BatchCounts,
    pub(super) results: Vec<BatchResult>,
    /// The source and reason of the first rejected items, to log them.
    rejections: Vec<(Source, Option<String>)>,
    /// A dump of this run and its entries that hold no picture.
    pub(super) skipped: Option<(RunId, String, Skipped)>,
    /// Given back when dropped.
    _share: Share,
}

impl BatchTally {
    /// The tally of a batch with this many items, none of which is counted yet.
    pub(super) fn new(n_items: u64, share: Share) -> Self {
        let counts = BatchCounts { n_items, ..BatchCounts::default() };
        let (results, rejections) = (Vec::new(), Vec::new());
        Self { counts, results, rejections, skipped: None, _share: share }
    }

    /// Counts an event that is committed.
    pub(super) fn count(&mut self, event: &Event) {
        let Event::Media(entry) = event else { return };
        match entry.state() {
            State::Image => self.counts.n_image += 1,
            State::Held => self.counts.n_held += 1,
            State::Rejected => {
                self.counts.n_rejected += 1;
                if self.rejections.len() < REJECTIONS_LOGGED_MAX {
                    self.rejections.push((entry.source.clone(), entry.reason().map(str::to_owned)));
                }
            }
        }
    }

    /// Counts all items as given back.
    pub(super) fn given_back(mut self) -> Self {
        self.counts.n_given_back = self.counts.n_items;
        self
    }

    /// Gives a batch back that was not journaled, because the files of its run fail for this reason.
    pub(in crate::ingest::pipeline) fn give_back(&mut self, commit: &Commit, reason: &str) {
        let why = || reason.to_owned();
        for result in &mut self.results {
            match result {
                BatchResult::Dump { unread, .. } => *unread = Some(why()),
                BatchResult::Released { result, .. } | BatchResult::Repaired { result, .. } => {
                    *result = Err(why());
                }
                BatchResult::Retried { result, .. } => *result = Err(why()),
                BatchResult::NotMade { .. } | BatchResult::LeftOut { .. } => {}
            }
        }
        let run = &commit.run.id;
        let ids = commit.events.iter().filter_map(id_of);
        self.results.extend(ids.map(|id| BatchResult::NotMade { run: run.clone(), id }));
        let n_items = self.counts.n_items;
        self.counts = BatchCounts { n_items, n_given_back: n_items, ..BatchCounts::default() };
        (self.rejections, self.skipped) = (Vec::new(), None);
    }

    /// Takes the run, the dump and its entries that hold no picture, and logs them.
    pub(in crate::ingest::pipeline) fn take_skipped(&mut self) -> Option<(RunId, String, Skipped)> {
        let skipped = self.skipped.take()?;
        let (run, dump, entries) = &skipped;
        tracing::debug!(%run, dump, n = entries.n, %entries, "skipped entries that hold no picture");
        Some(skipped)
    }

    /// Logs the first rejections, and returns the counts and the results. Gives the share of the event
    /// budget back.
    pub(in crate::ingest::pipeline) fn close(self) -> (BatchCounts, Vec<BatchResult>) {
        for (Source { path, log, line, .. }, reason) in &self.rejections {
            tracing::info!(path, log, line, reason, "rejected");
        }
        (self.counts, self.results)
    }
}

/// The place that an event is about.
pub(super) fn id_of(event: &Event) -> Option<MediaId> {
    match event {
        Event::Media(entry) => entry.id(),
        Event::Gone { id, .. } => Some(id.clone()),
        _ => None,
    }
}
