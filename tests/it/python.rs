//! The Python module: its own tests, and the images that the daemon makes from its files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use safelight::limits::of_writers;
use safelight::media::{ColorMode, Colormap, Compression, DataFormat, FileType, Profile, Sha256};
use safelight::record::{Alpha, ImageOptions, parse_line};
use safelight::tensor::DType;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::harness::{TempRun, number_from, wait_for};
use crate::wandb_peer::pythons;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python")
}

/// Returns the system's Python, without `NumPy` and Pillow, and those that have them.
fn all_pythons() -> Vec<PathBuf> {
    let mut pythons = pythons();
    pythons.push(PathBuf::from("python3"));
    pythons
}

#[test]
fn the_limits_of_the_module_are_those_of_the_reader() {
    let names = |name: &&str| *name == "bfloat16" || name.starts_with("float8_");
    let table = json!({
        "limits": BTreeMap::from(of_writers()),
        "raw_types": DType::ALL.map(DType::name).iter().filter(|n| names(n)).collect::<Vec<_>>(),
    });
    let path = folder().join("safelight/_limits.json");
    if std::env::var_os("SAFELIGHT_UPDATE").is_some() {
        let text = serde_json::to_string_pretty(&table).expect("JSON");
        fs::write(&path, text + "\n").expect("the table");
    }
    let found: Value = serde_json::from_slice(&fs::read(&path).expect("a table")).expect("JSON");
    assert_eq!(found, table, "SAFELIGHT_UPDATE=1 writes the table anew");
}

