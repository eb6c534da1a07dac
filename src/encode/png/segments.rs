//! Rows → the chunks that hold them, segment by segment.

use std::io;

use super::chunk::Chunk;
use super::deflate::{Deflate, Plan};
use super::filter::{Filter, LANES, Rows};
use super::layout::Layout;
use super::matches::{Effort, Matcher};
use super::spans::{Span, find_zeros};
use super::symbols::{Counts, Sampling};
use crate::media::Compression;
use crate::simd::bits::Packing;

/// Writes the rows of pictures, and keeps what memory that takes.
#[derive(Debug)]
pub(super) struct Segments {
    rows: Rows,
    /// What `rows` was before a segment that is filtered twice.
    rows_before: Rows,
    /// Rows behind their filters' numbers.
    filtered: Vec<u8>,
    /// A row, or rows, filtered in another way.
    other: Vec<u8>,
    spans: Vec<Span>,
    other_spans: Vec<Span>,
    matcher: Matcher,
    deflate: Deflate,
}

impl Segments {
    pub(super) fn new(packing: Packing) -> Self {
        Self {
            rows: Rows::default(),
            rows_before: Rows::default(),
            filtered: Vec::new(),
            other: Vec::new(),
            spans: Vec::new(),
            other_spans: Vec::new(),
            matcher: Matcher::default(),
            deflate: Deflate::new(packing),
        }
    }

    /// Appends the chunks of a picture's samples.
    ///
    /// # Errors
    /// If a chunk is too long for PNG.
    pub(super) fn write(
        &mut self,
        samples: &[u8],
        layout: &Layout,
        compression: Compression,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let way = Way::new(samples, layout, compression);
        let n_rows = samples.len() / layout.sample_bytes;
        let n_segments = (n_rows * (1 + layout.row_bytes)).div_ceil(way.segment_bytes());
        let segment_rows = n_rows.div_ceil(n_segments);
        let mut adler = simd_adler32::Adler32::new();
        let mut rest = samples;
        self.rows.begin(layout.row_bytes);
        while !rest.is_empty() {
            let segment;
            let is_first = rest.len() == samples.len();
            (segment, rest) = rest.split_at(rest.len().min(segment_rows * layout.sample_bytes));
            let is_last = rest.is_empty();
            let plan = self.plan(segment, layout, way);
            adler.write(&self.filtered);
            let chunk = Chunk::begin(*b"IDAT", out);
            if is_first {
                self.deflate.begin(out);
            }
            self.deflate.block(&self.filtered, &self.spans, &plan, is_last, out);
            if is_last {
                self.deflate.end(adler.finish(), out);
            }
            chunk.end(out)?;
        }
        Ok(())
    }

    /// Filters the next rows into `filtered`, parts them into `spans`, and plans their codes.
    fn plan(&mut self, samples: &[u8], layout: &Layout, way: Way) -> Plan {
        match way {
            Way::Fast => {
                self.filter_rows(samples, layout);
                find_zeros(&self.filtered, &mut self.spans);
                // Rows that lie together: one in so many may have something in common, in pictures that
                // were scaled up, or are interlaced.
                let sampling = Sampling::Parts(4 * (1 + layout.row_bytes));
                Plan::new(&self.filtered, &self.spans, sampling)
            }
            Way::Flat => self.plan_unfiltered(samples, layout),
            Way::Either => {
                let unfiltered = self.plan_unfiltered(samples, layout);
                std::mem::swap(&mut self.filtered, &mut self.other);
                std::mem::swap(&mut self.spans, &mut self.other_spans);
                self.filter_rows(samples, layout);
                find_zeros(&self.filtered, &mut self.spans);
                let plan = Plan::new(&self.filtered, &self.spans, Sampling::All);
                if plan.n_bits <= unfiltered.n_bits {
                    return plan;
                }
                std::mem::swap(&mut self.filtered, &mut self.other);
                std::mem::swap(&mut self.spans, &mut self.other_spans);
                unfiltered
            }
            Way::Rich => {
                self.rows_before.clone_from(&self.rows);
                self.filter_rows(samples, layout);
                find_zeros(&self.filtered, &mut self.spans);
                let counts = Counts::of(&self.filtered, &self.spans, Sampling::All);
                self.rows.clone_from(&self.rows_before);
                self.filter_rows_by_bits(samples, layout, &counts.sixteenths());
                find_zeros(&self.filtered, &mut self.spans);
                let plan = Plan::new(&self.filtered, &self.spans, Sampling::All);
                let row_bytes = 1 + layout.row_bytes;
                self.matcher.find(&self.filtered, row_bytes, Effort::RICH, &mut self.other_spans);
                let with_copies = Plan::new(&self.filtered, &self.other_spans, Sampling::All);
                if plan.n_bits <= with_copies.n_bits {
                    return plan;
                }
                std::mem::swap(&mut self.spans, &mut self.other_spans);
                with_copies
            }
        }
    }

