//! The control API: HTTP with JSON on the daemon's unix socket, for the command line and for scripts.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/daemon` | a [`protocol::Daemon`] |
//! | `GET /v1/status` | a [`protocol::Status`] |
//! | `GET /v1/items?`[`protocol::ItemsQuery`] | JSON Lines, one item a line; with `limit` a page, and the header `safelight-after` if the list goes on |
//! | `GET /v1/health` | a [`protocol::Health`]; 503 if the daemon is unhealthy |
//! | `GET /metrics` | metrics as Prometheus reads them |
//! | `POST /v1/prune?`[`protocol::PruneQuery`] | a [`crate::retention::Report`] of what retention removed, or would remove |
//! | `POST /v1/release?`[`protocol::ReleaseQuery`] | a [`crate::ingest::ReleaseReport`]; 202 if the release is still running |
//! | `POST /v1/sync?`[`protocol::SyncQuery`] | the [`crate::sync::TargetStatus`] of each target after a delivery |
//! | `POST /v1/reload` | 204 after the configuration was reloaded; 409 with the reason if it is invalid |
//!
//! A connection serves one request. A request of any kind that finds no free thread or memory is answered with 429. A
//! client that sends its request too slowly, or leaves its answer unread, is disconnected (`server`, `shares`,
//! `patience`): it costs the other clients and the daemon's stop nothing.
//!
//! Every client that can connect may read. Requests that change something are for root and the daemon's own user.
//! The same metrics are served over TCP if `metrics.listen` is set; nothing else is.

pub mod protocol;
mod health;
pub(crate) mod metrics;
mod patience;
mod process;
pub(crate) mod routes;
mod shares;
pub(crate) mod server;
pub mod client;
