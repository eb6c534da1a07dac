//! `safelight sync` and `safelight retry`.

use std::io::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::access::{Retried, StoreAccess};
use super::args::{Common, RetryArgs, SyncArgs};
use super::exit::ExitCode;
use super::format::{bytes, count, printable};
use super::json::{self, Requeued, Synced};
use super::status::print_target;
use crate::sync::{self, TargetStatus};

/// Delivers to the chosen targets.
pub(super) fn run(
    args: &SyncArgs,
    common: &Common,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let access = StoreAccess::open(common, "sync")?;
    let configs = sync::choose(&access.config.live.targets, &args.targets)?;
    if configs.is_empty() {
        access.close()?;
        if common.json {
            print(&[], common, out)?;
        } else {
            writeln!(out, "no target is configured: add [sync.NAME] to the configuration")?;
        }
        return Ok(ExitCode::Done);
    }
    if args.dry_run {
        let views = access.targets(&configs)?;
        access.close()?;
        print_dry_run(&views, common, out)?;
        return Ok(ExitCode::Done);
    }
    let spinner = spinner();
    let delivered = access.deliver(configs, args.once, |views| show(&spinner, views))?;
    spinner.finish_and_clear();
    access.close()?;
    let is_done = delivered.iter().all(|(_, is_done)| *is_done);
    let views: Vec<TargetStatus> = delivered.into_iter().map(|(view, _)| view).collect();
    print(&views, common, out)?;
    let is_rejected = views.iter().any(|view| view.set_aside > 0);
    Ok(match (is_done, is_rejected) {
        (false, _) => ExitCode::Failed,
        (true, true) => ExitCode::Rejected,
        (true, false) => ExitCode::Done,
    })
}

/// Retries the parked items of the chosen targets.
pub(super) fn retry(
    args: &RetryArgs,
    common: &Common,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let access = StoreAccess::open(common, "retry")?;
    let configs = sync::choose(&access.config.live.targets, &args.targets)?;
    let retried = access.retry(&configs)?;
    access.close()?;
    match retried {
        Retried::Now(views) => print(&views, common, out)?,
        Retried::AtNextSync(items) if common.json => json::print(&Requeued { items }, out)?,
        Retried::AtNextSync(items) => {
            writeln!(out, "the next sync retries {}", count(items, "parked item"))?;
        }
    }
    Ok(ExitCode::Done)
}

/// Progress on a terminal; prints nothing elsewhere.
fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg}");
    let spinner = ProgressBar::new_spinner()
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    // The status changes rarely while a retry is pending.
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

fn show(spinner: &ProgressBar, views: &[TargetStatus]) {
    let of = |view: &TargetStatus| {
        let trouble = view.trouble.as_deref().map(|trouble| format!(" ({})", printable(trouble)));
        let pending = count(view.pending, "item");
        format!("{}: {pending} pending{}", view.name, trouble.unwrap_or_default())
    };
    spinner.set_message(views.iter().map(of).collect::<Vec<_>>().join("; "));
}

fn print(views: &[TargetStatus], common: &Common, out: &mut impl Write) -> anyhow::Result<()> {
    if common.json {
        json::print(&Synced { targets: views }, out)
    } else {
        let commands = common.commands();
        views.iter().try_for_each(|view| print_target(view, &commands, out))
    }
}

/// What a delivery would send to each target.
fn print_dry_run(
    views: &[TargetStatus],
    common: &Common,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    if common.json {
        return print(views, common, out);
    }
    for TargetStatus { name, kind, pending, pending_bytes, .. } in views {
        let (items, size) = (count(*pending, "item"), bytes(*pending_bytes));
        writeln!(out, "target    {name} ({kind}): would get {items} ({size})")?;
    }
    Ok(())
}
