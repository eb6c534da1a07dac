//! Digests of dumps that may have been read before, computed a slice at a time.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use super::OpenDump;
use crate::media::{Digest, DigestKind};
use crate::store::journal::Stamp;

/// The bytes of a dump that are read in one turn.
const SLICE_BYTES: u64 = 32 << 20;

/// The most dumps that are kept open between turns. The one that was kept longest is closed, and read from its
/// start when it is compared next.
const OPEN_MAX: usize = 16;

/// Dumps of which a part was read for their digest.
#[derive(Debug, Default)]
pub(crate) struct Comparing {
    begun: VecDeque<(Stamp, Arc<OpenDump>)>,
}

impl Comparing {
    /// Reads on for the digest of a dump. Returns `None` if more is left: then this is called again with the dump,
    /// which may have been opened anew.
    ///
    /// # Errors
    /// If the dump cannot be read.
    pub(crate) fn digest(
        &mut self,
        dump: &Arc<OpenDump>,
        kind: DigestKind,
    ) -> io::Result<Option<Digest>> {
        let stamp = dump.file.stamp();
        let at = self.begun.iter().position(|(of, _)| *of == stamp);
        let begun = at.and_then(|at| self.begun.remove(at)).map(|(_, begun)| begun);
        let begun = begun.unwrap_or_else(|| dump.clone());
        let Some(digest) = begun.digest_slice(SLICE_BYTES)? else {
            if self.begun.len() == OPEN_MAX {
                self.begun.pop_front();
            }
            self.begun.push_back((stamp, begun));
            return Ok(None);
        };
        dump.set_digest(digest);
        // Another kind is asked for only after `work.dump_digest` was changed.
        if digest.kind() == kind { Ok(Some(digest)) } else { dump.file.digest(kind).map(Some) }
    }
}
