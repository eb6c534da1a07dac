//! Ingest.
mod beneath;
mod lines;
mod pipeline;
mod settle;
mod tail;
mod watch;
