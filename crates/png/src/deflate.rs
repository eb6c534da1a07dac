//! The blocks of a deflate stream.

use alloc::vec::Vec;

use crate::header::Header;
use crate::huffman::{canonical_codes, code_lengths};
use crate::kernels::bits::{Bits, ByteCodes, CODE_BITS_MAX, Packing};
use crate::spans::{RUN_MAX, Span};
use crate::symbols::{
    Counts, END_OF_BLOCK, N_DISTANCES, N_SYMBOLS, Sampling, distance_symbol, run_symbol,
};

/// Bits and their number.
type Code = (u32, u32);

/// The plan of a block: the lengths of its codes, and its length.
#[derive(Debug)]
pub(crate) struct Plan {
    symbols: [u8; N_SYMBOLS],
    distances: [u8; N_DISTANCES],
    /// The header with the lengths. `None` for the fixed lengths of the format.
    header: Option<Header>,
    /// Length of the block in bits; an estimate if not all literals were counted.
    pub(crate) n_bits: u64,
}

impl Plan {
    /// Finds good codes for bytes that are parted into `spans`.
    pub(crate) fn new(bytes: &[u8], spans: &[Span], sampling: Sampling) -> Self {
        Self::of(&Counts::of(bytes, spans, sampling), CODE_BITS_MAX)
    }

    /// Finds the best codes for bytes that are parted into `spans`. Of a short block, a large part is the header.
    /// Lengths that differ less make the header shorter.
    pub(crate) fn best(bytes: &[u8], spans: &[Span]) -> Self {
        const EVEN_BITS_MAX: usize = 8;
        let counts = Counts::of(bytes, spans, Sampling::All);
        let plan = Self::of(&counts, CODE_BITS_MAX);
        let n_used = counts.symbols.iter().filter(|&&n| n > 0).count();
        if plan.n_bits > SHORT_BITS_MAX || n_used > 1 << EVEN_BITS_MAX {
            return plan;
        }
        let even = Self::of(&counts, EVEN_BITS_MAX);
        if even.n_bits < plan.n_bits { even } else { plan }
    }

    /// Returns the plan of a stored block.
    pub(crate) fn stored() -> Self {
        Self { symbols: [0; _], distances: [0; _], header: None, n_bits: u64::MAX }
    }

    fn of(counts: &Counts, code_bits_max: usize) -> Self {
        let (mut symbols, mut distances) = ([0; N_SYMBOLS], [0; N_DISTANCES]);
        let n_bits = code_lengths(&counts.symbols, code_bits_max, &mut symbols)
            + code_lengths(&counts.distances, code_bits_max, &mut distances)
            + counts.n_extra;
        let header = Header::new(&symbols, &distances);
        let n_bits = header.n_bits + n_bits;
        if n_bits < SHORT_BITS_MAX {
            let n_fixed = 3 + n_bits_fixed(counts);
            if n_fixed <= n_bits {
                let (symbols, distances) = (FIXED_SYMBOLS, FIXED_DISTANCES);
                return Self { symbols, distances, header: None, n_bits: n_fixed };
            }
        }
        Self { symbols, distances, header: Some(header), n_bits }
    }
}

/// Longest block, in bits, for which more codes are tried: of all blocks the fixed ones of the format.
const SHORT_BITS_MAX: u64 = 8 * 4096;

/// The fixed code lengths of the format (RFC 1951, 3.2.6), without the last two symbols, which are never
/// used.
const FIXED_SYMBOLS: [u8; N_SYMBOLS] = {
    let mut lengths = [8; N_SYMBOLS];
    let mut symbol = 144;
    while symbol < 280 {
        lengths[symbol] = if symbol < 256 { 9 } else { 7 };
        symbol += 1;
    }
    lengths
};

const FIXED_DISTANCES: [u8; N_DISTANCES] = [5; N_DISTANCES];

/// Returns the bits of all symbols under the fixed codes.
fn n_bits_fixed(counts: &Counts) -> u64 {
    let sum = |counts: &[u32]| u64::from(counts.iter().sum::<u32>());
    let (literals, others) = counts.symbols.split_at(END_OF_BLOCK);
    8 * sum(&counts.symbols) + sum(&literals[144..]) - sum(&others[..24])
        + 5 * sum(&counts.distances)
        + counts.n_extra
}

