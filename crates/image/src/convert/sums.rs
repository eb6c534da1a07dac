//! Extremes and sums of a chunk's values, in loops that compile to vector instructions.
//!
//! Floats are summed in f64 in a fixed number of lanes, and whole numbers exactly. So the result does not
//! depend on the processor.

use super::element::{Element, Int, Real, values};
use crate::simd::for_more_instructions;

/// Sums side by side, which the processor adds in parallel.
const LANES: usize = 16;

/// Extremes of a chunk of finite values, and the sums of their distances from an origin and of the squares
/// of these. If a value is not finite, neither is `sum`, and the rest has no meaning.
pub(super) struct Sums {
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) sum: f64,
    pub(super) squares: f64,
}

/// The sums over the finite values of a chunk, and the numbers of other values.
pub(super) struct CarefulSums {
    pub(super) finite: Sums,
    pub(super) n_nan: u64,
    pub(super) n_above: u64,
    pub(super) n_below: u64,
}

for_more_instructions! {
    pub(super) fn of_floats<E: Element<Value: Real>>(chunk: &[u8], origin: f64) -> Sums {
        let (mut sums, mut squares) = ([0.0; LANES], [0.0; LANES]);
        let mut mins = [E::Value::of(f64::INFINITY); LANES];
        let mut maxs = [E::Value::of(f64::NEG_INFINITY); LANES];
        let mut groups = chunk.chunks_exact(LANES * E::SIZE);
        for group in &mut groups {
            let mut lanes = [E::Value::of(0.0); LANES];
            lanes.iter_mut().zip(values::<E>(group)).for_each(|(lane, value)| *lane = value);
            for i in 0..LANES {
                mins[i] = if lanes[i] < mins[i] { lanes[i] } else { mins[i] };
                maxs[i] = if lanes[i] > maxs[i] { lanes[i] } else { maxs[i] };
            }
            for i in 0..LANES {
                let distance = lanes[i].wide() - origin;
                sums[i] += distance;
                squares[i] += distance * distance;
            }
        }
        for (i, value) in values::<E>(groups.remainder()).enumerate() {
            mins[i] = if value < mins[i] { value } else { mins[i] };
            maxs[i] = if value > maxs[i] { value } else { maxs[i] };
            let distance = value.wide() - origin;
            sums[i] += distance;
            squares[i] += distance * distance;
        }
        Sums {
            min: mins.into_iter().map(Real::wide).fold(f64::INFINITY, least),
            max: maxs.into_iter().map(Real::wide).fold(f64::NEG_INFINITY, greatest),
            sum: total(sums),
            squares: total(squares),
        }
    }
}

for_more_instructions! {
    pub(super) fn of_any_floats<E: Element<Value: Real>>(chunk: &[u8], origin: f64) -> CarefulSums {
        let (mut sums, mut squares) = ([0.0; LANES], [0.0; LANES]);
        let (mut mins, mut maxs) = ([f64::INFINITY; LANES], [f64::NEG_INFINITY; LANES]);
        let (mut nans, mut above, mut below) = ([0u64; LANES], [0u64; LANES], [0u64; LANES]);
        let mut groups = chunk.chunks_exact(LANES * E::SIZE);
        let mut see = |i: usize, value: f64| {
            let is_finite = value.abs() < f64::INFINITY;
            nans[i] += u64::from(value.is_nan());
            above[i] += u64::from(value == f64::INFINITY);
            below[i] += u64::from(value == f64::NEG_INFINITY);
            mins[i] = if is_finite && value < mins[i] { value } else { mins[i] };
            maxs[i] = if is_finite && value > maxs[i] { value } else { maxs[i] };
            let distance = if is_finite { value - origin } else { 0.0 };
            sums[i] += distance;
            squares[i] += distance * distance;
        };
        for group in &mut groups {
            for (i, value) in values::<E>(group).enumerate() {
                see(i, value.wide());
            }
        }
        for (i, value) in values::<E>(groups.remainder()).enumerate() {
            see(i, value.wide());
        }
        CarefulSums {
            finite: Sums {
                min: mins.into_iter().fold(f64::INFINITY, least),
                max: maxs.into_iter().fold(f64::NEG_INFINITY, greatest),
                sum: total(sums),
                squares: total(squares),
            },
            n_nan: nans.into_iter().sum(),
            n_above: above.into_iter().sum(),
            n_below: below.into_iter().sum(),
        }
    }
}

/// Adds up all lanes, always in the same order. Not inlined, because the compiler would arrange the lanes of
/// the loops for this sum.
#[inline(never)]
fn total(mut lanes: [f64; LANES]) -> f64 {
    let mut n = LANES;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            lanes[i] += lanes[i + n];
        }
    }
    lanes[0]
}

