use super::*;
use crate::annotations::ImageAnnotations;
use crate::limits::Limits;
use crate::media::{DataFormat, Profile};
use crate::record::ImageOptions;
use crate::tensor::{ByteOrder, DType, Shape, Storage, Writer};

/// The mode of a picture of 4 × 5 pixels and 2 channels.
fn mode_of(values: impl Fn(u8) -> f32, options: ImageOptions) -> Result<ColorMode, String> {
    let bytes: Vec<u8> = (0..40).flat_map(|i| values(i).to_le_bytes()).collect();
    let shape = Shape::new(vec![4, 5, 2]).expect("a shape");
    let (strides, storage) = (shape.c_strides(), Storage::plain(0, 160));
    let header = TensorHeader::new(DType::F32, ByteOrder::Little, shape, strides, storage, 0);
    let header = header.expect("a header");
    let plan = TensorPlan::new(header, Writer::NumPy, options, &Limits::default());
    let image = ImagePlan {
        image_idx: 0,
        downscale: None,
        annotations: ImageAnnotations::default(),
        masks: Vec::new(),
        lacks_mask: false,
        memory_bytes: 0,
    };
    let rendered = Renderer::default().render(&bytes.as_slice(), &plan.expect("a plan"), &image);
    rendered.map(|rendered| rendered.image.mode).map_err(|error| error.to_string())
}

#[test]
fn a_flow_of_two_signed_channels_is_no_gray_and_alpha() {
    let flow = |i: u8| f32::from(i) - 20.0;
    let unset = ImageOptions::default();
    let error = mode_of(flow, unset).expect_err("no picture");
    assert!(error.contains("2 channels with negative values"), "{error}");
    assert!(error.contains("name format \"HWC\""), "{error}");
    let named = ImageOptions { format: Some(DataFormat::Hwc), ..unset };
    let by_mode = ImageOptions { mode: Some(ColorMode::La), ..unset };
    let wandb = ImageOptions { profile: Some(Profile::Wandb020), ..unset };
    for options in [named, by_mode, wandb] {
        assert_eq!(mode_of(flow, options), Ok(ColorMode::La), "{options:?}");
    }
    // Gray and alpha, with an overshoot.
    assert_eq!(mode_of(|i| (f32::from(i) - 1.0) / 38.0, unset), Ok(ColorMode::La));
}
