//! Text of other programs, made fit for logs and the status: without secrets, short and on one line.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::SecretSource;
use crate::media::shortened;

/// The longest text of another program in a message, in characters.
pub(crate) const FOREIGN_CHARS_MAX: usize = 300;

/// How much of a text is searched for secrets, in bytes. The rest is cut off.
const SEARCHED_BYTES_MAX: usize = 64 << 10;

/// How much is cut off from the end of a text that may be incomplete, because it may end inside a secret.
const INCOMPLETE_BYTES: usize = 4 << 10;

/// A secret of fewer characters is searched for as it is, not in base64: its code would be part of many words.
const ENCODED_CHARS_MIN: usize = 4;

/// Removes secrets from texts of other programs, for example of a server that repeats the request.
///
/// A secret is found as it is, percent-encoded, in base64 by itself, and as in a JSON string.
#[derive(Clone, Default)]
pub(crate) struct Redactor {
    /// Forms of the secrets, longest first.
    forms: Vec<String>,
}

impl Redactor {
    /// Creates a redactor of these secrets.
    pub(crate) fn of<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut forms: Vec<String> = secrets.into_iter().flat_map(forms).collect();
        forms.sort_by_key(|form| (std::cmp::Reverse(form.len()), form.clone()));
        forms.dedup();
        Self { forms }
    }

    /// Creates a redactor of the secrets that can be read now.
    pub(crate) fn read<'a>(sources: impl IntoIterator<Item = &'a SecretSource>) -> Self {
        let secrets: Vec<_> = sources.into_iter().flat_map(SecretSource::read).collect();
        Self::of(secrets.iter().map(super::Secret::expose))
    }

    /// Returns a text of another program for a message: without secrets and control characters, on one line, and of at
    /// most [`FOREIGN_CHARS_MAX`] characters.
    pub(crate) fn text(&self, text: &str) -> String {
        self.text_of(text, FOREIGN_CHARS_MAX)
    }

    /// Returns the same as [`Self::text`], of at most `n_chars` characters.
    pub(crate) fn text_of(&self, text: &str, n_chars: usize) -> String {
        let text = if text.len() > SEARCHED_BYTES_MAX {
            &text[..text.floor_char_boundary(SEARCHED_BYTES_MAX - INCOMPLETE_BYTES)]
        } else {
            text
        };
        let hidden = self.forms.iter().fold(text.to_owned(), |text, form| without(&text, form));
        shortened(on_one_line(&hidden), n_chars)
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor")
    }
}

/// Returns the forms in which a program may repeat a secret.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    if secret.chars().count() >= ENCODED_CHARS_MIN {
        forms.extend([STANDARD_NO_PAD.encode(secret), URL_SAFE_NO_PAD.encode(secret)]);
    }
    let json = serde_json::Value::from(secret).to_string();
    forms.push(json.trim_matches('"').to_owned());
    forms.retain(|form| !form.is_empty());
    forms
}

/// Replaces a form of a secret in a text, also where its characters are percent-encoded.
fn without(text: &str, form: &str) -> String {
    let text = text.replace(form, "…");
    if !text.contains('%') {
        return text;
    }
    // The decoded bytes, and where each begins in the text.
    let (mut decoded, mut starts) = (Vec::with_capacity(text.len()), Vec::new());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        starts.push(text.len() - rest.len());
        let code = rest.get(1..3).filter(|_| *first == b'%');
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        if let Some(byte) = code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            decoded.push(byte);
            rest = &rest[3..];
        } else {
            decoded.push(*first);
            rest = after;
        }
    }
    starts.push(text.len());
    let mut hidden = String::with_capacity(text.len());
    let mut end = 0;
    for start in memchr::memmem::find_iter(&decoded, form.as_bytes()) {
        // Both ends are between characters, because the form has whole ones.
        hidden.push_str(text.get(end..starts[start]).unwrap_or_default());
        hidden.push('…');
        end = starts[start + form.len()];
    }
    hidden.push_str(text.get(end..).unwrap_or_default());
    hidden
}

/// Joins lines and words by single spaces, and escapes characters that a terminal would act on.
fn on_one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(4 * FOREIGN_CHARS_MAX));
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        for c in word.chars() {
            // The latter change the direction of text.
            if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
                line.extend(c.escape_unicode());
            } else {
                line.push(c);
            }
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_form_of_a_secret_stays() {
        let secret = "tok/en+\"17\"=ü";
        let redactor = Redactor::of(["me:hunter2", "hunter2", secret]);
        for (text, want) in [
            ("the token tok/en+\"17\"=ü is wrong", "the token … is wrong"),
            ("?t=tok%2Fen%2B%2217%22%3D%C3%BC&x", "?t=…&x"),
            ("?t=tok%2fen+%2217%22%3d%c3%bc&x", "?t=…&x"),
            ("dG9rL2VuKyIxNyI9w7w=", "…="),
            ("Basic bWU6aHVudGVyMg==", "Basic …=="),
            ("{\"got\":\"tok/en+\\\"17\\\"=ü\"}", "{\"got\":\"…\"}"),
            ("hunter2hunter2", "……"),
            ("100% of 5 %zz %", "100% of 5 %zz %"),
        ] {
            assert_eq!(redactor.text(text), want, "{text}");
        }
        assert_eq!(
            Redactor::default().text("a\n b\u{1b}[31m\0\u{202e}"),
            "a b\\u{1b}[31m\\u{0}\\u{202e}"
        );
    }

    #[test]
    fn a_long_text_is_short_and_ends_with_no_part_of_a_secret() {
        let redactor = Redactor::of(["0123456789abcdef"]);
        assert_eq!(redactor.text(&"x".repeat(5 << 20)).chars().count(), FOREIGN_CHARS_MAX + 1);
        // White space takes no room in the result.
        for n in [0, 8, 15] {
            let text = format!("{}0123456789abcdef", " ".repeat(SEARCHED_BYTES_MAX - n));
            assert_eq!(redactor.text(&text), "", "{n}");
        }
        assert_eq!(redactor.text_of("0123456789abcdef and more", 3), "… a…");
    }
}