fn least(a: f64, b: f64) -> f64 {
    if b < a { b } else { a }
}

fn greatest(a: f64, b: f64) -> f64 {
    if b > a { b } else { a }
}

/// Returns the least and the greatest value of a chunk. `None` if it is empty.
pub(super) fn ends<E: Element<Value: Int>>(chunk: &[u8]) -> Option<(E::Value, E::Value)> {
    let first = values::<E>(chunk).next()?;
    Some(ends_from::<E>(chunk, first))
}

for_more_instructions! {
    fn ends_from<E: Element<Value: Int>>(chunk: &[u8], first: E::Value) -> (E::Value, E::Value) {
        let (mut min, mut max) = (first, first);
        for value in values::<E>(chunk) {
            min = if value < min { value } else { min };
            max = if value > max { value } else { max };
        }
        (min, max)
    }
}

/// A whole number with exact sums.
pub(super) trait Exact: Element<Value: Int> {
    /// Returns the sum of a chunk's values and the sum of their squares. `None` if 64-bit integers may not
    /// hold them. `min` and `max` are the extremes of the chunk.
    fn sums(chunk: &[u8], min: Self::Value, max: Self::Value) -> Option<(i128, i128)>;
}

/// Elements in a block: so few that sums of 16-bit numbers and squares of 8-bit numbers fit 32 bits.
const BLOCK: usize = 1 << 15;

macro_rules! exact_small {
    ($($type:ident $loop:ident $square:ident)*) => {$(
        impl Exact for $type {
            fn sums(chunk: &[u8], _: $type, _: $type) -> Option<(i128, i128)> {
                let blocks = chunk.chunks(BLOCK * Self::SIZE).map($loop);
                Some(blocks.fold((0, 0), |(sum, squares), (s, q)| (sum + i128::from(s), squares + i128::from(q))))
            }
        }

        for_more_instructions! {
            fn $loop(block: &[u8]) -> (i32, $square) {
                let (mut sum, mut squares): (i32, $square) = (0, 0);
                for value in values::<$type>(block) {
                    let value = i32::from(value);
                    sum += value;
                    // No square is above 2³² − 1.
                    squares += $square::from(value.wrapping_mul(value).cast_unsigned());
                }
                (sum, squares)
            }
        }
    )*};
}
exact_small! {
    u8 of_u8 u32
    i8 of_i8 u32
    u16 of_u16 u64
    i16 of_i16 u64
}

/// Magnitude up to which 64 bits hold 2²⁰ squares.
const SMALL: i32 = 1 << 20;

macro_rules! exact_wide {
    ($($type:ident $loop:ident)*) => {$(
        impl Exact for $type {
            fn sums(chunk: &[u8], min: $type, max: $type) -> Option<(i128, i128)> {
                let is_small = |value: $type| (i128::from(-SMALL)..=i128::from(SMALL)).contains(&value.wide());
                if !is_small(min) || !is_small(max) {
                    return None;
                }
                let blocks = chunk.chunks(BLOCK * Self::SIZE).map($loop);
                Some(blocks.fold((0, 0), |(sum, squares), (s, q)| (sum + i128::from(s), squares + i128::from(q))))
            }
        }

        for_more_instructions! {
            #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::unnecessary_cast, reason = "small numbers only")]
            fn $loop(block: &[u8]) -> (i64, i64) {
                let (mut sum, mut squares) = (0i64, 0i64);
                for value in values::<$type>(block) {
                    let value = i64::from(value as i32);
                    sum += value;
                    squares += value * value;
                }
                (sum, squares)
            }
        }
    )*};
}
exact_wide! {
    u32 of_u32
    i32 of_i32
    u64 of_u64
    i64 of_i64
}

for_more_instructions! {
    /// Returns the sum of distances from an origin, and of their squares, for numbers that are too large for
    /// exact sums.
    pub(super) fn of_large<E: Element<Value: Int>>(chunk: &[u8], origin: f64) -> (f64, f64) {
        let (mut sums, mut squares) = ([0.0; LANES], [0.0; LANES]);
        let mut see = |i: usize, value: E::Value| {
            let distance = value.to_f64() - origin;
            sums[i] += distance;
            squares[i] += distance * distance;
        };
        let mut groups = chunk.chunks_exact(LANES * E::SIZE);
        for group in &mut groups {
            for (i, value) in values::<E>(group).enumerate() {
                see(i, value);
            }
        }
        for (i, value) in values::<E>(groups.remainder()).enumerate() {
            see(i, value);
        }
        (total(sums), total(squares))
    }
}
