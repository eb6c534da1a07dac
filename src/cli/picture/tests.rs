use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::media::{ColorMode, Sha256};

/// A run's folder with files, and the items that name them.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("media")).expect("a folder");
        Self { folder }
    }

    /// Writes a file. Returns the fields that name it in an item.
    fn write(&self, name: &str, bytes: &[u8]) -> Value {
        let path = format!("media/{name}");
        fs::write(self.folder.path().join(&path), bytes).expect("a file");
        json!({"path": path, "size": bytes.len(), "sha256": Sha256::of(bytes).to_string()})
    }

    /// Writes a picture. Returns its item and the file.
    fn picture(&self, name: &str, pixels: &Pixels, file_type: FileType) -> (Value, Vec<u8>) {
        let encoding = Encoding { file_type, ..Encoding::default() };
        let file = encode::encode(pixels, encoding).expect("a file").bytes;
        let named = self.write(name, &file);
        let mut item = json!({
            "state": "image", "key": "k", "step": 1, "index": 0, "file_type": file_type.to_string(),
            "mode": "RGB", "width": pixels.width, "height": pixels.height, "caption": null,
            "source": {"path": "a.jsonl"},
        });
        for (name, value) in named.as_object().expect("fields") {
            item[name] = value.clone();
        }
        (item, file)
    }

    fn screen(&self, protocol: Protocol, has_overlays: bool) -> Screen {
        let folder = self.folder.path().to_owned();
        Screen { protocol, size: Size::DEFAULT, has_overlays, folder, fleet: None }
    }

    /// Shows an item. Returns what is printed, and whether all was shown.
    fn shown(&self, protocol: Protocol, has_overlays: bool, item: &Value) -> (String, bool) {
        let run = RunId::new("run").expect("a run");
        let item = MediaEntry::from_json(item.clone(), &run).expect("an item");
        let mut out = Vec::new();
        let is_all = self.screen(protocol, has_overlays).show(&item, &mut out).expect("memory");
        (String::from_utf8(out).expect("text"), is_all)
    }
}

fn picture(width: u32, height: u32, color: [u8; 3]) -> Pixels {
    let bytes = color.repeat((width * height) as usize);
    Pixels { mode: ColorMode::Rgb, width, height, bytes }
}

/// The file in what kitty's or iTerm2's protocol shows.
fn sent_file(text: &str) -> Vec<u8> {
    let base64: String = if let Some((_, rest)) = text.split_once("\x1b]1337;File=") {
        let (_, rest) = rest.split_once(':').expect("arguments");
        rest.split_once('\x07').expect("an end").0.to_owned()
    } else {
        let pieces = text.split("\x1b_G").skip(1);
        pieces
            .map(|piece| piece.split_once(';').expect("a head").1)
            .map(|piece| piece.split_once("\x1b\\").expect("an end").0)
            .collect()
    };
    STANDARD.decode(base64).expect("base64")
}

const LINE: &str = "\nk step 1 [0] 300×300 RGB\n";

#[test]
fn a_png_is_sent_as_it_is_stored() {
    let files = Files::new();
    let (item, file) = files.picture("a.png", &picture(300, 300, [1, 2, 3]), FileType::Png);
    for protocol in [Protocol::Kitty, Protocol::Iterm2] {
        let (text, is_all) = files.shown(protocol, false, &item);
        assert!(is_all && text.ends_with(LINE), "{text:?}");
        assert_eq!(sent_file(&text), file, "{protocol:?}");
        // No side is given: the terminal shows each pixel as one of its own.
        assert!(!text.contains("c=") && !text.contains("width="), "{text:?}");
    }
}

#[test]
fn a_large_png_is_sent_as_it_is_and_the_terminal_scales_it() {
    let files = Files::new();
    // The default terminal has 640 × 352 pixels for a picture.
    let (item, file) = files.picture("a.png", &picture(1280, 300, [1, 2, 3]), FileType::Png);
    let (text, _) = files.shown(Protocol::Kitty, false, &item);
    assert!(text.starts_with("\x1b_Ga=T,f=100,q=2,c=80,m="), "{text:?}");
    assert_eq!(sent_file(&text), file);
    let (text, _) = files.shown(Protocol::Iterm2, false, &item);
    let want = format!("\x1b]1337;File=inline=1;size={};width=80;height=auto:", file.len());
    assert!(text.starts_with(&want), "{text:?}");
    assert_eq!(sent_file(&text), file);
}

