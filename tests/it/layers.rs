//! The picture in the crate's documentation stays true: pure modules do no input or output.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// A source file without its tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source file");
    text.split("#[cfg(test)]").next().unwrap_or("").to_owned()
}

fn all_sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    let name =
        |path: &Path| path.strip_prefix(&root).expect("a source").to_string_lossy().into_owned();
    paths.iter().map(|path| (name(path), code(path))).collect()
}

#[test]
fn pure_modules_name_no_file_clock_or_runtime() {
    let pure = [
        "tensor.rs",
        "media/",
        "record/",
        "decode/",
        "convert/",
        "encode/",
        "simd/",
        "limits.rs",
        "annotations/",
        "plan/",
        "render/",
        "formats/",
        "ingest/lines.rs",
        "ingest/evidence.rs",
        "ingest/pipeline/counts.rs",
        "ingest/settle.rs",
        "ingest/release/report.rs",
        "control/metrics.rs",
        "sinks/http/answer.rs",
        "sync/backoff.rs",
        "sync/lanes.rs",
        "control/protocol.rs",
    ];
    let impure =
        ["tokio", "notify", "sled", "tracing", "std::fs", "std::net", "Instant::now", "SystemTime"];
    let sources = all_sources();
    for part in pure {
        assert!(sources.iter().any(|(name, _)| name.starts_with(part)), "{part} is not there");
    }
    for (name, code) in
        sources.iter().filter(|(name, _)| pure.iter().any(|part| name.starts_with(part)))
    {
        for word in impure {
            assert!(!code.contains(word), "{name} names {word}");
        }
    }
}

#[test]
fn sled_and_image_stay_in_their_modules() {
    for (name, code) in all_sources() {
        let is_code = |line: &&str| !line.trim_start().starts_with("//");
        let names = |word: &str| code.lines().filter(is_code).any(|line| line.contains(word));
        assert!(name.starts_with("store/") || !names("sled::"), "{name} names sled");
        assert!(name.starts_with("encode/") || !names("use image::"), "{name} names image");
        assert!(
            name == "ingest/watch.rs"
                || name == "ingest/run.rs"
                || !names(" notify::") && !names("(notify::"),
            "{name} names notify"
        );
    }
}

#[test]
fn the_tests_that_the_page_of_promises_names_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/promises.md")).expect("the page");
    let mut tests = Vec::new();
    sources(&root.join("tests/it"), &mut tests);
    let read = |path: &PathBuf| fs::read_to_string(path).expect("a source file");
    let mut sources_of = std::collections::BTreeMap::new();
    for path in &tests {
        let module = path.file_stem().expect("a name").to_string_lossy().into_owned();
        sources_of.insert(module, read(path));
    }
    let mut own = Vec::new();
    sources(&root.join("src"), &mut own);
    let own: String = own.iter().map(read).collect();
    let mut n_named = 0;
    for name in page.split('`').skip(1).step_by(2).filter(|name| name.contains("::")) {
        let (module, test) = name.rsplit_once("::").expect("a path");
        let text = sources_of.get(module).unwrap_or(&own);
        assert!(test.is_empty() || text.contains(&format!("fn {test}(")), "{name} is not there");
        assert!(!test.is_empty() || sources_of.contains_key(module), "{module} is not there");
        n_named += 1;
    }
    assert!(n_named > 40, "{n_named}");
}
