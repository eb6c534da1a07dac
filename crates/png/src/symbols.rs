//! The symbols of deflate and their frequencies: bytes, the end of a block, lengths and distances of copies.

use crate::spans::{RUN_MAX, Span};

/// Number of symbols for bytes, the end of a block, and lengths.
pub(crate) const N_SYMBOLS: usize = 286;

/// Number of symbols for distances.
pub(crate) const N_DISTANCES: usize = 30;

pub(crate) const END_OF_BLOCK: usize = 256;

/// For each length symbol: the shortest length, and the number of extra bits.
const RUNS: [(u16, u8); 29] = {
    let mut runs = [(0, 0); 29];
    let (mut i, mut shortest) = (0, 3);
    while i < 28 {
        // Four symbols each with 0, 0, 1, 2, 3, 4 and 5 extra bits.
        let n_extra = [0, 0, 1, 2, 3, 4, 5][i / 4];
        runs[i] = (shortest, n_extra);
        shortest += 1 << n_extra;
        i += 1;
    }
    runs[28] = (258, 0);
    runs
};

/// Returns the symbol of a length of 3 to 258, its extra bits, and their number.
pub(crate) fn run_symbol(length: u32) -> (usize, u32, u32) {
    const SYMBOLS: [u8; RUN_MAX as usize + 1] = {
        let mut symbols = [0; _];
        let (mut i, mut length) = (0u8, 3);
        while length <= RUN_MAX {
            if i < 28 && length >= RUNS[i as usize + 1].0 as u32 {
                i += 1;
            }
            symbols[length as usize] = i;
            length += 1;
        }
        symbols
    };
    let i = usize::from(SYMBOLS[length as usize]);
    let (shortest, n_extra) = RUNS[i];
    (END_OF_BLOCK + 1 + i, length - u32::from(shortest), n_extra.into())
}

/// Returns the symbol of a distance of 1 to 32768, its extra bits, and their number.
pub(crate) fn distance_symbol(distance: u32) -> (usize, u32, u32) {
    let from_0 = distance - 1;
    if from_0 < 4 {
        return (from_0 as usize, 0, 0);
    }
    // Two symbols for every power of two.
    let n_extra = from_0.ilog2() - 1;
    let symbol = 2 * n_extra + (from_0 >> n_extra);
    (symbol as usize, from_0 & ((1 << n_extra) - 1), n_extra)
}

/// The frequencies of the symbols.
#[derive(Debug, Clone)]
pub(crate) struct Counts {
    pub(crate) symbols: [u32; N_SYMBOLS],
    pub(crate) distances: [u32; N_DISTANCES],
    /// Number of all extra bits.
    pub(crate) n_extra: u64,
}

impl Counts {
    /// Counts copies and literals. With [`Sampling::Parts`], the counts of many literals are extrapolated
    /// from some parts.
    pub(crate) fn of(bytes: &[u8], spans: &[Span], sampling: Sampling) -> Self {
        let n_literals: usize = spans.iter().map(|span| span.n_literals as usize).sum();
        let (every, part_bytes) = sampling.every(n_literals);
        let mut counts = Self { symbols: [0; _], distances: [0; _], n_extra: 0 };
        let mut literals = LiteralCounts::default();
        let mut rest = bytes;
        // Literals to skip up to the next part that is counted, and literals to count in it.
        let (mut n_skipped, mut n_to_count) = (every / 2 * part_bytes, part_bytes);
        for &Span { n_literals, n_copied, distance } in spans {
            let mut span;
            (span, rest) = rest.split_at(n_literals as usize);
            rest = &rest[n_copied as usize..];
            if every == 1 {
                literals.count(span);
            } else {
                while span.len() > n_skipped {
                    span = &span[n_skipped..];
                    let (counted, after) = span.split_at(span.len().min(n_to_count));
                    literals.count(counted);
                    (n_skipped, n_to_count) = (0, n_to_count - counted.len());
                    span = after;
                    if n_to_count == 0 {
                        (n_skipped, n_to_count) = ((every - 1) * part_bytes, part_bytes);
                    }
                }
                n_skipped -= span.len();
            }
            if n_copied > 0 {
                counts.copies(RUN_MAX, distance, n_copied / RUN_MAX);
                counts.copies(
                    n_copied % RUN_MAX,
                    distance,
                    u32::from(!n_copied.is_multiple_of(RUN_MAX)),
                );
            }
        }
        counts.symbols[END_OF_BLOCK] = 1;
        let (first, n_counted) = literals.sums();
        if every == 1 {
            counts.symbols[..256].copy_from_slice(&first);
        } else {
            // Scaled to all literals. Bytes that were not seen may occur, so they count once.
            let per_65536 = ((n_literals as u64) << 16) / u64::from(n_counted.max(1));
            for (count, seen) in counts.symbols.iter_mut().zip(first) {
                let n = (u64::from(seen) * per_65536) >> 16;
                *count = u32::try_from(n).unwrap_or(u32::MAX).max(1);
            }
        }
        counts
    }

