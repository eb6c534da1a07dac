//! Counts, sizes, ages and tables for people.

use std::io::{self, Write};
use std::time::Duration;

use indicatif::{DecimalBytes, HumanCount, HumanDuration};

use crate::ingest::{SkippedEntries, SkippedOfDump};

/// A count with its noun: `1 image`, `1,234 images`.
pub(super) fn count(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", HumanCount(n), if n == 1 { "" } else { "s" })
}

/// The number of images, held images and rejected lines or dumps.
pub(super) fn items([image, held, rejected]: [u64; 3]) -> String {
    format!(
        "{}, {} held back, {} rejected",
        count(image, "image"),
        HumanCount(held),
        HumanCount(rejected)
    )
}

/// A size: `22.90 MB`.
pub(super) fn bytes(n: u64) -> String {
    DecimalBytes(n).to_string()
}

/// A duration in its largest unit: `3 minutes`. A clock that was set back makes it 0.
pub(super) fn age(seconds: f64) -> String {
    HumanDuration(Duration::try_from_secs_f64(seconds).unwrap_or_default()).to_string()
}

/// Text that data decides, safe for a terminal and on one line.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect()
}

/// Prints warnings to standard error.
pub(super) fn warn(warnings: &[String]) {
    for warning in warnings {
        // Nobody may read it.
        drop(writeln!(io::stderr(), "safelight: {}", printable(warning)));
    }
}

/// A number in few characters.
pub(super) fn short(value: f64) -> String {
    if value != 0.0 && !(1e-3..1e6).contains(&value.abs()) {
        return format!("{value:.2e}");
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// How many rows have common column widths: more would delay the start of a long list.
const PAGE: usize = 500;

/// Rows in columns whose widths fit each page.
pub(super) struct Table<'a, W: Write> {
    out: &'a mut W,
    rows: Vec<Vec<String>>,
    is_empty: bool,
}

impl<'a, W: Write> Table<'a, W> {
    /// A table with these column names. It is empty, and prints nothing, until a row is added.
    pub(super) fn new(out: &'a mut W, names: &[&str]) -> Self {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        Self { out, rows: vec![names], is_empty: true }
    }

    /// Adds a row with a cell for each column.
    pub(super) fn add(&mut self, row: Vec<String>) -> io::Result<()> {
        self.is_empty = false;
        self.rows.push(row);
        if self.rows.len() > PAGE { self.print_page() } else { Ok(()) }
    }

    /// Prints the last page.
    pub(super) fn finish(mut self) -> io::Result<()> {
        if self.is_empty { Ok(()) } else { self.print_page() }
    }

    fn print_page(&mut self) -> io::Result<()> {
        let rows = std::mem::take(&mut self.rows);
        let n_columns = rows.first().map_or(0, Vec::len);
        let width =
            |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..n_columns).map(width).collect();
        for row in &rows {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
            writeln!(self.out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// The most dumps with skipped entries that are printed.
const SKIPPED_SHOWN: usize = 3;

/// Describes the entries of dumps that hold no picture, and says what follows from them. Nothing if there are
/// none.
pub(super) fn skipped_lines(skipped: &SkippedEntries) -> Vec<String> {
    if skipped.n == 0 {
        return Vec::new();
    }
    let (entries, dumps) = (plural(skipped.n, "entry", "entries"), count(skipped.dumps, "dump"));
    let mut lines = vec![format!(
        "skipped   {entries} of {dumps} without a picture; retention keeps such dumps, unless \
         [retention] skipped = \"remove\""
    )];
    let last = skipped.examples.iter().rev().take(SKIPPED_SHOWN);
    lines.extend(last.map(|SkippedOfDump { run, dump, entries }| {
        format!("          {}: {}", printable(&format!("{run}/{dump}")), printable(entries))
    }));
    lines
}

/// A number with a noun whose plural is given.
pub(super) fn plural(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", HumanCount(n), if n == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_sizes_and_ages_are_short() {
        assert_eq!(count(1, "run"), "1 run");
        assert_eq!(count(1_234_567, "run"), "1,234,567 runs");
        assert_eq!(items([1, 0, 2000]), "1 image, 0 held back, 2,000 rejected");
        assert_eq!(bytes(22_900_000), "22.90 MB");
        assert_eq!(age(185.0), "3 minutes");
        assert_eq!(age(-5.0), "0 seconds");
        assert_eq!(printable("a\nb\u{9b}c"), "a\u{FFFD}b\u{FFFD}c");
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

    #[test]
    fn a_table_names_its_columns_once_and_prints_nothing_without_rows() {
        let print = |n_rows: usize| {
            let mut out = Vec::new();
            let mut table = Table::new(&mut out, &["KEY", "STEP"]);
            for step in 0..n_rows {
                table.add(vec!["k".to_owned(), step.to_string()]).expect("a write to memory");
            }
            table.finish().expect("a write to memory");
            String::from_utf8(out).expect("text")
        };
        assert_eq!(print(0), "");
        assert_eq!(print(1), "KEY  STEP\nk    0\n");
        for n_rows in [PAGE - 1, PAGE, PAGE + 1, 2 * PAGE] {
            let text = print(n_rows);
            assert_eq!((text.lines().count(), text.matches("KEY").count()), (n_rows + 1, 1));
        }
    }
}
