//! Links in the directory of the target.

use super::*;

#[test]
fn links_in_the_directory_are_not_followed() {
    // If a segment's name is in use, the segment gets a later name. Staged files are swept at the start.
    let is_avoided = |path: &str| path.contains("offline-run-") || path.contains("/staged/");
    let root = |folder: &Folder| folder.place.path().to_owned();
    block_on(contract::check_links(Folder::new, root, is_avoided));
}

/// Returns the path of the open segment's log.
fn open_log(folder: &Folder) -> PathBuf {
    let run = fs::read_dir(folder.place.path().join("open")).expect("a folder").next();
    let run = run.expect("a run").expect("an entry").path();
    let entries = fs::read_dir(run).expect("a folder").map(|entry| entry.expect("an entry").path());
    let segment = entries.into_iter().find(|path| path.to_string_lossy().contains("offline-run"));
    let mut files = fs::read_dir(segment.expect("a segment")).expect("a folder");
    files
        .find_map(|file| {
            let path = file.expect("an entry").path();
            path.extension().is_some_and(|end| end == "wandb").then_some(path)
        })
        .expect("a log")
}

#[test]
fn links_in_an_open_segment_are_not_followed() {
    let mut images = Images::new();
    let items: Vec<Delivery> = (0..4).map(|step| images.image("k", step, 0)).collect();
    let journal = images.folder().join("00000001.log");
    for is_log in [true, false] {
        let folder = Folder::new();
        fs::write(&journal, "a journal").expect("a journal");
        block_on(async {
            let mut sink = folder.sink();
            sink.resume(None).await.expect("a target");
            let receipt = deliver(&mut sink, &items[..2]).await;
            let log = open_log(&folder);
            let link = if is_log { log.clone() } else { log.with_file_name("files") };
            let aside = folder.place.path().join("aside");
            fs::rename(&link, &aside).expect("a move");
            let outside = tempfile::tempdir().expect("a folder");
            let behind = if is_log { journal.as_path() } else { outside.path() };
            std::os::unix::fs::symlink(behind, &link).expect("a link");
            sink.put(&items[2]).await.expect("a file");
            let error = sink.commit(&items[2..3]).await.expect_err("a link");
            assert!(error.to_string().contains("symbolic link"), "{error}");
            let mut sink = folder.sink();
            if is_log {
                let error = sink.resume(Some(&receipt)).await.expect_err("a link");
                assert!(matches!(error, SinkError::Retry { .. }), "{error}");
                assert!(error.to_string().contains("symbolic link"), "{error}");
            }
            assert_eq!(fs::read(&journal).expect("a journal"), b"a journal");
            assert_eq!(fs::read_dir(outside.path()).expect("a folder").count(), 0);
            fs::remove_file(&link).expect("a link");
            if is_log {
                // Checks a file that Safelight did not write as a log, and hard links to it and to the log itself.
                fs::write(&journal, [b'x'; 9000]).expect("a journal");
                fs::copy(&journal, &link).expect("a copy");
                let error = sink.resume(Some(&receipt)).await.expect_err("not ours");
                assert!(error.to_string().contains("did not write"), "{error}");
                for other in [&journal, &aside] {
                    let n_bytes = fs::metadata(other).expect("a file").len();
                    fs::remove_file(&link).expect("a file");
                    fs::hard_link(other, &link).expect("a link");
                    let error = sink.resume(Some(&receipt)).await.expect_err("a hard link");
                    assert!(error.to_string().contains("other names (hard links)"), "{error}");
                    assert_eq!(fs::metadata(other).expect("a file").len(), n_bytes);
                }
                fs::remove_file(&link).expect("a link");
            }
            fs::rename(&aside, &link).expect("a move");
            sink.resume(Some(&receipt)).await.expect("a target");
            deliver(&mut sink, &items[2..]).await;
            rest(&mut sink, Rest::Finished).await;
            assert_eq!(folder.segments()[0].steps(), [0, 1, 2, 3]);
        });
    }
}

#[test]
fn a_link_in_the_staging_folder_is_swept_and_what_is_behind_it_stays() {
    // Regression: the sweep followed links to folders and removed the files in them.
    let (folder, mut images) = (Folder::new(), Images::new());
    let outside = tempfile::tempdir().expect("a folder");
    fs::write(outside.path().join("kept"), "kept").expect("a file");
    block_on(async {
        let mut sink = folder.sink();
        sink.resume(None).await.expect("a target");
        sink.put(&images.image("k", 1, 0)).await.expect("a file");
        let staged = folder.place.path().join(sink.segments.folder()).join("staged");
        std::os::unix::fs::symlink(outside.path(), staged.join("link")).expect("a link");
        folder.sink().resume(None).await.expect("a target");
        assert!(!staged.join("link").is_symlink());
    });
    assert_eq!(fs::read(outside.path().join("kept")).expect("a file"), b"kept");
}

#[test]
fn links_in_the_folder_of_an_upload_are_not_followed() {
    let tools = tempfile::tempdir().expect("a folder");
    let mut images = Images::new();
    let item = images.image("k", 1, 0);
    let journal = images.folder().join("00000001.log");
    fs::write(&journal, "a journal").expect("a journal");
    let folder = Folder::with(|config| {
        config.command = player(tools.path(), "echo 'wandb: View run r'\nmark");
    });
    block_on(async {
        let mut sink = folder.sink();
        sink.resume(None).await.expect("a target");
        deliver(&mut sink, &[item]).await;
        sink.rest(Rest::Finished).await.expect("a target").expect("a receipt");
        let uploads = folder.place.path().join("uploads");
        let name =
            open_log(&folder).parent().expect("a folder").file_name().expect("a name").to_owned();
        fs::create_dir_all(uploads.join(&name)).expect("a folder");
        let output = uploads.join(&name).join("output.txt");
        std::os::unix::fs::symlink(&journal, &output).expect("a link");
        let error = sink.rest(Rest::Finished).await.expect_err("a link");
        assert!(error.to_string().contains("symbolic link"), "{error}");
        assert_eq!(fs::read(&journal).expect("a journal"), b"a journal");
        fs::remove_file(&output).expect("a link");
        rest(&mut sink, Rest::Finished).await;
        assert_eq!(folder.segments().len(), 1);
    });
}
