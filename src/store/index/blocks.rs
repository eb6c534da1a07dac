//! Rows in blocks: neighbouring rows share one entry of sled.
//!
//! An entry of sled 0.34.7 is expensive, whatever its size. Each write copies the leaf that it stands in,
//! and a leaf has at most sixteen entries. A row takes a few dozen bytes, so that an entry for each would
//! cost many times its bytes. The format of a row does not change this.
//!
//! A block's key in sled is its *name*: the key of the first row that it was made for. It holds the rows
//! from its name up to the next block's name, all of one kind and run. Its value is one [`BlockRow`] after
//! the other:
//!
//! ```text
//! n_shared  varint          bytes that the key shares with the key before it (the first row: with the name)
//! own       varint, bytes   the rest of the key
//! value     varint, bytes
//! ```
//!
//! Keys are compared as bytes, so they are not written by postcard: their numbers are big-endian.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

use sled::transaction::{ConflictableTransactionError, TransactionError};

use serde::{Deserialize, Serialize, Serializer};

use super::generation::Generation;

/// A larger block is split: at this size if rows are appended, else evenly.
const BLOCK_BYTES_MAX: usize = 1024;

/// Bytes that a row usually takes in its block beside its key and value.
const ROW_BYTES: usize = 3;

/// The key and the value of a row.
type KeyValue = (Vec<u8>, Vec<u8>);

/// A row as its block has it.
#[derive(Serialize, Deserialize)]
struct BlockRow<'a> {
    n_shared: usize,
    #[serde(serialize_with = "at_once")]
    own: &'a [u8],
    #[serde(serialize_with = "at_once")]
    value: &'a [u8],
}

