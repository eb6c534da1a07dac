//! Root acts as the owner of the store.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context;
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// Changes root to the owner of the store. Files that root makes would be root's, and the daemon could neither read nor
/// replace them. Call this before any thread starts: the change holds for the calling thread and its children.
pub(super) fn act_as_owner_of(store: &Path) -> anyhow::Result<()> {
    let Ok(meta) = std::fs::metadata(store) else { return Ok(()) };
    if !geteuid().is_root() || meta.uid() == 0 {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid()));
    set_thread_groups(&[gid])
        .and_then(|()| set_thread_res_gid(gid, gid, gid))
        .and_then(|()| set_thread_res_uid(uid, uid, uid))
        .with_context(|| format!("cannot act as the owner of {}", store.display()))
}
