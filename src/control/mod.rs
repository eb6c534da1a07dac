//! The daemon's unix socket: HTTP with JSON, for the command line and for scripts.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/status` | a [`protocol::Status`] |
//! | `GET /v1/items?`[`protocol::ItemsQuery`] | JSON Lines, one object an item |
//! | `POST /v1/reload` | the configuration is read again; 409 and the reason if it can't be used |

pub mod client;
pub mod protocol;
pub mod server;
