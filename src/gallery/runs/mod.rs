//! `/api/v1/runs`: the runs of the store, in an order, a part at a time.

mod known;

use std::cmp::Ordering;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use serde::{Deserialize, Serialize};

pub(super) use self::known::KnownRuns;
use super::answer::{DependsOn, json};
use super::api::{RunRow, Runs};
use super::cursor::Cursor;
use super::limits::{LIMITS, RUNS_ASKED_MAX};
use super::params::{Params, run_id};
use super::problem::Failure;
use super::{Gallery, Shared};
use crate::media::RunId;
use crate::store::{Extent, RunSummary};

/// The bytes of rows after which an answer ends. A run has as many parameters as its job likes.
const ROWS_BYTES_MAX: usize = 4 << 20;

pub(super) fn routes() -> Router<Gallery> {
    Router::new().route("/api/v1/runs", get(runs))
}

async fn runs(
    State(gallery): State<Gallery>,
    mut params: Params,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let wanted: Vec<RunId> =
        params.all("run").iter().map(|run| run_id(run)).collect::<Result<_, _>>()?;
    if wanted.is_empty() {
        let query = RunsQuery::new(params)?;
        return json(&gallery, &headers, DependsOn::All, move |shared| query.answer(shared)).await;
    }
    for name in ["q", "order", "limit", "cursor"] {
        if !params.all(name).is_empty() {
            let want = "want \"run\" alone, or none to list all runs";
            let detail = format!("got {name:?} together with \"run\", {want}");
            return Err(Failure::bad_parameter(detail));
        }
    }
    params.finish()?;
    if wanted.len() > RUNS_ASKED_MAX {
        let n = wanted.len();
        let detail =
            format!("got {n} values of \"run\", want at most {RUNS_ASKED_MAX}, or none for all");
        return Err(Failure::bad_parameter(detail));
    }
    let on = DependsOn::Runs(wanted.clone());
    let make = move |shared: &Shared| {
        let mut runs: Vec<RunRow> = Vec::new();
        for run in &wanted {
            // One that is not there has no row.
            let Some(summary) = shared.reader.counts_of(run)? else { continue };
            runs.extend(known::row(shared, summary)?);
        }
        let n = runs.len();
        Ok(Runs { runs, matching: n, all: n, next: None })
    };
    json(&gallery, &headers, on, make).await
}

/// What runs are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Run,
    Name,
    Image,
    Held,
    Rejected,
    Pruned,
    Step,
    Changed,
}

impl Column {
    const ALL: [Self; 8] = [
        Self::Run,
        Self::Name,
        Self::Image,
        Self::Held,
        Self::Rejected,
        Self::Pruned,
        Self::Step,
        Self::Changed,
    ];

    /// What a request calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Name => "name",
            Self::Image => "image",
            Self::Held => "held",
            Self::Rejected => "rejected",
            Self::Pruned => "pruned",
            Self::Step => "step",
            Self::Changed => "changed",
        }
    }
}

/// The value that a run is sorted by. A run without one comes before all others in a rising order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum SortedBy {
    Number(Option<u64>),
    Text(String),
}

/// The order of an answer. Runs of equal value are in order of their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Order {
    column: Column,
    /// The greatest value first.
    is_falling: bool,
}

impl Order {
    fn take(params: &mut Params) -> Result<Self, Failure> {
        let both = Column::ALL
            .into_iter()
            .flat_map(|column| [false, true].map(|is_falling| Self { column, is_falling }));
        let order = params.choice("order", both.map(|order| (order.name(), order)))?;
        Ok(order.unwrap_or(Self { column: Column::Run, is_falling: false }))
    }

    /// What a request calls the order.
    fn name(self) -> String {
        let sign = if self.is_falling { "-" } else { "" };
        format!("{sign}{}", self.column.name())
    }

    fn compare(self, a: (&SortedBy, &str), b: (&SortedBy, &str)) -> Ordering {
        let by_value = if self.is_falling { b.0.cmp(a.0) } else { a.0.cmp(b.0) };
        by_value.then_with(|| a.1.cmp(b.1))
    }

