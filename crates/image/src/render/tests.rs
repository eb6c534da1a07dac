use proptest::prelude::*;

use super::*;
use crate::annotations::ImageAnnotations;
use crate::limits::Limits;
use crate::media::{Colormap, DataFormat, Profile, Rule};
use crate::record::{Grid, GridOption, ImageOptions};
use crate::tensor::{ByteOrder, DType, Shape, Storage, Writer};
use crate::values::Region;

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
        classes: None,
        downscale: None,
        annotations: ImageAnnotations::default(),
        masks: Vec::new(),
        lacks_mask: false,
        memory_bytes: 0,
    };
    let rendered =
        Renderer::default().render(&bytes.as_slice(), &plan.expect("a plan"), &image, None);
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

/// A plan for a float32 tensor of these axes, and its bytes.
fn planned(axes: &[u64], values: &[f32], options: ImageOptions) -> (TensorPlan, Vec<u8>) {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let plan = plan_of(DType::F32, axes, bytes.len(), options);
    (plan, bytes)
}

fn plan_of(dtype: DType, axes: &[u64], n_bytes: usize, options: ImageOptions) -> TensorPlan {
    let strides = Shape::new(axes.to_vec()).expect("a shape").c_strides();
    strided_plan(dtype, axes, strides, n_bytes, options)
}

fn strided_plan(
    dtype: DType,
    axes: &[u64],
    strides: Vec<u64>,
    n_bytes: usize,
    options: ImageOptions,
) -> TensorPlan {
    let shape = Shape::new(axes.to_vec()).expect("a shape");
    let storage = Storage::plain(0, n_bytes as u64);
    let header = TensorHeader::new(dtype, ByteOrder::Little, shape, strides, storage, 0);
    let header = header.expect("a header");
    TensorPlan::new(header, Writer::NumPy, options, &Limits::default()).expect("a plan")
}

fn image(image_idx: u64) -> ImagePlan {
    ImagePlan {
        image_idx,
        classes: None,
        downscale: None,
        annotations: ImageAnnotations::default(),
        masks: Vec::new(),
        lacks_mask: false,
        memory_bytes: 0,
    }
}

fn nhw() -> ImageOptions {
    ImageOptions { format: Some(DataFormat::Nhw), ..ImageOptions::default() }
}

proptest! {
    #[test]
    fn images_of_a_batch_are_made_by_the_rule_of_all_values(
        pictures in proptest::collection::vec(
            (prop_oneof![Just(0.0f32), Just(-0.05), Just(-1.0), Just(-3.0)], prop_oneof![Just(0.01f32), Just(1.0), Just(1.05), Just(255.0)]),
            1..6,
        ),
        nan in 0usize..40,
        is_unit in any::<bool>(),
        first in 0u64..6,
        is_reversed in any::<bool>(),
    ) {
        let mut values: Vec<f32> = Vec::new();
        for &(low, high) in &pictures {
            let high = if is_unit { high.min(1.0) } else { high };
            values.extend((0u8..20).map(|i| low + (high - low) * f32::from(i) / 19.0));
        }
        if let Some(value) = values.get_mut(nan) {
            *value = f32::NAN;
        }
        let n = pictures.len() as u64;
        let (tensor, bytes) = planned(&[n, 4, 5], &values, nhw());
        prop_assert_eq!(tensor.shares_rule(), n > 1);
        // As one tall picture, the values are converted by one rule.
        let one = ImageOptions { format: Some(DataFormat::Hw), ..nhw() };
        let (tall, _) = planned(&[n * 4, 5], &values, one);
        let storage = bytes.as_slice();
        let (want, of_all) = full_size_pixels(&storage, &tall, 0).expect("pixels");
        for i in (0..n).rev() {
            let (pixels, provenance) = full_size_pixels(&storage, &tensor, i).expect("pixels");
            let at = usize::try_from(i * 20).expect("small");
            prop_assert_eq!(&pixels.bytes, &want.bytes[at..at + 20]);
            prop_assert_eq!(provenance.rule, of_all.rule);
            // The statistics are of one image.
            let picture = &values[at..at + 20];
            let min = picture.iter().copied().filter(|v| !v.is_nan()).reduce(f32::min);
            prop_assert_eq!(provenance.stats.min, min.map(f64::from));
        }
        // In any order, with what is known so far: images that were made by another rule than that of all
        // are made again.
        let mut renderer = Renderer::default();
        let (mut known, mut made) = (None, Vec::new());
        for i in (0..n).map(|i| (i + first) % n).map(|i| if is_reversed { n - 1 - i } else { i }) {
            let rendered = renderer.render(&storage, &tensor, &image(i), known).expect("an image");
            known = Extent::join(known, rendered.values.extent);
            made.push((i, rendered));
        }
        for (i, rendered) in made {
            let again = renderer.render(&storage, &tensor, &image(i), known).expect("an image");
            prop_assert_eq!(again.provenance.rule, of_all.rule);
            if rendered.provenance.rule == of_all.rule {
                prop_assert_eq!(rendered, again);
            }
        }
        if n > 1 {
            prop_assert_eq!(tensor.rule(known), Some(of_all.rule));
            let measured = renderer.measure(&storage, &tensor, 0..n).expect("an extent");
            prop_assert_eq!(tensor.rule(measured), Some(of_all.rule));
        }
    }
}

