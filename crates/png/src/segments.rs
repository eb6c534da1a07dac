//! Rows → IDAT chunks, segment by segment.

use alloc::vec::Vec;

use crate::chunk::Chunk;
use crate::deflate::{Deflate, Plan};
use crate::filter::{Filter, LANES, Rows};
use crate::kernels::bits::Packing;
use crate::layout::Layout;
use crate::matches::{Effort, Matcher};
use crate::noise::is_noise;
use crate::spans::{Span, find_zeros};
use crate::symbols::{Counts, Sampling};
use crate::{Compression, EncodeError, SEARCHED_BYTES_MIN};

/// Writes the rows of pictures. Reuses its buffers from one picture to the next.
#[derive(Debug)]
pub(crate) struct Segments {
    rows: Rows,
    /// A copy of `rows` from before a segment that is filtered twice, or scratch space of [`is_noise`].
    other_rows: Rows,
    /// Filtered rows, each behind its filter byte.
    filtered: Vec<u8>,
    /// A row or rows filtered in another way, or scratch space of [`is_noise`].
    other: Vec<u8>,
    spans: Vec<Span>,
    other_spans: Vec<Span>,
    matcher: Matcher,
    deflate: Deflate,
}

impl Segments {
    pub(crate) fn new(packing: Packing) -> Self {
        Self {
            rows: Rows::default(),
            other_rows: Rows::default(),
            filtered: Vec::new(),
            other: Vec::new(),
            spans: Vec::new(),
            other_spans: Vec::new(),
            matcher: Matcher::default(),
            deflate: Deflate::new(packing),
        }
    }

    /// Appends the IDAT chunks of a picture.
    ///
    /// # Errors
    /// If a chunk is too long for PNG.
    pub(crate) fn write(
        &mut self,
        samples: &[u8],
        layout: &Layout,
        compression: Compression,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
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
            Way::Fast if is_noise(samples, layout, &mut self.other_rows, &mut self.other) => {
                self.copy_rows(samples, layout);
                self.spans.clear();
                self.pass_over(samples, layout);
                Plan::stored()
            }
            Way::Fast => {
                self.filter_rows(samples, layout);
                find_zeros(&self.filtered, &mut self.spans);
                // Parts of adjacent rows: single rows at equal distances may be alike in pictures that were
                // scaled up or interlaced.
                let sampling = Sampling::Parts(4 * (1 + layout.row_bytes));
                Plan::new(&self.filtered, &self.spans, sampling)
            }
            Way::Either(effort) => {
                self.copy_rows(samples, layout);
                let row_bytes = 1 + layout.row_bytes;
                self.matcher.find(&self.filtered, row_bytes, effort, &mut self.spans);
                let unfiltered = Plan::best(&self.filtered, &self.spans);
                // A sixteenth of the bytes is good enough for `Compression::Fast`.
                if effort == Effort::QUICK && unfiltered.n_bits < self.filtered.len() as u64 / 2 {
                    self.pass_over(samples, layout);
                    return unfiltered;
                }
                core::mem::swap(&mut self.filtered, &mut self.other);
                core::mem::swap(&mut self.spans, &mut self.other_spans);
                self.filter_rows(samples, layout);
                find_zeros(&self.filtered, &mut self.spans);
                let plan = Plan::best(&self.filtered, &self.spans);
                if plan.n_bits <= unfiltered.n_bits {
                    return plan;
                }
                core::mem::swap(&mut self.filtered, &mut self.other);
                core::mem::swap(&mut self.spans, &mut self.other_spans);
                unfiltered
            }
            Way::Tiny => {
                self.filter_rows(samples, layout);
                let row_bytes = 1 + layout.row_bytes;
                self.matcher.find(&self.filtered, row_bytes, Effort::TINY, &mut self.spans);
                Plan::best(&self.filtered, &self.spans)
            }
            Way::Rich => {
                self.other_rows.clone_from(&self.rows);
                self.filter_rows(samples, layout);
                find_zeros(&self.filtered, &mut self.spans);
                let counts = Counts::of(&self.filtered, &self.spans, Sampling::All);
                self.rows.clone_from(&self.other_rows);
                self.filter_rows_by_bits(samples, layout, &counts.sixteenths());
                find_zeros(&self.filtered, &mut self.spans);
                let plan = Plan::best(&self.filtered, &self.spans);
                let row_bytes = 1 + layout.row_bytes;
                self.matcher.find(&self.filtered, row_bytes, Effort::RICH, &mut self.other_spans);
                let with_copies = Plan::best(&self.filtered, &self.other_spans);
                if plan.n_bits <= with_copies.n_bits {
                    return plan;
                }
                core::mem::swap(&mut self.spans, &mut self.other_spans);
                with_copies
            }
        }
    }

    /// Copies the next rows into `filtered` without filtering.
    fn copy_rows(&mut self, samples: &[u8], layout: &Layout) {
        let row_bytes = 1 + layout.row_bytes;
        self.filtered.clear();
        self.filtered.resize(samples.len() / layout.sample_bytes * row_bytes, 0);
        let rows = self.filtered.chunks_exact_mut(row_bytes);
        for (row, samples) in rows.zip(samples.chunks_exact(layout.sample_bytes)) {
            layout.fill_row(samples, &mut row[1..]);
        }
    }

    /// Moves `rows` behind rows that were not filtered, so that the next segment can be.
    fn pass_over(&mut self, samples: &[u8], layout: &Layout) {
        let last = &samples[samples.len() - layout.sample_bytes..];
        layout.fill_row(last, self.rows.next(layout.row_bytes));
    }

    /// Filters rows, each by the filter with the smallest sum of residuals.
    fn filter_rows(&mut self, samples: &[u8], layout: &Layout) {
        let pixel_bytes = layout.pixel_bytes;
        each_row(samples, layout, &mut self.rows, &mut self.filtered, |rows, out| {
            let residuals = rows.residuals(pixel_bytes, out);
            let filters = [Filter::Paeth, Filter::Sub, Filter::Up, Filter::Average];
            let residual = |filter: Filter| residuals[filter as usize - 1];
            let best = filters.into_iter().min_by_key(|&filter| residual(filter));
            let best = best.unwrap_or(Filter::Paeth);
            if best != Filter::Paeth {
                rows.filter(best, pixel_bytes, out);
            }
            best
        });
    }

    /// Filters rows, each by the filter that takes the fewest bits. `sixteenths` are the lengths of literals.
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

