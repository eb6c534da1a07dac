//! Doubts about the values of an image, as warnings that name the range that would show them.
//!
//! | warning | condition |
//! | --- | --- |
//! | clipped, wrapped | more than 5 % of the values, or 50 % if the job named the range |
//! | few levels | floats with fewer than 8 of 256 levels, though they have more than 16 different values |
//! | normalized | one of these, and the values look as if a mean was subtracted and a deviation divided by |
//!
//! There is no warning about an image whose values are all the same but for rounding, and none about few
//! levels of whole numbers: a label map is meant to have few. Masks of 0 and 1 as floats have few different
//! values. An image of a batch is not warned about if it is only darker than the others.

use std::io;

use super::maker::Maker;
use super::source::View;
use crate::convert::Extent;
use crate::decode::ReadAt;
use crate::media::{Provenance, Rule, Stats};
use crate::plan::TensorPlan;
use crate::tensor::DType;

/// Share of values above which clipping is worth a warning.
const CLIPPED_MAX: f64 = 0.05;

/// The same if the job named the range.
const CLIPPED_OF_RANGE_MAX: f64 = 0.5;

/// Levels of 256 that a picture should have.
const LEVELS_MIN: usize = 8;

/// Different values up to which the data itself has few levels.
const VALUES_FEW: usize = 16;

/// Rows that are looked at to count the different values.
const ROWS_MAX: u64 = 32;

/// The extent, relative to the values, up to which they are the same but for rounding.
const ROUNDING: f64 = 1e-6;

