use super::*;
use DataFormat::{Chw, Hw, Hwc, Nchw, Nhw, Nhwc};

fn read_as(axes: &[u64], format: Option<DataFormat>, profile: Profile) -> Result<Reading, String> {
    let shape = Shape::new(axes.to_vec()).ok_or("shape")?;
    read(&shape, Writer::NumPy, format, profile, None).map_err(|error| error.to_string())
}

fn read_torch(axes: &[u64], profile: Profile) -> Result<Reading, String> {
    let shape = Shape::new(axes.to_vec()).ok_or("shape")?;
    read(&shape, Writer::Torch, None, profile, None).map_err(|error| error.to_string())
}

/// `want`: the format, whether it is guessed, N × H × W × C.
fn check(axes: &[u64], want: Result<(DataFormat, bool, [u64; 4]), &str>) {
    let got = read_as(axes, None, Profile::Auto);
    match (got, want) {
        (Ok(got), Ok(want)) => {
            let sizes = [got.n_images, got.height, got.width, got.n_channels];
            assert_eq!((got.format, got.guessed, sizes), want, "{axes:?}");
        }
        (Err(got), Err(want)) => assert!(got.contains(want), "{axes:?}: {got}"),
        (got, want) => panic!("{axes:?}: got {got:?}, want {want:?}"),
    }
}

#[test]
fn the_plausible_format_is_found() {
    check(&[480, 640], Ok((Hw, false, [1, 480, 640, 1])));
    check(&[480, 640, 3], Ok((Hwc, false, [1, 480, 640, 3])));
    check(&[480, 640, 2], Ok((Hwc, false, [1, 480, 640, 2])));
    check(&[480, 640, 1], Ok((Hwc, false, [1, 480, 640, 1])));
    check(&[3, 480, 640], Ok((Chw, false, [1, 480, 640, 3])));
    check(&[1, 28, 28], Ok((Chw, false, [1, 28, 28, 1])));
    check(&[16, 28, 28], Ok((Nhw, true, [16, 28, 28, 1])));
    check(&[2, 28, 28], Ok((Nhw, true, [2, 28, 28, 1])));
    check(&[8, 32, 32, 3], Ok((Nhwc, false, [8, 32, 32, 3])));
    check(&[8, 3, 32, 32], Ok((Nchw, false, [8, 32, 32, 3])));
    check(&[9, 2, 5, 7], Ok((Nchw, false, [9, 5, 7, 2])));
    check(&[1, 1, 1, 4, 5], Ok((Nchw, false, [1, 4, 5, 1])));
    // Pictures of one row or one column.
    check(&[1, 640, 3], Ok((Hwc, true, [1, 1, 640, 3])));
    check(&[480, 1, 3], Ok((Hwc, false, [1, 480, 1, 3])));
    check(&[1, 1], Ok((Hw, false, [1, 1, 1, 1])));
    // Two formats are plausible.
    check(&[3, 20, 3], Ok((Hwc, true, [1, 3, 20, 3])));
    check(&[8, 3, 20, 4], Ok((Nhwc, true, [8, 3, 20, 4])));
    // No format is.
    check(&[9], Err("shape (9): want 2 to 4 axes"));
    check(&[], Err("shape (): want"));
    check(&[2, 5, 28, 28], Err("want 2 to 4 axes"));
    check(&[4, 0, 3], Err("shape (4, 0, 3) holds no image"));
}

