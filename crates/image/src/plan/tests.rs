//! Tests of whole plans.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::media::{MediaKey, Step};
use crate::record::DataRef;
use crate::tensor::{ByteOrder, DType, Shape, Storage, TensorHeader, Writer};

fn record(index: Option<u32>, caption: Value) -> MediaRecord {
    MediaRecord {
        key: MediaKey::new("k").unwrap_or_else(|error| panic!("{error}")),
        step: Step(1),
        index,
        data: DataRef::of_path("x.npy"),
        options: ImageOptions::default(),
        description: Description { caption: Some(caption.into()), ..Description::default() },
        warnings: Vec::new(),
    }
}

fn header(axes: &[u64]) -> Found {
    let shape = Shape::new(axes.to_vec()).unwrap_or_else(|| panic!("{axes:?}"));
    let (strides, n_bytes) = (shape.c_strides(), shape.n_elements());
    let storage = Storage::plain(0, n_bytes);
    let header = TensorHeader::new(DType::U8, ByteOrder::Little, shape, strides, storage, 0);
    let header = header.unwrap_or_else(|error| panic!("{error:?}"));
    Found::Tensor(Writer::NumPy, Box::new(header))
}

fn is_made(item: &PlannedItem) -> bool {
    matches!(item, PlannedItem::Image(_))
}

fn plan_of(
    record: &MediaRecord,
    axes: &[u64],
    usage: &mut StepUsage,
    earlier: Option<IndexRange>,
) -> Result<Vec<(u32, bool)>, String> {
    plan(record, record.options, header(axes), &[], usage, &Limits::default(), earlier)
        .map(|plan| plan.items.iter().map(|item| (item.id().index, is_made(item))).collect())
        .map_err(|error| error.to_string())
}

#[test]
fn a_batch_fills_the_step_in_order() {
    let mut usage = StepUsage::default();
    let plain = record(None, json!("c"));
    let first = plan_of(&plain, &[100, 4, 5], &mut usage, None).unwrap_or_default();
    assert_eq!(first, (0..100).map(|i| (i, true)).collect::<Vec<_>>());
    let second = plan_of(&plain, &[100, 4, 5], &mut usage, None).unwrap_or_default();
    assert_eq!(second, (100..200).map(|i| (i, i < 108)).collect::<Vec<_>>());
}

#[test]
fn a_new_version_takes_the_place_of_the_old() {
    let mut usage = StepUsage::default();
    let plain = record(None, json!("c"));
    assert_eq!(plan_of(&plain, &[4, 5], &mut usage, None), Ok(vec![(0, true)]));
    assert_eq!(plan_of(&plain, &[4, 5], &mut usage, None), Ok(vec![(1, true)]));
    assert_eq!(
        plan_of(&plain, &[4, 5], &mut usage, Some(IndexRange { first: 0, n: 1 })),
        Ok(vec![(0, true)])
    );
    assert_eq!(usage.n_kept(), 2);
    let taken = plan_of(&record(Some(1), json!("c")), &[4, 5], &mut usage, None);
    assert_eq!(taken, Err("index 1 of this key and step is taken already".to_owned()));
    assert_eq!(
        plan_of(&record(Some(7), json!("c")), &[4, 5], &mut usage, None),
        Ok(vec![(7, true)])
    );
    assert_eq!(plan_of(&plain, &[4, 5], &mut usage, None), Ok(vec![(8, true)]));
}

#[test]
fn held_images_are_planned_at_their_indices() {
    let mut usage = StepUsage::default();
    let plain = record(None, json!(["a", "b", "c", "d"]));
    let options = ImageOptions { format: Some(crate::media::DataFormat::Nhw), ..plain.options };
    // Two other images come first. Index 4 of the batch was rejected and is free.
    usage.take(0, true);
    usage.take(1, true);
    [2, 3, 5].into_iter().for_each(|index| usage.take(index, false));
    let held = [2, 3, 4, 5, 9].map(|index| (index, u64::from(index) - 2));
    let limits = Limits { max_items: 4, ..Limits::default() };
    let plan = plan_held(
        &plain,
        options,
        header(&[4, 8, 9]),
        &[],
        &mut usage,
        &limits,
        &BTreeMap::from(held),
    );
    let plan = plan.unwrap_or_else(|error| panic!("{error}"));
    let got: Vec<_> = plan
        .items
        .iter()
        .map(|item| {
            let (description, outcome) = match item {
                PlannedItem::Image(job) => {
                    (&job.description, format!("image {}", job.plan.image_idx))
                }
                PlannedItem::Held { description, reason, .. }
                | PlannedItem::Rejected { description, reason, .. } => {
                    (description, reason.clone())
                }
            };
            (item.id().index, description.caption.clone(), outcome)
        })
        .collect();
    let full = "max_items: 4 images of this key and step are kept";
    let none = "the image is no longer held";
    let want = [
        (2, Some(json!("a").into()), "image 0".to_owned()),
        (3, Some(json!("b").into()), "image 1".to_owned()),
        (4, Some(json!("c").into()), none.to_owned()),
        (5, Some(json!("d").into()), full.to_owned()),
        (9, None, none.to_owned()),
    ];
    assert_eq!(got, want);
    assert_eq!((usage.n_kept(), usage.kept_at(5), usage.is_taken(4)), (4, Some(false), false));
}

