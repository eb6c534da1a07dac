//! The contract of sinks as a test suite, which every sink runs.
//!
//! The suite checks which images arrive, how often and in which order of steps, with failures between calls. What a
//! target stores of an item is checked by the sink's own tests.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use tempfile::TempDir;

use super::{Delivery, Receipt, Rest, Sink, SinkError};
use crate::media::{
    Description, FileType, Layers, MediaEntry, MediaFile, MediaId, MediaKey, Sha256, Source, Step,
};

/// A target under test.
pub(crate) trait Target {
    type Sink: Sink;

    /// Opens a sink as after a start of the program. Only the target's state is accepted.
    fn open(&self) -> Self::Sink;

    /// Returns the images that a reader of the target sees: key, step and digest of the file, in any order.
    fn seen(&self) -> Vec<(String, u64, Sha256)>;

    /// Whether the target accepts an image after images of later steps. If not, the image may be missing until
    /// [`Sink::rest`].
    fn takes_any_order(&self) -> bool {
        true
    }

    /// Whether a sink that is resumed without any receipt finds the images that the target has.
    fn tells_what_it_has(&self) -> bool {
        true
    }
}

/// A run's folder in a store, with images.
pub(crate) struct Images {
    folder: TempDir,
    n: u64,
}

impl Images {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), n: 0 }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes an image with new content.
    pub(crate) fn image(&mut self, key: &str, step: u64, index: u32) -> Delivery {
        self.image_with(key, step, index, Description::default(), Layers::default())
    }

    pub(crate) fn image_with(
        &mut self,
        key: &str,
        step: u64,
        index: u32,
        description: Description,
        layers: Layers,
    ) -> Delivery {
        self.n += 1;
        let n = self.n;
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 4, 3);
        encoder.set_color(png::ColorType::Rgb);
        let mut pixels: Vec<u8> = n.to_le_bytes().iter().cycle().take(36).copied().collect();
        pixels[35] = 200;
        let mut writer = encoder.write_header().expect("a header");
        writer.write_image_data(&pixels).expect("pixels");
        writer.finish().expect("an image");
        let sha256 = Sha256::of(&bytes);
        let stem = MediaKey::new(key).expect("a key").file_stem();
        let path = format!("media/images/{stem}_{step}_{}.png", &sha256.to_string()[..20]);
        let at = self.folder.path().join(&path);
        fs::create_dir_all(at.parent().expect("a folder")).expect("a folder");
        fs::write(&at, &bytes).expect("a file");
        let file = MediaFile {
            path,
            file_type: FileType::Png,
            mode: Some(crate::media::ColorMode::Rgb),
            width: 4,
            height: 3,
            size: bytes.len() as u64,
            sha256,
            downscaled_from: None,
        };
        let key = MediaKey::new(key).expect("a key");
        let id = MediaId { key, step: Step(step), index };
        let source = Source::default();
        let entry =
            MediaEntry::image(id.clone(), file.clone(), None, layers.clone(), description, source);
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let time = 1_700_000_000.25 + n as f64;
        Delivery {
            seq: n,
            id,
            file,
            layers,
            entry: Arc::new(entry),
            time,
            folder: self.folder.path().into(),
        }
    }
}

/// Serves routes on a loopback port, on a thread of its own.
pub(crate) fn serve(routes: Router) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a listener");
    let address = listener.local_addr().expect("an address");
    let serve = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            axum::serve(listener, routes).await.expect("a server");
        });
    };
    std::thread::Builder::new().name("server".to_owned()).spawn(serve).expect("a thread");
    address
}

fn shown(items: &[Delivery]) -> Vec<(String, u64, Sha256)> {
    let shown =
        |item: &Delivery| (item.id.key.as_str().to_owned(), item.id.step.0, item.file.sha256);
    items.iter().map(shown).collect()
}

fn sorted(mut seen: Vec<(String, u64, Sha256)>) -> Vec<(String, u64, Sha256)> {
    seen.sort_by_key(|(key, step, sha256)| (key.clone(), *step, sha256.to_string()));
    seen
}

async fn deliver(sink: &mut impl Sink, items: &[Delivery]) -> Receipt {
    for item in items {
        sink.put(item).await.expect("an image's files");
    }
    sink.commit(items).await.expect("a receipt")
}

/// Calls `rest` as [`crate::sync`] does, until nothing changes. Returns the last receipt.
async fn rest(sink: &mut impl Sink, why: Rest) -> Option<Receipt> {
    let mut last = None;
    while let Some(receipt) = sink.rest(why).await.expect("a target") {
        last = Some(receipt);
    }
    last
}