/// Returns the names that `serde` lists when it refuses another one.
fn names_of<T: DeserializeOwned>() -> Vec<String> {
    let error = serde_json::from_str::<T>("\"?\"").err().expect("no such name").to_string();
    assert!(error.starts_with("unknown variant `?`, expected "), "{error}");
    error.split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

/// The choices of each option, by the name of their Python type.
fn choices() -> Vec<(&'static str, Vec<String>)> {
    let is_accepted = |field: &str, name: &String| option_error(field, &json!(name)).is_none();
    let made = |field: &str, names: Vec<String>| {
        names.into_iter().filter(|name| is_accepted(field, name)).collect()
    };
    vec![
        ("Alpha", names_of::<Alpha>()),
        ("Colormap", names_of::<Colormap>()),
        ("Compression", names_of::<Compression>()),
        // Not every type of a media file can be asked for.
        ("FileType", made("file_type", names_of::<FileType>())),
        ("Format", names_of::<DataFormat>()),
        ("Mode", made("mode", names_of::<ColorMode>())),
        ("Profile", names_of::<Profile>()),
    ]
}

/// Returns why the daemon rejects an option of an image, or `None`.
fn option_error(name: &str, value: &Value) -> Option<String> {
    let line = json!({"key": "k", "step": 0, "data": "a.npy", name: value}).to_string();
    parse_line(line.as_bytes()).err().map(|error| error.to_string())
}

#[test]
fn the_choices_of_the_module_are_those_of_the_daemon() {
    let mut lines = vec![
        "\"\"\"The names that the daemon accepts. A test of the daemon writes this file.\n\n\
         SAFELIGHT_UPDATE=1 cargo test --test it python::the_choices\n\"\"\"\n\n\
         from __future__ import annotations\n\nfrom typing import Literal\n\n\
         __all__ = ["
            .to_owned(),
    ];
    let all = choices();
    let element = |name: &str| format!("    {name:?},");
    lines.extend(all.iter().map(|(name, _)| element(name)));
    lines.push("]\n".to_owned());
    for (name, names) in &all {
        lines.push(format!("{name} = Literal["));
        lines.extend(names.iter().map(|name| element(name)));
        lines.push("]".to_owned());
    }
    let want = lines.join("\n") + "\n";
    let path = folder().join("safelight/_choices.py");
    if std::env::var_os("SAFELIGHT_UPDATE").is_some() {
        fs::write(&path, &want).expect("the choices");
    }
    let found = fs::read_to_string(&path).expect("the choices");
    assert_eq!(found, want, "SAFELIGHT_UPDATE=1 writes the choices anew");
}

/// The verdict of `log` on an option is that of the daemon.
#[test]
fn options_are_refused_by_log_if_the_daemon_rejects_them() {
    let values = r##"[
        true, false, 0, 1, 2, 100, 101, -1, 1.0, 1.5, 100.5, 255, 256, 4294967295, 4294967296, 1e300,
        "?", "8", "#ff00ff", "#FF00Fa", "ff00ff", "#ff00f", "#ff00ff ", "#ff00fg",
        [0, 1], [1, 0], [1, 1], [0], [0, 1, 2], ["0", "1"], [-1e308, 1e308], [false, true], [0, null], [],
        {}, {"nrow": 8}, {"nrow": 0}, {"nrow": 4.0, "padding": 0}, {"nrow": 1.5}, {"nrow": true},
        {"nrow": "8"}, {"padding": 1024}, {"padding": 1025}, {"padding": -1}, {"columns": 8},
        "gif", "tiff", "P", "CMYK", "F", "I", "jet", "", "wandb-0.31"
    ]"##;
    let mut values: Vec<Value> = serde_json::from_str(values).expect("a list");
    let of_options = |name: &String| [name.clone(), name.to_lowercase(), name.to_uppercase()];
    let named = choices().into_iter().flat_map(|(_, names)| names);
    values.extend(named.flat_map(|name| of_options(&name)).map(Value::from));
    let script = "
import json, sys; sys.path.insert(0, sys.argv[1])
from safelight._options import option_problem
print(json.dumps([[option_problem(name, value) for value in json.loads(sys.argv[3])] for name in json.loads(sys.argv[2])]))
";
    let names: Vec<&str> = ImageOptions::FIELDS.to_vec();
    let mut command = Command::new("python3");
    command.args(["-B", "-c", script]).arg(folder()).arg(json!(names).to_string());
    let ran = command.arg(json!(values).to_string()).output().expect("Python");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let got: Vec<Vec<Option<String>>> = serde_json::from_slice(&ran.stdout).expect("a list");
    let mut n_accepted = 0;
    for (name, problems) in names.iter().zip(&got) {
        for (value, problem) in values.iter().zip(problems) {
            // An empty text counts as not set, and the module never writes it. Nor does it write a list in place of
            // an object, which serde would read.
            if value == "" && ["mode", "file_type"].contains(name)
                || value.is_array() && *name == "grid"
            {
                continue;
            }
            let error = option_error(name, value);
            assert_eq!(
                problem.is_some(),
                error.is_some(),
                "{name}: {value}: {problem:?}, {error:?}"
            );
            n_accepted += usize::from(error.is_none());
        }
        assert!(problems.iter().any(Option::is_none), "{name}: no value is accepted");
        assert!(problems.iter().any(Option::is_some), "{name}: every value is accepted");
    }
    assert!(n_accepted > 60, "{n_accepted} values were accepted");
}

#[test]
fn the_modules_own_tests_pass() {
    for python in all_pythons() {
        let mut command = Command::new(&python);
        command.args(["-B", "-m", "unittest", "discover", "tests"]).current_dir(folder());
        let ran = command.output().expect("Python");
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{}: {said}", python.display());
        assert!(said.contains("\nOK"), "{}: {said}", python.display());
    }
}