#[test]
fn other_files_become_png_for_kitty_and_stay_for_iterm2() {
    let files = Files::new();
    for file_type in [FileType::Jpeg, FileType::Bmp, FileType::Webp] {
        let (item, file) = files.picture("a", &picture(300, 300, [90; 3]), file_type);
        let (text, _) = files.shown(Protocol::Iterm2, false, &item);
        assert_eq!(sent_file(&text), file, "{file_type}");
        let (text, _) = files.shown(Protocol::Kitty, false, &item);
        let sent = sent_file(&text);
        assert!(sent.starts_with(b"\x89PNG"), "{file_type}");
        let read = encode::read(&sent, PIXELS_MAX).expect("a picture");
        assert_eq!((read.width, read.height), (300, 300));
        assert!(read.bytes.iter().all(|value| value.abs_diff(90) <= 1), "{file_type}");
    }
}

#[test]
fn small_pictures_are_enlarged_without_smoothing() {
    let files = Files::new();
    let mut digit = picture(28, 28, [0; 3]);
    digit.bytes[..3].fill(255);
    let (item, _) = files.picture("a.png", &digit, FileType::Png);
    for protocol in [Protocol::Kitty, Protocol::Iterm2] {
        let sent = sent_file(&files.shown(protocol, false, &item).0);
        let read = encode::read(&sent, PIXELS_MAX).expect("a picture");
        // 32 columns of 8 pixels hold 9 × 28.
        assert_eq!((read.width, read.height), (252, 252));
        let n_white = read.bytes.chunks(3).filter(|pixel| *pixel == [255; 3]).count();
        let n_black = read.bytes.chunks(3).filter(|pixel| *pixel == [0; 3]).count();
        assert_eq!((n_white, n_white + n_black), (81, 252 * 252));
    }
    let (text, _) = files.shown(Protocol::Sixel, false, &item);
    assert!(text.starts_with("\x1bP") && text.contains("\"1;1;252;252"), "{text:?}");
    let (text, _) = files.shown(Protocol::Blocks, false, &item);
    // 14 rows of text and the caption. The first pixel is white, all others are black.
    assert_eq!((text.lines().count(), text.matches('▀').count()), (15, 28 * 14));
    let want = "\x1b[38;2;255;255;255m\x1b[48;2;0;0;0m▀\x1b[38;2;0;0;0m▀▀▀";
    assert!(text.starts_with(want), "{text:?}");
}

#[test]
fn alpha_is_kept_by_kitty_and_lies_on_checks_elsewhere() {
    let files = Files::new();
    let bytes = [7, 7, 7, 0].repeat(300 * 300);
    let clear = Pixels { mode: ColorMode::Rgba, width: 300, height: 300, bytes };
    let (item, file) = files.picture("a.png", &clear, FileType::Png);
    assert_eq!(sent_file(&files.shown(Protocol::Kitty, false, &item).0), file);
    let (text, _) = files.shown(Protocol::Blocks, false, &item);
    assert!(text.contains("255;255;255") && text.contains("204;204;204"), "{text:?}");
    assert!(!text.contains(";7;"), "{text:?}");
}

#[test]
fn boxes_and_masks_are_drawn_in_the_colours_of_their_classes() {
    use crate::formats::overlay::class_color;

    let files = Files::new();
    let (mut item, file) = files.picture("a.png", &picture(300, 300, [100; 3]), FileType::Png);
    let at = json!({"minX": 0, "maxX": 150, "minY": 0, "maxY": 300});
    // The second box has no area.
    let line = json!({"minX": 0.9, "maxX": 0.9, "minY": 0.5, "maxY": 0.5});
    let boxes = json!({"box_data": [
        {"position": at, "domain": "pixel", "class_id": 3}, {"position": line, "class_id": 5},
    ]});
    let mask = Pixels { mode: ColorMode::L, width: 2, height: 1, bytes: vec![0, 2] };
    let mask = encode::encode(&mask, Encoding::default()).expect("a mask").bytes;
    item["boxes"] = json!({"truth": files.write("b.json", boxes.to_string().as_bytes())});
    item["boxes"]["truth"]["labels"] = json!({});
    item["masks"] = json!({"road": files.write("m.png", &mask)});
    item["masks"]["road"]["labels"] = json!({});
    // Without `--overlays` the file is sent as it is.
    assert_eq!(sent_file(&files.shown(Protocol::Kitty, false, &item).0), file);
    let sent = sent_file(&files.shown(Protocol::Kitty, true, &item).0);
    let read = encode::read(&sent, PIXELS_MAX).expect("a picture");
    let pixel = |x: usize, y: usize| &read.bytes[(y * 300 + x) * 3..][..3];
    assert_eq!(pixel(0, 10), class_color(3));
    assert_eq!(pixel(20, 20), [100; 3]);
    assert_eq!(pixel(200, 20), class_color(2).map(|value| 100u8.midpoint(value)));
    assert_eq!(pixel(270, 150), class_color(5));
    // A lost mask is named, and the rest is shown.
    fs::remove_file(files.folder.path().join("media/m.png")).expect("a file");
    let (text, is_all) = files.shown(Protocol::Kitty, true, &item);
    assert!(!is_all && text.contains("[0]"), "{text:?}");
    let read = encode::read(&sent_file(&text), PIXELS_MAX).expect("a picture");
    assert_eq!(read.bytes[(20 * 300 + 200) * 3..][..3], [100; 3]);
}

