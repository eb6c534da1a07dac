"""Compares Safelight's pictures with those of the real wandb.Image.

    python wandb_peer.py make RUN_DIR                       writes random arrays, and a log line for each
    python wandb_peer.py compare SAFELIGHT RUN_DIR STORE    compares each picture, and the logged JSON of
                                                            every fifth, with those that wandb makes of
                                                            the same array

The profile depends on the installed wandb: wandb-0.20 for 0.20.1 to 0.28, wandb-0.29 from 0.29 on.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true", WANDB_DIR=tempfile.mkdtemp())
warnings.simplefilter("ignore")

import numpy as np
import wandb
from PIL import Image

VERSION = tuple(int(part) for part in wandb.__version__.split(".")[:2])
PROFILE = "wandb-0.29" if VERSION >= (0, 29) else "wandb-0.20"
DTYPES = "? u1 u2 u4 u8 i1 i2 i4 i8 f2 f4 f8 >u2 >i4 >f4 >f8 c8".split()
SHAPES = [(7, 5), (6, 7, 3), (5, 6, 4), (1, 6, 3), (6, 1, 4), (1, 5, 7), (9, 8, 1), (3, 5, 4), (6, 5, 2)]


def values(random, dtype, shape):
    """A random array with values in one of the ranges that the library distinguishes."""
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


def described(random, run, number, shape):
    """Caption, grouping, classes, boxes and masks for every fifth picture."""
    line = {"caption": f"number {number}", "grouping": int(random.integers(3))}
    labels = {str(i): f"class {i}" for i in range(int(random.integers(1, 4)))}
    ids = [int(i) for i in random.integers(0, len(labels), size=3)]
    boxes = [
        {"position": {"minX": 0.1, "maxX": 0.5, "minY": float(random.random()), "maxY": 1}, "class_id": ids[0]},
        {"position": {"middle": [2, 3], "width": 2, "height": 1}, "domain": "pixel", "class_id": ids[1],
         "box_caption": "é", "scores": {"conf": 0.5, "n": 3}},
    ]
    line["boxes"] = {"pred": {"box_data": boxes}, "all": {"box_data": [], "class_labels": labels}}
    if random.random() < 0.5:
        line["boxes"]["pred"]["class_labels"] = labels
    mask = random.integers(0, 4, size=shape[:2]).astype(random.choice(["u1", "i8", "f4", "?"]))
    np.save(run / f"tensors/{number}.mask.npy", mask)
    line["masks"] = {"gt": {"mask_data": f"tensors/{number}.mask.npy"}}
    if random.random() < 0.5:
        line["masks"]["gt"]["class_labels"] = {"0": "road", "3": "sky"}
    if random.random() < 0.5:
        line["classes"] = [{"id": 0, "name": "first"}, {"id": 9, "name": "ninth"}]
    return line


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
            mode = random.choice(["", "", "", "L", "LA", "RGB", "RGBA", "I;16", "1"])
            if mode:
                line["mode"] = str(mode)
            if random.random() < 0.1:
                line["file_type"] = "bmp"
            if number % 5 == 0:
                line.update(described(random, run, number, shape))
            log.write(json.dumps(line) + "\n")


def options_of(run, line):
    """The arguments of wandb.Image for a log line."""
    options = {name: line[name] for name in ("mode", "caption", "grouping", "classes", "file_type") if name in line}
    numbered = lambda labels: {int(i): name for i, name in labels.items()}
    sets = {"boxes": line.get("boxes", {}), "masks": line.get("masks", {})}
    sets = json.loads(json.dumps(sets))
    for one in [*sets["boxes"].values(), *sets["masks"].values()]:
        if "class_labels" in one:
            one["class_labels"] = numbered(one["class_labels"])
        if "mask_data" in one:
            one["mask_data"] = np.load(run / one["mask_data"])
    return {**options, **{name: value for name, value in sets.items() if value}}


def without_digests(value):
    if isinstance(value, dict):
        return {k: without_digests(v) for k, v in sorted(value.items()) if k not in ("sha256", "size")}
    if isinstance(value, str):
        return re.sub(r"_[0-9]+_[0-9a-f]{20}\.", "_STEP_DIGEST.", value)
    return value


def same_pixels(got, want):
    with Image.open(got) as got, Image.open(want) as want:
        if (got.mode, got.size) != (want.mode, want.size):
            # Safelight's BMP files keep alpha, and store black and white with 8 bits.
            colors = [image.convert("RGB").tobytes() for image in (got, want)]
            return got.size == want.size and got.format == "BMP" and colors[0] == colors[1]
        return got.tobytes() == want.tobytes()


def compare(safelight, run, store):
    def ask(*args):
        ran = subprocess.run([safelight, *map(str, args), "--json", "--store", store], capture_output=True, text=True, check=True)
        return [json.loads(line) for line in ran.stdout.splitlines()]

    made = {item["source"]["path"]: item for item in ask("ls")}
    offline = wandb.init(project="peer")
    n_equal, n_json, n_refused, wrong = 0, 0, 0, []
    for line in (run / "peer.media.jsonl").read_text().splitlines():
        line = json.loads(line)
        item = made.get(line["data"])
        try:
            image = wandb.Image(np.load(run / line["data"]), **options_of(run, line))
        except Exception:
            # If the library refuses the array, there is nothing to compare.
            n_refused += 1
            continue
        if item is None or item["path"] is None:
            wrong.append((line, item and item["reason"]))
        elif not same_pixels(store / item["path"], image._path):
            wrong.append((line, "pixels"))
        elif "boxes" in line:
            image.bind_to_run(offline, line["key"], line["step"])
            (got,), want = ask("show", item["run"], "peer", line["step"], 0, "--as", "logged"), image.to_json(offline)
            files = Path(offline.dir)
            problems = [
                without_digests(got) != without_digests(json.loads(json.dumps(want))),
                not same_pixels(store / item["masks"]["gt"]["path"], files / want["masks"]["gt"]["path"]),
                *(
                    json.loads((store / item["boxes"][name]["path"]).read_text())
                    != json.loads((files / want["boxes"][name]["path"]).read_text())
                    for name in want["boxes"]
                ),
            ]
            if any(problems):
                wrong.append((line, problems, got, want))
            n_json += 1
            n_equal += not any(problems)
        else:
            n_equal += 1
    for problem in wrong[:10]:
        print(*problem)
    print(f"wandb {wandb.__version__}: {n_equal} equal ({n_json} with their JSON), {len(wrong)} differ, {n_refused} refused by it")
    sys.stdout.flush()
    offline.finish()
    sys.exit(int(bool(wrong) or n_equal < 300 or n_json < 40))


if __name__ == "__main__":
    command, *paths = sys.argv[1:]
    {"make": make, "compare": compare}[command](*map(Path, paths))
