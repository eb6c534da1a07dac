//! `safelight ls`.

use std::io::Write;

use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::condition::Condition;
use super::{Access, Common, Ending, printable};
use crate::control::protocol::{ITEMS_PATH, ItemsQuery};
use crate::media::{State, shortened};
use crate::store::{Filter, RunSummary};

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Of this run only
    run: Option<String>,
    /// Of this key only
    key: Option<String>,
    /// Of these steps only: 120, 100..200 (both included), 100.. or ..200
    #[arg(long, value_name = "A..B", value_parser = steps)]
    step: Option<Steps>,
    /// In this state only
    #[arg(long)]
    state: Option<StateArg>,
    /// Only items that fulfil this, such as 'nan>0', 'std<0.01', mode=RGB or caption~car; several
    /// must all hold
    #[arg(long = "where", value_name = "CONDITION")]
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum StateArg {
    Image,
    Held,
    Rejected,
}

/// The first and the last one.
pub(super) type Steps = (Option<u64>, Option<u64>);

pub(super) fn steps(text: &str) -> Result<Steps, String> {
    let number = |text: &str| {
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| {
            format!("got {text:?}, want a step, such as 120, or steps, such as 100..200")
        })
    };
    match text.split_once("..") {
        None => number(text).map(|step| (step, step)),
        Some((first, last)) => Ok((number(first)?, number(last)?)),
    }
}

impl Access {
    /// Hands each item that the query lets through to `see`, whoever answers for the store being let go
    /// of first: a pager may read for hours.
    ///
    /// # Errors
    /// If there is nothing and not even the run.
    pub(super) fn each_item(
        self,
        query: ItemsQuery,
        mut see: impl FnMut(Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let run = query.run.clone();
        let mut n_seen = 0u64;
        let runs = match self {
            Self::Daemon(mut client) => {
                let path = format!("{ITEMS_PATH}?{}", serde_urlencoded::to_string(&query)?);
                client.get(&path, |line| {
                    n_seen += 1;
                    see(serde_json::from_str(line).context("the daemon's answer is no item")?)
                })?;
                if n_seen > 0 { Vec::new() } else { super::status::ask(&mut client)?.runs }
            }
            Self::Store(writer, reader) => {
                let items = reader.snapshot(&Filter::try_from(query)?)?;
                let runs = reader.runs()?;
                drop(reader);
                writer.close()?;
                for item in items {
                    n_seen += 1;
                    let (run, entry) = item?;
                    see(entry.to_json(&run))?;
                }
                runs
            }
        };
        match run {
            Some(run) if n_seen == 0 => check_run(&runs, &run),
            _ => Ok(()),
        }
    }
}

pub(super) fn list(
    args: &ListArgs,
    common: &Common,
    out: &mut impl Write,
) -> anyhow::Result<Ending> {
    let (access, _) = common.access("ls")?;
    let (first_step, last_step) = args.step.unwrap_or_default();
    let state = args.state.map(|state| match state {
        StateArg::Image => State::Image,
        StateArg::Held => State::Held,
        StateArg::Rejected => State::Rejected,
    });
    let query =
        ItemsQuery { run: args.run.clone(), key: args.key.clone(), first_step, last_step, state };
    let mut table = Table::new(out, args.run.is_none());
    access.each_item(query, |item| {
        if !args.conditions.iter().all(|condition| condition.holds(&item)) {
            return Ok(());
        }
        if common.json { Ok(writeln!(table.out, "{item}")?) } else { table.add(&item) }
    })?;
    table.flush()?;
    Ok(Ending::Done)
}

/// An empty list of a run that isn't there is an error.
pub(super) fn check_run(runs: &[RunSummary], run: &str) -> anyhow::Result<()> {
    if runs.iter().any(|known| known.run.as_str() == run) {
        return Ok(());
    }
    let nearest = runs
        .iter()
        .map(|known| known.run.as_str())
        .min_by_key(|known| strsim::damerau_levenshtein(known, run));
    let advice = nearest.map_or_else(
        || "the store has no runs".to_owned(),
        |near| format!("did you mean {near:?}?"),
    );
    Err(anyhow!("no run {run:?} in the store: {advice}"))
}

/// Items in columns, widths fitted to each page.
struct Table<'a, W: Write> {
    out: &'a mut W,
    with_run: bool,
    rows: Vec<Vec<String>>,
    is_first: bool,
}

/// The longest caption or reason in a row; `show` and `--json` have them whole.
const NOTE_CHARS_MAX: usize = 120;

/// Rows that are fitted together: more would keep a long list waiting.
const PAGE: usize = 500;

impl<'a, W: Write> Table<'a, W> {
    fn new(out: &'a mut W, with_run: bool) -> Self {
        Self { out, with_run, rows: Vec::new(), is_first: true }
    }

    fn add(&mut self, item: &Value) -> anyhow::Result<()> {
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
        let odd: Vec<String> = ["nan", "inf"]
            .iter()
            .filter_map(|name| {
                stats[name].as_u64().filter(|n| *n > 0).map(|n| format!("{n} {name}"))
            })
            .collect();
        let note = if item["state"] == "image" { text("caption") } else { text("reason") };
        let note = shortened(note, NOTE_CHARS_MAX);
        let n_warnings = item["warnings"].as_array().map_or(0, Vec::len);
        let note = match n_warnings {
            0 => note,
            1 => format!("{note} (1 warning)"),
            n => format!("{note} ({n} warnings)"),
        };
        let note = if odd.is_empty() { note } else { format!("{note} ({})", odd.join(", ")) };
        let mut row = if self.with_run { vec![text("run")] } else { Vec::new() };
        row.extend([
            text("key"),
            text("step"),
            text("index"),
            text("state"),
            size,
            text("mode"),
            text("rule"),
            range,
            note,
        ]);
        self.rows.push(row);
        if self.rows.len() == PAGE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut rows = std::mem::take(&mut self.rows);
        if std::mem::take(&mut self.is_first) {
            let names = [
                "RUN",
                "KEY",
                "STEP",
                "INDEX",
                "STATE",
                "SIZE",
                "MODE",
                "RULE",
                "VALUES",
                "CAPTION OR REASON",
            ];
            let names = &names[usize::from(!self.with_run)..];
            rows.insert(0, names.iter().map(|&name| name.to_owned()).collect());
        }
        let width =
            |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
        for row in &rows {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
            writeln!(self.out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// A number in few characters.
fn short(value: f64) -> String {
    if value != 0.0 && !(1e-3..1e6).contains(&value.abs()) {
        return format!("{value:.2e}");
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_one_or_a_range() {
        assert_eq!(steps("120"), Ok((Some(120), Some(120))));
        assert_eq!(steps("100..200"), Ok((Some(100), Some(200))));
        assert_eq!(steps("..7"), Ok((None, Some(7))));
        assert_eq!(steps("7.."), Ok((Some(7), None)));
        assert!(steps("a..b").is_err_and(|error| error.contains("got \"a\"")));
    }

    #[test]
    fn numbers_are_short() {
        for (value, want) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.12345, "0.123"),
            (-254.5, "-254.5"),
            (1e-7, "1.00e-7"),
            (3e9, "3.00e9"),
        ] {
            assert_eq!(short(value), want);
        }
    }
}
