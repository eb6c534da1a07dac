//! Chooses the rule by which a picture's values become samples.
//!
//! The rule depends on all values of a picture; under profile `auto`, on those of all pictures of a batch, so
//! that they compare ([`Wish::batch`]). So conversion takes passes over the elements, each in
//! chunks: [`Scan`] sees them all, [`Scan::decide`] chooses, [`Conversion`] maps. One case of the oldest
//! wandb needs a pass between ([`Decision::Measure`]).
//!
//! Source of the `wandb-*` rules: `docs/spec/image.md` A.4; wandb 0.10.20, 0.28.2 and 0.31.0,
//! `sdk/data_types/image.py`, with `NumPy` 2 on x86-64.

use super::complex::{MINUS_ONE, ONE, ZERO};
use super::conversion::Conversion;
use super::map::Map;
use super::measure::Measure;
use super::scan::{Extent, Extremes, Finite, Ordered, Scan};
use super::stretch::Stretch;
use crate::media::{Profile, Rule};
use crate::tensor::DType;

/// Tolerance of profile `auto`: floats may overshoot an edge by this share of its height and are still
/// mapped from \[0, 1\] or \[−1, 1\]. Bicubic and Lanczos resampling overshoot by up to a tenth.
const OVERSHOOT: f64 = 0.1;

/// Half of one level of \[0, 1\] in 8 bits. A smaller negative value is a rounding error of black.
const HALF_LEVEL: f64 = 0.5 / 255.0;

impl Extent {
    /// Whether values are negative by more than resampling overshoots and arithmetic rounds.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        // No edge is higher than the extent of the values.
        self.min < -HALF_LEVEL.max(OVERSHOOT * (self.max - self.min))
    }
}

/// The bits of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Depth {
    /// 0 to 255.
    #[default]
    Eight,
    /// 0 to 65535. Only profile `auto` and an explicit range make samples of 16 bits.
    Sixteen,
}

impl Depth {
    /// Returns the largest sample.
    #[must_use]
    pub const fn white(self) -> f64 {
        match self {
            Self::Eight => 255.0,
            Self::Sixteen => 65535.0,
        }
    }
}

/// The settings by which the rule is chosen, in addition to the values.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Wish {
    /// Whose rule.
    pub profile: Profile,
    /// The values that become 0 and the largest sample under every profile; the first is the lesser.
    pub range: Option<(f64, f64)>,
    /// The bits of a sample.
    pub depth: Depth,
    /// Whether wandb 0.10 normalizes the tensor as a contact sheet: see [`Reading`](super::Reading).
    pub is_torch_sheet: bool,
    /// The values of all pictures of a batch that share one rule. Only profile `auto` makes use of it.
    pub batch: Option<Extent>,
}

/// The result of [`Scan::decide`].
#[derive(Debug)]
pub enum Decision {
    /// The rule is known.
    Convert(Conversion),
    /// The rule depends on the stretched values. [`Measure`] must see all elements first.
    Measure(Measure),
}

impl Scan {
    /// Chooses the rule, after all elements were seen. An explicit `range` wins over any profile.
    #[must_use]
    pub fn decide(&self, wish: Wish) -> Decision {
        let white = wish.depth.white();
        let (rule, map) = match (wish.range, wish.profile) {
            (Some((lo, hi)), _) => (Rule::Range, Map::linear(lo, hi, white)),
            (None, _) if wish.is_torch_sheet => (Rule::Stretch, self.torch_sheet()),
            (None, Profile::Auto) => self.auto(white, wish.batch),
            (None, Profile::Wandb020) => self.norm(),
            (None, Profile::Wandb029) => match self.elements.dtype {
                DType::U8 | DType::Bool => (Rule::None, Map::Wrap),
                _ => (Rule::Wrap, Map::Wrap),
            },
            (None, Profile::Wandb010) => match self.seed() {
                Ok(chosen) => chosen,
                Err(stretch) => {
                    return Decision::Measure(Measure::new(self.elements, stretch));
                }
            },
        };
        Decision::Convert(Conversion::new(self.elements.dtype, rule, map))
    }

    /// Returns the share of all values that `n_clipped` values are, from 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "statistics are f64")]
    pub(crate) fn share(&self, n_clipped: u64) -> f64 {
        if n_clipped == 0 { 0.0 } else { n_clipped as f64 / self.n_values() as f64 }
    }

    /// Whether a finite value is outside of the range that `conversion` maps.
    #[must_use]
    pub(crate) fn is_clipped_by(&self, conversion: &Conversion) -> bool {
        let Finite { n, min, max, .. } = self.finite;
        n > 0 && conversion.bounds().is_some_and(|(lo, hi)| min < lo || max > hi)
    }

