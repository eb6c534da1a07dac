//! What the engine hands to the pipeline: all that comes of one line or dump.

use std::collections::HashMap;
use std::sync::Arc;

use super::beneath::RunDir;
use super::opened::{MaskDump, OpenDump, OpenStorage, SharedDigest};
use crate::media::{Description, HeldAt, MediaEntry, MediaId, Source};
use crate::plan::{ImagePlan, Making, Outcome, Plan, PlannedItem};
use crate::store::RunInfo;
use crate::store::journal::{Event, SourceCursor};
use crate::tensor::Storage;

/// What the images of one tensor or picture are made of.
#[derive(Debug)]
pub(super) struct Material {
    pub(super) dump: Arc<OpenDump>,
    pub(super) making: Making,
    /// Where the tensor's elements lie; none where a file is kept.
    pub(super) storage: Option<Arc<OpenStorage>>,
    pub(super) masks: Vec<MaskDump>,
    pub(super) dir: Arc<RunDir>,
    /// Where the images come from. A digest in it is that of the dump when they were held back.
    pub(super) source: Source,
}

/// What finds an image of a dump again that is held back.
pub(super) fn held_at(dump: &OpenDump, image: u64) -> HeldAt {
    let stamp = dump.file.stamp;
    let mtime_ns = i64::try_from(stamp.mtime_ns).unwrap_or(i64::MAX);
    HeldAt { image, n_bytes: stamp.size, mtime_ns }
}

/// What is to become of one image.
#[derive(Debug)]
pub(super) enum Task {
    /// Make it.
    Make {
        id: MediaId,
        description: Box<Description>,
        plan: Box<ImagePlan>,
        material: Arc<Material>,
    },
    /// Journal this as it is.
    Tell(Event),
}

/// All that comes of one line or dump.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) run: Arc<RunInfo>,
    /// The digest of the dump, once it is known.
    pub(super) digest: Option<SharedDigest>,
    pub(super) tasks: Vec<Task>,
    pub(super) cursor: SourceCursor,
    /// Each storage once: thousands of tensors may be views of the same one.
    storages: HashMap<Storage, Arc<OpenStorage>>,
}

impl Unit {
    /// A unit of nothing but its cursor.
    pub(super) fn new(run: &Arc<RunInfo>, cursor: SourceCursor) -> Self {
        let (tasks, storages) = (Vec::new(), HashMap::new());
        Self { run: run.clone(), digest: None, tasks, cursor, storages }
    }

    /// A unit of one event.
    pub(super) fn told(run: &Arc<RunInfo>, event: Event, cursor: SourceCursor) -> Self {
        Self { tasks: vec![Task::Tell(event)], ..Self::new(run, cursor) }
    }

    /// Adds an event.
    pub(super) fn tell(&mut self, event: Event) {
        self.tasks.push(Task::Tell(event));
    }

    /// Adds an outcome without an image.
    pub(super) fn tell_entry(&mut self, entry: MediaEntry) {
        self.tell(Event::Media(Box::new(entry)));
    }

    /// The images to make, each as a unit of its own that says nothing of how far its source was read:
    /// they were held back, and are released. All else is left out.
    pub(super) fn into_released(self) -> impl Iterator<Item = Self> {
        let Self { run, digest, tasks, .. } = self;
        let is_made = |task: &Task| matches!(task, Task::Make { .. });
        tasks.into_iter().filter(is_made).map(move |task| {
            let (digest, tasks) = (digest.clone(), vec![task]);
            Self { digest, tasks, ..Self::new(&run, SourceCursor::None) }
        })
    }

    /// Adds the images of a plan.
    pub(super) fn add(
        &mut self,
        plan: Plan,
        dump: &Arc<OpenDump>,
        masks: &[MaskDump],
        dir: &Arc<RunDir>,
        source: &Source,
    ) {
        self.digest.get_or_insert_with(|| dump.shared_digest());
        let storage = match &plan.making {
            Making::Tensor(tensor) => {
                let storage = &tensor.header.storage;
                let known = self.storages.entry(storage.clone());
                Some(known.or_insert_with(|| Arc::new(OpenStorage::new(storage.clone()))).clone())
            }
            Making::Keep(_) => None,
        };
        let material = Arc::new(Material {
            dump: dump.clone(),
            making: plan.making,
            storage,
            masks: masks.to_vec(),
            dir: dir.clone(),
            source: source.clone(),
        });
        for PlannedItem { id, image_idx, description, outcome } in plan.items {
            match outcome {
                Outcome::Make(plan) => {
                    let (description, material) = (Box::new(description), material.clone());
                    self.tasks.push(Task::Make { id, description, plan, material });
                }
                Outcome::Hold(reason) => {
                    // The commit adds the digest if it is known by then.
                    dump.note_digest();
                    let held = Some(held_at(dump, image_idx));
                    let source = Source { held, ..source.clone() };
                    self.tell_entry(MediaEntry::held(id, reason, description, source));
                }
                Outcome::Reject(reason) => {
                    let place = Some((id.key, id.step, Some(id.index)));
                    let source = source.clone();
                    self.tell_entry(MediaEntry::rejected(place, reason, description, source));
                }
            }
        }
    }
}