impl<R: ReadAt> Maker<'_, R> {
    /// Returns the number of different samples, if there are few although the data has many different values.
    pub(super) fn few_levels(&mut self, samples: &[u8], stats: &Stats) -> io::Result<Option<u8>> {
        /// Nearly all pictures have enough levels in their first samples.
        const FIRST: usize = 4096;
        let is_worth_it =
            self.elements.dtype.is_float() && self.wish.range.is_none() && spread(stats).is_some();
        if !is_worth_it || n_levels(&samples[..samples.len().min(FIRST)]) >= LEVELS_MIN {
            return Ok(None);
        }
        // A mask is told by a few of its rows, faster than by all samples.
        if !self.has_many_values()? {
            return Ok(None);
        }
        let n = n_levels(samples);
        Ok(u8::try_from(n).ok().filter(|_| n < LEVELS_MIN))
    }

    /// Whether some rows, spread evenly, have many different values.
    fn has_many_values(&mut self) -> io::Result<bool> {
        let size = self.elements.dtype.size();
        let n_rows_of_view = (ROWS_MAX / self.views.len() as u64).max(1);
        let mut seen: Vec<Vec<u8>> = Vec::new();
        for view in &self.views {
            let [rows, rest @ ..] = view.axes.as_slice() else { continue };
            let n_rows = rows.length.min(n_rows_of_view);
            for i in 0..n_rows {
                let row = i * rows.length / n_rows;
                let first = view.first + row * rows.from * size as u64;
                let row = View { first, to: 0, axes: rest.to_vec() };
                self.source.each_chunk(&row, |_, chunk| {
                    let mut last: &[u8] = &[];
                    for value in chunk.chunks_exact(size) {
                        if value != last && seen.len() <= VALUES_FEW {
                            if !seen.iter().any(|known| known == value) {
                                seen.push(value.to_vec());
                            }
                            last = value;
                        }
                    }
                    io::Result::Ok(())
                })?;
                if seen.len() > VALUES_FEW {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// Counts the different samples, up to [`LEVELS_MIN`].
fn n_levels(samples: &[u8]) -> usize {
    let mut is_seen = [false; 256];
    let mut n = 0;
    for block in samples.chunks(1024) {
        block.iter().for_each(|&sample| is_seen[usize::from(sample)] = true);
        n = is_seen.iter().filter(|&&is| is).count();
        if n >= LEVELS_MIN {
            break;
        }
    }
    n
}

/// Returns the extent of values that differ by more than rounding.
fn spread(stats: &Stats) -> Option<Extent> {
    let extent = Extent { min: stats.min?, max: stats.max? };
    let magnitude = extent.max.max(-extent.min);
    (extent.max - extent.min > ROUNDING * magnitude).then_some(extent)
}

/// Returns the warnings about the values of an image.
///
/// `n_few_levels` is that of [`ValuesSeen`](super::ValuesSeen). `batch` is the extent of all images that
/// share the rule.
#[must_use]
pub fn value_warnings(
    tensor: &TensorPlan,
    provenance: &Provenance,
    n_few_levels: Option<u8>,
    batch: Option<Extent>,
) -> Vec<String> {
    let Provenance { rule, range, stats, .. } = provenance;
    let Some(own) = spread(stats) else { return Vec::new() };
    let extent = Extent::join(Some(own), batch).unwrap_or(own);
    let (lo, hi) = bounds(*rule, *range, tensor);
    let limit = if range.is_some() { CLIPPED_OF_RANGE_MAX } else { CLIPPED_MAX };
    let span = (extent.max.clamp(lo, hi) - extent.min.clamp(lo, hi)) / (hi - lo) * 256.0;
    #[expect(clippy::cast_precision_loss, reason = "8")]
    let is_dark_of_batch = batch.is_some() && span >= LEVELS_MIN as f64;
    let n_few_levels = n_few_levels.filter(|_| !is_dark_of_batch);
    let values = format!("{} to {}", short(own.min), short(own.max));
    let found = match n_few_levels {
        _ if stats.clipped > limit => {
            let share = share(stats.clipped);
            let what = if *rule == Rule::Wrap { "wrapped" } else { "clipped" };
            let (lo, hi) = (short(lo), short(hi));
            format!("{share} % of the values ({values}) are outside of {lo} to {hi} and {what}")
        }
        Some(n) => format!("the values ({values}) make only {n} of 256 levels"),
        None => return Vec::new(),
    };
    let normalized = match (looks_normalized(tensor.header.dtype, stats), stats.mean, stats.std) {
        (true, Some(mean), Some(std)) => format!(
            "; they look normalized by mean and deviation (mean {mean:.2}, deviation {std:.2})"
        ),
        _ => String::new(),
    };
    let (low, high) = range_for(tensor.header.dtype, extent, !normalized.is_empty());
    vec![format!("{found}{normalized}; range: [{low}, {high}] would show them")]
}

/// The values that a rule maps to the ends of the samples.
fn bounds(rule: Rule, range: Option<(f64, f64)>, tensor: &TensorPlan) -> (f64, f64) {
    match (rule, range) {
        (Rule::Range, Some(range)) => range,
        (Rule::X255 | Rule::X65535, _) => (0.0, 1.0),
        (Rule::Sym, _) => (-1.0, 1.0),
        _ => (0.0, tensor.wish.depth.white()),
    }
}

/// Whether values look as if their mean was subtracted and divided by their deviation, as networks want
/// them. Those of `ImageNet` lie in −2.12 to 2.64.
fn looks_normalized(dtype: DType, stats: &Stats) -> bool {
    let Stats { min: Some(min), max: Some(max), mean: Some(mean), std: Some(std), .. } = *stats
    else {
        return false;
    };
    dtype.is_float()
        && (-6.0..-0.5).contains(&min)
        && (0.5..6.0).contains(&max)
        && mean.abs() <= 1.0
        && (0.3..=2.0).contains(&std)
}

/// Returns the ends of a range that shows all values of an extent: a usual one if there is one.
fn range_for(dtype: DType, extent: Extent, is_normalized: bool) -> (String, String) {
    const IMAGENET: (f64, f64) = (-2.12, 2.64);
    let Extent { min, max } = extent;
    let from_0 = min >= 0.0 && min <= max / 4.0;
    if !dtype.is_float() {
        // Cameras have 10, 12, 14 or 16 bits.
        let whites = [255.0, 1023.0, 4095.0, 16383.0, 65535.0];
        let white = whites.into_iter().find(|&white| max <= white);
        return match white.filter(|_| from_0) {
            Some(white) => (number(0.0), number(white)),
            None if from_0 => (number(0.0), number(max)),
            None => (number(min), number(max)),
        };
    }
    let slack = 0.01;
    if is_normalized && min >= IMAGENET.0 - slack && max <= IMAGENET.1 + slack {
        return (number(IMAGENET.0), number(IMAGENET.1));
    }
    if min < 0.0 && (0.8..=1.25).contains(&(-min / max)) {
        let far = max.max(-min);
        return (outward(-far, End::Low), outward(far, End::High));
    }
    let low = if from_0 { number(0.0) } else { outward(min, End::Low) };
    (low, outward(max, End::High))
}

/// An end of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Low,
    High,
}

/// Writes an end of a range with 3 digits, rounded so that the range holds it.
fn outward(value: f64, end: End) -> String {
    // Not 0.301 for 0.3 as float32.
    const TOLERANCE: f64 = 1e-3;
    let Some(decimals) = decimals(value, 3) else { return number(value) };
    let scaled = value * 10f64.powi(decimals);
    let digits = match end {
        End::Low => (scaled + TOLERANCE).floor(),
        End::High => (scaled - TOLERANCE).ceil(),
    };
    let power = 10f64.powi(decimals.abs());
    number(if decimals >= 0 { digits / power } else { digits * power })
}

/// Writes a number with 4 digits, or all of those before the point.
fn short(value: f64) -> String {
    let Some(decimals) = decimals(value, 4) else { return number(value) };
    let power = 10f64.powi(decimals.max(0));
    number((value * power).round() / power)
}

/// The decimals of a number of so many digits. `None` if it is far from 1.
fn decimals(value: f64, n_digits: i32) -> Option<i32> {
    let exponent = value.abs().log10().floor();
    #[expect(clippy::cast_possible_truncation, reason = "−6 to 9")]
    (-6.0..=9.0).contains(&exponent).then(|| n_digits - 1 - exponent as i32)
}

/// Writes a number as short as it can be.
fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if (1e-6..1e16).contains(&value.abs()) { format!("{value}") } else { format!("{value:e}") }
}

/// Writes a share in percent. Never 100 unless it is all.
fn share(share: f64) -> String {
    let percent = (share * 1000.0).floor() / 10.0;
    format!("{percent}")
}
