//! The values of an item: those of its dump if they are proved to be, else those of its stored picture.

use std::io;
use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue};

use super::Shared;
use super::api::Proof;
use super::files::RunFiles;
use super::item::entry_at;
use super::limits::LIMITS;
use super::origin::{self, Origin};
use super::params::Place;
use super::problem::Failure;
use crate::convert::{Depth, Extent, Pixels, shown_as};
use crate::decode::{ReadAt, storage};
use crate::encode::read_samples;
use crate::ingest::again::OpenDump;
use crate::limits::Limits;
use crate::media::{CommittedImage, DataFormat, Fate, MediaEntry, Rule};
use crate::plan::{Recipe, TensorPlan};
use crate::record::ImageOptions;
use crate::render::{Develop, Renderer, each_value, pixels_in_batch, values_of};
use crate::store::media_check::NamedFile;
use crate::tensor::{ByteOrder, DType, Encoding, Shape, Storage, TensorHeader, Writer};
use crate::values::{Region, Values};

/// The header that says how the values are known to be those of the image.
pub(super) const PROOF: HeaderName = HeaderName::from_static("safelight-proof");

/// The bytes of a tensor's elements.
pub(super) enum TensorBytes {
    /// As they lie in a dump.
    Dump(Arc<OpenDump>, Storage),
    /// Decoded.
    Memory(Vec<u8>),
}

impl TensorBytes {
    /// Opens the bytes of a tensor. Decodes them if they are compressed.
    ///
    /// # Errors
    /// 413 if they take more than `bytes_max` when decoded, 409 if they are damaged.
    pub(super) fn open(
        dump: &Arc<OpenDump>,
        storage: &Storage,
        bytes_max: u64,
    ) -> Result<Self, Failure> {
        if storage.encoding == Encoding::Plain {
            return Ok(Self::Dump(dump.clone(), storage.clone()));
        }
        check_memory(storage.n_bytes, bytes_max, "to decode the tensor")?;
        let mut bytes = Vec::new();
        storage::decode(&**dump, storage, &mut bytes)
            .map_err(|error| Failure::dump_changed(format!("its dump cannot be read: {error}")))?;
        Ok(Self::Memory(bytes))
    }
}

impl ReadAt for TensorBytes {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::Dump(dump, storage) => match storage::plain(&**dump, storage) {
                Some(plain) => plain.read_exact_at(buffer, offset),
                None => Err(io::ErrorKind::InvalidData.into()),
            },
            Self::Memory(bytes) => bytes.as_slice().read_exact_at(buffer, offset),
        }
    }

    fn n_bytes(&self) -> u64 {
        match self {
            Self::Dump(_, storage) => storage.n_bytes,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }
}

/// The values of an item.
pub(super) struct Shown {
    entry: MediaEntry,
    bytes: TensorBytes,
    /// How they are read.
    pub(super) tensor: TensorPlan,
    image_idx: u64,
    /// The dump, if they are its values.
    origin: Option<Origin>,
    memory_bytes: u64,
}

impl Shown {
    /// Opens the values of the item at a place.
    ///
    /// # Errors
    /// 404 if there are none, 409 if it is held and its dump is another now, 410 if there is neither dump nor picture,
    /// 413 if they take too much memory.
    pub(super) fn open(shared: &Shared, place: &Place) -> Result<Self, Failure> {
        let entry = entry_at(shared, place)?;
        let memory_bytes = shared.memory_bytes();
        match origin::find(shared, place, &entry)? {
            Ok(origin) => Self::of_dump(entry, origin, memory_bytes),
            Err(reason) => {
                let image = match &entry.fate {
                    Fate::Image(image) if image.pruned => return Err(Failure::pruned()),
                    Fate::Image(image) => image,
                    Fate::Held { .. } if !shared.config.dumps => {
                        return Err(Failure::dumps_withheld());
                    }
                    Fate::Held { .. } if shared.fleet().is_some() => {
                        return Err(Failure::not_found(reason));
                    }
                    Fate::Held { .. } => return Err(Failure::dump_changed(reason)),
                    Fate::Rejected { .. } => return Err(Failure::not_found(reason)),
                };
                let values = stored(shared, place, image)?;
                let (tensor, bytes) = in_memory(values)?;
                Ok(Self { entry, bytes, tensor, image_idx: 0, origin: None, memory_bytes })
            }
        }
    }

