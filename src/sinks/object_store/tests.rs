//! Tests against a directory and against fake S3 servers in the same process, with and without conditional writes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tempfile::TempDir;

use serde_json::Value;

use super::*;
use crate::media::RunId;
use crate::secrets::SecretSource;
use crate::sinks::contract::{self, Images};

/// The bucket `b`.
#[derive(Default)]
struct Bucket {
    objects: BTreeMap<String, Vec<u8>>,
    parts: BTreeMap<String, Vec<u8>>,
    requests: Vec<String>,
    ignores_conditions: bool,
    /// The next request that contains this is executed, and its answer is lost.
    lost: Option<&'static str>,
    /// A request that contains this is answered with the status, and not executed.
    refused: Option<(&'static str, StatusCode)>,
}

type Shared = Arc<Mutex<Bucket>>;

fn of_bucket(bucket: &Shared) -> MutexGuard<'_, Bucket> {
    bucket.lock().expect("a bucket")
}

async fn answer(
    State(bucket): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut bucket = of_bucket(&bucket);
    let what = format!("{method} {uri}");
    bucket.requests.push(what.clone());
    if let Some((_, status)) = bucket.refused.filter(|(refused, _)| what.contains(refused)) {
        return (status, "<Error><Code>X</Code></Error>").into_response();
    }
    let response = bucket.answer(&method, &uri, &headers, &body);
    if bucket.lost.is_some_and(|lost| what.contains(lost)) {
        bucket.lost = None;
        return StatusCode::BAD_GATEWAY.into_response();
    }
    response
}

impl Bucket {
    fn answer(
        &mut self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Response {
        if uri.path() == "/b" && uri.query() == Some("delete") {
            let text = String::from_utf8_lossy(body);
            let keys = text.split("<Key>").skip(1).filter_map(|rest| rest.split('<').next());
            keys.for_each(|key| drop(self.objects.remove(&key.replace(' ', "%20"))));
            return "<DeleteResult></DeleteResult>".into_response();
        }
        let name = uri.path().strip_prefix("/b/").expect("the bucket").to_owned();
        let query = uri.query().unwrap_or("");
        let is_multipart = query.contains("upload");
        let etag = [("etag", "\"e\"")];
        match (method.as_str(), is_multipart) {
            ("POST", true) if query.starts_with("uploads") => {
                "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
                    .into_response()
            }
            ("PUT", true) => {
                self.parts.entry(name).or_default().extend(body.iter());
                etag.into_response()
            }
            ("POST", true) => {
                let whole = self.parts.remove(&name).expect("parts");
                self.objects.insert(name, whole);
                "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"
                    .into_response()
            }
            ("DELETE", true) => {
                self.parts.remove(&name);
                StatusCode::NO_CONTENT.into_response()
            }
            ("PUT", false) => {
                let is_new = headers.get("if-none-match").is_some_and(|value| value == "*");
                if is_new && !self.ignores_conditions && self.objects.contains_key(&name) {
                    return StatusCode::PRECONDITION_FAILED.into_response();
                }
                self.objects.insert(name, body.to_vec());
                etag.into_response()
            }
            ("GET" | "HEAD", false) => match self.objects.get(&name) {
                None => (StatusCode::NOT_FOUND, "<Error><Code>NoSuchKey</Code></Error>").into_response(),
                Some(bytes) => {
                    let modified = ("last-modified", "Thu, 26 Nov 2026 10:00:00 GMT");
                    ([etag[0], modified], bytes.clone()).into_response()
                }
            },
            _ => panic!("{method} {uri}"),
        }
    }
}

fn run_info() -> RunInfo {
    let id = RunId::new("a/b").expect("a name");
    RunInfo { id, source: "/runs/b".into(), identity: serde_json::Map::new() }
}

/// A server with the configuration of its target.
struct S3 {
    bucket: Shared,
    config: ObjectStoreConfig,
    secrets: TempDir,
}

fn config(url: String) -> ObjectStoreConfig {
    ObjectStoreConfig {
        url,
        endpoint: None,
        region: None,
        access_key_id: None,
        secret_access_key: None,
        session_token: None,
        account_key: None,
        service_account: None,
        multipart_bytes: (8 << 20).try_into().expect("a number"),
        box_name: Some(BoxName::new("gpu-17").expect("a name")),
        manifest_s: 60.try_into().expect("a number"),
        announce: false,
        origin: None,
    }
}

impl S3 {
    fn new() -> Self {
        let bucket = Shared::default();
        let routes = Router::new()
            .fallback(answer)
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&bucket));
        let address = contract::serve(routes);
        let secrets = tempfile::tempdir().expect("a folder");
        std::fs::write(secrets.path().join("id"), "ID").expect("a file");
        std::fs::write(secrets.path().join("key"), "KEY").expect("a file");
        let secret = |name: &str| Some(SecretSource::File(secrets.path().join(name)));
        let config = ObjectStoreConfig {
            endpoint: Some(format!("http://{address}")),
            access_key_id: secret("id"),
            secret_access_key: secret("key"),
            ..config("s3://b/p q".to_owned())
        };
        Self { bucket, config, secrets }
    }

    async fn target(&self) -> ObjectStoreTarget {
        ObjectStoreTarget::open(&self.config).await.expect("a target")
    }

    async fn run(&self) -> ObjectStoreRun {
        let mut run = self.target().await.run(&run_info());
        run.resume(None).await.expect("a target");
        run
    }

    fn names(&self) -> Vec<String> {
        of_bucket(&self.bucket).objects.keys().cloned().collect()
    }
}

