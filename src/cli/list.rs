//! `safelight ls`.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::anyhow;
use serde_json::Value;

use super::access::StoreAccess;
use super::args::{Common, ListArgs};
use super::exit::ExitCode;
use super::fleet::{list_runs, open_run};
use super::format::{Table, count, printable, short};
use crate::control::protocol::ItemsQuery;
use crate::media::shortened;
use crate::store::{KeysBelow, LeftOutRun};

/// The columns; the first one is left out if the command names a run.
const COLUMNS: [&str; 10] =
    ["RUN", "KEY", "STEP", "INDEX", "STATE", "SIZE", "MODE", "RULE", "VALUES", "CAPTION OR REASON"];

/// The longest caption or reason in a row. `show` and `--json` print them whole.
const NOTE_CHARS_MAX: usize = 120;

pub(super) fn run(
    args: &ListArgs,
    common: &Common,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let (access, fleet) = match (&args.fleet.from, &args.run) {
        (Some(from), Some(run)) if run.contains('/') => {
            let (access, fleet) = open_run(from, common, run)?;
            (access, Some(fleet))
        }
        (Some(from), of_box) => {
            check_no_filter(args)?;
            return list_runs(from, of_box.as_deref(), common, out);
        }
        (None, _) => (StoreAccess::open(common, "ls")?, None),
    };
    let run = fleet.as_ref().map_or(args.run.as_deref(), |fleet| Some(fleet.id.as_str()));
    let queries = queries(args, run, &access)?;
    let store = access.config.boot.store.clone();
    let mut n_missing = 0u64;
    // The item to print, if it is wanted.
    let mut look = |mut item: Value| {
        if let Some(fleet) = &fleet {
            fleet.name_item(&mut item);
        }
        let is_wanted = args.conditions.iter().all(|condition| condition.holds(&item));
        // Whether an object exists shows when its picture is asked for.
        if is_wanted && fleet.is_none() && lacks_file(&store, &item) {
            item["file_missing"] = true.into();
            n_missing += 1;
        }
        is_wanted.then_some(item)
    };
    let left_out = if common.json {
        access.each_item_of(&queries, |item| match look(item) {
            Some(item) => Ok(writeln!(out, "{item}")?),
            None => Ok(()),
        })?
    } else {
        let n_left_out = usize::from(args.run.is_some());
        let mut table = Table::new(out, &COLUMNS[n_left_out..]);
        let left_out = access.each_item_of(&queries, |item| match look(item) {
            Some(item) => Ok(table.add(row(&item).into_iter().skip(n_left_out).collect())?),
            None => Ok(()),
        })?;
        table.finish()?;
        left_out
    };
    warn_missing(n_missing);
    let exit_code = fleet.map_or(ExitCode::Done, |fleet| fleet.exit_code);
    Ok(warn_left_out(&left_out, args).or(exit_code))
}

/// Refuses what selects items where runs are listed.
fn check_no_filter(args: &ListArgs) -> anyhow::Result<()> {
    let ListArgs { key, step, state, conditions, .. } = args;
    if key.is_none() && step.is_none() && state.is_none() && conditions.is_empty() {
        return Ok(());
    }
    Err(anyhow!(
        "--from lists the items of one run: name it as BOX/RUN. For items of all runs, query the catalogue with SQL \
         (docs/fleet.md)"
    ))
}

/// The queries for the items that are named: those of a key or, if there is none of that name, of each key below it.
fn queries(
    args: &ListArgs,
    run: Option<&str>,
    access: &StoreAccess,
) -> anyhow::Result<Vec<ItemsQuery>> {
    let (first_step, last_step) = args.step.unwrap_or_default();
    let (key, state) = (args.key.clone(), args.state.map(Into::into));
    let of_run = run.map(str::to_owned);
    let named =
        ItemsQuery { run: of_run, key, first_step, last_step, state, ..ItemsQuery::default() };
    let (Some(run), Some(key)) = (run, &args.key) else { return Ok(vec![named]) };
    let KeysBelow { keys, n } = access.missing(ItemsQuery::of_key(run, key))?.keys_below;
    if keys.is_empty() {
        return Ok(vec![named]);
    }
    let n_more = n - keys.len() as u64;
    if n_more > 0 {
        let keys = count(n_more, "more key");
        drop(writeln!(io::stderr(), "safelight: {keys} below {:?} are not listed", printable(key)));
    }
    let of_key = |key| ItemsQuery { key: Some(key), ..named.clone() };
    Ok(keys.into_iter().map(of_key).collect())
}

