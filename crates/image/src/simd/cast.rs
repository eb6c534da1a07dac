//! Floats → whole numbers in one instruction each. `as` takes five, because it saturates.

/// 2³¹, the smallest power of 2 that `i32` does not hold.
const TOO_LARGE: f32 = 2_147_483_648.0;

macro_rules! casts {
    ($($type:ident $saturated:ident $low_bits:ident)*) => {$(
        /// Clamps the value to 0 and `MAX` and truncates it. NaN gives 0.
        #[inline(always)]
        pub(crate) fn $saturated<const MAX: u16>(value: $type) -> i32 {
            let (zero, max) = (0.0, $type::from(MAX));
            // In this form NaN becomes 0, and each line is one instruction.
            let value = if value > zero { value } else { zero };
            let value = if value < max { value } else { max };
            // SAFETY: the value is not NaN, and between 0 and 65535.
            unsafe { value.to_int_unchecked() }
        }

        /// Truncates the value. Values that do not fit and NaN give 0; so does −2³¹, whose low bits are 0
        /// anyway.
        #[inline(always)]
        pub(crate) fn $low_bits(value: $type) -> i32 {
            let value = if value.abs() < $type::from(TOO_LARGE) { value } else { 0.0 };
            // SAFETY: the value is not NaN, and its magnitude is less than 2³¹.
            unsafe { value.to_int_unchecked() }
        }
    )*};
}
casts! {
    f32 saturated_f32 low_bits_f32
    f64 saturated_f64 low_bits_f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` is the twin")]
    fn check(value: f64) {
        assert_eq!(saturated_f64::<255>(value), i32::from(value as u8), "{value}");
        assert_eq!(saturated_f64::<65535>(value), i32::from(value as u16), "{value}");
        let whole = value.trunc();
        let fits = (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&whole);
        let want = if fits { whole as i32 as u16 } else { 0 };
        assert_eq!(low_bits_f64(value) as u16, want, "{value}");
        let value = value as f32;
        assert_eq!(saturated_f32::<255>(value), i32::from(value as u8), "{value}");
        assert_eq!(saturated_f32::<65535>(value), i32::from(value as u16), "{value}");
        let whole = f64::from(value).trunc();
        let fits = (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&whole);
        let want = if fits { whole as i32 as u16 } else { 0 };
        assert_eq!(low_bits_f32(value) as u16, want, "{value}");
    }

    #[test]
    fn the_ends_are_those_of_as() {
        for value in [
            0.0,
            -0.0,
            -0.9,
            0.999_999_9,
            254.999,
            255.0,
            255.999,
            256.0,
            65535.5,
            65536.0,
            2_147_483_647.5,
            2_147_483_648.0,
            -2_147_483_648.0,
            -2_147_483_648.9,
            -2_147_483_649.0,
            1e300,
            f64::MIN_POSITIVE,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
        ] {
            check(value);
            check(-value);
        }
    }

    proptest! {
        #[test]
        fn every_value_is_cast_as_by_as(value in any::<f64>(), small in -70000f64..70000.0) {
            check(value);
            check(small);
        }
    }
}
