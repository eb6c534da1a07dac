//! Decoders by other authors, with inflate by other authors. The tests and the fuzz target use this file.

use zune_png::PngDecoder;
use zune_png::zune_core::bytestream::ZCursor;
use zune_png::zune_core::options::DecoderOptions;
use zune_png::zune_core::result::DecodingResult;

use super::ColorType;

/// Decodes a file to samples as they lie in memory.
pub(crate) type Decode = fn(file: &[u8], mode: ColorType) -> Vec<u8>;

/// The decoders and their inflate.
pub(crate) const DECODERS: [(&str, Decode); 4] = [
    ("png (fdeflate)", decode_png),
    ("zune-png (zune-inflate)", decode_zune),
    ("lodepng (miniz_oxide)", decode_lodepng),
    ("minipng (its own)", decode_minipng),
];

fn decode_png(file: &[u8], mode: ColorType) -> Vec<u8> {
    let mut decoder = png::Decoder::new(std::io::Cursor::new(file));
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().expect("a header");
    let mut samples = vec![0; reader.output_buffer_size().expect("a small picture")];
    let n = reader.next_frame(&mut samples).expect("samples").buffer_size();
    reader.finish().expect("the end");
    samples.truncate(n);
    let (color_type, bit_depth) = reader.output_color_type();
    match (bit_depth, color_type) {
        (png::BitDepth::Sixteen, _) => little_endian(&samples),
        (_, png::ColorType::Rgb) => opaque(samples, mode),
        _ => samples,
    }
}

fn decode_zune(file: &[u8], mode: ColorType) -> Vec<u8> {
    let options = DecoderOptions::new_safe()
        .png_set_confirm_crc(true)
        .set_max_width(1 << 21)
        .set_max_height(1 << 21);
    let mut decoder = PngDecoder::new_with_options(ZCursor::new(file), options);
    let decoded = decoder.decode().expect("a picture");
    match decoded {
        DecodingResult::U8(samples)
            if decoder.colorspace().is_some_and(|c| c.num_components() == 3) =>
        {
            opaque(samples, mode)
        }
        DecodingResult::U8(samples) => samples,
        DecodingResult::U16(samples) => samples.into_iter().flat_map(u16::to_le_bytes).collect(),
        _ => panic!("other samples"),
    }
}

fn decode_lodepng(file: &[u8], mode: ColorType) -> Vec<u8> {
    let (color_type, bit_depth) = match mode {
        ColorType::Bit | ColorType::Gray => (lodepng::ColorType::GREY, 8),
        ColorType::Gray16 => (lodepng::ColorType::GREY, 16),
        ColorType::GrayAlpha => (lodepng::ColorType::GREY_ALPHA, 8),
        ColorType::Rgb => (lodepng::ColorType::RGB, 8),
        ColorType::Rgba => (lodepng::ColorType::RGBA, 8),
    };
    let picture = lodepng::decode_memory(file, color_type, bit_depth).expect("a picture");
    if bit_depth == 16 { little_endian(picture.bytes()) } else { picture.bytes().to_vec() }
}

fn decode_minipng(file: &[u8], mode: ColorType) -> Vec<u8> {
    let header = minipng::decode_png_header(file).expect("a header");
    let mut room = vec![0; header.required_bytes_rgba8bpc()];
    let mut picture = minipng::decode_png(file, &mut room).expect("a picture");
    if mode == ColorType::Gray16 {
        return little_endian(picture.pixels());
    }
    picture.convert_to_rgba8bpc().expect("room");
    let pixels = picture.pixels().as_chunks::<4>().0.iter();
    let channels: &[usize] = match mode {
        ColorType::GrayAlpha => &[0, 3],
        ColorType::Rgb => &[0, 1, 2],
        ColorType::Rgba => &[0, 1, 2, 3],
        _ => &[0],
    };
    pixels.flat_map(|pixel| channels.iter().map(|&channel| pixel[channel])).collect()
}

/// Adds the alpha that an indexed picture without transparent colours lacks.
fn opaque(samples: Vec<u8>, mode: ColorType) -> Vec<u8> {
    if mode != ColorType::Rgba {
        return samples;
    }
    let colors = samples.as_chunks::<3>().0.iter();
    colors.flat_map(|&[red, green, blue]| [red, green, blue, 255]).collect()
}

/// PNG's samples of 16 bits are big-endian.
fn little_endian(samples: &[u8]) -> Vec<u8> {
    samples.as_chunks::<2>().0.iter().flat_map(|&[high, low]| [low, high]).collect()
}
