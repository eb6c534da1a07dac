//! kitty's graphics protocol, which Ghostty, Konsole and WezTerm know too.
//!
//! | bytes | content |
//! | --- | --- |
//! | `ESC _ G` | start |
//! | `a=T,f=100,q=2` | show now, a PNG, do not answer; in the first piece only |
//! | `c=80` or `r=22` | the columns or rows to fill; in the first piece only |
//! | `m=1` or `m=0` | whether more pieces follow |
//! | `;` and base64 | at most 4,096 bytes |
//! | `ESC \` | end |
//!
//! Source: kitty's `docs/graphics-protocol.rst`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::layout::Limit;

/// The most bytes of base64 in a piece.
const PIECE_BYTES: usize = 4096;

/// Returns the bytes that show a PNG file.
pub(super) fn encode(png: &[u8], limit: Option<Limit>) -> Vec<u8> {
    let text = STANDARD.encode(png);
    let mut out = Vec::with_capacity(text.len() + text.len() / 256 + 64);
    let mut pieces = text.as_bytes().chunks(PIECE_BYTES).peekable();
    let mut head = match limit {
        None => "a=T,f=100,q=2,".to_owned(),
        Some(Limit::Columns(columns)) => format!("a=T,f=100,q=2,c={columns},"),
        Some(Limit::Rows(rows)) => format!("a=T,f=100,q=2,r={rows},"),
    };
    while let Some(piece) = pieces.next() {
        let more = u8::from(pieces.peek().is_some());
        out.extend_from_slice(format!("\x1b_G{head}m={more};").as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\x1b\\");
        head.clear();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_file_is_one_piece() {
        assert_eq!(encode(b"Man", None), b"\x1b_Ga=T,f=100,q=2,m=0;TWFu\x1b\\");
        let wide = encode(b"Ma", Some(Limit::Columns(80)));
        assert_eq!(wide, b"\x1b_Ga=T,f=100,q=2,c=80,m=0;TWE=\x1b\\");
        let high = encode(b"M", Some(Limit::Rows(22)));
        assert_eq!(high, b"\x1b_Ga=T,f=100,q=2,r=22,m=0;TQ==\x1b\\");
    }

    #[test]
    fn pieces_are_of_4096_bytes_and_make_the_file_again() {
        // 3,072 bytes are 4,096 of base64.
        for (n_bytes, n_pieces) in [(3072, 1), (3073, 2), (6144, 2), (10_000, 4)] {
            let file: Vec<u8> = (0..n_bytes).map(|i: u32| i.to_le_bytes()[0] ^ 0x5a).collect();
            let sent = String::from_utf8(encode(&file, None)).expect("ASCII");
            let mut pieces: Vec<&str> = sent.split("\x1b\\").collect();
            assert_eq!((pieces.pop(), pieces.len()), (Some(""), n_pieces));
            let mut text = String::new();
            for (i, piece) in pieces.iter().enumerate() {
                let (head, piece) = piece.split_once(';').expect("a head");
                let more = if i + 1 < n_pieces { "m=1" } else { "m=0" };
                let want = if i == 0 { "\x1b_Ga=T,f=100,q=2," } else { "\x1b_G" };
                assert_eq!(head, format!("{want}{more}"));
                assert!(piece.len() == 4096 || i + 1 == n_pieces, "{}", piece.len());
                text.push_str(piece);
            }
            assert_eq!(STANDARD.decode(text).expect("base64"), file);
        }
    }
}
