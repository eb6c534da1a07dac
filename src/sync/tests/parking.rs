//! Items and runs that cannot be delivered.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_rejected_item_is_parked_with_the_targets_error_and_the_others_are_delivered() {
    let mut store = Store::new();
    store.images("a", "k", 0..1000, 1);
    let target =
        Memory::new(
            |item, _| {
                if item.id.step.0 == 500 { Reaction::Reject } else { Reaction::Accept }
            },
        );
    let (is_done, view) = store.deliver(&target, "").await;
    assert!(is_done);
    assert_eq!((view.delivered, view.pending), (999, 0));
    assert_eq!((view.set_aside, view.refused), (1, 1));
    assert_eq!(view.reasons, ["it is no cat"]);
    assert!(target.server().n_in_transfer_max > 4, "lanes grow");

    // It stays parked until a retry is requested.
    target.server().react = Box::new(|_, _| Reaction::Accept);
    assert_eq!(store.deliver(&target, "").await.1.set_aside, 1);
    assert_eq!(retry(&store.reader, &[config("")]).expect("a store"), 1);
    let (_, view) = store.deliver(&target, "").await;
    assert_eq!((view.delivered, view.set_aside), (1000, 0));
    assert_eq!(target.steps("a").last(), Some(&500));
}

#[tokio::test(start_paused = true)]
async fn many_parked_items_are_retried_with_few_writes_of_the_state() {
    let mut store = Store::new();
    store.images("a", "k", 0..2000, 1);
    let target = Memory::new(|_, _| Reaction::Reject);
    let (_, view) = store.deliver(&target, "").await;
    assert_eq!((view.delivered, view.refused), (0, 2000));

    // One of them cannot be delivered, and costs the others nothing.
    target.server().react =
        Box::new(|item, _| if item.id.step.0 == 300 { Reaction::Fail } else { Reaction::Accept });
    assert_eq!(retry(&store.reader, &[config("")]).expect("a store"), 2000);
    let (_, view) = store.deliver(&target, "").await;
    assert_eq!((view.delivered, view.set_aside), (1999, 1), "{view:?}");
    // The state is written once for each commit.
    let n_commits = target.server().n_commits;
    assert!(n_commits <= 40, "{n_commits} commits");
    assert!(target.steps("a").is_sorted());
}

#[tokio::test(start_paused = true)]
async fn an_item_that_keeps_failing_is_parked_and_retried() {
    let mut store = Store::new();
    store.images("a", "k", 0..50, 1);
    let target =
        Memory::new(|item, _| if item.id.step.0 == 7 { Reaction::Fail } else { Reaction::Accept });
    let (is_done, view) = store.deliver(&target, "").await;
    assert!(is_done);
    assert_eq!((view.delivered, view.set_aside, view.refused), (49, 1, 0));
    assert_eq!(view.trouble, None);
    let parked = &store.state("a").parked[0];
    assert!(parked.next.is_some_and(|next| next > parked.since), "{parked:?}");
}

#[tokio::test(start_paused = true)]
async fn no_item_is_parked_while_the_target_is_unreachable() {
    let mut store = Store::new();
    store.images("a", "k", 0..50, 1);
    let target = Memory::new(|_, _| Reaction::Fail);
    let (is_done, view) = store.deliver(&target, "").await;
    assert!(!is_done);
    assert_eq!((view.delivered, view.pending, view.set_aside), (0, 50, 0));
    assert_eq!(view.trouble.as_deref(), Some("it is busy"));
    assert_eq!(store.state("a").cursor, TargetCursor::START);
    // Few were tried, because delivery paused.
    assert!(target.server().n_tries.len() <= 4, "{:?}", target.server().n_tries);
    target.server().react = Box::new(|_, _| Reaction::Accept);
    assert!(store.deliver(&target, "").await.0);
    assert_eq!(target.steps("a"), (0..50).collect::<Vec<u64>>());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_cannot_be_delivered_delays_no_other() {
    let mut store = Store::new();
    for run in ["a", "b", "c"] {
        store.images(run, "k", 0..20, 1);
    }
    fs::create_dir_all(store.root().join("sync/team")).expect("a folder");
    fs::write(store.root().join("sync/team/a.json"), "{").expect("a file");
    let target = Memory::new(|item, _| {
        let is_b = item.folder.ends_with("b");
        if is_b { Reaction::Fail } else { Reaction::Accept }
    });
    let (is_done, view) = store.deliver(&target, "").await;
    assert!(!is_done);
    assert_eq!((target.steps("c").len(), target.steps("b").len()), (20, 0));
    assert!(target.committed("a").is_empty(), "it is unknown what the target has of it");
    assert!(view.trouble.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_parked_item_whose_line_is_damaged_stays_parked() {
    let mut store = Store::new();
    store.images("a", "k", 0..9, 1);
    let target = Memory::new(
        |item, _| if item.id.step.0 == 4 { Reaction::Reject } else { Reaction::Accept },
    );
    store.deliver(&target, "").await;
    let place = store.state("a").parked[0].place;
    let segment = store.root().join("runs/a/journal/00000001.jsonl");
    let mut bytes = fs::read(&segment).expect("a segment");
    bytes[usize::try_from(place.offset).expect("a place") + 9] ^= 1;
    fs::write(&segment, bytes).expect("a segment");
    retry(&store.reader, &[config("")]).expect("a store");
    let (is_done, view) = store.deliver(&target, "").await;
    assert!(is_done, "{view:?}");
    assert_eq!((view.set_aside, view.refused), (1, 1));
    assert!(view.reasons[0].contains("damaged journal line"), "{view:?}");
}
