//! A run, a key, a step or an index that does not exist is an error that names the nearest ones.

use crate::harness::{TempRun, wait_for};

fn check(temp: &TempRun) {
    for (args, want) in [
        (&["ls", "rum"][..], "no run \"rum\" in the store: did you mean \"run\"?"),
        (
            &["ls", "run", "val/prde"],
            "run \"run\" has no key \"val/prde\": did you mean \"val/pred\"?",
        ),
        (&["ls", "run", "input"], "did you mean \"train/input\"?"),
        (&["ls", "run", "val/pred", "--step", "15"], "the nearest steps are 10 and 20"),
        (&["ls", "run", "val/pred", "--step", "99"], "the nearest step is 20"),
        // Bug: nothing, exit code 0.
        (
            &["ls", "run", "val", "--step", "17"],
            "run \"run\" has nothing under any of the 2 keys at step 17: the nearest steps are 15 and 20",
        ),
        (&["ls", "run", "train", "--step", "1"], "the nearest step is 10"),
        (&["show", "rum", "val/pred", "10"], "did you mean \"run\"?"),
        (&["show", "run", "val/prd", "10"], "did you mean \"val/pred\"?"),
        (&["show", "run", "val/pred", "0"], "the nearest step is 10"),
        (
            &["show", "run", "val/pred", "10", "7"],
            "has no index 7 under key \"val/pred\" at step 10: it has 0, 1",
        ),
        (&["release", "rum"], "did you mean \"run\"?"),
        (&["release", "run", "val"], "did you mean \"val/pred\"?"),
        (&["sync", "archiv"], "no target \"archiv\" in the configuration"),
    ] {
        let ran = temp.run(args);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{args:?} {ran:?}");
        assert!(ran.err.contains(want), "{args:?} {ran:?}");
        assert_eq!(ran.err.lines().count(), 1, "{args:?} {ran:?}");
    }
    for args in [
        // Names that exist, but nothing matches.
        &["ls", "run", "--state", "held"][..],
        &["ls", "run", "val/pred", "--state", "held"],
        &["ls", "run", "val/pred", "--step", "30..40"],
        &["ls", "run", "val", "--step", "30..40"],
        &["ls", "run", "val", "--step", "15", "--state", "held"],
        &["ls", "run", "val/pred", "--step", "10", "--state", "rejected"],
        // The key of a rejected line.
        &["ls", "run", "bad"],
        &["release", "run", "val/pred"],
    ] {
        let ran = temp.run(args);
        assert_eq!(ran.code, 0, "{args:?} {ran:?}");
    }
}

#[test]
fn names_that_do_not_exist_are_errors_with_the_nearest_ones() {
    let temp = TempRun::new();
    for step in [10, 20] {
        temp.log_picture("val/pred", step, 0);
        temp.log_picture("val/pred", step, 1);
        temp.log_picture("train/input", step, 1);
    }
    temp.append("a.media.jsonl", "{\"key\":\"bad\",\"step\":1,\"data\":\"../x\"}\n");
    temp.log_picture("val/target", 15, 1);
    assert_eq!(temp.ingest().code, 3);
    check(&temp);
    let daemon = temp.daemon("");
    wait_for("the items", || temp.counts() == [7, 0, 1]);
    check(&temp);
    assert_eq!(daemon.stop().0, Some(0));
}
