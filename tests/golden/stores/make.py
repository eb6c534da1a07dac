"""Writes a small run directory, lets a build of Safelight make a store of it, and packs both.

    make.py PROGRAM OUT.tar.xz [annotated]

The run has only inputs that the first versions could read: npy dumps, media logs, sidecars. With `annotated` it also
has a picture that is stored unchanged, boxes, masks, a range and a colormap. The stores of cce2186 and later commits
have these. Needs only Python.
"""

import json
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

# The store records the path of its run directory, so the path is the same on every machine.
FOLDER = Path("/tmp/safelight-golden-store")


def npy(shape, pixels, descr="|u1"):
    header = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }" % (descr, tuple(shape))
    header += " " * ((64 - (10 + len(header) + 1) % 64) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(pixels)


def gray(n):
    return npy((4, 4), struct.pack("<Q", n) + b"\xff" * 8)


def png(width, height, pixels):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + bytes(pixels[y * width:(y + 1) * width]) for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def write(path, content):
    path = FOLDER / "run" / path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def log(name, lines):
    with open(FOLDER / "run" / name, "a") as file:
        for line in lines:
            file.write((line if isinstance(line, str) else json.dumps(line)) + "\n")


def begin():
    write("safelight.json", json.dumps({"id": "exp/7", "project": "golden", "tags": ["a"]}).encode())
    for n in range(6):
        write(f"tensors/{n}.npy", gray(n))
        log("a.media.jsonl", [{"key": "val/pred", "step": n // 2, "data": f"tensors/{n}.npy", "caption": f"n {n}"}])
        write(f"dumps/alone/{n:06}.npy", gray(100 + n))
    write("tensors/float.npy", npy((2, 3), struct.pack("<6f", 0, 0.25, 0.5, 0.75, 1, float("nan")), "<f4"))
    log("b.media.jsonl", [{"key": "float", "step": 1, "data": "tensors/float.npy", "lr": 0.1}])
    # A batch with held images, a line that is no JSON, a line without its dump, the end of a step.
    write("tensors/batch.npy", npy((112, 2, 2), bytes(range(112)) * 4))
    log("b.media.jsonl", [
        {"key": "batch", "step": 3, "data": "tensors/batch.npy", "format": "NHW"},
        "rubbish",
        {"key": "missing", "step": 1, "data": "tensors/none.npy"},
        {"commit": 3},
    ])
    write("dumps/odd/000001.npy", b"this is no npy file")
    write("dumps/sheet/000002.npy.json", b'{"format": "NHW", "caption": ["a", "b", "c"]}')
    write("dumps/sheet/000002.npy", npy((3, 2, 2), range(12)))


def annotate():
    write("pictures/a.png", png(4, 3, range(12)))
    write("tensors/mask.npy", npy((4, 4), [0, 1] * 8))
    boxes = {"pred": {"box_data": [{"position": {"minX": 0, "maxX": 0.5, "minY": 0, "maxY": 0.5}, "class_id": 1}],
                      "class_labels": {"1": "car"}}}
    masks = {"gt": {"mask_data": "tensors/mask.npy", "class_labels": {"0": "road", "1": "car"}}}
    log("c.media.jsonl", [
        {"key": "picture", "step": 1, "data": "pictures/a.png", "grouping": 2},
        {"key": "annotated", "step": 1, "data": "tensors/0.npy", "boxes": boxes, "masks": masks, "epoch": 3},
        {"key": "drawn", "step": 1, "data": "tensors/float.npy", "range": [0, 1], "colormap": "viridis"},
    ])


def go_on():
    """Writes a new version of a dump, one more line, and the line that ends the run."""
    write("dumps/alone/000002.npy", gray(777))
    write("tensors/6.npy", gray(6))
    log("a.media.jsonl", [{"key": "val/pred", "step": 3, "data": "tensors/6.npy"}, {"finish": True}])


def main(program, out, *also):
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()

    def run(*args):
        done = subprocess.run([program, *args, "--store", FOLDER / "store"], stdout=subprocess.PIPE)
        assert done.returncode in (0, 3), (args, done.returncode)
        return done.stdout

    begin()
    if "annotated" in also:
        annotate()
    run("ingest", FOLDER / "run")
    go_on()
    run("ingest", FOLDER / "run")
    (FOLDER / "items.jsonl").write_bytes(run("ls", "--json"))
    subprocess.run(
        ["tar", "-C", FOLDER, "--owner=0", "--group=0", "--numeric-owner", "--sort=name", "-cJf",
         Path(out).absolute(), "run", "store", "items.jsonl"],
        check=True,
    )
    shutil.rmtree(FOLDER)


main(*sys.argv[1:])