    fn value(self, shared: &Shared, (run, extent): &Listed) -> Result<SortedBy, Failure> {
        let (known, reader) = (&shared.known_runs, &shared.reader);
        let head = || known.head(&run.run, *extent);
        let number = |number| Ok(SortedBy::Number(Some(number)));
        match self.column {
            Column::Run => Ok(SortedBy::Text(run.run.as_str().to_owned())),
            Column::Image => number(run.image),
            Column::Held => number(run.held),
            Column::Rejected => number(run.rejected),
            Column::Pruned => number(run.pruned),
            Column::Name => Ok(SortedBy::Text(head().names(reader, &run.run).sorted_by.clone())),
            Column::Step => {
                let step = head().last(reader, &run.run)?.map(|(step, _)| step.0);
                Ok(SortedBy::Number(step))
            }
            Column::Changed => {
                let changed = head().changed(reader, &run.run);
                let micros = changed.and_then(|since| u64::try_from(since.as_micros()).ok());
                Ok(SortedBy::Number(micros))
            }
        }
    }
}

/// A run of the list.
type Listed = (RunSummary, Extent);

/// What a request asks for.
struct RunsQuery {
    /// Words that a run's id, name or directory must have, in lower case.
    words: Vec<String>,
    order: Order,
    limit: usize,
    after: Option<(SortedBy, String)>,
}

impl RunsQuery {
    fn new(mut params: Params) -> Result<Self, Failure> {
        let q = params.optional("q")?.unwrap_or_default().to_lowercase();
        let order = Order::take(&mut params)?;
        let limit = params.number("limit", 1..=LIMITS.runs_max)?.unwrap_or(LIMITS.runs_max);
        let after = Cursor::take(&mut params, |cursor| match cursor {
            Cursor::Runs(value, run, of) => Some((value, run, of)),
            _ => None,
        })?;
        params.finish()?;
        if let Some((_, _, of)) = &after {
            Cursor::check_order(of, &order.name())?;
        }
        let after = after.map(|(value, run, _)| (value, run));
        let words = q.split_whitespace().map(str::to_owned).collect();
        Ok(Self { words, order, limit: limit as usize, after })
    }

    fn answer(&self, shared: &Shared) -> Result<Runs, Failure> {
        let runs = shared.reader.runs_with_extents()?;
        let all = runs.len();
        let mut found = Vec::new();
        for listed in runs {
            if self.matches(shared, &listed) {
                found.push((self.order.value(shared, &listed)?, listed));
            }
        }
        let matching = found.len();
        found.sort_unstable_by(|(a, (of_a, _)), (b, (of_b, _))| {
            self.order.compare((a, of_a.run.as_str()), (b, of_b.run.as_str()))
        });
        let begin = self.after.as_ref().map_or(0, |(value, run)| {
            found.partition_point(|(a, (of_a, _))| {
                self.order.compare((a, of_a.run.as_str()), (value, run)) != Ordering::Greater
            })
        });
        let (mut rows, mut n_bytes, mut last) = (Vec::new(), 0, None);
        let mut rest = found.into_iter().skip(begin).peekable();
        while rows.len() < self.limit && n_bytes < ROWS_BYTES_MAX {
            let Some((value, (summary, _))) = rest.next() else { break };
            last = Some((value, summary.run.as_str().to_owned()));
            // One that has gone meanwhile has no row.
            if let Some(row) = known::row(shared, summary)? {
                n_bytes += serde_json::to_vec(&row).map_or(0, |json| json.len());
                rows.push(row);
            }
        }
        let next = last.filter(|_| rest.peek().is_some());
        let next = next.map(|(value, run)| Cursor::Runs(value, run, self.order.name()).to_text());
        Ok(Runs { runs: rows, matching, all, next })
    }

    fn matches(&self, shared: &Shared, (run, extent): &Listed) -> bool {
        if self.words.is_empty() {
            return true;
        }
        let (known, reader) = (&shared.known_runs, &shared.reader);
        let head = known.head(&run.run, *extent);
        let names = head.names(reader, &run.run);
        self.words.iter().all(|word| names.text.contains(&**word))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TestFile, TestStore, get};
    use crate::media::FileType;

