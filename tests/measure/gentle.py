"""Measures the cost of the daemon for the box: idle CPU, page cache, step time of a training, disk reads.

    ./test.sh gentle [idle|cache|step|share|rate|scrub ...] [--seconds N] [--gigabytes N]
"""

import argparse
import array
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from common import (PROGRAM, REPO, Daemon, be_gentle, be_idle, cached_below, cached_bytes, figure, files_below,
                    fresh_folder, gray, npy, rest_of, run_parts, say, write_uncached)


def idle(options):
    """Row 41: 100 runs of 10 folders each, with logs that may grow."""
    folder = fresh_folder("idle")
    for run in range(100):
        for key in range(8):
            place = folder / f"runs/run-{run}/dumps/k{key}"
            place.mkdir(parents=True)
            (place / "1.npy").write_bytes(gray(run * 8 + key, 16))
        log = "".join(f'{{"key":"line","step":{n},"data":"dumps/k{n}/1.npy"}}\n' for n in range(5))
        (folder / f"runs/run-{run}/a.media.jsonl").write_text(log)
    with Daemon(folder) as daemon:
        daemon.wait_for_items(100 * 13)
        time.sleep(10)
        cpu, rss, written = rest_of(daemon, options.seconds)
        figure(41, f"CPU, idle for {options.seconds} s, 100 runs, 1,000 folders", f"{cpu:.2f} %",
               "<= 0.2 % of a core")
        figure(41, "resident memory, idle", f"{rss:.1f} MB (peak {daemon.peak_rss_mb():.1f})",
               "<= 40 MB")
        figure(41, "written, idle", f"{written} bytes", "nothing")
    # Again after a restart, with all items in the store.
    with Daemon(folder) as daemon:
        time.sleep(10)
        cpu, rss, written = rest_of(daemon, options.seconds)
        figure(41, "the same after a restart", f"{cpu:.2f} %, {rss:.1f} MB, {written} bytes",
               "<= 0.2 %, <= 40 MB, nothing")
        if shutil.which("strace"):
            strace = subprocess.Popen(["strace", "-c", "-f", "-p", str(daemon.pid)],
                                      stderr=subprocess.PIPE, text=True)
            time.sleep(20)
            strace.send_signal(signal.SIGINT)
            say("system calls of 20 s idle:")
            for line in strace.communicate()[1].splitlines():
                if not line.startswith("strace:"):
                    say(f"    {line}")
    shutil.rmtree(folder)


def write_dumps(folder, n, side):
    """Writes n pictures of side x side x 3 f32, none of them in the page cache."""
    folder.mkdir(parents=True)
    for i in range(n):
        data = npy("<f4", (side, side, 3), b"")
        row = bytes([i & 255, i >> 8, 0, 0x3F]) * (side * 3)
        write_uncached(folder / f"{i}.npy", [data] + [row] * side)


def meminfo_cached_mb():
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Cached:"):
            return int(line.split()[1]) * 1024 / 1e6


def cache(options):
    """Row 42: dumps that Safelight reads do not stay in the page cache; those that were cached before do."""
    folder = fresh_folder("cache")
    side, size = 1024, 1024 * 1024 * 3 * 4
    n = int(options.gigabytes * 1e9) // size
    if shutil.disk_usage(folder).free < 2 * n * size:
        sys.exit(f"want {2 * n * size / 1e9:.0f} GB of free space")
    dumps = folder / "runs/run/dumps/k"
    write_dumps(dumps, n, side)
    warm = folder / "runs/run/dumps/warm"
    write_dumps(warm, 20, side)
    for path in files_below(warm):
        path.read_bytes()
    before, warm_before, meminfo = cached_below(dumps), cached_below(warm), meminfo_cached_mb()
    with Daemon(folder, "[work]\nread_bytes_per_s_max = 0\n") as daemon:
        start, most = time.monotonic(), 0
        while daemon.n_items() < n + 20:
            most = max(most, sum(cached_bytes(path) for path in files_below(dumps)))
            time.sleep(2)
        took = time.monotonic() - start
        after, warm_after = cached_below(dumps), cached_below(warm)
        store = cached_below(folder / "store")
        figure(42, f"page cache of {n * size / 1e9:.1f} GB of dumps, ingested in {took:.0f} s",
               f"{(after - before) / 1e6:.1f} MB more at the end, peak {(most - before) / 1e6:.1f}",
               "<= 64 MB")
        figure(42, "page cache of the store's files", f"{store / 1e6:.1f} MB", "<= 64 MB with the above")
        figure(42, "page cache of the whole machine",
               f"{meminfo_cached_mb() - meminfo:+.0f} MB", "-")
        figure(42, "dumps that were cached before",
               f"{warm_after / 1e6:.0f} MB of {warm_before / 1e6:.0f} MB still are", "all")
        figure(42, "peak memory", f"{daemon.peak_rss_mb():.0f} MB", "-")
    shutil.rmtree(folder)
    if after - before > 64e6:
        sys.exit("dumps stay in the page cache")


