//! The bytes of one block: finds, sets and removes rows without decoding the others. Pure.
//!
//! Each row says how many bytes its key shares with the key before it. That number is the greatest possible. So a
//! search compares few bytes: a row that shares more with the row before than the wanted key does comes before the
//! key, and a row that shares less comes after it.

use std::cmp::Ordering;
use std::ops::Range;

use serde::{Deserialize, Serialize, Serializer};

use super::{BLOCK_BYTES_MAX, KeyValue, ROW_BYTES};

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

impl<'a> BlockRow<'a> {
    /// The row that begins at `at`, and where it ends.
    fn at(bytes: &'a [u8], at: usize) -> sled::Result<(Self, usize)> {
        let row = postcard::take_from_bytes::<Self>(&bytes[at..]);
        let (row, rest) = row.map_err(|_| damaged())?;
        Ok((row, bytes.len() - rest.len()))
    }

    /// Appends the row to `bytes`.
    fn append_to(&self, bytes: &mut Vec<u8>) {
        let longer = postcard::to_extend(self, std::mem::take(bytes));
        *bytes = longer.expect("a vector takes all bytes, and a slice has a length");
    }
}

fn damaged() -> sled::Error {
    sled::Error::ReportableBug("a block of the index can't be read".to_owned())
}

/// The number of bytes that two texts begin with together.
fn n_common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Reads the rows of a block, one after the other.
pub(in crate::store::index) struct Walk<'a> {
    block: &'a [u8],
    at: usize,
    /// The key of the last row that was read.
    pub(in crate::store::index) key: Vec<u8>,
}

impl<'a> Walk<'a> {
    pub(in crate::store::index) fn new(name: &[u8], block: &'a [u8]) -> Self {
        Self { block, at: 0, key: name.to_vec() }
    }

    /// The next row's value.
    ///
    /// # Errors
    /// If the block is damaged.
    pub(in crate::store::index) fn step(&mut self) -> sled::Result<Option<&'a [u8]>> {
        if self.at == self.block.len() {
            return Ok(None);
        }
        let (BlockRow { n_shared, own, value }, end) = BlockRow::at(self.block, self.at)?;
        if n_shared > self.key.len() {
            return Err(damaged());
        }
        self.key.truncate(n_shared);
        self.key.extend_from_slice(own);
        self.at = end;
        Ok(Some(value))
    }
}

/// The place of a key in a block.
struct Place {
    /// Where its row is. Where its row would be, if it has none.
    row: Range<usize>,
    /// Bytes that the key shares with the key before it.
    n_shared: usize,
    /// Where its value is.
    value: Option<Range<usize>>,
}

/// Finds a key that is not less than the block's name.
fn find(name: &[u8], bytes: &[u8], key: &[u8]) -> sled::Result<Place> {
    let (mut at, mut n_before, mut n_shared) = (0, name.len(), n_common(name, key));
    while at < bytes.len() {
        let (row, end) = BlockRow::at(bytes, at)?;
        if row.n_shared > n_before {
            return Err(damaged());
        }
        let order = match row.n_shared.cmp(&n_shared) {
            // As the row before, it is less than the key where the key begins to differ.
            Ordering::Greater => Ordering::Less,
            Ordering::Less => Ordering::Greater,
            Ordering::Equal => row.own.cmp(&key[n_shared..]),
        };
        match order {
            Ordering::Less if row.n_shared == n_shared => {
                n_shared += n_common(row.own, &key[n_shared..]);
            }
            Ordering::Less => {}
            Ordering::Equal => {
                let value = end - row.value.len()..end;
                return Ok(Place { row: at..end, n_shared, value: Some(value) });
            }
            Ordering::Greater => break,
        }
        n_before = row.n_shared + row.own.len();
        at = end;
    }
    Ok(Place { row: at..at, n_shared, value: None })
}

/// Returns the value at `key` in a block.
///
/// # Errors
/// If the block is damaged.
pub(super) fn value_at<'a>(
    name: &[u8],
    block: &'a [u8],
    key: &[u8],
) -> sled::Result<Option<&'a [u8]>> {
    Ok(find(name, block, key)?.value.map(|value| &block[value]))
}

/// A block whose rows are changed.
#[derive(Debug, Clone)]
pub(super) struct Block {
    name: Vec<u8>,
    bytes: Vec<u8>,
    /// The key of the last row, and where that row begins. `None` if it is not known.
    last: Option<(Vec<u8>, usize)>,
    pub(super) is_changed: bool,
    /// Whether all new rows were added at the end, where more may come.
    is_appended: bool,
}

impl Block {
    pub(super) fn new(name: Vec<u8>, bytes: Vec<u8>) -> Self {
        Self { name, bytes, last: None, is_changed: false, is_appended: true }
    }

