//! How often values occur.

/// The least and the greatest finite value of each channel, seen before the values are counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Extremes(Vec<Option<(f64, f64)>>);

impl Extremes {
    /// Of no values yet.
    #[must_use]
    pub fn new(n_channels: usize) -> Self {
        Self(vec![None; n_channels])
    }

    /// Sees a value of a channel.
    ///
    /// # Panics
    /// If there is no such channel.
    pub fn see(&mut self, channel: usize, value: f64) {
        if value.is_finite() {
            let (min, max) = self.0[channel].get_or_insert((value, value));
            *min = min.min(value);
            *max = max.max(value);
        }
    }

    /// The extremes of each channel; `None` if no value is finite.
    #[must_use]
    pub fn channels(&self) -> &[Option<(f64, f64)>] {
        &self.0
    }

    /// The extremes of all channels.
    #[must_use]
    pub fn whole(&self) -> Option<(f64, f64)> {
        self.0.iter().flatten().copied().reduce(|(a, b), (c, d)| (a.min(c), b.max(d)))
    }
}

/// How often values occur, in bins of equal width. The last bin includes its upper edge, as in `numpy.histogram`.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    low: f64,
    high: f64,
    n_bins: usize,
    channels: Vec<ChannelCounts>,
}

/// The counts of one channel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChannelCounts {
    /// Values in each bin.
    pub counts: Vec<u64>,
    /// NaN values.
    pub nan: u64,
    /// Values of +∞.
    pub positive_inf: u64,
    /// Values of −∞.
    pub negative_inf: u64,
    /// Finite values below the first bin.
    pub below: u64,
    /// Finite values above the last bin.
    pub above: u64,
}

impl Histogram {
    /// A histogram of no values yet. If `low` and `high` are equal, the bins lie around them.
    ///
    /// # Panics
    /// If there is no bin.
    #[must_use]
    pub fn new(n_channels: usize, n_bins: usize, low: f64, high: f64) -> Self {
        assert!(n_bins > 0, "a bin at least");
        // As NumPy does; f64 does not tell numbers beyond 2⁵³ apart from their neighbours.
        let beside = 0.5f64.max(low.abs() * 1e-9);
        let (low, high) = if low == high { (low - beside, high + beside) } else { (low, high) };
        let counts = ChannelCounts { counts: vec![0; n_bins], ..ChannelCounts::default() };
        Self { low, high, n_bins, channels: vec![counts; n_channels] }
    }

    /// The lower edge of the first bin, and the upper edge of the last one.
    #[must_use]
    pub fn range(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// The lower edge of a bin.
    #[expect(clippy::cast_precision_loss, reason = "there are few bins")]
    fn edge(&self, bin: usize) -> f64 {
        if bin == self.n_bins {
            return self.high;
        }
        // Halves first: the distance of the ends may be more than f64 holds.
        let share = bin as f64 / self.n_bins as f64;
        self.low + 2.0 * ((self.high / 2.0 - self.low / 2.0) * share)
    }

    /// Counts a value of a channel.
    ///
    /// # Panics
    /// If there is no such channel.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "between 0 and the number of bins"
    )]
    pub fn see(&mut self, channel: usize, value: f64) {
        let (low, high) = (self.low, self.high);
        let counts = &mut self.channels[channel];
        if value.is_nan() {
            counts.nan += 1;
        } else if value == f64::INFINITY {
            counts.positive_inf += 1;
        } else if value == f64::NEG_INFINITY {
            counts.negative_inf += 1;
        } else if value < low {
            counts.below += 1;
        } else if value > high {
            counts.above += 1;
        } else {
            let share = (value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
            let mut bin = ((share * self.n_bins as f64) as usize).min(self.n_bins - 1);
            // Rounding may have moved a value that lies at an edge.
            if value < self.edge(bin) {
                bin = bin.saturating_sub(1);
            } else if bin + 1 < self.n_bins && value >= self.edge(bin + 1) {
                bin += 1;
            }
            self.channels[channel].counts[bin] += 1;
        }
    }

    /// The counts of each channel.
    #[must_use]
    pub fn channels(&self) -> &[ChannelCounts] {
        &self.channels
    }

    /// Returns the counts of each channel.
    #[must_use]
    pub fn into_channels(self) -> Vec<ChannelCounts> {
        self.channels
    }

    /// The values below which a share of all counted values lies, to the width of a bin: the lower edge of the bin for
    /// a share below one half, else the upper edge. `None` if nothing was counted.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let in_bin = |bin: usize| self.channels.iter().map(|channel| channel.counts[bin]).sum();
        let counts: Vec<u64> = (0..self.n_bins).map(in_bin).collect();
        let wanted = share * counts.iter().sum::<u64>() as f64;
        let mut n = 0;
        let bin = counts.iter().position(|count| {
            n += count;
            *count > 0 && n as f64 >= wanted
        })?;
        Some(self.edge(if share < 0.5 { bin } else { bin + 1 }))
    }
}
