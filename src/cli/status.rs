//! `safelight status`.

use std::io::Write;

use super::access::StoreAccess;
use super::args::Common;
use super::common::Commands;
use super::exit::ExitCode;
use super::format::{age, bytes, count, items, printable, skipped_lines};
use super::json;
use super::passed_over::{looked_for, print_passed_over};
use crate::control::protocol::Status;
use crate::ingest::IngestStatus;
use crate::store::{RejectedExample, RejectedItems, RunSummary};
use crate::sync::TargetStatus;

pub(super) fn run(common: &Common, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let access = StoreAccess::open(common, "status")?;
    let status = access.status()?;
    access.close()?;
    if common.json {
        json::print(&status, out)?;
    } else {
        print(&status, common, out)?;
    }
    Ok(ExitCode::Done)
}

fn print(status: &Status, common: &Common, out: &mut impl Write) -> anyhow::Result<()> {
    match status.pid {
        Some(pid) => writeln!(out, "daemon    running, process {pid}, version {}", status.version)?,
        None => writeln!(out, "daemon    not running")?,
    }
    let commands = common.commands();
    writeln!(out, "store     {}", status.store.display())?;
    if let Some(file) = common.config_path() {
        writeln!(out, "config    {}", file.display())?;
    }
    writeln!(out, "items     {}", items([status.image, status.held, status.rejected]))?;
    if let Some(waiting) = &status.waiting {
        let is_tried = if waiting.n == 1 { "is tried" } else { "are tried" };
        let items = count(waiting.n, "rejected item");
        let when = format!("when a file or a limit changes, or by {}", commands.line("release"));
        let list = commands.line("ls --state waiting");
        writeln!(out, "waiting   {items} {is_tried} again {when}; list: {list}")?;
        print_examples(waiting, out)?;
    }
    if let Some(rejected) = &status.rejected_for_good {
        let is_tried = if rejected.n == 1 { "is not tried" } else { "are not tried" };
        let items = count(rejected.n, "item");
        let list = commands.line("ls --state rejected");
        let unless = "unless a dump is written anew";
        writeln!(out, "rejected  {items} {is_tried} again {unless}; list: {list}")?;
        print_examples(rejected, out)?;
    }
    for left_out in &status.left_out {
        writeln!(out, "error     {}", printable(&left_out.trouble()))?;
    }
    if let Some(trouble) = status.media.trouble() {
        writeln!(out, "error     {}", printable(&trouble))?;
    }
    if let Some(ingest) = &status.ingest {
        print_ingest(ingest, out)?;
    }
    if status.targets.is_empty() {
        writeln!(out, "targets   none configured")?;
    }
    status.targets.iter().try_for_each(|target| print_target(target, &commands, out))?;
    status.runs.iter().try_for_each(|run| print_run(run, out))
}

fn print_examples(items: &RejectedItems, out: &mut impl Write) -> anyhow::Result<()> {
    for RejectedExample { run, what, reason } in &items.examples {
        let (source, reason) = (printable(&format!("{run} {what}")), printable(reason));
        writeln!(out, "          {source}: {reason}")?;
    }
    Ok(())
}

fn print_ingest(ingest: &IngestStatus, out: &mut impl Write) -> anyhow::Result<()> {
    for root in &ingest.watching {
        let (runs, folders) = (count(root.n_runs, "run"), count(root.n_folders, "folder"));
        let problem = root.problem.as_deref().map(printable);
        let problem = problem.map_or_else(String::new, |problem| format!(": {problem}"));
        let (path, backend) = (root.path.display(), &root.backend);
        writeln!(out, "watching  {path} ({backend}): {runs}, {folders}{problem}")?;
        if root.n_runs_without_input > 0 {
            let (n, examples) = (root.n_runs_without_input, root.runs_without_input.join(", "));
            let (has, more) = (if n == 1 { "has" } else { "have" }, if n > 3 { ", …" } else { "" });
            let (runs, examples) = (count(n, "run"), printable(&examples));
            let [logs, dumps] = looked_for(root);
            writeln!(out, "          {runs} {has} neither {logs} nor {dumps}: {examples}{more}")?;
        }
        print_passed_over(&root.passed_over, "          ", out)?;
    }
    let backlog = [
        (ingest.log_bytes_behind, "log byte", "to read"),
        (ingest.n_in_flight, "item", "in progress"),
        (ingest.n_settling, "dump", "settling"),
    ];
    let backlog: Vec<String> = backlog
        .iter()
        .filter(|(n, ..)| *n > 0)
        .map(|&(n, noun, state)| format!("{} {state}", count(n, noun)))
        .collect();
    let backlog = if backlog.is_empty() { "none".to_owned() } else { backlog.join(", ") };
    writeln!(out, "backlog   {backlog}")?;
    for waiting in &ingest.waiting {
        let (run, what) = (printable(waiting.run.as_str()), printable(&waiting.what));
        let (reason, waited) = (printable(&waiting.reason), age(waiting.waited_s));
        writeln!(out, "waiting   {run} {what} (for {waited}): {reason}")?;
    }
    for line in skipped_lines(&ingest.skipped) {
        writeln!(out, "{line}")?;
    }
    if let Some(trouble) = &ingest.trouble {
        writeln!(out, "error     cannot write: {}", printable(trouble))?;
    }
    Ok(())
}

/// A target: what it has, what it lacks, and what is wrong.
pub(super) fn print_target(
    view: &TargetStatus,
    commands: &Commands,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let TargetStatus { name, kind, pending, pending_bytes, oldest_s, delivered, .. } = view;
    write!(out, "target    {name} ({kind}): {} delivered", count(*delivered, "item"))?;
    if *pending > 0 {
        write!(out, ", {} pending ({}", count(*pending, "item"), bytes(*pending_bytes))?;
        if let Some(oldest_s) = oldest_s {
            write!(out, ", oldest {} ago", age(*oldest_s))?;
        }
        write!(out, ")")?;
    }
    if view.set_aside > 0 {
        write!(out, ", {} parked", count(view.set_aside, "image"))?;
    }
    writeln!(out)?;
    if view.refused > 0 {
        let refused = count(view.refused, "image");
        let retry = commands.line(&format!("retry {name}"));
        writeln!(out, "          {refused} rejected by the target; retry with: {retry}")?;
    }
    for reason in &view.reasons {
        writeln!(out, "          parked: {}", printable(reason))?;
    }
    if let Some(trouble) = &view.trouble {
        let next = view.next_try_s.map(|seconds| format!(", next try in {}", age(seconds)));
        writeln!(out, "          error: {}{}", printable(trouble), next.unwrap_or_default())?;
    }
    Ok(())
}

fn print_run(run: &RunSummary, out: &mut impl Write) -> anyhow::Result<()> {
    let (name, items) = (printable(run.run.as_str()), items([run.image, run.held, run.rejected]));
    write!(out, "run       {name}: {items}")?;
    if run.waiting > 0 {
        write!(out, " ({} waiting)", indicatif::HumanCount(run.waiting))?;
    }
    if run.finished {
        write!(out, ", finished")?;
    }
    if run.repeated > 0 {
        write!(out, ", {} read before", count(run.repeated, "log line"))?;
    }
    if run.superseded > 0 {
        write!(out, ", {} of earlier sessions", count(run.superseded, "log line"))?;
    }
    if run.damaged > 0 {
        write!(out, ", {} damaged", count(run.damaged, "journal line"))?;
    }
    Ok(writeln!(out)?)
}
