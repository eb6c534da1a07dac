//! The command that uploads segments.

use super::*;

#[test]
fn a_command_uploads_each_segment_once_and_is_not_believed() {
    let tools = tempfile::tempdir().expect("a folder");
    let view = "echo 'wandb: [p/r] View run r at http://x'";
    let key = tools.path().join("key");
    fs::write(&key, "secret-of-forty").expect("a key");
    let n_runs =
        || fs::read_to_string(tools.path().join("runs")).map_or(0, |text| text.lines().count());
    let folder = Folder::with(|config| {
        config.command = player(tools.path(), "echo \"wandb: ERROR denied $WANDB_API_KEY\"");
        config.api_key = Some(crate::secrets::SecretSource::File(key));
    });
    let mut images = Images::new();
    let items: Vec<Delivery> = (0..3).map(|step| images.image("k", step, 0)).collect();
    block_on(async {
        let mut sink = folder.sink();
        sink.resume(None).await.expect("a target");
        deliver(&mut sink, &items[..1]).await;
        let receipt = sink.rest(Rest::Finished).await.expect("a target").expect("a receipt");
        // If the run was not started, the upload is retried.
        for n in 1..3 {
            let mut sink = folder.sink();
            sink.resume(Some(&receipt)).await.expect("a target");
            let error = sink.rest(Rest::Finished).await.expect_err("an error");
            assert!(matches!(error, SinkError::Retry { .. }));
            let error = error.to_string();
            assert!(error.contains("was not uploaded: ERROR denied …"), "{error}");
            assert_eq!(n_runs(), n);
        }
        // If the upload is partial, it is not retried. A person must resolve it.
        player(tools.path(), &format!("{view}\nmark\necho 'wandb: ERROR [p/r] Fatal error'"));
        for _ in 0..2 {
            let mut sink = folder.sink();
            sink.resume(Some(&receipt)).await.expect("a target");
            let error = sink.rest(Rest::Finished).await.expect_err("an error").to_string();
            assert!(error.contains("in part") && error.contains("Fatal error"), "{error}");
            assert_eq!(n_runs(), 3);
        }
        // If a person removes the output, the upload counts as done.
        let name = folder.segments()[0].name.clone();
        fs::remove_dir_all(folder.place.path().join("uploads").join(name)).expect("an upload");
        player(tools.path(), &format!("{view}\nmark"));
        let mut sink = folder.sink();
        sink.resume(Some(&receipt)).await.expect("a target");
        rest(&mut sink, Rest::Finished).await.expect("a receipt");
        assert_eq!(n_runs(), 3);
        // The next upload succeeds.
        deliver(&mut sink, &items[1..]).await;
        rest(&mut sink, Rest::Finished).await.expect("a receipt");
        assert_eq!(n_runs(), 4);
        let uploads = fs::read_dir(folder.place.path().join("uploads")).expect("a folder");
        assert_eq!(uploads.count(), 0);
    });
}
