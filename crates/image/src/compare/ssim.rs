//! Structural similarity, row by row: memory holds the rows of one window.

use super::RowPair;
use crate::values::Values;

/// Pixels of a window on each side of its centre: `int(3.5 × 1.5 + 0.5)`.
pub(super) const RADIUS: usize = 5;

/// Pixels of a window in each direction.
const WINDOW: usize = 2 * RADIUS + 1;

const SIGMA: f64 = 1.5;

/// Structural similarity of one channel of two pictures.
pub(super) struct Ssim<'a> {
    a: &'a Values,
    b: &'a Values,
    channel: usize,
    height: usize,
    width: usize,
    weights: [f64; WINDOW],
    /// The constants that keep the quotients apart from 0 / 0.
    c1: f64,
    c2: f64,
    /// Whether some values are not finite in both pictures.
    has_other: bool,
}

/// One row of both pictures. Where a value is not finite in both, both are 0 and `is_other` is set.
#[derive(Debug, Default)]
struct Row {
    pair: RowPair,
    is_other: Vec<bool>,
}

/// Weighted sums over the rows of a window, for each column with [`RADIUS`] more at both ends.
#[derive(Debug, Default)]
struct Sums {
    /// Of a, b, a², b² and a·b.
    of: [Vec<f64>; 5],
    has_other: Vec<bool>,
}

impl<'a> Ssim<'a> {
    /// `None` if a side of the pictures is shorter than a window, or the peak is not positive.
    pub(super) fn new(
        a: &'a Values,
        b: &'a Values,
        channel: usize,
        peak: f64,
        has_other: bool,
    ) -> Option<Self> {
        let [height, width, _] = a.size();
        let is_possible = height.min(width) >= WINDOW && peak > 0.0 && peak.is_finite();
        let mut weights = [0.0; WINDOW];
        for (i, weight) in (-5i32..).zip(&mut weights) {
            *weight = (-0.5 / (SIGMA * SIGMA) * f64::from(i * i)).exp();
        }
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= sum);
        let [c1, c2] = [0.01, 0.03].map(|k| (k * peak) * (k * peak));
        let ssim = Self { a, b, channel, height, width, weights, c1, c2, has_other };
        is_possible.then_some(ssim)
    }

    /// The mean over all windows that lie within the pictures and hold no value that is not finite in both. `None` if
    /// there is no such window.
    pub(super) fn mean(self) -> Option<f64> {
        let inner = RADIUS..self.width - RADIUS;
        let rows = RADIUS..self.height - RADIUS;
        let (mut sum, mut n) = (0.0, 0u64);
        self.each_row(rows, |_, row, has_other| {
            let mut of_row = 0.0;
            for (similarity, has_other) in row[inner.clone()].iter().zip(&has_other[inner.clone()])
            {
                if !has_other {
                    of_row += similarity;
                    n += 1;
                }
            }
            sum += of_row;
        });
        #[expect(clippy::cast_precision_loss, reason = "figures are f64")]
        let mean = sum / n as f64;
        Some(mean).filter(|mean| mean.is_finite())
    }

    /// Calls `see` with the number of a row, the similarity at each pixel, and whether its window holds a value that is
    /// not finite in both. Beyond the edges, the pictures are mirrored.
    pub(super) fn each_row(
        &self,
        rows: std::ops::Range<usize>,
        mut see: impl FnMut(usize, &[f64], &[bool]),
    ) {
        // Rows by their number modulo the size of the window.
        let mut ring: [Row; WINDOW] = std::array::from_fn(|_| Row::default());
        let mut next = rows.start.saturating_sub(RADIUS);
        let mut sums = Sums::default();
        let (mut similarity, mut has_other) = (vec![0.0; self.width], vec![false; self.width]);
        for y in rows {
            while next <= (y + RADIUS).min(self.height - 1) {
                self.read(next, &mut ring[next % WINDOW]);
                next += 1;
            }
            sums.clear(self.width);
            for (i, weight) in self.weights.iter().enumerate() {
                let row = mirrored(y + i, self.height);
                sums.add(&ring[row % WINDOW], *weight, self.has_other);
            }
            sums.mirror();
            self.similarity(&sums, &mut similarity);
            if self.has_other {
                let windows = sums.has_other.windows(WINDOW);
                has_other
                    .iter_mut()
                    .zip(windows)
                    .for_each(|(to, window)| *to = window.contains(&true));
            }
            see(y, &similarity, &has_other);
        }
    }

    fn read(&self, y: usize, row: &mut Row) {
        let Row { pair, is_other } = row;
        pair.read(self.a, self.b, y, self.channel);
        is_other.clear();
        if self.has_other {
            for (a, b) in pair.a.iter_mut().zip(&mut pair.b) {
                let is = !(a.is_finite() && b.is_finite());
                if is {
                    (*a, *b) = (0.0, 0.0);
                }
                is_other.push(is);
            }
        }
    }

    fn similarity(&self, sums: &Sums, similarity: &mut [f64]) {
        for (x, similarity) in similarity.iter_mut().enumerate() {
            let mean = |i: usize| -> f64 {
                let window = &sums.of[i][x..x + WINDOW];
                window.iter().zip(&self.weights).map(|(value, weight)| value * weight).sum()
            };
            let [a, b, a_a, b_b, a_b] = [0, 1, 2, 3, 4].map(mean);
            let (var_a, var_b, covariance) = (a_a - a * a, b_b - b * b, a_b - a * b);
            let above = (2.0 * a * b + self.c1) * (2.0 * covariance + self.c2);
            let below = (a * a + b * b + self.c1) * (var_a + var_b + self.c2);
            *similarity = above / below;
        }
    }
}