/// Calls `filter` for each of the next rows. It writes whole groups of [`LANES`] and returns its choice.
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

/// The way of compressing a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Filters by smallest residuals; runs of zeros; codes from a sample of the literals.
    Fast,
    /// For flat pictures: rows without filters and with copies, or filters by smallest residuals and runs of
    /// zeros, whichever is smaller.
    Either(Effort),
    /// For other pictures: filters by fewest bits; runs of zeros or copies; more segments.
    Rich,
    /// For other tiny pictures: filters by smallest residuals; copies.
    Tiny,
}

impl Way {
    fn new(samples: &[u8], layout: &Layout, compression: Compression) -> Self {
        // In gray and indexed pictures, runs of zeros are as good as copies. In small pictures, the search
        // takes too long.
        if compression == Compression::Fast
            && (layout.pixel_bytes < 3 || samples.len() < SEARCHED_BYTES_MIN)
        {
            return Self::Fast;
        }
        match (compression, flatness(samples, layout)) {
            (Compression::Fast, 0.8..) => Self::Either(Effort::QUICK),
            (Compression::Fast, _) => Self::Fast,
            (Compression::Small, 0.5..) => Self::Either(Effort::FLAT),
            (Compression::Small, _) if samples.len() < TINY => Self::Tiny,
            _ => Self::Rich,
        }
    }

    /// Returns the approximate bytes of a segment, which has prefix codes of its own.
    fn segment_bytes(self) -> usize {
        match self {
            Self::Fast | Self::Either(Effort::QUICK) => 192 << 10,
            Self::Either(_) => 1 << 20,
            Self::Rich | Self::Tiny => 64 << 10,
        }
    }
}

/// Bytes of samples below which a picture is tiny.
const TINY: usize = 4096;

/// Returns the share of samples that equal those of the pixel to the left, in some rows.
fn flatness(samples: &[u8], layout: &Layout) -> f64 {
    const N_ROWS: usize = 32;
    let step = (samples.len() / layout.sample_bytes / N_ROWS).max(1);
    let (mut n_same, mut n) = (0u32, 0);
    for row in samples.chunks_exact(layout.sample_bytes).step_by(step) {
        let here = &row[layout.pixel_bytes.min(row.len())..];
        n += here.len();
        n_same += number_of_same(here, row);
    }
    f64::from(n_same) / f64::from(u32::try_from(n).unwrap_or(u32::MAX).max(1))
}

/// Returns the number of bytes that equal those at the same place of `left`, which is at least as long.
fn number_of_same(here: &[u8], left: &[u8]) -> u32 {
    // Few enough for a sum of 8 bits: then the compiler makes vectors of bytes.
    let parts = here.chunks(64).zip(left.chunks(64));
    let same = |(here, left): (&u8, &u8)| u8::from(here == left);
    parts.map(|(here, left)| u32::from(here.iter().zip(left).map(same).sum::<u8>())).sum()
}
