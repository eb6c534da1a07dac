//! Delivery to real servers through a faulty proxy, by a daemon that is killed repeatedly. In the end each
//! item must be there once. `SAFELIGHT_FAULT_ITEMS` (`./test.sh faults N`) is the number of items.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{PROGRAM, Random, TempRun, number_from, wait_for_all};
use crate::mlflow_sync::{self, Api};
use crate::object_store_sync::{self, KEYS};
use crate::proxy::Proxy;
use crate::target_server::{Http, Server, program};
use crate::trackio_sync;

/// Percentage of requests that fail.
const PERCENT: u32 = 15;

/// How long the test waits for the next item to arrive.
const SILENCE_MAX: Duration = Duration::from_mins(3);

/// Logs images while a daemon that is killed repeatedly delivers them through the proxy. Waits until all
/// have arrived.
fn storm(temp: &TempRun, server: &Server, settings: impl Fn(u16) -> String, seed: u64) {
    let n = number_from("SAFELIGHT_FAULT_ITEMS", 40);
    let proxy = Proxy::new(server.port, PERCENT, seed);
    let settings = settings(proxy.port);
    let start = || {
        let mut command = Command::new(PROGRAM);
        command.envs(KEYS);
        temp.daemon_from(&settings, command)
    };
    let mut luck = Random(seed);
    let mut n_logged = 0;
    while n_logged < n {
        let daemon = start();
        for _ in 0..(1 + luck.below(n / 4)).min(n - n_logged) {
            temp.log_picture("k", n_logged, n_logged);
            n_logged += 1;
        }
        std::thread::sleep(Duration::from_millis(200 + luck.below(1500)));
        // Dropping the daemon kills it.
        drop(daemon);
    }
    let daemon = start();
    wait_for_all("the images", n, || temp.n_images());
    let (mut delivered, mut since) = (0, Instant::now());
    loop {
        let target = temp.status()["targets"][0].clone();
        let of = |field: &str| target[field].as_u64().expect("a number");
        if of("pending") == 0 && of("set_aside") == 0 {
            break;
        }
        if of("pending") == 0 {
            // Items whose deliveries failed too often are parked. `retry` delivers them, as a user would.
            let config = temp.folder().join("safelight.toml");
            temp.run(&["retry", "--config", config.to_str().expect("a path")]);
        }
        if of("delivered") > delivered {
            (delivered, since) = (of("delivered"), Instant::now());
        }
        assert!(since.elapsed() < SILENCE_MAX, "{target}\n{}", daemon.log_text());
        std::thread::sleep(Duration::from_millis(100));
    }
    let (n_requests, n_faults) = proxy.counts();
    eprintln!("{n} items: {n_faults} of {n_requests} requests failed");
    assert!(n_faults > 0);
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn mlflow_gets_each_item_once_over_faults_and_kills() {
    let Some(server) = mlflow_sync::server() else { return };
    let temp = TempRun::new();
    let settings = |port| {
        format!(
            "[sync.team]\nkind = \"mlflow\"\nurl = \"http://127.0.0.1:{port}\"\nexperiment = \"night shift\"\n"
        )
    };
    storm(&temp, &server, settings, 11);
    let api = Api { http: Http::new(), server: &server };
    let runs = api.runs();
    assert_eq!(runs.len(), 1, "{runs:?}");
    let id = runs[0]["info"]["run_id"].as_str().expect("an id");
    mlflow_sync::check(&temp, &api.artifacts(id));
}

#[test]
fn s3_gets_each_item_once_over_faults_and_kills() {
    let Some(server) = object_store_sync::seaweedfs() else { return };
    let temp = TempRun::new();
    storm(&temp, &server, object_store_sync::settings, 12);
    let mut objects = object_store_sync::objects(&object_store_sync::bucket(&server), "pre fix");
    // A kill during a probe leaves its object behind.
    objects.retain(|name, _| !name.contains("probe"));
    object_store_sync::check(&temp, &objects);
}

#[test]
fn trackio_gets_each_item_once_over_faults_and_kills() {
    let Some(environment) = program("SAFELIGHT_TRACKIO") else { return };
    let temp = TempRun::new();
    let identity: Value = json!({"id": "run", "project": "demo", "name": "first"});
    temp.write("safelight.json", identity.to_string().as_bytes());
    std::fs::write(temp.folder().join("token"), "tok\n").expect("a file");
    let server = trackio_sync::trackio(&environment, &temp);
    let settings = |port| {
        format!(
            "[sync.team]\nkind = \"trackio\"\nurl = \"http://127.0.0.1:{port}\"\ntoken = {{ file = \"token\" }}\n"
        )
    };
    storm(&temp, &server, settings, 13);
    trackio_sync::compare(&server, &temp);
}
