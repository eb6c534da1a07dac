//! Bytes → literals and runs of zeros. That is all that is looked for in rows that are filtered: they
//! hold little but noise and zeros, and a search for matches costs eighty times what all the rest does.

use crate::kernels::zeros::zero_bytes;

/// Literals, and what follows them and is a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) n_literals: u32,
    /// How many bytes are copied: 0, or at least 3 more than a multiple of [`RUN_MAX`], or a multiple of
    /// it.
    pub(crate) n_copied: u32,
    /// From how many bytes before: 1 to 32768; 1 for a run of zeros after a zero.
    pub(crate) distance: u32,
}

/// The longest run that one symbol stands for.
pub(crate) const RUN_MAX: u32 = 258;

/// Zeros that are fewer are left among the literals.
const ZEROS_MIN: u32 = 8;

/// Parts fewer than 2^32 bytes into literals and runs of zeros.
pub(crate) fn find_zeros(bytes: &[u8], spans: &mut Vec<Span>) {
    spans.clear();
    let mut finder = Finder { spans, from: 0 };
    // How many bytes before `at` are zeros.
    let (mut at, mut n_before) = (0, 0);
    let (blocks, rest) = bytes.as_chunks::<64>();
    for block in blocks {
        n_before = finder.block(zero_bytes(block), at, n_before);
        at += 64;
    }
    if !rest.is_empty() {
        let mut block = [1; 64];
        block[..rest.len()].copy_from_slice(rest);
        // What fills the block up is not zero, and ends the last run.
        finder.block(zero_bytes(&block), at, n_before);
        n_before = 0;
    }
    let n = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    finder.zeros(n - n_before, n_before);
    let n_literals = n - finder.from;
    spans.push(Span { n_literals, n_copied: 0, distance: 1 });
}

struct Finder<'a> {
    spans: &'a mut Vec<Span>,
    /// Where the bytes begin that are in no span yet.
    from: u32,
}

impl Finder<'_> {
    /// Looks at 64 bytes from `at` on, before which are so many zeros. How many zeros they end in.
    fn block(&mut self, mut is_zero: u64, at: u32, n_before: u32) -> u32 {
        let n_first = is_zero.trailing_ones();
        if n_first == 64 {
            return n_before + 64;
        }
        self.zeros(at - n_before, n_before + n_first);
        let n_last = is_zero.leading_ones();
        // What is left ends before the last byte and begins after the first.
        is_zero &= u64::MAX << n_first & u64::MAX >> n_last;
        // A bit for each place where 8 zeros begin.
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
            // No long run is left, but for a rest of fewer than 3 before.
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
