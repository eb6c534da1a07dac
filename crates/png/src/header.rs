//! The header of a dynamic deflate block, which contains the code lengths.

use alloc::vec::Vec;

use crate::huffman::{canonical_codes, code_lengths};
use crate::kernels::bits::Bits;
use crate::symbols::{N_DISTANCES, N_SYMBOLS};

const N_LENGTHS_MAX: usize = N_SYMBOLS + N_DISTANCES;

/// The code lengths of a block, run-length encoded.
#[derive(Debug)]
pub(crate) struct Header {
    /// Symbols of the code of code lengths; for each, the number of extra bits and the bits.
    tokens: [(u8, u8, u8); N_LENGTHS_MAX],
    n_tokens: usize,
    n_symbols: usize,
    n_distances: usize,
    lengths: [u8; 19],
    /// Length in bits, including the type of the block.
    pub(crate) n_bits: u64,
}

impl Header {
    /// Encodes the lengths of the codes of symbols and distances.
    pub(crate) fn new(symbols: &[u8; N_SYMBOLS], distances: &[u8; N_DISTANCES]) -> Self {
        let n_used = |lengths: &[u8], least: usize| {
            lengths.iter().rposition(|&length| length > 0).map_or(0, |last| last + 1).max(least)
        };
        let (n_symbols, n_distances) = (n_used(symbols, 257), n_used(distances, 1));
        let mut all = [0; N_LENGTHS_MAX];
        all[..n_symbols].copy_from_slice(&symbols[..n_symbols]);
        all[n_symbols..][..n_distances].copy_from_slice(&distances[..n_distances]);
        let mut tokens = [(0, 0, 0); N_LENGTHS_MAX];
        let mut n_tokens = 0;
        let mut counts = [0; 19];
        let mut put = |symbol: u8, n_extra: u8, extra: usize| {
            tokens[n_tokens] = (symbol, n_extra, u8::try_from(extra).unwrap_or(0));
            n_tokens += 1;
            counts[usize::from(symbol)] += 1;
        };
        let mut rest = &all[..n_symbols + n_distances];
        while let Some(&length) = rest.first() {
            let n = rest.iter().take(138).take_while(|&&next| next == length).count();
            let n = match (length, n) {
                (0, 11..) => {
                    put(18, 7, n - 11);
                    n
                }
                (0, 3..) => {
                    put(17, 3, n - 3);
                    n
                }
                (_, 4..) => {
                    put(length, 0, 0);
                    let n = (n - 1).min(6);
                    put(16, 2, n - 3);
                    n + 1
                }
                _ => {
                    put(length, 0, 0);
                    1
                }
            };
            rest = &rest[n..];
        }
        let mut lengths = [0; 19];
        let n_bits = code_lengths(&counts, 7, &mut lengths);
        let n_extra = 2 * counts[16] + 3 * counts[17] + 7 * counts[18];
        let n_bits = 3 + 14 + 3 * 19 + n_bits + u64::from(n_extra);
        Self { tokens, n_tokens, n_symbols, n_distances, lengths, n_bits }
    }

    /// Writes the header without the type of the block.
    pub(crate) fn write(&self, bits: &mut Bits, out: &mut Vec<u8>) {
        const ORDER: [usize; 19] =
            [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
        let mut codes = [0; 19];
        canonical_codes(&self.lengths, &mut codes);
        let n = 1 + ORDER.iter().rposition(|&i| self.lengths[i] > 0).unwrap_or(3).max(3);
        let count = |n: usize, least: usize| u32::try_from(n - least).unwrap_or(0);
        let counts =
            count(self.n_symbols, 257) | count(self.n_distances, 1) << 5 | count(n, 4) << 10;
        bits.put(counts.into(), 14, out);
        for &i in &ORDER[..n] {
            bits.put(self.lengths[i].into(), 3, out);
        }
        for &(symbol, n_extra, extra) in &self.tokens[..self.n_tokens] {
            let symbol = usize::from(symbol);
            let n = u32::from(self.lengths[symbol]);
            let code = u64::from(codes[symbol]) | u64::from(extra) << n;
            bits.put(code, n + u32::from(n_extra), out);
        }
    }
}
