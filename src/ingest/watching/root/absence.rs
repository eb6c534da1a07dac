//! Why a watched directory is not there, as far as this process can see.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::shell::{quoted, quoted_path};
use crate::users::{own_name, user_name};

/// Says why a directory cannot be reached, and what to do about it. `None` if it can.
pub(super) fn absence(path: &Path) -> Option<String> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => None,
        Ok(_) => Some("the directory is missing: a file is in its place".to_owned()),
        Err(error) => Some(match error.kind() {
            io::ErrorKind::NotFound => {
                let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
                missing(path, &mounts)
            }
            io::ErrorKind::PermissionDenied => forbidden(path),
            _ => format!("the directory cannot be reached: {error}"),
        }),
    }
}

/// Says that a directory does not exist. Under systemd's `PrivateTmp=`, it may exist for all others.
fn missing(path: &Path, mounts: &str) -> String {
    let is_private = |temp: &str| {
        // The fourth field is the mounted folder, the fifth the place.
        let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let mut of_temp = fields.filter(|fields| fields.get(4) == Some(&temp));
        of_temp.any(|fields| fields.get(3).is_some_and(|from| from.contains("systemd-private-")))
    };
    let temp = ["/var/tmp", "/tmp"].into_iter().find(|temp| path.starts_with(temp));
    match temp.filter(|temp| is_private(temp)) {
        Some(temp) => format!(
            "the directory is missing: the systemd unit has a {temp} of its own; use another directory, or set \
             PrivateTmp=no in a drop-in (systemctl edit safelight)"
        ),
        None => "the directory is missing".to_owned(),
    }
}

/// Says which folder above a directory this process may not enter.
fn forbidden(path: &Path) -> String {
    let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
    above.reverse();
    let is_closed = |folder: &&Path| {
        let inner = path.strip_prefix(folder).ok().and_then(|rest| rest.components().next());
        inner.is_some_and(|inner| {
            let error = fs::metadata(folder.join(inner)).err();
            error.is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        })
    };
    let closed = above.into_iter().find(is_closed);
    let of_folder = closed.and_then(|folder| Some((folder, fs::metadata(folder).ok()?)));
    let me = own_name();
    match of_folder {
        Some((folder, meta)) => {
            let (owner, mode) = (user_name(meta.uid()), meta.mode() & 0o777);
            let command = may_enter(&me, folder);
            let folder = folder.display();
            format!(
                "the directory cannot be reached: the user {me} may not enter {folder} (mode {mode:04o}, of {owner}); \
                 allow it with: {command}"
            )
        }
        None => format!(
            "the directory cannot be reached: the user {me} may not enter a folder above it"
        ),
    }
}

/// The command that lets a user enter a folder.
fn may_enter(user: &str, folder: &Path) -> String {
    format!("setfacl -m {} {}", quoted(&format!("u:{user}:x")), quoted_path(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_pasted_whatever_the_folder_is_called() {
        let command = may_enter("ada", Path::new("/data/my runs"));
        assert_eq!(command, "setfacl -m u:ada:x '/data/my runs'");
    }

    #[test]
    fn a_directory_in_a_private_tmp_names_the_setting() {
        let mounts = "\
36 35 98:0 / / rw,noatime - ext4 /dev/root rw
40 36 98:0 /tmp/systemd-private-1b-safelight.service-x/tmp /tmp rw - ext4 /dev/root rw
";
        let text = missing(Path::new("/tmp/runs"), mounts);
        assert!(text.contains("PrivateTmp=no"), "{text}");
        for path in ["/var/tmp/runs", "/data/runs", "/tmpx"] {
            assert_eq!(missing(Path::new(path), mounts), "the directory is missing");
        }
    }

    #[test]
    fn what_is_there_is_told_from_what_is_not() {
        let temp = tempfile::tempdir().expect("a folder");
        assert_eq!(absence(temp.path()), None);
        let file = temp.path().join("file");
        fs::write(&file, "").expect("a file");
        let text = absence(&file);
        assert_eq!(text.as_deref(), Some("the directory is missing: a file is in its place"));
        let text = absence(&temp.path().join("none"));
        assert_eq!(text.as_deref(), Some("the directory is missing"));
    }
}
