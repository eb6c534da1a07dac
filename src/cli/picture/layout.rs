//! How large a picture is shown, and the pixels for it. Pure.

use crate::convert::Pixels;
use crate::encode;
use crate::media::ColorMode;

/// Rows that a picture leaves free: its caption, and the prompt.
const ROWS_LEFT: u32 = 2;

/// A small picture is enlarged to at most this number of columns, and half of it in rows.
const ENLARGED_COLUMNS: u32 = 32;

/// The same for half blocks, where a column is one pixel wide.
const ENLARGED_BLOCKS: u32 = 64;

/// The colours of the checks behind transparent pixels.
const CHECKS: [u8; 2] = [255, 204];

/// The size of a terminal in characters, and of a character in pixels. All are at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: u32,
    pub(super) rows: u32,
    pub(super) cell_width: u32,
    pub(super) cell_height: u32,
}

impl Size {
    /// The size of what is no terminal, or does not tell.
    pub(super) const DEFAULT: Self = Self { columns: 80, rows: 24, cell_width: 8, cell_height: 16 };

    /// The size of a terminal that says how many columns and rows it has, and how many pixels they take together. 0
    /// stands for "unknown".
    pub(super) fn of_terminal((columns, rows): (u32, u32), (width, height): (u32, u32)) -> Self {
        let default = Self::DEFAULT;
        if columns == 0 || rows == 0 {
            return default;
        }
        let cell = (width / columns, height / rows);
        let (cell_width, cell_height) = match cell {
            (0, _) | (_, 0) => (default.cell_width, default.cell_height),
            known => known,
        };
        Self { columns, rows, cell_width, cell_height }
    }

    fn picture_rows(self) -> u32 {
        self.rows.saturating_sub(ROWS_LEFT).max(1)
    }

    /// Returns the space for pictures in pixels of the screen.
    pub(super) fn pixels(self) -> Space {
        let (width, height) = (self.cell_width, self.cell_height);
        Space {
            max: (self.columns * width, self.picture_rows() * height),
            enlarged: (ENLARGED_COLUMNS * width, ENLARGED_COLUMNS / 2 * height),
        }
    }

    /// Returns the space for pictures in half blocks: a character shows two, one above the other.
    pub(super) fn blocks(self) -> Space {
        let max = (self.columns, self.picture_rows() * 2);
        Space { max, enlarged: (ENLARGED_BLOCKS, ENLARGED_BLOCKS) }
    }

    /// Returns the side that limits a picture of this size: it is to fill all columns, or all rows but those left free.
    /// `None` if the picture fits.
    pub(super) fn limit(self, (width, height): (u32, u32)) -> Option<Limit> {
        let (max_width, max_height) = self.pixels().max;
        if width <= max_width && height <= max_height {
            return None;
        }
        let is_wide = is_wider((width, height), (max_width, max_height));
        Some(if is_wide { Limit::Columns(self.columns) } else { Limit::Rows(self.picture_rows()) })
    }
}

/// The columns or rows that a picture is to fill. The other side follows from the shape of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Columns(u32),
    Rows(u32),
}

/// The space for a picture, as width and height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Space {
    /// Larger pictures are scaled down to it.
    pub(super) max: (u32, u32),
    /// Smaller pictures are enlarged, up to this size.
    pub(super) enlarged: (u32, u32),
}

impl Space {
    /// Returns the same space with a limit on both sides.
    pub(super) fn at_most(self, side: u32) -> Self {
        Self { max: (self.max.0.min(side), self.max.1.min(side)), ..self }
    }

    /// Returns the whole factor by which a picture is enlarged: 1 if it is large enough.
    pub(super) fn factor(self, (width, height): (u32, u32)) -> u32 {
        let of = |side: u32, max: u32, enlarged: u32| max.min(enlarged) / side.max(1);
        let across = of(width, self.max.0, self.enlarged.0);
        across.min(of(height, self.max.1, self.enlarged.1)).max(1)
    }

    /// Scales a large picture down, and enlarges a small one by a whole factor, without smoothing. Returns the picture
    /// and the factor.
    pub(super) fn fit(self, pixels: Pixels) -> (Pixels, u32) {
        let size = (pixels.width, pixels.height);
        let factor = self.factor(size);
        if factor > 1 {
            return (enlarged(&pixels, factor), factor);
        }
        let (width, height) = reduced(size, self.max);
        if (width, height) == size {
            return (pixels, 1);
        }
        (encode::downscale(pixels, width, height), 1)
    }
}

/// Whether a size is wider, for its height, than another.
fn is_wider((width, height): (u32, u32), than: (u32, u32)) -> bool {
    u64::from(width) * u64::from(than.1) >= u64::from(height) * u64::from(than.0)
}

/// Returns the largest size of the same shape that is not larger than `size` or `max`.
fn reduced((width, height): (u32, u32), max: (u32, u32)) -> (u32, u32) {
    if width <= max.0 && height <= max.1 {
        return (width, height);
    }
    let scaled = |side: u32, by: u32, from: u32| {
        let side = u64::from(side) * u64::from(by) / u64::from(from.max(1));
        u32::try_from(side).unwrap_or(u32::MAX).max(1)
    };
    if is_wider((width, height), max) {
        (max.0, scaled(height, max.0, width).min(max.1))
    } else {
        (scaled(width, max.1, height).min(max.0), max.1)
    }
}

