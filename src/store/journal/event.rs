//! The lines of a journal: their content, and the outline that the index needs.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{JournalOffset, SourceCursor};
use crate::media::{MediaEntry, MediaId, MediaKey, RejectionClass, State, Step};

/// The content of a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Event {
    /// An image, or an item that was held or rejected.
    Media(Box<MediaEntry>),
    /// The job said that a step is complete.
    Commit { step: Step },
    /// A new version of a dump, or a later session of the job, has no image at a place where an earlier one
    /// had one.
    Gone {
        #[serde(flatten)]
        id: MediaId,
        /// The dump.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
    },
    /// Retention removed the files of an image. The image stays listed.
    Pruned {
        #[serde(flatten)]
        id: MediaId,
        /// Where the line of the image begins. A later version of the image has another line.
        place: JournalOffset,
    },
    /// A line of a log makes no item, because it was read before: its log is a copy, was rotated by copy
    /// and truncate, or was rewritten.
    Repeated,
    /// A line of a log makes no item, because a later session of the job has replaced what it describes.
    Superseded,
    /// A waiting item was tried again. The other lines of the batch say what came of it.
    Retried {
        /// Where the line of the waiting item begins.
        place: JournalOffset,
        /// The dump, if its path describes it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
    },
    /// The run's identity: the content of `safelight.json`.
    Run { identity: Map<String, Value> },
    /// The job said that the run is finished.
    Finish,
    /// Nothing but the cursor.
    Cursor,
}

/// A line of the journal. A line that is written borrows its parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line<E = Event, C = SourceCursor> {
    pub(crate) seq: u64,
    #[serde(flatten)]
    pub(crate) event: E,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub(crate) cursor: Option<C>,
}

/// The part of a line that the index needs. It is cheap to read and borrows from a line that is written.
#[derive(Debug, Deserialize)]
pub(crate) struct Outline<'a> {
    pub(crate) seq: u64,
    pub(crate) kind: Cow<'a, str>,
    pub(crate) state: Option<State>,
    /// Of a rejected item.
    class: Option<RejectionClass>,
    key: Option<Cow<'a, MediaKey>>,
    step: Option<Step>,
    index: Option<u32>,
    /// For an image that is gone and a waiting item that was tried again, its dump; else a media file.
    pub(crate) path: Option<Cow<'a, str>>,
    /// For an image that was pruned and a waiting item that was tried again, where its line begins.
    pub(crate) place: Option<JournalOffset>,
    pub(crate) source: Option<OutlineSource<'a>>,
    pub(crate) cursor: Option<Cow<'a, SourceCursor>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct OutlineSource<'a> {
    pub(crate) path: Cow<'a, str>,
    pub(crate) log: Option<Cow<'a, str>>,
    session: Option<Cow<'a, str>>,
    rank: Option<u32>,
    #[serde(default)]
    missing: Cow<'a, [String]>,
}

impl OutlineSource<'_> {
    /// The session and the rank that wrote the line, if the log names them.
    pub(crate) fn writer(&self) -> Option<(&str, u32)> {
        Some((self.session.as_deref()?, self.rank.unwrap_or(0)))
    }
}

impl<'a> Outline<'a> {
    /// The outline of a line that is written.
    pub(crate) fn of(seq: u64, event: &'a Event, cursor: Option<&'a SourceCursor>) -> Self {
        let mut outline = Self {
            seq,
            kind: Cow::Borrowed(""),
            state: None,
            class: None,
            key: None,
            step: None,
            index: None,
            path: None,
            place: None,
            source: None,
            cursor: cursor.map(Cow::Borrowed),
        };
        let mut set_id = |id: &'a MediaId| {
            outline.key = Some(Cow::Borrowed(&id.key));
            (outline.step, outline.index) = (Some(id.step), Some(id.index));
        };
        match event {
            Event::Media(entry) => {
                let source = &entry.source;
                outline.kind = Cow::Borrowed("media");
                outline.state = Some(entry.state());
                outline.class = entry.is_waiting().then_some(RejectionClass::Waiting);
                outline.key = entry.key().map(Cow::Borrowed);
                (outline.step, outline.index) = (entry.step(), entry.index());
                outline.source = Some(OutlineSource {
                    path: Cow::Borrowed(&source.path),
                    log: source.log.as_deref().map(Cow::Borrowed),
                    session: source.session.as_deref().map(Cow::Borrowed),
                    rank: source.rank,
                    missing: Cow::Borrowed(&source.missing),
                });
            }
            Event::Retried { place, path } => {
                outline.kind = Cow::Borrowed("retried");
                outline.place = Some(*place);
                outline.path = path.as_deref().map(Cow::Borrowed);
            }
            Event::Gone { id, path } => {
                set_id(id);
                outline.kind = Cow::Borrowed("gone");
                outline.path = path.as_deref().map(Cow::Borrowed);
            }
            Event::Pruned { id, place } => {
                set_id(id);
                outline.kind = Cow::Borrowed("pruned");
                outline.place = Some(*place);
            }
            Event::Repeated => outline.kind = Cow::Borrowed("repeated"),
            Event::Superseded => outline.kind = Cow::Borrowed("superseded"),
            Event::Finish => outline.kind = Cow::Borrowed("finish"),
            Event::Commit { .. } | Event::Run { .. } | Event::Cursor => {}
        }
        outline
    }

    /// Whether files of masks or annotations were missing when the image was made.
    pub(crate) fn is_lacking(&self) -> bool {
        self.source.as_ref().is_some_and(|source| !source.missing.is_empty())
    }

    /// Whether the item was rejected, and is tried again.
    pub(crate) fn is_waiting(&self) -> bool {
        self.class == Some(RejectionClass::Waiting)
    }

    /// The key and the step, if the line has both.
    pub(crate) fn key_and_step(&self) -> Option<(&MediaKey, Step)> {
        Some((self.key.as_deref()?, self.step?))
    }

    /// The place of an image, if the line has all of it.
    pub(crate) fn id(&self) -> Option<(&MediaKey, Step, u32)> {
        Some((self.key.as_deref()?, self.step?, self.index?))
    }
}
