//! Steps behind the training on the processors that both use.
//!
//! A nice value alone does nothing where the kernel groups tasks by session (`sched_autogroup_enabled`,
//! the default of many distributions): then each session has its equal share, and a niced daemon takes
//! half a core from a trainer. So the session's own nice value is set as well, where the session is the
//! daemon's own, as under systemd: in one that began with a shell, the training may run beside it. Under
//! systemd with the CPU controller it is the weight of the unit's slice that counts
//! (`systemd/safelight.slice`).
//!
//! Source: `sched(7)`, "The autogroup feature"; `fs/proc/base.c`, `kernel/sched/autogroup.c`.

use std::io;
use std::thread;
use std::time::Duration;

/// Takes the session's nice value, where the kernel groups by session.
const AUTOGROUP: &str = "/proc/self/autogroup";

/// The kernel lets users set it so often in all.
const AUTOGROUP_EVERY: Duration = Duration::from_millis(150);

/// Steps back to this nice value, 0 to 19, unless the process has a higher one already.
pub(super) fn step_back(nice: u8) {
    if nice == 0 {
        return;
    }
    let wanted = i32::from(nice);
    let niced = rustix::process::getpriority_process(None).and_then(|now| {
        if now < wanted { rustix::process::setpriority_process(None, wanted) } else { Ok(()) }
    });
    if let Err(error) = niced {
        tracing::warn!(nice, %error, "cannot be nice: the training may get less of the processors");
    }
    // Empty, or not there, where the kernel doesn't group by session, or this process's group is another.
    if std::fs::read(AUTOGROUP).is_ok_and(|group| group.is_empty()) {
        return;
    }
    let leads = rustix::process::getsid(None) == Ok(rustix::process::getpid());
    match leads.then(|| set_autogroup(nice)) {
        Some(Ok(())) => {}
        Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
        None => tracing::info!(
            nice,
            "shares its session with the shell that started it: a training in another session may have \
             to share processors evenly with both; start it by systemd, or with setsid"
        ),
        Some(Err(error)) => {
            let what = "cannot set the session's nice value: where the kernel shares the processors \
                        evenly among sessions, the training gets no more of them than this daemon";
            tracing::warn!(nice, %error, path = AUTOGROUP, "{what}");
        }
    }
}

fn set_autogroup(nice: u8) -> io::Result<()> {
    let set = || {
        // Not made where it isn't there.
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).open(AUTOGROUP)?;
        io::Write::write_all(&mut file, nice.to_string().as_bytes())
    };
    let mut result = set();
    for _ in 0..5 {
        if !matches!(&result, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            break;
        }
        thread::sleep(AUTOGROUP_EVERY);
        result = set();
    }
    result
}
