//! The thread of one target.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Sender, bounded};

use super::SyncError;
use super::progress::{ChangeSignal, ProgressBoard};
use super::worker::{Worker, WorkerControl};
use crate::config::SyncConfig;
use crate::config::sync::TargetConfig;
use crate::sinks::Target;
use crate::sinks::mlflow::MlflowTarget;
use crate::sinks::object_store::ObjectStoreTarget;
use crate::sinks::tensorboard::TensorboardTarget;
use crate::sinks::trackio::TrackioTarget;
use crate::sinks::wandb::WandbTarget;
use crate::store::Reader;

/// How long a thread delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeliveryMode {
    /// Until the backlog is delivered, or its delivery failed several times.
    Once,
    /// Until the thread is stopped.
    Continuous,
}

/// The result of a thread: whether it delivered the whole backlog, apart from parked items.
pub(super) type ThreadHandle = JoinHandle<bool>;

/// A target's thread.
pub(super) struct TargetThread {
    pub(super) config: SyncConfig,
    pub(super) control: Arc<WorkerControl>,
    pub(super) board: ProgressBoard,
    pub(super) handle: ThreadHandle,
}

/// A started thread that waits for [`Self::begin`]. It ends without any work if this is dropped.
pub(super) struct WaitingThread {
    thread: TargetThread,
    begin: Sender<Option<ThreadHandle>>,
}

impl WaitingThread {
    /// Starts a thread, which signals each progress through `changes`.
    ///
    /// # Errors
    /// If the system starts no thread.
    pub(super) fn start(
        reader: Reader,
        config: SyncConfig,
        mode: DeliveryMode,
        changes: &ChangeSignal,
    ) -> Result<Self, SyncError> {
        let control = Arc::<WorkerControl>::default();
        let board = ProgressBoard::new(changes.clone());
        let name = config.name.clone();
        let parts = (config.clone(), control.clone(), board.clone());
        let (begin, begins) = bounded::<Option<ThreadHandle>>(1);
        let handle = thread::Builder::new().name(format!("sync-{name}")).spawn(move || {
            let (config, control, board) = parts;
            let _end = board.end_on_drop();
            let Ok(previous) = begins.recv() else { return false };
            // Whether it delivered all, or panicked, makes no difference here.
            drop(previous.map(JoinHandle::join));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => {
                    let delivered =
                        runtime.block_on(deliver(reader, config, board.clone(), &control, mode));
                    // Does not wait for a name look-up that hangs.
                    runtime.shutdown_background();
                    delivered
                }
                Err(error) => {
                    tracing::error!(target_name = config.name, %error, "cannot start delivery to target");
                    false
                }
            }
        });
        let handle = handle.map_err(|source| SyncError::Thread { name, source })?;
        Ok(Self { thread: TargetThread { config, control, board, handle }, begin })
    }

    pub(super) fn target(&self) -> &str {
        &self.thread.config.name
    }

    /// Lets the thread deliver, once the target's previous thread has ended: two threads would deliver twice.
    pub(super) fn begin(self, previous: Option<ThreadHandle>) -> TargetThread {
        // Has room for one message. If the thread is gone, its board says so.
        drop(self.begin.send(previous));
        self.thread
    }
}

/// Delivers to the sink of the target's kind.
async fn deliver(
    reader: Reader,
    config: SyncConfig,
    board: ProgressBoard,
    control: &WorkerControl,
    mode: DeliveryMode,
) -> bool {
    let kind = config.kind.clone();
    let parts = (reader, config, board);
    match kind {
        TargetConfig::Wandb(settings) => {
            deliver_to::<WandbTarget>(parts, settings, control, mode).await
        }
        TargetConfig::Tensorboard(settings) => {
            deliver_to::<TensorboardTarget>(parts, settings, control, mode).await
        }
        TargetConfig::Mlflow(settings) => {
            deliver_to::<MlflowTarget>(parts, settings, control, mode).await
        }
        TargetConfig::Trackio(settings) => {
            deliver_to::<TrackioTarget>(parts, settings, control, mode).await
        }
        TargetConfig::ObjectStore(settings) => {
            deliver_to::<ObjectStoreTarget>(parts, settings, control, mode).await
        }
    }
}

/// Runs a worker to its end. Returns whether it delivered the whole backlog.
async fn deliver_to<T: Target>(
    (reader, config, board): (Reader, SyncConfig, ProgressBoard),
    settings: T::Config,
    control: &WorkerControl,
    mode: DeliveryMode,
) -> bool {
    let worker = Worker::<T>::new(reader, config, settings, board);
    match mode {
        DeliveryMode::Once => worker.deliver_once(control).await,
        DeliveryMode::Continuous => {
            worker.deliver_until_stopped(control).await;
            true
        }
    }
}
