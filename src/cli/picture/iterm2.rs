//! iTerm2's inline images, which WezTerm and mintty know too: `ESC ] 1337 ; File = ARGUMENTS : BASE64 BEL`.
//!
//! The terminal decodes the file, of any type that it knows.
//!
//! Source: <https://iterm2.com/documentation-images.html>.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::layout::Limit;

/// Returns the bytes that show an image file.
pub(super) fn encode(file: &[u8], limit: Option<Limit>) -> Vec<u8> {
    let extent = match limit {
        None => String::new(),
        Some(Limit::Columns(columns)) => format!(";width={columns};height=auto"),
        Some(Limit::Rows(rows)) => format!(";width=auto;height={rows}"),
    };
    let mut text = format!("\x1b]1337;File=inline=1;size={}{extent}:", file.len());
    STANDARD.encode_string(file, &mut text);
    text.push('\x07');
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_sent_as_it_is() {
        assert_eq!(encode(b"Man", None), b"\x1b]1337;File=inline=1;size=3:TWFu\x07");
        let wide = encode(b"Ma", Some(Limit::Columns(80)));
        assert_eq!(wide, b"\x1b]1337;File=inline=1;size=2;width=80;height=auto:TWE=\x07");
        let high = encode(b"M", Some(Limit::Rows(22)));
        assert_eq!(high, b"\x1b]1337;File=inline=1;size=1;width=auto;height=22:TQ==\x07");
    }
}
