//! Dumps that hold several tensors, or more than tensors: each is an item, or is counted as skipped.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::harness::{TempRun, gray, npy, npz, number_in, wait_for};

/// A dump that real writers made (`tests/golden/dumps/containers.py`).
fn golden(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/dumps/containers");
    fs::read(folder.join(name)).expect("a golden dump")
}

/// Returns key, state and reason of each item, in their order.
fn items(temp: &TempRun) -> Vec<(String, String, String)> {
    let text = |item: &Value, name: &str| item[name].as_str().unwrap_or_default().to_owned();
    let items = temp.items();
    let mut items: Vec<_> =
        items.iter().map(|i| (text(i, "key"), text(i, "state"), text(i, "reason"))).collect();
    items.sort();
    items
}

fn keys(temp: &TempRun) -> Vec<String> {
    items(temp).into_iter().map(|(key, ..)| key).collect()
}

/// Checks that all is rejected once, for a reason that has these texts.
fn check_rejected(temp: &TempRun, want: &[&str]) {
    let items = items(temp);
    let [(_, state, reason)] = items.as_slice() else { panic!("{items:?}") };
    assert_eq!(state, "rejected");
    assert!(want.iter().all(|want| reason.contains(want)), "{reason}, want {want:?}");
}

fn report(temp: &TempRun) -> Value {
    let run = temp.at("");
    let ran = temp.run(&["ingest", run.to_str().expect("a path"), "--json"]);
    serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"))
}

#[test]
fn appended_arrays_are_items_of_their_own() {
    // Regression: of a file to which np.save appended, only the first array was read.
    let temp = TempRun::new();
    temp.write("dumps/append/000001.npy", &[gray(7), gray(8)].concat());
    temp.write("dumps/lone/000001.npy", &gray(9));
    assert_eq!(temp.ingest().code, 0);
    assert_eq!(keys(&temp), ["append/0", "append/1", "lone"]);
    let numbers: Vec<u64> =
        temp.items().iter().map(|item| number_in(&temp.store(), item)).collect();
    assert_eq!(numbers, [7, 8, 9]);
}

#[test]
fn arrays_after_objects_and_texts_are_found() {
    let temp = TempRun::new();
    for name in ["appended-objects", "appended-text", "appended-structure", "appended-shapes"] {
        temp.write(&format!("dumps/{name}/000001.npy"), &golden(&format!("{name}.npy")));
    }
    let report = report(&temp);
    let got = items(&temp);
    let images = got.iter().filter(|(_, state, _)| state == "image");
    let images: Vec<&str> = images.map(|(key, ..)| key.as_str()).collect();
    let want = [
        "appended-objects/0",
        "appended-objects/2",
        "appended-shapes/0",
        "appended-shapes/1",
        "appended-shapes/4",
        "appended-structure/1",
        "appended-structure/3",
        "appended-text/1",
        "appended-text/4",
    ];
    assert_eq!(images, want, "{got:?}");
    // A structure may be a picture that we cannot read.
    let rejected: Vec<_> = got.iter().filter(|(_, state, _)| state == "rejected").collect();
    let [(key, _, reason)] = rejected.as_slice() else { panic!("{rejected:?}") };
    assert_eq!(key, "appended-structure/2");
    assert!(reason.contains("structures"), "{reason}");
    assert_eq!((&report["skipped"]["n"], &report["skipped"]["dumps"]), (&7.into(), &4.into()));
}

#[test]
fn bytes_after_an_array_are_a_rejected_item_beside_its_image() {
    let temp = TempRun::new();
    let n = gray(1).len();
    temp.write("dumps/text/000001.npy", &[gray(1), b"# made by train.py".to_vec()].concat());
    temp.write("dumps/zeros/000001.npy", &[gray(2), gray(3), vec![0; 4096]].concat());
    let ran = temp.ingest();
    assert_eq!(ran.code, 3, "{ran:?}");
    let got = items(&temp);
    let states: Vec<_> = got.iter().map(|(key, state, _)| (key.as_str(), state.as_str())).collect();
    let want = [
        ("text", "image"),
        ("text", "rejected"),
        ("zeros", "rejected"),
        ("zeros/0", "image"),
        ("zeros/1", "image"),
    ];
    assert_eq!(states, want);
    let (_, _, of_text) = &got[1];
    assert!(of_text.contains(&format!("18 bytes from byte {n} on are no array")), "{of_text}");
    assert!(of_text.contains("# made by"), "{of_text}");
    let (_, _, of_zeros) = &got[2];
    assert!(of_zeros.contains(&format!("4096 bytes from byte {} on", 2 * n)), "{of_zeros}");
    assert!(of_zeros.contains("made longer in advance"), "{of_zeros}");
}