#[test]
fn the_daemon_reproduces_every_kind_of_input() {
    for python in all_pythons() {
        let temp = TempRun::new();
        fs::remove_dir(temp.at("")).expect("the run directory");
        let daemon = temp.daemon("");
        let mut command = Command::new(&python);
        command.arg("-B").arg(folder().join("tests/live.py")).arg(temp.folder().join("run"));
        let ran = command.output().expect("Python");
        let stderr = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{stderr}");
        let expected: Vec<Value> = serde_json::from_slice(&ran.stdout).expect("a list");
        wait_for("all images", || {
            temp.items().iter().filter(|item| item["state"] == "image").count() >= expected.len()
        });
        let items = temp.items();
        drop(daemon);
        let mut by_place = BTreeMap::new();
        for item in &items {
            assert_eq!(item["state"], "image", "{item}");
            by_place.insert(place(item), item);
        }
        assert_eq!(items.len(), expected.len(), "{stderr}");
        for want in &expected {
            let item = by_place.get(&place(want)).unwrap_or_else(|| panic!("missing: {want}"));
            check(&temp, item, want);
        }
    }
}

#[test]
fn the_page_for_python_can_be_followed() {
    for python in all_pythons() {
        let temp = TempRun::new();
        let mut command = Command::new(&python);
        command.arg("-B").arg(folder().join("tests/test_docs.py")).arg(temp.folder());
        let ran = command.output().expect("Python");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let runs = ["1", "2", "3"].map(|run| temp.folder().join("runs").join(run));
        let runs = runs.each_ref().map(|run| run.to_str().expect("a path"));
        let ran = temp.run(&[&["ingest"], &runs[..]].concat());
        assert_eq!((ran.code, temp.counts()), (0, [72, 0, 0]), "{ran:?}");
        // `run` adds the store.
        let page = fs::read_to_string(folder().join("../docs/python.md")).expect("the page");
        let command = page.lines().find_map(|line| line.strip_prefix("$ safelight show "));
        let rest =
            command.and_then(|rest| rest.strip_suffix(" --store pictures")).expect("a command");
        let words: Vec<&str> = ["show"].into_iter().chain(rest.split(' ')).collect();
        let ran = temp.run(&words);
        assert_eq!(ran.code, 0, "{ran:?}");
    }
}

#[test]
fn a_batch_of_64_with_100_boxes_each_becomes_64_images() {
    // Regression: `log` returned `True`, and the daemon rejected the line of 1.2 MB for its length.
    let script = "
import sys; sys.path.insert(0, sys.argv[1])
from safelight import Image, Run
box = {'position': {'minX': 0.125, 'maxX': 0.5, 'minY': 0.125, 'maxY': 0.5}, 'class_id': 1,
       'box_caption': 'a car', 'scores': {'confidence': 0.9375, 'iou': 0.8125}, 'domain': 'fraction'}
sets = {'pred': {'box_data': [box] * 100, 'class_labels': {1: 'car'}}}
run = Run(sys.argv[2], strict=True)
assert run.log({'k': Image([[[1, 2], [3, 4]]] * 64, format='NHW', boxes=[sets] * 64)}) is True
assert run.log({'k': (Image([[i]]) for i in range(3)), 's': {Image([[1]])}, 'n': [[Image([[1]])]]}) is True
";
    for python in all_pythons() {
        let temp = TempRun::new();
        let mut command = Command::new(&python);
        command.args(["-B", "-c", script]).arg(folder()).arg(temp.at(""));
        let ran = command.output().expect("Python");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let ran = temp.ingest();
        assert_eq!((ran.code, temp.counts()), (0, [69, 0, 0]), "{ran:?}");
        let items = temp.items();
        for item in items.iter().filter(|item| item["step"] == 0) {
            assert_eq!((&item["key"], &item["warnings"]), (&json!("k"), &Value::Null), "{item}");
            check_boxes(&temp, item, &json!({"pred": 100}));
        }
    }
}

/// Runs a script that logs into the run directory, with these variables set. Returns the exit code of
/// `ingest`.
fn log_and_ingest(python: &Path, temp: &TempRun, script: &str, variables: &[(&str, &str)]) -> i32 {
    let start = "import sys; sys.path.insert(0, sys.argv[1]); from safelight import Image, Run; ";
    let mut command = Command::new(python);
    command.args(["-B", "-c", &(start.to_owned() + script)]).arg(folder()).arg(temp.at(""));
    command.envs(variables.iter().copied());
    let ran = command.output().expect("Python");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    temp.ingest().code
}

