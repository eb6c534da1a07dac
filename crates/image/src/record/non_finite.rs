//! `NaN`, `Infinity`, `-Infinity` and numbers of hundreds of digits, which Python's `json` writes. JSON does
//! not have the first three, and no float holds the last.

use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::RecordError;

/// A number, or the text `"NaN"`, `"Infinity"` or `"-Infinity"`.
pub(super) struct Number(pub(super) f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "want a number")]
        enum Given {
            Float(f64),
            Text(String),
        }
        match Given::deserialize(from)? {
            Given::Float(number) => Ok(Self(number)),
            Given::Text(text) => match text.as_str() {
                "NaN" => Ok(Self(f64::NAN)),
                "Infinity" => Ok(Self(f64::INFINITY)),
                "-Infinity" => Ok(Self(f64::NEG_INFINITY)),
                _ => Err(de::Error::custom("want a number")),
            },
        }
    }
}

/// Converts an error in `quoted` to one whose column counts in the text before [`quote_non_finite`].
pub(super) fn record_error(
    error: &serde_json::Error,
    quoted: &str,
    places: &[usize],
) -> RecordError {
    let (line, column) = (error.line().max(1), error.column().max(1));
    let line_start: usize = quoted.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let on_line = line_start..=line_start + column;
    let n_quotes = places.iter().filter(|place| on_line.contains(place)).count() * 2;
    let message = without_position(&error.to_string()).to_owned();
    RecordError { line, column: column.saturating_sub(n_quotes).max(1), message }
}

/// Cuts off the line and column that `serde_json` appends to its messages: [`RecordError`] has fields for
/// them.
pub(super) fn without_position(message: &str) -> &str {
    message.rfind(" at line ").map_or(message, |at| &message[..at])
}

/// Returns the number that a text starts with.
fn number_at_start(text: &str) -> &str {
    let is_part =
        |byte: u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
    let is_number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    let end = if is_number { text.bytes().take_while(|byte| is_part(*byte)).count() } else { 0 };
    &text[..end]
}

/// Puts quotes around each bare `NaN`, `Infinity` and `-Infinity` outside of texts, and around each number
/// that is too large for a float. Also returns the ends of the quoted words in the result.
pub(super) fn quote_non_finite(text: &str) -> (String, Vec<usize>) {
    let (mut quoted, mut places) = (String::with_capacity(text.len() + 16), Vec::new());
    let (mut in_text, mut rest) = (false, text);
    while let Some(c) = rest.chars().next() {
        let word = ["NaN", "Infinity", "-Infinity"]
            .iter()
            .find(|word| !in_text && rest.starts_with(**word));
        if let Some(word) = word {
            quoted.extend(["\"", word, "\""]);
            places.push(quoted.len());
            rest = &rest[word.len()..];
            continue;
        }
        let number = if in_text { "" } else { number_at_start(rest) };
        if !number.is_empty() {
            if number.parse().is_ok_and(f64::is_infinite) {
                quoted.extend(["\"", number, "\""]);
                places.push(quoted.len());
            } else {
                quoted.push_str(number);
            }
            rest = &rest[number.len()..];
            continue;
        }
        let mut n = c.len_utf8();
        match c {
            '"' => in_text = !in_text,
            '\\' if in_text => n += rest[1..].chars().next().map_or(0, char::len_utf8),
            _ => {}
        }
        quoted.push_str(&rest[..n]);
        rest = &rest[n..];
    }
    (quoted, places)
}
