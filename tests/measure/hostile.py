"""Measures what one user's hostile files cost: the daemon's memory and descriptors, and how long another user's
pictures beside them wait.

    ./test.sh hostile [runs|line|newlines|unfinished|identities|sparse|blank|members|tail|links ...]

Each part has a daemon of its own, with the descriptors of the unit. $SAFELIGHT_PROGRAM names another program to
compare with.
"""

import argparse
import json
import os
import resource
import shutil
import threading
import time
import zipfile

from common import Daemon, be_gentle, fresh_folder, gray, npy, rest_of, run_parts, say

# A picture is written beside at each of these times, in seconds, and waited for.
BESIDE_S = range(0, 12, 2)


def report(part, what, got, goal):
    load = os.getloadavg()[0]
    say(f"{part:>10}  {what}: {got}   (goal: {goal}; load {load:.1f})")


class Beside:
    """Another user's job: writes a picture now and then, and measures how long each waits for its item."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.run = daemon.folder / "runs/beside"
        (self.run / "dumps/val").mkdir(parents=True)

    def n_images(self):
        runs = json.loads(self.daemon.get("/v1/status"))["runs"]
        return sum(run["image"] for run in runs if run["run"] == "beside")

    def waits(self, patience_s=120):
        """Returns how long each picture waited, in seconds. No picture is waited for longer than `patience_s`."""
        start, waits = time.monotonic(), []
        for n, at in enumerate(BESIDE_S):
            time.sleep(max(0, start + at - time.monotonic()))
            (self.run / f"dumps/val/{n:06}.npy").write_bytes(gray(n, 32))
            written = time.monotonic()
            while True:
                waited = time.monotonic() - written
                try:
                    if self.n_images() > n or waited > patience_s:
                        break
                except OSError:
                    # No answer: the picture waits.
                    self.daemon.connection = None
                    if waited > patience_s or self.daemon.process.poll() is not None:
                        return [*waits, patience_s]
                time.sleep(0.05)
            waits.append(waited)
            if waited > patience_s:
                break
        return waits


def limited(n_descriptors):
    def prepare():
        be_gentle()
        resource.setrlimit(resource.RLIMIT_NOFILE, (n_descriptors, n_descriptors))
    return prepare


def descriptors(daemon):
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))


def measure(part, write, n_descriptors=8192, settings="", watch="", while_beside=None):
    """Lets `write` fill a run directory while the daemon reads another job's, and prints the costs."""
    folder = fresh_folder(f"hostile-{part}")
    with Daemon(folder, settings=settings, watch=watch, prepare=limited(n_descriptors)) as daemon:
        beside = Beside(daemon)
        before = daemon.rss_mb()
        hostile = folder / "runs/hostile"
        hostile.mkdir()
        write(hostile)
        stop = threading.Event()
        if while_beside:
            thread = threading.Thread(target=while_beside, args=(hostile, stop))
            thread.start()
        try:
            waits = beside.waits()
        finally:
            stop.set()
            if while_beside:
                thread.join()
        if daemon.process.poll() is not None:
            report(part, "the daemon ended", daemon.log_text()[-300:], "it goes on")
            return
        report(part, "another job's pictures wait", f"{sorted(waits)[len(waits) // 2]:.2f} s, at most {max(waits):.2f} s",
               "<= 2 s")
        report(part, "resident memory", f"{before:.0f} MB before, at most {daemon.peak_rss_mb():.0f} MB", "<= 512 MB")
        report(part, "descriptors", descriptors(daemon), f"<= {n_descriptors // 2}")
        cpu, _, written = rest_of(daemon, 10)
        report(part, "in the next 10 s", f"{cpu:.1f} % of a core, {written / 10e3:.1f} KB/s written",
               "<= 1 % once all is read")
        try:
            health = json.loads(daemon.get("/v1/health"))
            for reason in health.get("reasons", [])[:5] or ["healthy"]:
                report(part, "health says", reason[:300], "the cause")
        except OSError as error:
            report(part, "health says", repr(error), "the cause")
    shutil.rmtree(folder)


