//! Embeds the gallery's pages: `web/dist` if it is there and newer than `web/src`, else what npm builds.
//!
//! `SAFELIGHT_WEB=skip` builds without the pages, and so does a machine without npm. `SAFELIGHT_WEB=require` makes it an
//! error if the pages can't be built.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What the pages are built from, in `web`.
const SOURCES: [&str; 6] =
    ["src", "index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts"];

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SAFELIGHT_WEB");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let web = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("web");
    let mode = std::env::var("SAFELIGHT_WEB").unwrap_or_default();
    let dist = if mode == "skip" {
        None
    } else {
        match dist(&web, &out) {
            Err(error) if mode == "require" => return Err(error),
            Err(error) => {
                println!("cargo::warning=the gallery is built without its pages: {error}");
                None
            }
            Ok(dist) => Some(dist),
        }
    };
    fs::write(out.join("web.rs"), table(dist.as_deref())?)?;
    Ok(())
}

/// The folder with the built pages.
fn dist(web: &Path, out: &Path) -> Result<PathBuf> {
    let dist = web.join("dist");
    for name in SOURCES {
        println!("cargo::rerun-if-changed=web/{name}");
    }
    if let Ok(built) = fs::metadata(dist.join("index.html")).and_then(|file| file.modified()) {
        println!("cargo::rerun-if-changed=web/dist");
        // A package has no sources. Pages that somebody built before they changed the sources are built anew.
        let is_newer = |name: &&str| newest(&web.join(name)).is_some_and(|at| at > built);
        if !SOURCES.iter().any(is_newer) {
            return Ok(dist);
        }
    }
    // npm writes beside package.json, and a build must not write into the sources.
    let copy = out.join("web");
    let lock = fs::read(web.join("package-lock.json"))?;
    let is_installed = fs::read(copy.join("package-lock.json")).is_ok_and(|last| last == lock)
        && copy.join("node_modules").is_dir();
    for name in SOURCES {
        let to = copy.join(name);
        if to.is_dir() {
            fs::remove_dir_all(&to)?;
        }
        copy_all(&web.join(name), &to)?;
    }
    if !is_installed {
        npm(&copy, &["ci", "--ignore-scripts", "--no-audit", "--no-fund"])?;
    }
    npm(&copy, &["run", "build"])?;
    Ok(copy.join("dist"))
}

/// The last time that a file, or any file in a folder, changed.
fn newest(path: &Path) -> Option<SystemTime> {
    let Ok(entries) = fs::read_dir(path) else { return fs::metadata(path).ok()?.modified().ok() };
    entries.filter_map(|entry| newest(&entry.ok()?.path())).max()
}

fn npm(folder: &Path, arguments: &[&str]) -> Result<()> {
    let output = Command::new("npm").args(arguments).current_dir(folder).output();
    let output = output.map_err(|error| format!("npm can't be started: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let last: Vec<&str> = said.lines().rev().take(8).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    Err(format!("`npm {}` failed: {}", arguments.join(" "), last.join(" / ")).into())
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::copy(from, to)?;
        return Ok(());
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy_all(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// The source of a table of all files.
fn table(dist: Option<&Path>) -> Result<String> {
    let mut files = Vec::new();
    if let Some(dist) = dist {
        list(dist, dist, &mut files)?;
    }
    files.sort();
    let mut table = "static WEB: Files = &[\n".to_owned();
    for (name, path) in files {
        let content_type = content_type(&name)?;
        writeln!(table, "    ({name:?}, {content_type:?}, include_bytes!({path:?})),")?;
    }
    table.push_str("];\n");
    Ok(table)
}

fn list(root: &Path, folder: &Path, files: &mut Vec<(String, String)>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(root, &path, files)?;
        } else {
            let text = |path: &Path| path.to_str().map(str::to_owned).ok_or("a path is not UTF-8");
            files.push((text(path.strip_prefix(root)?)?, text(&path)?));
        }
    }
    Ok(())
}

fn content_type(name: &str) -> Result<&'static str> {
    Ok(match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        Some("txt") => "text/plain; charset=utf-8",
        _ => {
            return Err(
                format!("web/dist has {name:?}, a kind of file without a content type").into()
            );
        }
    })
}
