//! `show --picture` on pseudo terminals, and `show --follow` beside a daemon.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{KilledOnDrop, PROGRAM, Ran, TempRun, python, send_signal, wait_for};

/// Runs a command on a pseudo terminal of 80 × 24 characters of 8 × 16 pixels, and plays the terminal: writes the answer
/// once it reads the query. Prints what it saw.
///
/// Arguments: the answer and the environment in JSON, the command.
const TERMINAL: &str = r#"
import fcntl, json, os, pty, select, struct, sys, termios, time
answer, extra = json.loads(sys.argv[1]).encode(), json.loads(sys.argv[2])
hidden = ("TERM_PROGRAM", "LC_TERMINAL", "TMUX", "STY")
env = {k: v for k, v in os.environ.items() if k not in hidden} | {"TERM": "xterm-256color"} | extra
master, slave = pty.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 640, 384))
before = termios.tcgetattr(slave)
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in 0, 1, 2:
        os.dup2(slave, fd)
    os.execve(sys.argv[3], sys.argv[3:], env)
seen, asked_at, is_raw, code, ended_at = b"", None, False, None, None
while True:
    if select.select([master], [], [], 0.02)[0]:
        seen += os.read(master, 65536)
        if asked_at is None and b"\x1b[c" in seen:
            asked_at = time.monotonic()
            is_raw = not termios.tcgetattr(slave)[3] & (termios.ICANON | termios.ECHO)
            os.write(master, answer)
    elif code is not None:
        break
    if code is None and (ended := os.waitpid(pid, os.WNOHANG))[0]:
        code, ended_at = os.waitstatus_to_exitcode(ended[1]), time.monotonic()
print(json.dumps({
    "out": seen.hex(), "code": code, "is_raw": is_raw,
    "is_restored": termios.tcgetattr(slave) == before,
    "seconds": ended_at - asked_at if asked_at else None,
}))
"#;

/// What a terminal saw of a command.
struct Seen {
    /// Without the query.
    out: String,
    report: Value,
}

const QUERY: &str = "\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\\x1b[c";

/// Runs `show` with these arguments on a terminal that gives this answer; `None` if Python is not installed.
fn on_terminal(temp: &TempRun, answer: &str, environment: &Value, args: &[&str]) -> Option<Seen> {
    let answer = json!(answer).to_string();
    let (store, environment) = (temp.store(), environment.to_string());
    let store = store.to_str().expect("a path");
    let command = [&[&answer, &environment, PROGRAM, "show"], args, &["--store", store]].concat();
    let child = python(TERMINAL, &command, Stdio::null())?;
    let output = child.wait_with_output().expect("the terminal's report");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let hex = report["out"].as_str().expect("hexadecimal").as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let out: Vec<u8> = hex.chunks(2).filter_map(byte).collect();
    let out = String::from_utf8(out).expect("text").replace("\r\n", "\n");
    let out = if report["seconds"].is_null() {
        assert!(!out.contains(QUERY), "{out:?}");
        out
    } else {
        assert_eq!(report["is_raw"], true, "{out:?}");
        out.strip_prefix(QUERY).expect("the query first").to_owned()
    };
    assert_eq!(report["is_restored"], true, "{out:?}");
    Some(Seen { out, report })
}

#[test]
fn each_terminal_gets_pictures_in_a_protocol_that_it_knows() {
    let temp = TempRun::new();
    temp.log_picture("k", 1, 7);
    temp.ingest();
    let none = json!({});
    let args = ["run", "k", "1", "--picture"];
    for (answer, environment, want) in [
        ("\x1b_Gi=31;OK\x1b\\\x1b[?62;c", &none, "\x1b_Ga=T,f=100,q=2,"),
        ("\x1b[?64;1;2;4;6;9;15;18;21;22c", &none, "\x1bP"),
        ("\x1b[?1;2c", &json!({"TERM_PROGRAM": "iTerm.app"}), "\x1b]1337;File=inline=1;size="),
        ("\x1b[?64;1;2;6c", &none, "\x1b[38;2;"),
    ] {
        let Some(seen) = on_terminal(&temp, answer, environment, &args) else { return };
        assert_eq!(seen.report["code"], 0, "{:?}", seen.out);
        assert!(seen.out.starts_with(want), "{:?}", seen.out);
        let last = seen.out.lines().last().expect("a line");
        assert!(last.contains("k step 1 [0] "), "{last:?}");
    }
    // These are not asked.
    for environment in [json!({"TMUX": "/tmp/tmux"}), json!({"TERM": "screen-256color"})] {
        let seen = on_terminal(&temp, "", &environment, &args).expect("Python");
        assert!(seen.out.starts_with("\x1b[38;2;"), "{:?}", seen.out);
        assert!(seen.report["seconds"].is_null());
    }
    let seen = on_terminal(&temp, "", &json!({"TERM": "dumb"}), &args).expect("Python");
    assert_eq!(seen.report["code"], 1);
    assert!(seen.out.contains("TERM is \"dumb\""), "{:?}", seen.out);
}

