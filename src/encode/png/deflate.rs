//! Deflate of filtered rows: one block of literals and runs of zeros for each call, or stored blocks.
//!
//! There is no search for matches: it costs eighty times what all the rest does, and rows that are
//! filtered hold little but noise and zeros.

use super::huffman::{canonical_codes, code_lengths};
use super::spans::{RUN_MAX, Span, find_spans};
use crate::simd::bits::{Bits, ByteCodes, CODE_BITS_MAX, Packing};

/// Symbols for bytes, the end of a block, and lengths.
const N_SYMBOLS: usize = 286;

const END_OF_BLOCK: usize = 256;

/// Bits, and how many.
type Code = (u32, u32);

/// Writes one stream, block by block.
#[derive(Debug)]
pub(super) struct Deflate {
    bits: Bits,
    spans: Vec<Span>,
    codes: ByteCodes,
    /// The codes of the symbols that are no bytes.
    others: [Code; N_SYMBOLS - END_OF_BLOCK],
}

impl Deflate {
    pub(super) fn new(packing: Packing) -> Self {
        Self {
            bits: Bits::new(packing),
            spans: Vec::new(),
            codes: ByteCodes::default(),
            others: [(0, 0); _],
        }
    }

    /// Begins a stream of zlib's form.
    pub(super) fn begin(&mut self, out: &mut Vec<u8>) {
        self.bits.reset((0, 0));
        // Deflate with a window of 32 KiB; the fastest level.
        out.extend_from_slice(&[0x78, 0x01]);
    }

    /// Ends it, after the last block.
    pub(super) fn end(&mut self, adler: u32, out: &mut Vec<u8>) {
        self.bits.align(out);
        self.bits.drain(out);
        out.extend_from_slice(&adler.to_be_bytes());
    }

    /// Writes a block of fewer than 2^32 bytes; stored if that is smaller. Their symbols are counted in
    /// parts of `part_bytes`, of all parts or of some, as there are many.
    pub(super) fn block(
        &mut self,
        bytes: &[u8],
        part_bytes: usize,
        is_last: bool,
        out: &mut Vec<u8>,
    ) {
        find_spans(bytes, &mut self.spans);
        let counts = Counts::of(bytes, &self.spans, part_bytes);
        let mut lengths = [0; N_SYMBOLS];
        code_lengths(&counts.0, CODE_BITS_MAX, &mut lengths);
        let header = Header::new(&lengths);
        if header.n_bits + counts.n_bits(&lengths) >= 8 * bytes.len() as u64 {
            return self.stored(bytes, is_last, out);
        }
        let (start, before) = (out.len(), self.bits.pending());
        self.set_codes(&lengths);
        self.put((u32::from(is_last) | 0b100, 3), out);
        header.write(self, out);
        let mut rest = bytes;
        for i in 0..self.spans.len() {
            let Span { n_literals, n_zeros } = self.spans[i];
            let literals;
            (literals, rest) = rest.split_at(n_literals as usize);
            self.bits.put_codes(&self.codes, literals, out);
            self.put_zeros(n_zeros, out);
            rest = &rest[n_zeros as usize..];
        }
        self.put(self.others[0], out);
        self.bits.drain(out);
        // What was counted was not like the rest.
        if out.len() - start > bytes.len() {
            out.truncate(start);
            self.bits.reset(before);
            self.stored(bytes, is_last, out);
        }
    }

    /// Writes bytes as they are.
    fn stored(&mut self, bytes: &[u8], is_last: bool, out: &mut Vec<u8>) {
        const LENGTH_MAX: usize = 0xffff;
        let n_blocks = bytes.len().div_ceil(LENGTH_MAX);
        for (i, block) in bytes.chunks(LENGTH_MAX).enumerate() {
            self.put((u32::from(is_last && i + 1 == n_blocks), 3), out);
            self.bits.align(out);
            self.bits.drain(out);
            let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(&(!length).to_le_bytes());
            out.extend_from_slice(block);
        }
    }

