"""Manifests as Safelight's target `object_store` writes them, without Safelight: any number, in no time.

python manifests.py FOLDER BOXES RUNS MANIFESTS LINES       fills a directory
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from typing import Any
from urllib.parse import quote

KEYS = ("val/pred", "val/input", "train/loss map", "depth")


def folder_of(name: str) -> str:
    """The folder of a box or run with a short name. As `RunId::folder`."""
    escaped = quote(name, safe="")
    return escaped.replace("~", "%7E").replace(".", "%2E", 1) if escaped.startswith(".") else escaped


def item(box: str, run: str, seq: int, **changes: Any) -> dict[str, Any]:
    """A line: an image by default. Lines with the same box, run and seq are equal."""
    luck = random.Random(f"{box}/{run}/{seq}")
    digest = f"{luck.getrandbits(256):064x}"
    key = KEYS[seq % len(KEYS)]
    stats = {"min": luck.uniform(-1, 0), "max": luck.uniform(0, 1), "mean": luck.uniform(-1, 1)}
    stats.update(std=0.25, nan=3 if seq % 50 == 7 else 0, inf=0, clipped=0.0, constant=False)
    line: dict[str, Any] = {
        "run": run,
        "key": key,
        "step": seq // len(KEYS),
        "index": 0,
        "state": "image",
        "reason": None,
        "class": None,
        "path": f"runs/{folder_of(run)}/media/images/{key}_{seq}_00_{digest[:20]}.png",
        "file_type": "png",
        "mode": "RGB",
        "width": 64,
        "height": 48,
        "size": luck.randrange(500, 20000),
        "sha256": digest,
        "caption": f"step {seq // len(KEYS)}",
        "grouping": None,
        "profile": "auto",
        "rule": "x255",
        "format": "HWC",
        "stats": stats,
        "source": {
            "path": f"tensors/{seq}.npy",
            "xxh3": f"{luck.getrandbits(128):032x}",
            "log": "rank0-node-0.media.jsonl",
            "line": seq,
        },
        "v": 1,
        "box": box,
        "project": "digits",
        "object": f"media/{digest[:2]}/{digest}.png",
        "seq": seq,
        "time": 1.79e9 + seq / 8,
    }
    line.update(changes)
    return line


def without_image(line: dict[str, Any], state: str, **changes: Any) -> dict[str, Any]:
    """The line of an item that is no image, with fewer fields."""
    none = (
        "path",
        "file_type",
        "mode",
        "width",
        "height",
        "size",
        "sha256",
        "profile",
        "rule",
        "stats",
        "object",
    )
    kept = {name: None if name in none else value for name, value in line.items() if name != "object"}
    return {**kept, "state": state, **changes}


def gone(line: dict[str, Any]) -> dict[str, Any]:
    """The line of a place that has no item any more."""
    kept = ("run", "key", "step", "index", "v", "box", "project", "seq")
    return {**{name: line[name] for name in kept}, "state": "gone", "time": None}


def mixed(box: str, run: str, seq: int) -> dict[str, Any]:
    """A line of any state: one in twenty is held, rejected, without a place, pruned or gone."""
    line = item(box, run, seq)
    kind = seq % 100
    if kind == 11:
        return without_image(line, "held", reason="over the limit of 108 items of a step")
    if kind == 31:
        return without_image(
            line, "rejected", reason="npy data truncated: got 3 bytes, want 4", **{"class": "waiting"}
        )
    if kind == 51:
        nowhere = {"key": None, "step": None, "index": None, "time": None}
        return without_image(line, "rejected", reason="not JSON", **{"class": "final"}, **nowhere)
    if kind == 71:
        # A new version of an item, whose picture was removed before it could be delivered.
        line = {**item(box, run, max(0, seq - 8)), "seq": seq, "pruned": True}
        return {name: value for name, value in line.items() if name != "object"}
    if kind == 91:
        return gone({**item(box, run, max(0, seq - 4)), "seq": seq})
    return line


def content(lines: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def fill(root: str, n_boxes: int, n_runs: int, n_manifests: int, n_lines: int) -> int:
    """Fills a directory with manifests and their markers. Returns the number of lines."""
    for b in range(n_boxes):
        for r in range(n_runs):
            box, run = f"gpu-{b:04}", f"exp/{r}"
            place = f"{folder_of(box)}/{folder_of(run)}"
            for below in ("runs", "inbox"):
                os.makedirs(os.path.join(root, below, place), exist_ok=True)
            for m in range(n_manifests):
                lines = [mixed(box, run, m * n_lines + i) for i in range(n_lines)]
                with open(os.path.join(root, "runs", place, f"{m + 1:08}.jsonl"), "wb") as file:
                    file.write(content(lines))
                open(os.path.join(root, "inbox", place, f"{m + 1:08}"), "wb").close()
    return n_boxes * n_runs * n_manifests * n_lines


if __name__ == "__main__":
    start = time.monotonic()
    print(f"{fill(sys.argv[1], *map(int, sys.argv[2:6]))} lines, {time.monotonic() - start:.1f} s")
