//! A worker that runs until it is stopped.

use super::*;

#[tokio::test(start_paused = true)]
async fn many_runs_keep_few_sinks_open() {
    // Regression: each run kept its sink, and its files, open for a quarter of an hour.
    let mut store = Store::new();
    for run in 0..400 {
        store.images(&format!("run{run}"), "k", 0..2, 1);
    }
    let target = Memory::new(|_, _| Reaction::Accept);
    let (control, board) = (WorkerControl::default(), ProgressBoard::default());
    let reader = store.reader.clone();
    let worker = Worker::<Memory>::new(reader, config(""), target.clone(), board.clone());
    let watch = async {
        while board.view().delivered < 800 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let n_passes = board.n_passes();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(board.n_passes() > n_passes, "idle passes are counted");
        control.stop.cancel();
    };
    tokio::join!(worker.deliver_until_stopped(&control), watch);
    let server = target.server();
    assert!((250..260).contains(&server.n_open_max), "{}", server.n_open_max);
    assert!(server.rests.iter().filter(|why| **why == Rest::Leaving).count() >= 140);
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_sink_hangs_ends_when_stopped() {
    let mut store = Store::new();
    store.images("a", "k", 0..3, 1);
    let target = Memory::new(|_, _| Reaction::Accept);
    target.server().hangs = true;
    let control = WorkerControl::default();
    let board = ProgressBoard::default();
    let reader = store.reader.clone();
    let worker = Worker::<Memory>::new(reader, config(""), target.clone(), board);
    let stop = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        control.stop.cancel();
    };
    let start = tokio::time::Instant::now();
    tokio::join!(worker.deliver_until_stopped(&control), stop);
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    // It is delivered as after a crash.
    target.server().hangs = false;
    let (_, view) = store.deliver(&target, "").await;
    assert_eq!((view.delivered, view.pending), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn the_trouble_stays_while_the_next_try_is_under_way() {
    // Regression: a retry that took longer than the status' interval looked like no trouble, so that the time of the
    // trouble began anew and a target never counted as failing for long.
    let mut store = Store::new();
    store.images("a", "k", 0..3, 1);
    let target = Memory::new(|_, _| Reaction::Fail);
    let (control, board) = (WorkerControl::default(), ProgressBoard::default());
    let reader = store.reader.clone();
    let worker = Worker::<Memory>::new(reader, config(""), target.clone(), board.clone());
    let watch = async {
        while board.view().trouble.is_none() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        for _ in 0..3000 {
            assert!(board.view().trouble.is_some());
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        control.stop.cancel();
    };
    tokio::join!(worker.deliver_until_stopped(&control), watch);
}

#[tokio::test(start_paused = true)]
async fn an_idle_sink_flushes() {
    let mut store = Store::new();
    store.images("a", "k", 0..5, 1);
    let target = Memory::new(|_, _| Reaction::Accept);
    store.deliver(&target, "").await;
    assert_eq!(target.server().rests, [Rest::Leaving]);
    assert!(store.state("a").is_at_rest);
    // It flushes once.
    store.deliver(&target, "").await;
    assert_eq!(target.server().rests.len(), 1);
    // The end of the run reaches it even long after its last image.
    store.commit("a", vec![Event::Finish]);
    store.deliver(&target, "").await;
    store.deliver(&target, "").await;
    assert_eq!(target.server().rests, [Rest::Leaving, Rest::Finished]);
    store.images("a", "k", 5..6, 1);
    store.deliver(&target, "").await;
    assert_eq!(target.server().rests.last(), Some(&Rest::Finished));
}

#[tokio::test(start_paused = true)]
async fn a_continuous_worker_delivers_new_items_and_ends_when_stopped() {
    let mut store = Store::new();
    store.images("a", "k", 0..5, 1);
    let target = Memory::new(|_, _| Reaction::Accept);
    let board = ProgressBoard::default();
    let worker =
        Worker::<Memory>::new(store.reader.clone(), config(""), target.clone(), board.clone());
    let control = WorkerControl::default();
    let delivering = worker.deliver_until_stopped(&control);
    let job = async {
        let arrived = async |n: usize| {
            while target.steps("a").len() < n {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        arrived(5).await;
        target.server().react = Box::new(|_, _| Reaction::Fail);
        store.images("a", "k", 5..9, 1);
        // The clock is the test's: no real time passes.
        tokio::time::sleep(Duration::from_hours(24)).await;
        let view = board.view();
        assert_eq!((view.pending, view.set_aside), (4, 0));
        assert!(view.trouble.is_some());
        store.images("a", "k", 9..12, 1);
        target.server().react = Box::new(|_, _| Reaction::Accept);
        arrived(12).await;
        store.commit("a", vec![Event::Finish]);
        while target.server().rests.last() != Some(&Rest::Finished) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        control.stop.cancel();
    };
    tokio::join!(delivering, job);
    assert_eq!(target.steps("a"), (0..12).collect::<Vec<u64>>());
}

#[tokio::test(start_paused = true)]
async fn an_unsaved_state_doubles_no_item() {
    let mut store = Store::new();
    store.images("a", "k", 0..5, 1);
    let target = Memory::new(|_, _| Reaction::Accept);
    let (board, control) = (ProgressBoard::default(), WorkerControl::default());
    let worker =
        Worker::<Memory>::new(store.reader.clone(), config(""), target.clone(), board.clone());
    let job = async {
        while store.state("a").n_delivered < 5 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let (states, moved) = (store.root().join("sync/team"), store.root().join("moved"));
        fs::rename(&states, &moved).expect("a folder");
        fs::write(&states, "").expect("a file in its place");
        store.images("a", "k", 5..9, 1);
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert!(board.view().trouble.is_some_and(|trouble| trouble.contains("sync/team")));
        fs::remove_file(&states).expect("a file");
        fs::rename(&moved, &states).expect("a folder");
        while store.state("a").n_delivered < 9 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        control.stop.cancel();
    };
    tokio::join!(worker.deliver_until_stopped(&control), job);
    assert_eq!(target.steps("a"), (0..9).collect::<Vec<u64>>());
}
