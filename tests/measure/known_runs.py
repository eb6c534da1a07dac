"""What a daemon that knows many old runs costs while one run writes a few dumps a second.

    python3 tests/measure/known_runs.py [--runs N] [--rate N] [--seconds N]

SAFELIGHT_PROGRAM names the program to measure: run it once for each of two builds to compare them.
"""

import argparse
import os
import shutil
import time

from common import PROGRAM, Daemon, fresh_folder, gray, rest_of, say


def make_runs(folder, n):
    """Runs that have ended: one dump, and a log of one line."""
    for run in range(n):
        place = folder / f"runs/old-{run}/dumps/k"
        place.mkdir(parents=True)
        (place / "1.npy").write_bytes(gray(run, 16))
        line = '{"key":"line","step":1,"data":"dumps/k/1.npy"}\n'
        (folder / f"runs/old-{run}/a.media.jsonl").write_text(line)


def feed(daemon, folder, rate, seconds):
    """Writes dumps into one run at a steady rate. Returns the CPU share of one core in percent, and how
    long the last dump took to become an item."""
    place = folder / "runs/new/dumps/k"
    place.mkdir(parents=True)
    n_before = daemon.n_items()
    cpu, start = daemon.cpu_s(), time.monotonic()
    n = int(rate * seconds)
    for i in range(n):
        time.sleep(max(0, start + i / rate - time.monotonic()))
        (place / f".{i}.npy").write_bytes(gray(i, 64))
        os.rename(place / f".{i}.npy", place / f"{i}.npy")
    took = time.monotonic() - start
    cpu = daemon.cpu_s() - cpu
    lag = daemon.wait_for_items(n_before + n, wait_s=60)
    return cpu / took * 100, lag


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5000, help="old runs that the daemon knows")
    parser.add_argument("--rate", type=float, default=10, help="dumps a second")
    parser.add_argument("--seconds", type=float, default=60, help="how long")
    options = parser.parse_args()
    folder = fresh_folder("known-runs")
    make_runs(folder, options.runs)
    say(f"{PROGRAM}: {options.runs} old runs, {options.rate:g} dumps a second")
    with Daemon(folder, "[work]\nnice = 0\n", prepare=None, wait_s=3600) as daemon:
        say(f"ready after {daemon.ready_s:.1f} s")
        daemon.wait_for_items(2 * options.runs, pause_s=1)
        time.sleep(5)
        cpu, rss, _ = rest_of(daemon, options.seconds)
        say(f"idle: {cpu:.2f} % of a core, {rss:.0f} MB")
        cpu, lag = feed(daemon, folder, options.rate, options.seconds)
        say(f"beside {options.rate:g} dumps a second: {cpu:.2f} % of a core, "
            f"{cpu * 10 / options.rate:.2f} ms each; the last one {lag * 1000:.0f} ms late")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
