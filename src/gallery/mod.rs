//! The gallery: pages and an HTTP API on which people look at the images of a store. It changes nothing.
//!
//! | file | content |
//! | --- | --- |
//! | `api` | the answers, as types |
//! | `params`, `problem` | the parameters of a request, and its errors |
//! | `files` | media files as they are |
//! | `annotations` | boxes and masks as they are |
//! | `export` | an archive of media files |
//! | `thumbs`, `frames` | thumbnails, one or many |
//! | `ranges`, `streams` | conditional and partial requests; long bodies |
//! | `limits` | the limits of requests |
//! | `cursor` | where a list goes on |
//! | `answer` | answers in JSON: entity tags, compression |
//! | `segments`, `catalogue` | the keys and steps of runs, in memory |
//! | `origin` | the tensors that items were made from, with their proofs |
//! | `shown` | the values of an item: those of its dump, or else of its stored picture |
//! | `python` | Python that reads and logs an item's tensor |
//! | `values`, `develop`, `compare` | values and histograms; pictures developed from them; how two items differ |
//! | `work` | the threads that make answers |
//! | `server` | the socket, and the thread that serves it |
//! | `guard`, `login` | what every request passes: host, origin, login; and the headers of every answer |
//! | `runs` | `runs`, in an order, a part at a time |
//! | `lists` | `info`, `keys`, `steps` and `at` |
//! | `events` | what changes, as server-sent events |
//! | `fleet` | reads the runs of a fleet that requests name |
//! | `item`, `items` | `item`; `items` |
//! | `assets` | the pages |
//!
//! # Invariants
//!
//! - The handlers hold a [`Reader`] and no sender into the engine: they cannot change the store. Thumbnails in the
//!   store's `cache` directory are the only files that the gallery writes.
//! - Nothing but waiting happens on the thread that serves connections: what reads the index, a journal or a file
//!   runs on [`work::Workers`].

mod annotations;
mod answer;
mod api;
mod assets;
mod catalogue;
mod compare;
mod cursor;
mod events;
mod export;
mod fleet;
mod develop;
#[cfg(test)]
mod dump_tests;
mod files;
mod frames;
mod guard;
mod item;
mod items;
mod limits;
mod lists;
mod login;
mod origin;
mod params;
mod problem;
mod python;
mod ranges;
mod runs;
mod segments;
mod server;
mod shown;
mod streams;
#[cfg(test)]
mod testing;
mod thumbs;
#[cfg(test)]
mod typescript;
mod values;
mod work;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::{Router, middleware};
use tokio::sync::Notify;

use self::catalogue::Catalogue;
use self::events::Streams;
use self::fleet::FleetReader;
pub(crate) use self::login::CODE_AGE_MAX;
use self::login::Logins;
use self::origin::Origins;
use self::problem::Failure;
use self::runs::KnownRuns;
pub(crate) use self::server::{RunningGallery, bind, serve};
use self::thumbs::Thumbs;
use self::work::Workers;
use crate::config::{GalleryConfig, InEffect};
use crate::fleet::Fleet;
use crate::pace::Pace;
use crate::secrets::{Secret, SecretSource};
use crate::store::Reader;

/// Threads that read the index and journals.
const READING_THREADS: usize = 2;

/// Those of a fleet, which also wait for pictures from the object store.
const FLEET_READING_THREADS: usize = 16;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Gallery(Arc<Shared>);

/// What a gallery shows.
pub(crate) enum GalleryOf {
    /// A store of this machine.
    Store(Reader),
    /// What boxes have delivered to an object store.
    Fleet(Arc<Fleet>),
}