/// Repeats each pixel `factor` times in both directions.
fn enlarged(pixels: &Pixels, factor: u32) -> Pixels {
    let n_channels = pixels.mode.n_channels();
    let times = factor as usize;
    let row_bytes = pixels.width as usize * n_channels;
    let mut bytes = Vec::with_capacity(pixels.bytes.len() * times * times);
    for row in pixels.bytes.chunks_exact(row_bytes) {
        let start = bytes.len();
        for pixel in row.chunks_exact(n_channels) {
            (0..times).for_each(|_| bytes.extend_from_slice(pixel));
        }
        let end = bytes.len();
        (1..times).for_each(|_| bytes.extend_from_within(start..end));
    }
    let (width, height) = (pixels.width * factor, pixels.height * factor);
    Pixels { mode: pixels.mode, width, height, bytes }
}

/// Lays an RGBA picture on checks with sides of `side` pixels. An RGB picture stays as it is.
pub(super) fn on_checks(pixels: Pixels, side: u32) -> Pixels {
    if pixels.mode != ColorMode::Rgba {
        return pixels;
    }
    let Pixels { width, height, bytes, .. } = pixels;
    let mut places = (0..height).flat_map(|row| (0..width).map(move |column| (row, column)));
    let mut opaque = Vec::with_capacity(bytes.len() / 4 * 3);
    for pixel in bytes.chunks_exact(4) {
        let (row, column) = places.next().unwrap_or_default();
        let check = u32::from(CHECKS[((row / side + column / side) % 2) as usize]);
        let alpha = u32::from(pixel[3]);
        opaque.extend(pixel[..3].iter().map(|&value| {
            let mixed = (u32::from(value) * alpha + check * (255 - alpha) + 127) / 255;
            u8::try_from(mixed).unwrap_or(u8::MAX)
        }));
    }
    Pixels { mode: ColorMode::Rgb, width, height, bytes: opaque }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { columns: 100, rows: 42, cell_width: 10, cell_height: 20 };

    #[test]
    fn a_terminal_that_tells_no_pixels_has_characters_of_the_default_size() {
        assert_eq!(Size::of_terminal((100, 42), (1000, 840)), SIZE);
        let unknown = Size { columns: 100, rows: 42, ..Size::DEFAULT };
        assert_eq!(Size::of_terminal((100, 42), (0, 0)), unknown);
        assert_eq!(Size::of_terminal((0, 0), (1000, 840)), Size::DEFAULT);
    }

    #[test]
    fn small_pictures_are_enlarged_by_whole_factors_that_fit() {
        let pixels = SIZE.pixels();
        for (size, want) in
            [((28, 28), 11), ((320, 320), 1), ((160, 20), 2), ((1, 1), 320), ((5000, 1), 1)]
        {
            assert_eq!(pixels.factor(size), want, "{size:?}");
        }
        assert_eq!(SIZE.blocks().factor((28, 28)), 2);
        // 22 rows are free: 44 half blocks.
        assert_eq!(Size::DEFAULT.blocks().factor((28, 28)), 1);
        assert_eq!(Size::DEFAULT.blocks().factor((14, 14)), 3);
        let tiny = Size { columns: 1, rows: 1, cell_width: 1, cell_height: 1 };
        assert_eq!(tiny.pixels().factor((28, 28)), 1);
    }

    #[test]
    fn large_pictures_keep_their_shape() {
        for (size, want) in [
            ((1000, 800), (1000, 800)),
            ((4000, 800), (1000, 200)),
            ((1000, 1600), (500, 800)),
            ((100_000, 1), (1000, 1)),
            ((1, 100_000), (1, 800)),
            ((u32::MAX, u32::MAX), (800, 800)),
        ] {
            assert_eq!(reduced(size, SIZE.pixels().max), want, "{size:?}");
        }
        assert_eq!(SIZE.limit((1000, 800)), None);
        assert_eq!(SIZE.limit((1001, 800)), Some(Limit::Columns(100)));
        assert_eq!(SIZE.limit((10, 801)), Some(Limit::Rows(40)));
    }

    #[test]
    fn enlarged_pixels_stay_sharp() {
        let (a, b) = ([1, 2, 3], [4, 5, 6]);
        let bytes = [a, b].concat();
        let pixels = Pixels { mode: ColorMode::Rgb, width: 2, height: 1, bytes };
        let got = enlarged(&pixels, 2);
        assert_eq!((got.width, got.height), (4, 2));
        assert_eq!(got.bytes, [a, a, b, b, a, a, b, b].concat());
    }

    #[test]
    fn transparent_pixels_show_checks() {
        let bytes = [[9, 9, 9, 0], [9, 9, 9, 0], [0, 100, 255, 255], [0, 0, 0, 128]].concat();
        let pixels = Pixels { mode: ColorMode::Rgba, width: 2, height: 2, bytes };
        let got = on_checks(pixels, 1);
        assert_eq!(got.mode, ColorMode::Rgb);
        assert_eq!(got.bytes, [[255; 3], [204; 3], [0, 100, 255], [127; 3]].concat());
    }
}
