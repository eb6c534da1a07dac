//! Receipts: how large they are, and those of earlier versions.

use super::*;

/// Returns the size of all files below a folder that are not media files, and of a receipt.
fn stored_bytes(folder: &Path, receipt: &Receipt) -> usize {
    let is_of_state = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("waiting-") || name.starts_with("totals-")
    };
    let mut n_bytes = serde_json::to_vec(receipt).expect("JSON").len();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        if is_of_state(&entry.path()) {
            n_bytes += usize::try_from(entry.metadata().expect("a file").len()).expect("a size");
        }
    }
    n_bytes
}

#[test]
fn a_step_of_many_keys_writes_each_image_once_and_survives_restarts() {
    // Regression: each commit wrote all images of the step before it into the receipt.
    const N: u32 = 1500;
    let (folder, mut images) = (Folder::new(), Images::new());
    let caption = Some((*"x".repeat(500)).into());
    let item = |images: &mut Images, n: u32| {
        let description = Description { caption: caption.clone(), ..Description::default() };
        images.image_with(&format!("key{n}"), 1, 0, description, Layers::default())
    };
    let items: Vec<Delivery> = (0..N).map(|n| item(&mut images, n)).collect();
    block_on(async {
        let mut receipt: Option<Receipt> = None;
        let mut n_receipt_bytes = 0;
        let mut sink = folder.sink();
        sink.resume(None).await.expect("a target");
        let open = folder.place.path().join(sink.segments.folder());
        for (n, batch) in items.chunks(100).enumerate() {
            let next = deliver(&mut sink, batch).await;
            n_receipt_bytes += serde_json::to_vec(&next).expect("JSON").len();
            // A crash after the commit and before its receipt is stored; a restart; or neither.
            match n % 5 {
                1 => {
                    let last = receipt.clone();
                    sink = folder.sink();
                    sink.resume(last.as_ref()).await.expect("a target");
                    receipt = Some(deliver(&mut sink, batch).await);
                }
                3 => {
                    receipt = Some(next);
                    sink = folder.sink();
                    sink.resume(receipt.as_ref()).await.expect("a target");
                }
                _ => receipt = Some(next),
            }
        }
        let n_stored = stored_bytes(&open, receipt.as_ref().expect("a receipt"));
        let n_once = 1400 * N as usize;
        assert!(n_stored < n_once, "{n_stored} bytes stored");
        assert!(n_receipt_bytes < 15 * 400_000, "{n_receipt_bytes} bytes of receipts");

        // The next step's image completes the row. Its totals are in a file.
        let next = images.image("key0", 2, 0);
        let receipt = deliver(&mut sink, std::slice::from_ref(&next)).await;
        assert!(serde_json::to_vec(&receipt).expect("JSON").len() < 10_000);
        let mut sink = folder.sink();
        sink.resume(Some(&receipt)).await.expect("a target");
        let names: Vec<String> = fs::read_dir(&open)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .filter(|name| name.starts_with("waiting-") || name.starts_with("totals-"))
            .collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let receipt = rest(&mut sink, Rest::Finished).await;
        // A later segment has the summary of all keys.
        let mut sink = folder.sink();
        sink.resume(receipt.as_ref()).await.expect("a target");
        deliver(&mut sink, &[images.image("key1", 3, 0)]).await;
        rest(&mut sink, Rest::Finished).await;
    });
    let segments = folder.segments();
    assert_eq!(segments.iter().map(Segment::steps).collect::<Vec<_>>(), [vec![1, 2], vec![3]]);
    let n_leaves = segments[0].rows()[0]
        .item
        .iter()
        .filter(|item| item.nested_key.last().is_some_and(|name| name == "sha256"));
    assert_eq!(n_leaves.count(), N as usize);
    let summaries = segments[1].records.iter().filter_map(|record| match &record.kind {
        Some(Kind::Summary(changes)) => Some(changes.update.len()),
        _ => None,
    });
    assert!(summaries.max() >= Some(N as usize));
}

#[test]
fn a_receipt_of_an_earlier_version_is_read() {
    let (folder, mut images) = (Folder::new(), Images::new());
    let items = [1, 5, 6, 3].map(|step| images.image("k", step, 0));
    block_on(async {
        let mut sink = folder.sink();
        sink.resume(None).await.expect("a target");
        deliver(&mut sink, &items[..3]).await;
        let receipt = deliver(&mut sink, &items[3..]).await;
        // As it was: late images apart, and no files.
        let mut old: Value = receipt.get().expect("an object");
        let held = old["held"].as_array().expect("images").clone();
        let (late, held): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|item| item["id"]["step"] == 3);
        old["held"] = held.into();
        old["late"] = late.into();
        old.as_object_mut().expect("an object").remove("files");
        let old = Receipt::new(&old).expect("a receipt");
        let mut sink = folder.sink();
        sink.resume(Some(&old)).await.expect("a target");
        rest(&mut sink, Rest::Finished).await;
    });
    let steps: Vec<_> = folder.segments().iter().flat_map(Segment::steps).collect();
    assert_eq!(steps, [1, 5, 6, 3]);
}