/// Returns step and caption of each image, in order.
fn captions(temp: &TempRun) -> Vec<(u64, String)> {
    let read = |item: &Value| {
        assert_eq!(item["state"], "image", "{item}");
        let caption = item["caption"].as_str().expect("a caption");
        (item["step"].as_u64().expect("a step"), caption.to_owned())
    };
    temp.items().iter().map(read).collect()
}

#[test]
fn a_resumed_job_overwrites_what_it_logs_again() {
    let script = |name: &str, steps: &str| {
        format!(
            "run = Run(sys.argv[2], strict=True); [run.log({{'k': Image([[i]], caption='{name}')}}, step=i) for i in {steps}]"
        )
    };
    let want = |attempts: &[(u64, &str)]| -> Vec<(u64, String)> {
        attempts.iter().map(|(step, name)| (*step, (*name).to_owned())).collect()
    };
    for python in all_pythons() {
        let temp = TempRun::new();
        assert_eq!(log_and_ingest(&python, &temp, &script("a", "(0, 1, 2)"), &[]), 0);
        assert_eq!(log_and_ingest(&python, &temp, &script("b", "(1, 2, 3)"), &[]), 0);
        assert_eq!(captions(&temp), want(&[(0, "a"), (1, "b"), (2, "b"), (3, "b")]));
        // Two ranks of one attempt both stay, and so do two processes at the same time.
        let fork = "import os; pid = os.fork(); ";
        let both = format!("{fork}{}; pid and os.wait()", script("c", "(1,)"));
        assert_eq!(log_and_ingest(&python, &temp, &both, &[]), 0);
        let got: Vec<_> = captions(&temp).into_iter().filter(|(step, _)| *step == 1).collect();
        assert_eq!(got, want(&[(1, "c"), (1, "c")]));
        let elastic = [("TORCHELASTIC_RUN_ID", "job"), ("TORCHELASTIC_RESTART_COUNT", "1")];
        for rank in ["0", "1"] {
            let variables = [&elastic[..], &[("RANK", rank)]].concat();
            assert_eq!(log_and_ingest(&python, &temp, &script("d", "(2,)"), &variables), 0);
        }
        let got: Vec<_> = captions(&temp).into_iter().filter(|(step, _)| *step == 2).collect();
        assert_eq!(got, want(&[(2, "d"), (2, "d")]));
    }
}

/// `SAFELIGHT_CALLS` is the number of random calls of `log` for each Python.
#[test]
fn nothing_that_log_writes_is_refused() {
    let (n, seed) = (number_from("SAFELIGHT_CALLS", 20), number_from("SAFELIGHT_SEED", 1));
    for (i, python) in all_pythons().iter().enumerate() {
        let temp = TempRun::new();
        fs::remove_dir(temp.at("")).expect("the run directory");
        let mut command = Command::new(python);
        command.arg("-B").arg(folder().join("tests/odd.py")).arg(temp.folder().join("run"));
        command.args([(seed + i as u64).to_string(), n.to_string()]);
        let ran = command.output().expect("Python");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let calls: Vec<Value> = serde_json::from_slice(&ran.stdout).expect("a list");
        let ran = temp.ingest();
        assert_eq!(ran.code, 0, "{ran:?}");
        let mut of_key: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for item in temp.items() {
            assert_eq!(item["state"], "image", "{item}");
            of_key.entry(item["key"].as_str().expect("a key").to_owned()).or_default().push(item);
        }
        assert!(calls.iter().any(|call| call["n"] == 64), "a batch is among {calls:?}");
        for call in calls.iter().filter(|call| !call["n"].is_null()) {
            let images = of_key.remove(call["key"].as_str().expect("a key")).unwrap_or_default();
            assert_eq!(json!(images.len()), call["n"], "{call}");
            for (image, i) in images.iter().zip(0..) {
                assert_eq!(image["step"], call["step"], "{call}");
                if !call["caption"].is_null() {
                    assert_eq!(image["caption"], call["caption"], "{call}");
                }
                check_boxes(&temp, image, call["boxes"].get(i).unwrap_or(&Value::Null));
            }
        }
    }
}

