//! Lines of a media log, applied to a small picture.
#![no_main]

use libfuzzer_sys::fuzz_target;
use safelight_fuzz::{check_place, check_plan};
use safelight_image::annotations;
use safelight_image::plan::Found;
use safelight_image::record::{Line, parse_line};
use safelight_image::tensor::{ByteOrder, DType, Shape, Storage, TensorHeader, Writer};

fuzz_target!(|line: &[u8]| {
    let record = match parse_line(line) {
        Ok(Line::Media(record)) => record,
        Ok(Line::Commit(_) | Line::Finish | Line::Session(_)) => return,
        Err(error) => return check_place(line, &error),
    };
    drop(annotations::read(&record.description.annotations, 6, 4));
    // Two pictures of four channels.
    let bytes: Vec<u8> = (0..2 * 4 * 6 * 4).collect();
    let shape = Shape::new(vec![2, 4, 6, 4]).expect("a small shape");
    let (strides, storage) = (shape.c_strides(), Storage::plain(0, bytes.len() as u64));
    let header = TensorHeader::new(DType::U8, ByteOrder::Little, shape, strides, storage, 0);
    let found = Found::Tensor(Writer::NumPy, Box::new(header.expect("a whole storage")));
    check_plan(&bytes.as_slice(), &record, found, &[], true);
});
