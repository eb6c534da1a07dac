//! Bytes → literals and copies of what was before: for flat pictures.

use crate::spans::{RUN_MAX, Span};

const HASH_BITS: u32 = 15;

/// The furthest copy.
const WINDOW: u32 = 1 << 15;

/// How hard copies are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Effort {
    /// The shortest copy: 4 to 8 bytes.
    pub(crate) length_min: usize,
    /// A copy of so many bytes is taken without a look at the next byte.
    pub(crate) length_good: usize,
    /// So many places are looked at for a copy, beside the row above.
    pub(crate) n_tries: usize,
    /// After so many bytes without a copy, one byte is passed over at each step, and one more after as
    /// many again, up to 7.
    pub(crate) patience: usize,
    /// Of a longer copy only so many places at both ends are remembered.
    pub(crate) n_remembered: usize,
}

impl Effort {
    /// For flat pictures, as they are.
    pub(crate) const FLAT: Self =
        Self { length_min: 4, length_good: 32, n_tries: 6, patience: usize::MAX, n_remembered: 8 };

    /// For flat pictures in colour, in a hurry.
    pub(crate) const QUICK: Self =
        Self { length_min: 8, length_good: 0, n_tries: 1, patience: usize::MAX, n_remembered: 4 };

    /// For filtered rows, which are mostly noise: a few bytes in common cost more as a copy.
    pub(crate) const RICH: Self =
        Self { length_min: 8, length_good: 16, n_tries: 2, patience: 32, n_remembered: 8 };
}

/// Finds copies, and keeps its memory from one picture to the next.
#[derive(Debug)]
pub(crate) struct Matcher {
    /// The last place whose next bytes have this hash; places are counted on from call to call, so that
    /// nothing is to be cleared.
    last: Box<[u32]>,
    /// The place before each, with the same hash.
    before: Box<[u32]>,
    /// The place of the first byte.
    first: u32,
}

impl Default for Matcher {
    fn default() -> Self {
        Self { last: Box::default(), before: Box::default(), first: 1 }
    }
}

impl Matcher {
    /// Parts fewer than 2^30 bytes into literals and copies. A copy from `row_bytes` before is tried first.
    /// All calls on one matcher may differ in effort: what the hash of another length finds is compared.
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
            // Perhaps a longer one begins at the next byte.
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
            // Of a long copy the ends are enough.
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

    /// The longest copy that is longer than `length`, and its distance; else this length.
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
            // The next byte must be the same as well, and with it the three before: one byte alone is
            // so often that no processor foresees it.
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
            self.before[(here % WINDOW) as usize] = std::mem::replace(&mut self.last[hash], here);
        }
    }
}

/// A hash of so many bytes; none so near to the end that there are not eight.
fn hash(bytes: &[u8], at: usize, n: usize) -> Option<usize> {
    let eight = u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?);
    let hash = (eight << (64 - 8 * n)).wrapping_mul(0x9e37_79b1_85eb_ca87) >> (64 - HASH_BITS);
    usize::try_from(hash).ok()
}

/// How many bytes of `here` are the same as those of `there`, which is no shorter.
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
            for effort in [Effort::FLAT, Effort::RICH, Effort::QUICK, Effort::FLAT] {
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
