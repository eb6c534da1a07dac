"""Measures start, memory and status of a daemon with a million items pending for targets that are unreachable.

    ./test.sh backlog [--items 1000000]

The store is made as in `./test.sh growth`. The goals: a start takes at most 5 s, and memory does not grow with the
number of pending items.
"""

import argparse
import json
import time

from common import Daemon, fresh_folder, say
from growth import grow, kill, run

SETTINGS = """
[sync.away]
kind = "mlflow"
url = "http://127.0.0.1:9"
[sync.further]
kind = "object_store"
url = "s3://media/runs"
endpoint = "http://127.0.0.1:9"
region = "us-east-1"
"""


def status(folder):
    output = run("status", "--json", "--store", str(folder / "store"))[2]
    return json.loads(output)


def measure(n):
    folder = fresh_folder("backlog")
    grow(folder, n)
    run("reindex", "--store", str(folder / "store"))
    for how in ("closed", "killed"):
        start = time.monotonic()
        with Daemon(folder, SETTINGS) as daemon:
            ready = time.monotonic() - start
            while any(target["pending"] != n for target in status(folder)["targets"]):
                time.sleep(0.05)
            counted = time.monotonic() - start
            time.sleep(3)
            took, *_ = run("status", "--json", "--store", str(folder / "store"))
            say(f"{n:>9,} pending for two targets, index {how}: ready after {ready:.2f} s (goal: 5), "
                f"all counted after {counted:.2f} s, status in {took * 1e3:.0f} ms, "
                f"resident {daemon.rss_mb():.1f} MB, at most {daemon.peak_rss_mb():.1f} MB")
            kill(daemon)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    options = parser.parse_args()
    for n in (1000, options.items):
        measure(n)


if __name__ == "__main__":
    main()
