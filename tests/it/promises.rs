//! The page of promises names tests that exist.

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
    sources(&root.join("crates"), &mut own);
    own.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
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
