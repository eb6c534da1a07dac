//! What the store keeps → the bytes that trackers expect. Pure.

pub mod mlflow;
pub mod object_store;
mod python;
pub mod wandb;
pub(crate) mod wandb_log;
