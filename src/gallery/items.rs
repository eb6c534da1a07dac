//! `/api/v1/items`: the items that match, some at a time.

use std::cmp::Ordering;
use std::iter;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use serde_json::Value;

use super::answer::{DependsOn, json};
use super::api::Items;
use super::cursor::Cursor;
use super::limits::LIMITS;
use super::lists::{item_json, no_run};
use super::params::{Params, media_key, run_id};
use super::problem::Failure;
use super::{Gallery, Shared};
use crate::media::{RunId, State as ItemState};
use crate::query::{self, Condition, Term};
use crate::store::{Filter, ListPage, ListPlace, PageLimits, StateFilter};

/// How many items a request looks at, and for how long.
const LOOKED_AT_MAX: u64 = 20_000;
const SEARCH_MAX: Duration = Duration::from_millis(200);

/// Bytes of the journal lines of an answer's items.
const LINES_BYTES_MAX: usize = 4 << 20;

/// The items of an answer without `limit`.
const LIMIT: u32 = 100;

pub(super) fn routes() -> Router<Gallery> {
    Router::new().route("/api/v1/items", get(items))
}

async fn items(
    State(gallery): State<Gallery>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let query = ItemsQuery::new(params)?;
    let on = match &query.matches.filter.run {
        Some(run) => DependsOn::Runs(vec![run.clone()]),
        None => DependsOn::All,
    };
    json(&gallery, &headers, on, move |shared| query.answer(shared)).await
}

/// Which items are wanted.
#[derive(Debug, Clone, Default)]
pub(super) struct Matches {
    pub(super) filter: Filter,
    conditions: Vec<Condition>,
}

impl Matches {
    /// Takes `run`, `key`, `first_step`, `last_step`, `state`, `where` and `q`.
    ///
    /// # Errors
    /// If one is wrong.
    pub(super) fn take(params: &mut Params) -> Result<Self, Failure> {
        let mut matches = Self::default();
        let filter = &mut matches.filter;
        filter.run = params.optional("run")?.map(|run| run_id(&run)).transpose()?;
        filter.key = params.optional("key")?.map(|key| media_key(&key)).transpose()?;
        let first = params.number("first_step", 0..=u64::MAX)?;
        let last = params.number("last_step", 0..=u64::MAX)?;
        if first.is_some() || last.is_some() {
            filter.steps = Some((first.unwrap_or(0), last.unwrap_or(u64::MAX)));
        }
        filter.state = match params.optional("state")?.as_deref() {
            None => None,
            Some("image") => Some(StateFilter::Image),
            Some("held") => Some(StateFilter::Held),
            Some("rejected") => Some(StateFilter::Rejected),
            Some("waiting") => Some(StateFilter::Waiting),
            Some(text) => {
                let want = "want image, held, rejected or waiting";
                return Err(Failure::bad_parameter(format!("got {text:?} as \"state\", {want}")));
            }
        };
        let bad = |error: String| Failure::bad_parameter(error);
        for text in params.all("where") {
            matches.conditions.push(text.parse().map_err(bad)?);
        }
        if let Some(text) = params.optional("q")? {
            query::terms(&text).map_err(bad)?.into_iter().for_each(|term| matches.add(term));
        }
        Ok(matches)
    }

    fn add(&mut self, term: Term) {
        match term {
            Term::Where(condition) => self.conditions.push(condition),
            Term::Steps(first, last) => {
                let (from, to) = self.filter.steps.unwrap_or((0, u64::MAX));
                self.filter.steps = Some((from.max(first), to.min(last)));
            }
            Term::State(ItemState::Image) => self.filter.state = Some(StateFilter::Image),
            Term::State(ItemState::Held) => self.filter.state = Some(StateFilter::Held),
            Term::State(ItemState::Rejected) => self.filter.state = Some(StateFilter::Rejected),
        }
    }