#[test]
fn a_named_format_is_taken_at_its_word() {
    let got = |axes: &[u64], format| {
        read_as(axes, Some(format), Profile::Wandb020)
            .map(|r| (r.format, [r.n_images, r.height, r.width, r.n_channels]))
    };
    assert_eq!(got(&[3, 20, 3], Chw), Ok((Chw, [1, 20, 3, 3])));
    assert_eq!(got(&[1, 20, 3], Hwc), Ok((Hwc, [1, 1, 20, 3])));
    assert_eq!(got(&[2, 20, 30], Chw), Ok((Chw, [1, 20, 30, 2])));
    assert_eq!(got(&[5, 20, 30, 3], Hwc), Ok((Nhwc, [5, 20, 30, 3])));
    assert_eq!(got(&[5, 20, 30], Hw), Ok((Nhw, [5, 20, 30, 1])));
    assert_eq!(
        got(&[20, 30], Hwc),
        Err("shape (20, 30): want 3 axes (4 with a batch) for format HWC".to_owned())
    );
    assert_eq!(
        got(&[20, 30, 5], Hwc),
        Err("shape (20, 30, 5): want 1 to 4 channels in format HWC, got 5".to_owned())
    );
}

#[test]
fn a_named_format_fits_with_axes_of_length_1_beside_it() {
    let got = |axes: &[u64], format| {
        read_as(axes, Some(format), Profile::Auto)
            .map(|r| [r.n_images, r.height, r.width, r.n_channels])
    };
    for axes in [&[24, 32, 1][..], &[1, 24, 32], &[1, 1, 24, 32], &[24, 1, 32], &[1, 24, 32, 1]] {
        assert_eq!(got(axes, Hw), Ok([1, 24, 32, 1]), "{axes:?}");
    }
    for axes in [&[5, 24, 32, 1][..], &[5, 1, 24, 32], &[1, 5, 24, 32], &[5, 24, 32]] {
        assert_eq!(got(axes, Hw), Ok([5, 24, 32, 1]), "{axes:?}");
        assert_eq!(got(axes, Nhw), Ok([5, 24, 32, 1]), "{axes:?}");
    }
    assert_eq!(got(&[24, 32, 3, 1], Hwc), Ok([1, 24, 32, 3]));
    assert_eq!(got(&[1, 1, 24, 32, 3], Hwc), Ok([1, 24, 32, 3]));
    assert_eq!(got(&[1, 5, 3, 24, 32], Nchw), Ok([5, 24, 32, 3]));
    // A batch of gray pictures, not one picture of 4 channels.
    assert_eq!(got(&[4, 1, 28, 28], Chw), Ok([4, 28, 28, 1]));
    assert_eq!(got(&[4, 28, 28, 1], Hwc), Ok([4, 28, 28, 1]));
    // Nothing else fits.
    assert_eq!(got(&[5, 4, 1], Hw), Ok([1, 5, 4, 1]));
    assert_eq!(got(&[24, 32, 1], Hwc), Ok([1, 24, 32, 1]));
    assert!(got(&[5, 2, 24, 32], Hw).is_err());
}

#[test]
fn absurd_guesses_are_refused_with_advice() {
    for (axes, want) in [
        (
            [24, 32, 6],
            "6 channels, a picture has 1 to 4; store the channels to show, or name format \"NHW\"",
        ),
        ([512, 512, 31], "31 channels"),
        ([24, 1, 32], "24 pictures of 32 × 1 pixels; name the format in the record: \"HW\""),
        ([16, 3, 1000], "16 pictures of 1000 × 3 pixels"),
    ] {
        check(&axes, Err(want));
        let shape = Shape::new(axes.to_vec()).expect("a shape");
        let named = read(&shape, Writer::NumPy, Some(Nhw), Profile::Auto, None);
        assert_eq!(named.map(|reading| reading.n_images), Ok(axes[0]), "{axes:?}");
        assert!(read_as(&axes, None, Profile::Wandb020).is_ok(), "{axes:?}");
    }
    // Batches of gray pictures.
    for axes in [[16, 28, 28], [100, 28, 28], [6, 24, 32], [64, 128, 64], [10, 8, 8]] {
        check(&axes, Ok((Nhw, true, [axes[0], axes[1], axes[2], 1])));
    }
}