def runs(options):
    """Old runs: a log and a dump each. The daemon may have few descriptors."""
    folder = fresh_folder("hostile-runs")
    for n in range(options.runs):
        run = folder / f"runs/old-{n}"
        (run / "dumps").mkdir(parents=True)
        (run / "dumps/1.npy").write_bytes(gray(n, 8))
        (run / "a.media.jsonl").write_text('{"key":"k","step":1,"data":"dumps/1.npy"}\n{"finish":true}\n')
    with Daemon(folder, prepare=limited(1024)) as daemon:
        report("runs", f"READY with {options.runs} runs, limit of 1,024 descriptors", f"{daemon.ready_s:.1f} s", "<= 60 s")
        beside = Beside(daemon)
        waits = beside.waits()
        report("runs", "another job's pictures wait", f"at most {max(waits):.2f} s", "<= 2 s")
        took = daemon.wait_for_items(options.runs + len(BESIDE_S), wait_s=900)
        report("runs", "all items in the store", f"after {took:.0f} s more", "<= 60 s")
        time.sleep(5)
        report("runs", "descriptors", descriptors(daemon), "<= 768")
        cpu, rss, written = rest_of(daemon, 20)
        report("runs", "then idle for 20 s", f"{cpu:.2f} % of a core, {rss:.0f} MB, {written} bytes written",
               "<= 1 %, 4 KB a run, 0")
    shutil.rmtree(folder)


def line(_):
    """A line of 1 MB: many small objects in an unknown field. Its dump has 60 pictures of one pixel."""
    def write(run):
        (run / "dumps").mkdir()
        (run / "dumps/b.npy").write_bytes(npy("|u1", (60, 1, 1), bytes(60)))
        odd = ",".join(['{"":0}'] * 145_000)
        text = f'{{"key":"k","step":1,"format":"NHW","data":"dumps/b.npy","odd":[{odd}]}}\n'
        (run / "a.media.jsonl").write_text(text)
    measure("line", write)


def newlines(_):
    def write(run):
        for n in range(300):
            (run / f"{n}.media.jsonl").write_bytes(b"\n" * 65536)
    measure("newlines", write)


def unfinished(_):
    def write(run):
        for n in range(1500):
            (run / f"{n}.media.jsonl").write_bytes(b'{"key":"' + b"x" * (1 << 20))
    measure("unfinished", write)


def identities(_):
    def write(run):
        odd = ",".join(['{"":0}'] * 145_000)
        for n in range(12):
            inner = run.parent / f"identity-{n}"
            (inner / "dumps").mkdir(parents=True)
            (inner / "safelight.json").write_text(f'{{"id":"i{n}","odd":[{odd}]}}')
            (inner / "dumps/1.npy").write_bytes(gray(n, 8))
    measure("identities", write)


def sparse(_):
    def write(run):
        with open(run / "x.media.jsonl", "wb") as log:
            log.truncate(1 << 40)
    measure("sparse", write)


def blank(_):
    """Steady blank lines."""
    def go_on(run, stop):
        with open(run / "x.media.jsonl", "ab") as log:
            while not stop.is_set():
                log.write(b"\n" * (1 << 20))
                log.flush()
                time.sleep(0.02)
    measure("blank", lambda run: None, while_beside=go_on)


def members(_):
    """npz files of 4,000 members each."""
    def write(run):
        (run / "dumps/m").mkdir(parents=True)
        for n in range(4):
            with zipfile.ZipFile(run / f"dumps/m/{n}.tmp", "w") as archive:
                for member in range(4000):
                    archive.writestr(f"m{member}.npy", gray(n * 4000 + member, 8))
            os.rename(run / f"dumps/m/{n}.tmp", run / f"dumps/m/{n}.npz")
    measure("members", write)


def tail(_):
    """npy files with a sparse tail of 8 GB."""
    def write(run):
        (run / "dumps/t").mkdir(parents=True)
        for n in range(3):
            with open(run / f"dumps/t/{n}.tmp", "wb") as dump:
                dump.write(gray(n, 32))
                dump.truncate(8_000_000_000)
            os.rename(run / f"dumps/t/{n}.tmp", run / f"dumps/t/{n}.npy")
    measure("tail", write)


def links(_):
    """50 hard links of one log."""
    def write(run):
        (run / "dumps").mkdir()
        (run / "dumps/1.npy").write_bytes(gray(1, 8))
        (run / "0.media.jsonl").write_text('{"key":"k","step":1,"data":"dumps/1.npy"}\n')
        for n in range(1, 50):
            os.link(run / "0.media.jsonl", run / f"{n}.media.jsonl")
    measure("links", write)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5000, help="old runs of part `runs`")
    run_parts(parser, {part.__name__: part for part in
                       (runs, line, newlines, unfinished, identities, sparse, blank, members, tail, links)})


main()