    /// Whether the conditions hold for an item, by the line of its journal. A line that cannot be read is not for this
    /// to judge.
    fn hold(&self, fields: &[&str], run: &RunId, is_pruned: bool, line: &[u8]) -> bool {
        if self.conditions.is_empty() {
            return true;
        }
        let Ok(mut item) = query::read_fields(line, fields) else { return true };
        // What a line says otherwise than the item.
        for field in fields {
            let value = match *field {
                "run" => run.as_str().into(),
                "pruned" if is_pruned => true.into(),
                "path" if item.contains_key("path") => {
                    let path = item.get("path").and_then(Value::as_str).unwrap_or_default();
                    format!("runs/{}/{path}", run.folder()).into()
                }
                _ => continue,
            };
            item.insert((*field).to_owned(), value);
        }
        self.conditions.iter().all(|condition| condition.holds_in(&item))
    }

    /// Reads some of the items, from a place on.
    ///
    /// # Errors
    /// 404 if there is no such run; 500 if the store fails.
    pub(super) fn page(
        &self,
        shared: &Shared,
        from: Option<ListPlace>,
        limits: &PageLimits,
    ) -> Result<ListPage, Failure> {
        if self.filter.steps.is_some_and(|(first, last)| first > last) {
            return Ok(ListPage { items: Vec::new(), next: None, n_looked_at: 0 });
        }
        let mut fields: Vec<&str> = self.conditions.iter().map(Condition::field).collect();
        fields.sort_unstable();
        fields.dedup();
        Ok(shared.reader.search(&self.filter, from, limits, |run, is_pruned, line| {
            self.hold(&fields, run, is_pruned, line)
        })?)
    }

    /// How many items there are to look at, or more.
    fn n_items(&self, shared: &Shared) -> Result<u64, Failure> {
        let of_state = |[image, held, rejected]: [u64; 3]| match self.filter.state {
            None => image + held + rejected,
            Some(StateFilter::Image) => image,
            Some(StateFilter::Held) => held,
            Some(StateFilter::Rejected | StateFilter::Waiting) => rejected,
        };
        let reader = &shared.reader;
        let Filter { run, key, .. } = &self.filter;
        let Some(run) = run else { return Ok(of_state(reader.totals()?.1)) };
        let counts = match key {
            Some(key) => shared.catalogue.see(reader, run, |steps| {
                let row = steps.keys.get(key.as_str()).map(|steps| steps.row(key.as_str()));
                row.map(|row| [row.image, row.held, row.rejected]).unwrap_or_default()
            })?,
            None => reader.counts(run)?,
        };
        counts.map(of_state).ok_or_else(|| no_run(run))
    }
}

/// The values that items can be sorted by: what a request calls them, and where an item has them.
const VALUES: [(&str, &str); 6] = [
    ("caption", "/caption"),
    ("min", "/stats/min"),
    ("max", "/stats/max"),
    ("mean", "/stats/mean"),
    ("std", "/stats/std"),
    ("nan", "/stats/nan"),
];

/// The order of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Order {
    /// By key, step and index; rejected items without a place last.
    Place,
    /// By a value, the greatest first if `is_falling`. `name` is what a request calls the order.
    By { name: String, pointer: &'static str, is_falling: bool },
}

impl Order {
    fn take(params: &mut Params) -> Result<Self, Failure> {
        let by = VALUES.into_iter().flat_map(|(value, pointer)| {
            [("", false), ("-", true)].map(|(sign, is_falling)| {
                let name = format!("{sign}{value}");
                (name.clone(), Self::By { name, pointer, is_falling })
            })
        });
        let all = iter::once(("place".to_owned(), Self::Place)).chain(by);
        Ok(params.choice("order", all)?.unwrap_or(Self::Place))
    }
}

/// Compares two values: numbers by size, texts by their characters. Items without a value come last in any order.
fn compare(a: Option<&Value>, b: Option<&Value>, is_falling: bool) -> Ordering {
    let is_there = |value: Option<&Value>| value.is_some_and(|value| !value.is_null());
    let order = match (a, b) {
        (Some(Value::String(a)), Some(Value::String(b))) => a.cmp(b),
        _ => match (a.and_then(Value::as_f64), b.and_then(Value::as_f64)) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            _ => return is_there(b).cmp(&is_there(a)),
        },
    };
    if is_falling { order.reverse() } else { order }
}