#[test]
fn an_array_that_is_being_appended_is_waited_for() {
    let temp = TempRun::new();
    let (first, second) = (gray(1), gray(2));
    temp.write("dumps/k/000001.npy", &[&first[..], &second[..second.len() - 3]].concat());
    let daemon = temp.daemon("[ingest]\nsettle_ms = 50\nincomplete_ms = 60000\n");
    let is_waiting = || {
        let waiting = temp.status()["ingest"]["waiting"].as_array().cloned().unwrap_or_default();
        waiting.iter().any(|w| w["reason"].as_str().is_some_and(|why| why.contains("truncated")))
    };
    wait_for("the dump waits", is_waiting);
    assert_eq!(temp.n_images(), 0);
    temp.write("dumps/k/000001.npy", &[first, second].concat());
    wait_for("both arrays", || temp.n_images() == 2);
    daemon.stop();
    assert_eq!(keys(&temp), ["k/0", "k/1"]);
    // A command does not wait: the whole array is an image, and the cut one is rejected.
    let temp = TempRun::new();
    let (first, second) = (gray(1), gray(2));
    temp.write("dumps/k/000001.npy", &[&first[..], &second[..second.len() - 3]].concat());
    assert_eq!(temp.ingest().code, 3);
    assert_eq!(keys(&temp), ["k/0", "k/1"]);
    assert!(items(&temp)[1].2.contains("truncated"), "{:?}", items(&temp));
    // The rest comes later, and the array takes its place.
    temp.write("dumps/k/000001.npy", &[first, second].concat());
    assert_eq!(temp.ingest().code, 0);
    assert_eq!((keys(&temp), temp.counts()), (vec!["k/0".to_owned(), "k/1".to_owned()], [2, 0, 0]));
}

#[test]
fn an_array_that_a_line_names_before_it_is_whole_takes_its_place_later() {
    let temp = TempRun::new();
    let (first, second) = (gray(1), gray(2));
    temp.write("t.npy", &[&first[..], &second[..second.len() - 3]].concat());
    temp.append("a.media.jsonl", "{\"key\":\"k\",\"step\":1,\"data\":\"t.npy\"}\n");
    assert_eq!(temp.ingest().code, 3);
    assert_eq!((keys(&temp), temp.counts()), (vec!["k/0".to_owned(), "k/1".to_owned()], [1, 0, 1]));
    temp.write("t.npy", &[first, second].concat());
    assert_eq!(temp.ingest().code, 0, "{:?}", items(&temp));
    assert_eq!((keys(&temp), temp.counts()), (vec!["k/0".to_owned(), "k/1".to_owned()], [2, 0, 0]));
}

