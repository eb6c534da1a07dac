//! Renders what it is handed, image by image, and writes the media files aside.

use std::cell::Cell;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::budget::Share;
use super::progress::Progress;
use crate::ingest::make::{Made, Order, Unmade, make};
use crate::ingest::unit::Material;
use crate::media::{Description, MediaEntry, MediaId, RunId};
use crate::plan::{ImagePlan, Making};
use crate::pulse::{self, idle};
use crate::render::Renderer;
use crate::store::RunInfo;
use crate::store::media_dir::{Staged, Staging};
use crate::store::space::Space;

/// How long a failed write waits before it is tried again, first and at most.
pub(in crate::ingest) const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// An image to make.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) run: Arc<RunInfo>,
    pub(super) id: MediaId,
    pub(super) description: Box<Description>,
    pub(super) plan: Box<ImagePlan>,
    pub(super) material: Arc<Material>,
    pub(super) place: Place,
}

impl Job {
    /// How much work it is: the pixels of the image, and of a file that is kept its bytes.
    pub(super) fn n_pixels(&self) -> u64 {
        match &self.material.making {
            Making::Tensor(tensor) => tensor.width.saturating_mul(tensor.height),
            Making::Keep(picture) => picture.n_bytes,
        }
    }
}

/// Where an image belongs: the number of its unit, and its slot there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) unit: u64,
    pub(super) slot: usize,
}

/// Images to make, one after the other: handed over together, since waking a thread costs as much
/// as making a small image.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) jobs: Vec<Job>,
    #[expect(dead_code, reason = "given back when dropped")]
    pub(super) memory: Share,
}

/// What came of an image.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is kept, its files written aside; or rejected.
    Done(Box<MediaEntry>, Vec<Staged>),
    /// The dump could not be read whole, for this reason; it may be later. As an item it is rejected.
    Unread(Box<MediaEntry>, String),
    /// The program stops and the disk takes nothing: it stays to be done.
    GivenUp,
}

/// What came of a bundle.
pub(super) type Results = Vec<(Place, Outcome)>;

/// What a worker writes before it looks again whether there is room for more: files, and bytes.
const UNCHECKED_FILES_MAX: u64 = 32;
const UNCHECKED_BYTES_MAX: u64 = 1 << 20;

/// Where a worker writes, and whom it tells.
#[derive(Debug, Clone)]
pub(in crate::ingest) struct Writing {
    pub(in crate::ingest) staging: Staging,
    space: Space,
    progress: Arc<Progress>,
    stop: Arc<AtomicBool>,
    /// Files, and their bytes, that may be written without a look.
    unchecked: Cell<(u64, u64)>,
}

/// Works until no more bundles come.
pub(super) fn work_all(bundles: &Receiver<Bundle>, results: &Sender<Results>, writing: &Writing) {
    let mut renderer = Renderer::default();
    while let Ok(bundle) = idle(|| bundles.recv()) {
        let mut outcomes = Results::with_capacity(bundle.jobs.len());
        for job in bundle.jobs {
            outcomes.push((job.place, work(job, &mut renderer, writing)));
        }
        // The committer is gone only if it gave up.
        if idle(|| results.send(outcomes)).is_err() {
            return;
        }
    }
}

/// Makes one image, and writes it aside.
fn work(job: Job, renderer: &mut Renderer, writing: &Writing) -> Outcome {
    let Job { run, id, description, plan, material, .. } = &job;
    let order = Order { run: &run.id, id, description, plan, material };
    // A bug in a decoder must not cost the other images: it rejects the one that it met.
    let made = panic::catch_unwind(AssertUnwindSafe(|| make(&order, renderer, writing)));
    let made = made.unwrap_or_else(|_| {
        *renderer = Renderer::default();
        Err(Unmade::Failed("the conversion panicked, which is a bug".to_owned()))
    });
    let Job { id, description, material, .. } = job;
    let rejected = |reason| {
        let (place, source) = ((id.key, id.step, Some(id.index)), material.source.clone());
        Box::new(MediaEntry::rejected(Some(place), reason, *description, source))
    };
    match made {
        Ok(Made { entry, staged }) => Outcome::Done(entry, staged),
        Err(Unmade::Failed(reason)) => Outcome::Done(rejected(reason), Vec::new()),
        Err(Unmade::Unread(reason)) => Outcome::Unread(rejected(reason.clone()), reason),
        Err(Unmade::GivenUp) => Outcome::GivenUp,
    }
}

impl Writing {
    pub(super) fn new(
        staging: Staging,
        space: Space,
        progress: Arc<Progress>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self { staging, space, progress, stop, unchecked: Cell::default() }
    }

    /// Checks that the disk has room, now and then.
    fn check_room(&self, n_bytes: u64) -> io::Result<()> {
        let (n_files, n_left) = self.unchecked.get();
        let (files, left) = match n_left.checked_sub(n_bytes) {
            Some(n_left) if n_files > 0 => (n_files, n_left),
            _ => {
                self.unchecked.take();
                self.space.check().map_err(io::Error::other)?;
                (UNCHECKED_FILES_MAX, UNCHECKED_BYTES_MAX)
            }
        };
        self.unchecked.set((files - 1, left));
        Ok(())
    }

    /// Writes a media file aside as soon as there is room for it; `None` if the program was stopped
    /// meanwhile.
    pub(in crate::ingest) fn write(&self, run: &RunId, path: &str, bytes: &[u8]) -> Option<Staged> {
        retried("media file", &self.progress, &self.stop, || {
            self.check_room(bytes.len() as u64)?;
            let written = self.staging.write(run, path, bytes);
            if written.is_err() {
                self.unchecked.take();
            }
            written
        })
    }
}

/// Does `action` until it succeeds; `None` if it was stopped meanwhile.
pub(super) fn retried<T, E: std::fmt::Display>(
    what: &str,
    progress: &Progress,
    stop: &AtomicBool,
    mut action: impl FnMut() -> Result<T, E>,
) -> Option<T> {
    let mut delay = RETRY_FIRST;
    let mut attempt = 0u32;
    loop {
        pulse::beat();
        match action() {
            Ok(value) => {
                if attempt > 0 {
                    tracing::info!(what, attempt, "writing goes on");
                    progress.set_trouble(None);
                }
                return Some(value);
            }
            Err(error) => {
                attempt += 1;
                if attempt == 1 {
                    tracing::error!(what, %error, "cannot write, will retry");
                }
                progress.set_trouble(Some(format!("{what}: {error}")));
            }
        }
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        thread::sleep(delay);
        delay = (delay * 2).min(RETRY_MAX);
    }
}
