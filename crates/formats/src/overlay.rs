//! Boxes and masks drawn on a picture, for trackers that can't show them.
//!
//! A box is an outline in its class's colour. A mask tints its pixels by half. Pixels are computed with integers, so
//! that the picture is the same on every machine.

use serde_json::Value;

use safelight_image::convert::Pixels;
use safelight_image::media::{ClassLabels, ColorMode};

/// Returns the colour of a class. Neighbours differ in hue by the golden angle, and every second one is darker.
#[must_use]
pub fn class_color(id: i64) -> [u8; 3] {
    // The hue has 6 × 256 values; 587 is their golden section.
    let hue = id.rem_euclid(1536) * 587 % 1536;
    let (high, low) = if id.rem_euclid(2) == 0 { (255, 40) } else { (205, 0) };
    let rising = low + (high - low) * (hue % 256) / 255;
    let falling = high + low - rising;
    let rgb = match hue / 256 {
        0 => [high, rising, low],
        1 => [falling, high, low],
        2 => [low, high, rising],
        3 => [low, falling, high],
        4 => [rising, low, high],
        _ => [high, low, falling],
    };
    // Each lies between `low` and `high`.
    rgb.map(|value| u8::try_from(value).unwrap_or(u8::MAX))
}

/// The colour of a box without a class.
const NO_CLASS: [u8; 3] = [255, 255, 255];

/// The pixels that a box covers: left, top, and one past right and bottom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rectangle {
    left: i64,
    top: i64,
    right: i64,
    bottom: i64,
}

/// Draws the boxes of a [set's file](safelight_image::annotations::BoxSet::file) on a picture that had
/// `width` × `height` pixels when the job logged it, and may have been scaled since. Entries that are no boxes are
/// ignored.
pub fn draw_boxes(pixels: &mut Pixels, (width, height): (u32, u32), file: &[u8]) {
    let file: Value = serde_json::from_slice(file).unwrap_or_default();
    let boxes = file["box_data"].as_array().map_or(&[][..], Vec::as_slice);
    for given in boxes {
        let [x, y] = [(pixels.width, width), (pixels.height, height)];
        if let Some(rectangle) = rectangle(given, x, y) {
            outline(pixels, rectangle, given["class_id"].as_i64().map_or(NO_CLASS, class_color));
        }
    }
}

/// Returns the pixels of a box that is given in fractions or in pixels, by its edges or by its middle. A side is its
/// length, and its length when the job logged the picture.
fn rectangle(given: &Value, x: (u32, u32), y: (u32, u32)) -> Option<Rectangle> {
    let position = &given["position"];
    let number = |name: &str| position[name].as_f64();
    let [left, right, top, bottom] =
        if let Some([x, y]) = position["middle"].as_array().map(Vec::as_slice) {
            let (x, y) = (x.as_f64()?, y.as_f64()?);
            let (half_width, half_height) = (number("width")? / 2.0, number("height")? / 2.0);
            [x - half_width, x + half_width, y - half_height, y + half_height]
        } else {
            [number("minX")?, number("maxX")?, number("minY")?, number("maxY")?]
        };
    let is_in_pixels = given["domain"] == "pixel";
    // An edge in pixels, clamped so that a far one stays outside the picture.
    let edge = |place: f64, (side, logged_side): (u32, u32)| {
        let unit = if is_in_pixels { f64::from(logged_side.max(1)) } else { 1.0 };
        let place = place * (f64::from(side) / unit);
        #[expect(clippy::cast_possible_truncation, reason = "within 32 bits by then")]
        let edge = place.round().clamp(-2_147_483_648.0, 2_147_483_647.0) as i64;
        edge
    };
    let (left, right) = (edge(left.min(right), x), edge(left.max(right), x));
    let (top, bottom) = (edge(top.min(bottom), y), edge(top.max(bottom), y));
    // A box thinner than a pixel is one pixel.
    Some(Rectangle { left, top, right: right.max(left + 1), bottom: bottom.max(top + 1) })
}

/// Draws the edge of a rectangle, inside the rectangle. Parts outside the picture are clipped.
fn outline(pixels: &mut Pixels, rectangle: Rectangle, color: [u8; 3]) {
    let thickness = i64::from((pixels.width.min(pixels.height) + 128) / 256).max(1);
    let Rectangle { left, top, right, bottom } = rectangle;
    let inner = |from: i64, to: i64| ((from + thickness).min(to), (to - thickness).max(from));
    let (left_end, right_start) = inner(left, right);
    let (top_end, bottom_start) = inner(top, bottom);
    fill(pixels, Rectangle { bottom: top_end, ..rectangle }, color);
    fill(pixels, Rectangle { top: bottom_start, ..rectangle }, color);
    fill(pixels, Rectangle { right: left_end, ..rectangle }, color);
    fill(pixels, Rectangle { left: right_start, ..rectangle }, color);
}