/// Ends the deliveries to a target after one that came late.
async fn finish_late<T: Target>(target: &T, mut sink: T::Sink, receipt: &Receipt) {
    if !target.takes_any_order() {
        // The receipt of the rest is not stored.
        sink.rest(Rest::Leaving).await.expect("a target");
        drop(sink);
        sink = target.open();
        sink.resume(Some(receipt)).await.expect("a target");
    }
    rest(&mut sink, Rest::Finished).await;
}

/// Runs the suite. Each part gets a new, empty target.
pub(crate) async fn check<T: Target>(empty: impl Fn() -> T) {
    all_arrive_once_over_many_starts(&empty()).await;
    a_redelivery_adds_nothing(&empty()).await;
    a_redelivery_in_parts_adds_nothing(&empty()).await;
    files_without_a_commit_are_not_seen(&empty()).await;
    late_items_arrive(&empty()).await;
    a_rest_changes_no_image(&empty()).await;
    a_missing_file_delays_only_its_item(&empty()).await;
    for damage in [flip, cut, replace_by_link, replace_by_folder] {
        a_damaged_file_delays_only_its_item(&empty(), damage).await;
    }
}

/// Two keys, several images a step, and a start of the program between any two batches.
async fn all_arrive_once_over_many_starts(target: &impl Target) {
    let mut images = Images::new();
    let mut items = Vec::new();
    for step in [0, 1, 7, 20] {
        items.extend([0, 1].map(|index| images.image("val/pred", step, index)));
        items.push(images.image("train", step, 0));
    }
    let mut receipt = None;
    for batch in items.chunks(3) {
        let mut sink = target.open();
        sink.resume(receipt.as_ref()).await.expect("a target");
        receipt = Some(deliver(&mut sink, batch).await);
        // The receipt is stored as JSON.
        let text = serde_json::to_string(&receipt).expect("JSON");
        receipt = serde_json::from_str(&text).expect("a receipt");
    }
    let mut sink = target.open();
    sink.resume(receipt.as_ref()).await.expect("a target");
    rest(&mut sink, Rest::Finished).await;
    assert_eq!(sorted(target.seen()), sorted(shown(&items)));
}

/// The program is killed after a commit and before its receipt is stored.
async fn a_redelivery_adds_nothing(target: &impl Target) {
    let mut images = Images::new();
    let items: Vec<Delivery> = (0..9).map(|step| images.image("k", step, 0)).collect();
    let mut sink = target.open();
    sink.resume(None).await.expect("a target");
    let receipt = deliver(&mut sink, &items[..2]).await;
    deliver(&mut sink, &items[2..5]).await;
    let mut last = None;
    for (from, to) in [(2, 5), (2, 3), (2, 9)] {
        sink = target.open();
        sink.resume(Some(&receipt)).await.expect("a target");
        last = Some(deliver(&mut sink, &items[from..to]).await);
    }
    let last = rest(&mut sink, Rest::Finished).await.or(last);
    assert_eq!(sorted(target.seen()), sorted(shown(&items)));

    // The same after a rest.
    let more = images.image("more", 100, 0);
    for _ in 0..2 {
        sink = target.open();
        sink.resume(last.as_ref()).await.expect("a target");
        deliver(&mut sink, std::slice::from_ref(&more)).await;
    }
    rest(&mut sink, Rest::Finished).await;
    let all = [&items[..], &[more]].concat();
    assert_eq!(sorted(target.seen()), sorted(shown(&all)));
}

/// All receipts were lost, and the program is killed once more while it delivers again, after a receipt was stored.
async fn a_redelivery_in_parts_adds_nothing(target: &impl Target) {
    if !target.tells_what_it_has() {
        return;
    }
    let mut images = Images::new();
    let items: Vec<Delivery> = (0..9).map(|step| images.image("k", step, 0)).collect();
    let mut sink = target.open();
    sink.resume(None).await.expect("a target");
    for page in items[..8].chunks(3) {
        deliver(&mut sink, page).await;
    }
    let mut receipt = None;
    // Pages of other lengths than before: some end within what was delivered together.
    for page in [0..2, 2..4, 4..7, 7..9] {
        sink = target.open();
        sink.resume(receipt.as_ref()).await.expect("a target");
        receipt = Some(deliver(&mut sink, &items[page]).await);
    }
    rest(&mut sink, Rest::Finished).await;
    assert_eq!(sorted(target.seen()), sorted(shown(&items)));
}

async fn files_without_a_commit_are_not_seen(target: &impl Target) {
    let mut images = Images::new();
    let items: Vec<Delivery> = (0..3).map(|step| images.image("k", step, 0)).collect();
    for _ in 0..2 {
        let mut sink = target.open();
        sink.resume(None).await.expect("a target");
        sink.put(&items[0]).await.expect("an image's files");
        sink.put(&items[0]).await.expect("an image's files");
    }
    let mut sink = target.open();
    sink.resume(None).await.expect("a target");
    deliver(&mut sink, &items).await;
    rest(&mut sink, Rest::Finished).await;
    assert_eq!(sorted(target.seen()), sorted(shown(&items)));
}

