//! Lists of items, page by page: a list of any length costs its reader one page of memory, and holds nothing between
//! two pages.

use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::{Filter, Reader, StateFilter, is_gone};
use crate::media::{MediaEntry, RunId};
use crate::store::StoreError;
use crate::store::index::{Row, WaitingItem};
use crate::store::journal::JournalOffset;

/// How many rows are read before the next look at the clock.
const ROWS_PER_CHECK: u32 = 64;

/// Where a list goes on: after a row of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListPlace {
    run: RunId,
    row: RowPlace,
}

/// A place among the rows of a run. The default is before all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RowPlace {
    /// The key of the last row in the index.
    key: Vec<u8>,
    /// The place of the last line among the items that are tried again.
    tried_again: Option<JournalOffset>,
}

impl ListPlace {
    /// The place before all rows of a run.
    fn before(run: RunId) -> Self {
        Self { run, row: RowPlace::default() }
    }

    /// The place as text that can stand in a URL.
    pub(crate) fn to_text(&self) -> String {
        let bytes = postcard::to_allocvec(self).expect("vectors and numbers have known lengths");
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads what [`Self::to_text`] wrote. `None` if it is something else.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        postcard::from_bytes(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
    }
}

/// How long a page may become. It has one item at least, however long that is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageLimits {
    pub(crate) n_items: usize,
    /// Bytes of all lines.
    pub(crate) n_bytes: usize,
    /// A page that is not full at this time ends early, and may be empty.
    pub(crate) until: Instant,
    /// Items that are looked at.
    pub(crate) n_looked_at: u64,
}

/// Some items of a list, in order.
#[derive(Debug)]
pub(crate) struct ListPage {
    pub(crate) items: Vec<(RunId, MediaEntry)>,
    /// Where the list goes on; `None` at its end.
    pub(crate) next: Option<ListPlace>,
    /// Items that were looked at.
    pub(crate) n_looked_at: u64,
}

/// A row, or `None` if the list leaves it out, and the place after it.
pub(super) type PlacedRow = Result<(RowPlace, Option<Row>), StoreError>;

impl Reader {
    /// Reads a page of the items that [`Self::items`] lists: those after `from`.
    ///
    /// # Errors
    /// If the index or a journal fails.
    pub(crate) fn page(
        &self,
        filter: &Filter,
        from: Option<ListPlace>,
        limits: &PageLimits,
    ) -> Result<ListPage, StoreError> {
        self.search(filter, from, limits, |_, _, _| true)
    }

    /// Reads a page of those items that [`Self::items`] lists, are after `from`, and that `wants` selects by their run,
    /// whether they are pruned, and their line of the journal.
    ///
    /// # Errors
    /// If the index or a journal fails.
    pub(crate) fn search(
        &self,
        filter: &Filter,
        from: Option<ListPlace>,
        limits: &PageLimits,
        mut wants: impl FnMut(&RunId, bool, &[u8]) -> bool,
    ) -> Result<ListPage, StoreError> {
        let (mut items, mut n_bytes, mut n_seen, mut n_looked_at) = (Vec::new(), 0, 0u32, 0);
        let mut is_late = || {
            n_seen += 1;
            n_seen.is_multiple_of(ROWS_PER_CHECK) && Instant::now() >= limits.until
        };
        let first = match (from, &filter.run) {
            (Some(from), run) if run.as_ref().is_none_or(|run| *run == from.run) => Some(from),
            (_, Some(run)) => Some(ListPlace::before(run.clone())),
            (_, None) => self.index.run_after(None)?.map(ListPlace::before),
        };
        let Some(mut at) = first else { return Ok(ListPage { items, next: None, n_looked_at }) };
        loop {
            let journaled = self.journaled(&at.run);
            for row in self.rows_after(&at.run, filter, &at.row) {
                let (after, row) = row?;
                let length = row.map_or(0, |row| row.length as usize);
                let is_full = items.len() >= limits.n_items
                    || (!items.is_empty() && n_bytes + length > limits.n_bytes)
                    || n_looked_at >= limits.n_looked_at;
                if is_full || is_late() {
                    return Ok(ListPage { items, next: Some(at), n_looked_at });
                }
                at.row = after;
                let Some(row) = row else { continue };
                n_looked_at += 1;
                let entry = journaled.bytes(row).map_err(StoreError::from).and_then(|bytes| {
                    let is_wanted = wants(&at.run, row.is_pruned(), &bytes);
                    is_wanted.then(|| journaled.entry_of(row, &bytes)).transpose()
                });
                match entry {
                    Ok(None) => {}
                    Ok(Some(entry)) => {
                        items.push((at.run.clone(), entry));
                        n_bytes += length;
                    }
                    Err(StoreError::Io(error)) if is_gone(&error) => {
                        tracing::warn!(run = %at.run, %error, "item is skipped");
                    }
                    Err(error) => return Err(error),
                }
            }
            let next =
                if filter.run.is_none() { self.index.run_after(Some(&at.run))? } else { None };
            let Some(next) = next else { return Ok(ListPage { items, next: None, n_looked_at }) };
            at = ListPlace::before(next);
            if is_late() {
                return Ok(ListPage { items, next: Some(at), n_looked_at });
            }
        }
    }

