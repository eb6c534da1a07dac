//! Applies journal lines: each becomes changes of rows.

use super::blocks::Changes;
use super::rows::{
    DumpRow, LineRow, LogRow, Mark, RejectedRow, Row, RunRow, WaitingRow, decode, encode,
};
use super::{
    dump_key, item_key, line_key, log_key, rejected_key, session_key, waiting_key, writer_key,
};
use crate::media::{RunId, State};
use crate::store::journal::{
    JournalOffset, Located, LogCursor, Outline, OutlineSource, SourceCursor,
};

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
    let line = &located.line;
    run_row.last_seq = line.seq;
    // The row of the line's dump, which is mostly also the cursor's.
    let mut dump: Option<(&str, DumpRow)> = None;
    if let Some(state) = line.state {
        dump = apply_item(changes, run, run_row, located, state)?;
    }
    if let ("gone", Some((key, step, index))) = (&*line.kind, line.id()) {
        let before = changes.remove(&item_key(run, key, step, index))?;
        uncount(changes, run, run_row, before)?;
        if let Some(path) = line.path.as_deref()
            && let Some(mut row) = dump_row(changes, run, path)?
        {
            row.end_at(key, step, index);
            row.is_open &= line.cursor.is_none();
            dump = Some((path, row));
        }
    }
    if let ("retried", Some(place)) = (&*line.kind, line.place) {
        dump = apply_retried(changes, run, run_row, line, place)?;
    }
    if let ("pruned", Some((key, step, index)), Some(place)) = (&*line.kind, line.id(), line.place)
    {
        let item_key = item_key(run, key, step, index);
        let before = changes.get(&item_key)?.and_then(decode::<Row>);
        if let Some(before) = before
            && (before.state, before.place, before.is_pruned()) == (State::Image, place, false)
        {
            if before.is_tried_again() {
                changes.remove(&waiting_key(run, before.place))?;
                run_row.n_lacking -= 1;
            }
            changes.insert(item_key, &encode(&Row { mark: Mark::Pruned, ..before }))?;
            run_row.n_pruned += 1;
        }
    }
    run_row.finished |= line.kind == "finish";
    run_row.n_repeated += u64::from(line.kind == "repeated");
    run_row.n_superseded += u64::from(line.kind == "superseded");
    match line.cursor.as_deref() {
        Some(SourceCursor::Log(cursor)) => {
            if let Some(session) = &cursor.session {
                session_place(changes, run, run_row, &session.id)?;
            }
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

/// Applies the line of an item. Returns the row of its dump, if its path describes the dump.
fn apply_item<'a>(
    changes: &mut Changes,
    run: &RunId,
    run_row: &mut RunRow,
    located: &'a Located<Outline<'_>>,
    state: State,
) -> sled::Result<Option<(&'a str, DumpRow)>> {
    let Located { line, start, length } = located;
    let mut dump: Option<(&str, DumpRow)> = None;
    let mark = match state {
        State::Rejected if line.is_waiting() => Mark::Waiting,
        State::Image if line.is_lacking() => Mark::Lacking,
        _ => Mark::None,
    };
    let row = Row { state, place: *start, length: *length, mark };
    let path = line.source.as_ref().filter(|source| source.log.is_none());
    if let Some(path) = path.map(|source| &*source.path) {
        let mut row = dump_row(changes, run, path)?.unwrap_or_default();
        // A line alone, without a source's cursor, is about a held item that was released. That is no
        // new version of its dump, and the places of the dump's images stay.
        let is_released = matches!(line.cursor.as_deref(), Some(SourceCursor::None));
        if row.is_open {
            dump = Some((path, row));
        } else if !is_released {
            row.begin();
            dump = Some((path, row));
        }
    }
    let at = line.id();
    // A waiting item has its place like a held one, unless another item is there.
    let has_place = match (state, at) {
        (State::Rejected, Some((key, step, index))) if row.is_waiting() => {
            changes.get(&item_key(run, key, step, index))?.is_none()
        }
        _ => state != State::Rejected,
    };
    if let Some((key, step, index)) = at.filter(|_| has_place) {
        let before = changes.insert(item_key(run, key, step, index), &encode(&row))?;
        uncount(changes, run, run_row, before)?;
    } else {
        let said = line.key_and_step().map(|(key, step)| (key.as_str(), step));
        changes.insert(rejected_key(run, line.seq), &encode(&RejectedRow { row, said }))?;
    }
    if state != State::Rejected {
        note_writer(changes, run, run_row, line)?;
    }
    run_row.count(row);
    if row.is_tried_again() {
        let waiting = match at.filter(|_| has_place) {
            Some((key, step, index)) => WaitingRow::Placed(key.clone(), step, index),
            None => WaitingRow::Rejected(line.seq),
        };
        changes.insert(waiting_key(run, *start), &encode(&waiting))?;
    }
    if let Some((_, dump)) = &mut dump {
        match at {
            Some((key, step, index)) if has_place => dump.add(key, step, index),
            Some((key, step, index)) => dump.add_rejected(key, step, index),
            None => {}
        }
        // Rejections of an earlier version no longer count.
        if !dump.is_open {
            for earlier in dump.rejected.drain(..) {
                let row = changes.remove(&rejected_key(run, earlier))?;
                uncount_rejected(changes, run, run_row, row)?;
            }
        }
        dump.rejected.extend((!has_place).then_some(line.seq));
        dump.is_open = line.cursor.is_none();
    }
    Ok(dump)
}

/// Applies the line of a waiting item that was tried again. Returns the row of its dump, if its path describes
/// the dump.
fn apply_retried<'a>(
    changes: &mut Changes,
    run: &RunId,
    run_row: &mut RunRow,
    line: &'a Outline<'_>,
    place: JournalOffset,
) -> sled::Result<Option<(&'a str, DumpRow)>> {
    let waiting = changes.remove(&waiting_key(run, place))?;
    let waiting = waiting.and_then(|bytes| decode(&bytes));
    let before = match &waiting {
        Some(WaitingRow::Placed(key, step, index)) => {
            changes.remove(&item_key(run, key, *step, *index))?
        }
        Some(WaitingRow::Rejected(seq)) => {
            let row = changes.remove(&rejected_key(run, *seq))?;
            row.and_then(|bytes| decode::<RejectedRow>(&bytes).map(|row| encode(&row.row)))
        }
        None => None,
    };
    if let Some(before) = before.and_then(|bytes| decode(&bytes)) {
        run_row.uncount(before);
    }
    if let Some(path) = line.path.as_deref()
        && let Some(mut row) = dump_row(changes, run, path)?
    {
        if let Some(WaitingRow::Placed(key, step, index)) = &waiting {
            row.end_at(key, *step, *index);
        }
        // The other lines of the batch belong to the version that is there.
        row.is_open = true;
        return Ok(Some((path, row)));
    }
    Ok(None)
}