#[test]
fn each_wandb_profile_and_named_range_decides_for_each_image_alone() {
    let values: Vec<f32> = (0..40u8).map(|i| if i < 20 { 0.5 } else { -0.5 }).collect();
    let rules = |options| {
        let (tensor, bytes) = planned(&[2, 4, 5], &values, options);
        let rule = |i| full_size_pixels(&bytes.as_slice(), &tensor, i).expect("pixels").1.rule;
        (tensor.shares_rule(), [rule(0), rule(1)])
    };
    assert_eq!(rules(nhw()), (true, [Rule::Sym; 2]));
    for profile in [Profile::Wandb010, Profile::Wandb020, Profile::Wandb029] {
        let (shares, [first, second]) = rules(ImageOptions { profile: Some(profile), ..nhw() });
        assert!(!shares, "{profile:?}");
        assert_eq!(first != second, profile != Profile::Wandb029, "{profile:?}");
    }
    let range = ImageOptions { range: Some((0.0, 9.0)), ..nhw() };
    assert_eq!(rules(range), (false, [Rule::Range; 2]));
    let sheet = ImageOptions { grid: Some(GridOption::Yes(Grid::default())), ..nhw() };
    let (tensor, bytes) = planned(&[2, 4, 5], &values, sheet);
    let (_, provenance) = full_size_pixels(&bytes.as_slice(), &tensor, 0).expect("pixels");
    assert_eq!((tensor.shares_rule(), provenance.rule), (false, Rule::Sym));
}

/// The warnings about an image of 24 × 32 pixels.
fn warnings(dtype: DType, bytes: &[u8], options: ImageOptions) -> Vec<String> {
    let n_channels = (bytes.len() / dtype.size() / (24 * 32)) as u64;
    let tensor = plan_of(dtype, &[24, 32, n_channels], bytes.len(), options);
    let rendered = Renderer::default().render(&bytes, &tensor, &image(0), None);
    let Rendered { provenance, values, .. } = rendered.expect("an image");
    value_warnings(&tensor, &provenance, values.n_few_levels, None)
}

fn float_warnings(value: impl Fn(f32) -> f32) -> Vec<String> {
    let values = (0..768u16).map(|i| value(f32::from(i) / 767.0));
    let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
    warnings(DType::F32, &bytes, ImageOptions::default())
}

#[test]
fn values_that_cannot_be_read_in_the_picture_cause_a_warning_with_a_range() {
    let u16s = |white: u32, options| {
        let value = |i: u32| u16::try_from(i * white / 768).unwrap_or(u16::MAX);
        let values = (0..768).map(value);
        let bytes: Vec<u8> = values.flat_map(u16::to_le_bytes).collect();
        warnings(DType::U16, &bytes, options)
    };
    let want = "99.4 % of the values (0 to 65449) are outside of 0 to 255 and clipped; \
                range: [0, 65535] would show them";
    assert_eq!(u16s(65535, ImageOptions::default()), [want]);
    assert!(u16s(4000, ImageOptions::default())[0].contains("range: [0, 4095]"));
    assert!(u16s(100_000, ImageOptions::default())[0].contains("range: [0, 65535]"));
    let check = |value: fn(f32) -> f32, want: &str| {
        let warnings = float_warnings(value);
        assert!(warnings.len() == 1 && warnings[0].contains(want), "{want}: {warnings:?}");
    };
    check(|x| x * 2000.0, "range: [0, 2000] would show them");
    check(|x| x * 3.0, "make only 4 of 256 levels; range: [0, 3]");
    check(|x| x * 0.01, "make only 4 of 256 levels; range: [0, 0.01]");
    check(|x| 500.0 + x, "range: [500, 501]");
    check(|x| x * 8.0 - 4.1, "range: [-4.1, 4.1]");
    // Photographs as ImageNet's networks want them.
    let normalized = "look normalized by mean and deviation";
    check(|x| (x - 0.45) / 0.225, normalized);
    check(|x| (x - 0.45) / 0.225, "range: [-2.12, 2.64]");
    // Digits of MNIST.
    check(|x| ((x * 5.0 - 4.0).max(0.0) - 0.1307) / 0.3081, normalized);
    check(
        |x| x * 1.234_56e-9,
        "the values (0 to 1.235e-9) make only 1 of 256 levels; range: [0, 1.24e-9]",
    );
    // One range cannot show far values and the others.
    let far = "levels, because a few lie far from the others; name a range without them";
    check(|x| if x > 0.9995 { 1e6 } else { x }, far);
    check(|x| if x < 0.0005 { -1e6 } else { x }, far);
    // A named range is the job's own decision, unless it shows little.
    let named = |range| ImageOptions { range: Some(range), ..ImageOptions::default() };
    assert_eq!(u16s(65535, named((0.0, 65535.0))), [""; 0]);
    assert_eq!(u16s(65535, named((0.0, 60000.0))), [""; 0]);
    assert_eq!(u16s(65535, named((0.0, 1000.0))).len(), 1);
}