#[test]
fn labels_beside_a_picture_are_skipped_and_counted() {
    // Regression: labels and texts beside a picture were rejected items.
    let temp = TempRun::new();
    temp.write("dumps/sample/000001.npz", &golden("labels.npz"));
    let ran = temp.ingest();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(temp.counts(), [1, 0, 0]);
    assert_eq!(keys(&temp), ["sample/img"]);
    let want = [
        "skipped   5 entries of 1 dump without a picture",
        "[retention] skipped = \"remove\"",
        "run/dumps/sample/000001.npz: \"label\" (int64 with 0 axes), \"name\" (text)",
    ];
    for want in want {
        assert!(ran.out.contains(want), "{}, want {want}", ran.out);
    }
    // A line that names one of them wants it as a picture.
    temp.write("labels.npz", &golden("labels.npz"));
    for tensor in ["label", "name"] {
        let data = format!(r#"{{"path":"labels.npz","tensor":"{tensor}"}}"#);
        temp.append("a.media.jsonl", &format!("{{\"key\":\"k\",\"step\":1,\"data\":{data}}}\n"));
    }
    assert_eq!(temp.ingest().code, 3);
    assert_eq!(temp.counts(), [1, 0, 2]);
}

#[test]
fn a_dump_without_any_picture_is_rejected_once_and_says_what_it_holds() {
    let temp = TempRun::new();
    let label = npy("<i8", &[1], &[0; 8]);
    let name = npy("<U1", &[1], &[97, 0, 0, 0]);
    temp.write("dumps/sample/1.npz", &npz(&[("label.npy", label.clone()), ("name.npy", name)]));
    assert_eq!(temp.ingest().code, 3);
    let want = ["holds no picture", "\"label\" (int64 with 1 axis)", "\"name\" (text)"];
    check_rejected(&temp, &want);
    let temp = TempRun::new();
    temp.write("dumps/sample/1.npz", &npz(&[("README.txt", b"hello".to_vec())]));
    assert_eq!(temp.ingest().code, 3);
    check_rejected(&temp, &["holds no picture", "\"README.txt\" (no npy file)"]);
    let temp = TempRun::new();
    temp.write("dumps/sample/1.npy", &[label.clone(), label].concat());
    assert_eq!(temp.ingest().code, 3);
    check_rejected(&temp, &["holds no picture", "\"1\" (int64 with 1 axis)"]);
}

#[test]
fn torch_keys_of_any_type_name_their_tensors() {
    // Regression: a tensor whose key was not a text was ignored.
    for protocol in [2, 4, 5] {
        let temp = TempRun::new();
        temp.write("dumps/keys/000001.pt", &golden(&format!("odd-keys-{protocol}.pt")));
        let ran = temp.ingest();
        assert_eq!((ran.code, temp.counts()), (0, [9, 0, 0]), "{ran:?}");
        for key in ["keys/a", "keys/('b', 1)", "keys/None", "keys/7", "keys/1.5", "keys/True"] {
            assert!(keys(&temp).contains(&key.to_owned()), "{:?}, want {key}", keys(&temp));
        }
    }
}

#[test]
fn of_two_keys_with_the_same_text_the_second_is_rejected_by_name() {
    let temp = TempRun::new();
    temp.write("dumps/k/000001.pt", &golden("same-text.pt"));
    assert_eq!(temp.ingest().code, 3);
    assert_eq!(temp.counts(), [3, 0, 1]);
    let got = items(&temp);
    let (key, _, reason) =
        got.iter().find(|(_, state, _)| state == "rejected").expect("a rejected item");
    assert!(key == "k" && reason.contains("holds two tensors \"1\""), "{got:?}");
}

#[test]
fn unknown_objects_in_a_torch_file_cost_no_tensor() {
    // Regression: the whole file was refused for a class that Safelight does not know.
    let temp = TempRun::new();
    temp.write("dumps/opaque/000001.pt", &golden("opaque.pt"));
    temp.write("dumps/subclass/000001.pt", &golden("subclass.pt"));
    temp.write("dumps/within/000001.pt", &golden("within-2.pt"));
    let ran = temp.ingest();
    assert_eq!((ran.code, temp.counts()), (0, [12, 0, 0]), "{ran:?}\n{:?}", items(&temp));
    assert!(ran.out.contains("\"args\" (argparse.Namespace)"), "{}", ran.out);
    let names = keys(&temp);
    assert_eq!(names[0], "opaque");
    for key in ["subclass/plain", "subclass/attribute", "within/sample/image"] {
        assert!(names.contains(&key.to_owned()), "{names:?}, want {key}");
    }
    // Only a tensor that depends on an unknown object is rejected.
    let temp = TempRun::new();
    temp.write("dumps/one-bad/000001.pt", &golden("one-bad.pt"));
    assert_eq!(temp.ingest().code, 3);
    let states: Vec<_> = items(&temp).into_iter().map(|(key, state, _)| (key, state)).collect();
    let want = ["good", "made", "quantized", "storage"].map(|name| {
        let state = if name == "good" { "image" } else { "rejected" };
        (format!("one-bad/{name}"), state.to_owned())
    });
    assert_eq!(states, want);
}

#[test]
fn numpy_arrays_in_a_torch_file_are_items() {
    for protocol in [2, 4] {
        let temp = TempRun::new();
        temp.write("dumps/arrays/000001.pt", &golden(&format!("arrays-{protocol}.pt")));
        let report = report(&temp);
        assert_eq!(temp.counts(), [4, 0, 0], "{:?}", items(&temp));
        assert_eq!(report["skipped"]["n"], 4, "{report}");
    }
}
