//! `safelight ls`.

use std::io::{self, Write};

use serde_json::Value;

use super::access::StoreAccess;
use super::args::{Common, ListArgs};
use super::exit::ExitCode;
use super::format::{Table, count, printable, short};
use crate::control::protocol::ItemsQuery;
use crate::media::shortened;
use crate::store::LeftOutRun;

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
    let access = StoreAccess::open(common, "ls")?;
    let (first_step, last_step) = args.step.unwrap_or_default();
    let (run, key) = (args.run.clone(), args.key.clone());
    let state = args.state.map(Into::into);
    let query = ItemsQuery { run, key, first_step, last_step, state, ..ItemsQuery::default() };
    let is_wanted = |item: &Value| args.conditions.iter().all(|condition| condition.holds(item));
    if common.json {
        let left_out = access.each_item(query, |item| {
            if is_wanted(&item) { Ok(writeln!(out, "{item}")?) } else { Ok(()) }
        })?;
        return Ok(warn_left_out(&left_out, args));
    }
    let n_left_out = usize::from(args.run.is_some());
    let mut table = Table::new(out, &COLUMNS[n_left_out..]);
    let left_out = access.each_item(query, |item| {
        let is_wanted = is_wanted(&item);
        let cells = || row(&item).into_iter().skip(n_left_out).collect();
        if is_wanted { Ok(table.add(cells())?) } else { Ok(()) }
    })?;
    table.finish()?;
    Ok(warn_left_out(&left_out, args))
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
        if item["class"] == "waiting" { text("class") } else { text("state") },
        size,
        text("mode"),
        text("rule"),
        range,
        note(item),
    ]
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
