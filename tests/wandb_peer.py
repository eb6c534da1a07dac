"""Compares Safelight's pictures with those of the real wandb.Image.

    python wandb_peer.py make RUN_DIR                     random arrays, and a log line for each
    python wandb_peer.py compare RUN_DIR STORE ITEMS_JSON  every picture against wandb's of the same array

The profile is that of the installed wandb: wandb-0.20 for 0.20.1 to 0.28, wandb-0.29 from 0.29 on.
"""

import json
import os
import sys
import warnings
from pathlib import Path

os.environ.update(WANDB_MODE="disabled", WANDB_SILENT="true")
warnings.simplefilter("ignore")

import numpy as np
import wandb
from PIL import Image

VERSION = tuple(int(part) for part in wandb.__version__.split(".")[:2])
PROFILE = "wandb-0.29" if VERSION >= (0, 29) else "wandb-0.20"
DTYPES = "? u1 u2 u4 u8 i1 i2 i4 i8 f2 f4 f8 >u2 >i4 >f4 >f8 c8".split()
SHAPES = [(7, 5), (6, 7, 3), (5, 6, 4), (1, 6, 3), (6, 1, 4), (1, 5, 7), (9, 8, 1), (3, 5, 4), (6, 5, 2)]


def values(random, dtype, shape):
    """An array whose values fall into one of the ranges that the library tells apart."""
    kind = np.dtype(dtype).kind
    low, high = [(0, 1), (-1, 1), (0, 255), (-300, 300), (0, 70000), (0.2, 1.0001)][random.integers(6)]
    if kind == "b":
        return random.random(shape) < 0.5
    if kind in "ui":
        info = np.iinfo(dtype)
        low, high = max(int(low), int(info.min)), min(int(high), int(info.max))
        return random.integers(low, high, size=shape, endpoint=True, dtype=np.int64).astype(dtype)
    array = random.uniform(low, high, size=shape).astype(dtype)
    if kind == "f" and random.random() < 0.15:
        array.flat[random.integers(array.size)] = random.choice([np.nan, np.inf, -np.inf])
    return array


def make(run):
    random = np.random.default_rng(20260727)
    (run / "tensors").mkdir(parents=True)
    with open(run / "peer.media.jsonl", "w", encoding="utf-8") as log:
        for number in range(600):
            dtype, shape = random.choice(DTYPES), SHAPES[random.integers(len(SHAPES))]
            array = values(random, dtype, shape)
            if random.random() < 0.3:
                array = np.asfortranarray(array)
            data = f"tensors/{number}.npy"
            np.save(run / data, array)
            line = {"key": "peer", "step": number, "data": data, "profile": PROFILE}
            mode = random.choice(["", "", "", "L", "LA", "RGB", "RGBA", "I;16"])
            if mode:
                line["mode"] = str(mode)
            log.write(json.dumps(line) + "\n")


def compare(run, store, items):
    made = {item["data"]: item for item in json.loads(items.read_text())}
    n_equal, n_refused, wrong = 0, 0, []
    for line in (run / "peer.media.jsonl").read_text().splitlines():
        line = json.loads(line)
        item = made.get(line["data"])
        try:
            image = wandb.Image(np.load(run / line["data"]), mode=line.get("mode"))
        except Exception:
            # What the library refuses may be a picture here, or not: nothing to compare.
            n_refused += 1
            continue
        want = Image.open(image._path)
        if item is None or item["path"] is None:
            wrong.append((line, item and item["reason"]))
            continue
        got = Image.open(store / item["path"])
        if (got.mode, got.size) != (want.mode, want.size) or got.tobytes() != want.tobytes():
            wrong.append((line, f"got {got}, want {want}"))
        else:
            n_equal += 1
    for line, why in wrong[:10]:
        print(line, why)
    print(f"wandb {wandb.__version__}: {n_equal} equal, {len(wrong)} differ, {n_refused} refused by it")
    sys.exit(bool(wrong) or n_equal < 300)


if __name__ == "__main__":
    command, *paths = sys.argv[1:]
    {"make": make, "compare": compare}[command](*map(Path, paths))