    /// Puts the next rows as they are into `filtered`, and looks for copies.
    fn plan_unfiltered(&mut self, samples: &[u8], layout: &Layout) -> Plan {
        let row_bytes = 1 + layout.row_bytes;
        self.filtered.clear();
        self.filtered.resize(samples.len() / layout.sample_bytes * row_bytes, 0);
        let rows = self.filtered.chunks_exact_mut(row_bytes);
        for (row, samples) in rows.zip(samples.chunks_exact(layout.sample_bytes)) {
            layout.fill_row(samples, &mut row[1..]);
        }
        self.matcher.find(&self.filtered, row_bytes, Effort::FLAT, &mut self.spans);
        Plan::new(&self.filtered, &self.spans, Sampling::All)
    }

    /// Filters rows, each by the filter whose residuals are the least in sum.
    fn filter_rows(&mut self, samples: &[u8], layout: &Layout) {
        let pixel_bytes = layout.pixel_bytes;
        each_row(samples, layout, &mut self.rows, &mut self.filtered, |rows, out| {
            let residuals = rows.residuals(pixel_bytes);
            let filters = [Filter::Paeth, Filter::Sub, Filter::Up, Filter::Average];
            let residual = |filter: Filter| residuals[filter as usize - 1];
            let best = filters.into_iter().min_by_key(|&filter| residual(filter));
            let best = best.unwrap_or(Filter::Paeth);
            rows.filter(best, pixel_bytes, out);
            best
        });
    }

    /// Filters rows, each by the filter that takes the fewest bits.
    fn filter_rows_by_bits(&mut self, samples: &[u8], layout: &Layout, sixteenths: &[u16; 256]) {
        let (pixel_bytes, row_bytes) = (layout.pixel_bytes, layout.row_bytes);
        let other = &mut self.other;
        other.resize(row_bytes.next_multiple_of(LANES), 0);
        each_row(samples, layout, &mut self.rows, &mut self.filtered, |rows, out| {
            let mut best = (u64::MAX, Filter::None);
            let filters = [Filter::Paeth, Filter::Average, Filter::Sub, Filter::Up, Filter::None];
            for filter in filters {
                rows.filter(filter, pixel_bytes, other);
                let each = other[..row_bytes].iter();
                let n: u64 = each.map(|&byte| u64::from(sixteenths[usize::from(byte)])).sum();
                if n < best.0 {
                    best = (n, filter);
                    out[..other.len()].copy_from_slice(other);
                }
            }
            best.1
        });
    }
}

/// Lets `filter` write each of the next rows, in groups of [`LANES`], and say which filter it took.
fn each_row(
    samples: &[u8],
    layout: &Layout,
    rows: &mut Rows,
    filtered: &mut Vec<u8>,
    mut filter: impl FnMut(&Rows, &mut [u8]) -> Filter,
) {
    let row_bytes = layout.row_bytes;
    let n_bytes = samples.len() / layout.sample_bytes * (1 + row_bytes);
    filtered.resize(n_bytes + LANES, 0);
    let mut start = 0;
    for samples in samples.chunks_exact(layout.sample_bytes) {
        layout.fill_row(samples, rows.next(row_bytes));
        let end = start + 1 + row_bytes.next_multiple_of(LANES);
        filtered[start] = filter(rows, &mut filtered[start + 1..end]) as u8;
        start += 1 + row_bytes;
    }
    filtered.truncate(n_bytes);
}

/// How a picture is made small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Filters by the least residuals; codes after a sample; runs of zeros.
    Fast,
    /// Of a flat picture: rows as they are, with copies.
    Flat,
    /// Of one that is rather flat, or tiny: rows as they are with copies, or filters by the least
    /// residuals and runs of zeros, whatever is smaller.
    Either,
    /// Of any other: filters by the fewest bits, perhaps copies; more segments.
    Rich,
}

impl Way {
    fn new(samples: &[u8], layout: &Layout, compression: Compression) -> Self {
        if compression == Compression::Fast {
            return Self::Fast;
        }
        match flatness(samples, layout) {
            0.8.. => Self::Flat,
            0.5.. => Self::Either,
            _ if samples.len() < TINY => Self::Either,
            _ => Self::Rich,
        }
    }

    /// About how many bytes of rows have prefix codes of their own.
    fn segment_bytes(self) -> usize {
        match self {
            Self::Fast => 192 << 10,
            Self::Flat | Self::Either => 1 << 20,
            Self::Rich => 64 << 10,
        }
    }
}

/// Bytes of samples; smaller pictures are tried in two ways.
const TINY: usize = 4096;

/// Which part of the samples is as that of the pixel to the left, in every eighth row.
fn flatness(samples: &[u8], layout: &Layout) -> f64 {
    let (mut n_same, mut n) = (0u32, 0u32);
    for row in samples.chunks_exact(layout.sample_bytes).step_by(8) {
        for (here, left) in row[layout.pixel_bytes.min(row.len())..].iter().zip(row) {
            n_same += u32::from(here == left);
            n += 1;
        }
    }
    f64::from(n_same) / f64::from(n.max(1))
}
