"""Three committers that race and are killed at the worst points, a compactor beside them, and boxes that deliver.

    python kills.py KILLS [s3]       prints the counts

At the end, the rows are the lines, and the inbox is empty.
"""

from __future__ import annotations

import collections
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

import obstore
from fleet_case import HERE, Fleet, differences
from servers import KEYS, seaweedfs

from crashing import POINTS  # isort: skip  (fleet_case has set the path of the module)

SCRIPT = os.path.join(HERE, "crashing.py")
N_COMMITTERS = 3
# A committer that meets no work never comes to its point. On a busy machine it may need longer to come there: each one
# that does not makes the others' time longer, so that the race ends.
PATIENCE_S = 20.0
PATIENCE_GROWTH = 1.5


class Race:
    """The processes, and what happened to them."""

    def __init__(self, fleet: Fleet, seed: int = 0) -> None:
        self.fleet = fleet
        self.luck = random.Random(seed)
        self.kills: collections.Counter[str] = collections.Counter()
        self.counts: collections.Counter[str] = collections.Counter()
        self.committers: list[tuple[str, float, subprocess.Popen[str]] | None] = [None] * N_COMMITTERS
        self.compactor: subprocess.Popen[str] | None = None
        # A compactor that is killed at a random moment.
        self.compactor_end = 0.0
        self.turn = 0
        self.patience_s = PATIENCE_S
        self.late: list[str] = []

    def run(self, n_kills: int, n_boxes: int = 8, n_lines: int = 10) -> None:
        """Goes on until so many committers were killed, and folds what is left."""
        self.fleet.init()
        self.fleet.deliver("first", "r", n_lines)
        self.fleet.fold()
        while sum(self.kills[point] for point in POINTS) < n_kills:
            self._deliver(n_boxes, n_lines)
            self._look_at_committers()
            self._look_at_compactor()
            time.sleep(0.01)
        for one in self.committers:
            if one is not None:
                one[2].terminate()
                self._count(one[2])
        if self.compactor is not None:
            self.compactor.wait()
        for manifest in self.late:
            # The box begins again, and makes up for it.
            self._announce(manifest)
        said = self.fleet.fold()
        assert self.fleet.fold()["commits"] == 0
        self.counts["versions of the table"] = said["version"]
        self._add(said)

    def _deliver(self, n_boxes: int, n_lines: int) -> None:
        """A box delivers a manifest. All have the same run id. Some markers come late, or twice."""
        box = f"gpu-{self.luck.randrange(n_boxes)}"
        is_announced = self.luck.random() > 0.1
        name = self.fleet.deliver(box, "r", n_lines, announce=is_announced)
        self.counts["manifests"] += 1
        if not is_announced:
            # A box that died before it made the marker.
            self.late.append(name)
        elif self.luck.random() < 0.2:
            self._announce(name)
            self.counts["markers made twice"] += 1

    def _announce(self, manifest: str) -> None:
        obstore.put(self.fleet.store, manifest.replace("runs/", "inbox/").replace(".jsonl", ""), b"")

    def _look_at_committers(self) -> None:
        for i, one in enumerate(self.committers):
            if one is not None:
                point, start, child = one
                is_at_work = child.poll() is None
                if is_at_work and time.monotonic() - start < self.patience_s:
                    continue
                child.kill()
                code = child.wait()
                self._count(child)
                if is_at_work:
                    self.patience_s *= PATIENCE_GROWTH
                is_at_point = code == -signal.SIGKILL and not is_at_work
                self.kills[point if is_at_point else "elsewhere"] += 1
            # Each point has its turn.
            point = POINTS[self.turn % len(POINTS)]
            self.turn += 1
            arguments = (point, "fold", self.fleet.url, self.fleet.table_url, "--json", "--every", "0.05")
            child = self.fleet.start(*arguments, script=SCRIPT)
            self.committers[i] = point, time.monotonic(), child

    def _look_at_compactor(self) -> None:
        if self.compactor is not None:
            if self.compactor.poll() is None:
                if time.monotonic() > self.compactor_end:
                    self.compactor.kill()
                return
            _, err = self.compactor.communicate()
            code = self.compactor.returncode
            self.counts["compactions" if code == 0 else "compactions killed"] += 1
            assert code in (0, -signal.SIGKILL), err
        self.compactor = self.fleet.start("closed", "tidy", self.fleet.table_url, script=SCRIPT)
        self.compactor_end = time.monotonic() + self.luck.choice((self.luck.uniform(0.5, 2.0), 60.0))

    def _count(self, child: subprocess.Popen[str]) -> None:
        out, err = child.communicate()
        assert err == "", err
        for line in out.splitlines():
            self._add(json.loads(line))

    def _add(self, said: dict[str, Any]) -> None:
        self.counts["commits refused and done again"] += said["conflicts"]

    def check(self) -> str:
        """Returns what is wrong in words, or nothing."""
        wrong = [
            f"{reader}: {found}"
            for reader, rows in self.fleet.rows_by_reader().items()
            if (found := differences(rows, self.fleet.lines))
        ]
        wrong += [f"left in the inbox: {name}" for name in self.fleet.names("inbox")]
        return "; ".join(wrong)

    def __str__(self) -> str:
        kills = ", ".join(f"{n} at {point}" for point, n in sorted(self.kills.items()))
        counts = ", ".join(f"{n} {name}" for name, n in sorted(self.counts.items()))
        return f"{len(self.fleet.lines)} lines; kills: {kills}; {counts}"


def race(fleet: Fleet, n_kills: int) -> str:
    """Returns what is wrong, or nothing. Prints the counts."""
    one = Race(fleet)
    one.run(n_kills)
    wrong = one.check()
    print(
        one,
        "FAILED: " + wrong if wrong else "each line once, in DuckDB, Polars and delta-rs; the inbox is empty",
        sep="\n",
    )
    return wrong


def main() -> int:
    n_kills = int(sys.argv[1])
    if sys.argv[2:] == ["s3"]:
        with seaweedfs(os.environ["SAFELIGHT_WEED"]) as endpoint:
            environment = {**KEYS, "AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1"}
            os.environ.update(environment)
            return 1 if race(Fleet("s3://media/kills", environment), n_kills) else 0
    folder = tempfile.mkdtemp()
    try:
        return 1 if race(Fleet(f"file://{folder}"), n_kills) else 0
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
