//! `/api/v1/item`: one item.

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;

use super::answer::{DependsOn, json};
use super::api::{ItemDetails, StepNumber};
use super::lists::{item_json, no_run};
use super::origin;
use super::params::Place;
use super::problem::Failure;
use super::python::{Described, describe};
use super::{Gallery, Shared, annotations};
use crate::media::{MediaEntry, State as ItemState, Step};
use crate::shell::quoted;

pub(super) fn routes() -> Router<Gallery> {
    Router::new().route("/api/v1/item", get(item))
}

async fn item(
    State(gallery): State<Gallery>,
    place: Place,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    // A proof may take a while, and is remembered.
    let of_dump = place.clone();
    let prove = move |shared: &Shared| {
        let entry = entry_at(shared, &of_dump)?;
        origin::find(shared, &of_dump, &entry).map(|_| ())
    };
    drop(gallery.make(prove).await);
    // Its dump may change.
    json(&gallery, &headers, DependsOn::More, move |shared| details(shared, &place)).await
}

/// Reads the item at a place.
///
/// # Errors
/// 404 if there is none; 500 if the store fails.
pub(super) fn entry_at(shared: &Shared, place: &Place) -> Result<MediaEntry, Failure> {
    let Place { run, key, step, index } = place;
    if let Some(entry) = shared.reader.item(run, key, *step, *index)? {
        return Ok(entry);
    }
    if shared.reader.extent(run)?.is_none() {
        return Err(no_run(run));
    }
    let (run, key) = (run.as_str(), key.as_str());
    let what = format!("run {run:?} has no item {index} of key {key:?} at step {step}");
    Err(Failure::not_found(what))
}

fn details(shared: &Shared, place: &Place) -> Result<ItemDetails, Failure> {
    let reader = &shared.reader;
    let entry = entry_at(shared, place)?;
    let Place { run, key, step, index } = place;
    let mut indices = 0;
    reader.each_place_at(run, key, *step, |index, state| {
        if state != ItemState::Rejected {
            indices = index + 1;
        }
    })?;
    let before = match step.0.checked_sub(1) {
        Some(before) => reader.step_up_to(run, key, Step(before))?,
        None => None,
    };
    let after = match step.0.checked_add(1) {
        Some(after) => reader.step_from(run, key, Step(after))?,
        None => None,
    };
    let mut around = [None; 2];
    for (around, near) in around.iter_mut().zip([before, after]) {
        let Some(near) = near else { continue };
        if reader.has_item(run, key, near, *index)? {
            *around = Some(StepNumber(near.0));
        }
    }
    let image = entry.as_image();
    let file = image.filter(|image| !image.pruned).map(|image| match shared.fleet() {
        Some(fleet) => fleet.files().url_of(&image.file.path),
        None => reader.run_folder(run).join(&image.file.path).to_string_lossy().into_owned(),
    });
    let layers = image.map(|image| annotations::layers(&image.layers)).unwrap_or_default();
    let (run, key, step) = (run.as_str(), key.as_str(), step.to_string());
    let root = reader.root().to_string_lossy();
    let place_of_store = match shared.fleet() {
        Some(fleet) => ["--from", fleet.url()],
        None => ["--store", &root],
    };
    let show = command(place_of_store, &[], &["show", run, key, &step, &index.to_string()]);
    // What is held on a box is released there.
    let is_released_here = entry.state() == ItemState::Held && shared.fleet().is_none();
    let release = is_released_here
        .then(|| command(place_of_store, &["--step", &step], &["release", run, key]));
    let Described { dump, python, wandb } = describe(shared, place, &entry)?;
    let item = item_json(&place.run, &entry);
    Ok(ItemDetails { item, dump, python, wandb, show, release, file, layers, around, indices })
}

/// A command line of this program, for a shell. `of` is the option that names the store, and its value.
fn command(of: [&str; 2], options: &[&str], arguments: &[&str]) -> String {
    let (command, names) = arguments.split_first().unwrap_or((&"", &[]));
    let is_option = |name: &&str| name.starts_with('-');
    // After `--` a name is no option, whatever it begins with.
    let words = if names.iter().any(is_option) {
        [&["safelight", command], &of[..], options, &["--"], names].concat()
    } else {
        [&["safelight", command], names, options, &of].concat()
    };
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{TestFile, TestStore, get};
    use super::*;
    use crate::media::FileType;

    #[tokio::test]
    async fn the_steps_around_an_item_have_its_index() {
        let mut store = TestStore::new();
        for place in [("k", 1, 0), ("k", 2, 0), ("k", 2, 1), ("k", 4, 0), ("k", 4, 1)] {
            store.image(place, TestFile::new(FileType::Png, b"x", (28, 28)));
        }
        let gallery = store.gallery();
        for (place, want) in [
            (("k", 1, 0), json!([null, 2])),
            (("k", 2, 0), json!([1, 4])),
            // A page that asked for index 1 of step 1 would get a 404.
            (("k", 2, 1), json!([null, 4])),
            (("k", 4, 1), json!([2, null])),
        ] {
            let path = format!("/api/v1/item?{}", store.place(place));
            assert_eq!(get(&gallery, &path, &[]).await.json()["around"], want, "{place:?}");
        }
    }

    #[test]
    fn command_lines_are_quoted() {
        let line = command(["--store", "/a b"], &[], &["show", "r/1", "it's", "7", "0"]);
        assert_eq!(line, "safelight show r/1 'it'\\''s' 7 0 --store '/a b'");
        let line = command(["--store", "/s"], &["--step", "7"], &["release", "-r", "$(k)"]);
        assert_eq!(line, "safelight release --store /s --step 7 -- -r '$(k)'");
    }
}
