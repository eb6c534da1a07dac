//! Repairs media files by the engine.

use crossbeam_channel::{Sender, bounded};

use crate::control::protocol::RepairQuery;
use crate::ingest::{Command, RepairRequest, RepairResult};

/// Repairs the files of images, and waits until that is done.
///
/// # Errors
/// If another repair is under way, or the daemon is busy or stops. The error is for people.
pub(super) fn repair(
    commands: &Sender<Command>,
    query: RepairQuery,
) -> Result<Vec<RepairResult>, String> {
    let RepairQuery { run, images } = query;
    let (reply, answer) = bounded(1);
    let request = RepairRequest { run, images, watches: Vec::new(), reply };
    let busy = |_| "the daemon is busy with earlier requests: try again later".to_owned();
    commands.try_send(Command::Repair(request)).map_err(busy)?;
    answer.recv().map_err(|_| "the daemon is stopping: run the repair again".to_owned())?
}
