//! The watchdog notices stalled threads, `health` reports problems, and a directory whose events miss files
//! is polled.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{PROGRAM, READY, TempRun, gray, has_program, send_signal, skip, wait_for};

/// A process that is ended by SIGINT when dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // On this signal strace detaches from its process.
        send_signal(&self.0, "-INT");
        self.0.wait().ok();
    }
}

#[test]
fn a_stalled_thread_stops_the_watchdog_notifications() {
    if !has_program("strace") {
        return;
    }
    let temp = TempRun::new();
    let socket = temp.folder().join("notify");
    let listener = UnixDatagram::bind(&socket).expect("a socket");
    listener.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    let config = temp.folder().join("c.toml");
    let text = "store.path = \"store\"\ncontrol.socket = \"control.sock\"\n[[watch]]\npath = \"run\"\nruns = \".\"\n";
    fs::write(&config, text).expect("a configuration");
    let log = temp.folder().join("daemon.log");
    let mut daemon = Command::new(PROGRAM)
        .args(["daemon", "--config"])
        .arg(&config)
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", "1200000")
        .stderr(fs::File::create(&log).expect("a log"))
        .spawn()
        .expect("the daemon");
    let pid = daemon.id().to_string();
    // Returns the number of watchdog notifications in this time.
    let fed = |time: Duration| {
        let (start, mut n) = (Instant::now(), 0);
        let mut buffer = [0; 4096];
        while start.elapsed() < time {
            if let Ok(n_bytes) = listener.recv(&mut buffer) {
                n += usize::from(buffer[..n_bytes].starts_with(b"WATCHDOG=1"));
            }
        }
        n
    };
    wait_for("the daemon", || fs::read_to_string(&log).is_ok_and(|text| text.contains(READY)));
    assert!(fed(Duration::from_secs(2)) > 0, "no notification from a healthy daemon");
    // Delays the next sync of the commit thread. The other threads go on.
    let tracer = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"])
        .args(["-e", "inject=fdatasync:delay_enter=8000000", "-p", &pid])
        .spawn()
        .expect("strace");
    let tracer = Ended(tracer);
    let is_traced = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
    };
    let start = Instant::now();
    while !is_traced() && start.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(50));
    }
    if !is_traced() {
        skip("no process can be traced here");
        daemon.kill().expect("a kill");
        daemon.wait().expect("an end");
        return;
    }
    temp.log_picture("k", 1, 1);
    wait_for("the stall to be logged", || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("thread is stalled"))
    });
    let text = fs::read_to_string(&log).expect("the log");
    assert!(text.contains("\"thread\":\"commit\""), "{text}");
    fed(Duration::from_millis(100));
    assert_eq!(fed(Duration::from_secs(2)), 0, "notifications despite a stalled commit thread");
    drop(tracer);
    wait_for("the thread to go on", || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("no thread is stalled any more"))
    });
    assert!(fed(Duration::from_secs(2)) > 0, "no notification after the stall");
    wait_for("the picture", || temp.items().len() == 1);
    send_signal(&daemon, "-TERM");
    assert_eq!(daemon.wait().expect("an end").code(), Some(0));
}

