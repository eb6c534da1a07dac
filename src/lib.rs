//! Watches training runs for raw tensor dumps and media logs, and keeps them as images.
//!
//! A training job writes what its model sees as raw tensors, and one line of JSON for each picture;
//! this crate, in another process, makes image media of them and keeps them in an index.
//!
//! ```text
//!  run directory       pure: values in, values out                          durable
//!
//!  media.jsonl ─line──▶ parse ─▶ MediaRecord ──┐
//!  dump ──────header──▶ parse ─▶ TensorHeader ─┴▶ plan ─▶ Plan ─┐
//!   │                                                           ▼
//!   └─────────bytes───▶ convert ▸ Pixels ▸ encode ──────────▶ commit ─▶ journal ─▶ index
//!                       └───────── render ────────┘           media file, line and cursor
//! ```
//!
//! Four sentences hold it together:
//!
//! 1. **Two things are true and the rest follows from them**: the run directory, and the store's
//!    media files with their journals. The index can be rebuilt from these two.
//! 2. **The middle is functions.** Parse, plan and render take values and return values: no file,
//!    clock, thread, log or global. A plan is cheap and made in order, so that limits fall the same
//!    way each time; a render is heavy and made in parallel; commits keep the order of the plans.
//! 3. **The edge is thin.** Watching, tailing and serving move bytes and wait. Each has a pure
//!    neighbour that decides.
//! 4. **Durability is decided in one function**, `store::Writer::commit`. Before it, work can be done
//!    again from the run directory. After it, nothing is lost.
//!
//! | module | its one job |
//! | --- | --- |
//! | [`media`], [`tensor`] | the vocabulary: what an image and a tensor are |
//! | [`decode`] | a dump's bytes → headers, then one tensor's bytes |
//! | [`record`] | a line, a sidecar or a path → a record |
//! | [`annotations`] | what lies on an image: classes, boxes, masks |
//! | [`convert`] | elements → pixels: which axis is which, whose rule, which mode |
//! | [`encode`] | pixels → a media file |
//! | `simd` | their loops that want the processor's own instructions: all unsafe code |
//! | [`limits`], [`plan`] | which images are made, and which are held back |
//! | [`render`] | a plan and a tensor's bytes → media files |
//! | [`formats`] | entries → what trackers read |
//! | `durable`, [`store`] | how, and when, things become durable |
//! | `run_dir` | a run directory: opens the files in it, and nothing outside |
//! | `pulse`, `pace` | whether each thread gets on; how many bytes a second may be moved |
//! | [`ingest`] | finds finished dumps and new lines, and has them planned, rendered, committed |
//! | `sinks` | what a target is, and one file for each kind |
//! | [`sync`] | the journals → the targets: cursors, retries, parked items |
//! | [`retention`] | removes media and dumps that are no longer wanted |
//! | [`control`] | the unix socket |
//! | [`secrets`] | where keys of targets stand |
//! | [`config`], `logging`, `daemon`, [`cli`] | assembly |
//!
//! The modules from [`media`] to [`formats`] are pure; a test keeps them so.

pub use safelight_formats as formats;
pub use safelight_image::{
    annotations, convert, decode, encode, limits, media, plan, record, render, tensor,
};

// Shell.
mod durable;
mod pace;
mod pulse;
mod run_dir;
pub mod store;
pub mod ingest;
mod sinks;
pub mod sync;
pub mod retention;
pub mod control;
// Assembly.
pub mod secrets;
pub mod config;
mod logging;
mod daemon;
pub mod cli;
