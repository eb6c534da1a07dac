//! PNG's row filters: the difference of each byte to a prediction from its neighbours.

use alloc::vec::Vec;

use crate::kernels::for_more_instructions;

/// Bytes that are processed together. Rows in memory are padded with zeros to a multiple of them.
pub(crate) const LANES: usize = 64;

/// The prediction of a byte. The number is the filter's byte in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filter {
    /// 0.
    None = 0,
    /// The byte of the pixel to the left.
    Sub = 1,
    /// The byte above.
    Up = 2,
    /// The mean of left and above, rounded down.
    Average = 3,
    /// One of left, above and above left: the nearest to left + above − above left.
    Paeth = 4,
}

/// A row and the row above it, not filtered.
#[derive(Debug, Default, Clone)]
pub(crate) struct Rows {
    /// [`LANES`] zeros, the row, zeros to a multiple of [`LANES`].
    row: Vec<u8>,
    /// The row above, padded in the same way.
    above: Vec<u8>,
}

impl Rows {
    /// Begins a picture with rows of `row_bytes` bytes. The row above the first one is 0.
    pub(crate) fn begin(&mut self, row_bytes: usize) {
        for row in [&mut self.row, &mut self.above] {
            row.clear();
            row.resize(LANES + row_bytes.next_multiple_of(LANES), 0);
        }
    }

    /// Moves on to the next row and returns it for the caller to fill. It still holds the row before the
    /// last.
    pub(crate) fn next(&mut self, row_bytes: usize) -> &mut [u8] {
        core::mem::swap(&mut self.row, &mut self.above);
        &mut self.row[LANES..LANES + row_bytes]
    }

    /// Filters the row by Paeth, the most frequent choice, to `out`, which has room for whole groups of
    /// [`LANES`]. Returns the sums of the residuals of Sub, Up, Average and Paeth. Each residual counts by its
    /// distance from 0, up to [`RESIDUAL_MAX`].
    pub(crate) fn residuals(&self, pixel_bytes: usize, out: &mut [u8]) -> [u32; 4] {
        residuals(&self.row, &self.above, pixel_bytes, out)
    }

    /// Writes the filtered row to `out`, which has room for whole groups of [`LANES`].
    pub(crate) fn filter(&self, filter: Filter, pixel_bytes: usize, out: &mut [u8]) {
        match filter {
            Filter::None => {
                let row = &self.row[LANES..];
                out[..row.len()].copy_from_slice(row);
            }
            Filter::Sub => filter_sub(&self.row, pixel_bytes, out),
            Filter::Up => filter_up(&self.row, &self.above, out),
            Filter::Average => filter_average(&self.row, &self.above, pixel_bytes, out),
            Filter::Paeth => filter_paeth(&self.row, &self.above, pixel_bytes, out),
        }
    }
}

/// Largest distance of a residual that counts. Eight of them fit a byte.
pub(crate) const RESIDUAL_MAX: u8 = 31;

#[inline]
fn average(left: u8, up: u8) -> u8 {
    // Needs no ninth bit.
    (left & up) + ((left ^ up) >> 1)
}

#[inline]
fn paeth(left: u8, up: u8, up_left: u8) -> u8 {
    // With p = left + up − up_left, the distances are |p − left|, |p − up|, and |p − up_left|.
    let to_left = difference(up, up_left);
    let to_up = difference(left, up_left);
    // The third distance is the sum or the difference of the other two. The sum is never the smallest.
    let is_sum = (up >= up_left) == (left >= up_left);
    let to_up_left = if is_sum { u8::MAX } else { difference(to_left, to_up) };
    let nearer = if to_left <= to_up { left } else { up };
    if to_left.min(to_up) <= to_up_left { nearer } else { up_left }
}

/// `u8::abs_diff` computes with 32 bits, which makes vectors four times as slow.
#[inline]
fn difference(a: u8, b: u8) -> u8 {
    a.max(b) - a.min(b)
}

#[inline]
fn distance(residual: u8) -> u8 {
    residual.min(residual.wrapping_neg()).min(RESIDUAL_MAX)
}

for_more_instructions! {
    fn residuals(row: &[u8], above: &[u8], pixel_bytes: usize, out: &mut [u8]) -> [u32; 4] {
        const GROUP: usize = (u8::MAX / RESIDUAL_MAX) as usize;
        let n = row.len() - LANES;
        let groups = row[LANES..].chunks(GROUP * LANES)
            .zip(row[LANES - pixel_bytes..][..n].chunks(GROUP * LANES))
            .zip(above[LANES..].chunks(GROUP * LANES))
            .zip(above[LANES - pixel_bytes..][..n].chunks(GROUP * LANES))
            .zip(out.chunks_mut(GROUP * LANES));
        let mut sums = [0; 4];
        for ((((row, left), up), up_left), out) in groups {
            let mut lanes = [[0u8; LANES]; 4];
            let chunks = row.as_chunks::<LANES>().0.iter()
                .zip(left.as_chunks::<LANES>().0)
                .zip(up.as_chunks::<LANES>().0)
                .zip(up_left.as_chunks::<LANES>().0)
                .zip(out.as_chunks_mut::<LANES>().0);
            for ((((row, left), up), up_left), out) in chunks {
                for i in 0..LANES {
                    let residual = |predicted: u8| distance(row[i].wrapping_sub(predicted));
                    lanes[0][i] += residual(left[i]);
                    lanes[1][i] += residual(up[i]);
                    lanes[2][i] += residual(average(left[i], up[i]));
                    out[i] = row[i].wrapping_sub(paeth(left[i], up[i], up_left[i]));
                    lanes[3][i] += distance(out[i]);
                }
            }
            for (sum, lanes) in sums.iter_mut().zip(lanes) {
                *sum += lanes.iter().map(|&lane| u32::from(lane)).sum::<u32>();
            }
        }
        sums
    }

    fn filter_sub(row: &[u8], pixel_bytes: usize, out: &mut [u8]) {
        let (row, left) = (&row[LANES..], &row[LANES - pixel_bytes..]);
        for ((out, row), left) in out.iter_mut().zip(row).zip(left) {
            *out = row.wrapping_sub(*left);
        }
    }

    fn filter_up(row: &[u8], above: &[u8], out: &mut [u8]) {
        for ((out, row), up) in out.iter_mut().zip(&row[LANES..]).zip(&above[LANES..]) {
            *out = row.wrapping_sub(*up);
        }
    }

    fn filter_average(row: &[u8], above: &[u8], pixel_bytes: usize, out: &mut [u8]) {
        let (row, left) = (&row[LANES..], &row[LANES - pixel_bytes..]);
        for (((out, row), left), up) in out.iter_mut().zip(row).zip(left).zip(&above[LANES..]) {
            *out = row.wrapping_sub(average(*left, *up));
        }
    }

    fn filter_paeth(row: &[u8], above: &[u8], pixel_bytes: usize, out: &mut [u8]) {
        let (row, left) = (&row[LANES..], &row[LANES - pixel_bytes..]);
        let (up, up_left) = (&above[LANES..], &above[LANES - pixel_bytes..]);
        for ((((out, row), left), up), up_left) in
            out.iter_mut().zip(row).zip(left).zip(up).zip(up_left)
        {
            *out = row.wrapping_sub(paeth(*left, *up, *up_left));
        }
    }
}
