//! Floats of 8 bits.

use super::element::Element;

/// Declares a float of 8 bits, computed in f32. Its 256 values are in a table.
macro_rules! float8 {
    ($($name:ident $table:ident { exponent: $exponent:literal, mantissa: $mantissa:literal, bias: $bias:literal, special: $special:path })*) => {$(
        pub(super) struct $name;
        static $table: [f32; 256] = table($exponent, $mantissa, $bias, $special);
        impl Element for $name {
            type Value = f32;
            const SIZE: usize = 1;
            #[inline]
            fn value(bytes: &[u8]) -> f32 {
                $table[usize::from(bytes[0])]
            }
        }
    )*};
}

/// The meaning of the bit patterns with the largest exponent.
#[derive(Clone, Copy, PartialEq)]
enum Special {
    /// As in IEEE 754: infinities and NaN.
    Ieee,
    /// All ones are NaN; there is no infinity.
    Finite,
    /// Negative zero is the only NaN; there is no infinity.
    Unsigned,
}

float8! {
    F8E4M3Fn E4M3FN { exponent: 4, mantissa: 3, bias: 7, special: Special::Finite }
    F8E4M3Fnuz E4M3FNUZ { exponent: 4, mantissa: 3, bias: 8, special: Special::Unsigned }
    F8E5M2 E5M2 { exponent: 5, mantissa: 2, bias: 15, special: Special::Ieee }
    F8E5M2Fnuz E5M2FNUZ { exponent: 5, mantissa: 2, bias: 16, special: Special::Unsigned }
}

/// Returns the value of each bit pattern.
///
/// Source: "FP8 Formats for Deep Learning" (arXiv 2209.05433) and `ml_dtypes`' README for the `fnuz`
/// types.
#[expect(clippy::cast_precision_loss, reason = "numbers of at most 4 bits")]
const fn table(exponent: u32, mantissa: u32, bias: i32, special: Special) -> [f32; 256] {
    let mut values = [0.0; 256];
    let mut bits = 0u32;
    while bits < 256 {
        let field = bits >> mantissa & ((1 << exponent) - 1);
        let fraction = bits & ((1 << mantissa) - 1);
        let is_top = field == (1 << exponent) - 1;
        let value = match special {
            Special::Ieee if is_top && fraction == 0 => f32::INFINITY,
            Special::Ieee if is_top => f32::NAN,
            Special::Finite if is_top && fraction == (1 << mantissa) - 1 => f32::NAN,
            Special::Unsigned if bits == 0x80 => f32::NAN,
            // Subnormal: without the leading one.
            _ if field == 0 => fraction as f32 * power_of_2(1 - bias - mantissa.cast_signed()),
            _ => {
                let whole = fraction + (1 << mantissa);
                whole as f32 * power_of_2(field.cast_signed() - bias - mantissa.cast_signed())
            }
        };
        values[bits as usize] = if bits & 0x80 == 0 { value } else { -value };
        bits += 1;
    }
    values
}

/// Returns 2 to the power of `exponent`, which must be that of a normal f32.
const fn power_of_2(exponent: i32) -> f32 {
    f32::from_bits((exponent + 127).cast_unsigned() << 23)
}

/// `float8_e8m0fnu`: 2⁻¹²⁷ to 2¹²⁷, and NaN for 255.
pub(super) struct F8E8M0Fnu;

impl Element for F8E8M0Fnu {
    type Value = f32;
    const SIZE: usize = 1;
    #[inline]
    fn value(bytes: &[u8]) -> f32 {
        match bytes[0] {
            0 => f32::from_bits(1 << 22),
            255 => f32::NAN,
            field => f32::from_bits(u32::from(field) << 23),
        }
    }
}
