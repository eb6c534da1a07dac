//! Safelight.

// Vocabulary.
pub mod media;
pub mod tensor;
// Pure core, in the order that data meets it.
pub mod convert;
pub mod decode;
pub mod encode;
pub mod limits;
pub mod plan;
pub mod record;
pub mod render;
// Shell.
mod durable;
mod ingest;
pub mod store;
// Assembly.
pub mod config;