    #[tokio::test]
    async fn some_runs_can_be_listed_alone() {
        let mut store = TestStore::new();
        let gallery = store.gallery();
        let all = get(&gallery, "/api/v1/runs", &[]).await;
        let none = serde_json::json!({ "runs": [], "matching": 0, "all": 0, "next": null });
        assert_eq!(all.json(), none);
        store.image(("k", 1, 0), TestFile::new(FileType::Png, b"x", (28, 28)));
        let all = get(&gallery, "/api/v1/runs", &[]).await.json();
        assert_eq!(all["runs"][0]["run"], "a/run");
        let one = "/api/v1/runs?run=none&run=a%2Frun";
        let got = get(&gallery, one, &[]).await;
        assert_eq!(got.json(), all);
        let etag = got.header("etag").to_owned();
        let again = async || get(&gallery, one, &[("if-none-match", &etag)]).await.status.as_u16();
        assert_eq!(again().await, 304);
        store.image(("k", 2, 0), TestFile::new(FileType::Png, b"y", (28, 28)));
        assert_eq!(again().await, 200);
        let none = get(&gallery, "/api/v1/runs?run=none", &[]).await.json();
        assert_eq!(none["runs"], serde_json::json!([]));
        let many = format!("/api/v1/runs?{}", ["run=a"; 65].join("&"));
        let detail = get(&gallery, &many, &[]).await.json()["detail"].clone();
        assert_eq!(detail, "got 65 values of \"run\", want at most 64, or none for all");
    }

