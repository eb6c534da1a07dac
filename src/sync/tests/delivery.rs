//! What is delivered.

use super::*;

#[tokio::test(start_paused = true)]
async fn all_arrives_once_whatever_fails_and_whenever_the_program_dies() {
    let mut store = Store::new();
    let luck = Mutex::new(fastrand::Rng::with_seed(7));
    let roll = move |n: u32| luck.lock().expect("luck").u32(0..n) == 0;
    let target = Memory::new(move |_, _| if roll(5) { Reaction::Fail } else { Reaction::Accept });
    let mut luck = fastrand::Rng::with_seed(8);
    let mut n = 0;
    for round in 0..40 {
        let new = luck.u64(0..120);
        for run in ["a", "b"] {
            store.images(run, "k", n..n + new, 1);
        }
        n += new;
        target.server().n_commits_to_fail = luck.u32(0..3);
        // A kill before the state is saved leaves the target ahead of the state.
        let files = ["a", "b"].map(|run| store.root().join(format!("sync/team/{run}.json")));
        let before = files.each_ref().map(|file| fs::read(file).ok());
        store.deliver(&target, "").await;
        if round % 3 == 0 {
            for (file, before) in files.iter().zip(before) {
                match before {
                    Some(text) => fs::write(file, text).expect("a file"),
                    None => drop(fs::remove_file(file)),
                }
            }
        }
    }
    for _ in 0..20 {
        store.deliver(&target, "").await;
        let text = fs::read_dir(store.root().join("sync/team")).expect("states");
        for file in text.flatten() {
            let text = fs::read_to_string(file.path()).expect("a state");
            let mut state: RunState = serde_json::from_str(&text).expect("a state");
            state.parked.iter_mut().for_each(|parked| parked.next = Some(0.0));
            state.save(&Disk::default(), &store.root(), "team").expect("a state");
        }
    }
    for run in ["a", "b"] {
        let mut steps = target.steps(run);
        steps.sort_unstable();
        assert_eq!(steps, (0..n).collect::<Vec<u64>>(), "{run}");
        let state = store.state(run);
        assert!(state.parked.is_empty(), "{state:?}");
    }
    assert!(target.server().n_in_transfer_max <= 16);
}

#[tokio::test(start_paused = true)]
async fn a_target_gets_the_selected_items_in_their_last_version() {
    let mut store = Store::new();
    store.images("a", "val", 0..5, 1);
    store.images("a", "debug/x", 0..5, 1);
    store.images("other", "val", 0..5, 1);
    store.images("a", "val", 2..4, 2);
    let id = MediaId { key: MediaKey::new("val").expect("a key"), step: Step(4), index: 0 };
    store.commit("a", vec![Event::Gone { id, path: None }]);
    let target = Memory::new(|_, _| Reaction::Accept);
    let settings = "exclude = [\"debug/*\"]\nexclude_runs = [\"oth*\"]";
    let (is_done, view) = store.deliver(&target, settings).await;
    assert!(is_done);
    let val = |step, version| ("val".to_owned(), step, version);
    assert_eq!(target.committed("a"), [val(0, 1), val(1, 1), val(2, 2), val(3, 2)]);
    assert!(target.committed("other").is_empty());
    assert_eq!((view.pending, view.pending_bytes), (0, 0));

    // A later version of a delivered item is delivered too, and a held item once it is released.
    store.images("a", "val", [0], 3);
    let MediaEntry { description, source, .. } = image("val", 9, 1);
    let id = MediaId { key: MediaKey::new("val").expect("a key"), step: Step(9), index: 0 };
    let held = MediaEntry::held(id, "over a limit".to_owned(), description, source);
    store.commit("a", vec![Event::Media(Box::new(held))]);
    store.deliver(&target, settings).await;
    store.images("a", "val", [9], 4);
    store.deliver(&target, settings).await;
    assert_eq!(target.committed("a")[4..], [val(0, 3), val(9, 4)]);
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_journal_was_replaced_is_delivered_from_its_beginning() {
    let mut store = Store::new();
    store.images("a", "k", 0..9, 1);
    let target = Memory::new(|_, _| Reaction::Accept);
    store.deliver(&target, "").await;
    drop(store.writer.take());
    let before = store.root();
    let other = Store::new();
    fs::rename(before.join("sync"), other.root().join("sync")).expect("a folder");
    let mut store = other;
    store.images("a", "k", 20..22, 1);
    store.deliver(&target, "").await;
    assert_eq!(target.steps("a")[9..], [20, 21]);
}

#[tokio::test(start_paused = true)]
async fn a_byte_rate_is_kept() {
    let mut store = Store::new();
    store.images("a", "k", 0..40, 1000);
    let target = Memory::new(|_, _| Reaction::Accept);
    let start = tokio::time::Instant::now();
    store.deliver(&target, "bytes_per_s_max = 1000").await;
    let took = start.elapsed().as_secs();
    assert!((38..45).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn the_backlog_is_counted_without_a_thread() {
    let mut store = Store::new();
    store.images("a", "k", 0..7, 10);
    let configs = [config("")];
    let view = &views(&store.reader, &configs).expect("views")[0];
    assert_eq!((view.pending, view.pending_bytes, view.delivered), (7, 70, 0));
    let target = Memory::new(|_, _| Reaction::Accept);
    store.deliver(&target, "").await;
    let view = &views(&store.reader, &configs).expect("views")[0];
    assert_eq!((view.pending, view.delivered), (0, 7));
    let error = choose(&configs, &["tem".to_owned()]).expect_err("no such target");
    assert_eq!(error.to_string(), "no target \"tem\" in the configuration: it has team");
}