/// Checks the number of boxes in each set of an image.
fn check_boxes(temp: &TempRun, image: &Value, want: &Value) {
    for (name, n) in want.as_object().into_iter().flatten() {
        let path = image["boxes"][name]["path"].as_str();
        let path = temp.store().join(path.unwrap_or_else(|| panic!("no boxes {name:?}: {image}")));
        let file: Value =
            serde_json::from_slice(&fs::read(path).expect("a file of boxes")).expect("JSON");
        assert_eq!(json!(file["box_data"].as_array().map(Vec::len)), *n, "{image}");
    }
}

fn place(item: &Value) -> String {
    format!("{} {} {}", item["key"], item["step"], item["index"])
}

fn check(temp: &TempRun, item: &Value, want: &Value) {
    check_file(temp, item, want, &place(want));
    for field in ["caption", "grouping", "classes"] {
        if !want[field].is_null() && field != "classes" {
            assert_eq!(item[field], want[field], "{field} of {}", place(want));
        }
    }
    for class in want["classes"].as_array().into_iter().flatten() {
        let classes = item["classes"].as_array().expect("classes");
        assert!(classes.contains(class), "{class} of {}: {classes:?}", place(want));
    }
    for (name, set) in want["boxes"].as_object().into_iter().flatten() {
        let path = item["boxes"][name]["path"].as_str().expect("a file of boxes");
        let file = fs::read(temp.store().join(path)).expect("a file of boxes");
        let file: Value = serde_json::from_slice(&file).expect("JSON");
        assert_eq!(file, *set, "boxes {name} of {}", place(want));
    }
    for (name, mask) in want["masks"].as_object().into_iter().flatten() {
        let what = format!("mask {name} of {}", place(want));
        check_file(temp, &item["masks"][name], mask, &what);
        if !mask["class_labels"].is_null() {
            assert_eq!(item["masks"][name]["class_labels"], mask["class_labels"], "{what}");
        }
    }
}

/// Compares a media file, by its digest if the module's file is stored unchanged, else pixel by pixel.
fn check_file(temp: &TempRun, item: &Value, want: &Value, what: &str) {
    let path = item["path"].as_str().unwrap_or_else(|| panic!("{what}: no path in {item}"));
    let file = fs::read(temp.store().join(path)).expect("a media file");
    if let Some(sha256) = want["sha256"].as_str() {
        assert_eq!(Sha256::of(&file).to_string(), sha256, "{what}");
    }
    let Some(pixels) = want["pixels"].as_str() else { return };
    let picture = image::load_from_memory(&file).unwrap_or_else(|error| panic!("{what}: {error}"));
    let size = (u64::from(picture.width()), u64::from(picture.height()));
    assert_eq!(
        (Some(size.0), Some(size.1)),
        (want["width"].as_u64(), want["height"].as_u64()),
        "{what}"
    );
    let mode = match picture.color() {
        image::ColorType::L8 => "L",
        image::ColorType::La8 => "LA",
        image::ColorType::Rgb8 => "RGB",
        image::ColorType::Rgba8 => "RGBA",
        image::ColorType::L16 => "I;16",
        other => panic!("{what}: {other:?}"),
    };
    if let Some(want) = want["mode"].as_str() {
        assert_eq!(mode, want, "{what}");
    }
    let want = BASE64_STANDARD.decode(pixels).expect("base64");
    assert_eq!(picture.into_bytes(), want, "{what}");
}
