//! Raw tensors to images, exactly as `wandb.Image` makes them. Pure: values in, values out.
//!
//! ```text
//!  media log line ──▶ record ─▶ MediaRecord ──┐
//!  dump's header ───▶ decode ─▶ TensorHeader ─┴▶ plan ─▶ Plan ─┐
//!  dump's bytes ────────────────────────────────────────────── render ─▶ convert ▸ encode ─▶ media file
//! ```
//!
//! | module | its one job |
//! | --- | --- |
//! | [`media`], [`tensor`] | the vocabulary: what an image and a tensor are |
//! | [`decode`] | a dump's bytes → headers, then one tensor's bytes |
//! | [`record`] | a line, a sidecar or a path → a record |
//! | [`annotations`] | classes, boxes and masks of an image |
//! | [`convert`] | elements → pixels: which axis is which, which rule, which mode |
//! | [`encode`] | pixels → a media file |
//! | `simd` | vector kernels of `convert` and `decode`: all unsafe code |
//! | [`limits`], [`plan`] | which images are made, and which are held |
//! | [`render`] | a plan and a tensor's bytes → media files |
//!
//! # Invariants
//!
//! - No module opens a file, socket or thread, or reads a clock or the environment: `clippy.toml` refuses
//!   it. Callers pass bytes, or a [`decode::ReadAt`].
//! - The same dump and settings give the same pixels on every processor.
//! - Sizes from a dump are checked against [`limits::Limits`] before memory is taken.

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
