//! Watches training runs for raw tensor dumps and media logs, and turns them into images.
//!
//! A training job writes raw tensors, and one line of JSON for each picture. Safelight, in another
//! process, turns them into image media, indexes them, and delivers them to trackers.
//!
//! ```text
//!  run directory       pure: values in, values out                          durable          targets
//!
//!  media.jsonl ─line──▶ parse ─▶ MediaRecord ──┐
//!  dump ──────header──▶ parse ─▶ TensorHeader ─┴▶ plan ─▶ Plan ─┐                        ┌▶ W&B
//!   │                                                           ▼                        ├▶ TensorBoard
//!   └─────────bytes───▶ convert ▸ Pixels ▸ encode ──────────▶ commit ─▶ journal ─▶ sync ─┼▶ MLflow
//!                       └───────── render ────────┘           media file    │            ├▶ Trackio
//!                                                             and lines     └▶ index     └▶ object store
//! ```
//!
//! # Invariants
//!
//! 1. **Two things are true and the rest follows from them**: the run directory, and the store's media
//!    files with their journals. The index can be rebuilt from these two.
//! 2. **The middle is functions.** Parse, plan and render take values and return values: no file, clock,
//!    thread, log or global. They live in crates of their own, whose `clippy.toml` refuses the rest.
//!    Plans are cheap and made in order, so that limits fall the same way each time. Renders are heavy
//!    and run in parallel. Commits keep the order of the plans.
//! 3. **The edge is thin.** Watching, tailing and serving move bytes and wait. Each has a pure neighbour
//!    that decides.
//! 4. **Durability is decided in one function**, `store::Writer::commit`. Before it, work can be redone
//!    from the run directory. After it, nothing is lost.
//!
//! # Modules
//!
//! The crates `safelight-image`, `safelight-png` and `safelight-formats` are the pure core. Their modules
//! are re-exported here ([`media`] to [`formats`]), so that `crate::media` is one name for both. This crate
//! is the shell: everything that touches files, clocks, threads and sockets.
//!
//! | module | its one job |
//! | --- | --- |
//! | `locks` | locks that survive a panic |
//! | `durable` | writes, syncs and renames files; tests observe each step |
//! | `pulse`, `pace` | whether each thread makes progress; how many bytes a second are read |
//! | `descriptors` | how many files may be open, and who may keep how many |
//! | `users` | names of users and groups, for messages |
//! | `shell` | words of a shell's command line, for messages |
//! | `run_dir` | opens files beneath a run directory, never through a link |
//! | [`store`] | media files, journals and the index: the one place that decides durability |
//! | [`ingest`] | finds finished dumps and new lines, and has them planned, rendered and committed |
//! | `overlays` | draws boxes and masks on a copy of a picture, for targets and the terminal |
//! | `sinks` | the kinds of targets, one folder for each, and the contract suite that all run |
//! | [`sync`] | one worker for each target: cursors, retries, parked items |
//! | [`retention`] | removes media and dumps that the configuration no longer wants |
//! | `fleet` | reads what boxes have delivered to an object store |
//! | [`control`] | the control API on a unix socket, and its client |
//! | `gallery` | pages and an HTTP API on which people look at the images; it changes nothing |
//! | [`secrets`] | reads the secrets of targets |
//! | [`config`] | the settings: what the file says, and what it means |
//! | `logging`, `daemon`, [`cli`] | assembly: the log, the service, the commands |

pub use safelight_formats as formats;
pub use safelight_image::{
    annotations, compare, convert, decode, encode, limits, media, plan, query, record, render,
    tensor, values, words,
};

// Shell.
mod locks;
mod durable;
mod descriptors;
mod pace;
mod pulse;
mod run_dir;
mod shell;
mod users;
pub mod store;
pub mod ingest;
mod overlays;
mod sinks;
pub mod sync;
pub mod retention;
mod fleet;
pub mod control;
mod gallery;
// Assembly.
pub mod secrets;
pub mod config;
mod logging;
mod daemon;
pub mod cli;
