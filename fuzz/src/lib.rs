//! Checks that several fuzz targets use. A dump goes through all steps of the daemon, from its first bytes to
//! pixels, under small limits. Nothing may panic, and results must be consistent.

use std::io::{self, Write};

use safelight_image::convert::Pixels;
use safelight_image::decode::{
    self, Contents, Coverage, DecodeOptions, ReadAt, TENSORS_MAX, storage,
};
use safelight_image::limits::{Limits, StepUsage};
use safelight_image::media::{Description, MediaKey, Profile, Step};
use safelight_image::plan::{Found, MaskReading, MaskSource, Plan, PlannedItem, Recipe, plan};
use safelight_image::record::{DataRef, ImageOptions, MediaRecord, RecordError};
use safelight_image::render::{MaskError, RenderedMask, pixels_from_tensor, render_mask};
use safelight_image::tensor::{DType, TensorHeader, Writer};

/// Maximum number of bytes of storages plus elements of pictures for one input. More would only be slow.
const WORK_MAX: u64 = 4 << 20;

/// Returns limits that a small input can exceed.
#[must_use]
pub fn limits() -> Limits {
    Limits {
        max_items: 4,
        pixels_max: 1 << 16,
        batch_max: 8,
        memory_bytes_max: 16 << 20,
        header_bytes_max: 1 << 20,
        ..Limits::default()
    }
}

/// Returns options to read a dump under these limits.
#[must_use]
pub fn decode_options() -> DecodeOptions {
    DecodeOptions {
        header_bytes_max: limits().header_bytes_max,
        storage_bytes_max: WORK_MAX,
        ..DecodeOptions::default()
    }
}

/// Returns a record with these options and nothing else.
#[must_use]
pub fn record(options: ImageOptions) -> MediaRecord {
    MediaRecord {
        key: MediaKey::new("fuzz").expect("a key"),
        step: Step(0),
        index: None,
        data: DataRef::default(),
        options,
        description: Description::default(),
        warnings: Vec::new(),
    }
}

/// Decodes a dump and makes all possible images. Further options depend on the dump's length, so that a
/// target needs no input but the dump.
pub fn check_dump(dump: &[u8]) {
    let pick = dump.len();
    let profiles = [Profile::Auto, Profile::Wandb010, Profile::Wandb020, Profile::Wandb029];
    let profile = Some(profiles[pick % 4]);
    let dtype = [None, Some(DType::BF16), Some(DType::F8E5M2)][pick % 3];
    let record = record(ImageOptions { profile, ..ImageOptions::default() });
    check_contents(dump, &DecodeOptions { dtype, ..decode_options() }, &record);
}

/// Decodes a dump and makes the images that `record` describes from each of its tensors.
pub fn check_contents(dump: &[u8], options: &DecodeOptions, record: &MediaRecord) {
    let Ok(contents) = decode::contents(&dump, options) else { return };
    check_accounting(&contents);
    let (writer, tensors) = match contents {
        Contents::Tensors { writer, tensors, .. } => (writer, tensors),
        Contents::Picture(picture) => {
            assert!(picture.width > 0 && picture.height > 0, "{picture:?}");
            assert_eq!(picture.n_bytes, dump.len() as u64);
            check_plan(&[].as_slice(), record, Found::Picture(picture), &[], true);
            return;
        }
    };
    assert!(tensors.len() <= TENSORS_MAX, "{} tensors", tensors.len());
    let mut n_left = WORK_MAX;
    for header in tensors.into_iter().filter_map(|tensor| tensor.header.ok()) {
        // Even an empty storage counts, because it takes time.
        let Some(left) = n_left.checked_sub(header.storage.n_bytes.saturating_add(4096)) else {
            break;
        };
        n_left = left;
        let (bytes, is_whole) = check_storage(dump, &header);
        // Pixels are made even if a checksum is wrong, so that the fuzzer gets past checksums.
        n_left = n_left.saturating_sub(check_tensor(&bytes, record, writer, header, is_whole));
    }
}

/// Checks that what a dump holds besides pictures agrees with its tensors.
fn check_accounting(contents: &Contents) {
    let skipped = contents.skipped();
    assert!(skipped.examples.len() as u64 <= skipped.n, "{skipped:?}");
    let Contents::Tensors { tensors, unread, .. } = contents else {
        assert_eq!(contents.coverage(), Coverage::Whole);
        return;
    };
    let n_no_picture = tensors.iter().filter(|tensor| tensor.is_no_picture()).count() as u64;
    assert!(n_no_picture <= skipped.n, "{skipped}");
    let has_bad = tensors.iter().any(|tensor| tensor.header.is_err() && !tensor.is_no_picture());
    match contents.coverage() {
        Coverage::Whole => assert!(skipped.n == 0 && !has_bad && unread.is_none()),
        Coverage::Skipped(got) => assert!(got == skipped && !has_bad && unread.is_none()),
        Coverage::Unread(_) => assert!(has_bad || unread.is_some()),
    }
}

