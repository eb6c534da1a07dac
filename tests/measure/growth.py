"""Measures whether the cost of an item and of a command grows with the size of the store.

    ./test.sh growth [--sizes 1000,10000,100000,1000000] [--plot docs/growth.svg]

This script writes the journal of each store: the program writes one line, and the script repeats it with
other values. The program then builds the index. All figures are measured through the program's commands.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time

from common import PROGRAM, Daemon, fresh_folder, gray, say
from made_stores import JournalWriter

# Number of keys; of dumps and of lines that are added; rows and columns of a dump; how often a command is run.
KEYS, NEW_DUMPS, NEW_LINES, SIDE, SAMPLES = 10, 1000, 20_000, 28, 7
# The fields that differ between the items.
FIELDS = (("key",), ("step",), ("path",), ("sha256",), ("source", "sha256"), ("source", "path"),
          ("cursor", "dump", "path"), ("cursor", "dump", "stamp", "ino"))

# The plots: title, unit, and figures.
PLOTS = (
    ("an item", "µs of CPU", ("ingest of a dump, us of CPU", "ingest of a dump, us of CPU outside of the kernel",
                              "ingest of a line held back, us of CPU",
                              "reindex of an item, us of CPU")),
    ("a command", "ms", ("ls of a step, ms", "show, ms", "status, ms", "ls of a step, no daemon, ms",
                         "status, no daemon, ms")),
    ("a start", "s", ("start, clean, s", "start, killed, s", "start, killed right after that, s",
                      "start, index lost, s")),
)


def run(*args, status=0):
    """Runs a command. Returns wall seconds, CPU seconds, its output, and CPU seconds outside of the kernel."""
    start = time.monotonic()
    with subprocess.Popen([PROGRAM, *args], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        said = process.stdout.read().decode()
        _, ended, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(ended)
    took = time.monotonic() - start
    if process.returncode != status:
        sys.exit(f"{' '.join(args)}: {process.returncode}\n{said}")
    return took, used.ru_utime + used.ru_stime, said, used.ru_utime


def median(*args):
    """Median wall seconds and median CPU seconds of SAMPLES runs of a command."""
    runs = [run(*args) for _ in range(SAMPLES)]
    return statistics.median(r[0] for r in runs), statistics.median(r[1] for r in runs)


def dump(folder, number):
    """Writes the `number`th dump of the run. The keys take turns."""
    place = folder / f"runs/run/dumps/val/digits{number % KEYS}"
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{number // KEYS:08}.npy").write_bytes(gray(number, SIDE))


def grow(folder, n):
    """Makes a store of n items, whose dumps no longer exist."""
    dump(folder, 0)
    run("ingest", str(folder / "runs/run"), "--store", str(folder / "store"))
    shutil.rmtree(folder / "runs/run/dumps")
    shutil.rmtree(folder / "store/index")
    writer = JournalWriter(folder / "store/runs/run/journal", FIELDS)
    for number in range(n):
        key, step = f"val/digits{number % KEYS}", number // KEYS
        digest = f"{number:08x}" * 8
        path = json.dumps(f"dumps/{key}/{step:08}.npy")
        media = json.dumps(f"media/images/{key}_{step}_{digest[:20]}.png")
        digest = json.dumps(digest)
        writer.write(json.dumps(key), step, media, digest, digest, path, path, 10**6 + number)
    writer.close()


def kill(daemon):
    daemon.process.send_signal(signal.SIGKILL)
    daemon.process.wait()


def measure(n):
    folder = fresh_folder("growth")
    store, source = str(folder / "store"), str(folder / "runs/run")
    grow(folder, n)
    got = {"items": n}
    took, cpu, *_ = run("reindex", "--store", store, "--json")
    got["reindex of an item, us of CPU"] = cpu / n * 1e6
    got["reindex, s"] = took
    step = str(n // KEYS // 2)
    commands = {
        "ls of a step": ("ls", "run", "val/digits3", "--step", step, "--json"),
        "show": ("show", "run", "val/digits3", step),
        "status": ("status", "--json"),
    }
    said = run(*commands["ls of a step"], "--store", store)[2]
    assert said.count("\n") == 1, said
    for name, command in commands.items():
        took, cpu = median(*command, "--store", store)
        got[f"{name}, no daemon, ms"], got[f"{name}, no daemon, ms of CPU"] = took * 1e3, cpu * 1e3
    # The cost of new dumps is that of an ingest with them, less that of an ingest without.
    nothing = run("ingest", source, "--store", store)
    for number in range(n, n + NEW_DUMPS):
        dump(folder, number)
    adding = run("ingest", source, "--store", store)
    assert f"{NEW_DUMPS} images" in adding[2].replace(",", ""), adding[2]
    got["ingest of a dump, us of CPU"] = (adding[1] - nothing[1]) / NEW_DUMPS * 1e6
    # The kernel's part is the cost of files, which is noisy.
    got["ingest of a dump, us of CPU outside of the kernel"] = (adding[3] - nothing[3]) / NEW_DUMPS * 1e6
    got["ingest of nothing, ms of CPU"] = nothing[1] * 1e3
    with Daemon(folder, prepare=None) as daemon:
        got["start, clean, s"] = daemon.ready_s
        got["start, clean, s of CPU"] = daemon.cpu_s()
        got["resident, MB"] = daemon.rss_mb()
        for name, command in commands.items():
            before = daemon.cpu_s()
            took, cpu = median(*command, "--config", str(folder / "safelight.toml"))
            served = (daemon.cpu_s() - before) / SAMPLES
            got[f"{name}, ms"], got[f"{name}, ms of CPU"] = took * 1e3, (cpu + served) * 1e3
        daemon.wait_for_items(n + NEW_DUMPS)
        dump(folder, n + NEW_DUMPS)
        daemon.wait_for_items(n + NEW_DUMPS + 1)
        kill(daemon)
    with Daemon(folder, prepare=None) as daemon:
        got["start, killed, s"] = daemon.ready_s
        daemon.wait_for_items(n + NEW_DUMPS + 1)
    shutil.rmtree(folder / "store/index")
    with Daemon(folder, prepare=None) as daemon:
        got["start, index lost, s"] = daemon.ready_s
        kill(daemon)
    with Daemon(folder, prepare=None) as daemon:
        got["start, killed right after that, s"] = daemon.ready_s
        daemon.wait_for_items(n + NEW_DUMPS + 1)
    files = [path.stat().st_size for path in (folder / "store/index").rglob("*") if path.is_file()]
    got["index, bytes an item"] = sum(files) / (n + NEW_DUMPS + 1)
    # A held line makes no picture, so nearly all of its cost is journal and index.
    nothing = run("ingest", source, "--store", store)
    (folder / "runs/run/tiny.npy").write_bytes(gray(1, 4))
    with open(folder / "runs/run/a.media.jsonl", "w") as log:
        log.writelines(f'{{"key":"held","step":7,"data":"tiny.npy","caption":"{i}"}}\n' for i in range(NEW_LINES))
    adding = run("ingest", source, "--store", store)
    assert f"{NEW_LINES - 108} held back" in adding[2].replace(",", ""), adding[2]
    got["ingest of a line held back, us of CPU"] = (adding[1] - nothing[1]) / NEW_LINES * 1e6
    shutil.rmtree(folder)
    return got


def table(columns):
    width = max(map(len, columns[0]))
    for name in columns[0]:
        figures = (f"{column[name]:>12,.{0 if name == 'items' else 3}f}" for column in columns)
        say("  ".join([f"{name:{width}}", *figures]))


def draw(columns, path):
    import matplotlib

    matplotlib.use("svg")
    # The same figures give the same file.
    matplotlib.rcParams.update({"svg.hashsalt": "safelight", "svg.fonttype": "none"})
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(PLOTS), figsize=(12, 4), layout="constrained")
    for panel, (title, unit, names) in zip(panels, PLOTS):
        for name in names:
            panel.plot([c["items"] for c in columns], [c[name] for c in columns], marker="o",
                       label=name.replace(f", {unit}".replace("µ", "u"), ""))
        panel.set(title=f"What {title} costs", xlabel="items in the store", ylabel=unit, xscale="log", yscale="log")
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(prog="./test.sh growth")
    parser.add_argument("--sizes", default="1000,10000,100000,1000000", help="numbers of items")
    parser.add_argument("--plot", help="path of the SVG to write")
    parser.add_argument("--of", help="do not measure; draw the figures of this file of JSON lines")
    options = parser.parse_args()
    if options.of:
        with open(options.of) as file:
            columns = [json.loads(line) for line in file if line.startswith("{")]
    else:
        columns = []
        for size in options.sizes.split(","):
            columns.append(measure(int(size)))
            say(json.dumps(columns[-1]))
    table(columns)
    if options.plot:
        draw(columns, options.plot)


if __name__ == "__main__":
    main()
