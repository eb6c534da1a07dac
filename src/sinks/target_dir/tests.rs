use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

type Bring = fn(&TargetDir, &Path, &Path) -> io::Result<()>;

fn target_dir() -> (TempDir, TargetDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = TargetDir::new(folder.path(), Disk::default());
    (folder, dir)
}

fn text<T>(result: io::Result<T>) -> String {
    result.err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn no_operation_follows_a_link() {
    let (folder, dir) = target_dir();
    let outside = tempfile::tempdir().expect("a folder");
    let victim = outside.path().join("file");
    fs::write(&victim, "kept").expect("a file");
    fs::write(folder.path().join("plain"), "plain").expect("a file");
    symlink(&victim, folder.path().join("file")).expect("a link");
    symlink(outside.path(), folder.path().join("folder")).expect("a link");
    symlink(outside.path().join("gone"), folder.path().join("dangling")).expect("a link");
    let plain = folder.path().join("plain");
    for path in ["file", "folder/file", "folder/new", "dangling"].map(Path::new) {
        for (operation, error) in [
            ("open", text(dir.open(path))),
            ("read", text(dir.open_to_read(path))),
            ("append", text(dir.open_to_append(path))),
            ("create", text(dir.create_new(path))),
            ("write", text(dir.write_once(path, b"new"))),
            ("link", text(dir.link(&plain, path))),
            ("copy", text(dir.copy(&plain, path))),
            ("rename", text(dir.rename_to_new(Path::new("plain"), path))),
            ("folder", text(dir.create_dir_all(path))),
            ("list", text(dir.entries(path))),
            ("sync", text(dir.sync_dir(path))),
            ("remove all", text(dir.remove_dir_all(path))),
        ] {
            assert!(error.contains("found a symbolic link"), "{operation} {path:?}: {error:?}");
        }
    }
    assert!(text(dir.remove_file(Path::new("folder/file"))).contains("symbolic link"));
    assert_eq!(fs::read(&victim).expect("a file"), b"kept");
    assert_eq!(fs::read_dir(outside.path()).expect("a folder").count(), 1);
    assert_eq!(
        fs::read_dir(folder.path()).expect("a folder").count(),
        4,
        "no temporary file stays"
    );
    // Removal deletes the link and not its target, alone or with its folder.
    dir.remove_file(Path::new("file")).expect("a link");
    fs::create_dir(folder.path().join("real")).expect("a folder");
    fs::rename(folder.path().join("folder"), folder.path().join("real/link")).expect("a link");
    dir.remove_dir_all(Path::new("real")).expect("a folder");
    assert_eq!(fs::read(&victim).expect("a file"), b"kept");
}

#[test]
fn the_targets_own_directory_may_be_a_link() {
    let (folder, _) = target_dir();
    fs::create_dir(folder.path().join("real")).expect("a folder");
    symlink("real", folder.path().join("link")).expect("a link");
    let dir = TargetDir::new(&folder.path().join("link"), Disk::default());
    dir.create_dir_all(Path::new("a/b")).expect("folders");
    dir.write_once(Path::new("a/b/c"), b"bytes").expect("a file");
    assert_eq!(fs::read(folder.path().join("real/a/b/c")).expect("a file"), b"bytes");
}

#[test]
fn only_regular_files_below_the_directory_are_opened() {
    let (folder, dir) = target_dir();
    fs::create_dir(folder.path().join("folder")).expect("a folder");
    fs::write(folder.path().join("file"), "").expect("a file");
    rustix::fs::mkfifoat(CWD, folder.path().join("fifo"), Mode::RUSR | Mode::WUSR).expect("a FIFO");
    for (path, want) in [
        ("fifo", "got a FIFO, want a regular file"),
        ("folder", "got a directory, want a regular file"),
        ("file/below", "got a regular file, want a directory"),
        ("../x", "leaves the target's directory"),
        ("/etc/x", "leaves the target's directory"),
    ] {
        let error = text(dir.open(Path::new(path)));
        assert!(error.contains(want), "{path}: {error}");
    }
    let missing = dir.open(Path::new("none/below")).expect_err("nothing there");
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_file_is_linked_or_copied_once() {
    let (folder, dir) = target_dir();
    let from = folder.path().join("from");
    fs::write(&from, b"pixels").expect("a file");
    dir.create_dir_all(Path::new("c")).expect("a folder");
    for (name, bring) in [("a/b/link", TargetDir::link as Bring), ("c/copy", TargetDir::copy)] {
        let to = Path::new(name);
        bring(&dir, &from, to).expect("a file");
        assert_eq!(fs::read(folder.path().join(name)).expect("a file"), b"pixels");
        dir.link(&from, to).expect("an existing file");
        dir.copy(&from, to).expect("an existing file");
    }
    let gone =
        dir.link(&folder.path().join("gone"), Path::new("d/e")).expect_err("nothing to link");
    assert_eq!(gone.kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_file_with_other_content_is_not_overwritten() {
    let (folder, dir) = target_dir();
    let path = Path::new("file");
    dir.write_once(path, b"bytes").expect("a file");
    dir.write_once(path, b"bytes").expect("the same file");
    let error = text(dir.write_once(path, b"other"));
    assert!(error.contains("a file that Safelight did not write"), "{error}");
    let error = text(dir.rename_to_new(path, path));
    assert!(error.contains("a file that Safelight did not write"), "{error}");
    assert_eq!(fs::read(folder.path().join("file")).expect("a file"), b"bytes");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
}

#[test]
fn a_file_with_another_name_is_read_and_not_written() {
    let (folder, dir) = target_dir();
    let outside = tempfile::tempdir().expect("a folder");
    let victim = outside.path().join("journal");
    fs::write(&victim, "kept").expect("a file");
    fs::hard_link(&victim, folder.path().join("file")).expect("a link");
    let path = Path::new("file");
    for (operation, error) in
        [("open", text(dir.open(path))), ("append", text(dir.open_to_append(path)))]
    {
        assert!(error.contains("other names (hard links)"), "{operation}: {error:?}");
        assert!(error.contains("file") && error.contains("move it away"), "{operation}: {error:?}");
    }
    assert_eq!(text(dir.write_once(path, b"kept")), "");
    assert!(text(dir.write_once(path, b"new")).contains("did not write"));
    assert_eq!(text(dir.open_to_read(path)), "");
    assert_eq!(fs::read(&victim).expect("a file"), b"kept");
}
