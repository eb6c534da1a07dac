//! What the engine hands to the pipeline: all that comes of one line or dump.

use std::io;
use std::sync::{Arc, OnceLock};

use super::beneath::Dump;
use crate::decode::ReadAt;
use crate::media::{Description, MediaEntry, MediaId, Sha256, Source};
use crate::plan::{CHUNK_BYTES, ImagePlan, Plan, PlannedItem, TensorPlan};
use crate::store::RunInfo;
use crate::store::journal::{Event, SourceCursor};

/// A dump that is being read, and its digest once someone needed it.
#[derive(Debug)]
pub(crate) struct OpenDump {
    pub(crate) file: Dump,
    digest: SharedDigest,
}

/// A dump's digest, for whoever no longer needs the open file.
pub(crate) type SharedDigest = Arc<OnceLock<Result<Sha256, String>>>;

impl OpenDump {
    pub(crate) fn new(file: Dump) -> Self {
        Self { file, digest: SharedDigest::default() }
    }

    /// The digest of the whole dump.
    ///
    /// # Errors
    /// If it can't be read any more.
    pub(crate) fn digest(&self) -> Result<Sha256, String> {
        self.digest.get_or_init(|| digest(&self.file).map_err(|error| error.to_string())).clone()
    }

    /// The digest, once it is known.
    pub(crate) fn shared_digest(&self) -> SharedDigest {
        self.digest.clone()
    }
}

fn digest(dump: &Dump) -> io::Result<Sha256> {
    let mut hasher = <sha2::Sha256 as sha2::Digest>::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut at = 0;
    while at < dump.n_bytes() {
        let n = usize::try_from(dump.n_bytes() - at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        dump.read_exact_at(&mut chunk[..n], at)?;
        sha2::Digest::update(&mut hasher, &chunk[..n]);
        at += n as u64;
    }
    Ok(Sha256::from_hasher(hasher))
}

/// What is to become of one image.
#[derive(Debug)]
pub(crate) enum Task {
    /// Make it.
    Make { id: MediaId, description: Box<Description>, plan: ImagePlan },
    /// Journal this as it is.
    Tell(Event),
}

/// All that comes of one line or dump.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) run: Arc<RunInfo>,
    /// The dump and how to read it; none where no image is to be made.
    pub(crate) dump: Option<(Arc<OpenDump>, Arc<TensorPlan>)>,
    pub(crate) source: Source,
    pub(crate) tasks: Vec<Task>,
    pub(crate) cursor: SourceCursor,
}

impl Unit {
    /// A unit that makes no image: one event, or only the cursor.
    pub(crate) fn told(
        run: &Arc<RunInfo>,
        source: &Source,
        event: Option<Event>,
        cursor: SourceCursor,
    ) -> Self {
        let tasks = event.into_iter().map(Task::Tell).collect();
        Self { run: run.clone(), dump: None, source: source.clone(), tasks, cursor }
    }

    /// A unit that makes the images of a plan.
    pub(crate) fn planned(
        run: &Arc<RunInfo>,
        source: &Source,
        dump: OpenDump,
        plan: Plan,
        cursor: SourceCursor,
    ) -> Self {
        let task = |item: PlannedItem| {
            let PlannedItem { id, description, plan } = item;
            match plan {
                Ok(plan) => Task::Make { id, description: Box::new(description), plan },
                Err(reason) => {
                    let entry = MediaEntry::held(id, reason, description, source.clone());
                    Task::Tell(Event::Media(Box::new(entry)))
                }
            }
        };
        let tasks = plan.items.into_iter().map(task).collect();
        let dump = Some((Arc::new(dump), Arc::new(plan.tensor)));
        Self { run: run.clone(), dump, source: source.clone(), tasks, cursor }
    }
}
