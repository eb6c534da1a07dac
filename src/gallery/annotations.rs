//! `/api/v1/boxes` and `/api/v1/mask.png`: a set of boxes and a mask as they are stored.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use axum::routing::get;
use serde_json::value::RawValue;

use super::answer::{self, DependsOn};
use super::api::{Layer, LayerClass};
use super::files::{self, RunFiles, Sent, Wanted, image_at};
use super::limits::LIMITS;
use super::params::{Params, Place};
use super::problem::Failure;
use super::{Gallery, Shared};
use crate::formats::overlay::class_color;
use crate::media::{Annotation, Annotations, Layers};

/// The colour of a class whose id is no number.
const NO_CLASS: [u8; 3] = [255, 255, 255];

pub(super) fn routes() -> Router<Gallery> {
    Router::new().route("/api/v1/boxes", get(boxes)).route("/api/v1/mask.png", get(mask))
}

/// What the sets of boxes and the masks of an image are called, and their classes.
pub(super) fn layers(layers: &Layers) -> Vec<Layer> {
    let boxes = layers.boxes.iter().map(|(name, set)| layer("boxes", name, set));
    boxes.chain(layers.masks.iter().map(|(name, mask)| layer("mask", name, mask))).collect()
}

fn layer(kind: &'static str, name: &str, annotation: &Annotation) -> Layer {
    let labels = annotation.labels();
    let class = |(id, label): (&String, &serde_json::Value)| {
        let name = label.as_str().map_or_else(|| id.clone(), str::to_owned);
        let color = id.parse().map_or(NO_CLASS, class_color);
        (id.clone(), LayerClass { name, color })
    };
    let classes: BTreeMap<_, _> = labels.iter().map(class).collect();
    Layer { kind, name: name.to_owned(), classes, size: annotation.size }
}

fn place_and_layer(mut params: Params) -> Result<(Place, String), Failure> {
    let (place, layer) = (params.place()?, params.one("layer")?);
    params.finish()?;
    Ok((place, layer))
}

/// Finds a set of boxes or a mask by its name.
fn named(annotations: Annotations, kind: &str, name: &str) -> Result<Annotation, Failure> {
    let mut annotations = annotations;
    annotations.remove(name).ok_or_else(|| {
        let names: Vec<_> = annotations.keys().map(|name| format!("{name:?}")).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Failure::not_found(format!("the image has no {kind} {name:?}, it has {names}"))
    })
}

async fn boxes(
    State(gallery): State<Gallery>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let (place, layer) = place_and_layer(params)?;
    let on = DependsOn::Runs(vec![place.run.clone()]);
    let make = move |shared: &Shared| {
        let set = named(image_at(shared, &place)?.layers.boxes, "boxes", &layer)?;
        let allowed = u64::from(LIMITS.answer_bytes_max);
        if set.size > allowed {
            return Err(Failure::too_large(set.size, allowed, "the set of boxes"));
        }
        let bytes = RunFiles::open(shared, &place.run)?.read((&set).into())?;
        let text = String::from_utf8(bytes).map_err(Failure::internal)?;
        RawValue::from_string(text).map_err(Failure::internal)
    };
    answer::json(&gallery, &headers, on, make).await
}