/// Returns the decoded bytes of a tensor's storage and whether their number is that of the header.
fn check_storage(dump: &[u8], header: &TensorHeader) -> (Vec<u8>, bool) {
    let mut sink = Sink { bytes: Vec::new(), n_max: header.storage.n_bytes };
    let decoded = storage::decode(&dump, &header.storage, &mut sink);
    let is_whole = sink.bytes.len() as u64 == header.storage.n_bytes;
    assert!(
        is_whole || decoded.is_err(),
        "{} bytes were accepted for {header:?}",
        sink.bytes.len()
    );
    if let Some(plain) = storage::plain(&dump, &header.storage).filter(|_| is_whole) {
        let mut bytes = vec![0; sink.bytes.len()];
        plain.read_exact_at(&mut bytes, 0).expect("bytes that were there");
        assert!(bytes == sink.bytes, "the bytes of {header:?} differ");
    }
    (sink.bytes, is_whole)
}

/// Stores written bytes. Panics at more than `n_max`.
struct Sink {
    bytes: Vec<u8>,
    n_max: u64,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend(bytes);
        assert!(self.bytes.len() as u64 <= self.n_max, "more bytes than {}", self.n_max);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn check_tensor(
    storage: &[u8],
    record: &MediaRecord,
    writer: Writer,
    header: TensorHeader,
    is_whole: bool,
) -> u64 {
    check_plan(&storage, record, Found::Tensor(writer, Box::new(header)), &[], is_whole)
}

/// Plans a record and makes all pixels of its images, which may fail only if the storage is incomplete.
/// Returns the number of elements.
pub fn check_plan(
    storage: &impl ReadAt,
    record: &MediaRecord,
    found: Found,
    masks: &[MaskSource],
    is_whole: bool,
) -> u64 {
    let (mut usage, limits) = (StepUsage::default(), limits());
    let plan = plan(record, record.options, found, masks, &mut usage, &limits, None);
    let Ok(Plan { recipe, items, .. }) = plan else { return 0 };
    assert!(items.len() as u64 <= limits.batch_max, "{} images", items.len());
    assert!(usage.n_kept() <= limits.max_items, "{} images are kept", usage.n_kept());
    let mut n_elements = 0;
    for item in items {
        let (Recipe::Convert(tensor), PlannedItem::Image(job)) = (&recipe, item) else {
            continue;
        };
        let image = job.plan;
        assert!(tensor.width * tensor.height <= limits.pixels_max);
        assert!(image.memory_bytes <= limits.memory_bytes_max);
        n_elements += tensor.width * tensor.height * tensor.reading.n_channels;
        match pixels_from_tensor(storage, tensor, &image) {
            Ok((pixels, _)) => {
                let (width, height) = match image.downscale {
                    Some((width, height)) => (width.into(), height.into()),
                    None => (tensor.width, tensor.height),
                };
                check_pixels(&pixels, width, height);
            }
            Err(error) => assert!(!is_whole, "{error}: {tensor:?}"),
        }
        for mask in &image.masks {
            match render_mask(storage, &mask.reading) {
                Ok(Some(made)) => check_mask(&made, &mask.reading),
                Ok(None) | Err(MaskError::ClassId(_)) => {}
                Err(error) => assert!(!is_whole, "{error}: {mask:?}"),
            }
        }
    }
    n_elements
}

fn check_pixels(pixels: &Pixels, width: u64, height: u64) {
    let Pixels { mode, bytes, .. } = pixels;
    assert_eq!((u64::from(pixels.width), u64::from(pixels.height)), (width, height));
    assert_eq!(bytes.len() as u64, width * height * mode.pixel_size() as u64, "{mode}");
}

/// Checks that each class of a mask made from scores has a score.
fn check_mask(made: &RenderedMask, reading: &MaskReading) {
    if let MaskReading::Tensor { n_classes: Some(n), .. } = reading {
        let is_one = |&id: &u16| u64::from(id) < *n;
        assert!(made.class_ids.iter().all(is_one), "{:?}: {reading:?}", made.class_ids);
    }
}

/// Checks that an error's position is inside of the text.
pub fn check_place(text: &[u8], error: &RecordError) {
    let line = text.split(|&byte| byte == b'\n').nth(error.line - 1).expect("a line of the text");
    assert!((1..=line.len().max(1)).contains(&error.column), "{error}");
}
