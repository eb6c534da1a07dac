"""`safelight-catalog`, which is killed at a chosen point, at about every third time that it is there.

    python crashing.py POINT fold FLEET_URL TABLE_URL --every 0.1

| point | where |
| --- | --- |
| `read` | all manifests of a batch are read, nothing is committed |
| `commit` | at a random moment during the commit, after up to 60 ms |
| `committed` | the commit is done, its markers are all there |
| `deleting` | half of the markers of a commit are deleted |
| `none` | nowhere |
| `closed` | nowhere; `tidy` takes today for a day that is over |
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from datetime import timedelta
from typing import Any, Sequence

from safelight.catalog import _cli, _fold, _table

SHARE = 0.3
POINTS = ("read", "commit", "committed", "deleting")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_after(seconds: float) -> None:
    time.sleep(seconds)
    die()


def arrange(point: str) -> None:
    append, delete_markers = _table.Table.append, _fold.delete_markers

    def append_or_die(self: Any, *arguments: Any) -> None:
        now = point if random.random() < SHARE else "none"
        if now == "read":
            die()
        if now == "commit":
            threading.Thread(target=die_after, args=(random.uniform(0, 0.06),)).start()
        append(self, *arguments)
        if now == "committed":
            die()

    def delete_half(store: Any, markers: Sequence[str]) -> None:
        if point == "deleting" and random.random() < SHARE:
            delete_markers(store, markers[: len(markers) // 2])
            die()
        delete_markers(store, markers)

    _table.Table.append = append_or_die  # type: ignore[method-assign]
    _fold.delete_markers = delete_half
    if point == "closed":
        _table.CLOSED_AFTER = timedelta(days=-2)


if __name__ == "__main__":
    arrange(sys.argv[1])
    _cli.run(sys.argv[2:])
