//! The thumbnails that were used last, in memory. Pure.

use std::collections::{BTreeMap, HashMap};

use super::{Picture, ThumbKey};

/// Thumbnails of a bounded number of bytes. The one whose use is longest ago goes first.
#[derive(Debug)]
pub(super) struct Memory {
    pictures: HashMap<ThumbKey, (u64, Picture)>,
    /// By the number of their last use.
    by_use: BTreeMap<u64, ThumbKey>,
    n_uses: u64,
    n_bytes: usize,
    bytes_max: usize,
}

/// Bytes that a thumbnail takes beside its file.
const ENTRY_BYTES: usize = 160;

impl Memory {
    pub(super) fn new(bytes_max: usize) -> Self {
        let (pictures, by_use) = (HashMap::new(), BTreeMap::new());
        Self { pictures, by_use, n_uses: 0, n_bytes: 0, bytes_max }
    }

    pub(super) fn get(&mut self, key: &ThumbKey) -> Option<Picture> {
        let (last_use, picture) = self.pictures.get_mut(key)?;
        self.by_use.remove(last_use);
        self.n_uses += 1;
        *last_use = self.n_uses;
        self.by_use.insert(self.n_uses, *key);
        Some(picture.clone())
    }

    pub(super) fn put(&mut self, key: ThumbKey, picture: Picture) {
        self.remove(&key);
        self.n_uses += 1;
        self.n_bytes += picture.bytes.len() + ENTRY_BYTES;
        self.pictures.insert(key, (self.n_uses, picture));
        self.by_use.insert(self.n_uses, key);
        while self.n_bytes > self.bytes_max
            && let Some(oldest) = self.by_use.first_entry().map(|entry| *entry.get())
        {
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &ThumbKey) {
        if let Some((last_use, picture)) = self.pictures.remove(key) {
            self.by_use.remove(&last_use);
            self.n_bytes -= picture.bytes.len() + ENTRY_BYTES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Sha256;

    #[test]
    fn the_one_whose_use_is_longest_ago_goes_first() {
        let key = |name: &str| ThumbKey { sha256: Sha256::of(name.as_bytes()), size: 128 };
        let picture = |n| Picture { content_type: "image/png", bytes: vec![7; n].into() };
        let mut memory = Memory::new(3 * (1000 + ENTRY_BYTES));
        for name in ["a", "b", "c"] {
            memory.put(key(name), picture(1000));
        }
        assert!(memory.get(&key("a")).is_some());
        memory.put(key("d"), picture(1000));
        let has =
            |memory: &mut Memory| ["a", "b", "c", "d"].map(|name| memory.get(&key(name)).is_some());
        assert_eq!(has(&mut memory), [true, false, true, true]);
        // The same one again replaces itself.
        memory.put(key("d"), picture(900));
        assert_eq!(has(&mut memory), [true, false, true, true]);
        // One that is larger than all leaves nothing.
        memory.put(key("e"), picture(10_000));
        assert_eq!(has(&mut memory), [false; 4]);
        assert_eq!((memory.n_bytes, memory.by_use.len(), memory.pictures.len()), (0, 0, 0));
    }
}
