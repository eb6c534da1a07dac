//! The gallery: pages and an HTTP API on which people look at the images of a store. It changes nothing.
//!
//! | file | content |
//! | --- | --- |
//! | `api` | the answers, as types |
//! | `params`, `problem` | the parameters of a request, and its errors |
//! | `files` | media files as they are |
//! | `ranges`, `streams` | conditional and partial requests; long bodies |
//! | `work` | the threads that make answers |
//!
//! # Invariants
//!
//! - The handlers hold a [`Reader`] and no sender into the engine: they cannot change the store. Thumbnails in the
//!   store's `cache` directory are the only files that the gallery writes.
//! - Nothing but waiting happens on the thread that serves connections: what reads the index, a journal or a file
//!   runs on [`work::Workers`].

mod api;
mod files;
mod params;
mod problem;
mod ranges;
mod streams;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod typescript;
mod work;

use std::sync::Arc;

use axum::Router;

use self::problem::Failure;
use self::work::Workers;
use crate::config::GalleryConfig;
use crate::pace::Pace;
use crate::store::Reader;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Gallery(Arc<Shared>);

/// What the handlers read.
pub(crate) struct Shared {
    pub(crate) reader: Reader,
    pub(crate) config: GalleryConfig,
    /// A random name of this process.
    pub(crate) boot: String,
    /// When the index was read, in seconds since the Unix epoch; `None` if a daemon keeps it current.
    pub(crate) as_of: Option<f64>,
    /// How fast dumps may be read, together with the daemon.
    pub(crate) pace: Arc<Pace>,
    /// Threads that read the index, journals and small files.
    reading: Workers,
    /// Threads that decode, scale and compare.
    making: Workers,
}

impl Gallery {
    /// Reads something on a thread.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Shared) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let shared = self.0.clone();
        self.0.reading.run(move || read(&shared)).await
    }

    /// Makes something that takes much time or memory, on a thread.
    async fn make<T: Send + 'static>(
        &self,
        make: impl FnOnce(&Shared) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let shared = self.0.clone();
        self.0.making.run(move || make(&shared)).await
    }
}

/// All addresses.
fn routes(gallery: Gallery) -> Router {
    Router::new().merge(files::routes()).with_state(gallery)
}