/// A parked item of an earlier step is delivered late.
async fn late_items_arrive(target: &impl Target) {
    let mut images = Images::new();
    let late = images.image("k", 3, 0);
    let items: Vec<Delivery> = (0..3).map(|i| images.image("k", 10 * i, 0)).collect();
    let mut sink = target.open();
    sink.resume(None).await.expect("a target");
    deliver(&mut sink, &items).await;
    let receipt = deliver(&mut sink, std::slice::from_ref(&late)).await;
    finish_late(target, sink, &receipt).await;
    let all = [&items[..], &[late]].concat();
    assert_eq!(sorted(target.seen()), sorted(shown(&all)));
}

async fn a_rest_changes_no_image(target: &impl Target) {
    let mut images = Images::new();
    let items: Vec<Delivery> = (0..4).map(|step| images.image("k", step, 0)).collect();
    let mut sink = target.open();
    sink.resume(None).await.expect("a target");
    // Nothing was delivered yet.
    rest(&mut sink, Rest::Finished).await;
    let mut receipt = deliver(&mut sink, &items[..2]).await;
    for why in [Rest::Idle(std::time::Duration::from_hours(1)), Rest::Finished, Rest::Leaving] {
        receipt = rest(&mut sink, why).await.unwrap_or(receipt);
    }
    let mut sink = target.open();
    sink.resume(Some(&receipt)).await.expect("a target");
    deliver(&mut sink, &items[2..]).await;
    rest(&mut sink, Rest::Finished).await;
    assert_eq!(sorted(target.seen()), sorted(shown(&items)));
}

/// Retention or a person has removed the file. The other items are delivered.
async fn a_missing_file_delays_only_its_item(target: &impl Target) {
    let mut images = Images::new();
    let items: Vec<Delivery> = (0..3).map(|step| images.image("k", step, 0)).collect();
    fs::remove_file(items[1].path()).expect("a file");
    only_the_second_waits(target, &items, "is missing").await;
}

/// The disk or a person has damaged the file. It is delivered after a repair.
async fn a_damaged_file_delays_only_its_item(
    target: &impl Target,
    damage: fn(&Path) -> &'static str,
) {
    let mut images = Images::new();
    let items: Vec<Delivery> = (0..3).map(|step| images.image("k", step, 0)).collect();
    let path = items[1].path();
    let bytes = fs::read(&path).expect("a file");
    let reason = damage(&path);
    let receipt = only_the_second_waits(target, &items, reason).await;
    if path.is_dir() {
        fs::remove_dir(&path).expect("a folder");
    } else {
        fs::remove_file(&path).expect("a file");
    }
    fs::write(&path, bytes).expect("a file");
    let mut sink = target.open();
    sink.resume(Some(&receipt)).await.expect("a target");
    let receipt = deliver(&mut sink, &items[1..2]).await;
    finish_late(target, sink, &receipt).await;
    assert_eq!(sorted(target.seen()), sorted(shown(&items)));
}

fn flip(path: &Path) -> &'static str {
    let mut bytes = fs::read(path).expect("a file");
    bytes[20] ^= 1;
    fs::write(path, bytes).expect("a file");
    "got SHA-256"
}

fn cut(path: &Path) -> &'static str {
    let bytes = fs::read(path).expect("a file");
    fs::write(path, &bytes[..bytes.len() - 1]).expect("a file");
    "bytes, want"
}

fn replace_by_link(path: &Path) -> &'static str {
    let aside = path.with_extension("aside");
    fs::rename(path, &aside).expect("a file");
    std::os::unix::fs::symlink(&aside, path).expect("a link");
    "symbolic link"
}

fn replace_by_folder(path: &Path) -> &'static str {
    fs::remove_file(path).expect("a file");
    fs::create_dir(path).expect("a folder");
    "is a directory"
}

