//! What to do about a store that cannot be opened.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::anyhow;
use rustix::process::geteuid;

use super::args::Common;
use super::daemon_client::is_held_by_daemon;
use crate::store::StoreError;
use crate::users::{group_name, user_name};

/// Says what to do about a store that another process holds or that this user may not use. Any other error stays.
pub(super) fn with_advice(error: anyhow::Error, store: &Path, common: &Common) -> anyhow::Error {
    let kind = match error.downcast_ref::<StoreError>() {
        Some(StoreError::Held { .. }) if is_held_by_daemon(store) => {
            return error.context(
                "a daemon holds the store: let it watch the directory ([[watch]] in its configuration), or use another \
                 store with --store DIR",
            );
        }
        Some(StoreError::Io(source) | StoreError::File { source, .. }) => source.kind(),
        // What failed is no file of the store: a socket, or a directory to read.
        _ => return error,
    };
    if !matches!(kind, io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) {
        return error;
    }
    let advice = format!(
        "this user may not use {}, {}: use one of your own with --store DIR{}",
        store.display(),
        common.who_names_the_store(),
        advice_to_look(store)
    );
    error.context(advice)
}

/// How a user may look at a store that belongs to a daemon's group.
fn advice_to_look(store: &Path) -> String {
    let Some(meta) =
        fs::metadata(store).ok().filter(|meta| !geteuid().is_root() && meta.gid() != 0)
    else {
        return String::new();
    };
    let group = group_name(meta.gid());
    format!(
        "; to look at this one while its daemon runs, become a member of the group {group} (sudo usermod -aG {group} \
         USER, then log in again)"
    )
}

/// Refuses to let root write to a store of another user, whose daemon could not read root's files.
///
/// # Errors
/// If root would.
pub(super) fn check_owner(store: &Path) -> anyhow::Result<()> {
    let Ok(meta) = fs::metadata(store) else { return Ok(()) };
    if !geteuid().is_root() || meta.uid() == 0 {
        return Ok(());
    }
    let user = user_name(meta.uid());
    Err(anyhow!(
        "the store {} belongs to the user {user}, whose daemon could not read what root writes: start it as {user} \
         (systemctl start safelight, or runuser -u {user} -- safelight daemon DIR…), or use another store with --store \
         DIR",
        store.display()
    ))
}
