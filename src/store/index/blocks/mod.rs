//! Rows in blocks: neighbouring rows share one entry of sled.
//!
//! An entry of sled 0.34.7 is expensive, whatever its size. Each write copies the leaf that it stands in,
//! and a leaf has at most sixteen entries. A row takes a few dozen bytes, so that an entry for each would
//! cost many times its bytes. The format of a row does not change this.
//!
//! A block's key in sled is its *name*: the key of the first row that it was made for. It holds the rows
//! from its name up to the next block's name, all of one kind and run. Its value is one row after the other:
//!
//! ```text
//! n_shared  varint          bytes that the key shares with the key before it (the first row: with the name)
//! own       varint, bytes   the rest of the key
//! value     varint, bytes
//! ```
//!
//! Keys are compared as bytes, so they are not written by postcard: their numbers are big-endian.
//!
//! | module | its one job |
//! | --- | --- |
//! | `block` | the bytes of one block |
//! | `changes` | changes that one transaction makes |

mod block;
mod changes;

use std::ops::Bound::{Excluded, Included};
use std::sync::Arc;

pub(super) use self::block::Walk;
use self::block::value_at;
pub(super) use self::changes::Changes;
use super::generation::Generation;

/// A larger block is split: at this size if rows are appended, else evenly.
const BLOCK_BYTES_MAX: usize = 1024;

/// Bytes that a row usually takes in its block beside its key and value.
const ROW_BYTES: usize = 3;

/// The key and the value of a row.
type KeyValue = (Vec<u8>, Vec<u8>);

/// The part that all keys of a block begin with: kind, run, zero.
pub(super) fn group(key: &[u8]) -> &[u8] {
    let end = memchr::memchr(0, key).map_or(key.len(), |zero| zero + 1);
    &key[..end]
}

/// Returns the value at `key`.
///
/// # Errors
/// If sled fails, or the block is damaged.
pub(super) fn get(db: &sled::Db, key: &[u8]) -> sled::Result<Option<Vec<u8>>> {
    let Some(entry) = db.range(group(key)..=key).next_back() else { return Ok(None) };
    let (name, block) = entry?;
    Ok(value_at(&name, &block, key)?.map(<[u8]>::to_vec))
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