/// Returns the images in the run's manifests. `read` returns an object.
fn images_in_manifests(read: impl Fn(&str) -> Option<Vec<u8>>) -> Vec<(String, u64, Sha256)> {
    let box_name = BoxName::new("gpu-17").expect("a name");
    let run = BoxRun { box_name, run: run_info().id, project: None };
    let mut seen = Vec::new();
    for manifest in (1..).map_while(|n| read(&run.manifest_name(n))) {
        let text = String::from_utf8(manifest).expect("text");
        assert!(text.ends_with('\n'), "{text}");
        for line in text.lines() {
            let item: Value = serde_json::from_str(line).expect("JSON");
            let object = read(item["object"].as_str().expect("a name")).expect("an object");
            let key = item["key"].as_str().expect("a key").to_owned();
            seen.push((key, item["step"].as_u64().expect("a step"), Sha256::of(&object)));
        }
    }
    seen
}

struct Fake {
    s3: S3,
    target: ObjectStoreTarget,
}

impl contract::Target for Fake {
    type Sink = ObjectStoreRun;

    fn open(&self) -> ObjectStoreRun {
        self.target.run(&run_info())
    }

    fn seen(&self) -> Vec<(String, u64, Sha256)> {
        let bucket = of_bucket(&self.s3.bucket);
        // The prefix and the run's folder are escaped in a URL.
        images_in_manifests(|name| {
            bucket.objects.get(&format!("p%20q/{}", name.replace('%', "%25"))).cloned()
        })
    }
}

struct Directory(TempDir, ObjectStoreTarget);

impl contract::Target for Directory {
    type Sink = ObjectStoreRun;

    fn open(&self) -> ObjectStoreRun {
        self.1.run(&run_info())
    }

    fn seen(&self) -> Vec<(String, u64, Sha256)> {
        images_in_manifests(|name| std::fs::read(self.0.path().join("deep er").join(name)).ok())
    }
}

/// Runs the suite. It needs targets synchronously, so they are opened before.
async fn check<T: contract::Target>(targets: impl AsyncFn() -> T) {
    let made = Mutex::new(Vec::new());
    for _ in 0..12 {
        let target = targets().await;
        made.lock().expect("targets").push(target);
    }
    contract::check(|| made.lock().expect("targets").pop().expect("enough targets")).await;
}

#[tokio::test]
async fn it_keeps_the_promises_of_a_sink() {
    for ignores_conditions in [false, true] {
        check(async || {
            let s3 = S3::new();
            of_bucket(&s3.bucket).ignores_conditions = ignores_conditions;
            let target = s3.target().await;
            assert_eq!(target.0.store.is_conditional, !ignores_conditions);
            // The probe is removed.
            assert_eq!(s3.names(), Vec::<String>::new());
            Fake { s3, target }
        })
        .await;
    }
    check(async || {
        let folder = tempfile::tempdir().expect("a folder");
        let url = url::Url::from_directory_path(folder.path().join("deep er")).expect("a URL");
        let target = ObjectStoreTarget::open(&config(url.to_string())).await.expect("a target");
        assert!(target.0.store.is_conditional);
        Directory(folder, target)
    })
    .await;
}

