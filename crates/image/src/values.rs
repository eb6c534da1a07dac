//! The values of one picture: rows × columns × channels of numbers, as a person wants to read them.

use crate::convert::{Pixels, numbers_apart};
use crate::media::ColorMode;
use crate::tensor::DType;

/// A part of a picture, and how many of its pixels are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// The first column.
    pub x: u64,
    /// The first row.
    pub y: u64,
    /// Columns that it covers, at least 1.
    pub width: u64,
    /// Rows that it covers, at least 1.
    pub height: u64,
    /// Of so many rows, and of so many columns, the first is taken. At least 1.
    pub every: u64,
}

impl Region {
    /// All pixels of a picture.
    #[must_use]
    pub const fn whole(width: u64, height: u64) -> Self {
        Self { x: 0, y: 0, width, height, every: 1 }
    }

    /// The number of columns that are taken.
    #[must_use]
    pub const fn n_columns(&self) -> u64 {
        self.width.div_ceil(self.every)
    }

    /// The number of rows that are taken.
    #[must_use]
    pub const fn n_rows(&self) -> u64 {
        self.height.div_ceil(self.every)
    }
}

/// The values of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values {
    dtype: DType,
    height: usize,
    width: usize,
    n_channels: usize,
    /// Row by row, the channels of a pixel together, little-endian.
    bytes: Vec<u8>,
}

impl Values {
    /// Returns values of a type that `NumPy` has and that is not complex. `None` if it is not, if a length is 0, or if
    /// there are not as many bytes as that takes.
    #[must_use]
    pub fn new(
        dtype: DType,
        [height, width, n_channels]: [usize; 3],
        bytes: Vec<u8>,
    ) -> Option<Self> {
        let n = height.checked_mul(width)?.checked_mul(n_channels)?.checked_mul(dtype.size())?;
        let is_whole = n > 0 && n == bytes.len() && crate::convert::shown_as(dtype) == dtype;
        is_whole.then_some(Self { dtype, height, width, n_channels, bytes })
    }

    /// The samples of a picture: uint8, or uint16 in mode `I;16`.
    #[must_use]
    pub fn of_pixels(pixels: Pixels) -> Option<Self> {
        let Pixels { mode, width, height, bytes } = pixels;
        let dtype = if mode == ColorMode::I16 { DType::U16 } else { DType::U8 };
        let size = [usize::try_from(height).ok()?, usize::try_from(width).ok()?];
        Self::new(dtype, [size[0], size[1], mode.n_channels()], bytes)
    }

    /// The type of the values.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Height, width and channels.
    #[must_use]
    pub fn size(&self) -> [usize; 3] {
        [self.height, self.width, self.n_channels]
    }

    /// The values of one channel in a row, as f64. Whole numbers beyond 2⁵³ are rounded.
    ///
    /// # Panics
    /// If there is no such row or channel.
    pub fn row(&self, y: usize, channel: usize, row: &mut Vec<f64>) {
        row.clear();
        let n = self.width * self.n_channels;
        let size = self.dtype.size();
        let of_row = &self.bytes[y * n * size..(y + 1) * n * size];
        numbers_apart(self.dtype, &of_row[channel * size..], self.n_channels, row);
    }

    /// Takes a part. `None` if it is not within the picture.
    #[must_use]
    pub fn part(&self, region: Region) -> Option<Self> {
        let index = |n: u64| usize::try_from(n).ok();
        let [x, y, every] = [index(region.x)?, index(region.y)?, index(region.every)?];
        let [width, height] = [index(region.width)?, index(region.height)?];
        let is_within =
            x.checked_add(width)? <= self.width && y.checked_add(height)? <= self.height;
        if !is_within || every == 0 {
            return None;
        }
        let pixel = self.n_channels * self.dtype.size();
        let mut bytes = Vec::new();
        for row in self.bytes.chunks_exact(self.width * pixel).skip(y).take(height).step_by(every) {
            for one in row.chunks_exact(pixel).skip(x).take(width).step_by(every) {
                bytes.extend_from_slice(one);
            }
        }
        let size = [height.div_ceil(every), width.div_ceil(every), self.n_channels];
        Self::new(self.dtype, size, bytes)
    }

