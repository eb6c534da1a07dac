//! What became of each run, for people.

use std::io::Write;
use std::time::Instant;

use anyhow::bail;

use crate::cli::exit::ExitCode;
use crate::cli::format::{bytes, count, items, plural, printable};
use crate::cli::json::{BackfillStatus, BackfilledRun};
use crate::cli::passed_over::print_passed_over;

/// Prints a run.
pub(super) fn print(row: &BackfilledRun, out: &mut impl Write) -> anyhow::Result<()> {
    let name = row.run.as_ref().map_or(row.source.as_str(), |run| run.as_str());
    let name = printable(name);
    let items = items([row.images, row.held, row.rejected]);
    let size = bytes(row.bytes);
    match row.status {
        BackfillStatus::Done => writeln!(out, "{name}: {items}; {size} in {:.2} s", row.seconds)?,
        BackfillStatus::Skipped => writeln!(out, "{name}: done before: {items}; {size}")?,
        BackfillStatus::Pending => writeln!(out, "{name}: to do")?,
        BackfillStatus::Failed => {
            let error = row.error.as_deref().unwrap_or("unknown error");
            writeln!(out, "{name}: failed: {}", printable(error))?;
        }
    }
    if row.skipped.n > 0 {
        let entries = plural(row.skipped.n, "entry", "entries");
        let dumps = count(row.skipped.dumps, "dump");
        writeln!(out, "  skipped {entries} of {dumps} that hold no picture")?;
    }
    for (log, n_bytes) in &row.begun_lines {
        let (log, size) = (printable(log), count(*n_bytes, "byte"));
        writeln!(out, "  {log}: the last line has no newline; its {size} are not read")?;
    }
    print_passed_over(&row.passed_over, "  ", out)
}

/// What became of all runs of a command.
pub(super) struct Totals {
    start: Instant,
    n_runs: usize,
    n_failed: usize,
    n_skipped: usize,
    n_pending: usize,
    /// Images, held and rejected items of the runs that were done now.
    items: [u64; 3],
    bytes: u64,
}

impl Totals {
    /// The totals of this number of runs.
    pub(super) fn new(n_runs: usize) -> Self {
        let start = Instant::now();
        Self { start, n_runs, n_failed: 0, n_skipped: 0, n_pending: 0, items: [0; 3], bytes: 0 }
    }

    /// Adds a run.
    pub(super) fn add(&mut self, row: &BackfilledRun) {
        match row.status {
            BackfillStatus::Done => {
                let of_row = [row.images, row.held, row.rejected];
                self.items.iter_mut().zip(of_row).for_each(|(sum, n)| *sum += n);
                self.bytes += row.bytes;
            }
            BackfillStatus::Skipped => self.n_skipped += 1,
            BackfillStatus::Pending => self.n_pending += 1,
            BackfillStatus::Failed => self.n_failed += 1,
        }
    }

    /// Prints them, if there are several runs.
    pub(super) fn print(&self, out: &mut impl Write) -> anyhow::Result<()> {
        if self.n_runs < 2 {
            return Ok(());
        }
        let runs = count(self.n_runs as u64, "run");
        let others =
            [(self.n_skipped, "done before"), (self.n_pending, "to do"), (self.n_failed, "failed")];
        let others = others.into_iter().filter(|(n, _)| *n > 0);
        let others: Vec<String> = others.map(|(n, what)| format!("{n} {what}")).collect();
        let others =
            if others.is_empty() { String::new() } else { format!(" ({})", others.join(", ")) };
        let (items, size) = (items(self.items), bytes(self.bytes));
        let seconds = self.start.elapsed().as_secs_f64();
        writeln!(out, "{runs}{others}: {items}; {size} in {seconds:.2} s")?;
        Ok(())
    }

    /// How the command ends.
    ///
    /// # Errors
    /// If a run failed.
    pub(super) fn result(&self) -> anyhow::Result<ExitCode> {
        if self.n_failed > 0 {
            bail!("{} of {} failed", self.n_failed, count(self.n_runs as u64, "run"));
        }
        let [_, _, rejected] = self.items;
        Ok(if rejected > 0 { ExitCode::Rejected } else { ExitCode::Done })
    }
}
