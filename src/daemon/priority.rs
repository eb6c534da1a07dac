//! Lowers the daemon's CPU priority, so that the training on the same machine comes first.
//!
//! If the kernel groups tasks by session (`sched_autogroup_enabled`, the default of many distributions), a process's
//! nice value counts only within its session. Each session gets an equal share, and a niced daemon takes half a core
//! from a trainer. Therefore the session's own nice value is set as well. This is done only if the daemon leads its
//! session, as under systemd: the session of a shell may also contain the training. Under systemd with the CPU
//! controller, the weight of the unit's slice decides instead (`systemd/safelight.slice`).
//!
//! Source: `sched(7)`, "The autogroup feature"; `fs/proc/base.c`, `kernel/sched/autogroup.c`.

use std::io::{self, IsTerminal};
use std::thread;
use std::time::Duration;

/// Holds the session's nice value, if the kernel groups by session.
const AUTOGROUP: &str = "/proc/self/autogroup";

/// How often the kernel lets all users together set it.
const AUTOGROUP_EVERY: Duration = Duration::from_millis(150);

/// Sets the nice value, 0 to 19, of the process and its session. A higher value is kept.
pub(super) fn lower(nice: u8) {
    if nice == 0 {
        return;
    }
    let wanted = i32::from(nice);
    let niced = rustix::process::getpriority_process(None).and_then(|now| {
        if now < wanted { rustix::process::setpriority_process(None, wanted) } else { Ok(()) }
    });
    if let Err(error) = niced {
        tracing::warn!(nice, %error, "cannot lower the priority: the training may get less CPU time");
    }
    // Empty or missing: the kernel does not group by session, or this process is in another group.
    if std::fs::read(AUTOGROUP).is_ok_and(|group| group.is_empty()) {
        return;
    }
    let leads = rustix::process::getsid(None) == Ok(rustix::process::getpid());
    match leads.then(|| set_autogroup(nice)) {
        Some(Ok(())) => {}
        Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
        // Whoever starts the daemon in a terminal, to try it, need not care.
        None if io::stderr().is_terminal() => {}
        None => tracing::info!(
            nice,
            "the session belongs to the shell that started the daemon, and keeps its priority: a training in \
             another session may get less CPU time; start the daemon by systemd or with setsid"
        ),
        Some(Err(error)) => {
            let what = "cannot lower the session's priority: if the kernel schedules by session, the \
                        training gets no more CPU time than this daemon";
            tracing::warn!(nice, %error, path = AUTOGROUP, "{what}");
        }
    }
}

fn set_autogroup(nice: u8) -> io::Result<()> {
    let set = || {
        // Without `create`: a missing file means that there is nothing to set.
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
