//! Delivery to real object stores: `SeaweedFS`, which implements S3, and Azurite.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use object_store::aws::AmazonS3Builder;
use object_store::azure::{
    AzureAccessKey, AzureAuthorizer, AzureCredential, MicrosoftAzureBuilder,
};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use reqwest::Method;
use serde_json::Value;

use crate::harness::{PROGRAM, Ran, TempRun, npy};
use crate::proxy::Proxy;
use crate::target_server::{Http, Server, free_port, program};

pub(crate) const KEYS: [(&str, &str); 2] =
    [("TEST_KEY_ID", "AKTEST"), ("TEST_SECRET", "SKTESTSKTEST")];

/// Starts `SeaweedFS` with a bucket `media`.
pub(crate) fn seaweedfs() -> Option<Server> {
    let weed = program("SAFELIGHT_WEED")?;
    let port = free_port();
    Some(Server::start(port, "/", |folder| {
        let mut command = Command::new(&weed);
        command.arg("mini").arg(format!("-dir={}", folder.display()));
        let plain = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-bucket=media"];
        command.args(plain).args(["-master.telemetry=false", "-webdav=false", "-admin.ui=false"]);
        command.args(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
        command.arg(format!("-s3.port={port}"));
        for part in ["master", "filer", "volume", "admin"] {
            command.arg(format!("-{part}.port={}", free_port()));
        }
        command.env("AWS_ACCESS_KEY_ID", KEYS[0].1).env("AWS_SECRET_ACCESS_KEY", KEYS[1].1);
        command
    }))
}

/// Returns a client of its bucket.
pub(crate) fn bucket(server: &Server) -> Arc<dyn ObjectStore> {
    let store = AmazonS3Builder::new()
        .with_endpoint(server.url(""))
        .with_allow_http(true)
        .with_bucket_name("media")
        .with_access_key_id(KEYS[0].1)
        .with_secret_access_key(KEYS[1].1);
    Arc::new(store.build().expect("a store"))
}

pub(crate) fn settings(port: u16) -> String {
    format!(
        "[sync.team]\nkind = \"object_store\"\nurl = \"s3://media/pre fix\"\nbox = \"gpu-17\"\nmanifest_s = 0\nmultipart_bytes = 5242880\n\
         endpoint = \"http://127.0.0.1:{port}\"\naccess_key_id = {{ env = \"TEST_KEY_ID\" }}\n\
         secret_access_key = {{ env = \"TEST_SECRET\" }}\n"
    )
}

fn command(temp: &TempRun, settings: &str, keys: &[(&str, &str)]) -> Command {
    let config = temp.configure(settings);
    let mut command = Command::new(PROGRAM);
    command.args(["sync", "team", "--once", "--config"]).arg(config);
    command.arg("--store").arg(temp.store()).envs(keys.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn sync(temp: &TempRun, settings: &str, keys: &[(&str, &str)]) -> Ran {
    command(temp, settings, keys).output().expect("the program").into()
}

/// Returns all objects below a prefix by their names.
pub(crate) fn objects(store: &Arc<dyn ObjectStore>, prefix: &str) -> BTreeMap<String, Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let below = Path::parse(prefix).expect("a prefix");
        let listed = store.list(Some(&below));
        let listed: Vec<_> = futures_util::TryStreamExt::try_collect(listed).await.expect("a list");
        let mut found = BTreeMap::new();
        for object in listed {
            let bytes = store.get(&object.location).await.expect("an object").bytes().await;
            let name = object.location.as_ref().strip_prefix(&format!("{prefix}/"));
            found.insert(name.expect("a name").to_owned(), bytes.expect("its bytes").to_vec());
        }
        found
    })
}

