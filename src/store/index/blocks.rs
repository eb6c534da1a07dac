//! Rows in blocks. A row takes a few dozen bytes; each one of sled's costs a copy of its leaf and a place
//! in a leaf of sixteen, whatever its size. So rows that follow each other share one of sled's.
//!
//! A block is named by the first row that it was made for, and holds the rows from there up to the next
//! block's name. All its rows are of one kind and run. Its value has one row after the other:
//!
//! ```text
//! shared    varint   how many bytes the key has in common with the one before it (the first: the name)
//! length    varint   how many bytes follow of the key
//! length    varint   how many bytes the value has
//! key's rest, value
//! ```

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

use sled::transaction::{ConflictableTransactionError, TransactionError};

use super::generation::Generation;
use super::varint;

/// A block of more bytes is split where it has reached that many, or evenly.
const BLOCK_BYTES_MAX: usize = 1024;

/// What a row takes in its block beside its key and value, in bytes: mostly.
const ROW_BYTES: usize = 3;

/// A key and what stands there.
type KeyValue = (Vec<u8>, Vec<u8>);

/// What all keys of a block begin with: kind, run, zero.
fn group(key: &[u8]) -> &[u8] {
    let end = memchr::memchr(0, key).map_or(key.len(), |zero| zero + 1);
    &key[..end]
}

fn damaged() -> sled::Error {
    sled::Error::ReportableBug("a block of the index can't be read".to_owned())
}

/// Reads the rows of a block, one after the other.
pub(super) struct Walk<'a> {
    rest: &'a [u8],
    /// The key of the row that was read last.
    pub(super) key: Vec<u8>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(name: &[u8], block: &'a [u8]) -> Self {
        Self { rest: block, key: name.to_vec() }
    }

    /// The next row's value.
    ///
    /// # Errors
    /// If the block is none.
    pub(super) fn step(&mut self) -> sled::Result<Option<&'a [u8]>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.row().map(Some).ok_or_else(damaged)
    }

    fn row(&mut self) -> Option<&'a [u8]> {
        let n_shared = varint::take_length(&mut self.rest)?;
        let n_own = varint::take_length(&mut self.rest)?;
        let n_value = varint::take_length(&mut self.rest)?;
        let (own, rest) = self.rest.split_at_checked(n_own)?;
        let (value, rest) = rest.split_at_checked(n_value)?;
        if n_shared > self.key.len() {
            return None;
        }
        self.key.truncate(n_shared);
        self.key.extend_from_slice(own);
        self.rest = rest;
        Some(value)
    }
}

/// All rows of a block.
fn rows_of(name: &[u8], block: &[u8]) -> sled::Result<Vec<KeyValue>> {
    let mut walk = Walk::new(name, block);
    let mut rows = Vec::new();
    while let Some(value) = walk.step()? {
        rows.push((walk.key.clone(), value.to_vec()));
    }
    Ok(rows)
}

/// Adds a row to a block whose last key is `before`.
fn put_row(block: &mut Vec<u8>, before: &[u8], (key, value): &KeyValue) {
    let n_shared = before.iter().zip(key).take_while(|(a, b)| a == b).count();
    varint::put_length(block, n_shared);
    varint::put_length(block, key.len() - n_shared);
    varint::put_length(block, value.len());
    block.extend_from_slice(&key[n_shared..]);
    block.extend_from_slice(value);
}

/// What stands at `key`.
///
/// # Errors
/// If sled fails, or the block is none.
pub(super) fn get(db: &sled::Db, key: &[u8]) -> sled::Result<Option<Vec<u8>>> {
    let Some(entry) = db.range(group(key)..=key).next_back() else { return Ok(None) };
    let (name, block) = entry?;
    let mut walk = Walk::new(&name, &block);
    while let Some(value) = walk.step()? {
        if *walk.key >= *key {
            return Ok((*walk.key == *key).then(|| value.to_vec()));
        }
    }
    Ok(None)
}

/// Rows that are read one by one, block by block. Their generation stays as long as they are.
pub(super) struct Rows {
    /// The blocks that were not read yet. Let go of first.
    blocks: sled::Iter,
    /// The one that may begin before the first row.
    first: Option<sled::Result<(sled::IVec, sled::IVec)>>,
    /// What is left of the block that was read last.
    ready: std::vec::IntoIter<KeyValue>,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
    /// The last row of the last block: when a block is split while it is read, its end comes again.
    seen: Vec<u8>,
    _generation: Arc<Generation>,
}