/// What a request asks for.
struct ItemsQuery {
    matches: Matches,
    order: Order,
    limit: usize,
    from: Option<Cursor>,
}

impl ItemsQuery {
    fn new(mut params: Params) -> Result<Self, Failure> {
        let matches = Matches::take(&mut params)?;
        let order = Order::take(&mut params)?;
        let limit = params.number("limit", 1..=LIMITS.items_max)?.unwrap_or(LIMIT) as usize;
        let from = Cursor::take(&mut params, |cursor| match (&cursor, &order) {
            (Cursor::Items(..), Order::Place) | (Cursor::Sorted(..), Order::By { .. }) => {
                Some(cursor)
            }
            _ => None,
        })?;
        if let (Some(Cursor::Sorted(_, of)), Order::By { name, .. }) = (&from, &order) {
            Cursor::check_order(of, name)?;
        }
        params.finish()?;
        Ok(Self { matches, order, limit, from })
    }

    fn answer(&self, shared: &Shared) -> Result<Items, Failure> {
        match &self.order {
            Order::Place => self.in_place(shared),
            Order::By { name, pointer, is_falling } => {
                self.sorted(shared, name, pointer, *is_falling)
            }
        }
    }

    fn in_place(&self, shared: &Shared) -> Result<Items, Failure> {
        let of = self.matches.n_items(shared)?;
        let (from, n_before) = match &self.from {
            Some(Cursor::Items(place, n)) => {
                let failure = || Cursor::failure(place);
                (Some(ListPlace::from_text(place).ok_or_else(failure)?), *n)
            }
            _ => (None, 0),
        };
        let limits = PageLimits {
            n_items: self.limit,
            n_bytes: LINES_BYTES_MAX,
            until: Instant::now() + SEARCH_MAX,
            n_looked_at: LOOKED_AT_MAX,
        };
        let ListPage { items, next, n_looked_at } = self.matches.page(shared, from, &limits)?;
        let looked_at = n_before + n_looked_at;
        let items = items.iter().map(|(run, entry)| item_json(run, entry)).collect();
        let next = next.map(|next| Cursor::Items(next.to_text(), looked_at).to_text());
        Ok(Items { items, next, looked_at, of: of.max(looked_at) })
    }

