//! `safelight release`: images that were held back and that the limits admit by now.

use std::io::Write;

use anyhow::{Context, anyhow};
use clap::Args;
use crossbeam_channel::bounded;
use hyper::Method;

use super::items::{Steps, check_run, steps};
use super::{Access, Common, Ending, printable, thousands};
use crate::config::Config;
use crate::control::client::Client;
use crate::control::protocol::{RELEASE_PATH, ReleaseQuery};
use crate::ingest::{Admitting, Command, Engine, Mode, ReleaseReport, ReleaseRequest, Shared};
use crate::store::{Filter, Reader, Writer};

#[derive(Debug, Args)]
pub(super) struct ReleaseArgs {
    /// Of this run only
    run: Option<String>,
    /// Of this key only
    key: Option<String>,
    /// Of these steps only: 120, 100..200 (both included), 100.. or ..200
    #[arg(long, value_name = "A..B", value_parser = steps)]
    step: Option<Steps>,
}

pub(super) fn run(
    args: &ReleaseArgs,
    common: &Common,
    out: &mut impl Write,
) -> anyhow::Result<Ending> {
    let (access, config) = common.access("release")?;
    let (first_step, last_step) = args.step.unwrap_or_default();
    let (run, key) = (args.run.clone(), args.key.clone());
    let query = ReleaseQuery { run, key, first_step, last_step, goes_on: false };
    let wanted = Admitting::from(&config.live.limits);
    let report = match access {
        Access::Daemon(mut client) => {
            if let Some(run) = &args.run {
                check_run(&super::status::ask(&mut client)?.runs, run)?;
            }
            ask(&mut client, query)?
        }
        Access::Store(writer, reader) => {
            if let Some(run) = &args.run {
                check_run(&reader.runs()?, run)?;
            }
            release(*writer, reader, config, query.try_into()?)?
        }
    };
    if common.json {
        writeln!(out, "{}", serde_json::to_value(&report)?)?;
    } else {
        print(&report, out)?;
        if report.limits != wanted {
            writeln!(
                out,
                "the daemon goes by other limits than the configuration has by now: `safelight reload` has it take them up"
            )?;
        }
    }
    Ok(if report.failed > 0 { Ending::Failed } else { Ending::Done })
}

/// Has the daemon do it.
fn ask(client: &mut Client, query: ReleaseQuery) -> anyhow::Result<ReleaseReport> {
    let mut query = query;
    loop {
        let path = format!("{RELEASE_PATH}?{}", serde_urlencoded::to_string(&query)?);
        let mut answer = String::new();
        client.ask(&Method::POST, &path, |line| {
            answer.push_str(line);
            Ok::<_, anyhow::Error>(())
        })?;
        if !answer.is_empty() {
            return serde_json::from_str(&answer).context("the daemon's answer is no report");
        }
        // It is not done yet.
        query.goes_on = true;
        client.connect_again()?;
    }
}

/// Does it with the store that this command holds: the engine reads nothing else.
fn release(
    writer: Writer,
    reader: Reader,
    mut config: Config,
    filter: Filter,
) -> anyhow::Result<ReleaseReport> {
    let watches = std::mem::take(&mut config.live.watches);
    let shared = Shared::default();
    let engine = Engine::new(Mode::Once, config, writer, reader, shared.clone())?;
    let (commands, commands_in) = bounded(1);
    let (reply, answer) = bounded(1);
    commands.send(Command::Release(ReleaseRequest { filter, watches, reply }))?;
    let writer = engine.run(&commands_in)?.ok_or_else(|| anyhow!("the commit thread died"))?;
    writer.close()?;
    let report = answer.try_recv().map_err(|_| {
        anyhow!("not all was looked at: {}", shared.ingest_status().problems.join("; "))
    })?;
    report.map_err(|reason| anyhow!(reason))
}

fn print(report: &ReleaseReport, out: &mut impl Write) -> anyhow::Result<()> {
    for of in &report.keys {
        let place = printable(&format!("{} {}", of.run, of.key));
        let n_stay: u64 = of.held.values().chain(of.failed.values()).sum();
        let stay = match n_stay {
            0 => String::new(),
            1 => ", 1 stays held".to_owned(),
            n => format!(", {} stay held", thousands(n)),
        };
        let is_any = if n_stay > 0 { ":" } else { "" };
        writeln!(out, "{place}: {} released{stay}{is_any}", thousands(of.released))?;
        for (reason, n) in of.held.iter().chain(&of.failed) {
            writeln!(out, "  {}: {}", thousands(*n), printable(reason))?;
        }
    }
    if report.keys.is_empty() {
        writeln!(out, "nothing is held back")?;
    }
    Ok(())
}