/// Checks that the manifests name each item of the store once, and that its objects equal its files.
pub(crate) fn check(temp: &TempRun, objects: &BTreeMap<String, Vec<u8>>) {
    let is_manifest = |name: &str| {
        name.starts_with("runs/")
            && name.rsplit_once('.').is_some_and(|(_, ending)| ending == "jsonl")
    };
    let manifests = objects.iter().filter(|(name, _)| is_manifest(name));
    let mut lines: Vec<Value> = Vec::new();
    for (_, manifest) in manifests {
        let text = String::from_utf8(manifest.clone()).expect("text");
        lines.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")));
    }
    let items = temp.items();
    assert_eq!(lines.len(), items.len());
    let place = |item: &Value| ["key", "step", "index"].map(|field| item[field].to_string());
    let mut by_place: BTreeMap<_, Value> =
        lines.into_iter().map(|line| (place(&line), line)).collect();
    let mut names = BTreeSet::new();
    for item in &items {
        let mut line = by_place.remove(&place(item)).unwrap_or_else(|| panic!("no {item}"));
        let fields = line.as_object_mut().expect("a line");
        let object = fields.remove("object").expect("an object");
        assert_eq!(fields.remove("v"), Some(1.into()));
        assert_eq!(fields.remove("box"), Some("gpu-17".into()));
        assert_eq!(fields.remove("project"), Some(Value::Null));
        assert!(fields.remove("seq").is_some() && fields.remove("time").is_some());
        let mut same = |object: &Value, of: &Value| {
            let name = object.as_str().expect("a name");
            let path = temp.store().join(of["path"].as_str().expect("a path"));
            assert!(objects[name] == fs::read(path).expect("a file"), "{name}");
            names.insert(name.to_owned());
        };
        same(&object, item);
        for kind in ["masks", "boxes"] {
            for (name, set) in item[kind].as_object().into_iter().flatten() {
                let object = line[kind][name].as_object_mut().expect("a set").remove("object");
                same(&object.expect("an object"), set);
            }
        }
        assert_eq!(line, *item);
    }
    let media: BTreeSet<String> =
        objects.keys().filter(|name| name.starts_with("media/")).cloned().collect();
    assert_eq!(media, names);
    assert!(objects.contains_key("runs/gpu-17/run/run.json"));
    assert!(objects.keys().all(|name| !name.contains("probe")), "a probe is left behind");
}

/// Returns a run with an image that is larger than a part of an upload, and one with a mask and boxes.
fn run() -> TempRun {
    let temp = TempRun::new();
    for step in 0..8 {
        temp.log_picture("val/pred", step, step);
    }
    let mut luck = fastrand::Rng::with_seed(3);
    let noise: Vec<u8> = (0..1600 * 1600 * 3).map(|_| luck.u8(..)).collect();
    temp.write("tensors/noise.npy", &npy("|u1", &[1600, 1600, 3], &noise));
    temp.append("a.media.jsonl", "{\"key\":\"noise\",\"step\":1,\"data\":\"tensors/noise.npy\"}\n");
    temp.append(
        "a.media.jsonl",
        concat!(
            r#"{"key":"seen","step":1,"data":"tensors/val-pred-1-1.npy","caption":"a car","#,
            r#""masks":{"gt":{"mask_data":"tensors/val-pred-2-2.npy","class_labels":{"1":"car"}}},"#,
            r#""boxes":{"pred":{"box_data":[{"position":{"minX":0.1,"maxX":0.5,"minY":0.2,"maxY":0.7},"#,
            r#""class_id":1}],"class_labels":{"1":"car"}}}}"#,
            "\n",
        ),
    );
    let ran = temp.ingest();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(temp.items().iter().any(|item| item["size"].as_u64() > Some(6 << 20)));
    temp
}