async fn mask(
    State(gallery): State<Gallery>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let (place, layer) = place_and_layer(params)?;
    let find = move |shared: &Shared| {
        let mask = named(image_at(shared, &place)?.layers.masks, "mask", &layer)?;
        let sent = Sent {
            content_type: "image/png",
            cache: HeaderValue::from_static("private, no-cache"),
            is_download: false,
        };
        let Annotation { path, size, sha256, .. } = mask;
        Ok(Wanted { run: place.run, path, size, sha256, sent })
    };
    files::send(&gallery, headers, find).await
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::super::testing::{TestFile, TestStore, get};
    use super::*;
    use crate::media::{FileType, Json, Sha256};

    const AT: (&str, u64, u32) = ("val/pred", 120, 0);
    const BOXES: &[u8] = br#"{"box_data":[{"class_id":3,"position":{"minX":0.1}}]}"#;

    fn annotation(path: &str, bytes: &[u8], labels: &str) -> Annotation {
        Annotation {
            path: path.to_owned(),
            sha256: Sha256::of(bytes),
            size: bytes.len() as u64,
            class_labels: serde_json::from_str::<Json>(labels).ok(),
            source: None,
        }
    }

    fn with_layers() -> TestStore {
        let mut store = TestStore::new();
        store.file("media/metadata/boxes2D/b.json", BOXES);
        store.file("media/images/mask/m.png", b"mask");
        let boxes = annotation("media/metadata/boxes2D/b.json", BOXES, r#"{"3": "car", "x": 7}"#);
        let masks = annotation("media/images/mask/m.png", b"mask", r#"{"0": "road"}"#);
        let gone = annotation("media/images/mask/gone.png", b"gone", "{}");
        let outside = annotation("run.json", b"{}", "{}");
        let layers = Layers {
            boxes: [("found".to_owned(), boxes), ("outside".to_owned(), outside)].into(),
            masks: [("truth".to_owned(), masks), ("gone".to_owned(), gone)].into(),
            ..Layers::default()
        };
        let picture = TestFile::new(FileType::Png, b"picture", (4, 4));
        store.image(AT, TestFile { layers, ..picture });
        store
    }

    #[tokio::test]
    async fn boxes_and_masks_are_sent_as_stored() {
        let store = with_layers();
        let (gallery, place) = (store.gallery(), store.place(AT));
        let boxes = get(&gallery, &format!("/api/v1/boxes?{place}&layer=found"), &[]).await;
        assert_eq!((boxes.status, boxes.body()), (StatusCode::OK, BOXES));
        assert_eq!(boxes.header("content-type"), "application/json");
        let path = format!("/api/v1/mask.png?{place}&layer=truth");
        let mask = get(&gallery, &path, &[]).await;
        assert_eq!((mask.status, mask.body()), (StatusCode::OK, &b"mask"[..]));
        assert_eq!(mask.header("cache-control"), "private, no-cache");
        assert_eq!(mask.header("content-security-policy"), "default-src 'none'; sandbox");
        let known = get(&gallery, &path, &[("if-none-match", mask.header("etag"))]).await;
        assert_eq!(known.status, StatusCode::NOT_MODIFIED);
    }

    #[tokio::test]
    async fn a_layer_that_is_not_there_is_said() {
        let store = with_layers();
        let (gallery, place) = (store.gallery(), store.place(AT));
        for (path, want) in [
            (
                "boxes?layer=truth",
                "the image has no boxes \"truth\", it has \"found\", \"outside\"",
            ),
            ("mask.png?layer=x", "the image has no mask \"x\", it has \"gone\", \"truth\""),
            (
                "mask.png?layer=gone",
                "media/images/mask/gone.png: missing. `safelight verify` lists what is wrong",
            ),
            ("boxes?layer=outside", "the journal names \"run.json\", want a path within \"media\""),
        ] {
            let got = get(&gallery, &format!("/api/v1/{path}&{place}"), &[]).await;
            assert_eq!(
                (got.status, got.json()["detail"].as_str()),
                (StatusCode::NOT_FOUND, Some(want))
            );
        }
        let got = get(&gallery, &format!("/api/v1/boxes?{place}"), &[]).await;
        assert_eq!(got.json()["detail"], "no value of \"layer\", want one");
    }

    #[test]
    fn layers_name_their_classes_with_their_colours() {
        let boxes = annotation("b", b"", r#"{"3": "car", "x": 7}"#);
        let layers = Layers { boxes: [("found".to_owned(), boxes)].into(), ..Layers::default() };
        let got = serde_json::to_value(super::layers(&layers)).expect("JSON");
        let want = serde_json::json!([{
            "kind": "boxes", "name": "found", "size": 0,
            "classes": {
                "3": {"name": "car", "color": class_color(3)},
                "x": {"name": "x", "color": [255, 255, 255]},
            },
        }]);
        assert_eq!(got, want);
    }
}