#[test]
fn masks_labels_and_usual_pictures_cause_no_warning() {
    fn none(value: impl Fn(f32) -> f32) {
        assert_eq!(float_warnings(value), [""; 0]);
    }
    none(|x| x);
    none(|x| x * 2.0 - 1.0);
    none(|x| x * 255.0);
    none(|x| (x * 30.0).floor());
    // Masks of two values, labels, one color, rounding errors.
    none(f32::round);
    none(|x| x.round() * 255.0);
    none(|x| (x * 5.0).floor());
    none(|_| 0.25);
    none(|_| -3000.0);
    none(|x| 1.0 - x * 1e-7);
    none(|x| if x > 0.99 { 300.0 } else { x * 255.0 });
    // Soft masks and saturated outputs: nearly black and nearly white, of many values.
    let soft = |x: f32| 1.0 / (1.0 + (-2000.0 * (x - 0.4)).exp()) * 0.999 + x * 1e-6;
    none(soft);
    none(|x| soft(x) * 255.0);
    none(|x| soft(x) * 2.0 - 1.0);
    let bytes: Vec<u8> = (0..768u16).map(|i| u8::from(i > 300)).collect();
    for dtype in [DType::U8, DType::Bool, DType::I8] {
        assert_eq!(warnings(dtype, &bytes, ImageOptions::default()), [""; 0], "{dtype:?}");
    }
    let labels: Vec<u8> = (0..768u16).flat_map(|i| i64::from(i / 200).to_le_bytes()).collect();
    assert_eq!(warnings(DType::I64, &labels, ImageOptions::default()), [""; 0]);
}

#[test]
fn a_dark_image_of_a_batch_causes_no_warning() {
    let values: Vec<f32> = (0..768u16).map(|i| f32::from(i) / 767.0 * 3.0).collect();
    let (tensor, bytes) = planned(&[1, 24, 32], &values, nhw());
    let rendered = Renderer::default().render(&bytes.as_slice(), &tensor, &image(0), None);
    let Rendered { provenance, values, .. } = rendered.expect("an image");
    let warned = |max| {
        let batch = Some(Extent { min: 0.0, max });
        value_warnings(&tensor, &provenance, values.n_few_levels, batch)
    };
    assert_eq!(warned(255.0), [""; 0]);
    assert!(warned(4.0)[0].contains("range: [0, 4]"));
}

#[test]
fn images_that_one_of_their_batch_makes_black_cause_a_warning() {
    // Regression: a far value in one image made all images of the batch black, without a warning.
    let check = |far: f32, want: &str| {
        let mut values: Vec<f32> = (0..1536u16).map(|i| f32::from(i % 768) / 767.0).collect();
        values[1535] = far;
        let (tensor, bytes) = planned(&[2, 24, 32], &values, nhw());
        let mut renderer = Renderer::default();
        let batch = renderer.measure(&bytes.as_slice(), &tensor, 0..2).expect("an extent");
        let mut warned = |i| {
            let rendered = renderer.render(&bytes.as_slice(), &tensor, &image(i), batch);
            let Rendered { provenance, values, .. } = rendered.expect("an image");
            value_warnings(&tensor, &provenance, values.n_few_levels, batch)
        };
        let [first, second] = [warned(0), warned(1)];
        assert!(first.len() == 1 && first[0].contains(want), "{far}: {first:?}");
        assert!(second.len() == 1, "{far}: {second:?}");
    };
    check(1e6, "the values (0 to 1) make only 2 of 256 levels; range: [0, 1] would show them");
    check(3.0, "the values (0 to 1) make only 2 of 256 levels; range: [0, 3] would show them");
}

