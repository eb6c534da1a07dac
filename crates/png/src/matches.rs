//! Bytes → literals and copies of earlier bytes, for flat pictures.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use crate::spans::{RUN_MAX, Span};

const HASH_BITS: u32 = 15;

/// Largest distance of a copy.
const WINDOW: u32 = 1 << 15;

/// The effort of the search for copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Effort {
    /// Shortest copy: 4 to 8 bytes.
    pub(crate) length_min: usize,
    /// Length of a copy that is taken without a search at the next byte.
    pub(crate) length_good: usize,
    /// Places that are tried for a copy, in addition to the row above.
    pub(crate) n_tries: usize,
    /// Bytes without a copy after which each step skips one more byte, up to 7.
    pub(crate) patience: usize,
    /// Places at both ends of a long copy that are added to the hash table.
    pub(crate) n_remembered: usize,
}

impl Effort {
    /// For rows of flat pictures that are not filtered.
    pub(crate) const FLAT: Self =
        Self { length_min: 5, length_good: 32, n_tries: 6, patience: usize::MAX, n_remembered: 8 };

    /// For flat pictures in colour under [`Compression::Fast`](crate::Compression::Fast).
    pub(crate) const QUICK: Self =
        Self { length_min: 8, length_good: 0, n_tries: 1, patience: usize::MAX, n_remembered: 4 };

    /// For filtered rows of tiny pictures.
    pub(crate) const TINY: Self =
        Self { length_min: 4, length_good: 32, n_tries: 6, patience: usize::MAX, n_remembered: 8 };

    /// For filtered rows. They are mostly noise, in which a short copy costs more than its literals.
    pub(crate) const RICH: Self =
        Self { length_min: 8, length_good: 16, n_tries: 2, patience: 32, n_remembered: 8 };
}

/// Finds copies. Reuses its buffers from one picture to the next.
#[derive(Debug)]
pub(crate) struct Matcher {
    /// For each hash, the last place whose next bytes have it. Places are counted on from call to call, so
    /// that the table need not be cleared.
    last: Box<[u32]>,
    /// For each place, the one before it with the same hash.
    before: Box<[u32]>,
    /// Place of the first byte.
    first: u32,
}

impl Default for Matcher {
    fn default() -> Self {
        Self { last: Box::default(), before: Box::default(), first: 1 }
    }
}

impl Matcher {
    /// Parts bytes into literals and copies. There must be fewer than 2³⁰ bytes. A copy from `row_bytes`
    /// before is tried first.
    ///
    /// Calls may differ in effort. Places that were hashed with another length are harmless, because the bytes
    /// are compared.
    pub(crate) fn find(
        &mut self,
        bytes: &[u8],
        row_bytes: usize,
        effort: Effort,
        spans: &mut Vec<Span>,
    ) {
        let Effort { length_min, length_good, patience, n_remembered, .. } = effort;
        spans.clear();
        let n = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if self.last.is_empty() || self.first.saturating_add(n) > 1 << 31 {
            self.last = vec![0; 1 << HASH_BITS].into();
            self.before = vec![0; WINDOW as usize].into();
            self.first = 1;
        }
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (mut at, mut n_written) = (0, 0);
        while at + length_min <= bytes.len() {
            let (mut length, mut distance) =
                self.longest(bytes, at, row_bytes, effort, length_min - 1);
            self.insert(bytes, at, length_min);
            if length < length_min {
                at += 1 + ((at - n_written) / patience).min(7);
                continue;
            }
            // A longer copy may begin at the next byte.
            while length < length_good && at + 1 + length_min <= bytes.len() {
                let (longer, further) = self.longest(bytes, at + 1, row_bytes, effort, length);
                if longer <= length {
                    break;
                }
                at += 1;
                self.insert(bytes, at, length_min);
                (length, distance) = (longer, further);
            }
            spans.push(Span {
                n_literals: number(at - n_written),
                n_copied: number(length),
                distance: number(distance),
            });
            // The ends of a long copy are enough.
            let end = at + length;
            let first_end = end.min(at + n_remembered);
            let last_start = first_end.max(end.saturating_sub(n_remembered - 1));
            for at in (at + 1..first_end).chain(last_start..end) {
                self.insert(bytes, at, length_min);
            }
            (at, n_written) = (end, end);
        }
        let n_literals = number(bytes.len() - n_written);
        spans.push(Span { n_literals, n_copied: 0, distance: 1 });
        self.first += n;
    }