/// The row or column at `at - RADIUS` of `n`, mirrored at both ends: `c b a | a b c | c b a`.
fn mirrored(at: usize, n: usize) -> usize {
    match at.checked_sub(RADIUS) {
        None => RADIUS - 1 - at,
        Some(at) if at >= n => 2 * n - 1 - at,
        Some(at) => at,
    }
}

impl Sums {
    fn clear(&mut self, width: usize) {
        for sums in &mut self.of {
            sums.clear();
            sums.resize(width + 2 * RADIUS, 0.0);
        }
        self.has_other.clear();
        self.has_other.resize(width + 2 * RADIUS, false);
    }

    fn add(&mut self, row: &Row, weight: f64, has_other: bool) {
        let [of_a, of_b, of_a_a, of_b_b, of_a_b] =
            self.of.each_mut().map(|sums| sums[RADIUS..].iter_mut());
        let sums = of_a.zip(of_b).zip(of_a_a.zip(of_b_b).zip(of_a_b));
        for ((a, b), ((of_a, of_b), ((of_a_a, of_b_b), of_a_b))) in row.pair.pairs().zip(sums) {
            let (weighted_a, weighted_b) = (weight * a, weight * b);
            *of_a += weighted_a;
            *of_b += weighted_b;
            *of_a_a += weighted_a * a;
            *of_b_b += weighted_b * b;
            *of_a_b += weighted_a * b;
        }
        if has_other {
            let to = self.has_other[RADIUS..].iter_mut();
            to.zip(&row.is_other).for_each(|(to, is)| *to |= is);
        }
    }

    /// Fills the columns beyond both ends.
    fn mirror(&mut self) {
        let n = self.has_other.len();
        for i in 0..RADIUS {
            let [left, right] = [2 * RADIUS - 1 - i, n - 2 * RADIUS + i];
            let [to_left, to_right] = [i, n - 1 - i];
            for sums in &mut self.of {
                (sums[to_left], sums[to_right]) = (sums[left], sums[right]);
            }
            let others = &mut self.has_other;
            (others[to_left], others[to_right]) = (others[left], others[right]);
        }
    }
}