/// Notes the session of an item, if it is the last one of its rank at the key and step.
fn note_writer(
    changes: &mut Changes,
    run: &RunId,
    run_row: &mut RunRow,
    line: &Outline<'_>,
) -> sled::Result<()> {
    let writer = line.source.as_ref().and_then(OutlineSource::writer);
    let (Some((key, step)), Some((session, rank))) = (line.key_and_step(), writer) else {
        return Ok(());
    };
    let place = session_place(changes, run, run_row, session)?;
    let writer_key = writer_key(run, key, step, rank);
    let before = changes.get(&writer_key)?.and_then(decode::<u32>);
    if before.is_none_or(|before| before < place) {
        changes.insert(writer_key, &encode(&place))?;
    }
    Ok(())
}

/// The place of a session in the order of the run's sessions. A session that is new comes last.
fn session_place(
    changes: &mut Changes,
    run: &RunId,
    run_row: &mut RunRow,
    session: &str,
) -> sled::Result<u32> {
    let key = session_key(run, session);
    if let Some(place) = changes.get(&key)?.and_then(decode) {
        return Ok(place);
    }
    let place = run_row.n_sessions;
    run_row.n_sessions += 1;
    changes.insert(key, &encode(&place))?;
    Ok(place)
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

/// Counts the item of a row that was replaced or removed no longer. If it waited, it no longer does.
fn uncount(
    changes: &mut Changes,
    run: &RunId,
    run_row: &mut RunRow,
    before: Option<Vec<u8>>,
) -> sled::Result<()> {
    if let Some(before) = before.and_then(|bytes| decode::<Row>(&bytes)) {
        run_row.uncount(before);
        if before.is_tried_again() {
            changes.remove(&waiting_key(run, before.place))?;
        }
    }
    Ok(())
}

/// Counts a rejected item whose row was removed no longer.
pub(super) fn uncount_rejected(
    changes: &mut Changes,
    run: &RunId,
    run_row: &mut RunRow,
    before: Option<Vec<u8>>,
) -> sled::Result<()> {
    let row = before.and_then(|bytes| Some(encode(&decode::<RejectedRow>(&bytes)?.row)));
    uncount(changes, run, run_row, row)
}

fn put(changes: &mut Changes, run: &RunId, dump: Option<(&str, DumpRow)>) -> sled::Result<()> {
    if let Some((path, row)) = dump {
        changes.insert(dump_key(run, path), &row.to_bytes())?;
    }
    Ok(())
}