#[test]
fn lists_are_split_over_a_batch() {
    let record = record(None, json!(["a", null, ["c"]]));
    let plan = plan(
        &record,
        record.options,
        header(&[3, 8, 9]),
        &[],
        &mut StepUsage::default(),
        &Limits::default(),
        None,
    );
    assert_eq!(plan.map(|p| p.items.len()), Ok(1), "channels first: one image, one list");
    let options = ImageOptions { format: Some(crate::media::DataFormat::Nhw), ..record.options };
    let plan = super::plan(
        &record,
        options,
        header(&[3, 8, 9]),
        &[],
        &mut StepUsage::default(),
        &Limits::default(),
        None,
    );
    let caption = |item: PlannedItem| match item {
        PlannedItem::Image(job) => job.description.caption,
        item => panic!("{item:?}"),
    };
    let captions = plan.map(|p| p.items.into_iter().map(caption).collect::<Vec<_>>());
    assert_eq!(captions, Ok(vec![Some(json!("a").into()), None, Some(json!(["c"]).into())]));
}

#[test]
fn a_list_of_another_length_costs_no_image() {
    let warned = |axes: &[u64], record: &MediaRecord| {
        let plan = super::plan(
            record,
            ImageOptions { format: Some(crate::media::DataFormat::Nhw), ..record.options },
            header(axes),
            &[],
            &mut StepUsage::default(),
            &Limits::default(),
            None,
        );
        let plan = plan.unwrap_or_else(|error| panic!("{error}"));
        let image = |item: PlannedItem| match item {
            PlannedItem::Image(job) => (job.description.caption, job.plan.annotations),
            item => panic!("{item:?}"),
        };
        plan.items.into_iter().map(image).unzip::<_, _, Vec<_>, Vec<_>>()
    };
    let captions = record(None, json!(["a", "b", "c"]));
    let (got, annotations) = warned(&[2, 8, 9], &captions);
    assert_eq!(got, [Some(json!("a").into()), Some(json!("b").into())]);
    let want = ["caption has 3 entries for 2 images; the rest dropped"];
    assert!(annotations.iter().all(|read| read.warnings == want), "{annotations:?}");
    let (got, annotations) = warned(&[5, 8, 9], &captions);
    assert_eq!(
        got,
        ["a", "b", "c"]
            .map(|text| Some(json!(text).into()))
            .into_iter()
            .chain([None, None])
            .collect::<Vec<_>>()
    );
    let want = ["caption has 3 entries for 5 images; the last 2 have none"];
    assert!(annotations.iter().all(|read| read.warnings == want), "{annotations:?}");
    let (_, annotations) = warned(&[2, 8, 9], &record(None, json!(["a"])));
    let want = ["caption has 1 entry for 2 images; the last has none"];
    assert!(annotations.iter().all(|read| read.warnings == want), "{annotations:?}");

    let mut boxes = record(None, Value::Null);
    let position = json!({"minX": 0, "maxX": 1, "minY": 0, "maxY": 1});
    let set = json!({"p": {"box_data": [{"position": position, "class_id": 1}]}});
    boxes.description.annotations.insert("boxes", json!([set, set]));
    for (n, n_warnings) in [(1u64, 1), (2, 0), (3, 1)] {
        let (_, annotations) = warned(&[n, 8, 9], &boxes);
        let got: Vec<_> = annotations.iter().map(|read| read.boxes.len()).collect();
        assert_eq!(got, (0..n).map(|i| usize::from(i < 2)).collect::<Vec<_>>());
        assert!(
            annotations.iter().all(|read| read.warnings.len() == n_warnings),
            "{annotations:?}"
        );
    }
}

#[test]
fn descriptions_that_are_too_long_for_a_batch_cost_no_image() {
    let mut long = record(None, json!("c"));
    let labels = json!({"1": "x".repeat(1 << 20)});
    let set = json!({"p": {"box_data": [], "class_labels": labels}});
    long.description.annotations.insert("boxes", set);
    let options = ImageOptions { format: Some(crate::media::DataFormat::Nhw), ..long.options };
    let plan_long = |record: &MediaRecord| {
        let (usage, limits) = (&mut StepUsage::default(), Limits::default());
        let plan = super::plan(record, options, header(&[80, 2, 3]), &[], usage, &limits, None);
        let plan = plan.unwrap_or_else(|error| panic!("{error}"));
        assert!(plan.description_bytes <= DESCRIPTIONS_BYTES_MAX, "{}", plan.description_bytes);
        let PlannedItem::Image(job) = plan.items.into_iter().next_back().expect("an item") else {
            panic!("no image")
        };
        (job.description.caption, job.plan.annotations)
    };
    let (caption, read) = plan_long(&long);
    assert_eq!((caption, read.boxes.len(), read.warnings.len()), (Some(json!("c").into()), 0, 1));
    assert!(read.warnings[0].starts_with("classes, boxes and masks dropped"), "{read:?}");
    let (caption, read) = plan_long(&record(None, "x".repeat(1 << 20).into()));
    assert_eq!((caption, read.warnings.len()), (None, 1));
}

#[test]
fn protective_limits_reject() {
    let refused = |axes: &[u64], limits: Limits| {
        let record = record(None, Value::Null);
        plan(&record, record.options, header(axes), &[], &mut StepUsage::default(), &limits, None)
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    assert_eq!(
        refused(&[9, 8, 8], Limits { batch_max: 8, ..Limits::default() }),
        Err("9 images in one dump, limits.batch_max is 8".to_owned())
    );
    assert_eq!(
        refused(&[8, 8], Limits { pixels_max: 63, ..Limits::default() }),
        Err("64 pixels in one image, limits.pixels_max is 63".to_owned())
    );
    let memory = refused(&[8, 8], Limits { memory_bytes_max: 1000, ..Limits::default() });
    assert!(memory.is_err_and(|error| error.contains("work.memory_bytes_max is 1000")));
}
