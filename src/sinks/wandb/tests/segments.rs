//! Segments: what they hold, and when they are handed over.

use super::*;

#[test]
fn a_segment_says_whose_it_is_and_ends() {
    let mut folder = Folder::new();
    folder.identity = json!({
        "name": "night", "project": "a/b", "tags": ["x", "", 7], "config": {"lr": 0.1, "net": {"depth": 3}},
        "entity": 5,
    });
    let mut images = Images::new();
    let item = images.image("k", 3, 0);
    block_on(async {
        let mut sink = folder.sink();
        sink.resume(None).await.expect("a target");
        deliver(&mut sink, &[item]).await;
        rest(&mut sink, Rest::Finished).await;
    });
    let [segment] = &folder.segments()[..] else { panic!("one segment") };
    assert!(segment.name.starts_with("offline-run-20231114_221321-train_7-"), "{}", segment.name);
    let Some(Kind::Run(run)) = &segment.records[1].kind else { panic!("a run") };
    assert_eq!((run.project.as_str(), run.entity.as_str()), ("a-b", ""));
    assert_eq!((run.display_name.as_str(), run.run_group.as_str()), ("night-img", "train/7"));
    assert_eq!((run.job_type.as_str(), &run.tags[..]), ("media", &["x".to_owned()][..]));
    assert_eq!(run.start_time.map(UnixTime::seconds), Some(1_700_000_001.25));
    assert!(segment.name.ends_with(&run.run_id) && run.run_id.ends_with("-img"));
    let config = run.config.clone().expect("a config").update;
    let config: Vec<_> = config.iter().map(|v| (v.key.as_str(), v.value_json.as_str())).collect();
    assert_eq!(config, [("lr", "0.1"), ("net", "{\"depth\":3}")]);
    assert_eq!(segment.end(), Some(false));
    assert!(matches!(segment.records.last().and_then(|r| r.kind.clone()), Some(Kind::Final(_))));
}

#[test]
fn nothing_lies_where_the_client_looks_before_its_receipt_is_stored() {
    let folder = Folder::new();
    let mut images = Images::new();
    let items: Vec<Delivery> = (0..3).map(|step| images.image("k", step, 0)).collect();
    block_on(async {
        let mut sink = folder.sink();
        sink.resume(None).await.expect("a target");
        deliver(&mut sink, &items).await;
        let idle = |s| Rest::Idle(Duration::from_secs(s));
        assert!(sink.rest(idle(299)).await.expect("a target").is_none());
        let closed = sink.rest(idle(300)).await.expect("a target").expect("a receipt");
        assert!(folder.segments().is_empty());
        // After a crash, the sink resumes from the receipt.
        let mut sink = folder.sink();
        sink.resume(Some(&closed)).await.expect("a target");
        let handed_over = rest(&mut sink, idle(5)).await.expect("a receipt");
        assert_eq!(folder.segments()[0].steps(), [0, 1, 2]);
        // After a second restart, there is nothing to do.
        let mut sink = folder.sink();
        sink.resume(Some(&handed_over)).await.expect("a target");
        assert!(rest(&mut sink, Rest::Leaving).await.is_none());
        assert_eq!(folder.segments().len(), 1);
        // No staged file is left.
        let staged = folder.place.path().join("open");
        let mut files = vec![staged];
        while let Some(path) = files.pop() {
            assert!(path.is_dir(), "{}", path.display());
            files.extend(
                fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").path()),
            );
        }
    });
}

#[test]
fn a_run_whose_last_segment_is_full_is_over_all_the_same() {
    let folder = Folder::with(|config| config.segment_items_max = 1.try_into().expect("one"));
    let mut images = Images::new();
    let items = [images.image("k", 1, 0), images.image("k", 2, 0)];
    let mut sink = folder.sink();
    block_on(async {
        sink.resume(None).await.expect("a target");
        for item in &items {
            sink.put(item).await.expect("its files");
        }
        sink.commit(&items).await.expect("a receipt");
        while sink.rest(Rest::Finished).await.expect("a target").is_some() {}
    });
    let ends: Vec<Option<bool>> = folder.segments().iter().map(Segment::end).collect();
    assert_eq!(ends, [Some(true), Some(false)], "whether more comes");
    let open = fs::read_dir(folder.place.path().join("open")).expect("a folder");
    assert_eq!(open.count(), 0, "nothing is left behind");
}