/// Delivers three items. The second must wait for this reason, and the others be seen.
async fn only_the_second_waits(target: &impl Target, items: &[Delivery], reason: &str) -> Receipt {
    let is_the_second = |error: SinkError| {
        let SinkError::Damaged { seq, path, source, .. } = error else { panic!("{error}") };
        assert_eq!((seq, path), (items[1].seq, items[1].file.path.clone()));
        let text = source.to_string();
        assert!(text.contains(reason) && text.contains("verify --repair"), "{text}");
    };
    let mut sink = target.open();
    sink.resume(None).await.expect("a target");
    let mut accepted = Vec::new();
    for item in items {
        match sink.put(item).await {
            Ok(()) => accepted.push(item.clone()),
            Err(error) => is_the_second(error),
        }
    }
    let mut receipt = loop {
        match sink.commit(&accepted).await {
            Ok(receipt) => break receipt,
            Err(error) => is_the_second(error),
        }
        accepted.retain(|item| item.seq != items[1].seq);
    };
    receipt = rest(&mut sink, Rest::Finished).await.unwrap_or(receipt);
    let want = [items[0].clone(), items[2].clone()];
    assert_eq!(sorted(target.seen()), sorted(shown(&want)));
    receipt
}

/// Checks that a sink follows no symbolic link in its target's directory.
///
/// Delivers to an empty target, to learn which files and folders the sink makes. Then, for each of them, puts a link to
/// another file or folder in its place before the delivery: the delivery must fail with an error that names the link
/// and may be retried, what is behind the link must stay as it was, and the next attempt without the link must
/// succeed. A sink may also avoid a link by using another name, for the paths in `is_avoided`.
pub(crate) async fn check_links<T: Target>(
    empty: impl Fn() -> T,
    root: impl Fn(&T) -> PathBuf,
    is_avoided: impl Fn(&str) -> bool,
) {
    let mut images = Images::new();
    let items = [images.image("a/b", 1, 0), images.image("k", 2, 0), images.image("k", 3, 0)];
    let late = [images.image("k", 3, 1)];
    let target = empty();
    let (mut made, dir) = (BTreeMap::new(), root(&target));
    let mut see = || list(&dir, &dir, &mut made);
    deliver_all(&target, &items, &late, &mut see).await.expect("a delivery");
    assert!(made.values().any(|is_folder| *is_folder) && made.values().any(|is_folder| !is_folder));
    for (path, is_folder) in made {
        let (target, outside) = (empty(), tempfile::tempdir().expect("a folder"));
        let dir = root(&target);
        let journal = outside.path().join("00000001.log");
        fs::write(&journal, b"{\"v\":1}\n").expect("a journal");
        let link = dir.join(&path);
        fs::create_dir_all(link.parent().expect("a folder")).expect("a folder");
        let behind = if is_folder { outside.path() } else { &journal };
        // The sink makes some folders when it is opened.
        fs::remove_dir(&link).ok();
        std::os::unix::fs::symlink(behind, &link).expect("a link");
        let delivered = deliver_all(&target, &items, &late, &mut || {}).await;
        assert_eq!(fs::read(&journal).expect("a journal"), b"{\"v\":1}\n", "{path}");
        assert_eq!(fs::read_dir(outside.path()).expect("a folder").count(), 1, "{path}");
        match delivered {
            Err(SinkError::Retry { source, .. }) => {
                let text = source.to_string();
                let name = link.display().to_string();
                assert!(text.contains("symbolic link") && text.contains(&name), "{path}: {text}");
            }
            Err(error) => panic!("{path}: {error}"),
            Ok(()) => assert!(is_avoided(&path), "{path} was followed or replaced"),
        }
        if link.is_symlink() {
            fs::remove_file(&link).expect("a link");
            if is_folder {
                fs::create_dir(&link).expect("a folder");
            }
        }
        deliver_all(&target, &items, &late, &mut || {}).await.expect("a delivery");
        // Where the sink used another name, a reader may not understand the rest of the folder.
        let n_seen = if is_avoided(&path) { usize::MAX } else { target.seen().len() };
        assert!(n_seen > items.len(), "{path}: {n_seen}");
    }
}

/// Delivers as [`crate::sync`] does; calls `see` whenever files may have come.
async fn deliver_all(
    target: &impl Target,
    items: &[Delivery],
    late: &[Delivery],
    see: &mut impl FnMut(),
) -> Result<(), SinkError> {
    let mut sink = target.open();
    sink.resume(None).await?;
    for items in [items, late] {
        for item in items {
            sink.put(item).await?;
            see();
        }
        sink.commit(items).await?;
        see();
    }
    while sink.rest(Rest::Finished).await?.is_some() {
        see();
    }
    see();
    Ok(())
}

/// Adds the paths below `folder`, and whether each is a folder.
fn list(root: &Path, folder: &Path, paths: &mut BTreeMap<String, bool>) {
    // The target's directory may not exist yet.
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.expect("an entry");
        let path = entry.path();
        let is_folder = entry.file_type().expect("a type").is_dir();
        let name =
            path.strip_prefix(root).expect("a path below").to_str().expect("text").to_owned();
        paths.insert(name, is_folder);
        if is_folder {
            list(root, &path, paths);
        }
    }
}
