"""Measures the load that the daemon can handle: latency, dumps a second, lines without a picture, a tree of a million
files, many old runs.

    ./test.sh load [latency|throughput|lines|tree|runs ...] [--files N] [--samples N] [--runs N]
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time

from common import (PROGRAM, Daemon, be_gentle, figure, fresh_folder, gray, npy, percentile, rest_of, run_parts,
                    say)
from known_runs import make_runs


def latency(options):
    """Rows 2 and 3: the time from the close of a dump of 64 KiB until the index shows it, one dump at a time."""
    for row, backend, goal in ((2, "inotify", "p50 <= 150 ms, p99 <= 1 s"), (3, "poll", "<= 10 s")):
        folder = fresh_folder("latency")
        place = folder / "runs/run/dumps/k"
        place.mkdir(parents=True)
        watch = f'backend = "{backend}"'
        n_samples = options.samples if backend == "inotify" else max(options.samples // 5, 10)
        with Daemon(folder, watch=watch, prepare=be_gentle) as daemon:
            times = []
            for n in range(n_samples):
                # Vary the pause, so that dumps come at any time between two polls.
                time.sleep((0.3 if backend == "inotify" else 0.5) * (1 + n % 7 / 7))
                bytes_ = gray(n)
                with open(place / f"{n}.npy", "wb") as file:
                    file.write(bytes_)
                closed = time.monotonic()
                daemon.wait_for_items(n + 1, wait_s=60, pause_s=0.004)
                times.append(time.monotonic() - closed)
            p50, p99 = percentile(times, 0.5), percentile(times, 0.99)
            figure(row, f"close to committed, {backend}, {n_samples} dumps of 64 KiB",
                   f"p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms, max {max(times) * 1e3:.0f} ms", goal)
        shutil.rmtree(folder)


def once(folder, threads, settings=""):
    """Runs `ingest` into a new store. Returns its seconds and its output."""
    shutil.rmtree(folder / "store", ignore_errors=True)
    config = folder / "safelight.toml"
    config.write_text(f'[store]\npath = "store"\n[work]\nthreads = {threads}\n{settings}')
    start = time.monotonic()
    result = subprocess.run([PROGRAM, "ingest", str(folder / "runs/run"), "--config", str(config)],
                            capture_output=True, text=True)
    took = time.monotonic() - start
    if result.returncode != 0:
        sys.exit(f"ingest: {result.returncode} {result.stdout} {result.stderr}")
    return took, result.stdout


def throughput(options):
    """Row 27: items a second, by `ingest` and by the daemon."""
    folder = fresh_folder("throughput")
    place = folder / "runs/run/dumps/k"
    place.mkdir(parents=True)
    n = 4000
    for i in range(n):
        (place / f"{i}.npy").write_bytes(gray(i))
    for threads in (1, 2):
        took, said = once(folder, threads)
        assert f"{n} images" in said.replace(",", ""), said
        figure(27, f"`ingest` of {n} dumps of 64 KiB, {threads} threads", f"{n / took:.0f} a second",
               ">= 200 a second")
        shutil.rmtree(folder / "store")
        for how, prepare in (("default priority", None), ("priority of the unit", be_gentle)):
            with Daemon(folder, f"[work]\nthreads = {threads}\n", prepare) as daemon:
                start, cpu = time.monotonic(), daemon.cpu_s()
                daemon.wait_for_items(n)
                took, metrics = time.monotonic() - start, daemon.metrics()
                commits = metrics["safelight_commits_total"]
                commit_ms = metrics["safelight_commit_seconds_total"] / commits * 1e3
                figure(27, f"the daemon, {how}, the same; {threads} threads",
                       f"{n / took:.0f} a second; {commits:.0f} commits, {commit_ms:.0f} ms each;"
                       f" {(daemon.cpu_s() - cpu) / n * 1e3:.2f} ms of CPU a dump", ">= 200 a second")
            shutil.rmtree(folder / "store")
    shutil.rmtree(folder / "runs")

    # Lines that name one dump. In the first case all have one step, so that all but 108 are held. In the second
    # case there are many steps, and each line gets a picture.
    run = folder / "runs/run"
    run.mkdir(parents=True)
    (run / "tiny.npy").write_bytes(gray(1, 4))
    for n_lines, per_step, what, goal in (
            (400_000, 10**9, "lines that are held back", ">= 50,000 a second"),
            (20_000, 100, "lines with a picture of 4x4 each", "-")):
        with open(run / "a.media.jsonl", "w") as log:
            log.writelines(f'{{"key":"k","step":{i // per_step},"data":"tiny.npy","caption":"line {i}"}}\n'
                           for i in range(n_lines))
        took, said = once(folder, 1)
        figure(27, f"`ingest` of {n_lines} {what}", f"{n_lines / took:.0f} a second", goal)
        shutil.rmtree(folder / "store")
        with Daemon(folder, prepare=None) as daemon:
            start, cpu = time.monotonic(), daemon.cpu_s()
            daemon.wait_for_items(n_lines)
            took, metrics = time.monotonic() - start, daemon.metrics()
            commits, commit_s = metrics["safelight_commits_total"], metrics["safelight_commit_seconds_total"]
            figure(27, f"the daemon, {n_lines} {what}",
                   f"{n_lines / took:.0f} a second; {commits:.0f} commits, {commit_s / commits * 1e3:.1f} ms"
                   f" each; {(daemon.cpu_s() - cpu) / n_lines * 1e6:.0f} us of CPU a line;"
                   f" {daemon.peak_rss_mb():.0f} MB", goal)
        shutil.rmtree(folder / "store")
    shutil.rmtree(folder)


# Lines that make no picture. For each: a description, and the line of a number. All have one step, so that all but the
# first few of those with a dump are held.
NO_PICTURE = {
    "held, of one dump": '{{"key":"k","step":1,"data":"tiny.npy","caption":"line {n}"}}',
    "held, each of its own dump": '{{"key":"k","step":1,"data":"dumps-of-lines/{n}.npy","caption":"line {n}"}}',
    "rejected, not JSON": '{{"key":"k","step":1,"data":"tiny.npy","caption":"line {n}"',
    "rejected, no dump": '{{"key":"k","step":{n},"data":"missing/{n}.npy","caption":"line {n}"}}',
    "rejected, a dump of texts": '{{"key":"k","step":{n},"data":"texts.npy","caption":"line {n}"}}',
}


def cpu_of_ingest(folder, run):
    """Runs `ingest` into a new store. Returns its seconds of CPU."""
    shutil.rmtree(folder / "store", ignore_errors=True)
    config = folder / "safelight.toml"
    config.write_text('[store]\npath = "store"\nfree_bytes_min = 0\n')
    with open(folder / "ingest.log", "wb") as log:
        process = subprocess.Popen([PROGRAM, "ingest", str(run), "--config", str(config)], stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    # 3 says that something was rejected.
    if process.returncode not in (0, 3):
        sys.exit(f"ingest: {process.returncode} {(folder / 'ingest.log').read_text()}")
    return usage.ru_utime + usage.ru_stime


def lines(options):
    """Row 27: the CPU time of a line that makes no picture: of a run with many of them, less that of one with few."""
    folder = fresh_folder("lines", in_memory=True)
    numbers = 2_000, 102_000
    for what, line in NO_PICTURE.items():
        runs = [folder / f"run-{n_lines}" for n_lines in numbers]
        for run, n_lines in zip(runs, numbers):
            (run / "dumps-of-lines").mkdir(parents=True)
            (run / "tiny.npy").write_bytes(gray(1, 4))
            (run / "texts.npy").write_bytes(npy("<U4", (4, 4), bytes(256)))
            (run / "a.media.jsonl").write_text("".join(line.format(n=n) + "\n" for n in range(n_lines)))
            for n in range(n_lines if "dumps-of-lines" in line else 0):
                os.link(run / "tiny.npy", run / f"dumps-of-lines/{n}.npy")
        n_more = numbers[1] - numbers[0]
        costs = []
        for _ in range(options.rounds):
            few, many = (cpu_of_ingest(folder, run) for run in runs)
            costs.append((many - few) / n_more)
        cost = statistics.median(costs)
        figure(27, f"CPU of a line that is {what}",
               f"{cost * 1e6:.1f} us ({min(costs) * 1e6:.1f} to {max(costs) * 1e6:.1f}), {1 / cost:,.0f} a second",
               ">= 50,000 a second of CPU")
        for run in runs:
            shutil.rmtree(run)
    shutil.rmtree(folder)


def runs(options):
    """Many runs that have ended, each with a dump and a log of one line. Folders beyond what
    fs.inotify.max_user_watches allows are polled: see systemd/60-safelight-inotify.conf."""
    folder = fresh_folder("runs", in_memory=True)
    make_runs(folder, options.runs)
    for what in ("new", "known"):
        with Daemon(folder, "[work]\nnice = 0\n", prepare=None, wait_s=3600) as daemon:
            figure("-", f"READY with {options.runs} {what} run directories",
                   f"{daemon.ready_s:.1f} s, {daemon.cpu_s():.1f} s of CPU, {daemon.rss_mb():.0f} MB",
                   "<= 10 s" if what == "known" else "-")
            daemon.wait_for_items(2 * options.runs, pause_s=1)
            if what == "known":
                time.sleep(60)
                cpu, rss, _ = rest_of(daemon, 120)
                figure("-", "then idle for 2 minutes", f"{cpu:.2f} % of a core, {rss:.0f} MB", "<= 0.2 % of a core")
    shutil.rmtree(folder)


def tree(options):
    """Row 14: many tiny dumps in one run. To make the tree and the store quickly, a thousand dumps each are
    hard links to one file, and all but one of a thousand are held."""
    folder = fresh_folder("tree")
    n = options.files
    per_folder = 1000
    start = time.monotonic()
    for i in range((n + per_folder - 1) // per_folder):
        place = folder / f"runs/run/dumps/part{i % 10}/k{i}"
        place.mkdir(parents=True)
        first = place / "1_0.npy"
        first.write_bytes(gray(i, 8))
        for j in range(1, min(per_folder, n - i * per_folder)):
            os.link(first, place / f"1_{j}.npy")
    say(f"{n} files in {time.monotonic() - start:.0f} s")
    limits = "[limits]\nmax_items = 1\n"
    with Daemon(folder, limits, wait_s=3600) as daemon:
        figure(14, f"READY with {n} new dumps", f"{daemon.ready_s:.1f} s", "<= 60 s")
        start = time.monotonic()
        daemon.wait_for_items(n, wait_s=6 * 3600, pause_s=0.5)
        took = daemon.ready_s + time.monotonic() - start
        figure(14, "all of them in the store", f"{took:.0f} s; {daemon.rss_mb():.0f} MB,"
               f" peak {daemon.peak_rss_mb():.0f} MB", "<= 250 MB")
    for pass_ in ("warm", "cold") if os.geteuid() == 0 else ("warm",):
        if pass_ == "cold":
            with open("/proc/sys/vm/drop_caches", "w") as drop:
                drop.write("2")
        with Daemon(folder, limits, wait_s=3600) as daemon:
            figure(14, f"READY with {n} dumps that are all in the store ({pass_})",
                   f"{daemon.ready_s:.1f} s, {daemon.cpu_s():.1f} s of CPU", "<= 60 s")
            if pass_ == "warm":
                daemon.wait_for_items(n)
                time.sleep(35)
                # Long enough to include scans of every kind.
                for i in range(options.periods):
                    cpu, rss, written = rest_of(daemon, 120)
                    figure(14, f"then idle for 2 minutes ({i + 1})",
                           f"{cpu:.2f} % of a core, {rss:.0f} MB (peak {daemon.peak_rss_mb():.0f}),"
                           f" {written} bytes written", "<= 1 % of a core, <= 250 MB")
    shutil.rmtree(folder)


def main():
    parser = argparse.ArgumentParser(prog="./test.sh load")
    parts = {"latency": latency, "throughput": throughput, "lines": lines, "tree": tree, "runs": runs}
    parser.add_argument("--files", type=int, default=1_000_000, help="number of files in the tree")
    parser.add_argument("--periods", type=int, default=6, help="number of idle periods of two minutes")
    parser.add_argument("--runs", type=int, default=100_000, help="number of old run directories")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds of part `lines`")
    parser.add_argument("--samples", type=int, default=200, help="number of dumps to measure latency with")
    run_parts(parser, parts)


if __name__ == "__main__":
    main()