/// Whether an image has no media file in the store. A copy of a store that was written meanwhile may lack some.
fn lacks_file(store: &Path, item: &Value) -> bool {
    let is_image = item["state"] == "image" && item["pruned"] != true;
    let Some(path) = item["path"].as_str().filter(|_| is_image) else { return false };
    let is_missing = |error: io::Error| error.kind() == io::ErrorKind::NotFound;
    fs::symlink_metadata(store.join(path)).is_err_and(is_missing)
}

/// Says that images lack their files, if any do.
fn warn_missing(n: u64) {
    if n > 0 {
        let (images, advice) = (count(n, "image"), "safelight verify --repair makes them again");
        // Nobody may read it.
        drop(writeln!(io::stderr(), "safelight: the store lacks the files of {images}: {advice}"));
    }
}

/// Says which runs are left out, and why. The command fails if it names one of them.
fn warn_left_out(runs: &[LeftOutRun], args: &ListArgs) -> ExitCode {
    for run in runs {
        // Nobody may read it.
        drop(writeln!(io::stderr(), "safelight: {}", printable(&run.trouble())));
    }
    let is_named = args.run.is_some() && !runs.is_empty();
    if is_named { ExitCode::Failed } else { ExitCode::Done }
}

/// The cells of an item, for all columns.
fn row(item: &Value) -> [String; COLUMNS.len()] {
    let text = |name: &str| match &item[name] {
        Value::Null => "-".to_owned(),
        Value::String(text) => printable(text),
        other => printable(&other.to_string()),
    };
    let size = if item["width"].is_null() {
        "-".to_owned()
    } else {
        format!("{}×{}", text("width"), text("height"))
    };
    let stats = &item["stats"];
    let range = match (stats["min"].as_f64(), stats["max"].as_f64()) {
        (Some(min), Some(max)) => format!("{}..{}", short(min), short(max)),
        _ => "-".to_owned(),
    };
    [
        text("run"),
        text("key"),
        text("step"),
        text("index"),
        state(item),
        size,
        text("mode"),
        text("rule"),
        range,
        note(item),
    ]
}

/// `missing` for an image without its file, `waiting` for an item that is tried again, else its state.
fn state(item: &Value) -> String {
    let state = match (&item["file_missing"], &item["class"]) {
        (Value::Bool(true), _) => "missing",
        (_, class) if class == "waiting" => "waiting",
        _ => item["state"].as_str().unwrap_or("-"),
    };
    printable(state)
}

/// The caption or reason, then the number of warnings, and of NaN and infinite values.
fn note(item: &Value) -> String {
    let name = if item["state"] == "image" { "caption" } else { "reason" };
    let mut notes = vec![shortened(printable(item[name].as_str().unwrap_or("-")), NOTE_CHARS_MAX)];
    let n_warnings = item["warnings"].as_array().map_or(0, Vec::len);
    if n_warnings > 0 {
        notes.push(format!("({})", count(n_warnings as u64, "warning")));
    }
    let odd = ["nan", "inf"].iter().filter_map(|name| {
        let n = item["stats"][name].as_u64().filter(|n| *n > 0)?;
        Some(format!("{n} {name}"))
    });
    let odd: Vec<String> = odd.collect();
    if !odd.is_empty() {
        notes.push(format!("({})", odd.join(", ")));
    }
    notes.join(" ")
}
