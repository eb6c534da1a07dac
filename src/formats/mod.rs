//! What the store keeps → the bytes that trackers expect. Pure.

pub(crate) mod overlay;
mod python;
pub(crate) mod tfevents;
mod tfrecord;
pub mod wandb;
