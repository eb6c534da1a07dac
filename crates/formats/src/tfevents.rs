//! `TensorBoard`'s event files: the images of a step as one record, and the outline of such a record.
//!
//! ```text
//! file    = record(Event { wall_time, file_version "brain.Event:2" }) record(Event)…
//! Event   = wall_time 1, step 2, kept 1023 (ours), summary 5 { value 1 … }
//! Value   = tag 1, tensor 8, metadata 9
//! tensor  = dtype 1 = DT_STRING, shape 2 = [n + 2], string_val 8 = width, height, image, image, …
//! ```
//!
//! `kept` is our own field and names the images of the record. Readers skip it, as they skip every unknown field. It
//! comes before the summary, so that the beginning of a record is enough to read it.
//!
//! Source: `TensorFlow`'s `event.proto`, `summary.proto`, `tensor.proto`; `TensorBoard`'s
//! `plugins/image/summary_v2.py`.

use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};

pub use super::tfrecord::{FOOTER_BYTES, HEADER_BYTES, payload, payload_bytes};
use crate::tfrecord;
use safelight_image::media::MediaKey;

/// The fields before the summary.
#[derive(Clone, PartialEq, Message)]
struct Head {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, repeated, tag = "1023")]
    kept: Vec<KeptImage>,
}

/// An image of a record.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct KeptImage {
    /// The place among the images of its key and step.
    #[prost(uint32, tag = "1")]
    pub index: u32,
    /// The SHA-256 digest of the media file.
    #[prost(bytes = "vec", tag = "2")]
    pub sha256: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Body {
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<SummaryValue>,
}

#[derive(Clone, PartialEq, Message)]
struct SummaryValue {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(message, optional, tag = "8")]
    tensor: Option<TensorProto>,
    #[prost(message, optional, tag = "9")]
    metadata: Option<SummaryMetadata>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int32, tag = "1")]
    dtype: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<TensorShape>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    string_val: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorShape {
    #[prost(message, repeated, tag = "2")]
    dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(int64, tag = "1")]
    size: i64,
}

#[derive(Clone, PartialEq, Message)]
struct SummaryMetadata {
    #[prost(message, optional, tag = "1")]
    plugin_data: Option<PluginData>,
    #[prost(string, tag = "3")]
    summary_description: String,
    #[prost(int32, tag = "4")]
    data_class: i32,
}

#[derive(Clone, PartialEq, Message)]
struct PluginData {
    #[prost(string, tag = "1")]
    plugin_name: String,
}

const DT_STRING: i32 = 7;
const BLOB_SEQUENCE: i32 = 3;

/// The images of one tag and step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// The tag.
    pub tag: String,
    /// Columns of the first image: the format has one size for all of them.
    pub width: u32,
    /// Rows of the first image.
    pub height: u32,
    /// PNG, JPEG, GIF or BMP files.
    pub images: Vec<Vec<u8>>,
    /// Markdown about the tag. Readers use that of the tag's first event.
    pub description: String,
}

/// Returns the first record of a file.
#[must_use]
pub fn first_record(wall_time: f64) -> Vec<u8> {
    let file_version = Some("brain.Event:2".to_owned());
    let head = Head { wall_time, step: 0, file_version, kept: Vec::new() };
    tfrecord::record(|out| out.extend(head.encode_to_vec()))
}

/// Returns the record of a step: one tag and its overlays.
pub fn record(step: i64, wall_time: f64, kept: Vec<KeptImage>, series: Vec<Series>) -> Vec<u8> {
    let head = Head { wall_time, step, file_version: None, kept };
    let value = series.into_iter().map(summary_value).collect();
    let body = Body { summary: Some(Summary { value }) };
    tfrecord::record(|out| {
        out.reserve_exact(head.encoded_len() + body.encoded_len() + FOOTER_BYTES);
        out.extend(head.encode_to_vec());
        // Encoding fails only if the buffer is full, and a vector grows.
        body.encode(out).unwrap_or_default();
    })
}

fn summary_value(series: Series) -> SummaryValue {
    let Series { tag, width, height, images, description } = series;
    let sides = [width, height].map(|side| side.to_string().into_bytes());
    let string_val: Vec<Vec<u8>> = sides.into_iter().chain(images).collect();
    let size = i64::try_from(string_val.len()).unwrap_or(i64::MAX);
    SummaryValue {
        tag,
        tensor: Some(TensorProto {
            dtype: DT_STRING,
            shape: Some(TensorShape { dim: vec![Dimension { size }] }),
            string_val,
        }),
        metadata: Some(SummaryMetadata {
            plugin_data: Some(PluginData { plugin_name: "images".to_owned() }),
            summary_description: description,
            data_class: BLOB_SEQUENCE,
        }),
    }
}

