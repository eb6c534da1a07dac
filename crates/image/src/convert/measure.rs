//! The pass between scan and conversion that wandb 0.10 to 0.19 needs for some pictures.

use super::complex::{Complex, ONE};
use super::conversion::Conversion;
use super::element::{Real, for_dtype, normalize, values};
use super::map::Map;
use super::scan::{Elements, Ordered};
use super::stretch::Stretch;
use crate::media::Rule;
use crate::tensor::DType;

/// The pass over the stretched values of wandb 0.10 to 0.19.
///
/// wandb scales by 255 only if no stretched value is above 1. That cannot be computed from the extremes:
/// whole numbers wrap in the stretch, and complex division changes the order.
#[derive(Debug)]
pub struct Measure {
    elements: Elements,
    stretch: Stretch,
    max: Ordered<Complex<f64>>,
}

impl Measure {
    pub(super) fn new(elements: Elements, stretch: Stretch) -> Self {
        Self { elements, stretch, max: Ordered::NONE }
    }

    /// Sees one more chunk of whole elements, as in the dump.
    pub fn see(&mut self, chunk: &mut [u8]) {
        normalize(chunk, self.elements.dtype, self.elements.byte_order);
        let (stretch, max) = (self.stretch, &mut self.max);
        let mut see = |value: Complex<f64>| {
            max.see(value, value.is_nan(), Complex::less);
        };
        let real = |re: f64| Complex { re, im: 0.0 };
        for_dtype!(self.elements.dtype,
            int T => values::<T>(chunk).for_each(|v| see(real(stretch.int(v)))),
            real T => values::<T>(chunk).for_each(|v| see(real(stretch.real(v).wide()))),
            complex T => values::<Complex<T>>(chunk).for_each(|v| see(stretch.complex(v).wide())),
        );
    }

    /// Returns the conversion, after all elements were seen.
    #[must_use]
    pub fn decide(self) -> Conversion {
        let scaled = self.max.get().is_some_and(|(_, max)| max.less_or_equal(ONE));
        let map = Map::Stretch { stretch: self.stretch, scaled };
        Conversion::new(self.elements.dtype, Rule::Stretch, map)
    }
}