#[test]
fn a_terminal_that_never_answers_gets_blocks_within_a_second() {
    let temp = TempRun::new();
    temp.log_picture("k", 1, 7);
    temp.ingest();
    // A busy machine may need longer.
    let mut seconds = f64::INFINITY;
    for _ in 0..5 {
        let args = ["run", "k", "--picture"];
        let Some(seen) = on_terminal(&temp, "\x1b[?62", &json!({}), &args) else { return };
        assert!(seen.out.starts_with("\x1b[38;2;"), "{:?}", seen.out);
        seconds = seconds.min(seen.report["seconds"].as_f64().expect("seconds"));
        if seconds < 1.0 {
            break;
        }
    }
    assert!((0.2..1.0).contains(&seconds), "{seconds} s");
}

#[test]
fn ctrl_c_ends_the_wait_for_an_answer() {
    let temp = TempRun::new();
    temp.log_picture("k", 1, 7);
    temp.ingest();
    let args = ["run", "k", "--picture"];
    let Some(seen) = on_terminal(&temp, "\x03", &json!({}), &args) else { return };
    assert_eq!((&seen.report["code"], &*seen.out), (&json!(1), "safelight: interrupted\n"));
}

#[test]
fn a_pipe_gets_pictures_only_in_a_named_protocol() {
    let temp = TempRun::new();
    temp.log_picture("k", 1, 7);
    temp.log_picture("k", 2, 8);
    temp.ingest();
    let ran = temp.run(&["show", "run", "k", "1", "--picture"]);
    assert_eq!((ran.code, &*ran.out), (1, ""));
    assert!(ran.err.contains("standard output is a file or pipe"), "{}", ran.err);
    assert!(ran.err.contains("--picture=kitty, iterm2, sixel or blocks"), "{}", ran.err);
    for (protocol, want) in [
        ("kitty", "\x1b_G"),
        ("iterm2", "\x1b]1337;"),
        ("sixel", "\x1bP"),
        ("blocks", "\x1b[38;2;"),
    ] {
        let ran = temp.run(&["show", "run", "k", "1", &format!("--picture={protocol}")]);
        assert!(ran.code == 0 && ran.out.starts_with(want), "{ran:?}");
        assert!(ran.out.ends_with('\n'), "{ran:?}");
    }
    // Several items stand one below another.
    let line = |n: usize| {
        let item = json!({
            "key": "many", "step": 1, "data": "tensors/k-1-7.npy", "caption": format!("c{n}"),
        });
        format!("{item}\n")
    };
    let lines: String = (0..3).map(line).collect();
    temp.append("a.media.jsonl", &lines);
    temp.ingest();
    let ran = temp.run(&["show", "run", "many", "--picture=blocks"]);
    let captions: Vec<&str> =
        ran.out.lines().filter(|line| line.contains("many step 1 [")).collect();
    assert_eq!(captions.len(), 3, "{ran:?}");
    assert!(captions[2].ends_with(": c2"), "{ran:?}");
    for (args, want) in [
        (&["show", "run", "k", "1", "--picture", "--json"][..], "cannot be used with"),
        (&["show", "run", "k", "1", "--overlays"], "--picture"),
        (&["show", "run", "k", "1", "--picture=png"], "invalid value 'png'"),
        (&["show", "run", "k", "newest"], "got \"newest\", want a step, such as 120, or last"),
    ] {
        let ran = temp.run(args);
        assert!(ran.code == 2 && ran.err.contains(want), "{ran:?}");
    }
}

#[test]
fn the_last_step_is_the_default() {
    let temp = TempRun::new();
    for step in [1, 2, 30] {
        temp.log_picture("k", step, step);
    }
    temp.ingest();
    let step = |args: &[&str]| {
        let ran = temp.run(&[&["show"], args, &["--json"]].concat());
        let item: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"));
        item["step"].clone()
    };
    assert_eq!(step(&["run", "k"]), 30);
    assert_eq!(step(&["run", "k", "last", "0"]), 30);
    assert_eq!(step(&["run", "k", "2"]), 2);
    for (args, want) in [
        (["show", "rum", "k"], "did you mean \"run\"?"),
        (["show", "run", "l"], "did you mean \"k\"?"),
    ] {
        let ran = temp.run(&args);
        assert!(ran.code == 1 && ran.err.contains(want), "{ran:?}");
    }
}

