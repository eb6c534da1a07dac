//! What the daemon's process uses: CPU time, memory, files and threads.

use std::time::Duration;

/// Resources of a process.
#[derive(Debug, Default)]
pub(crate) struct ProcessUsage {
    pub(crate) cpu_s: f64,
    pub(crate) resident_bytes: u64,
    pub(crate) n_fds: u64,
    pub(crate) n_threads: u64,
}

impl ProcessUsage {
    /// Reads the usage of this process from the kernel. A figure that the kernel withholds is 0.
    pub(crate) fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let n_fds = std::fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count() as u64);
        Self {
            cpu_s: cpu_time().as_secs_f64(),
            resident_bytes: 1024 * status_field(&status, "VmRSS"),
            n_fds,
            n_threads: status_field(&status, "Threads"),
        }
    }
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanoseconds.unwrap_or(0))
}

/// The number after `name:` in `/proc/PID/status` (`proc_pid_status(5)`).
fn status_field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_status_file_are_found_by_their_whole_name() {
        let status = "VmRSSx:\t1 kB\nVmRSS:\t   2048 kB\nThreads:\t7\n";
        assert_eq!(status_field(status, "VmRSS"), 2048);
        assert_eq!(status_field(status, "Threads"), 7);
        assert_eq!(status_field(status, "VmHWM"), 0);
    }
}