impl Rows {
    /// The rows from one key to another of the same kind and run, both included.
    pub(super) fn between(
        generation: &Arc<Generation>,
        first_key: Vec<u8>,
        last_key: Vec<u8>,
    ) -> Self {
        let first = generation.range(group(&first_key)..=&first_key[..]).next_back();
        let blocks = generation.range::<&[u8], _>((Excluded(&*first_key), Included(&*last_key)));
        Self {
            blocks,
            first,
            ready: Vec::new().into_iter(),
            first_key,
            last_key,
            seen: Vec::new(),
            _generation: generation.clone(),
        }
    }

    /// The rows whose keys begin so.
    pub(super) fn beneath(generation: &Arc<Generation>, prefix: Vec<u8>) -> Self {
        // More than whatever follows: text has no such byte, and numbers have less of them.
        let last_key = [&prefix[..], &[u8::MAX; 16]].concat();
        Self::between(generation, prefix, last_key)
    }

    fn read_block(&mut self, entry: sled::Result<(sled::IVec, sled::IVec)>) -> sled::Result<()> {
        let (name, block) = entry?;
        let mut rows = rows_of(&name, &block)?;
        let last = rows.last().map(|(key, _)| key.clone());
        let is_wanted =
            |key: &Vec<u8>| *key >= self.first_key && *key <= self.last_key && *key > self.seen;
        rows.retain(|(key, _)| is_wanted(key));
        self.ready = rows.into_iter();
        self.seen = last.unwrap_or_default().max(std::mem::take(&mut self.seen));
        Ok(())
    }
}

impl Iterator for Rows {
    type Item = sled::Result<KeyValue>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.ready.next() {
                return Some(Ok(row));
            }
            let entry = self.first.take().or_else(|| self.blocks.next())?;
            if let Err(error) = self.read_block(entry) {
                return Some(Err(error));
            }
        }
    }
}

/// A block, or the place of one, with what is to change in it.
#[derive(Debug)]
struct Pending {
    rows: Vec<KeyValue>,
    /// The next block's name: rows from there on are not of this one.
    end: Option<Vec<u8>>,
    is_changed: bool,
    /// Whether all rows that came went to the end: more may come there.
    is_appended: bool,
}

impl Pending {
    fn find(&self, key: &[u8]) -> Result<usize, usize> {
        match self.rows.last() {
            Some((last, _)) if **last < *key => Err(self.rows.len()),
            _ => self.rows.binary_search_by(|(other, _)| other.as_slice().cmp(key)),
        }
    }

    /// The blocks that this one becomes; none if it has no rows.
    fn split(&self, name: &[u8]) -> Vec<KeyValue> {
        let mut whole = Vec::with_capacity(BLOCK_BYTES_MAX);
        let mut before = name;
        for row in &self.rows {
            put_row(&mut whole, before, row);
            before = &row.0;
        }
        match whole.len() {
            0 => return Vec::new(),
            n_bytes if n_bytes <= BLOCK_BYTES_MAX => return vec![(name.to_vec(), whole)],
            _ => {}
        }
        // Where rows come in between, each gets room for more.
        let n_blocks = whole.len().div_ceil(BLOCK_BYTES_MAX);
        let full = if self.is_appended { BLOCK_BYTES_MAX } else { whole.len().div_ceil(n_blocks) };
        let mut blocks: Vec<KeyValue> = Vec::with_capacity(n_blocks);
        for row in &self.rows {
            match blocks.last_mut() {
                Some((_, block)) if block.len() < full => put_row(block, before, row),
                last => {
                    let name = if last.is_some() { &row.0 } else { name };
                    let mut block = Vec::with_capacity(BLOCK_BYTES_MAX + ROW_BYTES);
                    put_row(&mut block, name, row);
                    blocks.push((name.to_vec(), block));
                }
            }
            before = &row.0;
        }
        blocks
    }
}

/// Changes that become true together. What they change is read once, and written once.
#[derive(Debug)]
pub(super) struct Changes<'a> {
    db: &'a sled::Db,
    /// By name.
    blocks: BTreeMap<Vec<u8>, Pending>,
    /// Rows that stand alone.
    alone: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Bytes that came.
    n_bytes: usize,
}

impl<'a> Changes<'a> {
    pub(super) fn new(db: &'a sled::Db) -> Self {
        Self { db, blocks: BTreeMap::new(), alone: BTreeMap::new(), n_bytes: 0 }
    }

