//! Entries → what each tracker reads. Pure.

pub mod wandb;
