//! What the store keeps → the bytes that trackers expect. Pure.

pub mod mlflow;
mod python;
pub mod wandb;