    fn of_dump(entry: MediaEntry, origin: Origin, memory_bytes: u64) -> Result<Self, Failure> {
        let (bytes, tensor, image_idx) = match &origin.tensor.recipe {
            Recipe::Convert(tensor) => {
                let bytes = TensorBytes::open(&origin.dump, &tensor.header.storage, memory_bytes)?;
                (bytes, (**tensor).clone(), origin.tensor.image_idx)
            }
            Recipe::Copy(picture) => {
                let n_pixels = u64::from(picture.width) * u64::from(picture.height);
                check_memory(picture.n_bytes, memory_bytes, "to read the picture")?;
                check_memory(n_pixels.saturating_mul(4), memory_bytes, "to decode the picture")?;
                let mut file =
                    vec![0; usize::try_from(picture.n_bytes).map_err(Failure::internal)?];
                origin.dump.read_exact_at(&mut file, 0).map_err(|error| unread(&error))?;
                let (tensor, bytes) = in_memory(samples(&file, n_pixels)?)?;
                (bytes, tensor, 0)
            }
        };
        Ok(Self { entry, bytes, tensor, image_idx, origin: Some(origin), memory_bytes })
    }

    /// How the values are known to be those of the image. `None` for those of the stored picture.
    pub(super) fn proof(&self) -> Option<Proof> {
        self.origin.as_ref().map(|origin| origin.tensor.proof)
    }

    /// The header that says so.
    pub(super) fn proof_header(&self) -> (HeaderName, HeaderValue) {
        let proof = match self.proof() {
            Some(Proof::Digest) => "digest",
            Some(Proof::Pixels) => "pixels",
            Some(Proof::Held) => "held",
            None => "none",
        };
        (PROOF, HeaderValue::from_static(proof))
    }

    /// Height, width and channels.
    pub(super) fn size(&self) -> [u64; 3] {
        [self.tensor.height, self.tensor.width, self.tensor.reading.n_channels]
    }

    /// The bytes that this many rows, columns and channels of values take.
    pub(super) fn n_bytes(&self, [rows, columns, channels]: [u64; 3]) -> u64 {
        let size = shown_as(self.tensor.header.dtype).size() as u64;
        rows.saturating_mul(columns).saturating_mul(channels * size)
    }

    /// Reads the values of a region.
    ///
    /// # Errors
    /// 400 if it is not within the image, 409 if the dump changes meanwhile, 413 if it takes too much memory.
    pub(super) fn values(&self, region: Region) -> Result<Values, Failure> {
        let values = match self.tensor.part(region, None) {
            Some(part) => self.values_by(&part)?,
            // A contact sheet is read as a whole.
            None => self.values_by(&self.tensor)?.part(region).ok_or_else(|| self.outside())?,
        };
        self.check_unchanged()?;
        Ok(values)
    }

    fn values_by(&self, tensor: &TensorPlan) -> Result<Values, Failure> {
        let n = self.n_bytes([tensor.height, tensor.width, tensor.reading.n_channels]);
        check_memory(n, self.memory_bytes, "to read the values")?;
        values_of(&self.bytes, tensor, self.image_idx).map_err(|error| unread(&error))
    }

    /// A part of the image, and one of its channels, with the bytes that it is read from.
    ///
    /// # Errors
    /// As [`Self::values`].
    pub(super) fn part(self, region: Region, channel: Option<u64>) -> Result<Self, Failure> {
        if self.tensor.sheet.is_none() {
            let tensor = self.tensor.part(region, channel).ok_or_else(|| self.outside())?;
            return Ok(Self { tensor, ..self });
        }
        let (tensor, bytes) = in_memory(self.values_by(&self.tensor)?)?;
        let tensor = tensor.part(region, channel).ok_or_else(|| self.outside())?;
        Ok(Self { tensor, bytes, image_idx: 0, ..self })
    }

    fn outside(&self) -> Failure {
        let [height, width, n_channels] = self.size();
        Failure::bad_parameter(format!(
            "the part is not within the image of {width} × {height} pixels and {n_channels} channels"
        ))
    }