#[test]
fn torch_writes_channels_first() {
    let got = |axes: &[u64]| {
        let reading = read_torch(axes, Profile::Auto);
        reading.map(|r| (r.format, r.guessed, [r.n_images, r.height, r.width, r.n_channels]))
    };
    assert_eq!(got(&[3, 20, 30]), Ok((Chw, false, [1, 20, 30, 3])));
    assert_eq!(got(&[3, 20, 3]), Ok((Chw, true, [1, 20, 3, 3])));
    assert_eq!(got(&[8, 3, 20, 4]), Ok((Nchw, true, [8, 20, 4, 3])));
    assert_eq!(got(&[20, 30, 3]), Ok((Hwc, false, [1, 20, 30, 3])));
    assert_eq!(got(&[16, 20, 30]), Ok((Nhw, true, [16, 20, 30, 1])));
    assert_eq!(got(&[20, 30]), Ok((Hw, false, [1, 20, 30, 1])));
    assert_eq!(got(&[1, 1, 3, 20, 30]), Ok((Nchw, false, [1, 20, 30, 3])));
}

#[test]
fn wandb_profiles_read_torch_tensors_as_the_library_does() {
    let got = |axes: &[u64], profile| {
        let reading = read_torch(axes, profile);
        reading.map(|r| ([r.n_images, r.height, r.width, r.n_channels], r.axes, r.guessed_mode))
    };
    let rgb = Some(ColorMode::Rgb);
    for profile in [Profile::Wandb020, Profile::Wandb029] {
        let chw = [None, Some(1), Some(2), Some(0)];
        assert_eq!(got(&[3, 5, 6], profile), Ok(([1, 5, 6, 3], chw, rgb)));
        let turned = [None, Some(1), Some(0), None];
        assert_eq!(got(&[3, 5, 1], profile), Ok(([1, 5, 3, 1], turned, rgb)));
        let turned = [None, Some(2), Some(0), None];
        assert_eq!(got(&[3, 1, 6], profile), Ok(([1, 6, 3, 1], turned, rgb)));
        let gray = [None, Some(1), Some(2), None];
        assert_eq!(got(&[1, 5, 6], profile), Ok(([1, 5, 6, 1], gray, Some(ColorMode::L))));
    }
    let sheet = read_torch(&[9, 1, 2, 2], Profile::Wandb010);
    assert_eq!(sheet.map(|r| (r.is_torch_sheet, r.guessed_mode)), Ok((true, rgb)));
    assert_eq!(read_torch(&[5, 7, 6], Profile::Wandb010).map(|r| r.format), Ok(Nhw));
}

#[test]
fn wandb_profiles_keep_the_accidents_of_the_library() {
    let got = |axes: &[u64], profile| {
        read_as(axes, None, profile)
            .map(|r| ([r.n_images, r.height, r.width, r.n_channels], r.guessed_mode))
    };
    for profile in [Profile::Wandb010, Profile::Wandb020, Profile::Wandb029] {
        assert_eq!(got(&[1, 7, 3], profile), Ok(([1, 7, 3, 1], None)));
        assert_eq!(got(&[7, 1, 4], profile), Ok(([1, 7, 4, 1], None)));
        assert_eq!(got(&[1, 1, 4, 5], profile), Ok(([1, 4, 5, 1], None)));
        assert_eq!(got(&[4, 1, 5, 3], profile), Ok(([1, 4, 5, 3], None)));
        assert_eq!(got(&[3, 5, 4], profile), Ok(([1, 3, 5, 4], None)));
        // Shapes that wandb refuses are read by `plausible`.
        assert_eq!(got(&[3, 5, 6], profile), Ok(([1, 5, 6, 3], None)));
        assert_eq!(got(&[2, 4, 5, 3], profile), Ok(([2, 4, 5, 3], None)));
    }
    assert_eq!(got(&[1, 1, 3], Profile::Wandb020), Ok(([1, 3, 1, 1], Some(ColorMode::Rgb))));
    assert_eq!(got(&[4], Profile::Wandb029), Ok(([1, 4, 1, 1], Some(ColorMode::Rgba))));
    assert_eq!(got(&[1, 1, 3], Profile::Wandb010), Ok(([1, 1, 1, 3], None)));
}