async fn deliver(run: &mut ObjectStoreRun, items: &[Delivery]) -> Result<Receipt, SinkError> {
    for item in items {
        run.put(item).await?;
    }
    run.commit(items).await
}

#[tokio::test]
async fn a_manifest_whose_answer_was_lost_is_not_created_twice() {
    let s3 = S3::new();
    let mut images = Images::new();
    let items: Vec<Delivery> = (0..4).map(|step| images.image("k", step, 0)).collect();
    let mut run = s3.run().await;
    of_bucket(&s3.bucket).lost = Some("00000001.jsonl");
    let error = deliver(&mut run, &items[..2]).await.expect_err("a lost answer");
    assert!(matches!(error, SinkError::Retry { .. }), "{error:?}");
    // A new sink after `resume`, and the same sink without.
    for mut run in [s3.run().await, run] {
        run.put(&items[2]).await.expect("an image's files");
        let receipt = run.commit(&items[..3]).await.expect("a receipt");
        assert_eq!(receipt.get::<ManifestReceipt>().expect("a receipt").manifest, 2);
    }
    let target = s3.target().await;
    let fake = Fake { s3, target };
    let steps: Vec<u64> = contract::Target::seen(&fake).iter().map(|(_, step, _)| *step).collect();
    assert_eq!(steps, [0, 1, 2]);
    let runs = fake.s3.names();
    let of_run = runs.iter().filter(|name| name.starts_with("p%20q/runs/gpu-17/a%252Fb/"));
    assert_eq!(of_run.count(), 3, "{runs:?}");
}