#[test]
fn held_and_rejected_items_and_lost_files_are_said_in_words() {
    let temp = TempRun::new();
    for n in 0..3 {
        temp.log_picture("k", 1, n);
    }
    temp.append("a.media.jsonl", "{\"key\":\"k\",\"step\":1,\"data\":\"no.npy\"}\n");
    let run = temp.at("");
    temp.run_with("[limits]\nmax_items = 2\n", &["ingest", run.to_str().expect("a path")]);
    let args = ["show", "run", "k", "1", "--picture=blocks"];
    let ran = temp.run(&args);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("k step 1 [2]: held back: "), "{ran:?}");
    assert!(
        ran.out.contains("k step 1 [3]: rejected, is tried again: \"no.npy\" is missing"),
        "{ran:?}"
    );
    let first = temp.items().remove(0);
    let path = temp.store().join(first["path"].as_str().expect("a path"));
    fs::remove_file(&path).expect("a media file");
    let ran = temp.run(&args);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("media file is missing"), "{ran:?}");
    assert!(ran.err.contains(path.to_str().expect("a path")), "{ran:?}");
    assert!(ran.out.contains("k step 1 [1] ") && ran.out.contains('▀'), "{ran:?}");
}

#[test]
fn following_shows_what_is_new_until_the_run_is_finished() {
    let temp = TempRun::new();
    temp.log_picture("k", 1, 1);
    let without = temp.run(&["show", "run", "k", "--follow"]);
    assert_eq!(without.code, 1);
    assert!(without.err.contains("--follow needs a daemon: no daemon is running"), "{without:?}");
    let daemon = temp.daemon("backend = \"inotify\"\n");
    wait_for("an image", || temp.counts() == [1, 0, 0]);
    let follow = |args: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.args(["show", "run"]).args(args).arg("--follow").arg("--store").arg(temp.store());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the program")
    };
    let mut following = KilledOnDrop(follow(&["k", "--json"]));
    let of_another_key = follow(&["later", "--picture=kitty"]);
    let mut lines = BufReader::new(following.0.stdout.take().expect("a pipe")).lines();
    let mut next = || {
        let line = lines.next()?.expect("a line");
        let item: Value = serde_json::from_str(&line).expect("JSON");
        Some((item["step"].as_u64(), item["index"].as_u64()))
    };
    assert_eq!(next(), Some((Some(1), Some(0))));
    temp.log_picture("k", 2, 2);
    assert_eq!(next(), Some((Some(2), Some(0))));
    temp.log_picture("other", 3, 3);
    temp.log_picture("k", 3, 4);
    temp.log_picture("k", 3, 5);
    assert_eq!(next(), Some((Some(3), Some(0))));
    assert_eq!(next(), Some((Some(3), Some(1))));
    temp.log_picture("later", 9, 6);
    temp.append("a.media.jsonl", "{\"finish\": true}\n");
    assert_eq!(next(), None);
    assert_eq!(following.0.wait().expect("its end").code(), Some(0));
    let ran: Ran = of_another_key.wait_with_output().expect("its end").into();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("run \"run\" has no key \"later\""), "{ran:?}");
    assert!(ran.err.contains("waiting for it"), "{ran:?}");
    assert!(ran.out.starts_with("\x1b_G") && ran.out.contains("later step 9 [0]"), "{ran:?}");
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn following_outlives_a_restart_of_the_daemon() {
    let temp = TempRun::new();
    temp.log_picture("k", 1, 1);
    let daemon = temp.daemon("backend = \"inotify\"\n");
    wait_for("an image", || temp.counts() == [1, 0, 0]);
    let mut command = Command::new(PROGRAM);
    command.args(["show", "run", "k", "--follow", "--json", "--store"]).arg(temp.store());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut following = KilledOnDrop(command.spawn().expect("the program"));
    let mut lines = BufReader::new(following.0.stdout.take().expect("a pipe")).lines();
    let mut errors = BufReader::new(following.0.stderr.take().expect("a pipe")).lines();
    assert!(lines.next().is_some());
    assert_eq!(daemon.stop().0, Some(0));
    let told = errors.next().expect("a line").expect("text");
    assert!(told.ends_with("; waiting for the daemon"), "{told}");
    let daemon = temp.daemon("backend = \"inotify\"\n");
    temp.log_picture("k", 2, 2);
    let line = lines.next().expect("a line").expect("text");
    assert_eq!(serde_json::from_str::<Value>(&line).expect("JSON")["step"], 2);
    send_signal(&following.0, "-TERM");
    following.0.wait().expect("its end");
    assert_eq!(daemon.stop().0, Some(0));
}
