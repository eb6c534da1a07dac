//! A list in pages of any size is the list as a whole.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::media::{Description, MediaEntry, MediaId, MediaKey, Rejection, RunId, Source, Step};
use crate::store::journal::{DumpCursor, Event, SourceCursor, Stamp};
use crate::store::lock::Holder;
use crate::store::{Commit, Filter, ListPlace, PageLimits, Reader, RunInfo, StateFilter, open};

/// An item by its fate (0 held, 1 rejected, 2 and 3 waiting with a place and without), run, key and step.
pub(super) type Case = (u8, u8, u8, u8);

fn entry((fate, _, key, step): Case) -> MediaEntry {
    let key = MediaKey::new(["a", "b", "b/c"][usize::from(key)]).expect("a key");
    let (step, said) = (Step(step.into()), Description::default());
    let source = Source { path: "x.npy".to_owned(), ..Source::default() };
    match fate {
        0 => MediaEntry::held(MediaId { key, step, index: 0 }, "held".to_owned(), said, source),
        1 => MediaEntry::rejected(Some((key, step, None)), "bad".to_owned(), said, source),
        2 => {
            let place = Some((key, step, Some(1)));
            MediaEntry::rejected(place, Rejection::waiting("missing"), said, source)
        }
        _ => MediaEntry::rejected(None, Rejection::waiting("missing"), said, source),
    }
}

pub(super) fn commit((n, case): (u64, &Case)) -> Commit {
    let run = RunInfo {
        id: RunId::new(["r", "r2", "s"][usize::from(case.1)]).expect("a name"),
        source: "/runs".into(),
        identity: serde_json::Map::new(),
    };
    let stamp = Stamp { ino: n, size: 1, mtime_ns: 2, ctime_ns: 3 };
    let cursor = SourceCursor::Dump(DumpCursor::new(format!("dumps/{n}.npy"), stamp, None));
    Commit {
        run: Arc::new(run),
        events: vec![Event::Media(Box::new(entry(*case)))],
        files: Vec::new(),
        cursor,
    }
}

fn shown((run, entry): (RunId, MediaEntry)) -> String {
    entry.to_json(&run).to_string()
}

/// The list in pages, each of which goes on at the text of the last one's place.
fn in_pages(reader: &Reader, filter: &Filter, n_items: usize, n_bytes: usize) -> Vec<String> {
    let until = Instant::now() + Duration::from_mins(1);
    let (mut all, mut from) = (Vec::new(), None);
    loop {
        let limits = PageLimits { n_items, n_bytes, until, n_looked_at: u64::MAX };
        let page = reader.page(filter, from, &limits).expect("a page");
        assert!(page.items.len() <= n_items && (page.next.is_none() || !page.items.is_empty()));
        all.extend(page.items.into_iter().map(shown));
        let Some(next) = page.next else { return all };
        let text = next.to_text();
        from = ListPlace::from_text(&text);
        assert_eq!(from.as_ref(), Some(&next));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn pages_of_any_size_make_the_whole_list(
        cases in prop::collection::vec((0u8..4, 0u8..3, 0u8..3, 0u8..5), 0..40),
        n_items in 1usize..9,
        n_bytes in 1usize..2000,
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let me = Holder { pid: 1, command: "test".to_owned(), socket: None };
        let opened = open(&folder.path().join("store"), &me, Duration::ZERO);
        let (mut writer, reader) = opened.expect("a store");
        for one in (0..).zip(&cases) {
            writer.commit(&mut vec![commit(one)]).expect("a commit");
        }
        let states = [None, Some(StateFilter::Held), Some(StateFilter::Rejected), Some(StateFilter::Waiting)];
        for state in states {
            for run in [None, Some("r")] {
                for (key, steps) in [(None, None), (Some("b"), None), (None, Some((1, 3))), (Some("b"), Some((2, 9)))] {
                    let filter = Filter {
                        run: run.map(|run| RunId::new(run).expect("a name")),
                        key: key.map(|key| MediaKey::new(key).expect("a key")),
                        steps,
                        state,
                    };
                    let whole: Result<Vec<_>, _> = reader.items(&filter).expect("a list").collect();
                    let whole: Vec<String> = whole.expect("items").into_iter().map(shown).collect();
                    prop_assert_eq!(in_pages(&reader, &filter, n_items, n_bytes), whole, "{:?}", filter);
                }
            }
        }
    }
}

#[test]
fn a_late_page_is_empty_and_the_list_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let me = Holder { pid: 1, command: "test".to_owned(), socket: None };
    let opened = open(&folder.path().join("store"), &me, Duration::ZERO);
    let (mut writer, reader) = opened.expect("a store");
    let mut commits =
        (0..200).map(|n| commit((n, &(0, 0, 0, u8::try_from(n).expect("small"))))).collect();
    writer.commit(&mut commits).expect("a commit");
    let filter = Filter { state: Some(StateFilter::Image), ..Filter::default() };
    let limits =
        PageLimits { n_items: 10, n_bytes: 1000, until: Instant::now(), n_looked_at: u64::MAX };
    let (mut n_pages, mut from) = (0, None);
    loop {
        let page = reader.page(&filter, from, &limits).expect("a page");
        assert!(page.items.is_empty());
        n_pages += 1;
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(n_pages, 4);
    for text in ["", "x", "AAAA", "//", "____"] {
        assert_eq!(ListPlace::from_text(text), None, "{text}");
    }
}
