//! Raw tensors to images, exactly as `wandb.Image` makes them.
//!
//! ```text
//!  line of a media log ─▶ record ─▶ MediaRecord ──┐
//!  header of a dump ────▶ decode ─▶ TensorHeader ─┴▶ plan ─▶ Plan ─┐
//!  bytes of a dump ────────────────────────────────────────────── render ─▶ Pixels ─▶ encode ─▶ media file
//! ```
//!
//! Everything is a function of its arguments: no module opens a file, socket or thread, or reads a clock
//! or the environment.
//!
//! | module | its one job |
//! | --- | --- |
//! | [`media`], [`tensor`] | the vocabulary: what an image and a tensor are |
//! | [`decode`] | the bytes of a dump → headers, then the bytes of one tensor |
//! | [`record`] | a line of a log, a sidecar or a path → a record |
//! | [`annotations`] | the classes, boxes and masks of an image |
//! | [`convert`] | elements → pixels: which axis is which, which rule, which mode |
//! | [`encode`] | pixels → a media file, and back |
//! | `simd` | vector kernels of `convert` and `decode`: all unsafe code |
//! | [`limits`], [`plan`] | which images are made, and which are held |
//! | [`render`] | a plan and the bytes of a tensor → media files |
//! | [`values`] | the values of a picture, as people read them |
//! | [`compare`] | how two pictures differ, and how often values occur |
//! | [`words`] | words of messages |
//! | [`wandb`] | the constants and class methods of `wandb.Image`, under their own names |
//!
//! # Invariants
//!
//! - Callers pass bytes, or a [`decode::ReadAt`]. `clippy.toml` refuses files, sockets, threads, clocks and
//!   the environment.
//! - The same dump and settings give the same pixels on every processor.
//! - Sizes from a dump are checked against [`Limits`] before memory is allocated.
//!
//! # Examples
//!
//! From the bytes of a dump to a PNG:
//!
//! ```
//! use safelight_image::decode::{Contents, DecodeOptions, contents, storage};
//! use safelight_image::encode::encode;
//! use safelight_image::media::{ColorMode, FileType, Rule};
//! use safelight_image::render::full_size_pixels;
//! use safelight_image::{Encoding, ImageOptions, Limits, TensorPlan};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A file as NumPy writes it: a 2 × 2 array of float32.
//! let header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }\n";
//! let values = [0.0f32, 0.25, 0.5, 1.0].map(f32::to_le_bytes).concat();
//! let dump = [&b"\x93NUMPY\x01\x00\x3c\x00"[..], header, &values].concat();
//! let dump = dump.as_slice();
//!
//! // 1. Read the headers of its tensors.
//! let limits = Limits::default();
//! let options = DecodeOptions {
//!     header_bytes_max: limits.header_bytes_max,
//!     storage_bytes_max: limits.dump_bytes_max,
//!     ..DecodeOptions::default()
//! };
//! let Contents::Tensors { writer, mut tensors, .. } = contents(&dump, &options)? else {
//!     unreachable!("an image file is kept as it is");
//! };
//! let header = tensors.remove(0).header?;
//!
//! // 2. Plan: which axis is which, which mode, which limits apply.
//! let plan = TensorPlan::new(header, writer, ImageOptions::default(), &limits)?;
//! assert_eq!((plan.n_images(), plan.width, plan.height), (1, 2, 2));
//!
//! // 3. Convert the elements to pixels.
//! let storage = storage::plain(&dump, &plan.header.storage).ok_or("compressed")?;
//! let (pixels, provenance) = full_size_pixels(&storage, &plan, 0)?;
//! assert_eq!((pixels.mode, pixels.bytes.as_slice()), (ColorMode::L, &[0, 64, 128, 255][..]));
//! assert_eq!(provenance.rule, Rule::X255);
//!
//! // 4. Encode them.
//! let image = encode(&pixels, Encoding::default())?;
//! assert_eq!(image.file_type, FileType::Png);
//! assert!(image.bytes.starts_with(b"\x89PNG"));
//! # Ok(())
//! # }
//! ```
//!
//! For an array in memory, [`wandb::guess_mode`] and [`wandb::to_uint8`] do steps 2 and 3.

pub mod words;
pub mod media;
pub mod tensor;
mod simd;
pub mod decode;
pub mod record;
pub mod annotations;
pub mod convert;
pub mod encode;
pub mod limits;
pub mod plan;
pub mod render;
pub mod values;
pub mod compare;
pub mod query;
pub mod wandb;

pub use self::convert::Pixels;
pub use self::encode::{EncodedImage, Encoding};
pub use self::limits::Limits;
pub use self::plan::TensorPlan;
pub use self::record::ImageOptions;
pub use self::tensor::{ByteOrder, DType, Shape, TensorHeader, Writer};