    /// Returns the bytes of the values: row by row, the channels of a pixel together, little-endian.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Returns a `NumPy` file: an array of shape (height, width, channels).
    #[must_use]
    pub fn to_npy(&self) -> Vec<u8> {
        let Self { height, width, n_channels, .. } = self;
        let mut file = npy_header(self.dtype, [*height, *width, *n_channels]);
        file.extend_from_slice(&self.bytes);
        file
    }
}

/// The header of a `NumPy` file, version 1.0: magic, length, a dictionary, spaces up to a multiple of 64, a newline.
///
/// Source: `NumPy`, `numpy/lib/format.py`.
fn npy_header(dtype: DType, [height, width, n_channels]: [usize; 3]) -> Vec<u8> {
    const ALIGN: usize = 64;
    let (order, kind) = match dtype {
        DType::Bool => ('|', 'b'),
        DType::U8 => ('|', 'u'),
        DType::I8 => ('|', 'i'),
        DType::U16 | DType::U32 | DType::U64 => ('<', 'u'),
        DType::I16 | DType::I32 | DType::I64 => ('<', 'i'),
        _ => ('<', 'f'),
    };
    let size = dtype.size();
    let mut text = format!(
        "{{'descr': '{order}{kind}{size}', 'fortran_order': False, 'shape': ({height}, {width}, {n_channels}), }}"
    );
    let before = 10 + text.len() + 1;
    text.extend(std::iter::repeat_n(' ', before.next_multiple_of(ALIGN) - before));
    text.push('\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    // Shorter than 200 bytes.
    header.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
    header.extend(text.into_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Contents, DecodeOptions, contents, storage};

    #[test]
    fn a_numpy_file_is_read_as_it_was_written() {
        for dtype in
            DType::ALL.into_iter().filter(|&dtype| crate::convert::shown_as(dtype) == dtype)
        {
            let bytes: Vec<u8> =
                [0, 1].into_iter().cycle().take(2 * 3 * 4 * dtype.size()).collect();
            let values = Values::new(dtype, [2, 3, 4], bytes.clone()).expect("values");
            let file = values.to_npy();
            let options = DecodeOptions {
                header_bytes_max: 1 << 10,
                storage_bytes_max: 1 << 10,
                ..DecodeOptions::default()
            };
            let found = contents(&file.as_slice(), &options).expect("a file");
            let Contents::Tensors { mut tensors, .. } = found else { panic!("{found:?}") };
            let header = tensors.remove(0).header.expect("a header");
            assert_eq!((header.dtype, header.shape.axes()), (dtype, &[2, 3, 4][..]));
            assert_eq!(header.storage.offset % 64, 0);
            let mut got = Vec::new();
            storage::decode(&file.as_slice(), &header.storage, &mut got).expect("elements");
            assert_eq!(got, bytes, "{dtype}");
        }
    }

    #[test]
    fn rows_and_parts_are_those_of_the_picture() {
        let bytes: Vec<u8> = (0..5 * 4 * 2u16).flat_map(u16::to_le_bytes).collect();
        let values = Values::new(DType::U16, [5, 4, 2], bytes).expect("values");
        let mut row = Vec::new();
        values.row(1, 1, &mut row);
        assert_eq!(row, [9.0, 11.0, 13.0, 15.0]);
        let part = values.part(Region { x: 1, y: 2, width: 3, height: 3, every: 2 });
        let part = part.expect("a part");
        assert_eq!(part.size(), [2, 2, 2]);
        part.row(1, 0, &mut row);
        assert_eq!(row, [34.0, 38.0]);
        assert_eq!(values.part(Region::whole(5, 5)), None);
    }
}