    /// Calls `see` with the channel and the value of each element.
    ///
    /// # Errors
    /// 409 if the dump cannot be read.
    pub(super) fn each_value(&self, mut see: impl FnMut(usize, f64)) -> Result<(), Failure> {
        let n_channels = usize::try_from(self.tensor.reading.n_channels).unwrap_or(1);
        let see = |place: usize, value| see(place % n_channels, value);
        each_value(&self.bytes, &self.tensor, self.image_idx, see).map_err(|error| unread(&error))
    }

    /// The picture by the rule of the stored one, or by the rule that a release would choose.
    ///
    /// # Errors
    /// 409 if the dump cannot be read, 413 if it takes too much memory.
    pub(super) fn stored_pixels(&self) -> Result<Pixels, Failure> {
        check_memory(self.tensor.memory_bytes, self.memory_bytes, "to make the picture")?;
        let batch = origin::batch_extent(&self.entry, &self.bytes, &self.tensor);
        let batch = batch.map_err(|error| unread(&error))?;
        let downscale = self.origin.as_ref().and_then(|origin| origin.tensor.downscale);
        let made = pixels_in_batch(&self.bytes, &self.tensor, self.image_idx, downscale, batch);
        made.map(|(pixels, _)| pixels).map_err(|error| unread(&error))
    }

    /// Of how many rows and columns one is taken at least, so that a part of the image fits the memory when it is
    /// developed.
    pub(super) fn least_every(&self, width: u64, height: u64) -> u64 {
        let n_channels = self.tensor.reading.n_channels;
        let n_pixels_max = (self.memory_bytes / develop_bytes(n_channels)).max(1);
        let fits = |every: &u64| {
            width.div_ceil(*every).saturating_mul(height.div_ceil(*every)) <= n_pixels_max
        };
        (1..=width.max(height)).find(fits).unwrap_or(1)
    }

    /// Develops the picture.
    ///
    /// # Errors
    /// As [`Self::stored_pixels`].
    pub(super) fn develop(&self, how: &Develop) -> Result<Pixels, Failure> {
        let [height, width, n_channels] = self.size();
        let n_bytes = width.saturating_mul(height).saturating_mul(develop_bytes(n_channels));
        check_memory(n_bytes, self.memory_bytes, "to develop the picture")?;
        let made = crate::render::develop(&self.bytes, &self.tensor, self.image_idx, how);
        made.map_err(|error| unread(&error))
    }

    /// The values that become the least and the greatest byte under the rule of the stored picture.
    ///
    /// # Errors
    /// 409 if the dump cannot be read.
    pub(super) fn span(&self) -> Result<(f64, f64), Failure> {
        let white = match self.tensor.header.dtype {
            DType::U16 => 65535.0,
            _ => 255.0,
        };
        if self.origin.is_none() {
            return Ok((0.0, white));
        }
        let image = self.entry.as_image();
        if let Some(span) = image.and_then(|image| image.provenance.as_ref()).and_then(|made| {
            span_of_rule(made.rule, made.range, self.tensor.wish.depth, || {
                made.stats.min.zip(made.stats.max)
            })
        }) {
            return Ok(span);
        }
        if image.is_some() {
            // A picture that was copied.
            return Ok((0.0, white));
        }
        span_of_values(&self.bytes, &self.tensor, self.image_idx).map_err(|error| unread(&error))
    }

    /// Checks that the dump is as it was when it was opened: what was read of it is of one version.
    ///
    /// # Errors
    /// 409 if it is not.
    pub(super) fn check_unchanged(&self) -> Result<(), Failure> {
        match &self.origin {
            Some(origin) if !origin.dump.file.is_unchanged() => {
                Err(Failure::dump_changed("its dump changed while it was read: ask again"))
            }
            _ => Ok(()),
        }
    }
}

/// The memory that a pixel takes when it is developed: samples of 16 bits, once more in another order, then of 8 bits,
/// with colors, marks, and the encoded file.
const fn develop_bytes(n_channels: u64) -> u64 {
    5 * n_channels + 4 + 4 + 2 + 8
}