fn fill(pixels: &mut Pixels, rectangle: Rectangle, color: [u8; 3]) {
    let within = |from: i64, to: i64, side: u32| {
        let [from, to] = [from, to].map(|edge| edge.clamp(0, i64::from(side)));
        usize::try_from(from).unwrap_or(0)..usize::try_from(to).unwrap_or(0)
    };
    let columns = within(rectangle.left, rectangle.right, pixels.width);
    let rows = within(rectangle.top, rectangle.bottom, pixels.height);
    let n_channels = pixels.mode.n_channels();
    let stride = pixels.width as usize * n_channels;
    if columns.is_empty() || n_channels < 3 {
        return;
    }
    for row in rows {
        let start = row * stride;
        let span =
            &mut pixels.bytes[start + columns.start * n_channels..start + columns.end * n_channels];
        for pixel in span.chunks_exact_mut(n_channels) {
            pixel[..3].copy_from_slice(&color);
            pixel[3..].fill(255);
        }
    }
}

/// A mask's class ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassIds {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// A class id for each pixel, row by row.
    pub ids: Vec<u16>,
}

/// Tints a picture by a mask, which is scaled to the picture's size. Class 0 is not drawn unless the job named it, and
/// not `background`.
pub fn blend_mask(pixels: &mut Pixels, mask: &ClassIds, labels: &ClassLabels) {
    let name_of_0 = labels.get("0").and_then(Value::as_str).unwrap_or("class_0");
    let is_0_drawn = name_of_0 != "class_0" && !name_of_0.eq_ignore_ascii_case("background");
    let n_channels = pixels.mode.n_channels();
    let (width, height) = (pixels.width as usize, pixels.height as usize);
    let (mask_width, mask_height) = (mask.width as usize, mask.height as usize);
    if n_channels < 3 || mask.ids.len() != mask_width * mask_height {
        return;
    }
    let rows = pixels.bytes.chunks_exact_mut(width * n_channels);
    for (row, samples) in rows.enumerate() {
        let ids = &mask.ids[row * mask_height / height * mask_width..][..mask_width];
        for (column, pixel) in samples.chunks_exact_mut(n_channels).enumerate() {
            let id = ids[column * mask_width / width];
            if id == 0 && !is_0_drawn {
                continue;
            }
            for (value, color) in pixel.iter_mut().zip(class_color(id.into())) {
                *value = value.midpoint(color);
            }
            if let [.., alpha] = pixel
                && pixels.mode == ColorMode::Rgba
            {
                *alpha = (*alpha).max(128);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn picture(mode: ColorMode, width: u32, height: u32) -> Pixels {
        let n = (width * height) as usize * mode.pixel_size();
        Pixels { mode, width, height, bytes: vec![0; n] }
    }

    /// Returns the pixels that are not black, as `#`.
    fn drawn(pixels: &Pixels) -> Vec<String> {
        let n_channels = pixels.mode.n_channels();
        let row = |row: &[u8]| {
            let is_black = |pixel: &[u8]| pixel[..3] == [0; 3];
            row.chunks(n_channels).map(|pixel| if is_black(pixel) { '.' } else { '#' }).collect()
        };
        pixels.bytes.chunks(pixels.width as usize * n_channels).map(row).collect()
    }

    fn check(given: &Value, want: [&str; 4]) {
        let mut pixels = picture(ColorMode::Rgb, 8, 4);
        let file = json!({"box_data": [given]}).to_string();
        draw_boxes(&mut pixels, (8, 4), file.as_bytes());
        assert_eq!(drawn(&pixels), want, "{file}");
    }

    #[test]
    fn boxes_are_outlines_where_they_say() {
        let whole = ["########", "#......#", "#......#", "########"];
        let fractions = json!({"minX": 0, "maxX": 1, "minY": 0, "maxY": 1});
        check(&json!({"position": fractions, "class_id": 1}), whole);
        let pixels = json!({"minX": 0, "maxX": 8, "minY": 0, "maxY": 4});
        check(&json!({"position": pixels, "domain": "pixel", "class_id": 1}), whole);
        let part = ["........", "..####..", "..#..#..", "..####.."];
        let middle = json!({"middle": [4, 2.5], "width": 4, "height": 3});
        check(&json!({"position": middle, "domain": "pixel", "class_id": 1}), part);
        let middle = json!({"middle": [0.5, 0.625], "width": 0.5, "height": 0.75});
        check(&json!({"position": middle, "class_id": 1}), part);
    }

    #[test]
    fn odd_boxes_are_drawn_as_far_as_they_are_seen() {
        // Outside the picture on two sides.
        let at = json!({"minX": -3, "maxX": 2, "minY": 1, "maxY": 1e300});
        let want = ["........", "##......", ".#......", ".#......"];
        check(&json!({"position": at, "domain": "pixel"}), want);
        // Edges in the wrong order.
        let at = json!({"minX": 7, "maxX": 5, "minY": 3, "maxY": 1});
        let want = ["........", ".....##.", ".....##.", "........"];
        check(&json!({"position": at, "domain": "pixel", "class_id": 3}), want);
        // Of no extent, and outside the picture.
        let at = json!({"minX": 0.5, "maxX": 0.5, "minY": 0.5, "maxY": 0.5});
        check(&json!({"position": at}), ["........", "........", "....#...", "........"]);
        let at = json!({"minX": 2, "maxX": 3, "minY": 0, "maxY": 1});
        check(&json!({"position": at}), ["........"; 4]);
        check(&json!({"position": 7}), ["........"; 4]);
    }

    #[test]
    fn boxes_follow_a_picture_that_was_scaled() {
        // Logged with 16 × 2 pixels, shown with 8 × 4.
        let part = ["........", "..####..", "..#..#..", "..####.."];
        for at in [
            json!({"position": {"minX": 4, "maxX": 12, "minY": 0.5, "maxY": 2}, "domain": "pixel"}),
            json!({"position": {"minX": 0.25, "maxX": 0.75, "minY": 0.25, "maxY": 1}}),
        ] {
            let mut pixels = picture(ColorMode::Rgb, 8, 4);
            let file = json!({"box_data": [at]}).to_string();
            draw_boxes(&mut pixels, (16, 2), file.as_bytes());
            assert_eq!(drawn(&pixels), part, "{file}");
        }
    }

    #[test]
    fn masks_tint_by_half_and_leave_the_background() {
        let mut pixels = picture(ColorMode::Rgb, 4, 2);
        pixels.bytes.fill(100);
        let mask = ClassIds { width: 2, height: 1, ids: vec![0, 2] };
        blend_mask(&mut pixels, &mask, &ClassLabels::new());
        let tinted = class_color(2).map(|value| 100u8.midpoint(value));
        let want = [[100; 3], [100; 3], tinted, tinted].concat().repeat(2);
        assert_eq!(pixels.bytes, want);
        // A named class 0 is drawn.
        let labels = json!({"0": "road"}).as_object().cloned().expect("labels");
        blend_mask(&mut pixels, &mask, &labels);
        assert_eq!(pixels.bytes[..3], class_color(0).map(|value| 100u8.midpoint(value)));
    }

    #[test]
    fn what_is_transparent_is_seen_where_something_is_drawn() {
        let mut pixels = picture(ColorMode::Rgba, 2, 1);
        blend_mask(
            &mut pixels,
            &ClassIds { width: 2, height: 1, ids: vec![0, 1] },
            &ClassLabels::new(),
        );
        assert_eq!([pixels.bytes[3], pixels.bytes[7]], [0, 128]);
        let at =
            json!({"box_data": [{"position": {"minX": 0, "maxX": 0.5, "minY": 0, "maxY": 1}}]});
        draw_boxes(&mut pixels, (2, 1), at.to_string().as_bytes());
        assert_eq!(pixels.bytes[..4], [255; 4]);
    }

    #[test]
    fn classes_have_colours_of_their_own() {
        let colors: std::collections::BTreeSet<_> = (-10..256).map(class_color).collect();
        assert_eq!(colors.len(), 266);
        assert_eq!(class_color(0), [255, 40, 40]);
        // The colours of the first dozen classes differ clearly.
        for (a, b) in (0..12).flat_map(|a| (0..a).map(move |b| (class_color(a), class_color(b)))) {
            let distance: u32 = a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(b))).sum();
            assert!(distance > 60, "{a:?} {b:?}");
        }
    }
}
