//! Changes that one transaction makes.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};

use sled::transaction::{ConflictableTransactionError, TransactionError};

use super::block::Block;
use super::{BLOCK_BYTES_MAX, KeyValue, ROW_BYTES, group};

/// A block, or the place of one, while its rows are changed in memory.
#[derive(Debug)]
struct Loaded {
    block: Block,
    /// The rows before this key belong to the block, if they are not before its name. `None` if all rows behind its
    /// name do.
    until: Option<Vec<u8>>,
}

/// Changes that one transaction makes. Each block is read once and written once.
#[derive(Debug)]
pub(in crate::store::index) struct Changes<'a> {
    db: &'a sled::Db,
    /// By name.
    blocks: BTreeMap<Vec<u8>, Loaded>,
    /// Rows without a block.
    alone: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Bytes of rows that were inserted.
    n_bytes: usize,
}

impl<'a> Changes<'a> {
    pub(in crate::store::index) fn new(db: &'a sled::Db) -> Self {
        Self { db, blocks: BTreeMap::new(), alone: BTreeMap::new(), n_bytes: 0 }
    }

    /// The most entries of sled that [`Self::write`] may write.
    pub(in crate::store::index) fn n_keys(&self) -> usize {
        2 * self.blocks.len() + self.alone.len() + 2 * self.n_bytes / BLOCK_BYTES_MAX
    }

    pub(in crate::store::index) fn get(&mut self, key: &[u8]) -> sled::Result<Option<&[u8]>> {
        self.block(key)?.get(key)
    }

    /// Sets a row. Returns its value before.
    pub(in crate::store::index) fn insert(
        &mut self,
        key: Vec<u8>,
        value: &[u8],
    ) -> sled::Result<Option<Vec<u8>>> {
        self.n_bytes += key.len() + value.len() + ROW_BYTES;
        self.block(&key)?.insert(key, value)
    }

    /// Removes a row. Returns its value before.
    pub(in crate::store::index) fn remove(&mut self, key: &[u8]) -> sled::Result<Option<Vec<u8>>> {
        self.block(key)?.remove(key)
    }

    /// Sets a row without a block.
    pub(in crate::store::index) fn set_alone(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.alone.insert(key, value);
    }

    /// The block that a key belongs to.
    fn block(&mut self, key: &[u8]) -> sled::Result<&mut Block> {
        let place = (Included(group(key)), Included(key));
        let known = self.blocks.range::<[u8], _>(place).next_back();
        let is_known =
            known.is_some_and(|(_, loaded)| loaded.until.as_ref().is_none_or(|end| *key < **end));
        if !is_known {
            self.load(key)?;
        }
        match self.blocks.range_mut::<[u8], _>(place).next_back() {
            Some((_, loaded)) => Ok(&mut loaded.block),
            None => unreachable!("the block was loaded above"),
        }
    }

    /// Loads the block that a key belongs to. If it is loaded already, finds out where it ends: most blocks are asked
    /// for one row only, and need not know.
    fn load(&mut self, key: &[u8]) -> sled::Result<()> {
        let group = group(key);
        let stored = self.db.range(group..=key).next_back().transpose()?;
        let place = (Included(group), Included(key));
        let known = self.blocks.range::<[u8], _>(place).next_back().map(|(name, _)| name);
        if known.is_some_and(|known| stored.as_ref().is_none_or(|(name, _)| **name <= **known)) {
            let until = self.next_block(key)?;
            let known = self.blocks.range_mut::<[u8], _>(place).next_back();
            known.into_iter().for_each(|(_, loaded)| loaded.until.clone_from(&until));
            return Ok(());
        }
        let (name, bytes) = match stored {
            Some((name, bytes)) => (name.to_vec(), bytes.to_vec()),
            None => (key.to_vec(), Vec::new()),
        };
        let until = Some([key, &[0]].concat());
        self.blocks.insert(name.clone(), Loaded { block: Block::new(name, bytes), until });
        Ok(())
    }

    /// The name of the first block behind a key.
    fn next_block(&self, key: &[u8]) -> sled::Result<Option<Vec<u8>>> {
        let behind = (Excluded(key), Unbounded);
        let stored = self.db.range::<&[u8], _>(behind).next().transpose()?;
        let stored = stored.map(|(name, _)| name.to_vec());
        let loaded = self.blocks.range::<[u8], _>(behind).next().map(|(name, _)| name.clone());
        let names = stored.into_iter().chain(loaded);
        Ok(names.filter(|name| name.starts_with(group(key))).min())
    }

    /// Writes all changes in one transaction.
    ///
    /// # Errors
    /// If sled fails. Then nothing is changed.
    pub(in crate::store::index) fn write(self) -> sled::Result<()> {
        let mut removed = Vec::new();
        let mut written: Vec<KeyValue> = self.alone.into_iter().collect();
        for (name, Loaded { block, .. }) in self.blocks {
            if block.is_changed && block.is_empty() {
                removed.push(name);
            } else if block.is_changed {
                written.extend(block.split()?);
            }
        }
        // A batch of sled 0.34.7 is as atomic as a transaction, and cheaper: it reads nothing. It must not remove.
        if removed.is_empty() {
            let mut batch = sled::Batch::default();
            written.into_iter().for_each(|(name, block)| batch.insert(name, block));
            return self.db.apply_batch(batch);
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

    use std::sync::Arc;

    use super::super::{Rows, get};
    use super::*;
    use crate::store::index::generation::Generation;

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
                        let n_written = pending.blocks.values().map(|loaded| loaded.block.clone().split().expect("a block").len().max(1)).sum::<usize>();
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
