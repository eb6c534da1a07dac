//! A journal line → the rows that it changes.

use serde::Deserialize;
use sled::transaction::{ConflictableTransactionError, TransactionalTree};

use super::rows::{DumpRow, Row, RunRow};
use super::{Applied, item_key, json, key, log_key};
use crate::media::{RunId, State};
use crate::store::journal::SourceCursor;

pub(super) type Conflict = ConflictableTransactionError<()>;

pub(super) fn get_json<T: for<'a> Deserialize<'a>>(
    tree: &TransactionalTree,
    key: &[u8],
) -> Result<Option<T>, Conflict> {
    Ok(tree.get(key)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

pub(super) fn apply_line(
    tree: &TransactionalTree,
    run: &RunId,
    run_row: &mut RunRow,
    line: &Applied,
) -> Result<(), Conflict> {
    let (line, place, length) = line;
    run_row.last_seq = line.seq;
    let dump_key = |path: &str| key(b'd', run, &[path.as_bytes()]);
    if let Some(state) = line.state {
        let row = Row { state, place: *place, length: *length, is_pruned: false };
        let own_path = line
            .source
            .as_ref()
            .filter(|source| source.log.is_none())
            .map(|source| source.path.as_str());
        let mut dump = None;
        if let Some(path) = own_path {
            let mut row = get_json::<DumpRow>(tree, &dump_key(path))?.unwrap_or_default();
            if !row.is_open {
                row.begin();
            }
            dump = Some(row);
        }
        let place = match (&line.key, line.step, line.index) {
            (Some(key), Some(step), Some(index)) => Some((key, step, index)),
            _ => None,
        };
        if let (State::Image | State::Held, Some((key, step, index))) = (state, place) {
            let before = tree.insert(item_key(run, key, step, index), &row.to_bytes())?;
            if let Some(before) = before.and_then(|bytes| Row::from_bytes(&bytes)) {
                run_row.uncount(before);
            }
        } else {
            tree.insert(key(b'r', run, &[&line.seq.to_be_bytes()]), &row.to_bytes())?;
        }
        match (&mut dump, place, state) {
            (Some(dump), Some((key, step, index)), State::Rejected) => {
                dump.add_rejected(key, step, index);
            }
            (Some(dump), Some((key, step, index)), _) => dump.add(key, step, index),
            _ => {}
        }
        *run_row.count(state) += 1;
        if let (Some(path), Some(mut dump)) = (own_path, dump) {
            // What was rejected of an earlier version is so no longer.
            if !dump.is_open {
                for earlier in dump.rejected.drain(..) {
                    if tree.remove(key(b'r', run, &[&earlier.to_be_bytes()]))?.is_some() {
                        run_row.n_rejected -= 1;
                    }
                }
            }
            dump.rejected.extend((state == State::Rejected).then_some(line.seq));
            dump.is_open = line.cursor.is_none();
            tree.insert(dump_key(path), json(&dump))?;
        }
    }
    if let ("gone", Some(key), Some(step), Some(index)) =
        (&*line.kind, &line.key, line.step, line.index)
        && let Some(before) = tree.remove(item_key(run, key, step, index))?
        && let Some(before) = Row::from_bytes(&before)
    {
        run_row.uncount(before);
    }
    if let ("pruned", Some(key), Some(step), Some(index), Some(place)) =
        (&*line.kind, &line.key, line.step, line.index, line.place)
        && let Some(before) = tree.get(item_key(run, key, step, index))?
        && let Some(before) = Row::from_bytes(&before)
        && (before.state, before.place, before.is_pruned) == (State::Image, place, false)
    {
        let row = Row { is_pruned: true, ..before };
        tree.insert(item_key(run, key, step, index), &row.to_bytes())?;
        run_row.n_pruned += 1;
    }
    if let ("gone", Some(key), Some(step), Some(index), Some(path)) =
        (&*line.kind, &line.key, line.step, line.index, &line.path)
        && let Some(mut dump) = get_json::<DumpRow>(tree, &dump_key(path))?
    {
        dump.end_at(key, step, index);
        tree.insert(dump_key(path), json(&dump))?;
    }
    run_row.finished |= line.kind == "finish";
    match &line.cursor {
        Some(SourceCursor::Log(cursor)) => {
            tree.insert(log_key(run, cursor), json(cursor))?;
        }
        Some(SourceCursor::Dump(cursor)) => {
            let mut dump: DumpRow = get_json(tree, &dump_key(&cursor.path))?.unwrap_or_default();
            dump.cursor = Some(cursor.clone());
            dump.is_open = false;
            tree.insert(dump_key(&cursor.path), json(&dump))?;
        }
        Some(SourceCursor::None) | None => {}
    }
    Ok(())
}