    /// An order by value needs all items at once.
    fn sorted(
        &self,
        shared: &Shared,
        name: &str,
        pointer: &str,
        is_falling: bool,
    ) -> Result<Items, Failure> {
        let limits = PageLimits {
            n_items: usize::MAX,
            n_bytes: usize::MAX,
            // The number of lines bounds the time.
            until: Instant::now() + 50 * SEARCH_MAX,
            n_looked_at: LOOKED_AT_MAX,
        };
        let ListPage { items, next, n_looked_at: looked_at } =
            self.matches.page(shared, None, &limits)?;
        if next.is_some() {
            return Err(Failure::bad_parameter(format!(
                "only {LOOKED_AT_MAX} items can be sorted by a value, and this request has more: \
                 add a run, a key or steps"
            )));
        }
        let mut items: Vec<Value> =
            items.iter().map(|(run, entry)| item_json(run, entry)).collect();
        items.sort_by(|a, b| compare(a.pointer(pointer), b.pointer(pointer), is_falling));
        let begin = match self.from {
            Some(Cursor::Sorted(begin, _)) => usize::try_from(begin).unwrap_or(usize::MAX),
            _ => 0,
        };
        let end = begin.saturating_add(self.limit);
        let next =
            (end < items.len()).then(|| Cursor::Sorted(end as u64, name.to_owned()).to_text());
        let items = items.into_iter().skip(begin).take(self.limit).collect();
        Ok(Items { items, next, looked_at, of: looked_at })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{TestFile, TestStore, get};
    use super::*;
    use crate::media::FileType;

    #[test]
    fn items_without_a_value_come_last_in_any_order() {
        let sorted = |is_falling| {
            let mut values = [json!(2), Value::Null, json!(10.5), json!(-1)];
            values.sort_by(|a, b| compare(Some(a), Some(b), is_falling));
            values
        };
        assert_eq!(sorted(false), [json!(-1), json!(2), json!(10.5), Value::Null]);
        assert_eq!(sorted(true), [json!(10.5), json!(2), json!(-1), Value::Null]);
        assert_eq!(compare(Some(&json!("a")), Some(&json!("b")), true), Ordering::Greater);
    }

    #[tokio::test]
    async fn items_are_found_page_by_page() {
        let mut store = TestStore::new();
        for step in 0..10 {
            let bytes = format!("picture {step}");
            let file = TestFile::new(FileType::Png, bytes.as_bytes(), (4, 4));
            store.image(("val/pred", step * 10, 0), file);
        }
        store.held(("val/pred", 50, 1));
        store.prune(("val/pred", 20, 0));
        let gallery = store.gallery();
        let found = async |query: &str| {
            let (mut steps, mut n_looked_at, mut cursor) = (Vec::new(), 0, String::new());
            loop {
                let path = format!("/api/v1/items?limit=3&{query}{cursor}");
                let got = get(&gallery, &path, &[]).await;
                assert_eq!(got.status, 200, "{path}");
                let page = got.json();
                let items = page["items"].as_array().expect("a list");
                steps.extend(items.iter().map(|item| item["step"].as_u64().expect("a step")));
                assert!(items.len() <= 3 && page["looked_at"].as_u64() >= Some(n_looked_at));
                n_looked_at = page["looked_at"].as_u64().expect("a number");
                match page["next"].as_str() {
                    Some(next) => cursor = format!("&cursor={next}"),
                    None => return (steps, n_looked_at, page["of"].as_u64().expect("a number")),
                }
            }
        };
        let all = vec![0, 10, 20, 30, 40, 50, 50, 60, 70, 80, 90];
        assert_eq!(found("").await, (all.clone(), 11, 11));
        assert_eq!(found("run=a%2Frun&key=val%2Fpred").await, (all, 11, 11));
        assert_eq!(found("where=step%3E70").await, (vec![80, 90], 11, 11));
        assert_eq!(found("q=step:20..40+width=4").await, (vec![20, 30, 40], 3, 11));
        assert_eq!(found("first_step=20&q=step:..40").await.0, [20, 30, 40]);
        assert_eq!(found("q=state:held").await, (vec![50], 1, 1));
        assert_eq!(found("where=pruned=true").await.0, [20]);
        assert_eq!(found("where=run=a/run&where=path~runs/&where=index=0").await.0.len(), 10);
        assert_eq!(found("where=run=b").await.0.len(), 0);
        assert_eq!(found("q=step:40..20").await.0.len(), 0);
        assert_eq!(found("where=step%3C40&order=-nan").await, (vec![0, 10, 20, 30], 11, 11));
        for (query, want) in [
            ("run=b", "the store has no run \"b\""),
            ("where=nam%3E0", "no field \"nam\": did you mean \"nan\"?"),
            ("state=bad", "got \"bad\" as \"state\", want image"),
            (
                "order=size",
                "got \"size\" as \"order\", want one of place, caption, -caption, min, ",
            ),
            ("limit=501", "got \"501\" as \"limit\", want 1 to 500"),
            ("cursor=x", "got \"x\" as \"cursor\", want the `next`"),
        ] {
            let got = get(&gallery, &format!("/api/v1/items?{query}"), &[]).await;
            let detail = got.json()["detail"].as_str().expect("a text").to_owned();
            assert!(detail.starts_with(want), "{query}: {detail}");
        }
        let answer = get(&gallery, "/api/v1/items?limit=3&order=nan", &[]).await.json();
        let next = answer["next"].as_str().expect("a cursor");
        let other = format!("/api/v1/items?limit=3&order=-nan&cursor={next}");
        let detail = get(&gallery, &other, &[]).await.json()["detail"].clone();
        assert_eq!(detail, "got a \"cursor\" of the order \"nan\", want one of the order \"-nan\"");
    }
}
