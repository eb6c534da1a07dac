//! The reading of logs against a model: random lists of what a job, a log rotation and the daemon do,
//! on real files. `SAFELIGHT_LOG_CASES` says how many lists.
//!
//! The model knows each line that was written, and in which file it is now. It asks for three things:
//! no line comes twice; no line comes that was not written; and once all was looked at, each line that
//! is in a log, or in a file that was one, has come.

use proptest::prelude::*;

use self::world::{LOGS, World};

mod world;

/// What happens.
#[derive(Debug, Clone)]
enum Action {
    /// The job adds whole lines of these lengths to a log; its begun line is ended first.
    Append(usize, Vec<usize>),
    /// The job writes the first part of a line.
    Begin(usize, usize),
    /// The job makes a log without a line.
    Touch(usize),
    /// log → log.1 → log.2, which goes.
    Rotate(usize),
    /// The log is copied to log.1, and cut to nothing; the job writes on at the start.
    CopyTruncate(usize),
    /// The same, but the job writes on at its old offset: zero bytes come first.
    CopyTruncateStale(usize, usize),
    /// The log is written anew in place, with lines of these lengths.
    Rewrite(usize, Vec<usize>),
    /// The log is removed, and made anew with such lines: often with the same inode.
    Recreate(usize, Vec<usize>),
    /// A copy of the log with such lines added is renamed over it, as rsync does.
    ReplaceByCopy(usize, Vec<usize>),
    /// Another log with such lines is renamed over it.
    Replace(usize, Vec<usize>),
    /// The log is removed.
    Remove(usize),
    /// Two logs exchange their names.
    Swap(usize, usize),
    /// The run directory is replaced by a copy of itself, the daemon being down.
    CopyAll,
    /// The daemon hears of a log.
    Hear(usize),
    /// The daemon lists what changed, or everything.
    Scan(bool),
    /// A log is rotated between the daemon's listing and its look at what it found. Not among the random
    /// actions: a log that was written anew and is then seen under no name it had is told by nothing.
    RotateWhileListed(usize),
    /// The daemon reads on, and acts on so many lines of each log; the others wait.
    Read(usize),
    /// The daemon closes the logs that it has read to their ends.
    Rest,
    /// So many of the lines that were acted on become durable.
    Commit(usize),
    /// The daemon ends, what it acted on being durable, and starts.
    Restart,
    /// The daemon is killed and starts.
    Kill,
    /// The daemon looks at all, until nothing is left to do.
    Settle,
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    let length = prop_oneof![6 => 0usize..40, 2 => 200usize..400, 1 => 1000usize..1200, 1 => 2500usize..3000];
    prop_oneof![9 => proptest::collection::vec(length, 1..4).boxed(),
                1 => Just(vec![1900; 80]).boxed()]
}

fn action() -> impl Strategy<Value = Action> {
    let log = || 0..LOGS.len();
    prop_oneof![
        6 => (log(), lengths()).prop_map(|(log, lengths)| Action::Append(log, lengths)),
        2 => (log(), 0usize..600).prop_map(|(log, length)| Action::Begin(log, length)),
        1 => log().prop_map(Action::Touch),
        3 => log().prop_map(Action::Rotate),
        2 => log().prop_map(Action::CopyTruncate),
        1 => (log(), 0usize..600).prop_map(|(log, length)| Action::CopyTruncateStale(log, length)),
        2 => (log(), lengths()).prop_map(|(log, lengths)| Action::Rewrite(log, lengths)),
        2 => (log(), lengths()).prop_map(|(log, lengths)| Action::Recreate(log, lengths)),
        2 => (log(), lengths()).prop_map(|(log, lengths)| Action::ReplaceByCopy(log, lengths)),
        1 => (log(), lengths()).prop_map(|(log, lengths)| Action::Replace(log, lengths)),
        1 => log().prop_map(Action::Remove),
        1 => (log(), log()).prop_map(|(a, b)| Action::Swap(a, b)),
        1 => Just(Action::CopyAll),
        3 => log().prop_map(Action::Hear),
        2 => any::<bool>().prop_map(Action::Scan),
        4 => (0usize..4).prop_map(Action::Read),
        3 => Just(Action::Rest),
        2 => (0usize..6).prop_map(Action::Commit),
        2 => Just(Action::Restart),
        2 => Just(Action::Kill),
        3 => Just(Action::Settle),
    ]
}

