//! What is repaired in a job's text instead of refused: whole floats, lone surrogates, odd times, deep nesting.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, Unexpected, Visitor};
use serde_json::Value;

use crate::media::shortened;

/// Up to 2⁵³, floats represent all whole numbers.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Times that are plausible, in seconds since the Unix epoch: from the year 2000 to 2100. Others are in
/// milliseconds, or count from the start of the job.
const TIMES: std::ops::Range<f64> = 946_684_800.0..4_102_444_800.0;

/// Most fields that a warning names.
const NAMES_MAX: usize = 4;

/// Returns one warning about fields, if there are any.
pub(super) fn of_fields(names: &[String], problem: &str) -> Option<String> {
    let shown: Vec<_> = names.iter().take(NAMES_MAX).map(|n| shortened(n.clone(), 64)).collect();
    let more = names.len().saturating_sub(NAMES_MAX);
    let more = if more > 0 { format!(" and {more} more fields") } else { String::new() };
    (!names.is_empty()).then(|| format!("{}{more} {problem}", shown.join(", ")))
}

/// The warning about a text with lone surrogates.
pub(super) const SURROGATES: &str = "lone surrogates in the text became U+FFFD";

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, and in range")]
fn whole_float(float: f64) -> Option<u64> {
    (float.fract() == 0.0 && (0.0..=EXACT_MAX).contains(&float)).then_some(float as u64)
}

/// Returns a whole number from 0 on, which may be written as a float.
pub(super) fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| whole_float(value.as_f64()?))
}

/// Returns seconds since the Unix epoch. `None` for anything but a plausible date.
pub(super) fn time(value: &Value) -> Option<f64> {
    value.as_f64().filter(|time| TIMES.contains(time))
}

/// A whole number from 0 on, which may be written as a float.
pub(super) struct Whole<T>(pub(super) T);

impl<'de, T: TryFrom<u64>> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(WholeVisitor(PhantomData)).map(Self)
    }
}

struct WholeVisitor<T>(PhantomData<T>);

impl<T: TryFrom<u64>> WholeVisitor<T> {
    fn fit<E: de::Error>(&self, number: Option<u64>, got: Unexpected<'_>) -> Result<T, E> {
        let fitting = number.and_then(|number| T::try_from(number).ok());
        fitting.ok_or_else(|| E::invalid_value(got, self))
    }
}

impl<T: TryFrom<u64>> Visitor<'_> for WholeVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let max = u64::MAX >> (64 - 8 * size_of::<T>().clamp(1, 8));
        write!(f, "a whole number from 0 to {max}")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.fit(Some(number), Unexpected::Unsigned(number))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.fit(u64::try_from(number).ok(), Unexpected::Signed(number))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.fit(whole_float(number), Unexpected::Float(number))
    }
}

/// Replaces each escape of a lone surrogate by that of U+FFFD, which is as long. Returns `None` if there
/// is none.
///
/// Python's `json` writes such an escape for each byte of a file name that is not UTF-8.
pub(super) fn replace_surrogates(text: &str) -> Option<String> {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        u16::from_str_radix(digits, 16).ok().filter(|_| is_hex)
    };
    let (mut replaced, mut rest, mut at) = (String::new(), 0, 0);
    while let Some(found) = text[at..].find('\\') {
        at += found;
        match (unit(at), unit(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => at += 12,
            (Some(0xd800..=0xdfff), _) => {
                replaced.push_str(&text[rest..at]);
                replaced.push_str("\\ufffd");
                at += 6;
                rest = at;
            }
            (Some(_), _) => at += 6,
            // The escaped character may be a backslash.
            (None, _) => at += 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
        }
    }
    replaced.push_str(&text[rest..]);
    (rest > 0).then_some(replaced)
}

/// Levels of nesting that are parsed. `serde_json` reads at most 128.
const LEVELS_MAX: usize = 100;

/// Replaces each list or object below [`LEVELS_MAX`] levels by a 0 and spaces, so that the text is as long
/// and has the same lines. Returns `None` if there is none.
pub(super) fn cut_deep(text: &str) -> Option<String> {
    let (mut level, mut in_text, mut is_escaped, mut is_cut) = (0usize, false, false, false);
    let mut cut = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        let mut is_first = false;
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_text => is_escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                level += 1;
                is_first = level == LEVELS_MAX + 1;
            }
            _ => {}
        }
        let is_deep = level > LEVELS_MAX;
        if matches!(byte, b']' | b'}') && !in_text {
            level = level.saturating_sub(1);
        }
        cut.push(match byte {
            _ if is_first => b'0',
            byte if !is_deep || byte == b'\n' => byte,
            _ => b' ',
        });
        is_cut |= is_first;
    }
    String::from_utf8(cut).ok().filter(|_| is_cut)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_lone_surrogates_are_replaced() {
        let check = |text: &str, want: Option<&str>| {
            assert_eq!(replace_surrogates(text).as_deref(), want, "{text}");
        };
        check(r"caf\udce9.png", Some(r"caf\ufffd.png"));
        check(r"\ud83d\ude00", None);
        check(r"\ud83d\ud83d\ude00", Some(r"\ufffd\ud83d\ude00"));
        check(r"\ud83d", Some(r"\ufffd"));
        check(r"\\udce9", None);
        check(r"\\\udce9é\uDCE9", Some(r"\\\ufffdé\ufffd"));
        check(r"\u00e9\u12", None);
    }

    #[test]
    fn only_what_is_nested_deep_is_cut() {
        let nested = |n: usize, inner: &str| "[".repeat(n) + inner + &"]".repeat(n);
        assert_eq!(cut_deep(&nested(LEVELS_MAX, "1")), None);
        let deep = nested(LEVELS_MAX, r#"{"é": "]\"}"}, 2"#);
        let want = nested(LEVELS_MAX, &format!("0{}, 2", " ".repeat(13)));
        assert_eq!(cut_deep(&deep), Some(want));
        // Text that is no JSON stays as long, too.
        assert_eq!(cut_deep(&"[".repeat(5000)).map(|text| text.len()), Some(5000));
        assert_eq!(cut_deep(&("]".repeat(300) + "\"[[")), None);
    }

    #[test]
    fn whole_floats_are_whole_numbers() {
        let read = |text: &str| serde_json::from_str::<Whole<u8>>(text).map(|whole| whole.0).ok();
        assert_eq!([read("7"), read("7.0"), read("2.55e2")], [Some(7), Some(7), Some(255)]);
        for text in ["7.5", "-1", "-1.0", "256.0", "1e300", "\"7\"", "null"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(whole(&Value::from(4096.0)), Some(4096));
    }

    proptest! {
        #[test]
        fn replaced_text_is_as_long_and_needs_no_more(text in "[\\\\udce89Dé\"]{0,40}") {
            if let Some(replaced) = replace_surrogates(&text) {
                prop_assert_eq!(replaced.len(), text.len());
                prop_assert_eq!(replace_surrogates(&replaced), None);
            }
        }
    }
}