    /// Lists the rows of a run after a place, each with the place after it.
    pub(super) fn rows_after(
        &self,
        run: &RunId,
        filter: &Filter,
        from: &RowPlace,
    ) -> Box<dyn Iterator<Item = PlacedRow> + Send> {
        let of_items = |row: Result<(Vec<u8>, Option<Row>), StoreError>| {
            let (key, row) = row?;
            Ok((RowPlace { key, tried_again: None }, row))
        };
        let rejected = || {
            let filter = filter.clone();
            let is_wanted = move |said: Option<&_>| filter.selects(said);
            self.index.rejected_after(run, is_wanted, &from.key).map(of_items)
        };
        let items = || {
            let (key, steps) = (filter.key.as_ref(), filter.steps());
            self.index.items_after(run, key, &steps, &from.key).map(of_items)
        };
        let tried_again = || {
            let filter = filter.clone();
            self.index.tried_again_after(run, from.tried_again).map(move |item| {
                let (place, item) = item?;
                let is_wanted = |item: &WaitingItem| {
                    item.row.is_waiting() && filter.selects(item.said.as_ref())
                };
                Ok::<_, StoreError>((place, item.filter(is_wanted)))
            })
        };
        match filter.state {
            None if from.key.first() == Some(&b'r') => Box::new(rejected()),
            None => Box::new(items().chain(rejected())),
            Some(state @ (StateFilter::Image | StateFilter::Held)) => {
                Box::new(items().map(move |row| {
                    let (place, row) = row?;
                    Ok((place, row.filter(|row| state.has(row))))
                }))
            }
            Some(StateFilter::Waiting) => Box::new(tried_again().map(|item| {
                let (place, item) = item?;
                let place = RowPlace { key: Vec::new(), tried_again: Some(place) };
                Ok((place, item.map(|item| item.row)))
            })),
            Some(StateFilter::Rejected) => {
                let placed = tried_again().map(|item| {
                    let (place, item) = item?;
                    Ok((place, item.filter(|item| item.is_placed).map(|item| item.row)))
                });
                Box::new(in_order(from.clone(), placed, rejected()))
            }
        }
    }
}

/// Merges waiting items that have a place with rejected items that have none. Both are in order of their lines.
fn in_order(
    mut at: RowPlace,
    placed: impl Iterator<Item = Result<(JournalOffset, Option<Row>), StoreError>>,
    rejected: impl Iterator<Item = PlacedRow>,
) -> impl Iterator<Item = PlacedRow> {
    let (mut placed, mut rejected) = (placed.peekable(), rejected.peekable());
    std::iter::from_fn(move || {
        let is_placed_next = match (placed.peek(), rejected.peek()) {
            (Some(Ok((_, Some(placed)))), Some(Ok((_, Some(rejected))))) => {
                placed.place < rejected.place
            }
            // A row that is left out only moves the place.
            (Some(Ok((_, Some(_)))), Some(_)) | (None, _) => false,
            (Some(_), _) => true,
        };
        let row = if is_placed_next {
            placed.next()?.map(|(place, row)| {
                at.tried_again = Some(place);
                row
            })
        } else {
            rejected.next()?.map(|(place, row)| {
                at.key = place.key;
                row
            })
        };
        Some(row.map(|row| (at.clone(), row)))
    })
}
