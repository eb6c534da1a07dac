//! What the store keeps → the bytes that trackers expect. Pure.

mod python;
pub mod wandb;
pub(crate) mod wandb_log;