fn n_cases() -> u32 {
    std::env::var("SAFELIGHT_LOG_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(400)
}

fn check(actions: &[Action]) -> Result<(), TestCaseError> {
    let mut world = World::new();
    actions.iter().try_for_each(|action| world.act(action))?;
    world.settle()?;
    world.act(&Action::Restart)?;
    world.settle()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: n_cases(), failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn each_line_comes_once_whatever_is_done_to_the_logs(
        actions in proptest::collection::vec(action(), 1..40),
    ) {
        check(&actions)?;
    }
}

/// Lists that failed once.
mod that_failed {
    use super::Action::*;
    use super::*;

    #[test]
    fn one_log_replaces_two_that_had_its_name_and_is_a_copy_of_one_of_them() {
        // Only the cursor of one was kept, by its path and content: the copy was read from its start.
        check(&[
            Begin(1, 0),
            Swap(0, 0),
            Append(0, vec![0]),
            Append(1, vec![0]),
            Swap(0, 1),
            Replace(1, vec![0]),
            ReplaceByCopy(0, vec![0]),
        ])
        .expect("each line once");
        check(&[
            Rewrite(0, vec![0]),
            ReplaceByCopy(2, vec![0]),
            Swap(0, 2),
            Recreate(0, vec![0]),
            ReplaceByCopy(2, vec![0]),
        ])
        .expect("each line once");
    }

    #[test]
    fn a_log_takes_the_name_of_a_removed_one_that_is_still_read_and_is_then_replaced_by_a_copy() {
        // The name of the log was noted only once the removed one was read to its end: the copy had no cursor.
        check(&[
            Append(2, vec![0]),
            Settle,
            Rest,
            Replace(0, vec![0]),
            Read(0),
            Swap(0, 2),
            Remove(2),
            ReplaceByCopy(0, vec![0]),
        ])
        .expect("each line once");
    }

    #[test]
    fn an_empty_log_gets_the_inode_of_a_log_that_was_replaced_by_a_copy() {
        // The store kept the old cursor under that inode. The next copy got the inode, and was read from there.
        let list = [
            Append(2, vec![2]),
            Append(1, vec![0]),
            ReplaceByCopy(2, vec![0]),
            Restart,
            Touch(0),
            ReplaceByCopy(0, vec![0]),
            Replace(0, vec![0]),
            Restart,
            ReplaceByCopy(2, vec![1]),
        ];
        // Which inodes are used again is up to the file system.
        (0..20).for_each(|_| check(&list).expect("each line once"));
    }

    #[test]
    fn the_cursor_of_a_removed_log_replaces_that_of_a_later_log_of_its_name() {
        // A third file got the inode of the removed log, which was then known by its name alone: the later
        // log's cursor by content was lost, and a copy of that log was read from its start.
        check(&[
            Begin(2, 495),
            CopyTruncateStale(1, 512),
            Append(0, vec![24, 21, 207]),
            Rest,
            ReplaceByCopy(1, vec![2575, 39]),
            Replace(0, vec![227, 1061]),
            Remove(0),
            Rotate(2),
            Swap(2, 0),
            Rotate(2),
            CopyTruncate(1),
            ReplaceByCopy(0, vec![21]),
            Begin(2, 526),
            Rest,
            ReplaceByCopy(0, vec![2550]),
            Begin(0, 441),
            Settle,
            Read(0),
            Rest,
            Settle,
            Rewrite(1, vec![360, 16]),
            Append(0, vec![21, 29, 341]),
            Settle,
            Rest,
            CopyTruncate(2),
            Kill,
            Recreate(1, vec![261, 26, 227]),
            Rewrite(2, vec![1037, 30, 20]),
            Hear(0),
            ReplaceByCopy(2, vec![24]),
            ReplaceByCopy(1, vec![284]),
            Settle,
            Commit(5),
            Append(0, vec![245, 31]),
            Begin(0, 531),
            Restart,
        ])
        .expect("each line once");
    }

    #[test]
    fn a_writer_that_goes_on_at_its_old_offset() {
        // The line after the hole was rejected.
        check(&[Append(0, vec![9]), Settle, CopyTruncateStale(0, 9)]).expect("each line once");
    }

    #[test]
    fn a_copy_of_a_log_whose_inode_another_log_took() {
        // A cursor was looked for by the inode alone, then by the name alone, and the log read again.
        check(&[
            Append(0, vec![9]),
            Settle,
            CopyAll,
            Append(1, vec![9]),
            Settle,
            ReplaceByCopy(0, vec![9]),
            Restart,
            Recreate(1, vec![9]),
            Hear(1),
            Restart,
        ])
        .expect("each line once");
    }

    #[test]
    fn a_log_with_equal_ends_of_lines_is_cut_off() {
        // Of what was read only the last bytes were compared.
        let lines = || vec![600; 3];
        check(&[Append(0, lines()), Settle, CopyTruncate(0), Append(0, lines())])
            .expect("each line once");
    }

    #[test]
    fn a_log_that_was_empty_when_it_was_found_is_renamed_while_its_first_line_waits() {
        // The store had nothing to tell the file by.
        check(&[Touch(0), Hear(0), Append(0, vec![9]), Read(0), Commit(9), Kill, Rotate(0)])
            .expect("each line once");
    }

    #[test]
    fn a_log_is_written_anew_before_it_is_read_and_renamed_while_its_first_line_waits() {
        // The store was told of the beginning that the log had when it was found.
        check(&[
            Append(0, vec![9]),
            Hear(0),
            Rewrite(0, vec![9]),
            Read(0),
            Commit(9),
            Restart,
            Rotate(0),
        ])
        .expect("each line once");
    }

    #[test]
    fn a_log_with_a_cursor_is_written_anew_before_it_is_read_and_renamed_while_its_first_line_waits()
     {
        // The store had a cursor with the beginning of what was there before, and got no other one.
        check(&[Append(0, vec![0]), CopyAll, Rewrite(0, vec![0]), Read(0), Restart, Rotate(0)])
            .expect("each line once");
    }

    #[test]
    fn a_log_is_written_anew_and_removed_before_it_is_read() {
        // A removed log that was shorter than before was taken for read.
        check(&[Append(0, vec![300]), Settle, Rewrite(0, vec![9]), Recreate(0, vec![9])])
            .expect("each line once");
    }

    #[test]
    fn a_log_is_rotated_while_a_daemon_that_was_just_started_lists() {
        // It was found under no name, so its inode was forgotten, and nothing told any more that what
        // lies under the new name is a log: its last lines never came.
        check(&[
            Append(0, vec![9]),
            Settle,
            Kill,
            Append(0, vec![9]),
            RotateWhileListed(0),
            Read(9),
            Settle,
        ])
        .expect("each line once");
    }

    #[test]
    fn a_copy_of_a_log_gets_the_inode_of_one_that_is_gone() {
        // The copy was taken for the log that had the inode, and read from where that one stood.
        check(&[
            Append(0, vec![9]),
            Settle,
            ReplaceByCopy(0, vec![9]),
            Settle,
            CopyTruncate(0),
            Settle,
        ])
        .expect("each line once");
    }
}