#[test]
fn a_real_s3_gets_each_item_once_despite_faults() {
    let Some(server) = seaweedfs() else { return };
    let temp = run();
    // A delivery with a wrong key is retried later, because the key may be corrected.
    let wrong = [KEYS[0], ("TEST_SECRET", "WRONG")];
    let ran = sync(&temp, &settings(server.port), &wrong);
    let said = format!("{}{}", ran.out, ran.err);
    assert!(ran.code != 0 && !said.contains("rejected") && !said.contains("parked"), "{ran:?}");

    // One in ten requests fails.
    let proxy = Proxy::new(server.port, 10, 5);
    let mut ran = sync(&temp, &settings(proxy.port), &KEYS);
    for _ in 0..20 {
        if ran.code == 0 {
            break;
        }
        // An item whose deliveries failed too often is parked. `retry` delivers it again.
        let config = temp.configure(&settings(proxy.port));
        temp.run(&["retry", "team", "--config", config.to_str().expect("a path")]);
        ran = sync(&temp, &settings(proxy.port), &KEYS);
    }
    assert!(ran.code == 0 && proxy.counts().1 > 0, "{ran:?} {:?}", proxy.counts());
    let store = bucket(&server);
    let got = objects(&store, "pre fix");
    check(&temp, &got);

    // The state of the delivery is lost.
    fs::remove_dir_all(temp.store().join("sync")).expect("a folder");
    let ran = sync(&temp, &settings(server.port), &KEYS);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(objects(&store, "pre fix") == got, "other objects");
}

#[test]
fn two_writers_of_a_run_list_each_item_once() {
    let Some(server) = seaweedfs() else { return };
    let temp = run();
    // A store and its copy deliver at the same time.
    let other = TempRun::new();
    let copied = Command::new("cp").arg("-r").arg(temp.store()).arg(other.store()).status();
    assert!(copied.expect("cp").success());
    let settings = settings(server.port);
    let start =
        |of: &TempRun| -> Child { command(of, &settings, &KEYS).spawn().expect("the program") };
    for child in [start(&temp), start(&other)] {
        let ran = Ran::from(child.wait_with_output().expect("the program"));
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    let store = bucket(&server);
    check(&temp, &objects(&store, "pre fix"));
}

/// The fixed account key of Azurite, from its documentation.
const AZURITE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

#[test]
fn a_real_azure_blob_storage_gets_each_item_once() {
    let Some(azurite) = program("SAFELIGHT_AZURITE") else { return };
    let port = free_port();
    let server = Server::start(port, "/", |folder| {
        let mut command = Command::new(&azurite);
        command.args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string(), "--silent"]);
        command.args(["--disableTelemetry", "--skipApiVersionCheck", "--location"]).arg(folder);
        command
    });
    let endpoint = server.url("/devstoreaccount1");
    let store = MicrosoftAzureBuilder::new()
        .with_endpoint(endpoint.clone())
        .with_allow_http(true)
        .with_account("devstoreaccount1")
        .with_access_key(AZURITE_KEY)
        .with_container_name("media");
    let store: Arc<dyn ObjectStore> = Arc::new(store.build().expect("a store"));
    make_container(&endpoint);
    let temp = run();
    let settings = format!(
        "[sync.team]\nkind = \"object_store\"\nurl = \"az://media/deep/er\"\nbox = \"gpu-17\"\nmultipart_bytes = 5242880\n\
         endpoint = \"{endpoint}\"\naccount_key = {{ env = \"TEST_KEY\" }}\n"
    );
    for _ in 0..2 {
        let ran = sync(&temp, &settings, &[("TEST_KEY", AZURITE_KEY)]);
        assert_eq!(ran.code, 0, "{ran:?}");
        check(&temp, &objects(&store, "deep/er"));
        fs::remove_dir_all(temp.store().join("sync")).expect("a folder");
    }
}

/// Creates the container `media`, for which the crate has no function.
fn make_container(endpoint: &str) {
    let url = format!("{endpoint}/media?restype=container");
    let body = object_store::client::HttpRequestBody::empty();
    let request = axum::http::Request::builder().method("PUT").uri(&url).body(body);
    let mut request = request.expect("a request");
    let key = AzureAccessKey::try_new(AZURITE_KEY).expect("a key");
    let key = AzureCredential::AccessKey(key);
    let signed = AzureAuthorizer::new(&key, "devstoreaccount1").try_authorize(&mut request);
    signed.expect("a signature");
    let headers = request.headers().clone();
    let answer = Http::new().ask(Method::PUT, &url, |request| request.headers(headers));
    let (status, body) = answer.expect("an answer");
    assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
}
