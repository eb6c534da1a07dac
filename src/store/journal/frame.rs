//! The bytes of a line: JSON that ends in a checksum of itself.

use serde::{Deserialize, Serialize};

use super::Line;

/// Why bytes are not a line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// The bytes are not those that were written.
    #[error("wrong checksum")]
    Checksum,
    /// The bytes were written so, but they are not a line of this version.
    #[error(transparent)]
    Fields(#[from] serde_json::Error),
}

/// The end of a line's JSON, before its newline.
fn ending(body: &[u8]) -> String {
    format!(",\"crc\":\"{:08x}\"}}", crc32fast::hash(body))
}

/// Appends a line with its newline.
pub(crate) fn frame<E: Serialize, C: Serialize>(line: &Line<E, C>, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    let written = serde_json::to_writer(&mut *bytes, line);
    written.expect("serde_json refuses only map keys that are no text, which a line lacks");
    let brace = bytes.pop();
    debug_assert_eq!(brace, Some(b'}'), "a line is an object");
    let ending = ending(&bytes[start..]);
    bytes.extend_from_slice(ending.as_bytes());
    bytes.push(b'\n');
}

/// Reads a line from its bytes without the newline.
///
/// # Errors
/// If the checksum is wrong, or the JSON is not of this form. The error then names the field.
pub(crate) fn unframe<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, FrameError> {
    const ENDING_BYTES: usize = ",\"crc\":\"00000000\"}".len();
    let body = bytes.len().checked_sub(ENDING_BYTES).map(|n| bytes.split_at(n));
    match body {
        Some((body, crc)) if crc == ending(body).as_bytes() => Ok(serde_json::from_slice(bytes)?),
        _ => Err(FrameError::Checksum),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{framed, line};
    use super::*;

    #[test]
    fn a_frame_is_read_back_and_any_flipped_byte_is_noticed() {
        let bytes = framed(&line(7, true));
        let bytes = &bytes[..bytes.len() - 1];
        assert_eq!(unframe::<Line>(bytes).expect("a line"), line(7, true));
        for i in 0..bytes.len() {
            let mut flipped = bytes.to_vec();
            flipped[i] ^= 0x10;
            assert!(matches!(unframe::<Line>(&flipped), Err(FrameError::Checksum)), "byte {i}");
        }
    }

    #[test]
    fn a_line_that_lacks_a_field_is_an_error_that_names_the_field() {
        let mut bytes = br#"{"seq":1,"kind":"media","state":"image","key":"k","step":1,"index":0,"source":{"path":"a"}"#.to_vec();
        bytes.extend(ending(&bytes).into_bytes());
        let error = unframe::<Line>(&bytes).expect_err("an error");
        assert!(error.to_string().contains("image item without \"path\""), "{error}");
    }
}