#[test]
fn health_says_what_is_wrong() {
    let temp = TempRun::new();
    let without_daemon = temp.run(&["health"]);
    assert_eq!(without_daemon.code, 1);
    assert!(without_daemon.err.contains("no daemon is running for store"), "{without_daemon:?}");
    let daemon = temp.daemon("[[watch]]\npath = \"elsewhere\"\n");
    let health: Value = serde_json::from_str(&temp.run(&["health", "--json"]).out).expect("JSON");
    assert_eq!((&health["ready"], &health["healthy"]), (&true.into(), &false.into()));
    let output = temp.run(&["health"]);
    assert_eq!(output.code, 1);
    assert!(output.out.contains("elsewhere: the directory is missing"), "{output:?}");
    fs::create_dir(temp.folder().join("elsewhere")).expect("a folder");
    wait_for("good health", || temp.run(&["health"]).code == 0);
    assert_eq!(temp.run(&["health"]).out, "healthy\n");
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_directory_whose_events_miss_files_is_polled() {
    // Files that are written to the lower layer of an overlay cause no events in the overlay.
    if !rustix::process::geteuid().is_root() {
        skip("only root can mount an overlay");
        return;
    }
    let temp = TempRun::new();
    for folder in ["lower/run/dumps/k", "upper", "work", "merged"] {
        fs::create_dir_all(temp.folder().join(folder)).expect("a folder");
    }
    let config = temp.folder().join("c.toml");
    let text = "[store]\npath = \"store\"\n[control]\nsocket = \"control.sock\"\n[[watch]]\npath = \
                \"merged\"\n[ingest]\nsettle_ms = 50\nscan_ms = 500\npoll_ms = 300\n";
    fs::write(&config, text).expect("a configuration");
    let log = temp.folder().join("daemon.log");
    let mount = "mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged && \
                 mkdir -p merged/run/dumps/k && touch merged/run/dumps/k/.x && \
                 exec \"$0\" daemon --config c.toml";
    let daemon = Command::new("unshare")
        .args(["-m", "--", "sh", "-c", mount, PROGRAM])
        .current_dir(temp.folder())
        .stderr(fs::File::create(&log).expect("a log"))
        .spawn()
        .expect("unshare");
    let mut daemon = daemon;
    let text = || fs::read_to_string(&log).unwrap_or_default();
    let mut is_over = false;
    wait_for("the daemon", || {
        is_over = daemon.try_wait().expect("a status").is_some();
        is_over || text().contains(READY)
    });
    if is_over {
        skip(&format!("no overlay can be mounted here: {}", text()));
        return;
    }
    let status =
        || -> Value { serde_json::from_str(&temp.run(&["status", "--json"]).out).expect("JSON") };
    let root = |status: &Value| status["ingest"]["watching"][0].clone();
    assert_eq!(root(&status())["backend"], "inotify");
    let upper = temp.folder().join("upper/run/dumps/k");
    for n in 0..8 {
        fs::write(upper.join(format!("{n}.npy")), gray(n)).expect("a dump");
    }
    wait_for("the dumps", || temp.items().len() == 8);
    wait_for("the change", || root(&status())["backend"] == "poll");
    let root = root(&status());
    assert!(root["problem"].as_str().is_some_and(|why| why.contains("events missed")), "{root}");
    assert!(text().contains("directory is polled"), "{}", text());
    fs::write(upper.join("9.npy"), gray(9)).expect("a dump");
    wait_for("the next one", || temp.items().len() == 9);
    send_signal(&daemon, "-TERM");
    assert_eq!(daemon.wait().expect("an end").code(), Some(0));
}

#[test]
fn a_hundred_reloads_under_load_miss_nothing() {
    let temp = TempRun::new();
    let daemon = temp.daemon("[ingest]\nsettle_ms = 30\nclose_ms = 5\n");
    let config = temp.folder().join("safelight.toml");
    let text = fs::read_to_string(&config).expect("the configuration");
    let taken_up = |text: &str| {
        fs::write(&config, text).expect("a configuration");
        let ran = temp.run(&["reload", "--config", config.to_str().expect("a path")]);
        (ran.code, ran.err)
    };
    for n in 0..100 {
        temp.log_picture("line", n, n);
        temp.write(&format!("dumps/own/{n}.npy"), &gray(n));
        // Each reload changes a limit, some also the watched directories.
        let other = if n % 3 == 0 { "[[watch]]\npath = \"elsewhere\"\n" } else { "" };
        let text = format!("{text}{other}[limits]\nmax_items = {}\n", 100 + n);
        assert_eq!(taken_up(&text), (0, String::new()));
        if n % 10 == 0 {
            let (code, error) = taken_up(&format!("{text}max_itms = 3\n"));
            assert_eq!(code, 78, "{error}");
            assert!(error.contains("did you mean \"max_items\""), "{error}");
        }
    }
    wait_for("all", || temp.counts() == [200, 0, 0]);
    // The run was opened only once, so that its directory was watched all the time.
    let n_opened = daemon.log_text().matches("run directory is read").count();
    assert_eq!(n_opened, 1);
    assert_eq!(daemon.stop().0, Some(0));
}