#[test]
fn a_batch_with_one_signed_flow_is_no_batch_of_gray_and_alpha() {
    let mut values = vec![0.5f32; 2 * 4 * 5 * 2];
    let check = |values: &[f32]| {
        let (tensor, bytes) = planned(&[2, 4, 5, 2], values, ImageOptions::default());
        assert!(tensor.shares_rule() && tensor.reading.guessed);
        let extent = Renderer::default().measure(&bytes.as_slice(), &tensor, 0..2).expect("values");
        check_alpha(&tensor, extent).is_ok()
    };
    assert!(check(&values));
    values[79] = -9.0;
    assert!(!check(&values));
}

fn nchw() -> ImageOptions {
    ImageOptions { format: Some(DataFormat::Nchw), ..ImageOptions::default() }
}

#[test]
fn a_part_has_the_values_of_the_whole() {
    for dtype in DType::ALL {
        let axes = [2, 3, 7, 9];
        let n = axes.iter().product::<u64>() * dtype.size() as u64;
        let bytes: Vec<u8> = (0..n).map(|i| (i * 37 % 251).to_le_bytes()[0]).collect();
        let plan = plan_of(dtype, &axes, bytes.len(), nchw());
        let whole = values_of(&bytes.as_slice(), &plan, 1).expect("values");
        assert_eq!(whole.size(), [7, 9, 3], "{dtype}");
        let region = Region { x: 2, y: 1, width: 6, height: 5, every: 2 };
        let part = plan.part(region, None).expect("a part");
        let part = values_of(&bytes.as_slice(), &part, 1).expect("values");
        assert_eq!(Some(&part), whole.part(region).as_ref(), "{dtype}");
        let channel = plan.part(Region::whole(9, 7), Some(2)).expect("a channel");
        let channel = values_of(&bytes.as_slice(), &channel, 1).expect("values");
        let (mut got, mut want) = (Vec::new(), Vec::new());
        for y in 0..7 {
            channel.row(y, 0, &mut got);
            whole.row(y, 2, &mut want);
            assert!(got.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits()), "{dtype}");
        }
        // One by one.
        let mut seen = vec![None; 7 * 9 * 3];
        let see = |place: usize, value: f64| seen[place] = Some(value.to_bits());
        each_value(&bytes.as_slice(), &plan, 1, see).expect("values");
        for (place, seen) in seen.into_iter().enumerate() {
            whole.row(place / 27, place % 3, &mut want);
            assert_eq!(seen, Some(want[place / 3 % 9].to_bits()), "{dtype} at {place}");
        }
        for (x, width) in [(9, 1), (0, 10), (3, 0), (u64::MAX, 2)] {
            let region = Region { x, width, ..Region::whole(9, 7) };
            assert_eq!(plan.part(region, None), None, "{region:?}");
        }
    }
}

#[test]
fn a_sheet_has_the_values_of_its_pictures() {
    let grid = Some(GridOption::Yes(Grid { nrow: 2, padding: 1 }));
    let values: Vec<f32> = (1u8..=8).map(f32::from).collect();
    let (plan, bytes) = planned(&[2, 2, 2], &values, ImageOptions { grid, ..nhw() });
    let sheet = values_of(&bytes.as_slice(), &plan, 0).expect("values");
    let mut row = Vec::new();
    sheet.row(1, 0, &mut row);
    assert_eq!(row, [0.0, 1.0, 2.0, 0.0, 5.0, 6.0, 0.0]);
    let mut n = 0;
    each_value(&bytes.as_slice(), &plan, 0, |_, _| n += 1).expect("values");
    assert_eq!(n, 8);
    assert_eq!(plan.part(Region::whole(2, 2), None), None);
}

#[test]
fn a_picture_is_developed_as_a_rule_would_make_it() {
    let values: Vec<f32> = (0u8..60).map(|i| f32::from(i) / 40.0 - 0.25).collect();
    for colormap in [None, Some(Colormap::Viridis)] {
        let range = Some((0.0, 1.0));
        let options = ImageOptions { range, colormap, ..nhw() };
        let (plan, bytes) = planned(&[1, 6, 10], &values, options);
        let (want, _) = full_size_pixels(&bytes.as_slice(), &plan, 0).expect("pixels");
        let (plan, bytes) = planned(&[1, 6, 10], &values, nhw());
        let how =
            Develop { range: (0.0, 1.0), gamma: 1.0, colormap, nan_color: None, marks: false };
        let got = develop(&bytes.as_slice(), &plan, 0, &how).expect("pixels");
        assert_eq!(got, want);
        let part = Region { x: 3, y: 2, width: 4, height: 3, every: 1 };
        let of_part = plan.part(part, None).expect("a part");
        let got = develop(&bytes.as_slice(), &of_part, 0, &how).expect("pixels");
        assert_eq!(got, cropped(want, part));
    }
}