/// Writes bytes as one slice: serde takes a slice for a sequence of numbers, with the same result.
fn at_once<S: Serializer>(bytes: &&[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// The part that all keys of a block begin with: kind, run, zero.
pub(super) fn group(key: &[u8]) -> &[u8] {
    let end = memchr::memchr(0, key).map_or(key.len(), |zero| zero + 1);
    &key[..end]
}

fn damaged() -> sled::Error {
    sled::Error::ReportableBug("a block of the index can't be read".to_owned())
}

/// Reads the rows of a block, one after the other.
pub(super) struct Walk<'a> {
    rest: &'a [u8],
    /// The key of the last row that was read.
    pub(super) key: Vec<u8>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(name: &[u8], block: &'a [u8]) -> Self {
        Self { rest: block, key: name.to_vec() }
    }

    /// The next row's value.
    ///
    /// # Errors
    /// If the block is damaged.
    pub(super) fn step(&mut self) -> sled::Result<Option<&'a [u8]>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.row().map(Some).ok_or_else(damaged)
    }

    fn row(&mut self) -> Option<&'a [u8]> {
        let (row, rest) = postcard::take_from_bytes(self.rest).ok()?;
        let BlockRow { n_shared, own, value } = row;
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

/// Appends a row to a block whose last key is `before`.
fn put_row(block: &mut Vec<u8>, before: &[u8], (key, value): &KeyValue) {
    let n_shared = before.iter().zip(key).take_while(|(a, b)| a == b).count();
    let row = BlockRow { n_shared, own: &key[n_shared..], value };
    let longer = postcard::to_extend(&row, std::mem::take(block));
    *block = longer.expect("a vector takes all bytes, and a slice has a length");
}

/// Returns the value at `key`.
///
/// # Errors
/// If sled fails, or the block is damaged.
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

/// Reads rows one by one, block by block. The generation that they are in stays until this is dropped.
pub(super) struct Rows {
    /// The blocks that were not read yet. Declared before the generation, so that it is dropped before.
    blocks: sled::Iter,
    /// The block that may begin before the first row.
    first: Option<sled::Result<(sled::IVec, sled::IVec)>>,
    /// The rest of the last block that was read.
    ready: std::vec::IntoIter<KeyValue>,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
    /// The last key of the last block. If a block is split while it is read, its end comes again.
    seen: Vec<u8>,
    _generation: Arc<Generation>,
}

impl Rows {
    /// Reads the rows from one key to another of the same kind and run, both included.
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

    /// Reads the rows whose keys begin with `prefix`.
    pub(super) fn beneath(generation: &Arc<Generation>, prefix: Vec<u8>) -> Self {
        // Greater than any key with the prefix: text has no such byte, and numbers have fewer of them.
        let last_key = [&prefix[..], &[u8::MAX; 16]].concat();
        Self::between(generation, prefix, last_key)
    }

    fn read_block(&mut self, entry: sled::Result<(sled::IVec, sled::IVec)>) -> sled::Result<()> {
        let (name, block) = entry?;
        let mut walk = Walk::new(&name, &block);
        // Only the rows that are wanted are copied: often one of many, or none.
        let mut rows = Vec::new();
        while let Some(value) = walk.step()? {
            let key = &walk.key;
            if *key >= self.first_key && *key <= self.last_key && *key > self.seen {
                rows.push((key.clone(), value.to_vec()));
            }
        }
        self.ready = rows.into_iter();
        if walk.key > self.seen {
            self.seen = walk.key;
        }
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

/// A block, or the place of one, while its rows are changed in memory.
#[derive(Debug)]
struct BlockEdit {
    rows: Vec<KeyValue>,
    /// The next block's name. Rows from there on belong to the next block.
    end: Option<Vec<u8>>,
    is_changed: bool,
    /// Whether all new rows were added at the end, where more may come.
    is_appended: bool,
}

impl BlockEdit {
    fn find(&self, key: &[u8]) -> Result<usize, usize> {
        match self.rows.last() {
            Some((last, _)) if **last < *key => Err(self.rows.len()),
            _ => self.rows.binary_search_by(|(other, _)| other.as_slice().cmp(key)),
        }
    }

    /// Splits the rows into blocks of a good size. None if there are no rows.
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
        // If rows are inserted in between, each block gets room for more.
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

/// Changes that one transaction makes. Each block is read once and written once.
#[derive(Debug)]
pub(super) struct Changes<'a> {
    db: &'a sled::Db,
    /// By name.
    blocks: BTreeMap<Vec<u8>, BlockEdit>,
    /// Rows without a block.
    alone: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Bytes of rows that were inserted.
    n_bytes: usize,
}

impl<'a> Changes<'a> {
    pub(super) fn new(db: &'a sled::Db) -> Self {
        Self { db, blocks: BTreeMap::new(), alone: BTreeMap::new(), n_bytes: 0 }
    }

    /// The most entries of sled that [`Self::write`] may write.
    pub(super) fn n_keys(&self) -> usize {
        2 * self.blocks.len() + self.alone.len() + 2 * self.n_bytes / BLOCK_BYTES_MAX
    }

    pub(super) fn get(&mut self, key: &[u8]) -> sled::Result<Option<&[u8]>> {
        let block = self.block(key)?;
        Ok(block.find(key).ok().map(|at| &*block.rows[at].1))
    }

    /// Sets a row. Returns its value before.
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

    /// Removes a row. Returns its value before.
    pub(super) fn remove(&mut self, key: &[u8]) -> sled::Result<Option<Vec<u8>>> {
        let block = self.block(key)?;
        Ok(block.find(key).ok().map(|at| {
            block.is_changed = true;
            block.rows.remove(at).1
        }))
    }

    /// Sets a row without a block.
    pub(super) fn set_alone(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.alone.insert(key, value);
    }

    /// The block that a key belongs to.
    fn block(&mut self, key: &[u8]) -> sled::Result<&mut BlockEdit> {
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
            None => unreachable!("the block was loaded above"),
        }
    }

    fn load(&self, key: &[u8]) -> sled::Result<(Vec<u8>, BlockEdit)> {
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
        Ok((name, BlockEdit { rows, end, is_changed: false, is_appended: true }))
    }

    /// Writes all changes in one transaction.
    ///
    /// # Errors
    /// If sled fails. Then nothing is changed.
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

    /// A key of one of two runs. There are few keys, so that changes meet.
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