#[test]
fn missing_and_damaged_files_are_named() {
    let files = Files::new();
    let (item, _) = files.picture("a.png", &picture(300, 300, [1; 3]), FileType::Png);
    let path = files.folder.path().join("media/a.png");
    let run = RunId::new("run").expect("a run");
    let entry = MediaEntry::from_json(item.clone(), &run).expect("an item");
    let image = entry.as_image().expect("an image");
    let screen = files.screen(Protocol::Blocks, false);
    let error = || screen.shown(image).map(drop).expect_err("an error");
    let mut bytes = fs::read(&path).expect("a file");
    bytes[40] ^= 1;
    fs::write(&path, &bytes).expect("a file");
    let damaged = error();
    assert!(damaged.contains("media file is damaged: got SHA-256"), "{damaged}");
    assert!(damaged.ends_with(&path.display().to_string()), "{damaged}");
    fs::remove_file(&path).expect("a file");
    let missing = error();
    assert!(missing.starts_with("media file is missing (safelight verify --repair"), "{missing}");
    // The line is printed all the same.
    assert_eq!(files.shown(Protocol::Blocks, false, &item), (LINE[1..].to_owned(), false));
}

#[test]
fn captions_and_reasons_send_no_escape_sequences() {
    let files = Files::new();
    let (mut item, _) = files.picture("a.png", &picture(2, 2, [1; 3]), FileType::Png);
    item["caption"] = json!("a\u{1b}]0;title\u{7}b\u{9b}2Jc\nd");
    item["key"] = json!("k\u{1b}[2J");
    let (text, _) = files.shown(Protocol::Blocks, false, &item);
    let line = text.lines().last().expect("a line");
    assert!(line.chars().all(|c| !c.is_control()), "{line:?}");
    assert!(line.ends_with(": a\u{fffd}]0;title\u{fffd}b\u{fffd}2Jc\u{fffd}d"), "{line:?}");
    let held = json!({
        "state": "held", "key": "k", "step": 3, "index": 108, "reason": "over \u{1b}c limit",
        "source": {"path": "a.jsonl"},
    });
    let (text, is_all) = files.shown(Protocol::Kitty, false, &held);
    assert_eq!(text, "k step 3 [108]: held back: over \u{fffd}c limit\n");
    assert!(is_all);
}

#[test]
fn items_without_a_picture_are_said_in_words() {
    let files = Files::new();
    let (mut item, _) = files.picture("a.png", &picture(2, 2, [1; 3]), FileType::Png);
    item["pruned"] = json!(true);
    item["caption"] = json!({"a": 1});
    let (text, is_all) = files.shown(Protocol::Sixel, false, &item);
    assert_eq!(text, "k step 1 [0] 2×2 RGB, removed by retention: {\"a\":1}\n");
    assert!(is_all);
    for (class, want) in [
        ("final", "k step 1: rejected: no such dump\n"),
        ("waiting", "k step 1: rejected, is tried again: no such dump\n"),
    ] {
        let rejected = json!({
            "state": "rejected", "key": "k", "step": 1, "reason": "no such dump", "class": class,
            "source": {"path": "a.jsonl"},
        });
        assert_eq!(files.shown(Protocol::Sixel, false, &rejected).0, want);
    }
}