    /// How many rows of sled's it will write, at most.
    pub(super) fn n_keys(&self) -> usize {
        2 * self.blocks.len() + self.alone.len() + 2 * self.n_bytes / BLOCK_BYTES_MAX
    }

    pub(super) fn get(&mut self, key: &[u8]) -> sled::Result<Option<&[u8]>> {
        let block = self.block(key)?;
        Ok(block.find(key).ok().map(|at| &*block.rows[at].1))
    }

    /// Returns what stood there.
    pub(super) fn insert(&mut self, key: Vec<u8>, value: &[u8]) -> sled::Result<Option<Vec<u8>>> {
        self.n_bytes += key.len() + value.len() + ROW_BYTES;
        let block = self.block(&key)?;
        block.is_changed = true;
        Ok(match block.find(&key) {
            Ok(at) => Some(std::mem::replace(&mut block.rows[at].1, value.to_vec())),
            Err(at) => {
                block.is_appended &= at == block.rows.len();
                block.rows.insert(at, (key, value.to_vec()));
                None
            }
        })
    }

    /// Returns what stood there.
    pub(super) fn remove(&mut self, key: &[u8]) -> sled::Result<Option<Vec<u8>>> {
        let block = self.block(key)?;
        Ok(block.find(key).ok().map(|at| {
            block.is_changed = true;
            block.rows.remove(at).1
        }))
    }

    /// Sets a row that stands alone.
    pub(super) fn set_alone(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.alone.insert(key, value);
    }

    /// The block where a key stands, or would.
    fn block(&mut self, key: &[u8]) -> sled::Result<&mut Pending> {
        let known = self.blocks.range::<[u8], _>((Included(group(key)), Included(key))).next_back();
        let is_known =
            known.is_some_and(|(_, block)| block.end.as_ref().is_none_or(|end| *key < **end));
        if !is_known {
            let (name, block) = self.load(key)?;
            self.blocks.insert(name, block);
        }
        let place = (Included(group(key)), Included(key));
        match self.blocks.range_mut::<[u8], _>(place).next_back() {
            Some((_, block)) => Ok(block),
            None => unreachable!("it is loaded"),
        }
    }

    fn load(&self, key: &[u8]) -> sled::Result<(Vec<u8>, Pending)> {
        let group = group(key);
        let stored = self.db.range(group..=key).next_back().transpose()?;
        let (name, rows) = match &stored {
            Some((name, block)) => (name.to_vec(), rows_of(name, block)?),
            None => (key.to_vec(), Vec::new()),
        };
        let next = self.db.range::<&[u8], _>((Excluded(key), Unbounded)).next().transpose()?;
        let next = next.map(|(name, _)| name.to_vec());
        let beside = self.blocks.range::<[u8], _>((Excluded(key), Unbounded)).next();
        let ends = next.into_iter().chain(beside.map(|(name, _)| name.clone()));
        let end = ends.filter(|name| name.starts_with(group)).min();
        Ok((name, Pending { rows, end, is_changed: false, is_appended: true }))
    }

