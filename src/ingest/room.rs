//! Whether the store's disk has room for more.

use crate::store::space::{Full, Space};

/// Checks the room on the store's disk, and remembers whether there was any.
#[derive(Debug)]
pub(super) struct Room {
    space: Space,
    full: Option<Full>,
}

impl Room {
    pub(super) fn new(space: Space) -> Self {
        Self { space, full: None }
    }

    /// Checks whether there is room. Logs if that has changed.
    pub(super) fn check(&mut self) -> bool {
        let full = self.space.check().err();
        match (&self.full, &full) {
            (None, Some(full)) => tracing::error!(error = %full, "nothing more is committed"),
            (Some(_), None) => tracing::info!("the store's disk has room again"),
            _ => {}
        }
        self.full = full;
        full.is_none()
    }

    /// Why there was no room at the last check.
    pub(super) fn full(&self) -> Option<Full> {
        self.full
    }
}
