//! Safelight.

// Vocabulary.
pub mod media;
pub mod tensor;
// Pure core, in the order that data meets it.
pub mod convert;
pub mod decode;
pub mod encode;
pub mod formats;
pub mod limits;
pub mod plan;
pub mod record;
pub mod render;
// Shell.
pub mod control;
mod durable;
pub mod ingest;
pub mod store;
// Assembly.
pub mod cli;
pub mod config;
mod daemon;
mod logging;