    fn copies(&mut self, length: u32, distance: u32, n: u32) {
        if n > 0 {
            let (symbol, _, n_extra) = run_symbol(length);
            self.symbols[symbol] += n;
            let (symbol, _, n_more) = distance_symbol(distance);
            self.distances[symbol] += n;
            self.n_extra += u64::from(n) * u64::from(n_extra + n_more);
        }
    }

    /// Returns the length of each literal under the best code, in sixteenths of a bit.
    pub(crate) fn sixteenths(&self) -> [u16; 256] {
        let n: u32 = self.symbols.iter().sum();
        let log = |n: u32| {
            // The logarithm of 2, a straight line between its powers.
            let n_bits = n.max(1).ilog2();
            let rest = (u64::from(n.max(1)) << 4 >> n_bits) & 15;
            16 * n_bits + u32::try_from(rest).unwrap_or(0)
        };
        let mut sixteenths = [0; 256];
        for (sixteenth, &count) in sixteenths.iter_mut().zip(&self.symbols) {
            *sixteenth = u16::try_from(log(n) - log(count)).unwrap_or(u16::MAX);
        }
        sixteenths
    }
}

/// The literals that are counted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sampling {
    /// All literals.
    All,
    /// If there are many literals, only those in some parts of this many bytes.
    Parts(usize),
}

impl Sampling {
    /// Returns `(every, part_bytes)`: one part in `every` is counted, of `part_bytes` bytes.
    fn every(self, n_literals: usize) -> (usize, usize) {
        match self {
            Self::Parts(part_bytes) if n_literals > COUNTED_BYTES_MAX => {
                let n_counted = (COUNTED_BYTES_MIN / part_bytes).max(1);
                ((n_literals.div_ceil(part_bytes) / n_counted).max(1), part_bytes)
            }
            _ => (1, usize::MAX),
        }
    }
}

/// Up to this many literals are all counted.
const COUNTED_BYTES_MAX: usize = 48 << 10;

/// Of more literals, about this many are counted.
const COUNTED_BYTES_MIN: usize = 24 << 10;

/// Four counts of each byte, so that equal bytes in a row do not wait for each other.
struct LiteralCounts([[u32; 256]; 4]);

impl Default for LiteralCounts {
    fn default() -> Self {
        Self([[0; 256]; 4])
    }
}

impl LiteralCounts {
    fn count(&mut self, literals: &[u8]) {
        let (fours, rest) = literals.as_chunks::<4>();
        for four in fours {
            for (lane, &byte) in self.0.iter_mut().zip(four) {
                lane[usize::from(byte)] += 1;
            }
        }
        rest.iter().for_each(|&byte| self.0[0][usize::from(byte)] += 1);
    }

    /// Returns the count of each byte, and of all.
    fn sums(&self) -> ([u32; 256], u32) {
        let mut sums = self.0[0];
        for lane in &self.0[1..] {
            sums.iter_mut().zip(lane).for_each(|(sum, count)| *sum += count);
        }
        (sums, sums.iter().sum())
    }
}
