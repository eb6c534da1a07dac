//! Applies journal lines: each becomes changes of rows.

use super::blocks::Changes;
use super::rows::{DumpRow, LineRow, LogRow, RejectedRow, Row, RunRow, decode, encode};
use super::{dump_key, item_key, line_key, log_key, rejected_key};
use crate::media::{RunId, State};
use crate::store::journal::{Located, LogCursor, Outline, SourceCursor};

fn dump_row(changes: &mut Changes, run: &RunId, path: &str) -> sled::Result<Option<DumpRow>> {
    let bytes = changes.get(&dump_key(run, path))?;
    Ok(bytes.and_then(|bytes| DumpRow::from_bytes(path, bytes)))
}

/// Applies one line.
pub(super) fn apply_line(
    changes: &mut Changes,
    run: &RunId,
    run_row: &mut RunRow,
    located: &Located<Outline<'_>>,
) -> sled::Result<()> {
    let Located { line, start, length } = located;
    run_row.last_seq = line.seq;
    // The row of the line's dump, which is mostly also the cursor's.
    let mut dump: Option<(&str, DumpRow)> = None;
    if let Some(state) = line.state {
        let row = Row { state, place: *start, length: *length, is_pruned: false };
        // A line without a source's cursor is about a held item that was released. That is no new version
        // of its dump, and the places of the dump's images stay.
        let is_released = matches!(line.cursor.as_deref(), Some(SourceCursor::None));
        let source = line.source.as_ref().filter(|source| source.log.is_none() && !is_released);
        if let Some(path) = source.map(|source| &*source.path) {
            let mut row = dump_row(changes, run, path)?.unwrap_or_default();
            if !row.is_open {
                row.begin();
            }
            dump = Some((path, row));
        }
        let at = line.id();
        if let (State::Image | State::Held, Some((key, step, index))) = (state, at) {
            let before = changes.insert(item_key(run, key, step, index), &encode(&row))?;
            if let Some(before) = before.and_then(|bytes| decode(&bytes)) {
                run_row.uncount(before);
            }
        } else {
            let said = line.key_and_step().map(|(key, step)| (key.as_str(), step));
            changes.insert(rejected_key(run, line.seq), &encode(&RejectedRow { row, said }))?;
        }
        *run_row.count(state) += 1;
        if let Some((_, dump)) = &mut dump {
            match (at, state) {
                (Some((key, step, index)), State::Rejected) => dump.add_rejected(key, step, index),
                (Some((key, step, index)), _) => dump.add(key, step, index),
                _ => {}
            }
            // Rejections of an earlier version no longer count.
            if !dump.is_open {
                for earlier in dump.rejected.drain(..) {
                    if changes.remove(&rejected_key(run, earlier))?.is_some() {
                        run_row.n_rejected -= 1;
                    }
                }
            }
            dump.rejected.extend((state == State::Rejected).then_some(line.seq));
            dump.is_open = line.cursor.is_none();
        }
    }
    if let ("gone", Some((key, step, index))) = (&*line.kind, line.id()) {
        let before = changes.remove(&item_key(run, key, step, index))?;
        if let Some(before) = before.and_then(|bytes| decode(&bytes)) {
            run_row.uncount(before);
        }
        if let Some(path) = line.path.as_deref()
            && let Some(mut row) = dump_row(changes, run, path)?
        {
            row.end_at(key, step, index);
            dump = Some((path, row));
        }
    }
    if let ("pruned", Some((key, step, index)), Some(place)) = (&*line.kind, line.id(), line.place)
    {
        let item_key = item_key(run, key, step, index);
        let before = changes.get(&item_key)?.and_then(decode::<Row>);
        if let Some(before) = before
            && (before.state, before.place, before.is_pruned) == (State::Image, place, false)
        {
            changes.insert(item_key, &encode(&Row { is_pruned: true, ..before }))?;
            run_row.n_pruned += 1;
        }
    }
    run_row.finished |= line.kind == "finish";
    run_row.n_repeated += u64::from(line.kind == "repeated");
    match line.cursor.as_deref() {
        Some(SourceCursor::Log(cursor)) => {
            note_line(changes, run, cursor, located)?;
            changes.set_alone(log_key(run, cursor), encode(&LogRow::from(cursor.clone())));
        }
        Some(SourceCursor::Dump(cursor)) => {
            let mut row = match dump.take() {
                Some((path, row)) if path == cursor.path => row,
                other => {
                    put(changes, run, other)?;
                    dump_row(changes, run, &cursor.path)?.unwrap_or_default()
                }
            };
            row.cursor = Some(cursor.clone());
            row.is_open = false;
            dump = Some((&cursor.path, row));
        }
        Some(SourceCursor::None) | None => {}
    }
    put(changes, run, dump)
}

/// Notes that a line of a log was read. `located` closes the batch of its items.
fn note_line(
    changes: &mut Changes,
    run: &RunId,
    cursor: &LogCursor,
    located: &Located<Outline<'_>>,
) -> sled::Result<()> {
    let (Some(read), Some(generation)) = (&cursor.read, cursor.generation) else { return Ok(()) };
    let Located { line, start, length } = located;
    let key = line_key(run, read);
    let mut row: LineRow = changes.get(&key)?.and_then(decode).unwrap_or_default();
    row.note_read(generation, cursor.line);
    row.n_made += u32::from(line.kind != "repeated");
    if line.state.is_some() {
        row.item = Some((*start, *length));
    }
    changes.insert(key, &encode(&row))?;
    Ok(())
}

fn put(changes: &mut Changes, run: &RunId, dump: Option<(&str, DumpRow)>) -> sled::Result<()> {
    if let Some((path, row)) = dump {
        changes.insert(dump_key(run, path), &row.to_bytes())?;
    }
    Ok(())
}