#[test]
fn what_is_late_makes_a_segment_that_knows_what_was_before() {
    let folder = Folder::new();
    let mut images = Images::new();
    let labels = Some(json!({"1": "car"}).into());
    let mask = folder.place.path().join("mask.png");
    fs::write(&mask, b"mask").expect("a mask");
    fs::create_dir_all(images.folder().join("media/images/mask")).expect("a folder");
    fs::copy(&mask, images.folder().join("media/images/mask/m.mask.png")).expect("a mask");
    fs::remove_file(&mask).expect("a mask");
    let layer = Annotation {
        path: "media/images/mask/m.mask.png".to_owned(),
        sha256: Sha256::of(b"mask"),
        size: 4,
        class_labels: labels,
        source: None,
    };
    let layers = Layers { masks: [("gt".to_owned(), layer)].into(), ..Layers::default() };
    let masked = images.image_with("seg", 10, 0, crate::media::Description::default(), layers);
    let items = [masked, images.image("k", 20, 0), images.image("k", 30, 0)];
    let late = [images.image("k", 5, 0), images.image("k", 5, 1), images.image("k", 20, 0)];
    block_on(async {
        let mut sink = folder.sink();
        sink.resume(None).await.expect("a target");
        deliver(&mut sink, &items).await;
        deliver(&mut sink, &late).await;
        rest(&mut sink, Rest::Finished).await;
    });
    let [first, second] = &folder.segments()[..] else { panic!("two segments") };
    assert_eq!((first.steps(), second.steps()), (vec![10, 20, 30], vec![5, 20]));
    assert_eq!((first.end(), second.end()), (Some(true), Some(false)));
    assert!(first.name < second.name);
    for segment in [first, second] {
        let config = segment.config();
        let path = ["_wandb", "mask/class_labels", "seg_wandb_delimeter_gt"];
        assert_eq!(config.len(), 1, "{}", segment.name);
        assert_eq!(config[0].nested_key, path);
    }
    let summary: BTreeMap<String, String> =
        second.summary().into_iter().map(|v| (v.key, v.value_json)).collect();
    assert!(summary.contains_key("seg") && summary["k"].contains("k_20_"), "{summary:?}");
}

#[test]
fn an_open_log_is_cut_to_its_receipt_and_written_on_the_same() {
    let folder = Folder::new();
    let mut images = Images::new();
    let items: Vec<Delivery> = (0..30).map(|step| images.image("k", step, 0)).collect();
    let undisturbed = Folder::new();
    for (folder, dies) in [(&folder, true), (&undisturbed, false)] {
        block_on(async {
            let mut sink = folder.sink();
            sink.resume(None).await.expect("a target");
            let mut receipt = deliver(&mut sink, &items[..7]).await;
            for items in items[7..].chunks(5) {
                if dies {
                    deliver(&mut sink, items).await;
                    sink = folder.sink();
                    sink.resume(Some(&receipt)).await.expect("a target");
                }
                receipt = deliver(&mut sink, items).await;
            }
            rest(&mut sink, Rest::Finished).await;
        });
    }
    let bytes = |folder: &Folder| {
        let segments = folder.segments();
        assert_eq!(segments.len(), 1);
        let log = fs::read_dir(&segments[0].place).expect("a segment").find_map(|entry| {
            let path = entry.expect("an entry").path();
            path.extension().is_some().then(|| fs::read(path).expect("a log"))
        });
        log.expect("a log")
    };
    assert!(bytes(&folder) == bytes(&undisturbed));
}

#[test]
fn what_the_store_no_longer_has_is_staged() {
    let folder = Folder::new();
    let mut images = Images::new();
    let item = images.image("k", 1, 0);
    block_on(async {
        let mut sink = folder.sink();
        sink.resume(None).await.expect("a target");
        let receipt = deliver(&mut sink, std::slice::from_ref(&item)).await;
        fs::remove_file(item.path()).expect("a file");
        let mut sink = folder.sink();
        sink.resume(Some(&receipt)).await.expect("a target");
        rest(&mut sink, Rest::Finished).await;
    });
    assert_eq!(folder.segments()[0].images().len(), 1);
}

#[test]
fn keys_and_paths_that_can_not_be_are_refused() {
    let folder = Folder::new();
    let mut images = Images::new();
    let own = images.image("_step", 1, 0);
    let mut outside = images.image("k", 1, 0);
    outside.file.path = "../outside.png".to_owned();
    block_on(async {
        let mut sink = folder.sink();
        sink.resume(None).await.expect("a target");
        for (item, want) in [(own, "a value of its own"), (outside, "leaves its folder")] {
            let error = sink.put(&item).await.expect_err("refused");
            assert!(matches!(error, SinkError::Reject { .. }));
            assert!(error.to_string().contains(want), "{error}");
        }
    });
}
