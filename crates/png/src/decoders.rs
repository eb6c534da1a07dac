//! Decoders by other authors. The tests and the fuzz target use this file.

use zune_png::PngDecoder;
use zune_png::zune_core::bytestream::ZCursor;
use zune_png::zune_core::options::DecoderOptions;
use zune_png::zune_core::result::DecodingResult;

/// Decodes a file by `png`. Samples of 16 bits are little-endian.
pub(crate) fn decode_png(file: &[u8]) -> Vec<u8> {
    let mut decoder = png::Decoder::new(std::io::Cursor::new(file));
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().expect("a header");
    let mut samples = vec![0; reader.output_buffer_size().expect("a small picture")];
    let n = reader.next_frame(&mut samples).expect("samples").buffer_size();
    reader.finish().expect("the end");
    samples.truncate(n);
    if reader.output_color_type().1 == png::BitDepth::Sixteen {
        samples.as_chunks_mut::<2>().0.iter_mut().for_each(|sample| sample.reverse());
    }
    samples
}

/// Decodes a file by `zune-png`. Samples of 16 bits are little-endian.
pub(crate) fn decode_zune(file: &[u8]) -> Vec<u8> {
    let options = DecoderOptions::new_safe()
        .png_set_confirm_crc(true)
        .set_max_width(1 << 21)
        .set_max_height(1 << 21);
    match PngDecoder::new_with_options(ZCursor::new(file), options).decode().expect("a picture") {
        DecodingResult::U8(samples) => samples,
        DecodingResult::U16(samples) => samples.into_iter().flat_map(u16::to_le_bytes).collect(),
        _ => panic!("other samples"),
    }
}