/// The outline of a record: its fields before the first image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outline {
    /// The step.
    pub step: i64,
    /// The images.
    pub kept: Vec<KeptImage>,
    /// The tag of the first value; empty if there is none.
    pub tag: String,
}

/// Reads the beginning of a payload of `n_bytes`. `None` if more bytes are needed or it is no event.
#[must_use]
pub fn outline(mut beginning: &[u8], n_bytes: u64) -> Option<Outline> {
    let is_whole = beginning.len() as u64 == n_bytes;
    let mut outline = Outline::default();
    let from = &mut beginning;
    loop {
        if from.is_empty() {
            return is_whole.then_some(outline);
        }
        match decode_key(from).ok()? {
            (1, WireType::SixtyFourBit) => drop(taken(from, 8)?),
            (2, WireType::Varint) => outline.step = decode_varint(from).ok()?.cast_signed(),
            (1023, WireType::LengthDelimited) => {
                outline.kept.push(KeptImage::decode(lengthy(from)?).ok()?);
            }
            (5, WireType::LengthDelimited) => {
                // The tag is in the first value of the summary.
                decode_varint(from).ok()?;
                let (1, WireType::LengthDelimited) = decode_key(from).ok()? else { return None };
                decode_varint(from).ok()?;
                let (1, WireType::LengthDelimited) = decode_key(from).ok()? else { return None };
                outline.tag = String::from_utf8(lengthy(from)?.to_vec()).ok()?;
                return Some(outline);
            }
            (_, WireType::LengthDelimited) => drop(lengthy(from)?),
            _ => return None,
        }
    }
}

/// Returns whether the bytes at the end of a file can be the beginning of one of our records, whose writing was cut
/// short: the first record of a file, or one that names its images. Zeros can be, because a file system may lengthen a
/// file before the file has its bytes.
#[must_use]
pub fn may_be_torn_record(beginning: &[u8], is_first: bool) -> bool {
    let is_zero = beginning.iter().all(|byte| *byte == 0);
    if is_first {
        // A first record is synced before anything follows it.
        return [0.0, 1.0].map(first_record).iter().any(|first| {
            let n = beginning.len().min(HEADER_BYTES);
            beginning.len() <= first.len() && (is_zero || first.starts_with(&beginning[..n]))
        });
    }
    let Some((_, mut fields)) = beginning.split_at_checked(HEADER_BYTES) else { return true };
    let from = &mut fields;
    loop {
        let is_whole = match decode_key(from) {
            Ok((1, WireType::SixtyFourBit)) => taken(from, 8).is_some(),
            Ok((2, WireType::Varint)) => decode_varint(from).is_ok(),
            Ok((field, _)) => return field == 1023,
            // Nothing follows, or zeros.
            Err(_) => return from.iter().all(|byte| *byte == 0),
        };
        if !is_whole {
            return true;
        }
    }
}

fn taken<'a>(from: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(n)?;
    *from = rest;
    Some(taken)
}

fn lengthy<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let n = usize::try_from(decode_varint(from).ok()?).ok()?;
    taken(from, n)
}

/// The ending of an overlay's tag.
const OVERLAY: &str = "/overlay";

/// The ending that is added to a key that looks like an overlay's tag.
const OF_A_KEY: &str = " (key)";

/// Returns the tag of a key. Two keys never share a tag.
///
/// The tag is the key, with the characters escaped on which `TensorBoard` fails: quotes, backslashes and control
/// characters become `%XX`, and so does a percent sign before two hexadecimal digits. A key that ends like an
/// overlay's tag gets the ending ` (key)`.
#[must_use]
pub fn tag_of_key(key: &MediaKey) -> String {
    let key = key.as_str();
    let mut tag = String::with_capacity(key.len());
    for (place, character) in key.char_indices() {
        let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(byte);
        let is_escaped = match character {
            '"' | '\\' => true,
            '%' => {
                key.as_bytes().get(place + 1..place + 3).is_some_and(|two| two.iter().all(is_digit))
            }
            other => other.is_control(),
        };
        if is_escaped {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                tag.extend(["%".to_owned(), format!("{byte:02X}")]);
            }
        } else {
            tag.push(character);
        }
    }
    if tag.trim_end_matches(OF_A_KEY).ends_with(OVERLAY) {
        tag.push_str(OF_A_KEY);
    }
    tag
}