    /// Whether it has no rows.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn find(&self, key: &[u8]) -> sled::Result<Place> {
        // Rows are mostly added behind the last one.
        match &self.last {
            Some((last, _)) if **last < *key => {
                let end = self.bytes.len();
                Ok(Place { row: end..end, n_shared: n_common(last, key), value: None })
            }
            Some((last, at)) if **last == *key => {
                let (row, end) = BlockRow::at(&self.bytes, *at)?;
                let value = Some(end - row.value.len()..end);
                Ok(Place { row: *at..end, n_shared: row.n_shared, value })
            }
            _ => find(&self.name, &self.bytes, key),
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> sled::Result<Option<&[u8]>> {
        Ok(self.find(key)?.value.map(|value| &self.bytes[value]))
    }

    /// Sets a row. Returns its value before.
    pub(super) fn insert(&mut self, key: Vec<u8>, value: &[u8]) -> sled::Result<Option<Vec<u8>>> {
        let Place { row: Range { start, mut end }, n_shared, value: place } = self.find(&key)?;
        let before = place.map(|place| self.bytes[place].to_vec());
        let mut changed = Vec::with_capacity(key.len() - n_shared + value.len() + ROW_BYTES);
        BlockRow { n_shared, own: &key[n_shared..], value }.append_to(&mut changed);
        if before.is_none() && end < self.bytes.len() {
            // The next row may share more with this one.
            let (next, next_end) = BlockRow::at(&self.bytes, end)?;
            if next.n_shared == n_shared {
                let n_more = n_common(next.own, &key[n_shared..]);
                let next = BlockRow {
                    n_shared: n_shared + n_more,
                    own: &next.own[n_more..],
                    value: next.value,
                };
                next.append_to(&mut changed);
                end = next_end;
            }
        }
        let is_last = end == self.bytes.len() && before.is_some() || start == self.bytes.len();
        self.is_appended &= before.is_some() || start == self.bytes.len();
        self.bytes.splice(start..end, changed);
        self.last = is_last.then_some((key, start));
        self.is_changed = true;
        Ok(before)
    }

    /// Removes a row. Returns its value before.
    pub(super) fn remove(&mut self, key: &[u8]) -> sled::Result<Option<Vec<u8>>> {
        let Place { row: Range { start, mut end }, n_shared, value } = self.find(key)?;
        let Some(value) = value else { return Ok(None) };
        let before = self.bytes[value].to_vec();
        let mut changed = Vec::new();
        if end < self.bytes.len() {
            let (next, next_end) = BlockRow::at(&self.bytes, end)?;
            // What the next row shares with this one only becomes its own.
            if next.n_shared > n_shared {
                let own = [&key[n_shared..next.n_shared], next.own].concat();
                BlockRow { n_shared, own: &own, value: next.value }.append_to(&mut changed);
                end = next_end;
            }
        }
        self.bytes.splice(start..end, changed);
        self.last = None;
        self.is_changed = true;
        Ok(Some(before))
    }

    /// Splits the rows into blocks of a good size. None if there are no rows.
    ///
    /// # Errors
    /// If the block is damaged.
    pub(super) fn split(self) -> sled::Result<Vec<KeyValue>> {
        let Self { name, bytes, is_appended, .. } = self;
        let n_bytes = bytes.len();
        match n_bytes {
            0 => return Ok(Vec::new()),
            1..=BLOCK_BYTES_MAX => return Ok(vec![(name, bytes)]),
            _ => {}
        }
        // If rows are inserted in between, each block gets room for more.
        let n_blocks = n_bytes.div_ceil(BLOCK_BYTES_MAX);
        let full = if is_appended { BLOCK_BYTES_MAX } else { n_bytes.div_ceil(n_blocks) };
        let mut blocks: Vec<KeyValue> = Vec::with_capacity(n_blocks);
        let mut rows = Walk::new(&name, &bytes);
        let mut start = 0;
        while let Some(value) = rows.step()? {
            match blocks.last_mut() {
                Some((_, block)) if block.len() < full => {
                    block.extend_from_slice(&bytes[start..rows.at]);
                }
                Some(_) => {
                    // Its first row has the name for its key.
                    let mut block = Vec::with_capacity(BLOCK_BYTES_MAX + ROW_BYTES);
                    BlockRow { n_shared: rows.key.len(), own: &[], value }.append_to(&mut block);
                    blocks.push((rows.key.clone(), block));
                }
                None => blocks.push((name.clone(), bytes[..rows.at].to_vec())),
            }
            start = rows.at;
        }
        Ok(blocks)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// The bytes of a block that is written with these rows at once.
    fn written(name: &[u8], rows: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
        let (mut bytes, mut before) = (Vec::new(), name);
        for (key, value) in rows {
            let n_shared = n_common(before, key);
            BlockRow { n_shared, own: &key[n_shared..], value }.append_to(&mut bytes);
            before = key;
        }
        bytes
    }

    proptest! {
        #[test]
        fn a_block_that_is_changed_has_the_bytes_of_one_that_is_written_at_once(
            changes in prop::collection::vec(("[ab]{0,4}", prop::option::of(0u8..9)), 0..60),
        ) {
            let name = b"i".to_vec();
            let mut block = Block::new(name.clone(), Vec::new());
            let mut rows = BTreeMap::new();
            for (text, value) in changes {
                let key = [&name[..], text.as_bytes()].concat();
                let value = value.map(|n| vec![n; usize::from(n)]);
                prop_assert_eq!(block.get(&key).expect("a block"), rows.get(&key).map(Vec::as_slice));
                let before = match &value {
                    Some(value) => block.insert(key.clone(), value),
                    None => block.remove(&key),
                };
                let want = match value {
                    Some(value) => rows.insert(key, value),
                    None => rows.remove(&key),
                };
                prop_assert_eq!(before.expect("a block"), want);
                prop_assert_eq!(&block.bytes, &written(&name, &rows));
            }
        }
    }
}
