//! Tests that need more than one module: real files, real processes.

mod bad_input;
mod commands;
mod crash;
mod daemon;
mod disk_full;
mod faults;
mod fresh_folders;
mod golden;
mod golden_dumps;
mod half_written;
mod harness;
mod index_damage;
mod ingest;
mod instances;
mod layers;
mod links;
mod media;
mod metrics;
mod python;
mod retention;
mod systemd;
mod upgrade;
mod soak;
mod wandb_peer;
mod watchdog;
