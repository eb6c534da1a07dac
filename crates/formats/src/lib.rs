//! Media entries to the bytes that experiment trackers read. Pure: values in, bytes out.
//!
//! | module | its one job |
//! | --- | --- |
//! | [`wandb`] | the JSON of a logged image, of an artifact and of a run's config |
//! | [`wandb_log`] | the log of a W&B offline run |
//! | [`tfevents`], [`overlay`] | `TensorBoard`'s event files; boxes and masks drawn on a picture |
//! | [`mlflow`] | names, tags and pictures of `MLflow`'s image grid |
//! | [`trackio`] | lines and names of Trackio |
//! | [`object_store`], [`manifest`] | names and manifests on an object store; lines of manifests as they are read |
//!
//! # Invariants
//!
//! - Times come from the entry, never from a clock: the same entry gives the same bytes.
//! - No module opens a file, socket or thread: `clippy.toml` refuses it.

pub mod manifest;
pub mod mlflow;
pub mod object_store;
pub mod overlay;
mod python;
pub mod tfevents;
mod tfrecord;
pub mod trackio;
pub mod wandb;
pub mod wandb_log;
