"""Reads Safelight's PNG files with Pillow, and with libpng through OpenCV.

    python png_peer.py make RUN_DIR                       writes random pictures, and a log line for each
    python png_peer.py compare SAFELIGHT RUN_DIR STORE    compares the pixels that both read with the pictures
"""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

CHANNELS = {"1": 1, "L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "I;16": 1}
SIDES = [(1, 1), (1, 40), (40, 1), (7, 9), (28, 28), (64, 64), (65, 63), (200, 300), (333, 601)]


def samples(random, shape, top):
    """Random whole numbers from 0 to `top` that resemble one of six kinds of picture."""
    h, w, c = shape
    y, x = np.mgrid[0:h, 0:w]
    smooth = (np.sin(x / 17) * np.cos(y / 23) / 2 + 0.5)[..., None] * np.linspace(0.6, 1, c)
    labels = random.integers(0, top, size=(int(random.integers(1, 300)), c), endpoint=True)
    match random.integers(6):
        case 0:
            return random.integers(0, top, size=shape, endpoint=True)
        case 1:
            return np.full(shape, random.integers(0, top, endpoint=True))
        case 2:
            return (smooth * top).astype(int)
        case 3:
            return np.clip(smooth * top + random.normal(scale=top / 100, size=shape), 0, top).astype(int)
        case 4:
            return labels[(smooth[..., 0] * 40).astype(int) % len(labels)]
        case _:
            return labels[random.integers(0, len(labels), size=(h, w))] * (random.random((h, w, 1)) < 0.1)


def make(run):
    random = np.random.default_rng(20261126)
    (run / "tensors").mkdir(parents=True)
    with open(run / "peer.media.jsonl", "w", encoding="utf-8") as log:
        number = 0
        for mode, n_channels in CHANNELS.items():
            for height, width in SIDES:
                for compression in ("fast", "small"):
                    for palette in (False, True):
                        array = samples(random, (height, width, n_channels), 65535 if mode == "I;16" else 255)
                        array = array.astype("u2" if mode == "I;16" else "u1")
                        if mode == "1":
                            array = (array > 127).astype("u1") * np.uint8(255)
                        data = f"tensors/{number}.npy"
                        np.save(run / data, array)
                        line = {"key": "peer", "step": number, "data": data, "mode": mode, "format": "HWC"}
                        line.update(compression=compression, palette=palette)
                        if mode == "I;16":
                            line["range"] = [0, 65535]
                        log.write(json.dumps(line) + "\n")
                        number += 1


def by_pillow(path, mode):
    with Image.open(path) as image:
        if image.mode == "P":
            image = image.convert(mode)
        array = np.asarray(image)
    if array.dtype == bool:
        array = array.astype("u1") * np.uint8(255)
    return array.reshape(*array.shape[:2], -1)


def by_opencv(path, mode):
    """The pixels as libpng reads them. OpenCV turns gray with alpha into four channels."""
    array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    array = array.reshape(*array.shape[:2], -1)
    if mode == "RGB" and array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    if mode in ("RGB", "RGBA", "LA") and array.shape[2] >= 3:
        array = array[..., [2, 1, 0, 3][: array.shape[2]]]
    if mode == "LA" and array.shape[2] == 4:
        array = array[..., [0, 3]]
    if mode == "RGBA" and array.shape[2] == 3:
        array = np.dstack([array, np.full(array.shape[:2], 255, "u1")])
    return array


def compare(safelight, run, store):
    asked = [safelight, "ls", "--json", "--store", store]
    ran = subprocess.run(asked, capture_output=True, text=True, check=True)
    made = {item["source"]["path"]: item for item in map(json.loads, ran.stdout.splitlines())}
    n_equal, n_indexed, wrong = 0, 0, []
    for line in (run / "peer.media.jsonl").read_text().splitlines():
        line = json.loads(line)
        item, want = made.get(line["data"]), np.load(run / line["data"])
        if item is None or item["path"] is None:
            wrong.append((line, item and item["reason"]))
            continue
        path = store / item["path"]
        # Byte 25 of a PNG file is its colour type. 3 means indexed.
        n_indexed += path.read_bytes()[25] == 3
        problems = [
            name
            for name, read in (("Pillow", by_pillow), ("OpenCV", by_opencv))
            if not np.array_equal(read(path, line["mode"]), want)
        ]
        if problems:
            wrong.append((line, want.shape, problems))
        n_equal += not problems
    for problem in wrong[:10]:
        print(*problem)
    print(f"Pillow {Image.__version__}, OpenCV {cv2.__version__}: {n_equal} equal ({n_indexed} indexed), {len(wrong)} differ")
    sys.exit(int(bool(wrong) or n_equal < 200 or n_indexed < 20))


if __name__ == "__main__":
    command, *paths = sys.argv[1:]
    {"make": make, "compare": compare}[command](*map(Path, paths))
