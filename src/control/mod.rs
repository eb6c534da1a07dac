//! The daemon's unix socket: HTTP with JSON, for the command line and for scripts.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/status` | a [`protocol::Status`] |
//! | `GET /v1/items?`[`protocol::ItemsQuery`] | JSON Lines, one object an item |
//! | `GET /v1/health` | a [`protocol::Health`]; 503 if something is wrong |
//! | `GET /metrics` | metrics, for Prometheus |
//! | `POST /v1/prune?apply=`*bool* | what retention removes, or would: a [`crate::retention::Report`] |
//! | `POST /v1/release?`[`protocol::ReleaseQuery`] | what was released and what stays held back: a [`crate::ingest::ReleaseReport`]; 202 if it is not done yet |
//! | `POST /v1/reload` | goes by the configuration as it is now; 409 and the reason if it can't be used |
//!
//! Whoever may connect may ask. What changes something is for root and the daemon's own user.

pub mod client;
pub(crate) mod metrics;
pub mod protocol;
pub mod server;
