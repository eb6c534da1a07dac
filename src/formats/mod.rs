//! What the store keeps → the bytes that trackers expect. Pure.

pub mod mlflow;
pub mod object_store;
pub(crate) mod overlay;
mod python;
pub(crate) mod tfevents;
mod tfrecord;
pub(crate) mod trackio;
pub mod wandb;
pub(crate) mod wandb_log;
