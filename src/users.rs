//! Names of users and groups, for messages.

use rustix::process::geteuid;

/// The name of a user in `/etc/passwd`, else the number.
pub(crate) fn user_name(id: u32) -> String {
    name_of("/etc/passwd", id)
}

/// The name of a group in `/etc/group`, else the number.
pub(crate) fn group_name(id: u32) -> String {
    name_of("/etc/group", id)
}

/// The name of the user that this process runs as.
pub(crate) fn own_name() -> String {
    user_name(geteuid().as_raw())
}

fn name_of(file: &str, id: u32) -> String {
    let (text, id) = (std::fs::read_to_string(file).unwrap_or_default(), id.to_string());
    let of_id = |line: &&str| line.split(':').nth(2) == Some(&id);
    let name = text.lines().find(of_id).and_then(|line| line.split(':').next());
    name.map_or_else(|| id.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_and_unknown_numbers_stay() {
        assert_eq!((user_name(0), group_name(0)), ("root".to_owned(), "root".to_owned()));
        assert_eq!(user_name(4_000_000_000), "4000000000");
    }
}
