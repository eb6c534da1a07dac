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
//! values. Soft masks have many, but they are drawn as black and white: no other range would show more. An
//! image of a batch is not warned about if it is only darker than the others, and would be drawn by the same
//! rule without them.
//!
//! If a few far values make the others black, no range shows all. Then the warning says so.

use crate::convert::Extent;
use crate::media::{Provenance, Rule, Stats};
use crate::plan::TensorPlan;
use crate::tensor::DType;

/// Share of values above which clipping is worth a warning.
const CLIPPED_MAX: f64 = 0.05;

/// The same if the job named the range.
const CLIPPED_OF_RANGE_MAX: f64 = 0.5;

/// Levels of 256 that a picture should have.
pub(super) const LEVELS_MIN: u8 = 8;

/// Levels of 256 above which values are drawn over most of the range: another range shows little more.
const LEVELS_MOST: f64 = 128.0;

/// The distance of the mean from an end of the values, relative to their extent, up to which a few far values
/// make the extent.
const FAR: f64 = 0.01;

/// The extent, relative to the values, up to which they are the same but for rounding.
const ROUNDING: f64 = 1e-6;

/// Counts the different samples, up to [`LEVELS_MIN`] or a few more.
pub(super) fn n_levels(samples: &[u8]) -> usize {
    let mut is_seen = [false; 256];
    let mut n = 0;
    for block in samples.chunks(1024) {
        block.iter().for_each(|&sample| is_seen[usize::from(sample)] = true);
        n = is_seen.iter().filter(|&&is| is).count();
        if n >= usize::from(LEVELS_MIN) {
            break;
        }
    }
    n
}

/// Returns the extent of values that differ by more than rounding.
pub(super) fn spread(stats: &Stats) -> Option<Extent> {
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
    let (lo, hi) = bounds(*rule, *range, tensor, own);
    let limit = if range.is_some() { CLIPPED_OF_RANGE_MAX } else { CLIPPED_MAX };
    let values = format!("{} to {}", short(own.min), short(own.max));
    let found = match n_few_levels {
        _ if stats.clipped > limit => {
            let share = share(stats.clipped);
            let what = if *rule == Rule::Wrap { "wrapped" } else { "clipped" };
            let (lo, hi) = (short(lo), short(hi));
            format!("{share} % of the values ({values}) are outside of {lo} to {hi} and {what}")
        }
        Some(n) if has_far_values(*rule, stats, own, (lo, hi)) => {
            let mean = stats.mean.map(short).unwrap_or_default();
            return vec![format!(
                "the values ({values}, mean {mean}) make only {n} of 256 levels, because a few lie far from \
                 the others; name a range without them"
            )];
        }
        Some(_) if levels(own, (lo, hi)) >= LEVELS_MOST => return Vec::new(),
        Some(n) => {
            let is_dark_of_batch = batch.is_some()
                && levels(extent, (lo, hi)) >= f64::from(LEVELS_MIN)
                && tensor.rule(Some(own)) == Some(*rule);
            if is_dark_of_batch {
                return Vec::new();
            }
            format!("the values ({values}) make only {n} of 256 levels")
        }
        None => return Vec::new(),
    };
    let normalized = match (looks_normalized(tensor.header.dtype, stats), stats.mean, stats.std) {
        (true, Some(mean), Some(std)) => format!(
            "; they look normalized by mean and deviation (mean {mean:.2}, deviation {std:.2})"
        ),
        _ => String::new(),
    };
    // One range for the batch, unless the others are so far away that it would not show this image.
    let is_shown = levels(own, (extent.min, extent.max)) >= f64::from(LEVELS_MIN);
    let shown = if is_shown { extent } else { own };
    let (low, high) = range_for(tensor.header.dtype, shown, !normalized.is_empty());
    vec![format!("{found}{normalized}; range: [{low}, {high}] would show them")]
}

/// Returns the number of levels of 256 over which values spread that a range from `lo` to `hi` draws.
fn levels(values: Extent, (lo, hi): (f64, f64)) -> f64 {
    (values.max.clamp(lo, hi) - values.min.clamp(lo, hi)) / (hi - lo) * 256.0
}

/// Whether a few values lie so far from the others that no range shows all. Values that fit a rule for \[0, 1\]
/// or \[−1, 1\] do not.
fn has_far_values(rule: Rule, stats: &Stats, values: Extent, (lo, hi): (f64, f64)) -> bool {
    let extent = values.max - values.min;
    let is_at_end = |mean: f64| (mean - values.min).min(values.max - mean) <= FAR * extent;
    !matches!(rule, Rule::X255 | Rule::X65535 | Rule::Sym)
        && extent / (hi - lo) * 256.0 >= LEVELS_MOST
        && stats.mean.is_some_and(is_at_end)
}

/// The values that a rule maps to the ends of the samples.
fn bounds(
    rule: Rule,
    range: Option<(f64, f64)>,
    tensor: &TensorPlan,
    values: Extent,
) -> (f64, f64) {
    match (rule, range) {
        (Rule::Range, Some(range)) => range,
        (Rule::X255 | Rule::X65535, _) => (0.0, 1.0),
        (Rule::Sym, _) => (-1.0, 1.0),
        (Rule::Stretch, _) => (values.min, values.max),
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
        // Digits on a black ground, as of MNIST, begin at −0.42.
        && (-6.0..-0.3).contains(&min)
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
    let Some(decimals) = decimals(value, 3) else {
        return of_far(value, |value| outward(value, end));
    };
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
    let Some(decimals) = decimals(value, 4) else { return of_far(value, short) };
    let power = 10f64.powi(decimals.max(0));
    number((value * power).round() / power)
}

/// The decimals of a number of so many digits. `None` if it is far from 1.
fn decimals(value: f64, n_digits: i32) -> Option<i32> {
    let exponent = value.abs().log10().floor();
    #[expect(clippy::cast_possible_truncation, reason = "−6 to 9")]
    (-6.0..=9.0).contains(&exponent).then(|| n_digits - 1 - exponent as i32)
}

/// Writes a number that is far from 1 as another one and a power of ten.
fn of_far(value: f64, write: impl Fn(f64) -> String) -> String {
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) if value != 0.0 => match digits.parse() {
            Ok(digits) => format!("{}e{exponent}", write(digits)),
            Err(_) => text,
        },
        _ => number(value),
    }
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
