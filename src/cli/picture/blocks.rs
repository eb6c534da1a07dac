//! Half blocks: `▀` shows one pixel as its colour, and the pixel below it as its background. Works on every terminal
//! with 24-bit colours.
//!
//! Source: ECMA-48 "SGR"; 38;2 and 48;2 as in ISO 8613-6, with semicolons as terminals take them.

use std::fmt::Write;

use crate::convert::Pixels;

/// Returns the text that shows an RGB picture, without the newline after its last row.
pub(super) fn encode(pixels: &Pixels) -> String {
    let row_bytes = pixels.width as usize * 3;
    let rows: Vec<&[u8]> = pixels.bytes.chunks_exact(row_bytes).collect();
    let mut text = String::new();
    for (i, pair) in rows.chunks(2).enumerate() {
        if i > 0 {
            text.push('\n');
        }
        let (upper, lower) = (pair[0], pair.get(1));
        let mut shown = (None, None);
        for (column, over) in upper.chunks_exact(3).enumerate() {
            let under = lower.map(|row| &row[column * 3..][..3]);
            // A colour stays until another one is set.
            if shown.0 != Some(over) {
                push_color(&mut text, 38, over);
            }
            if let Some(under) = under.filter(|_| shown.1 != under) {
                push_color(&mut text, 48, under);
            }
            shown = (Some(over), under);
            text.push('▀');
        }
        text.push_str("\x1b[0m");
    }
    text
}

fn push_color(text: &mut String, what: u8, color: &[u8]) {
    if let [red, green, blue] = color {
        // A write to memory.
        write!(text, "\x1b[{what};2;{red};{green};{blue}m").ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::ColorMode;

    #[test]
    fn two_rows_of_pixels_are_one_row_of_text() {
        let (red, blue) = ([255, 0, 0], [0, 0, 255]);
        let picture = |width, height, pixels: &[[u8; 3]]| {
            encode(&Pixels { mode: ColorMode::Rgb, width, height, bytes: pixels.concat() })
        };
        assert_eq!(
            picture(2, 2, &[red, red, blue, red]),
            "\x1b[38;2;255;0;0m\x1b[48;2;0;0;255m▀\x1b[48;2;255;0;0m▀\x1b[0m"
        );
        // The last of three rows has the terminal's background below it.
        assert_eq!(
            picture(1, 3, &[red, blue, blue]),
            "\x1b[38;2;255;0;0m\x1b[48;2;0;0;255m▀\x1b[0m\n\x1b[38;2;0;0;255m▀\x1b[0m"
        );
    }
}