    /// Writes all of it in one transaction.
    ///
    /// # Errors
    /// If sled fails: nothing is then changed.
    pub(super) fn write(self) -> sled::Result<()> {
        let mut removed = Vec::new();
        let mut written: Vec<KeyValue> = self.alone.into_iter().collect();
        for (name, block) in self.blocks.into_iter().filter(|(_, block)| block.is_changed) {
            if block.rows.is_empty() {
                removed.push(name);
            } else {
                written.extend(block.split(&name));
            }
        }
        let done = self.db.transaction(|tree| {
            for name in &removed {
                tree.remove(&name[..])?;
            }
            for (name, block) in &written {
                tree.insert(&name[..], &block[..])?;
            }
            Ok::<_, ConflictableTransactionError<()>>(())
        });
        match done {
            Ok(()) | Err(TransactionError::Abort(())) => Ok(()),
            Err(TransactionError::Storage(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A key of one of two runs; few enough that they meet.
    fn a_key() -> impl Strategy<Value = Vec<u8>> {
        let text = prop::string::string_regex("(dumps/)?[ab]{0,3}").expect("a pattern");
        (
            prop::sample::select(vec![b'd', b'i']),
            prop::sample::select(vec!["x", "xy"]),
            text,
            0..9u64,
        )
            .prop_map(|(kind, run, text, n)| {
                [&[kind], run.as_bytes(), b"\0", text.as_bytes(), &n.to_be_bytes()].concat()
            })
    }

    #[derive(Debug, Clone)]
    enum Change {
        Insert(Vec<u8>, Vec<u8>),
        Remove(Vec<u8>),
        Write,
    }

    fn a_change() -> impl Strategy<Value = Change> {
        let value = (any::<u8>(), prop::sample::select(vec![0usize, 1, 17, 150, 2000]));
        prop_oneof![
            8 => (a_key(), value).prop_map(|(key, (byte, n))| Change::Insert(key, vec![byte; n])),
            3 => a_key().prop_map(Change::Remove),
            1 => Just(Change::Write),
        ]
    }

    #[test]
    fn rows_of_a_block_that_is_split_while_it_is_read_come_once() {
        let db = sled::Config::default().temporary(true).open().expect("a database");
        let key = |n: u64| [&b"ix\0"[..], &n.to_be_bytes()].concat();
        let insert = |numbers: &mut dyn Iterator<Item = u64>| {
            let mut changes = Changes::new(&db);
            for n in numbers {
                changes.insert(key(n), &[1; 17]).expect("no failure");
            }
            changes.write().expect("no failure");
        };
        insert(&mut (0..20).map(|n| 100 * n));
        assert_eq!(db.len(), 1, "they share a block");
        let generation = Arc::new(Generation::new(db.clone(), std::path::PathBuf::new(), 0));
        let mut rows = Rows::beneath(&generation, b"ix\0".to_vec());
        let first = rows.next().expect("a row").expect("no failure");
        insert(&mut (0..200).map(|n| 10 * n + 5));
        assert!(db.len() > 2, "it was split");
        let rest: Vec<KeyValue> = rows.collect::<Result<_, _>>().expect("no failure");
        let keys: Vec<Vec<u8>> = [first].into_iter().chain(rest).map(|(key, _)| key).collect();
        assert!(keys.is_sorted_by(|a, b| a < b), "each once, in order");
        assert!((0..20).all(|n| keys.contains(&key(100 * n))), "none is missing");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn blocks_hold_what_a_map_would(
            changes in prop::collection::vec(a_change(), 0..300),
            (first, last) in (a_key(), a_key()),
        ) {
            let db = sled::Config::default().temporary(true).open().expect("a database");
            // Of another kind, before, between and behind.
            for alone in ["a", "dx", "e", "n"] {
                db.insert(alone, "alone").expect("a row");
            }
            let mut map = BTreeMap::<Vec<u8>, Vec<u8>>::new();
            let mut pending = Changes::new(&db);
            for change in changes {
                match change {
                    Change::Insert(key, value) => {
                        let before = pending.insert(key.clone(), &value).expect("no failure");
                        prop_assert_eq!(before, map.insert(key.clone(), value));
                        prop_assert_eq!(pending.get(&key).expect("no failure"), map.get(&key).map(|value| &**value));
                    }
                    Change::Remove(key) => {
                        prop_assert_eq!(pending.remove(&key).expect("no failure"), map.remove(&key));
                    }
                    Change::Write => {
                        let n_keys = pending.n_keys();
                        let n_written = pending.blocks.iter().map(|(name, block)| block.split(name).len().max(1)).sum::<usize>();
                        prop_assert!(n_written <= n_keys, "{} keys, said {}", n_written, n_keys);
                        pending.write().expect("no failure");
                        pending = Changes::new(&db);
                    }
                }
            }
            pending.write().expect("no failure");
            for (key, value) in &map {
                let got = get(&db, key).expect("no failure");
                prop_assert_eq!(got.as_ref(), Some(value));
            }
            let got = get(&db, &first).expect("no failure");
            prop_assert_eq!(got.as_ref(), map.get(&first));
            let generation = Arc::new(Generation::new(db, std::path::PathBuf::new(), 0));
            let same_group = [group(&first), &last[group(&last).len()..]].concat();
            let (first, last) = (first.clone().min(same_group.clone()), first.max(same_group));
            let rows = Rows::between(&generation, first.clone(), last.clone());
            let got: Vec<KeyValue> = rows.collect::<Result<_, _>>().expect("no failure");
            let want: Vec<KeyValue> = map.range(first.clone()..=last).map(|(key, value)| (key.clone(), value.clone())).collect();
            prop_assert_eq!(got, want);
            let prefix = group(&first).to_vec();
            let got: Vec<KeyValue> = Rows::beneath(&generation, prefix.clone()).collect::<Result<_, _>>().expect("no failure");
            let want: Vec<KeyValue> = map.into_iter().filter(|(key, _)| key.starts_with(&prefix)).collect();
            prop_assert_eq!(got, want);
        }
    }
}
