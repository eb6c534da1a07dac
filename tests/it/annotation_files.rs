//! Annotations in files beside the dump: loaded as if they stood in the line, and never at the cost of a picture.

use std::fs;
use std::os::unix::fs::symlink;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{TempRun, gray_batch, npy, wait_for};

/// One set of boxes: `n` boxes of class `class`.
fn set(class: u64, n: usize) -> Value {
    let position = json!({"minX": 0.25, "maxX": 0.5, "minY": 0.25, "maxY": 0.75});
    let one =
        json!({"position": position, "class_id": class, "box_caption": format!("box {class}")});
    json!({"box_data": vec![one; n], "class_labels": {class.to_string(): "cat"}})
}

fn line(fields: &Value) -> String {
    let mut line = json!({"key": "k", "step": 1, "data": "tensors/x.npy"});
    let given = fields.as_object().cloned().unwrap_or_default();
    line.as_object_mut().expect("an object").extend(given);
    format!("{line}\n")
}

/// Returns the files of boxes of each item, as JSON.
fn boxes(temp: &TempRun) -> Vec<Value> {
    let read = |item: &Value| {
        assert_eq!((&item["state"], &item["warnings"]), (&json!("image"), &Value::Null), "{item}");
        let sets = item["boxes"].as_object().cloned().unwrap_or_default();
        let sets = sets.into_iter().map(|(name, set)| {
            let path = temp.store().join(set["path"].as_str().expect("a path"));
            let file = fs::read(path).expect("a file of boxes");
            (name, serde_json::from_slice(&file).expect("JSON"))
        });
        Value::Object(sets.collect())
    };
    temp.items().iter().map(read).collect()
}

fn write_json(temp: &TempRun, path: &str, value: &Value) {
    temp.write(path, value.to_string().as_bytes());
}

#[test]
fn files_give_what_the_line_would() {
    let sets = [json!({"gt": set(1, 2)}), json!({"gt": set(2, 1), "path": set(3, 1)}), json!({})];
    let classes = json!([{"id": 1, "name": "dog"}]);
    let of_line = |boxes: Value, classes: Value| {
        let temp = TempRun::new();
        temp.write("tensors/x.npy", &gray_batch(&[1, 2, 3]));
        write_json(&temp, "beside/all.json", &json!(sets));
        write_json(&temp, "beside/1.json", &sets[1]);
        write_json(&temp, "beside/set.json", &set(1, 2));
        write_json(&temp, "beside/classes.json", &json!([{"id": 1, "name": "dog"}]));
        temp.append(
            "a.media.jsonl",
            &line(&json!({"format": "NHW", "boxes": boxes, "classes": classes})),
        );
        let ran = temp.ingest();
        assert_eq!(ran.code, 0, "{ran:?}");
        let classes: Vec<Value> = temp.items().iter().map(|item| item["classes"].clone()).collect();
        (self::boxes(&temp), classes)
    };
    let want = of_line(json!(sets), classes);
    assert_eq!(want.0, sets);
    let file = |name: &str| json!({"path": format!("beside/{name}.json")});
    assert_eq!(of_line(file("all"), file("classes")), want);
    let mixed = json!([{"gt": file("set")}, file("1"), null]);
    assert_eq!(of_line(mixed, file("classes")), want);
}

#[test]
fn masks_may_be_described_in_a_file() {
    let temp = TempRun::new();
    temp.write("tensors/x.npy", &npy("|u1", &[2, 2], &[1, 2, 3, 4]));
    temp.write("tensors/m.npy", &npy("|u1", &[2, 2], &[0, 1, 1, 0]));
    let labels = json!({"0": "road", "1": "car"});
    write_json(
        &temp,
        "m.json",
        &json!({"gt": {"mask_data": "tensors/m.npy", "class_labels": labels}}),
    );
    temp.append("a.media.jsonl", &line(&json!({"masks": {"path": "m.json"}})));
    assert_eq!(temp.ingest().code, 0);
    let item = &temp.items()[0];
    assert_eq!(item["masks"]["gt"]["class_labels"], labels, "{item}");
    assert_eq!(item["masks"]["gt"]["source"]["path"], "tensors/m.npy");
}

#[test]
fn a_sidecar_may_name_a_file() {
    let temp = TempRun::new();
    temp.write("dumps/k/1.npy", &npy("|u1", &[2, 2], &[1, 2, 3, 4]));
    write_json(&temp, "dumps/k/1.npy.json", &json!({"boxes": {"gt": {"path": "boxes.json"}}}));
    write_json(&temp, "boxes.json", &set(1, 3)["box_data"]);
    assert_eq!(temp.ingest().code, 0);
    assert_eq!(boxes(&temp), [json!({"gt": {"box_data": set(1, 3)["box_data"]}})]);
}

