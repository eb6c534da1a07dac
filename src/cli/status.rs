//! `safelight status`.

use std::io::Write;

use anyhow::Context;

use super::{Access, Common, Ending, counts, printable, thousands};
use crate::control::client::Client;
use crate::control::protocol::{STATUS_PATH, Status};
use crate::sync;

pub(super) fn run(common: &Common, out: &mut impl Write) -> anyhow::Result<Ending> {
    let (mut access, config) = common.access("status")?;
    let status = match &mut access {
        Access::Daemon(client) => ask(client)?,
        Access::Store(_, reader) => {
            let targets = sync::views(reader, &config.live.targets)?;
            Status::new(config.boot.store, reader.runs()?, None, targets)
        }
    };
    access.close()?;
    if common.json {
        writeln!(out, "{}", serde_json::to_value(&status)?)?;
    } else {
        print(&status, out)?;
    }
    Ok(Ending::Done)
}

pub(super) fn ask(client: &mut Client) -> anyhow::Result<Status> {
    let mut answer = String::new();
    client.get(STATUS_PATH, |line| {
        answer.push_str(line);
        Ok::<_, anyhow::Error>(())
    })?;
    serde_json::from_str(&answer).context("the daemon's answer is no status")
}

fn print(status: &Status, out: &mut impl Write) -> anyhow::Result<()> {
    match (status.pid, &status.ingest) {
        (Some(pid), Some(_)) => {
            writeln!(out, "daemon    runs as process {pid}, version {}", status.version)?;
        }
        _ => writeln!(out, "daemon    does not run on this store")?,
    }
    writeln!(out, "store     {}", status.store.display())?;
    writeln!(out, "kept      {}", counts([status.image, status.held, status.rejected]))?;
    if let Some(view) = &status.ingest {
        for root in &view.watching {
            let problem = root
                .problem
                .as_ref()
                .map_or_else(String::new, |problem| format!(": {}", printable(problem)));
            let (path, backend) = (root.path.display(), &root.backend);
            writeln!(
                out,
                "watching  {path}  {} runs, {} folders by {backend}{problem}",
                root.n_runs, root.n_folders
            )?;
        }
        let behind = [
            (view.log_bytes_behind, "bytes of logs to read"),
            (view.n_in_flight, "lines and dumps being worked on"),
            (view.n_settling, "dumps settling"),
        ];
        let behind: Vec<String> = behind
            .iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, what)| format!("{} {what}", thousands(*n)))
            .collect();
        writeln!(
            out,
            "behind    {}",
            if behind.is_empty() { "nothing to do".to_owned() } else { behind.join(", ") }
        )?;
        for waiting in &view.waiting {
            writeln!(
                out,
                "waiting   {} {}: {}",
                printable(waiting.run.as_str()),
                printable(&waiting.what),
                printable(&waiting.reason)
            )?;
        }
        if let Some(trouble) = &view.trouble {
            writeln!(out, "trouble   cannot write: {trouble}")?;
        }
    }
    if status.targets.is_empty() {
        writeln!(out, "targets   none")?;
    }
    for target in &status.targets {
        super::sync::print(target, out)?;
    }
    for run in &status.runs {
        let over = if run.finished { ", finished" } else { "" };
        let damaged = if run.damaged > 0 {
            format!(", {} journal lines damaged", run.damaged)
        } else {
            String::new()
        };
        let counts = counts([run.image, run.held, run.rejected]);
        writeln!(out, "run       {}: {counts}{over}{damaged}", printable(run.run.as_str()))?;
    }
    Ok(())
}