/// Writes a deflate stream block by block.
#[derive(Debug)]
pub(crate) struct Deflate {
    bits: Bits,
    codes: ByteCodes,
    /// The codes of the symbols from [`END_OF_BLOCK`] on.
    others: [Code; N_SYMBOLS - END_OF_BLOCK],
    distances: [Code; N_DISTANCES],
}

impl Deflate {
    pub(crate) fn new(packing: Packing) -> Self {
        Self {
            bits: Bits::new(packing),
            codes: ByteCodes::default(),
            others: [(0, 0); _],
            distances: [(0, 0); _],
        }
    }

    /// Begins a zlib stream.
    pub(crate) fn begin(&mut self, out: &mut Vec<u8>) {
        self.bits.reset((0, 0));
        // Deflate with a window of 32 KiB; the fastest level.
        out.extend_from_slice(&[0x78, 0x01]);
    }

    /// Ends the stream, after the last block.
    pub(crate) fn end(&mut self, adler: u32, out: &mut Vec<u8>) {
        self.bits.align(out);
        self.bits.drain(out);
        out.extend_from_slice(&adler.to_be_bytes());
    }

    /// Writes a block as planned, or stored if that is smaller. There must be fewer than 2³² bytes.
    pub(crate) fn block(
        &mut self,
        bytes: &[u8],
        spans: &[Span],
        plan: &Plan,
        is_last: bool,
        out: &mut Vec<u8>,
    ) {
        if plan.n_bits >= 8 * bytes.len() as u64 {
            return self.stored(bytes, is_last, out);
        }
        let (start, before) = (out.len(), self.bits.pending());
        self.set_codes(plan);
        match &plan.header {
            Some(header) => {
                self.put((u32::from(is_last) | 0b100, 3), out);
                header.write(&mut self.bits, out);
            }
            None => self.put((u32::from(is_last) | 0b010, 3), out),
        }
        let mut rest = bytes;
        for &Span { n_literals, n_copied, distance } in spans {
            let literals;
            (literals, rest) = rest.split_at(n_literals as usize);
            self.bits.put_codes(&self.codes, literals, out);
            self.put_copies(n_copied, distance, out);
            rest = &rest[n_copied as usize..];
        }
        self.put(self.others[0], out);
        self.bits.drain(out);
        // The literals that were counted were not typical.
        if out.len() - start > bytes.len() {
            out.truncate(start);
            self.bits.reset(before);
            self.stored(bytes, is_last, out);
        }
    }

    /// Writes stored blocks.
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

    fn set_codes(&mut self, plan: &Plan) {
        // The last two symbols are never used, but count for the fixed codes.
        let mut lengths = [if plan.header.is_some() { 0 } else { 8 }; N_SYMBOLS + 2];
        lengths[..N_SYMBOLS].copy_from_slice(&plan.symbols);
        let mut codes = [0; N_SYMBOLS + 2];
        canonical_codes(&lengths, &mut codes);
        if let (Some(codes), Some(lengths)) = (codes.first_chunk(), plan.symbols.first_chunk()) {
            self.codes.set(codes, lengths);
        }
        let set = |places: &mut [Code], codes: &[u16], lengths: &[u8]| {
            for (place, (&code, &length)) in places.iter_mut().zip(codes.iter().zip(lengths)) {
                *place = (code.into(), length.into());
            }
        };
        set(&mut self.others, &codes[END_OF_BLOCK..], &plan.symbols[END_OF_BLOCK..]);
        let mut codes = [0; N_DISTANCES];
        canonical_codes(&plan.distances, &mut codes);
        set(&mut self.distances, &codes, &plan.distances);
    }

    fn put_copies(&mut self, n: u32, distance: u32, out: &mut Vec<u8>) {
        for _ in 0..n / RUN_MAX {
            self.put_copy(RUN_MAX, distance, out);
        }
        if !n.is_multiple_of(RUN_MAX) {
            self.put_copy(n % RUN_MAX, distance, out);
        }
    }

    fn put_copy(&mut self, length: u32, distance: u32, out: &mut Vec<u8>) {
        let (symbol, extra, n_extra) = run_symbol(length);
        let (bits, n) = self.others[symbol - END_OF_BLOCK];
        self.put((bits | extra << n, n + n_extra), out);
        let (symbol, extra, n_extra) = distance_symbol(distance);
        let (bits, n) = self.distances[symbol];
        self.put((bits | extra << n, n + n_extra), out);
    }

    /// Writes at most 32 bits.
    fn put(&mut self, (bits, n): Code, out: &mut Vec<u8>) {
        self.bits.put(bits.into(), n, out);
    }
}