/// Returns the tag of a key's overlays.
#[must_use]
pub fn overlay_tag(tag: &str) -> String {
    format!("{tag}{OVERLAY}")
}

/// Escapes a text so that Markdown shows it unchanged.
#[must_use]
pub fn markdown_escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            character if character.is_control() => escaped.push(' '),
            character => {
                if character.is_ascii_punctuation() {
                    escaped.push('\\');
                }
                escaped.push(character);
            }
        }
    }
    escaped
}

/// Reads the images of an event's payload. `None` if it is no event that [`record`] made.
#[must_use]
pub fn read_series(payload: &[u8]) -> Option<Vec<Series>> {
    let body = Body::decode(payload).ok()?;
    let series = |value: SummaryValue| {
        let metadata = value.metadata.filter(|metadata| {
            let plugin = metadata.plugin_data.as_ref();
            plugin.is_some_and(|plugin| plugin.plugin_name == "images")
        })?;
        let mut strings = value.tensor?.string_val.into_iter();
        let mut side = || String::from_utf8(strings.next()?).ok()?.parse().ok();
        let (width, height) = (side()?, side()?);
        let description = metadata.summary_description;
        Some(Series { tag: value.tag, width, height, images: strings.collect(), description })
    };
    body.summary.unwrap_or_default().value.into_iter().map(series).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(tag: &str) -> Series {
        let images = vec![b"one".to_vec(), vec![7; 5000]];
        Series { tag: tag.to_owned(), width: 40, height: 30, images, description: "d".to_owned() }
    }

    fn kept() -> Vec<KeptImage> {
        (0..2).map(|index| KeptImage { index, sha256: vec![3; 32] }).collect()
    }

    fn payload_of(record: &[u8]) -> &[u8] {
        payload(&record[HEADER_BYTES..]).expect("a payload")
    }

    #[test]
    fn what_is_written_is_what_tensorboard_reads() {
        let record = record(2, 1.5, kept(), vec![series("a"), series("a/overlay")]);
        let payload = payload_of(&record);
        assert_eq!(read_series(payload), Some(vec![series("a"), series("a/overlay")]));
        // wall_time 1.5, step 2, then `kept`.
        assert_eq!(payload[..13], [9, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 16, 2, 0xfa, 0x3f]);
        let first = first_record(1.5);
        assert_eq!(payload_of(&first)[9..], *b"\x1a\x0dbrain.Event:2");
    }

    #[test]
    fn the_beginning_of_a_record_says_what_is_in_it() {
        let record = record(1 << 40, 1.5, kept(), vec![series("täg")]);
        let payload = payload_of(&record);
        let want = Outline { step: 1 << 40, kept: kept(), tag: "täg".to_owned() };
        assert_eq!(outline(&payload[..200], payload.len() as u64), Some(want.clone()));
        assert_eq!(outline(payload, payload.len() as u64), Some(want));
        for n in 0..100 {
            assert_eq!(outline(&payload[..n], payload.len() as u64), None, "{n}");
        }
        let first = first_record(1.0);
        let payload = payload_of(&first);
        assert_eq!(outline(payload, payload.len() as u64), Some(Outline::default()));
    }

    #[test]
    fn keys_become_tags_that_tensorboard_serves_and_stay_apart() {
        let tag = |key: &str| tag_of_key(&MediaKey::new(key).expect("a key"));
        for (key, want) in [
            ("val/pred", "val/pred"),
            ("50% größer", "50% größer"),
            ("a\"b", "a%22b"),
            ("a%22b", "a%2522b"),
            ("a\\b\tc", "a%5Cb%09c"),
            ("a\u{85}", "a%C2%85"),
            ("a/overlay", "a/overlay (key)"),
            ("a/overlay (key)", "a/overlay (key) (key)"),
            ("overlay", "overlay"),
        ] {
            assert_eq!(tag(key), want, "{key:?}");
        }
        assert_eq!(overlay_tag(&tag("a")), "a/overlay");
    }

    #[test]
    fn markdown_is_shown_as_text() {
        assert_eq!(markdown_escaped("a*b\n<i>"), "a\\*b &lt;i\\>");
    }
}
