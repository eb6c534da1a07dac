//! How long a batch that is not full waits for more items.

use std::time::Duration;

use tokio::time::Instant;

/// The wait of a batch that is not full.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum BatchWait {
    /// Nothing waits yet.
    #[default]
    Idle,
    /// The first item was seen then.
    Since(Instant),
    /// The batch goes as it is.
    Over,
}

impl BatchWait {
    /// Sends the batch now.
    pub(super) fn end(&mut self) {
        *self = Self::Over;
    }

    /// Begins the wait, if it has not begun. Returns whether it lasts.
    pub(super) fn goes_on(&mut self, at_most: Duration) -> bool {
        let since = match *self {
            Self::Idle => Instant::now(),
            Self::Since(since) => since,
            Self::Over => return false,
        };
        *self = Self::Since(since);
        since.elapsed() < at_most
    }
}