#[test]
fn a_line_waits_for_its_file() {
    let temp = TempRun::new();
    temp.write("tensors/x.npy", &npy("|u1", &[2, 2], &[1, 2, 3, 4]));
    let daemon = temp.daemon("");
    temp.append("a.media.jsonl", &line(&json!({"boxes": {"path": "b.json"}})));
    let text = json!({"gt": set(1, 2)}).to_string();
    for half in ["", &text[..text.len() / 2]] {
        sleep(Duration::from_millis(300));
        assert_eq!(temp.items(), [] as [Value; 0]);
        temp.write("b.json", half.as_bytes());
    }
    sleep(Duration::from_millis(300));
    assert_eq!(temp.items(), [] as [Value; 0]);
    temp.write("b.json", text.as_bytes());
    wait_for("the image", || temp.counts() == [1, 0, 0]);
    drop(daemon);
    assert_eq!(boxes(&temp), [json!({"gt": set(1, 2)})]);
}

#[test]
fn a_file_that_does_not_come_costs_a_warning() {
    let temp = TempRun::new();
    temp.write("tensors/x.npy", &npy("|u1", &[2, 2], &[1, 2, 3, 4]));
    temp.append("a.media.jsonl", &line(&json!({"boxes": {"path": "none.json"}})));
    assert_eq!(temp.ingest().code, 0);
    let warnings = temp.items()[0]["warnings"].clone();
    let warning = warnings[0].as_str().unwrap_or_default();
    assert!(warning.starts_with("boxes: ") && warning.contains("none.json"), "{warnings}");
}

#[test]
fn a_bad_file_costs_a_warning() {
    let temp = TempRun::new();
    temp.write("tensors/x.npy", &npy("|u1", &[2, 2], &[1, 2, 3, 4]));
    temp.write("text.json", b"boxes: none");
    temp.write("number.json", b"7");
    temp.write("deep.json", ("[".repeat(300) + &"]".repeat(300)).as_bytes());
    temp.write("large.json", &vec![b' '; 17 << 20]);
    fs::create_dir(temp.at("folder.json")).expect("a folder");
    write_json(&temp, "good.json", &json!({"gt": set(1, 1)}));
    symlink(temp.at("good.json"), temp.at("link.json")).expect("a link");
    write_json(&temp, "../outside.json", &json!({"gt": set(1, 1)}));
    let cases = [
        ("text.json", "expected value"),
        ("deep.json", "nested deeper than 64 levels"),
        ("large.json", "limits.annotation_bytes_max is 16777216 for all files of a line"),
        ("folder.json", "is a directory"),
        ("link.json", "is a symbolic link"),
        ("../outside.json", "leaves the run directory"),
        ("/etc/passwd", "lies outside of the run directory"),
    ];
    for (i, (path, _)) in cases.iter().enumerate() {
        let place = json!({"step": i, "boxes": {"path": path}, "caption": path});
        temp.append("a.media.jsonl", &line(&place));
    }
    assert_eq!(temp.ingest().code, 0);
    let items = temp.items();
    assert_eq!(items.len(), cases.len());
    for (item, (path, want)) in items.iter().zip(cases) {
        let warning = item["warnings"][0].as_str().unwrap_or_else(|| panic!("no warning: {item}"));
        assert!(warning.starts_with("boxes: ") && warning.contains(want), "{path}: {warning}");
        assert_eq!((&item["state"], &item["boxes"]), (&json!("image"), &Value::Null), "{item}");
    }
}

#[test]
fn the_journal_of_held_items_names_the_file() {
    let temp = TempRun::new();
    let numbers: Vec<u64> = (0..40).collect();
    temp.write("tensors/x.npy", &gray_batch(&numbers));
    temp.write("tensors/m.npy", &npy("|u1", &[2, 2], &[0, 1, 1, 0]));
    let sets: Vec<Value> = numbers.iter().map(|n| json!({"gt": set(*n, 100)})).collect();
    write_json(&temp, "b.json", &json!(sets));
    let labels: Value = (0..500).map(|id| (id.to_string(), json!(format!("class {id}")))).collect();
    let mask = json!({"gt": {"mask_data": "tensors/m.npy", "class_labels": labels}});
    write_json(&temp, "m.json", &json!(vec![&mask; 40]));
    let fields = json!({"format": "NHW", "boxes": {"path": "b.json"}, "masks": {"path": "m.json"}});
    temp.append("a.media.jsonl", &line(&fields));
    let run = temp.at("");
    let limit = "[limits]\nmax_items = 1\n";
    let ran = temp.run_with(limit, &["ingest", run.to_str().expect("a path")]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(temp.counts(), [1, 39, 0]);
    for item in &temp.items()[1..] {
        let want =
            json!({"boxes": {"path": "b.json"}, "masks": {"gt": {"mask_data": "tensors/m.npy"}}});
        assert_eq!(item["annotations"], want);
    }
    let held: usize = temp.journaled_items()[1..].iter().map(|item| item.to_string().len()).sum();
    assert!(held < 39 * 1000, "{held} bytes of held items");

    let ran = temp.run_with("[limits]\nmax_items = 40\n", &["release"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(temp.counts(), [40, 0, 0]);
    for (n, item) in temp.items().iter().enumerate() {
        let path = temp.store().join(item["boxes"]["gt"]["path"].as_str().expect("a path"));
        let file: Value = serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON");
        assert_eq!(file, sets[n]["gt"]);
        assert_eq!(item["masks"]["gt"]["class_labels"], labels);
    }
}
