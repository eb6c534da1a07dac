//! Scales pictures down.

use image::imageops;
use image::{ImageBuffer, Pixel, Primitive};

use crate::convert::Pixels;
use crate::media::ColorMode;

/// Scales a picture down to `width` × `height` pixels by a triangle filter: each new pixel is the weighted
/// mean of the pixels that it covers.
#[must_use]
pub fn downscale(pixels: Pixels, width: u32, height: u32) -> Pixels {
    let mode = pixels.mode;
    let bytes = match mode {
        ColorMode::L => resize::<image::Luma<u8>>(pixels, width, height),
        ColorMode::La => resize::<image::LumaA<u8>>(pixels, width, height),
        ColorMode::Rgb => resize::<image::Rgb<u8>>(pixels, width, height),
        ColorMode::Rgba => resize::<image::Rgba<u8>>(pixels, width, height),
        ColorMode::Bit => {
            let threshold = |gray: u8| if gray > 127 { 255 } else { 0 };
            let gray = resize::<image::Luma<u8>>(pixels, width, height);
            gray.into_iter().map(threshold).collect()
        }
        ColorMode::I16 => {
            let samples = pixels.bytes.as_chunks::<2>().0.iter().copied().map(u16::from_le_bytes);
            let samples = samples.collect();
            let small =
                resized::<image::Luma<u16>>((pixels.width, pixels.height, samples), width, height);
            small.into_iter().flat_map(u16::to_le_bytes).collect()
        }
    };
    Pixels { mode, width, height, bytes }
}

fn resize<P: Pixel<Subpixel = u8> + 'static>(pixels: Pixels, width: u32, height: u32) -> Vec<u8> {
    resized::<P>((pixels.width, pixels.height, pixels.bytes), width, height)
}

fn resized<P: Pixel + 'static>(
    (from_width, from_height, samples): (u32, u32, Vec<P::Subpixel>),
    width: u32,
    height: u32,
) -> Vec<P::Subpixel>
where
    P::Subpixel: Primitive + 'static,
{
    let picture: Option<ImageBuffer<P, _>> =
        ImageBuffer::from_raw(from_width, from_height, samples);
    picture.map_or_else(Vec::new, |picture| {
        imageops::resize(&picture, width, height, imageops::FilterType::Triangle).into_raw()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_picture_is_the_mean_of_the_larger() {
        for mode in [ColorMode::L, ColorMode::I16] {
            let sample = |v: u8| {
                if mode == ColorMode::L { vec![v] } else { vec![0, v] }
            };
            let bytes = (0..64).flat_map(|i| sample(if i % 2 == 0 { 0 } else { 200 })).collect();
            let small = downscale(Pixels { mode, width: 64, height: 1, bytes }, 4, 1);
            assert_eq!((small.width, small.height), (4, 1));
            let high = small.bytes.chunks(mode.pixel_size()).filter_map(|sample| sample.last());
            for value in high {
                assert!((90..=110).contains(value), "{value}");
            }
        }
    }
}