# A training on one core, with steps of about 20 ms. Prints the time of each step.
CPU_TRAINER = """
import time, numpy
a = numpy.random.rand(420, 420).astype('f4')
end = time.monotonic() + {seconds}
while time.monotonic() < end:
    t = time.perf_counter()
    for _ in range(8): b = a @ a
    print(time.perf_counter() - t)
"""

# A training that waits for its data. Each step reads 16 MB past the page cache.
DISK_TRAINER = """
import mmap, os, random, time
fd = os.open({path!r}, os.O_RDONLY | os.O_DIRECT)
size, block = os.fstat(fd).st_size, 1 << 20
buffer = mmap.mmap(-1, block)
end = time.monotonic() + {seconds}
while time.monotonic() < end:
    t = time.perf_counter()
    for _ in range(16): os.preadv(fd, [buffer], random.randrange(size // block) * block)
    print(time.perf_counter() - t)
"""

# The writer of dumps beside the training, at a steady rate.
FEEDER = """
import os, random, sys, time
n, end = 0, time.monotonic() + {seconds}
side = 512
noise = random.Random(1).randbytes(side * 3)
row = b''.join(bytes([0, 0, b, 0x3F]) for b in noise)
header = {header!r}
while time.monotonic() < end:
    t = time.monotonic()
    shift = 4 * (n % 512)
    with open(f'{folder}/{start}' + f'{{n:06}}.npy', 'wb') as file:
        file.write(header + (row[shift:] + row[:shift]) * side)
    n += 1
    time.sleep(max(0, 1 / {rate} - (time.monotonic() - t)))
"""


def step(options):
    """Row 42: the step time of a training beside the daemon, with and without dumps for the daemon. The
    job writes the same dumps in both cases, either into a watched folder or elsewhere."""
    folder = fresh_folder("step")
    (folder / "runs/run/dumps/k").mkdir(parents=True)
    (folder / "elsewhere").mkdir()
    data = folder / "data"
    write_uncached(data, [os.urandom(1 << 20) for _ in range(1024)])
    header = npy("<f4", (512, 512, 3), b"")
    for policy, prepare in (("nice 19, batch", be_gentle), ("idle", be_idle)):
        for what in ("CPU-bound, one core shared with the daemon", "CPU-bound, free to move", "disk-bound"):
            is_shared = "shared" in what
            times = {False: [], True: []}

            def on_core_0():
                prepare()
                if is_shared:
                    os.sched_setaffinity(0, {0})

            shutil.rmtree(folder / "store", ignore_errors=True)
            with Daemon(folder, prepare=on_core_0) as daemon:
                n_blocks, cpu = 0, []
                for block in range(2 * options.blocks):
                    is_fed = block % 2 == 1
                    seconds = options.block_seconds
                    place = folder / ("runs/run/dumps/k" if is_fed else "elsewhere")
                    n_blocks += 1
                    feeder = FEEDER.format(seconds=seconds + 1, header=header, folder=place,
                                           start=f"{n_blocks}", rate=options.rate)
                    trainer = (DISK_TRAINER.format(path=str(data), seconds=seconds)
                               if what == "disk-bound" else CPU_TRAINER.format(seconds=seconds))
                    environment = dict(os.environ, OPENBLAS_NUM_THREADS="1")
                    pin = (lambda: os.sched_setaffinity(0, {0})) if is_shared else None
                    away = (lambda: os.sched_setaffinity(0, {os.cpu_count() - 1})) if is_shared else None
                    feeding = subprocess.Popen([sys.executable, "-c", feeder], preexec_fn=away)
                    time.sleep(1)
                    before = daemon.cpu_s()
                    training = subprocess.run([sys.executable, "-c", trainer], env=environment,
                                              capture_output=True, text=True, check=True, preexec_fn=pin)
                    if is_fed:
                        cpu.append((daemon.cpu_s() - before) / seconds * 100)
                    feeding.wait()
                    times[is_fed].append([float(line) for line in training.stdout.split()])
                    # Wait until the daemon has made all images of this block.
                    while is_fed and any(daemon.metrics()[f"safelight_{name}"] > 0
                                         for name in ("items_in_flight", "dumps_settling")):
                        time.sleep(0.1)
                    for path in files_below(place):
                        path.unlink()
            medians = {fed: statistics.median(sum(blocks, [])) for fed, blocks in times.items()}
            pairs = [statistics.median(fed) / statistics.median(free) - 1
                     for free, fed in zip(times[False], times[True])]
            spread = ", ".join(f"{pair * 100:+.1f}" for pair in pairs)
            added = medians[True] / medians[False] - 1
            figure(42, f"step time, {what}; daemon {policy}, {options.rate} pictures of 512x512x3 f32 a second",
                   f"{added * 100:+.2f} % ({medians[False] * 1e3:.1f} ms to {medians[True] * 1e3:.1f} ms;"
                   f" pairs {spread}; the daemon used {statistics.mean(cpu):.0f} % of a core)",
                   "<= +1 %")
    shutil.rmtree(folder)


