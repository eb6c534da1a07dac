//! The settings in effect, for those that look them up now and then.

use std::sync::{Arc, Mutex};

use super::Live;
use crate::locks::lock;

/// The settings as the last reload left them. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct InEffect(Arc<Mutex<Arc<Live>>>);

impl InEffect {
    /// These settings are in effect.
    pub(crate) fn new(live: Live) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(live))))
    }

    /// The settings in effect now.
    pub(crate) fn get(&self) -> Arc<Live> {
        lock(&self.0).clone()
    }

    /// Replaces them.
    pub(crate) fn set(&self, live: Live) {
        *lock(&self.0) = Arc::new(live);
    }
}
