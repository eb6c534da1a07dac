//! Writes what the pages must have as the daemon has it, for TypeScript: the types of the HTTP API and the colours of
//! the colormaps. Checks that the written files are current.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ts_rs::{Config, TS};

use super::api;
use super::problem::Problem;
use crate::cli::json::{ItemForm, StatsForm};
use crate::media::Colormap;

/// The fields that only some items have.
#[derive(TS)]
#[ts(optional_fields)]
#[expect(dead_code, reason = "for TypeScript only")]
struct OptionalItemFields {
    /// The values that became the least and the greatest byte.
    range: Option<[f64; 2]>,
    /// The colormap's name.
    colormap: Option<String>,
    /// Whether which axis is which was guessed.
    format_guessed: Option<bool>,
    /// The image's size in the dump, if the stored one is smaller: width, height.
    downscaled_from: Option<[u32; 2]>,
    /// Whether retention removed the media file.
    pruned: Option<bool>,
    /// Classes: a list of `{id, name}`.
    #[ts(type = "unknown")]
    classes: Option<()>,
    /// Sets of boxes by name.
    #[ts(type = "Record<string, unknown>")]
    boxes: Option<()>,
    /// Masks by name.
    #[ts(type = "Record<string, unknown>")]
    masks: Option<()>,
    /// What is odd about the item.
    warnings: Option<Vec<String>>,
    /// When it was logged, in seconds since the Unix epoch.
    time: Option<f64>,
    /// Other fields of its line.
    #[ts(type = "unknown")]
    extra: Option<()>,
}

fn declaration<T: TS>() -> String {
    let config = Config::default().with_large_int("number");
    let docs = T::docs().unwrap_or_default();
    format!("{docs}export {}\n", T::decl(&config))
}

fn types() -> String {
    let head = "// The types of the HTTP API. Written by a test from src/gallery/{api,problem}.rs: change those.\n\
                // `SAFELIGHT_UPDATE=1 cargo test --lib gallery::typescript` writes this file.\n";
    let declarations = [
        "/** An item, as `ls --json` prints it. */\nexport type Item = ItemForm & OptionalItemFields;\n".to_owned(),
        declaration::<ItemForm>(),
        declaration::<OptionalItemFields>(),
        declaration::<StatsForm>(),
        declaration::<api::Info>(),
        declaration::<api::RequestLimits>(),
        declaration::<api::StepNumber>(),
        declaration::<api::Runs>(),
        declaration::<api::RunRow>(),
        declaration::<api::Thumbnail>(),
        declaration::<api::KeyRow>(),
        declaration::<api::Steps>(),
        declaration::<api::Segment>(),
        declaration::<api::At>(),
        declaration::<api::Cell>(),
        declaration::<api::Items>(),
        declaration::<api::ItemDetails>(),
        declaration::<api::DumpFacts>(),
        declaration::<api::Proof>(),
        declaration::<api::Layer>(),
        declaration::<api::LayerClass>(),
        declaration::<api::Histogram>(),
        declaration::<api::ChannelHistogram>(),
        declaration::<api::Comparison>(),
        declaration::<api::Differences>(),
        declaration::<api::FrameHead>(),
        declaration::<api::Hello>(),
        declaration::<api::Changed>(),
        declaration::<api::RunChanged>(),
        declaration::<Problem>(),
    ];
    format!("{head}\n{}", declarations.join("\n"))
}

/// Returns the colours of each colormap.
fn colormaps() -> String {
    let head = "// The colors of each colormap, as the daemon draws them. Written by a test from crates/image: \
                change that.\n\
                // `SAFELIGHT_UPDATE=1 cargo test --lib gallery::typescript` writes this file.\n\n\
                /** Of each map, base64 of 768 bytes: all reds, then greens, then blues, each as the difference to \
                the one before. */\n\
                export const PACKED_COLORS: Readonly<Record<string, string>> = {\n";
    let line = |map: Colormap| {
        let name = serde_json::to_value(map).expect("a colormap is written as its name");
        let colors = map.colors();
        let plane = |channel: usize| {
            let levels = colors.iter().map(move |color| color[channel]);
            let before = std::iter::once(0).chain(levels.clone());
            levels.zip(before).map(|(level, before)| level.wrapping_sub(before))
        };
        let packed: Vec<u8> = (0..3).flat_map(plane).collect();
        format!("  {}: \"{}\",\n", name.as_str().expect("a name"), STANDARD.encode(packed))
    };
    format!("{head}{}}};\n", Colormap::ALL.map(line).concat())
}

/// Checks that a file is current. `SAFELIGHT_UPDATE` writes it.
#[track_caller]
fn check(file: &str, want: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("SAFELIGHT_UPDATE").is_some() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder");
        fs::write(&path, want).expect("the file");
    }
    let got = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        got == want,
        "{} is out of date: run `SAFELIGHT_UPDATE=1 cargo test --lib gallery::typescript`",
        path.display()
    );
}

#[test]
fn the_types_for_typescript_are_those_of_the_api() {
    check("web/src/state/api.types.ts", &types());
}

#[test]
fn the_colormaps_for_typescript_are_those_of_the_daemon() {
    check("web/src/picture/colormaps.ts", &colormaps());
}