    /// All runs of a query, a few at a time. Checks the counts.
    async fn listed(store: &TestStore, query: &str, limit: usize, n: usize) -> Vec<String> {
        let gallery = store.gallery();
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/api/v1/runs?limit={limit}&{query}{cursor}");
            let answer = get(&gallery, &path, &[]).await.json();
            assert_eq!((&answer["matching"], &answer["all"]), (&n.into(), &9.into()), "{path}");
            let runs = answer["runs"].as_array().expect("runs");
            assert!(!runs.is_empty() && runs.len() <= limit, "{path}");
            found.extend(runs.iter().map(|row| row["run"].as_str().expect("an id").to_owned()));
            let Some(next) = answer["next"].as_str() else { return found };
            cursor = format!("&cursor={next}");
        }
    }

    #[tokio::test]
    async fn runs_come_in_any_order_a_few_at_a_time() {
        let mut store = TestStore::new();
        // Run 4 of 9 has the most images, and the last step.
        for n in 0..9u64 {
            store.next_run(
                &format!("run{n}"),
                serde_json::json!({ "name": format!("Net {}", 9 - n) }),
            );
            for step in 0..=(n * 4 % 9) {
                store.image(("k", step * 10 + n, 0), TestFile::new(FileType::Png, b"x", (28, 28)));
            }
        }
        for n in 0..9u64 {
            store.set_changed(&format!("run{n}"), 1_000_000 + n * 2 % 9);
        }
        let ids = |order: [u32; 9]| order.map(|n| format!("run{n}")).to_vec();
        for limit in [1, 2, 4, 9, 500] {
            for (query, want) in [
                ("", [0, 1, 2, 3, 4, 5, 6, 7, 8]),
                ("order=-run", [8, 7, 6, 5, 4, 3, 2, 1, 0]),
                ("order=name", [8, 7, 6, 5, 4, 3, 2, 1, 0]),
                ("order=-name", [0, 1, 2, 3, 4, 5, 6, 7, 8]),
                ("order=image", [0, 7, 5, 3, 1, 8, 6, 4, 2]),
                ("order=-step", [2, 4, 6, 8, 1, 3, 5, 7, 0]),
                // All have the same: in order of their ids.
                ("order=-held", [0, 1, 2, 3, 4, 5, 6, 7, 8]),
                ("order=-changed", [4, 8, 3, 7, 2, 6, 1, 5, 0]),
            ] {
                assert_eq!(listed(&store, query, limit, 9).await, ids(want), "{query}, {limit}");
            }
        }
        // Run 3 is called "Net 6", and run 6 "Net 3".
        assert_eq!(listed(&store, "q=NET+3", 1, 2).await, ["run3", "run6"]);
        assert_eq!(listed(&store, "q=run+net&order=-name", 2, 9).await.len(), 9);
        let gallery = store.gallery();
        for (query, want) in [
            ("order=size", "got \"size\" as \"order\", want one of run, -run, name, "),
            ("cursor=x", "got \"x\" as \"cursor\", want the `next` of an answer"),
            ("limit=0", "got \"0\" as \"limit\", want 1 to 500"),
            ("run=a&limit=1", "got \"limit\" together with \"run\", want \"run\" alone"),
            ("run=a&rum=1", "this address has no parameter \"rum\""),
        ] {
            let answer = get(&gallery, &format!("/api/v1/runs?{query}"), &[]).await.json();
            let detail = answer["detail"].as_str().unwrap_or_default().to_owned();
            assert!(detail.starts_with(want), "{query}: {detail}");
        }
    }

    #[tokio::test]
    async fn a_run_added_between_pages_moves_no_other() {
        let mut store = TestStore::new();
        let add = |store: &mut TestStore, id: &str| {
            store.next_run(id, serde_json::json!({}));
            store.image(("k", 1, 0), TestFile::new(FileType::Png, b"x", (28, 28)));
        };
        for id in ["b", "d", "f", "h"] {
            add(&mut store, id);
        }
        let gallery = store.gallery();
        let page = async |more: &str| {
            let path = format!("/api/v1/runs?limit=2&order=name{more}");
            let answer = get(&gallery, &path, &[]).await.json();
            let runs = answer["runs"].as_array().expect("runs").iter();
            let runs: Vec<String> =
                runs.map(|row| row["run"].as_str().expect("an id").to_owned()).collect();
            let next = answer["next"].as_str().map(|next| format!("&cursor={next}"));
            (runs, answer["matching"].as_u64(), next)
        };
        let (runs, matching, next) = page("").await;
        assert_eq!((runs, matching), (vec!["b".to_owned(), "d".to_owned()], Some(4)));
        for id in ["a", "e"] {
            add(&mut store, id);
        }
        let (runs, matching, next) = page(&next.expect("a cursor")).await;
        assert_eq!((runs, matching), (vec!["e".to_owned(), "f".to_owned()], Some(6)));
        let (runs, _, next) = page(&next.expect("a cursor")).await;
        assert_eq!((runs, next), (vec!["h".to_owned()], None));
    }

    #[tokio::test]
    async fn an_answer_ends_after_some_bytes() {
        let mut store = TestStore::new();
        // Each row has a parameter, or a name, of a million bytes: four end an answer.
        for n in 0..9 {
            let long = "x".repeat(1 << 20);
            let identity = if n % 2 == 0 {
                serde_json::json!({ "config": { "notes": long } })
            } else {
                serde_json::json!({ "name": format!("{long}{n}") })
            };
            store.next_run(&format!("run{n}"), identity);
            store.image(("k", 1, 0), TestFile::new(FileType::Png, b"x", (28, 28)));
        }
        let gallery = store.gallery();
        let (mut sizes, mut found, mut cursor) = (Vec::new(), Vec::new(), String::new());
        loop {
            let path = format!("/api/v1/runs?order=-name{cursor}");
            let got = get(&gallery, &path, &[]).await;
            assert_eq!(got.status, 200, "{path}");
            let answer = got.json();
            let runs = answer["runs"].as_array().expect("runs");
            sizes.push(runs.len());
            found.extend(runs.iter().map(|row| row["run"].as_str().expect("an id").to_owned()));
            let Some(next) = answer["next"].as_str() else { break };
            // A name is in the cursor only with its first characters.
            assert!(next.len() < 1000, "{}", next.len());
            cursor = format!("&cursor={next}");
        }
        assert_eq!(sizes, [4, 4, 1]);
        // The names that begin alike are in order of their ids, and come before the ids that have no name.
        assert_eq!(found, [1, 3, 5, 7, 8, 6, 4, 2, 0].map(|n| format!("run{n}")));
    }

    #[tokio::test]
    async fn a_cursor_of_another_order_is_refused() {
        let mut store = TestStore::new();
        for id in ["a", "b"] {
            store.next_run(id, serde_json::json!({}));
            store.image(("k", 1, 0), TestFile::new(FileType::Png, b"x", (28, 28)));
        }
        let gallery = store.gallery();
        let answer = get(&gallery, "/api/v1/runs?limit=1&order=name", &[]).await.json();
        let next = answer["next"].as_str().expect("a cursor");
        for order in ["-name", "run", "image"] {
            let path = format!("/api/v1/runs?order={order}&cursor={next}");
            let detail = get(&gallery, &path, &[]).await.json()["detail"].clone();
            let want =
                format!("got a \"cursor\" of the order \"name\", want one of the order {order:?}");
            assert_eq!(detail, want);
        }
    }
}