    /// Returns length and distance of the longest copy that is longer than `length`. If there is none,
    /// returns `length`.
    fn longest(
        &self,
        bytes: &[u8],
        at: usize,
        row_bytes: usize,
        effort: Effort,
        mut length: usize,
    ) -> (usize, usize) {
        let mut distance = 0;
        let length_max = (bytes.len() - at).min(RUN_MAX as usize);
        let mut try_place = |place: usize| {
            // A longer copy has the next byte, too. The three bytes before it are compared as well: a single
            // byte is equal too often for the branch to be predictable.
            let last_four = |place: usize| bytes[place + length - 3..].first_chunk::<4>();
            if length < length_max && last_four(place) == last_four(at) {
                let n = n_same(&bytes[place..], &bytes[at..at + length_max]);
                if n > length {
                    (length, distance) = (n, at - place);
                }
            }
            length >= length_max
        };
        if row_bytes <= at && row_bytes <= WINDOW as usize && try_place(at - row_bytes) {
            return (length, distance);
        }
        let here = self.first + u32::try_from(at).unwrap_or(u32::MAX);
        let mut place = hash(bytes, at, effort.length_min).map_or(0, |hash| self.last[hash]);
        for _ in 0..effort.n_tries {
            if place < self.first || place >= here || here - place > WINDOW {
                break;
            }
            if try_place((place - self.first) as usize) {
                break;
            }
            let before = self.before[(place % WINDOW) as usize];
            if before >= place {
                break;
            }
            place = before;
        }
        (length, distance)
    }

    fn insert(&mut self, bytes: &[u8], at: usize, length_min: usize) {
        if let Some(hash) = hash(bytes, at, length_min) {
            let here = self.first + u32::try_from(at).unwrap_or(u32::MAX);
            self.before[(here % WINDOW) as usize] = core::mem::replace(&mut self.last[hash], here);
        }
    }
}

/// Returns the hash of the `n` bytes at `at`. `None` if fewer than eight bytes are left.
fn hash(bytes: &[u8], at: usize, n: usize) -> Option<usize> {
    let eight = u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?);
    let hash = (eight << (64 - 8 * n)).wrapping_mul(0x9e37_79b1_85eb_ca87) >> (64 - HASH_BITS);
    usize::try_from(hash).ok()
}

/// Returns the number of equal bytes at the start of `here` and `there`, which is at least as long.
fn n_same(there: &[u8], here: &[u8]) -> usize {
    let words = here.as_chunks::<8>().0.iter().zip(there.as_chunks::<8>().0);
    let mut n = 0;
    for (here, there) in words {
        let differs = u64::from_le_bytes(*here) ^ u64::from_le_bytes(*there);
        if differs > 0 {
            return n + differs.trailing_zeros() as usize / 8;
        }
        n += 8;
    }
    n + here[n..].iter().zip(&there[n..]).take_while(|(here, there)| here == there).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn copies_make_the_same_bytes(
            parts in prop::collection::vec((prop::collection::vec(0u8..4, 1..9), 1usize..80), 0..60),
            row_bytes in 1usize..300,
        ) {
            let part = |(bytes, n): (Vec<u8>, usize)| bytes.repeat(n);
            let bytes: Vec<u8> = parts.into_iter().flat_map(part).collect();
            let (mut matcher, mut spans) = (Matcher::default(), Vec::new());
            for effort in [Effort::FLAT, Effort::RICH, Effort::QUICK, Effort::TINY] {
                matcher.find(&bytes, row_bytes, effort, &mut spans);
                let mut made: Vec<u8> = Vec::new();
                for &Span { n_literals, n_copied, distance } in &spans {
                    made.extend_from_slice(&bytes[made.len()..][..n_literals as usize]);
                    prop_assert!(n_copied == 0 || (4..=258).contains(&n_copied));
                    for _ in 0..n_copied {
                        let from = made.len() - distance as usize;
                        made.push(made[from]);
                    }
                }
                prop_assert_eq!(&made, &bytes);
            }
        }
    }
}
