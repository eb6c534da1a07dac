//! `safelight sync` and `safelight retry`.

use std::io::Write;

use anyhow::Context;
use clap::Args;
use hyper::Method;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Access, Common, Ending, printable, thousands};
use crate::control::client::Client;
use crate::control::protocol::{SYNC_PATH, SyncQuery};
use crate::sync::{self, TargetView};

#[derive(Debug, Args)]
pub(super) struct SyncArgs {
    /// The targets [default: all of the configuration]
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// Deliver what there is, and end: for cron. Without it, what comes later is delivered too
    #[arg(long)]
    once: bool,
    /// Say what would be delivered
    #[arg(long, conflicts_with = "once")]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct RetryArgs {
    /// The targets [default: all of the configuration]
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

/// Delivers, or has the daemon do it.
pub(super) fn run(
    args: &SyncArgs,
    common: &Common,
    out: &mut impl Write,
) -> anyhow::Result<Ending> {
    let (mut access, config) = common.access("sync")?;
    let configs = sync::choose(&config.live.targets, &args.targets)?;
    if configs.is_empty() {
        writeln!(out, "no target is configured: see [sync.NAME] in config/safelight.toml")?;
        access.close()?;
        return Ok(Ending::Done);
    }
    let names = || configs.iter().map(|config| config.name.clone()).collect::<Vec<_>>();
    let ended: Vec<(TargetView, bool)> = match &mut access {
        Access::Daemon(client) if args.dry_run => {
            let views = super::status::ask(client)?.targets.into_iter();
            let is_chosen = |view: &TargetView| configs.iter().any(|c| c.name == view.name);
            return print_dry_run(&views.filter(is_chosen).collect::<Vec<_>>(), common, out);
        }
        Access::Store(_, reader) if args.dry_run => {
            let views = sync::views(reader, &configs)?;
            access.close()?;
            return print_dry_run(&views, common, out);
        }
        // It goes on by itself.
        Access::Daemon(client) => {
            let views = ask(client, &names(), false)?;
            let is_done = |view: &TargetView| view.pending == 0 && view.trouble.is_none();
            views.into_iter().map(|view| (view.clone(), is_done(&view))).collect()
        }
        Access::Store(_, reader) => {
            let bar = bar();
            let ended = sync::deliver(reader, configs, args.once, |views| show(&bar, views))?;
            bar.finish_and_clear();
            ended
        }
    };
    access.close()?;
    let views: Vec<TargetView> = ended.iter().map(|(view, _)| view.clone()).collect();
    print_all(&views, common, out)?;
    let is_done = ended.iter().all(|(_, is_done)| *is_done);
    let is_refused = views.iter().any(|view| view.set_aside > 0);
    Ok(match (is_done, is_refused) {
        (false, _) => Ending::Failed,
        (true, true) => Ending::Rejected,
        (true, false) => Ending::Done,
    })
}

/// Has what is set aside tried again: by the daemon now, else the next time that is delivered.
pub(super) fn retry(
    args: &RetryArgs,
    common: &Common,
    out: &mut impl Write,
) -> anyhow::Result<Ending> {
    let (mut access, config) = common.access("retry")?;
    let configs = sync::choose(&config.live.targets, &args.targets)?;
    match &mut access {
        Access::Daemon(client) => {
            let names: Vec<String> = configs.into_iter().map(|config| config.name).collect();
            print_all(&ask(client, &names, true)?, common, out)?;
        }
        Access::Store(_, reader) => {
            let n = sync::retry(reader, &configs)?;
            if common.json {
                writeln!(out, "{}", serde_json::json!({"items": n}))?;
            } else {
                writeln!(out, "{} items are tried again at the next sync", thousands(n))?;
            }
        }
    }
    access.close()?;
    Ok(Ending::Done)
}

fn ask(client: &mut Client, names: &[String], retry: bool) -> anyhow::Result<Vec<TargetView>> {
    let query = SyncQuery { targets: names.join(","), retry };
    let path = format!("{SYNC_PATH}?{}", serde_urlencoded::to_string(&query)?);
    let mut answer = String::new();
    client.ask(&Method::POST, &path, |line| {
        answer.push_str(line);
        Ok::<_, anyhow::Error>(())
    })?;
    serde_json::from_str(&answer).context("the daemon's answer tells of no targets")
}

/// How far it is, for whoever waits at a terminal.
fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg}");
    ProgressBar::new_spinner()
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

fn show(bar: &ProgressBar, views: &[TargetView]) {
    let of = |view: &TargetView| {
        let trouble = view
            .trouble
            .as_deref()
            .map_or_else(String::new, |trouble| format!(" ({})", printable(trouble)));
        format!("{}: {} to go{trouble}", view.name, thousands(view.pending))
    };
    bar.set_message(views.iter().map(of).collect::<Vec<_>>().join("; "));
    bar.tick();
}

fn print_all(views: &[TargetView], common: &Common, out: &mut impl Write) -> anyhow::Result<()> {
    if common.json {
        writeln!(out, "{}", serde_json::json!({"targets": views}))?;
    } else {
        views.iter().try_for_each(|view| print(view, out))?;
    }
    Ok(())
}

/// A target, for eyes.
pub(super) fn print(view: &TargetView, out: &mut impl Write) -> anyhow::Result<()> {
    let TargetView { name, kind, pending, pending_bytes, oldest_s, delivered, .. } = view;
    write!(out, "target    {name} ({kind}): {} delivered", thousands(*delivered))?;
    if *pending > 0 {
        write!(out, ", {} pending ({})", thousands(*pending), megabytes(*pending_bytes))?;
        if let Some(age) = oldest_s {
            write!(out, ", the oldest kept {} ago", age_for_eyes(*age))?;
        }
    }
    if view.set_aside > 0 {
        write!(out, ", {} set aside", thousands(view.set_aside))?;
        if view.refused > 0 {
            write!(out, " ({} of them for good: safelight retry {name})", thousands(view.refused))?;
        }
    }
    writeln!(out)?;
    for reason in &view.reasons {
        writeln!(out, "          set aside: {}", printable(reason))?;
    }
    if let Some(trouble) = &view.trouble {
        let next = view.next_try_s.map_or_else(String::new, |s| format!(", next try in {s:.0} s"));
        writeln!(out, "          trouble: {}{next}", printable(trouble))?;
    }
    Ok(())
}

/// What each target would get.
fn print_dry_run(
    views: &[TargetView],
    common: &Common,
    out: &mut impl Write,
) -> anyhow::Result<Ending> {
    if common.json {
        print_all(views, common, out)?;
        return Ok(Ending::Done);
    }
    for TargetView { name, kind, pending, pending_bytes, .. } in views {
        let (n, bytes) = (thousands(*pending), megabytes(*pending_bytes));
        writeln!(out, "target    {name} ({kind}): would get {n} images ({bytes})")?;
    }
    Ok(Ending::Done)
}

/// Bytes for eyes.
fn megabytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "for eyes")]
    let megabytes = bytes as f64 / 1e6;
    format!("{megabytes:.1} MB")
}

/// A time for eyes.
fn age_for_eyes(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}
