"""What a target costs that is away while a store grows to a million items: the start, memory, the status.

    ./test.sh backlog [--items 1000000]

The store is made as by `./test.sh growth`. The goals: a start in 5 s at most, and memory that doesn't grow with what
is pending.
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
    said = run("status", "--json", "--store", str(folder / "store"))[2]
    return json.loads(said)


def measure(n):
    folder = fresh_folder("backlog")
    grow(folder, n)
    run("reindex", "--store", str(folder / "store"))
    for how in ("closed", "killed"):
        start = time.monotonic()
        with Daemon(folder, SETTINGS) as daemon:
            ready = time.monotonic() - start
            told = status(folder)
            while any(target["pending"] != n for target in told["targets"]):
                time.sleep(0.05)
                told = status(folder)
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