    fn set_codes(&mut self, lengths: &[u8; N_SYMBOLS]) {
        let mut codes = [0; N_SYMBOLS];
        canonical_codes(lengths, &mut codes);
        if let (Some(codes), Some(lengths)) = (codes.first_chunk(), lengths.first_chunk()) {
            self.codes.set(codes, lengths);
        }
        let others = codes[END_OF_BLOCK..].iter().zip(&lengths[END_OF_BLOCK..]);
        for (other, (&code, &length)) in self.others.iter_mut().zip(others) {
            *other = (code.into(), length.into());
        }
    }

    fn put_zeros(&mut self, n: u32, out: &mut Vec<u8>) {
        for _ in 0..n / RUN_MAX {
            self.put_run(RUN_MAX, out);
        }
        if !n.is_multiple_of(RUN_MAX) {
            self.put_run(n % RUN_MAX, out);
        }
    }

    fn put_run(&mut self, length: u32, out: &mut Vec<u8>) {
        let (symbol, extra, n_extra) = run_symbol(length);
        let (bits, n) = self.others[symbol - END_OF_BLOCK];
        // The distance's code, one bit, is 0.
        self.put((bits | extra << n, n + n_extra + 1), out);
    }

    fn put(&mut self, (bits, n): Code, out: &mut Vec<u8>) {
        self.bits.put(bits.into(), n, out);
    }
}

/// How often each symbol occurs.
#[derive(Debug, Clone)]
struct Counts([u32; N_SYMBOLS]);

impl Counts {
    /// Counts runs, and the literals of all parts of so many bytes, or of some where they are many.
    fn of(bytes: &[u8], spans: &[Span], part_bytes: usize) -> Self {
        let n_literals: usize = spans.iter().map(|span| span.n_literals as usize).sum();
        let n_parts = n_literals.div_ceil(part_bytes);
        let n_counted = (COUNTED_BYTES_MIN / part_bytes).max(1);
        let every = if n_literals <= COUNTED_BYTES_MAX { 1 } else { (n_parts / n_counted).max(1) };
        let mut counts = [0; N_SYMBOLS];
        let mut literals = LiteralCounts::default();
        let mut rest = bytes;
        // Literals up to the next part that is counted, and to the end of the one that is.
        let (mut n_skipped, mut n_to_count) = (every / 2 * part_bytes, part_bytes);
        for &Span { n_literals, n_zeros } in spans {
            let mut span;
            (span, rest) = rest.split_at(n_literals as usize);
            rest = &rest[n_zeros as usize..];
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
            if n_zeros > 0 {
                counts[run_symbol(RUN_MAX).0] += n_zeros / RUN_MAX;
                if !n_zeros.is_multiple_of(RUN_MAX) {
                    counts[run_symbol(n_zeros % RUN_MAX).0] += 1;
                }
            }
        }
        counts[END_OF_BLOCK] = 1;
        let (first, n_counted) = literals.sums();
        if every == 1 {
            counts[..256].copy_from_slice(&first);
        } else {
            // As many as there are in all; those that were not seen may be there.
            let per_65536 = ((n_literals as u64) << 16) / u64::from(n_counted.max(1));
            for (count, seen) in counts.iter_mut().zip(first) {
                let n = (u64::from(seen) * per_65536) >> 16;
                *count = u32::try_from(n).unwrap_or(u32::MAX).max(1);
            }
        }
        Self(counts)
    }

    /// How many bits the symbols take.
    fn n_bits(&self, lengths: &[u8; N_SYMBOLS]) -> u64 {
        let each = self.0.iter().zip(lengths);
        let codes: u64 = each.map(|(&count, &length)| u64::from(count) * u64::from(length)).sum();
        let runs = self.0[END_OF_BLOCK + 1..].iter().zip(RUNS);
        codes
            + runs
                .map(|(&count, (_, n_extra))| u64::from(count) * u64::from(n_extra + 1))
                .sum::<u64>()
    }
}

/// Fewer literals than these are all counted.
const COUNTED_BYTES_MAX: usize = 48 << 10;