HASHING = """
import hashlib, time
block = bytes(1 << 20)
n, end = 0, time.monotonic() + {seconds}
while time.monotonic() < end:
    hashlib.sha256(block).digest()
    n += 1
print(n)
"""


def share(options):
    """The speed that a training keeps on one core that it shares with a saturated daemon. Each has its own
    session. The daemon is paused and resumed in turn."""
    folder = fresh_folder("share", in_memory=True)
    (folder / "more").mkdir()
    dump = folder / "more/dump.npy"
    values = array.array("f", (random.random() for _ in range(512 * 512 * 3)))
    dump.write_bytes(npy("<f4", (512, 512, 3), values.tobytes()))

    def on_core_0_in_a_session():
        os.setsid()
        os.sched_setaffinity(0, {0})

    for settings in ("", "[work]\nnice = 0\n"):
        for place in ("store", "runs/run/dumps/k"):
            shutil.rmtree(folder / place, ignore_errors=True)
        (folder / "runs/run/dumps/k").mkdir(parents=True)
        with Daemon(folder, settings, prepare=on_core_0_in_a_session) as daemon:
            keeps, cpu, n_dumps = [], [], 0
            for _ in range(options.blocks):
                for _ in range(2000):
                    os.link(dump, folder / f"runs/run/dumps/k/{n_dumps:06}.npy")
                    n_dumps += 1
                done = {}
                for is_at_work in (False, True):
                    daemon.go_on() if is_at_work else daemon.pause()
                    time.sleep(0.5)
                    before = daemon.cpu_s()
                    trainer = HASHING.format(seconds=options.block_seconds / 2)
                    trained = subprocess.run([sys.executable, "-c", trainer], capture_output=True, text=True,
                                             check=True, preexec_fn=on_core_0_in_a_session)
                    done[is_at_work] = int(trained.stdout)
                    if is_at_work:
                        cpu.append((daemon.cpu_s() - before) / options.block_seconds * 2 * 100)
                keeps.append(done[True] / done[False] * 100)
                if daemon.metrics()["safelight_dumps_settling"] == 0:
                    sys.exit("the daemon had too little to do")
            spread = ", ".join(f"{value:.1f}" for value in keeps)
            figure("5.9", f"speed that a training keeps on the daemon's core; {settings.strip() or 'default nice'}",
                   f"{statistics.median(keeps):.1f} % (blocks {spread}; the daemon used {statistics.mean(cpu):.0f} %)",
                   ">= 97 %" if not settings else "for comparison")
    shutil.rmtree(folder)


def rate(options):
    """Row 42: dumps outside the page cache are read no faster than the configured rate."""
    folder = fresh_folder("rate")
    side, size = 1024, 1024 * 1024 * 3 * 4
    n = int(2e9) // size
    write_dumps(folder / "runs/run/dumps/k", n, side)
    start = time.monotonic()
    with Daemon(folder, "[work]\nread_bytes_per_s_max = 50000000\n") as daemon:
        daemon.wait_for_items(n, pause_s=0.2)
        took = time.monotonic() - start
        figure(42, "2 GB of dumps at 50 MB/s", f"{took:.1f} s", ">= 35 s")
    shutil.rmtree(folder)
    if took < 35:
        sys.exit("faster than the limit")


def scrub(options):
    """The rate of ingest while a page of the gallery scrubs. Its requests come from a client that yields."""
    script = REPO / "tests/gallery/measures/scrubbing.mjs"
    if not shutil.which("node") or not (script.parent.parent / "node_modules").exists():
        say("skipped: the rate of ingest while a page scrubs needs Node.js and Chromium")
        return
    environment = dict(os.environ, SAFELIGHT_PROGRAM=PROGRAM)
    ran = subprocess.run(["node", script], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    got = json.loads(ran.stdout)
    figure("5.9", f"ingest while a page scrubs, {got['n_requests']} requests in 5 s",
           f"{got['percent']:.0f} % of its rate ({got['alone']:.0f} and {got['watched']:.0f} images/s)", ">= 97 %")


def main():
    parser = argparse.ArgumentParser(prog="./test.sh gentle")
    parts = {"idle": idle, "cache": cache, "step": step, "share": share, "rate": rate, "scrub": scrub}
    parser.add_argument("--seconds", type=float, default=60, help="length of the idle measurement")
    parser.add_argument("--gigabytes", type=float, default=10, help="of dumps through the page cache")
    parser.add_argument("--rate", type=float, default=20, help="pictures a second beside the training")
    parser.add_argument("--blocks", type=int, default=4, help="number of pairs of training blocks")
    parser.add_argument("--block-seconds", type=float, default=12, help="length of a block")
    run_parts(parser, parts)


if __name__ == "__main__":
    main()
