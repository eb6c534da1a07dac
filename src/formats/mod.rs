//! What the store keeps → the bytes that trackers expect. Pure.

mod python;
pub mod wandb;
