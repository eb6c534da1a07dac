//! Raw bytes and arbitrary views of them, with all options of a record.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use safelight_fuzz::{check_contents, check_plan, decode_options, record};
use safelight_image::decode::{DecodeOptions, RawLayout};
use safelight_image::media::{
    ColorMode, Colormap, Compression, DataFormat, FileType, Profile, Rgb,
};
use safelight_image::plan::{Found, MaskContents, MaskSource};
use safelight_image::record::{Alpha, DataRef, Grid, GridOption, ImageOptions};
use safelight_image::tensor::{ByteOrder, DType, Shape, Storage, TensorHeader, Writer};
use serde_json::json;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    dtype: u8,
    is_big: bool,
    is_torch: bool,
    axes: Vec<u16>,
    /// Strides of the first axes of the view.
    strides: Vec<u16>,
    offset: Option<u16>,
    options: Options,
    is_one_hot: bool,
    bytes: &'a [u8],
}

/// Options, most of them as an index into a list of values.
#[derive(Debug, Arbitrary)]
struct Options {
    profile: u8,
    range: Option<(f64, f64)>,
    format: u8,
    mode: u8,
    file_type: u8,
    compression: u8,
    palette: Option<bool>,
    colormap: u8,
    nan_color: Option<[u8; 3]>,
    alpha: u8,
    background: Option<[u8; 3]>,
    downscale: u16,
    grid: Option<(u8, u8)>,
}

impl Options {
    /// Converts to options that a record can have.
    fn read(self) -> ImageOptions {
        use ColorMode::{Bit, I16, L, La, Rgb as RgbMode, Rgba};
        use DataFormat::{Chw, Hw, Hwc, Nchw, Nhw, Nhwc};
        use FileType::{Bmp, Jpg, Png, Webp};
        use Profile::{Auto, Wandb010, Wandb020, Wandb029};
        fn of<T: Copy>(values: &[T], index: u8) -> Option<T> {
            values.get(usize::from(index)).copied()
        }
        let is_range = |&(lo, hi): &(f64, f64)| lo < hi && (hi - lo).is_finite();
        let grid = |(nrow, padding): (u8, u8)| match nrow {
            0 => GridOption::No,
            nrow => GridOption::Yes(Grid { nrow: nrow.into(), padding: padding.into() }),
        };
        ImageOptions {
            profile: of(&[Auto, Wandb010, Wandb020, Wandb029], self.profile),
            range: self.range.filter(is_range),
            format: of(&[Hw, Hwc, Chw, Nhw, Nhwc, Nchw], self.format),
            mode: of(&[L, La, RgbMode, Rgba, Bit, I16], self.mode),
            file_type: of(&[Png, Jpg, Bmp, Webp], self.file_type),
            quality: None,
            compression: of(&[Compression::Fast, Compression::Small], self.compression),
            palette: self.palette,
            colormap: of(&[Colormap::Gray, Colormap::Turbo], self.colormap),
            nan_color: self.nan_color.map(Rgb),
            alpha: of(&[Alpha::Keep, Alpha::Drop, Alpha::Composite], self.alpha),
            background: self.background.map(Rgb),
            downscale: Some(u32::from(self.downscale)).filter(|&side| side > 0),
            grid: self.grid.map(grid),
        }
    }
}

fuzz_target!(|input: Input<'_>| {
    let Input { dtype, is_big, is_torch, axes, strides, offset, options, is_one_hot, bytes } =
        input;
    let dtype = DType::ALL[usize::from(dtype) % DType::ALL.len()];
    let byte_order = if is_big { ByteOrder::Big } else { ByteOrder::Little };
    // The largest numbers stand for powers of two.
    let axis = |n: u16| if n < 0xffc0 { n.into() } else { 1 << (n & 63) };
    let Some(shape) = Shape::new(axes.into_iter().map(axis).collect()) else { return };
    let mut record = record(options.read());

    let layout = RawLayout { shape: shape.clone(), offset: offset.map(u64::from), byte_order };
    let raw = DecodeOptions { dtype: Some(dtype), raw: Some(layout), ..decode_options() };
    check_contents(bytes, &raw, &record);

    let mut strides: Vec<u64> = strides.into_iter().map(axis).collect();
    strides.resize(shape.axes().len(), 1);
    let storage = Storage::plain(0, bytes.len() as u64);
    let first = offset.unwrap_or(0).into();
    let header = TensorHeader::new(dtype, byte_order, shape, strides, storage, first);
    let Ok(header) = header else { return };
    let writer = if is_torch { Writer::Torch } else { Writer::NumPy };
    // The view is its own mask.
    let masks = json!({"m": {"mask_data": "m", "one_hot": is_one_hot}});
    record.description.annotations.insert("masks", masks);
    let contents = MaskContents::Tensor(writer, header.clone());
    let mask = MaskSource { data: DataRef::of_path("m"), contents };
    check_plan(&bytes, &record, Found::Tensor(writer, Box::new(header)), &[mask], true);
});