#[test]
fn gamma_bends_colors_and_leaves_alpha() {
    let options = ImageOptions { format: Some(DataFormat::Hwc), ..ImageOptions::default() };
    let (plan, bytes) = planned(&[1, 1, 2], &[0.25, 0.25], options);
    let how =
        Develop { range: (0.0, 1.0), gamma: 2.0, colormap: None, nan_color: None, marks: false };
    let got = develop(&bytes.as_slice(), &plan, 0, &how).expect("pixels");
    assert_eq!((got.mode, got.bytes), (ColorMode::La, vec![128, 64]));
}

#[test]
fn what_is_odd_is_marked() {
    let values = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0, 2.0, 0.5];
    let (plan, bytes) = planned(&[1, 1, 6], &values, nhw());
    let how =
        Develop { range: (0.0, 1.0), gamma: 1.0, colormap: None, nan_color: None, marks: true };
    let got = develop(&bytes.as_slice(), &plan, 0, &how).expect("pixels");
    assert_eq!(got.mode, ColorMode::Rgb);
    let pixels: Vec<&[u8]> = got.bytes.chunks(3).collect();
    let stripe_below: &[u8] = &[0; 3];
    let want: [&[u8]; 6] =
        [&[255, 0, 255], &[255, 230, 0], &[0, 230, 230], stripe_below, &[255, 40, 40], &[128; 3]];
    assert_eq!(pixels, want);
}

/// The six orders of three axes, the outermost first.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// Checks that a picture with a NaN is the same, however its elements are ordered in the storage.
fn check_orders(axes: [u64; 3], options: ImageOptions) {
    let places = || {
        let [rows, columns, channels] = axes;
        let rows = (0..rows).flat_map(move |row| (0..columns).map(move |column| (row, column)));
        rows.flat_map(move |(row, column)| (0..channels).map(move |channel| [row, column, channel]))
    };
    let n: u64 = axes.iter().product();
    let value = |i: u16| if i == 7 { f32::NAN } else { f32::from(i % 199) / 198.0 };
    let values: Vec<f32> = (0u16..).map(value).take(usize::try_from(n).expect("small")).collect();
    let options = ImageOptions { format: Some(DataFormat::Hwc), ..options };
    let (plan, bytes) = planned(&axes, &values, options);
    let want = full_size_pixels(&bytes.as_slice(), &plan, 0).expect("pixels");
    for order in ORDERS {
        let mut strides = vec![0; 3];
        order.into_iter().rev().fold(1, |step, axis| {
            strides[axis] = step;
            step * axes[axis]
        });
        let mut stored = vec![0; bytes.len()];
        for (place, value) in places().zip(&values) {
            let at: u64 = place.iter().zip(&strides).map(|(at, stride)| at * stride).sum();
            let at = usize::try_from(at * 4).expect("small");
            stored[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        let plan = strided_plan(DType::F32, &axes, strides, stored.len(), options);
        let (pixels, provenance) = full_size_pixels(&stored.as_slice(), &plan, 0).expect("pixels");
        assert_eq!(pixels, want.0, "{axes:?} in order {order:?}");
        assert_eq!(provenance.rule, want.1.rule, "{axes:?} in order {order:?}");
        assert_eq!(provenance.stats.nan, u64::from(n > 7), "{axes:?} in order {order:?}");
    }
}

#[test]
fn the_order_of_the_elements_does_not_matter() {
    let nan_color = ImageOptions {
        nan_color: Some(crate::media::Rgb([255, 0, 255])),
        ..ImageOptions::default()
    };
    let deep = ImageOptions { mode: Some(ColorMode::I16), ..ImageOptions::default() };
    for (height, width) in [(1, 1), (1, 40), (40, 1), (2, 3), (17, 70), (64, 33)] {
        for channels in 1..=4 {
            check_orders([height, width, channels], ImageOptions::default());
        }
        // Bug: with channels first, other pixels than those with a NaN got the color.
        check_orders([height, width, 3], nan_color);
        check_orders([height, width, 1], deep);
    }
}