    /// The rule of wandb 0.10 for torch tensors: torchvision's normalization of the whole sheet, then × 255. A
    /// NaN anywhere makes everything black.
    fn torch_sheet(&self) -> Map {
        let (min, max) = match self.extremes {
            Extremes::Real(ordered) => ordered.get().unwrap_or((0.0, 0.0)),
            _ => (self.finite.min, self.finite.max),
        };
        Map::Sheet { min, spread: if (max - min) < 1e-5 { 1e-5 } else { max - min } }
    }

    /// Safelight's own rule: bool is black and white, whole numbers are clipped and never scaled, floats are
    /// mapped by their finite values and those of `batch`.
    fn auto(&self, white: f64, batch: Option<Extent>) -> (Rule, Map) {
        let is_wide = white > 255.0;
        let unit = if is_wide { Rule::X65535 } else { Rule::X255 };
        let clip = Map::linear(0.0, white, white);
        match (self.elements.dtype, self.extremes) {
            (DType::Bool, _) => (unit, Map::linear(0.0, 1.0, white)),
            (DType::U8, _) if !is_wide => (Rule::None, Map::Clip),
            (DType::U8 | DType::U16, _) if is_wide => (Rule::None, clip),
            (_, Extremes::Int { .. }) if !is_wide => (Rule::Clip, Map::Clip),
            (_, Extremes::Int { .. }) => (Rule::Clip, clip),
            _ => {
                let Some(extent) = Extent::join(self.extent(), batch) else {
                    return (Rule::Clip, clip);
                };
                match extent.is_signed() {
                    false if extent.max <= 1.0 + OVERSHOOT => (unit, Map::linear(0.0, 1.0, white)),
                    true if extent.max.max(-extent.min) <= 1.0 + 2.0 * OVERSHOOT => {
                        (Rule::Sym, Map::linear(-1.0, 1.0, white))
                    }
                    _ => (Rule::Clip, clip),
                }
            }
        }
    }

    /// The rule of wandb 0.20.1 to 0.28: A.4.1.
    ///
    /// With `NumPy` 2, wandb refuses int8 pictures of 0 and 1. They are converted as with `NumPy` 1.
    fn norm(&self) -> (Rule, Map) {
        let (from_0, from_minus_1, to_1) = match self.extremes {
            Extremes::Int { min, max } => (min >= 0, min >= -1, max <= 1),
            Extremes::Real(ordered) => ordered
                .get()
                .map_or((false, false, false), |(min, max)| (min >= 0.0, min >= -1.0, max <= 1.0)),
            Extremes::Complex(ordered) => {
                ordered.get().map_or((false, false, false), |(min, max)| {
                    (ZERO.less_or_equal(min), MINUS_ONE.less_or_equal(min), max.less_or_equal(ONE))
                })
            }
        };
        match (from_0, from_minus_1, to_1) {
            (true, _, true) => (Rule::X255, Map::X255 { clip: false }),
            (_, true, true) => (Rule::Sym, Map::Sym),
            _ if self.elements.dtype == DType::U8 => (Rule::None, Map::Clip),
            _ => (Rule::Clip, Map::Clip),
        }
    }

    /// The rule of wandb 0.10 to 0.19: A.4.3.
    ///
    /// # Errors
    /// The stretch, if the minimum is negative. Then a [`Measure`] decides.
    fn seed(&self) -> Result<(Rule, Map), Stretch> {
        let to_1 = match self.extremes {
            Extremes::Int { min, max } if min < 0 => return Err(Stretch::Int { min, max }),
            Extremes::Int { max, .. } => max <= 1,
            Extremes::Real(ordered) => match ordered.get() {
                Some((min, max)) if min < 0.0 => return Err(Stretch::Real { min, max }),
                ends => ends.is_some_and(|(_, max)| max <= 1.0),
            },
            // In the NumPy of those releases, all comparisons with a complex64 NaN are false.
            Extremes::Complex(Ordered { first_nan: Some(_), .. })
                if self.elements.dtype == DType::Complex64 =>
            {
                false
            }
            Extremes::Complex(ordered) => match ordered.get() {
                Some((min, max)) if min.less(ZERO) => return Err(Stretch::Complex { min, max }),
                ends => ends.is_some_and(|(_, max)| max.less_or_equal(ONE)),
            },
        };
        Ok(match (to_1, self.elements.dtype) {
            (true, _) => (Rule::X255, Map::X255 { clip: true }),
            (false, DType::U8) => (Rule::None, Map::Clip),
            (false, _) => (Rule::Clip, Map::Clip),
        })
    }
}
