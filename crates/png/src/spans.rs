//! Bytes → literals and runs of zeros.
//!
//! Filtered rows consist of noise and zeros. A search for copies in them would take eighty times as long as
//! all the rest, and find little.

use alloc::vec::Vec;

use crate::kernels::zeros::zero_bytes;

/// Literals, followed by a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) n_literals: u32,
    /// Bytes that are copied: a multiple of [`RUN_MAX`], or at least 3 more than one.
    pub(crate) n_copied: u32,
    /// Distance to the source of the copy, in bytes: 1 to 32768. It is 1 for a run of zeros after a zero.
    pub(crate) distance: u32,
}

/// Longest copy that one symbol can encode.
pub(crate) const RUN_MAX: u32 = 258;

/// Shortest run. Fewer zeros stay among the literals.
const ZEROS_MIN: u32 = 8;

/// Parts bytes into literals and runs of zeros. There must be fewer than 2³² bytes.
pub(crate) fn find_zeros(bytes: &[u8], spans: &mut Vec<Span>) {
    spans.clear();
    let mut finder = Finder { spans, from: 0 };
    // `n_before`: the number of zeros that end at `at`.
    let (mut at, mut n_before) = (0, 0);
    let (blocks, rest) = bytes.as_chunks::<64>();
    for block in blocks {
        // A run that is long enough has four zeros at a multiple of 4.
        if n_before > 0 || has_four_zeros(block) {
            n_before =
                finder.block(zero_bytes(block), at, n_before.max(few_zeros_before(bytes, at)));
        }
        at += 64;
    }
    if !rest.is_empty() {
        let mut block = [1; 64];
        block[..rest.len()].copy_from_slice(rest);
        // The padding is not zero, and so ends the last run.
        finder.block(zero_bytes(&block), at, n_before.max(few_zeros_before(bytes, at)));
        n_before = 0;
    }
    let n = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    finder.zeros(n - n_before, n_before);
    let n_literals = n - finder.from;
    spans.push(Span { n_literals, n_copied: 0, distance: 1 });
}

/// Whether four zeros begin at a multiple of 4.
fn has_four_zeros(block: &[u8; 64]) -> bool {
    let fours = block.as_chunks::<4>().0.iter();
    fours.fold(false, |any, &four| any | (u32::from_ne_bytes(four) == 0))
}

/// Returns the number of zeros that end at `at`, up to 3.
fn few_zeros_before(bytes: &[u8], at: u32) -> u32 {
    let before = bytes[..at as usize].iter().rev().take(3);
    before.take_while(|&&byte| byte == 0).map(|_| 1).sum()
}

struct Finder<'a> {
    spans: &'a mut Vec<Span>,
    /// Start of the bytes that are in no span yet.
    from: u32,
}

impl Finder<'_> {
    /// Adds the 64 bytes from `at` on, which follow `n_before` zeros. Returns the number of zeros at their
    /// end.
    fn block(&mut self, mut is_zero: u64, at: u32, n_before: u32) -> u32 {
        let n_first = is_zero.trailing_ones();
        if n_first == 64 {
            return n_before + 64;
        }
        self.zeros(at - n_before, n_before + n_first);
        let n_last = is_zero.leading_ones();
        // The runs that are left touch neither end of the block.
        is_zero &= u64::MAX << n_first & u64::MAX >> n_last;
        // A bit for each byte at which 8 zeros begin.
        let twos = is_zero & is_zero >> 1;
        let fours = twos & twos >> 2;
        let mut eights = fours & fours >> 4;
        while eights > 0 {
            let start = eights.trailing_zeros();
            let n = (is_zero >> start).trailing_ones();
            self.zeros(at + start, n);
            eights &= u64::MAX << (start + n);
        }
        n_last
    }

    fn zeros(&mut self, start: u32, n: u32) {
        if n < ZEROS_MIN {
            return;
        }
        let mut n_zeros = n - 1;
        if n_zeros % RUN_MAX < 3 {
            n_zeros -= n_zeros % RUN_MAX;
        }
        let n_literals = start + 1 - self.from;
        self.spans.push(Span { n_literals, n_copied: n_zeros, distance: 1 });
        self.from = start + 1 + n_zeros;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(bytes: &[u8]) {
        let mut spans = Vec::new();
        find_zeros(bytes, &mut spans);
        let mut at = 0;
        for (i, &Span { n_literals, n_copied: n_zeros, .. }) in spans.iter().enumerate() {
            let n_literals = usize::try_from(n_literals).unwrap();
            let literals = &bytes[at..at + n_literals];
            at += n_literals;
            // No long run is left. Up to 2 zeros may be left in front of a run.
            let is_run = |eleven: &[u8]| eleven.iter().all(|&byte| byte == 0);
            assert!(!literals.windows(11).any(is_run), "{i} {spans:?}");
            if n_zeros > 0 {
                assert_eq!(literals.last(), Some(&0), "{i} {spans:?}");
                assert!(n_zeros % RUN_MAX == 0 || n_zeros % RUN_MAX >= 3, "{i} {spans:?}");
            }
            let zeros = &bytes[at..at + usize::try_from(n_zeros).unwrap()];
            assert!(zeros.iter().all(|&byte| byte == 0), "{i} {spans:?}");
            at += zeros.len();
        }
        assert_eq!(at, bytes.len(), "{spans:?}");
    }

    #[test]
    fn runs_of_all_lengths_at_all_places_are_found() {
        for n in (0..80).chain(250..270).chain(510..530) {
            for before in (0..70).step_by(3) {
                for after in [0, 1, 5, 64] {
                    let parts = [vec![7; before], vec![0; n], vec![7; after]];
                    check(&parts.concat());
                }
            }
        }
    }

    proptest! {
        #[test]
        fn random_bytes_are_parted(
            parts in prop::collection::vec((0usize..40, prop_oneof![0usize..20, 0usize..700]), 0..40),
        ) {
            let part = |(n, n_zeros): (usize, usize)| [vec![9u8; n], vec![0; n_zeros]].concat();
            check(&parts.into_iter().flat_map(part).collect::<Vec<u8>>());
        }
    }
}