/// Of more, about so many are.
const COUNTED_BYTES_MIN: usize = 24 << 10;

/// Four counts of each byte: equal ones that follow each other don't wait for each other.
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

    /// Of each byte, and of all.
    fn sums(&self) -> ([u32; 256], u32) {
        let mut sums = self.0[0];
        for lane in &self.0[1..] {
            sums.iter_mut().zip(lane).for_each(|(sum, count)| *sum += count);
        }
        (sums, sums.iter().sum())
    }
}

/// The shortest run of each length symbol, and how many bits more tell its length.
const RUNS: [(u16, u8); 29] = {
    let mut runs = [(0, 0); 29];
    let (mut i, mut shortest) = (0, 3);
    while i < 28 {
        // Four symbols each with 0, 0, 1, 2, 3, 4 and 5 bits more.
        let n_extra = [0, 0, 1, 2, 3, 4, 5][i / 4];
        runs[i] = (shortest, n_extra);
        shortest += 1 << n_extra;
        i += 1;
    }
    runs[28] = (258, 0);
    runs
};

/// The symbol of a run of 3 to 258, and the bits that follow it.
fn run_symbol(length: u32) -> (usize, u32, u32) {
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

/// What says the code lengths of a block.
struct Header {
    /// Symbols of the code of code lengths, and the bits that follow each: how many and which.
    tokens: [(u8, u8, u8); N_SYMBOLS + 1],
    n_tokens: usize,
    n_lengths: usize,
    lengths: [u8; 19],
    n_bits: u64,
}

impl Header {
    fn new(lengths: &[u8; N_SYMBOLS]) -> Self {
        let n_lengths = 1 + lengths.iter().rposition(|&length| length > 0).unwrap_or(256).max(256);
        // The one distance code, of one bit, comes after.
        let mut all = [0; N_SYMBOLS + 1];
        all[..n_lengths].copy_from_slice(&lengths[..n_lengths]);
        all[n_lengths] = 1;
        let mut tokens = [(0, 0, 0); N_SYMBOLS + 1];
        let mut n_tokens = 0;
        let mut counts = [0; 19];
        let mut put = |symbol: u8, n_extra: u8, extra: usize| {
            tokens[n_tokens] = (symbol, n_extra, u8::try_from(extra).unwrap_or(0));
            n_tokens += 1;
            counts[usize::from(symbol)] += 1;
        };
        let mut rest = &all[..=n_lengths];
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
        code_lengths(&counts, 7, &mut lengths);
        let n_extra =
            [(16, 2), (17, 3), (18, 7)].map(|(symbol, n): (usize, u32)| counts[symbol] * n);
        let n_bits = counts.iter().zip(lengths).map(|(&count, length)| count * u32::from(length));
        let n_bits = 3 + 14 + 3 * 19 + n_bits.sum::<u32>() + n_extra.iter().sum::<u32>();
        Self { tokens, n_tokens, n_lengths, lengths, n_bits: n_bits.into() }
    }

    fn write(&self, deflate: &mut Deflate, out: &mut Vec<u8>) {
        const ORDER: [usize; 19] =
            [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
        let mut codes = [0; 19];
        canonical_codes(&self.lengths, &mut codes);
        let n = 1 + ORDER.iter().rposition(|&i| self.lengths[i] > 0).unwrap_or(3).max(3);
        let count = |n: usize, least: usize| u32::try_from(n - least).unwrap_or(0);
        deflate.put((count(self.n_lengths, 257) | count(n, 4) << 10, 14), out);
        for &i in &ORDER[..n] {
            deflate.put((self.lengths[i].into(), 3), out);
        }
        for &(symbol, n_extra, extra) in &self.tokens[..self.n_tokens] {
            let symbol = usize::from(symbol);
            let n = u32::from(self.lengths[symbol]);
            let bits = u32::from(codes[symbol]) | u32::from(extra) << n;
            deflate.put((bits, n + u32::from(n_extra)), out);
        }
    }
}
