//! Checks that docs/promises.md names tests that exist.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::files_below;

#[test]
fn the_tests_that_the_promises_page_names_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/promises.md")).expect("the page");
    let tests = files_below(&root.join("tests/it"));
    let read = |path: &PathBuf| fs::read_to_string(path).expect("a source file");
    let mut sources_of = std::collections::BTreeMap::new();
    for path in &tests {
        let file =
            path.strip_prefix(root.join("tests/it")).expect("a test file").with_extension("");
        let module = file.to_string_lossy().replace('/', "::");
        sources_of.insert(module.trim_end_matches("::mod").to_owned(), read(path));
    }
    let mut own = files_below(&root.join("src"));
    own.append(&mut files_below(&root.join("crates")));
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