/// The values that a rule maps to the least and the greatest sample. `ends` are the least and the greatest value.
pub(super) fn span_of_rule(
    rule: Rule,
    range: Option<(f64, f64)>,
    depth: Depth,
    ends: impl FnOnce() -> Option<(f64, f64)>,
) -> Option<(f64, f64)> {
    let span = match rule {
        Rule::X255 | Rule::X65535 => (0.0, 1.0),
        Rule::Sym => (-1.0, 1.0),
        Rule::Clip | Rule::None => (0.0, depth.white()),
        Rule::Wrap => (0.0, 255.0),
        Rule::Range => range?,
        Rule::Stretch => ends()?,
    };
    Some(if span.0 < span.1 { span } else { (span.0, span.0 + 1.0) })
}

/// The values that the rule for a tensor's values maps to the least and the greatest sample.
///
/// # Errors
/// If the tensor cannot be read.
pub(super) fn span_of_values(
    bytes: &TensorBytes,
    tensor: &TensorPlan,
    image_idx: u64,
) -> io::Result<(f64, f64)> {
    let images = if tensor.shares_rule() { 0..tensor.n_images() } else { image_idx..image_idx + 1 };
    let extent = Renderer::default().measure(bytes, tensor, images)?;
    let rule = tensor.rule(extent).unwrap_or(Rule::Stretch);
    let ends = || extent.map(|Extent { min, max }| (min, max));
    Ok(span_of_rule(rule, tensor.wish.range, tensor.wish.depth, ends).unwrap_or((0.0, 1.0)))
}

/// Checks that something takes no more memory than allowed.
///
/// # Errors
/// 413 if it does.
pub(super) fn check_memory(needed: u64, allowed: u64, what: &str) -> Result<(), Failure> {
    if needed <= allowed {
        return Ok(());
    }
    Err(Failure::too_large(needed, allowed, &format!("{what} (gallery.memory_bytes_max)")))
}

fn unread(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::OutOfMemory => Failure::internal(error),
        _ => Failure::dump_changed(format!("its dump cannot be read: {error}")),
    }
}

/// The samples of an item's stored picture.
fn stored(shared: &Shared, place: &Place, image: &CommittedImage) -> Result<Values, Failure> {
    let file = &image.file;
    let n_pixels = u64::from(file.width) * u64::from(file.height);
    if n_pixels > LIMITS.pixels_max {
        let what = "to decode the stored picture (a limit of this version)";
        return Err(Failure::too_large(n_pixels * 4, LIMITS.pixels_max * 4, what));
    }
    let n_bytes = n_pixels.saturating_mul(4).saturating_add(file.size);
    check_memory(n_bytes, shared.memory_bytes(), "to decode the stored picture")?;
    let named = NamedFile { path: &file.path, size: file.size, sha256: file.sha256 };
    samples(&RunFiles::open(shared, &place.run)?.read(named)?, n_pixels)
}

fn samples(file: &[u8], n_pixels: u64) -> Result<Values, Failure> {
    read_samples(file, n_pixels).map_err(|error| Failure::not_found(error.to_string()))
}

/// Values in memory, read as a tensor.
fn in_memory(values: Values) -> Result<(TensorPlan, TensorBytes), Failure> {
    let (dtype, size) = (values.dtype(), values.size().map(|n| n as u64));
    let bytes = values.into_bytes();
    let shape = Shape::new(size.to_vec()).ok_or_else(|| Failure::internal("an odd picture"))?;
    let (strides, storage) = (shape.c_strides(), Storage::plain(0, bytes.len() as u64));
    let header = TensorHeader::new(dtype, ByteOrder::Little, shape, strides, storage, 0);
    let header = header.map_err(|_| Failure::internal("an odd picture"))?;
    let options = ImageOptions { format: Some(DataFormat::Hwc), ..ImageOptions::default() };
    // What it takes was checked.
    let limits = Limits { pixels_max: u64::MAX, memory_bytes_max: u64::MAX, ..Limits::default() };
    let tensor = TensorPlan::new(header, Writer::NumPy, options, &limits);
    let tensor = tensor.map_err(Failure::internal)?;
    Ok((tensor, TensorBytes::Memory(bytes)))
}