/// What the handlers read.
pub(crate) struct Shared {
    pub(crate) reader: Reader,
    /// The object store that the reader's store is filled from, if it is not one of this machine.
    fleet: Option<FleetReader>,
    pub(crate) config: GalleryConfig,
    /// The settings by which dumps are read.
    pub(crate) in_effect: InEffect,
    /// A random name of this process.
    pub(crate) boot: String,
    /// When the index was read, in seconds since the Unix epoch; `None` if a daemon keeps it current.
    pub(crate) as_of: Option<f64>,
    /// How fast dumps may be read, together with the daemon.
    pub(crate) pace: Arc<Pace>,
    /// Thumbnails that were made.
    pub(crate) thumbs: Thumbs,
    /// Keys and steps of the runs that pages show.
    catalogue: Catalogue,
    /// What was read for the list of runs.
    known_runs: KnownRuns,
    /// The event streams that are open.
    streams: Streams,
    logins: Logins,
    /// A browser has logged in.
    logged_in: Notify,
    /// The tensors that items were made from.
    origins: Origins,
    /// Threads that read the index, journals and small files.
    reading: Workers,
    /// Threads that decode, scale and compare.
    making: Workers,
}

impl Shared {
    /// The memory that one request may take, in bytes.
    fn memory_bytes(&self) -> u64 {
        self.config.memory_bytes_max / self.config.n_threads.max(1) as u64
    }

    /// The object store that boxes deliver to, if the gallery shows a fleet.
    fn fleet(&self) -> Option<&Arc<Fleet>> {
        self.fleet.as_ref().map(FleetReader::fleet)
    }
}

impl Gallery {
    /// Prepares to answer. `free_bytes_min` is `store.free_bytes_min`. `as_of` is when the index was read; `None` if a
    /// daemon keeps it current.
    ///
    /// # Errors
    /// If the token can't be read, or the system has no threads or no random bytes.
    pub(crate) fn new(
        of: GalleryOf,
        config: GalleryConfig,
        in_effect: InEffect,
        pace: Arc<Pace>,
        free_bytes_min: Arc<Mutex<Option<u64>>>,
        as_of: Option<f64>,
        needs_login: bool,
    ) -> anyhow::Result<Self> {
        let (reader, fleet) = match of {
            GalleryOf::Store(reader) => (reader, None),
            GalleryOf::Fleet(fleet) => (fleet.reader().clone(), Some(FleetReader::start(fleet)?)),
        };
        let n_reading = if fleet.is_some() { FLEET_READING_THREADS } else { READING_THREADS };
        let token = config.token.as_ref().map(SecretSource::read).transpose()?;
        let token = token.as_ref().map(Secret::expose);
        Ok(Self(Arc::new(Shared {
            logins: Logins::new(reader.root(), needs_login, token),
            logged_in: Notify::new(),
            thumbs: Thumbs::new(reader.root(), config.thumbnails_bytes_max, free_bytes_min),
            reader,
            fleet,
            boot: login::random_name()?,
            as_of,
            in_effect,
            pace,
            catalogue: Catalogue::default(),
            known_runs: KnownRuns::default(),
            streams: Streams::default(),
            origins: Origins::default(),
            reading: Workers::start("gallery read", n_reading)?,
            making: Workers::start("gallery make", config.n_threads)?,
            config,
        })))
    }

    /// Makes a code that logs a browser in, once, for a time if there is one.
    ///
    /// # Errors
    /// If the system has no random bytes.
    pub(crate) fn login_code(&self, valid: Option<Duration>) -> io::Result<String> {
        self.0.logins.code(valid.map(|valid| Instant::now() + valid))
    }

    /// Waits until a browser logs in.
    pub(crate) async fn logged_in(&self) {
        self.0.logged_in.notified().await;
    }

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
fn routes(gallery: &Gallery) -> Router {
    Router::new()
        .merge(assets::routes())
        .merge(runs::routes())
        .merge(lists::routes())
        .merge(item::routes())
        .merge(items::routes())
        .merge(events::routes())
        .merge(files::routes())
        .merge(annotations::routes())
        .merge(export::routes())
        .merge(values::routes())
        .merge(develop::routes())
        .merge(compare::routes())
        .merge(thumbs::routes())
        .merge(frames::routes())
        .fallback(assets::no_page)
        .layer(middleware::from_fn_with_state(gallery.clone(), fleet::read_named_runs))
        .layer(middleware::from_fn_with_state(gallery.0.clone(), guard::guard))
        .with_state(gallery.clone())
}
