//! `safelight reindex`: rebuilds the index from the journals.

use std::io::{self, Write};

use super::access::{self, HELD_MAX};
use super::args::Common;
use super::exit::ExitCode;
use super::format::count;
use super::json::{self, Reindexed};
use super::privileges::act_as_owner_of;
use crate::store;

pub(super) fn run(common: &Common, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    crate::logging::start_for_command(io::stderr);
    let path = common.config()?.boot.store;
    access::check_store(&path)?;
    act_as_owner_of(&path)?;
    let holder = access::holder("reindex");
    store::remove_index(&path, &holder, HELD_MAX)?;
    let (writer, reader) = store::open(&path, &holder, HELD_MAX)?;
    let runs = reader.runs()?;
    writer.close()?;
    let n_items: u64 = runs.iter().map(|run| run.image + run.held + run.rejected).sum();
    if common.json {
        json::print(&Reindexed { runs, items: n_items }, out)?;
    } else {
        let (runs, items) = (count(runs.len() as u64, "run"), count(n_items, "item"));
        writeln!(out, "rebuilt the index of {}: {runs}, {items}", path.display())?;
    }
    Ok(ExitCode::Done)
}