#[tokio::test]
async fn two_writers_of_a_run_lose_no_item() {
    let s3 = S3::new();
    let mut images = Images::new();
    let items: Vec<Delivery> = (0..6).map(|step| images.image("k", step, 0)).collect();
    let (mut one, mut other) = (s3.run().await, s3.run().await);
    for (n, items) in items.chunks(2).enumerate() {
        let run = if n % 2 == 0 { &mut one } else { &mut other };
        deliver(run, items).await.expect("a receipt");
    }
    let mut other = s3.run().await;
    deliver(&mut other, &items).await.expect("a receipt");
    let target = s3.target().await;
    let steps: Vec<u64> =
        contract::Target::seen(&Fake { s3, target }).iter().map(|(_, step, _)| *step).collect();
    assert_eq!(steps, [0, 1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn two_boxes_with_the_same_run_lose_no_line() {
    let mut s3 = S3::new();
    for name in ["gpu-17", "gpu-18"] {
        s3.config.box_name = Some(BoxName::new(name).expect("a name"));
        let mut images = Images::new();
        let item = images.image("k", 1, 0);
        deliver(&mut s3.run().await, &[item]).await.expect("a receipt");
    }
    let manifests = manifests(&s3);
    let boxes: Vec<_> = manifests.iter().flatten().map(|line| &line["box"]).collect();
    assert_eq!(boxes, ["gpu-17", "gpu-18"]);
}

/// The lines of each manifest, in the order of their names.
fn manifests(s3: &S3) -> Vec<Vec<Value>> {
    let bucket = of_bucket(&s3.bucket);
    let manifests = bucket
        .objects
        .iter()
        .filter(|(name, _)| name.rsplit_once('.').is_some_and(|(_, ending)| ending == "jsonl"));
    let lines = |bytes: &[u8]| {
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).expect("JSON")).collect()
    };
    manifests.map(|(_, bytes)| lines(bytes)).collect()
}

fn gone(seq: u64) -> Notice {
    let key = crate::media::MediaKey::new("k").expect("a key");
    let id = crate::media::MediaId { key, step: crate::media::Step(7), index: 1 };
    Notice { seq, news: News::Gone(id), time: None }
}

#[tokio::test]
async fn notices_stand_among_the_items_and_are_not_repeated() {
    let s3 = S3::new();
    let mut images = Images::new();
    let items: Vec<Delivery> = (0..2).map(|step| images.image("k", step, 0)).collect();
    let notices = vec![gone(items[1].seq + 1)];
    let mut run = s3.run().await;
    of_bucket(&s3.bucket).lost = Some("00000001.jsonl");
    run.note(notices.clone());
    let error = deliver(&mut run, &items).await.expect_err("a lost answer");
    assert!(matches!(error, SinkError::Retry { .. }), "{error:?}");
    let mut run = s3.run().await;
    run.note(notices);
    deliver(&mut run, &items).await.expect("a receipt");
    // Those alone make a manifest, too.
    run.note(vec![gone(99)]);
    run.commit(&[]).await.expect("a receipt");
    let manifests = manifests(&s3);
    let states =
        |lines: &[Value]| lines.iter().map(|line| line["state"].clone()).collect::<Vec<_>>();
    assert_eq!(states(&manifests[0]), ["image", "image", "gone"]);
    assert_eq!((states(&manifests[1]), manifests.len()), (vec!["gone".into()], 2));
}

#[tokio::test]
async fn each_manifest_has_a_marker_before_its_receipt() {
    let mut s3 = S3::new();
    s3.config.announce = true;
    let mut images = Images::new();
    let items: Vec<Delivery> = (0..2).map(|step| images.image("k", step, 0)).collect();
    let markers = || {
        let names = s3.names();
        let markers = names.iter().filter_map(|name| name.split("/inbox/").nth(1));
        markers.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut run = s3.run().await;
    let receipt = deliver(&mut run, &items[..1]).await.expect("a receipt");
    assert_eq!(markers(), ["gpu-17/a%252Fb/00000001"]);
    of_bucket(&s3.bucket).objects.retain(|name, _| !name.contains("/inbox/"));
    of_bucket(&s3.bucket).refused = Some(("PUT /b/p%20q/inbox/", StatusCode::SERVICE_UNAVAILABLE));
    deliver(&mut run, &items).await.expect_err("no marker, no receipt");
    assert_eq!(manifests(&s3).len(), 2);
    of_bucket(&s3.bucket).refused = None;
    // The first has its receipt, and a catalogue has removed its marker. The second gets its marker.
    let mut run = s3.target().await.run(&run_info());
    run.resume(Some(&receipt)).await.expect("a target");
    assert_eq!(markers(), ["gpu-17/a%252Fb/00000002"]);
    // A box that gets another name begins again.
    s3.config.box_name = Some(BoxName::new("new").expect("a name"));
    let mut run = s3.target().await.run(&run_info());
    run.resume(Some(&receipt)).await.expect("a target");
    deliver(&mut run, &items[1..]).await.expect("a receipt");
    assert!(s3.names().contains(&"p%20q/runs/new/a%252Fb/00000001.jsonl".to_owned()));
}

fn large(images: &mut Images, n_bytes: usize) -> Delivery {
    let mut item = images.image("large", 1, 0);
    let bytes: Vec<u8> = (0..n_bytes).map(|i| u8::try_from(i % 251).unwrap_or(0)).collect();
    std::fs::write(item.path(), &bytes).expect("a file");
    item.file.size = bytes.len() as u64;
    item.file.sha256 = Sha256::of(&bytes);
    item
}

#[tokio::test]
async fn large_files_are_uploaded_in_parts_and_no_part_stays() {
    let s3 = S3::new();
    let mut images = Images::new();
    let item = large(&mut images, 18 << 20);
    let run = s3.run().await;
    of_bucket(&s3.bucket).refused = Some(("partNumber=3", StatusCode::SERVICE_UNAVAILABLE));
    let error = run.put(&item).await.expect_err("an error");
    assert!(matches!(error, SinkError::Retry { .. }), "{error:?}");
    {
        let mut bucket = of_bucket(&s3.bucket);
        assert_eq!((bucket.parts.len(), bucket.objects.len()), (0, 0));
        bucket.refused = None;
    }
    run.put(&item).await.expect("an image's files");
    let n_puts = of_bucket(&s3.bucket).requests.len();
    // The object exists.
    run.put(&item).await.expect("an image's files");
    {
        let bucket = of_bucket(&s3.bucket);
        let whole = bucket.objects.values().next().expect("an object");
        assert_eq!(Sha256::of(whole), item.file.sha256);
        let again = &bucket.requests[n_puts..];
        assert!(again.len() == 1 && again[0].starts_with("HEAD "), "{again:?}");
    }
    // A file with another digest than recorded.
    let mut other = large(&mut images, 9 << 20);
    other.file.sha256 = Sha256::of(b"what was kept");
    let error = run.put(&other).await.expect_err("an error");
    assert!(matches!(error, SinkError::Damaged { .. }), "{error:?}");
    let bucket = of_bucket(&s3.bucket);
    assert_eq!((bucket.parts.len(), bucket.objects.len()), (0, 1));
}

#[tokio::test]
async fn an_object_of_another_size_rejects_the_item() {
    for n_bytes in [None, Some(9 << 20)] {
        let s3 = S3::new();
        let mut images = Images::new();
        let item = match n_bytes {
            None => images.image("k", 1, 0),
            Some(n) => large(&mut images, n),
        };
        let run = s3.run().await;
        run.put(&item).await.expect("an image's files");
        of_bucket(&s3.bucket).objects.values_mut().for_each(|bytes| bytes.truncate(7));
        let error = run.put(&item).await.expect_err("an error");
        assert!(matches!(error, SinkError::Reject { .. }), "{error:?}");
        assert!(error.to_string().contains("has 7 bytes in the store, want "), "{error}");
    }
}

#[tokio::test]
async fn a_failing_store_rejects_no_item() {
    let s3 = S3::new();
    let mut images = Images::new();
    let item = images.image("k", 1, 0);
    let run = s3.run().await;
    for status in [401, 403, 404, 429, 500, 503] {
        let status = StatusCode::from_u16(status).expect("a status");
        of_bucket(&s3.bucket).refused = Some(("PUT /b/", status));
        let n_requests = of_bucket(&s3.bucket).requests.len();
        let error = run.put(&item).await.expect_err("an error");
        assert!(matches!(error, SinkError::Retry { .. }), "{status}: {error:?}");
        assert!(!error.to_string().contains("KEY"), "{error}");
        // The sink does not retry.
        assert_eq!(of_bucket(&s3.bucket).requests.len(), n_requests + 1, "{status}");
    }
    of_bucket(&s3.bucket).refused = None;
    // The key is renewed while the program runs.
    std::fs::remove_file(s3.secrets.path().join("key")).expect("a file");
    let error = run.put(&item).await.expect_err("an error");
    assert!(matches!(error, SinkError::Retry { .. }), "{error:?}");
    assert!(error.to_string().contains("secret "), "{error}");
    std::fs::write(s3.secrets.path().join("key"), "KEY 2").expect("a file");
    run.put(&item).await.expect("an image's files");
}

#[tokio::test]
async fn a_url_with_another_scheme_is_refused() {
    let open = async |url: &str| ObjectStoreTarget::open(&config(url.to_owned())).await.err();
    let error = open("ftp://host/x").await.expect("an error");
    assert!(matches!(error, SinkError::Retry { .. }), "{error:?}");
    let error = open("memory:///x").await.expect("an error").to_string();
    assert!(error.contains("want s3, gs, az or file"), "{error}");
}

#[tokio::test]
async fn links_in_a_directory_are_not_followed() {
    let empty = || {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("deep er")).expect("a folder");
        let url = url::Url::from_directory_path(folder.path().join("deep er")).expect("a URL");
        let location = StoreLocation::open(&config(url.to_string())).expect("a directory");
        let store = Store { location, is_conditional: true, multipart_bytes: 8 << 20 };
        let box_name = BoxName::new("gpu-17").expect("a name");
        let shared = super::Shared { store, box_name, announces: false, origin: None };
        Directory(folder, ObjectStoreTarget(Arc::new(shared)))
    };
    let root = |directory: &Directory| directory.0.path().join("deep er");
    contract::check_links(empty, root, |_| false).await;
}
